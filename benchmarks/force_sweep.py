"""5 N along 200 mm of flank over real ribs: `python benchmarks/force_sweep.py` gives a table and docs/force_sweep.png.

Patients as they are (skin and bone of their labels), breathing on, the sensor 20 ms late. The sweep goes down the flank
from the highest place that the scan holds, once along the face (60 mm of it lie on several ribs), once across it (14 mm
meet them one by one).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from matplotlib import pyplot as plt

from sonogym.anatomy.anatomy import Body
from sonogym.anatomy.breathing import Breathing
from sonogym.anatomy.library import resolve_patients
from sonogym.anatomy.planes import plane_pose
from sonogym.errors import UnknownNameError
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
UP, FRONT = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.0])
STEP, HIGHEST = 0.01, 20  # tries of a start, m apart along the body
SIDES = {"long": UP, "short": FRONT}  # of the face, along the sweep: the image plane's x at the start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", nargs="+", default=["procedural:test/0-5"])
    parser.add_argument("--plane", default="kidney_right_short")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "force_sweep.png")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for given in options.patients for name in resolve_patients(given)]
    renderer = Renderer(names, "C5-2v", RenderConfig(pitch=2e-3))
    simulator = bench(renderer)
    states = {side: swept(simulator, renderer, options.plane, side) for side in SIDES}
    report([name if ":" in name else Path(name).name for name in names], states, options.out)


def bench(renderer: Renderer, latency: float = 0.02) -> Simulator:
    """Contact, force control and breathing; no arm, no image. ``latency`` [s] is the longest of the sensor."""
    motion = SurfaceMotion(skin=renderer.skin, press=renderer.transducer.press)
    rig = Rig(
        safety=Safety(limits=load_limits("default")),
        contact=Contact(renderer.skin, renderer.bone, renderer.transducer),
        admittance=force_control(PERIOD, latency, 30.0),
        breathing=renderer.breathing,
    )
    return Simulator(renderer=renderer, motion=motion, control_period=PERIOD, rig=rig)


def swept(
    simulator: Simulator,
    renderer: Renderer,
    plane: str,
    side: str,
    control: Control | None = None,
    factors: ContactFactors | None = None,
) -> list[SimState]:
    """The states along the sweep, one environment a patient, or a patient of each of the (equally many) cases."""
    patients = len(renderer.bodies)
    envs = patients if control is None else len(control.set_point)
    index, one = torch.arange(envs) % patients, torch.ones(envs)
    middle = torch.stack([_middle(body, plane) for body in renderer.bodies])[index]
    start = _highest(simulator.motion, middle, SIDES[side], index)
    nominal = Control(set_point=SET_POINT * one, latency=0.02 * one, noise=0 * one, bias=0 * one)
    params = SimParams(
        anatomy_index=index,
        start=start,
        image=RenderParams.default(envs),
        contact=factors or ContactFactors(),
        control=control or nominal,
        breathing=Breathing(amplitude=one, period=4.0 * one, phase=0 * one),
    )
    states = [simulator.reset(params)]
    command = _downwards(start)
    for _ in range(round(SWEEP / SPEED / PERIOD)):
        states.append(simulator.step(states[-1], command))
    return states


def _middle(body: Body, plane: str) -> torch.Tensor:
    """Where the plane is seen from; the flank beside the middle of the spine of a scan that does not show it."""
    try:
        return plane_pose(body, plane).translation
    except UnknownNameError:
        spine = torch.stack([point.float() for name, point in body.landmarks.items() if name.startswith("vertebra_")])
        return body.skin.cast(spine.mean(0), torch.tensor([1.0, 0.0, 0.0]))


def _downwards(start: Pose) -> torch.Tensor:
    """Lateral and elevation speed down the body along the axis of the face that lies along it."""
    axes = [(start.apply(axis) - start.translation) @ UP for axis in torch.eye(3)[:2]]
    along = torch.stack(axes, dim=-1)
    along = torch.where(along.abs() == along.abs().amax(-1, keepdim=True), along.sign(), 0.0)
    return torch.cat((-SPEED * along, torch.zeros(len(along), 1)), dim=-1)


def _highest(motion: SurfaceMotion, middle: torch.Tensor, lateral: torch.Tensor, index: torch.Tensor) -> Pose:
    """Starts as far up the flank as the workspace goes."""
    start, _ = motion.place(middle, lateral.expand_as(middle), index, rounds=4)
    for tries in range(1, HIGHEST + 1):
        tried, inside = motion.place(middle + tries * STEP * UP, lateral.expand_as(middle), index, rounds=4)
        start = tried.where(inside, start)
    return start


def report(names: list[str], states: dict[str, list[SimState]], out: Path) -> None:
    """The table, and force, bone and slope against the way for each patient."""
    print("| patient | side along | way mm | steepest slope deg | bone mm | force N | within .5 N | rms error N |")
    print("|---|---|---|---|---|---|---|---|")
    figure, axes = plt.subplots(
        len(names), 2, figsize=(13, 1.7 * len(names)), sharex=True, squeeze=False, constrained_layout=True
    )
    for column, (side, seen) in enumerate(states.items()):
        force, bone = (torch.stack([getattr(s.touch, name) for s in seen]) for name in ("force", "bone_depth"))
        place = torch.stack([s.patient_from_probe.translation for s in seen])
        way = torch.cat((torch.zeros_like(force[:1]), place.diff(dim=0).norm(dim=-1).cumsum(0)))
        slopes = slope(place)
        held = torch.stack([s.held_back for s in seen]).any(0)
        for at, name in enumerate(names):
            error = force[:, at] - SET_POINT
            print(
                f"| {name}{' (border)' if held[at] else ''} | {side} | {1e3 * way[-1, at]:.0f} | {slopes[at]:.0f} | "
                f"{1e3 * bone[:, at].min():.0f}-{1e3 * bone[:, at].max():.0f} | {force[:, at].min():.2f}-"
                f"{force[:, at].max():.2f} | {(error.abs() <= BAND).float().mean():.3f} | "
                f"{error.square().mean().sqrt():.2f} |"
            )
            title = f"{name}, {side} side along the sweep"
            _draw(axes[at, column], 1e3 * way[:, at], force[:, at], 1e3 * bone[:, at], title)
        axes[-1, column].set_xlabel("way along the skin [mm]")
    figure.savefig(out, dpi=70)


def slope(place: torch.Tensor) -> torch.Tensor:
    """Steepest slope [degrees] against the body's axis over 20 mm of each sweep."""
    chord = place[20:] - place[:-20]
    return torch.rad2deg(torch.atan2(chord[..., :2].norm(dim=-1), chord[..., 2].abs())).amax(0)


def _draw(axis: plt.Axes, way: torch.Tensor, force: torch.Tensor, bone: torch.Tensor, title: str) -> None:
    axis.axhspan(SET_POINT - BAND, SET_POINT + BAND, color="0.88")
    axis.plot(way, force, color="tab:blue", lw=1)
    axis.set(ylim=(3.5, 6.5), ylabel="force [N]", title=title)
    other = axis.twinx()
    other.plot(way, bone, color="tab:red", lw=1)
    other.set(ylim=(90, 0), ylabel="bone [mm]")


if __name__ == "__main__":
    main()
