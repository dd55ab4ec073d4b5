"""The physics of a scan: a probe on the skin, the image it sees. It knows no task and no reward."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.errors import require_between
from sonogym.robot.surface_motion import SurfaceMotion
from sonogym.sim.state import SimParams, SimState
from sonogym.ultrasound.frame import Frame, FrameRenderer

_STEP_WORD = 1_640_531_527  # odd, so that the noise seeds of an episode's steps differ from one another
_SEED_MASK = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Simulator:
    """Probes on patients; ``control_period`` [s] is the time a step takes. States are never changed in place."""

    renderer: FrameRenderer
    motion: SurfaceMotion
    control_period: float

    def __post_init__(self) -> None:
        require_between("control_period", self.control_period, 1e-3, 1.0, "s", "a rate in Hz?")

    def reset(self, params: SimParams) -> SimState:
        """The first state of an episode a row of ``params``; :func:`~sonogym.sim.state.put` sets it among others."""
        count = torch.zeros_like(params.anatomy_index)
        return SimState(
            params=params,
            patient_from_probe=params.start,
            step_count=count,
            path=torch.zeros_like(params.image.gain),
            held_back=count > 0,
        )

    def step(self, state: SimState, command: Float[Tensor, "envs 3"]) -> SimState:
        """The state a control period later; ``command`` is lateral, elevation speed [m/s] and yaw rate [rad/s]."""
        pose, held_back = self.motion.step(state.patient_from_probe, state.anatomy_index, command, self.control_period)
        travelled = (pose.translation - state.patient_from_probe.translation).norm(dim=-1)
        return SimState(
            params=state.params,
            patient_from_probe=pose,
            step_count=state.step_count + 1,
            path=state.path + travelled,
            held_back=held_back,
        )

    def render(self, state: SimState) -> Frame:
        """The images seen now; the noise is a function of the episode's seed and the step."""
        image = state.params.image
        noise_seed = (image.noise_seed + state.step_count * _STEP_WORD) & _SEED_MASK
        seen = dataclasses.replace(image, noise_seed=noise_seed)
        return self.renderer.render(state.patient_from_probe, state.anatomy_index, seen)
