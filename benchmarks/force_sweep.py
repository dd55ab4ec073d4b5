"""5 N along 200 mm of flank over real ribs: `python benchmarks/force_sweep.py` gives a table and docs/force_sweep.png.

Procedural patients as they are (skin and bone of their labels), breathing on, the sensor 20 ms late; the image plane
lies along the sweep, which goes down the flank from the highest place that the scan holds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from matplotlib import pyplot as plt

from sonogym.anatomy.breathing import Breathing
from sonogym.anatomy.library import resolve_patients
from sonogym.anatomy.planes import plane_pose
from sonogym.geometry import Pose
from sonogym.robot.contact import Contact, ContactFactors
from sonogym.robot.surface_motion import SurfaceMotion
from sonogym.sim.force_control import Control
from sonogym.sim.limits import load_limits
from sonogym.sim.rig import Rig, force_control
from sonogym.sim.safety import Safety
from sonogym.sim.simulator import Simulator
from sonogym.sim.state import SimParams, SimState
from sonogym.ultrasound.frame import RenderConfig, RenderParams
from sonogym.ultrasound.renderer import Renderer

SWEEP, SPEED, PERIOD = 0.2, 0.010, 0.1  # m, m/s, s
SET_POINT, BAND = 5.0, 0.5  # N
UP, STEP, HIGHEST = torch.tensor([0.0, 0.0, 1.0]), 0.01, 20  # tries of a start, m apart along the body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", default="procedural:test/0-5")
    parser.add_argument("--plane", default="kidney_right_short")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "force_sweep.png")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = resolve_patients(options.patients)
    renderer = Renderer(names, "C5-2v", RenderConfig(pitch=2e-3))
    simulator = bench(renderer)
    states = swept(simulator, renderer, options.plane)
    report(names, states, options.out)


def bench(renderer: Renderer) -> Simulator:
    """Contact, force control and breathing; no arm, no image."""
    motion = SurfaceMotion(skin=renderer.skin, press=renderer.transducer.press)
    rig = Rig(
        safety=Safety(limits=load_limits("default")),
        contact=Contact(renderer.skin, renderer.bone, renderer.transducer),
        admittance=force_control(PERIOD, 0.02, 30.0),
        breathing=renderer.breathing,
    )
    return Simulator(renderer=renderer, motion=motion, control_period=PERIOD, rig=rig)


def swept(simulator: Simulator, renderer: Renderer, plane: str) -> list[SimState]:
    """The states along the sweep, one environment a patient."""
    patients = len(renderer.bodies)
    index, one = torch.arange(patients), torch.ones(patients)
    middle = torch.stack([plane_pose(body, plane).translation for body in renderer.bodies])
    params = SimParams(
        anatomy_index=index,
        start=_highest(simulator.motion, middle, index),
        image=RenderParams.default(patients),
        contact=ContactFactors(),
        control=Control(set_point=SET_POINT * one, latency=0.02 * one, noise=0 * one, bias=0 * one),
        breathing=Breathing(amplitude=one, period=4.0 * one, phase=0 * one),
    )
    states = [simulator.reset(params)]
    for _ in range(round(SWEEP / SPEED / PERIOD)):
        states.append(simulator.step(states[-1], torch.tensor([[-SPEED, 0.0, 0.0]]).expand(patients, 3)))
    return states


def _highest(motion: SurfaceMotion, middle: torch.Tensor, index: torch.Tensor) -> Pose:
    """Starts of the image plane along the body, as far up the flank as the workspace goes."""
    start, _ = motion.place(middle, UP.expand_as(middle), index, rounds=4)
    for tries in range(1, HIGHEST + 1):
        tried, inside = motion.place(middle + tries * STEP * UP, UP.expand_as(middle), index, rounds=4)
        start = tried.where(inside, start)
    return start


def report(names: list[str], states: list[SimState], out: Path) -> None:
    """The table, and force, bone and slope against the way for each patient."""
    force, bone = (torch.stack([getattr(s.touch, name) for s in states]) for name in ("force", "bone_depth"))
    place = torch.stack([s.patient_from_probe.translation for s in states])
    way = torch.cat((torch.zeros_like(force[:1]), place.diff(dim=0).norm(dim=-1).cumsum(0)))
    chord = place[20:] - place[:-20]  # over 20 mm
    slope = torch.rad2deg(torch.atan2(chord[..., :2].norm(dim=-1), chord[..., 2].abs()))
    held = torch.stack([s.held_back for s in states]).any(0)
    print("| patient | way mm | steepest slope deg | bone mm | force N | within .5 N | rms error N |")
    print("|---|---|---|---|---|---|---|")
    for at, name in enumerate(names):
        error = force[:, at] - SET_POINT
        print(
            f"| {name}{' (border)' if held[at] else ''} | {1e3 * way[-1, at]:.0f} | {slope[:, at].max():.0f} | "
            f"{1e3 * bone[:, at].min():.0f}-{1e3 * bone[:, at].max():.0f} | {force[:, at].min():.2f}-"
            f"{force[:, at].max():.2f} | {(error.abs() <= BAND).float().mean():.3f} | "
            f"{error.square().mean().sqrt():.2f} |"
        )
    figure, axes = plt.subplots(len(names), 1, figsize=(9, 1.7 * len(names)), sharex=True, constrained_layout=True)
    for at, (axis, name) in enumerate(zip(axes, names, strict=True)):
        axis.axhspan(SET_POINT - BAND, SET_POINT + BAND, color="0.88")
        axis.plot(1e3 * way[:, at], force[:, at], color="tab:blue", lw=1)
        axis.set(ylim=(3.5, 6.5), ylabel="force [N]", title=name)
        other = axis.twinx()
        other.plot(1e3 * way[:, at], 1e3 * bone[:, at], color="tab:red", lw=1)
        other.set(ylim=(90, 0), ylabel="bone [mm]")
    axes[-1].set_xlabel("way along the skin [mm]")
    figure.savefig(out, dpi=70)


if __name__ == "__main__":
    main()
