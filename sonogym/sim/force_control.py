"""Force control of a step: admittance runs faster than the rest of the simulation, on the tissue felt last."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.robot.admittance import Admittance, AdmittanceState
from sonogym.robot.contact import ContactReading

_TOUCHED = 1e-3  # N: with a smaller F0 the face hangs in the air
_EXPECTED = (1.0, 6e-3)  # N, m: F0 and d0 of the tissue expected there (contact_force's reference face, 45 mm of it)


@dataclass(frozen=True, kw_only=True)
class Control:
    """What force control is asked for in an episode. (envs,) each: ``set_point`` [N], ``latency`` [s] of the sensor,
    whose reading has ``noise`` [N, standard deviation] and ``bias`` [N].
    """

    set_point: Float[Tensor, " envs"]
    latency: Float[Tensor, " envs"]
    noise: Float[Tensor, " envs"]
    bias: Float[Tensor, " envs"]


def deeper_for(touch: ContactReading, force: Float[Tensor, " envs"]) -> Float[Tensor, " envs"]:
    """How much deeper [m] a face in contact must go for ``force`` [N]: d0 ln((F + F0) / (F_touch + F0))."""
    scale, depth = _law(touch)
    return depth * torch.log((force + scale) / (touch.force + scale))


def regulate(
    admittance: Admittance,
    state: AdmittanceState,
    touch: ContactReading,
    drift: Float[Tensor, " envs"] | None,
    error: Float[Tensor, "envs samples"],
) -> AdmittanceState:
    """The controller's state after as many of its periods as ``error`` [N] has samples, which the sensor adds.

    Within them the tissue is that of ``touch``, F = (F_touch + F0) exp(d / d0) - F0 with d [m] what the face has gone
    deeper since, by its own travel and by ``drift`` [m], how much the skin rises against it meanwhile. The controller
    takes the tissue's stiffness for (F + F0) / d0: F0 and d0 are known to it from the patient's scan (design).
    """
    begin = state.travel
    scale, depth = _law(touch)
    felt = touch.force + touch.force_scale
    samples = error.shape[1]
    for sample in range(samples):
        deeper = state.travel - begin
        if drift is not None:
            deeper = deeper + drift * (sample / samples)
        force = (felt * torch.exp(deeper / depth) - touch.force_scale).clamp_min(0.0)
        state = admittance.step(state, force + error[:, sample], (force + scale) / depth)
    return state


def _law(touch: ContactReading) -> tuple[Float[Tensor, " envs"], Float[Tensor, " envs"]]:
    """F0 [N] and d0 [m] of the tissue felt, or expected where there is none."""
    air = touch.force_scale < _TOUCHED
    return torch.where(air, _EXPECTED[0], touch.force_scale), torch.where(air, _EXPECTED[1], touch.depth_scale)
