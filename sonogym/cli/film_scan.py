"""The scan that ``sonogym film`` shows: land, sweep at a constant speed and force, rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch

from sonogym.anatomy.breathing import Breathing
from sonogym.cli.stage import Stage
from sonogym.robot.contact import Contact
from sonogym.sim.force_control import Control
from sonogym.sim.limits import load_limits
from sonogym.sim.rig import Rig, Stand, force_control
from sonogym.sim.safety import Safety
from sonogym.sim.simulator import Simulator
from sonogym.sim.state import SimParams, SimState
from sonogym.ultrasound.frame import RenderParams

RATE = 20.0  # Hz of the control (design)
_LATENCY, _NOISE = 0.02, 0.05  # s, N: of the force sensor (design)
_LIGHT = 0.5  # N: with which the probe is put down (design)
_LANDING = 1.0  # s before the sweep, and of rest after it (design)
_BREATH = (1.0, 4.0, 0.5)  # full quiet breaths, s a breath, where it begins (design)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scan:
    """``length`` [m] of skin in ``seconds``, landing and rest included, at ``force`` [N]."""

    length: float
    force: float
    seconds: float
    breathing: bool
    seed: int


def scan_simulator(stage: Stage, scan: Scan) -> Simulator:
    """Arm, tissue and force control around the stage."""
    renderer, limits = stage.renderer, load_limits("default")
    rig = Rig(
        stand=Stand(robot=stage.robot, base_from_patient=stage.base_from_patient),
        contact=Contact(renderer.skin, renderer.bone, renderer.transducer),
        admittance=force_control(1.0 / RATE, _LATENCY, limits.force_stop),
        safety=Safety(limits=limits, chain=stage.robot.arm.chain),
        breathing=renderer.breathing if scan.breathing else None,
    )
    return Simulator(renderer=renderer, motion=stage.motion, control_period=1.0 / RATE, rig=rig)


def scan_states(simulator: Simulator, stage: Stage, scan: Scan) -> Iterator[SimState]:
    """The states of a scan, ``RATE`` a second."""
    state = simulator.reset(_params(stage, scan))
    speed = scan.length / (scan.seconds - 2.0 * _LANDING)
    for step in range(round(scan.seconds * RATE)):
        yield state
        time = step / RATE
        if time >= 0.3 * _LANDING and state.press is not None:
            pressed = dataclasses.replace(state.press, set_point=torch.tensor([scan.force]))
            state = dataclasses.replace(state, press=pressed)
        moving = _LANDING <= time < scan.seconds - _LANDING
        state = simulator.step(state, torch.tensor([[0.0, speed if moving else 0.0, 0.0]]))


def _params(stage: Stage, scan: Scan) -> SimParams:
    amplitude, period, phase = torch.tensor(_BREATH).unsqueeze(1)
    word, one = torch.tensor([scan.seed]), torch.ones(1)
    control = Control(set_point=_LIGHT * one, latency=_LATENCY * one, noise=_NOISE * one, bias=0.0 * one)
    return SimParams(
        anatomy_index=stage.index,
        start=stage.patient_from_probe,
        image=dataclasses.replace(RenderParams.default(1), speckle_seed=word, noise_seed=word),
        control=control,
        breathing=Breathing(amplitude=amplitude, period=period, phase=phase) if scan.breathing else None,
    )
