"""The physics of a scan: a probe on the skin, the image it sees. It knows no task and no reward."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.errors import InvalidInputError, require_between
from sonogym.robot.surface_motion import SurfaceMotion
from sonogym.sim.contact_loop import ContactLoop
from sonogym.sim.probe_motion import MODES, Moved
from sonogym.sim.state import SimParams, SimState
from sonogym.ultrasound.frame import Frame, FrameRenderer

_STEP_WORD = 1_640_531_527  # odd, so that the noise seeds of an episode's steps differ from one another
_SEED_MASK = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Simulator:
    """Probes on patients; ``control_period`` [s] is the time a step takes. States are never changed in place.

    Without a ``loop`` the probe goes where its command says, pressed in by a constant depth. ``mode`` is one of
    :data:`~sonogym.sim.probe_motion.MODES`; ``command_latency`` [s] the longest a command may take.
    """

    renderer: FrameRenderer
    motion: SurfaceMotion
    control_period: float
    mode: str = "surface"
    command_latency: float = 0.0
    loop: ContactLoop | None = None

    def __post_init__(self) -> None:
        require_between("control_period", self.control_period, 1e-3, 1.0, "s", "a rate in Hz?")
        require_between("command_latency", self.command_latency, 0.0, 2.0, "s", "milliseconds?")

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
        return state if self.loop is None else self.loop.start(state)

    def step(self, state: SimState, command: Float[Tensor, "envs axes"]) -> SimState:
        """The state a control period later; ``command`` holds the speeds [m/s, rad/s] of the mode's axes."""
        command, queue = self._late(state, command)
        moved = self._move(state, command)
        travelled = (moved.pose.translation - state.patient_from_probe.translation).norm(dim=-1)
        after = SimState(
            params=state.params,
            patient_from_probe=moved.pose,
            step_count=state.step_count + 1,
            path=state.path + travelled,
            held_back=moved.held_back,
            queue=queue,
        )
        return after if self.loop is None else self.loop.step(state, after, moved, self.control_period)

    def render(self, state: SimState) -> Frame:
        """The images seen now; the noise is a function of the episode's seed and the step."""
        image = state.params.image
        noise_seed = (image.noise_seed + state.step_count * _STEP_WORD) & _SEED_MASK
        seen = dataclasses.replace(image, noise_seed=noise_seed)
        return self.renderer.render(state.patient_from_probe, state.anatomy_index, seen)

    def _move(self, state: SimState, command: Tensor) -> Moved:
        """Where the command takes the probe at the press that it has."""
        press = self.motion.press if state.press is None else (self.motion.press + state.press.travel)[:, None]
        pose = state.patient_from_probe if state.wanted is None else state.wanted
        return MODES[self.mode].move(self.motion, pose, state.anatomy_index, command, self.control_period, press)
