"""The physics of a scan: a probe on the skin, the image it sees. It knows no task and no reward."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.anatomy.breathing import displacement
from sonogym.anatomy.stack import VolumeStack
from sonogym.errors import InvalidInputError, require_between, unknown_name
from sonogym.geometry import Pose
from sonogym.robot.contact import ContactFactors
from sonogym.robot.surface_motion import SurfaceMotion
from sonogym.sim.probe_motion import MODES, Moved
from sonogym.sim.rig import Rig
from sonogym.sim.state import SimParams, SimState
from sonogym.ultrasound.frame import Frame, FrameRenderer

_STEP_WORD = 1_640_531_527  # odd, so that the noise seeds of an episode's steps differ from one another
_SEED_MASK = 2**31 - 1


@runtime_checkable
class Breather(Protocol):
    """A renderer that knows how its patients breathe: the fields of :mod:`sonogym.anatomy.breathing`."""

    @property
    def breathing(self) -> VolumeStack:
        """Displacement of a full breath of each patient."""
        ...


@dataclass(frozen=True, kw_only=True)
class Simulator:
    """Probes on patients; ``control_period`` [s] is the time a step takes. States are never changed in place.

    Without a ``rig`` the probe goes where its command says, pressed in by a constant depth, and rides on a skin that
    breathes. ``mode`` is one of :data:`~sonogym.sim.probe_motion.MODES`; ``command_latency`` [s] the longest a command
    may take.
    """

    renderer: FrameRenderer
    motion: SurfaceMotion
    control_period: float
    mode: str = "surface"
    command_latency: float = 0.0
    rig: Rig | None = None

    def __post_init__(self) -> None:
        require_between("control_period", self.control_period, 1e-3, 1.0, "s", "a rate in Hz?")
        require_between("command_latency", self.command_latency, 0.0, 2.0, "s", "milliseconds?")
        if self.mode not in MODES:
            raise unknown_name("action mode", self.mode, MODES)

    def reset(self, params: SimParams) -> SimState:
        """The first state of an episode a row of ``params``; :func:`~sonogym.sim.state.put` sets it among others."""
        count = torch.zeros_like(params.anatomy_index)
        state = SimState(
            params=params,
            patient_from_probe=params.start,
            step_count=count,
            path=torch.zeros_like(params.image.gain),
            held_back=count > 0,
            queue=self._empty_queue(params),
        )
        if self.rig is not None:
            return self.rig.start(state, self.breath(state))
        return self._ride(state)

    def step(self, state: SimState, command: Float[Tensor, "envs axes"]) -> SimState:
        """The state a control period later; ``command`` holds the speeds [m/s, rad/s] of the mode's axes."""
        command, queue = self._late(state, command)
        moved = self._move(state, command)
        if self.rig is not None:
            after = dataclasses.replace(state, step_count=state.step_count + 1, queue=queue)
            before, now = self.breath(state), self.breath(after)
            breath = None if before is None or now is None else (before, now)
            return self.rig.step(state, after, moved, self.control_period, breath)
        travelled = (moved.pose.translation - state.patient_from_probe.translation).norm(dim=-1)
        after = SimState(
            params=state.params,
            patient_from_probe=moved.pose,
            step_count=state.step_count + 1,
            path=state.path + travelled,
            held_back=moved.held_back,
            queue=queue,
        )
        return self._ride(after)

    def render(self, state: SimState) -> Frame:
        """The images seen now; the noise is a function of the episode's seed and the step."""
        image = state.params.image
        noise_seed = (image.noise_seed + state.step_count * _STEP_WORD) & _SEED_MASK
        contact = state.params.contact or ContactFactors()
        seen = dataclasses.replace(
            image, noise_seed=noise_seed, breathing=self.breath(state), gel=contact.gel, stiffness=contact.stiffness
        )
        return self.renderer.render(state.patient_from_probe, state.anatomy_index, seen)

    def breath(self, state: SimState) -> Float[Tensor, " envs"] | None:
        """How far each patient has breathed in, in full quiet breaths; None where nobody breathes."""
        breathing = state.params.breathing
        return None if breathing is None else breathing.at(self.control_period * state.step_count)

    def _move(self, state: SimState, command: Tensor) -> Moved:
        """Where the command takes the probe at the press that it has, beside the patient at rest."""
        press = self.motion.press if state.press is None else (self.motion.press + state.press.travel)[:, None]
        pose = state.patient_from_probe if state.wanted is None else state.wanted
        return MODES[self.mode].move(self.motion, pose, state.anatomy_index, command, self.control_period, press)

    def carry(self, state: SimState, at_rest: Pose) -> Pose:
        """Poses (envs,) beside the patient at rest, carried along by the tissue there."""
        breath = self.breath(state)
        if breath is None:
            return at_rest
        if not isinstance(self.renderer, Breather):
            raise InvalidInputError(f"{type(self.renderer).__name__} knows no breath: leave breathing off")
        shift = displacement(self.renderer.breathing, at_rest.translation, state.anatomy_index)
        return Pose(at_rest.quaternion, at_rest.translation + breath[:, None] * shift)

    def _ride(self, state: SimState) -> SimState:
        """The probe carried along by the skin it stands on."""
        if state.params.breathing is None:
            return state
        at_rest = state.patient_from_probe
        return dataclasses.replace(state, patient_from_probe=self.carry(state, at_rest), wanted=at_rest)

    def _empty_queue(self, params: SimParams) -> Tensor | None:
        if not self.command_latency or params.command_latency is None:
            return None
        commands = math.ceil(self.command_latency / self.control_period) + 1
        return torch.zeros(len(params.anatomy_index), commands, len(MODES[self.mode].axes))

    def _late(self, state: SimState, command: Tensor) -> tuple[Tensor, Tensor | None]:
        """The command given ``command_latency`` ago (linear between two), and the commands to remember."""
        if state.queue is None or state.params.command_latency is None:
            return command, None
        queue = torch.cat((command[:, None], state.queue[:, :-1]), dim=1)
        steps = state.params.command_latency / self.control_period
        newer = steps.floor().long().clamp(0, queue.shape[1] - 2)
        row = torch.arange(len(newer))
        return torch.lerp(queue[row, newer], queue[row, newer + 1], (steps - newer)[:, None]), queue
