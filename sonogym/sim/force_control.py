"""Force control of a step: admittance runs faster than the rest of the simulation, on the tissue felt last."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.robot import kernel_control
from sonogym.robot.admittance import Admittance, AdmittanceState
from sonogym.robot.contact import ContactReading
from sonogym.robot.contact_force import DAMPING, LOSS, LOSS_SPEED, rate_factor

RESISTANCE = LOSS / LOSS_SPEED + DAMPING  # s/m: dF/dv over F of contact_force at rest
_LEAST_RATE = 0.2  # of a force felt while withdrawing, below which it tells little of the force at rest
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


@dataclass(frozen=True, kw_only=True)
class Felt:
    """The tissue under a face that went ``deeper`` [m] than where it was felt: F = (force + scale) e^(deeper/depth) -
    scale at rest, ``loss`` more or less of it while it moves (contact_force).
    """

    force: Float[Tensor, " envs"]
    scale: Float[Tensor, " envs"]
    depth: Float[Tensor, " envs"]
    loss: Float[Tensor, " envs"] | None

    def at(self, deeper: Float[Tensor, " envs"], speed: Float[Tensor, " envs"]) -> Float[Tensor, " envs"]:
        """Force [N] when moving into the tissue with ``speed`` [m/s]."""
        rest = ((self.force + self.scale) * torch.exp(deeper / self.depth) - self.scale).clamp_min(0.0)
        return rest * rate_factor(speed, self.loss, rest)


def felt(touch: ContactReading, sink: Float[Tensor, " envs"] | None, loss: Float[Tensor, " envs"] | None) -> Felt:
    """The tissue that ``touch`` met while the face sank in with ``sink`` [m/s]; expected tissue for a face in the air.

    ``scale`` stays that of the reading, so that no force comes before the skin does.
    """
    air = touch.force_scale < _TOUCHED
    rate = rate_factor(sink, loss, touch.force).clamp_min(_LEAST_RATE)
    depth = torch.where(air, _EXPECTED[1], touch.depth_scale)
    return Felt(force=touch.force / rate, scale=touch.force_scale, depth=depth, loss=loss)


def deeper_for(touch: ContactReading, force: Float[Tensor, " envs"]) -> Float[Tensor, " envs"]:
    """How much deeper [m] a face must go for ``force`` [N] at rest: d0 ln((F + F0) / (F_touch + F0)).

    In the air: to the skin, and on into the tissue expected there.
    """
    air = touch.force_scale < _TOUCHED
    scale, depth = (
        torch.where(air, e, v) for e, v in zip(_EXPECTED, (touch.force_scale, touch.depth_scale), strict=True)
    )
    return depth * torch.log((force + scale) / (touch.force + scale)) - touch.indentation.clamp_max(0.0)


def regulate(
    admittance: Admittance,
    state: AdmittanceState,
    tissue: Felt,
    rise: Float[Tensor, " envs"] | None,
    error: Float[Tensor, "envs samples"],
) -> AdmittanceState:
    """The controller's state after as many of its periods as ``error`` [N] has samples, which the sensor adds.

    Compiled where no gradient is asked for and the controller is that of scans: :func:`regulate_reference` to rounding.
    """
    quick = None not in (admittance.bandwidth, admittance.reset_time, admittance.approach)
    given = (tissue.force, tissue.scale, tissue.depth, tissue.loss, rise, error, *vars(state).values())
    if not quick or any(x is not None and (x.requires_grad or x.device.type != "cpu") for x in given):
        return regulate_reference(admittance, state, tissue, rise, error)
    return _fused(admittance, state, tissue, rise, error)


def _fused(
    admittance: Admittance, state: AdmittanceState, tissue: Felt, rise: Tensor | None, error: Tensor
) -> AdmittanceState:
    law = admittance
    known = np.empty((len(error), 5))
    columns = (tissue.force, tissue.scale, tissue.depth, LOSS if tissue.loss is None else tissue.loss, _scale(tissue))
    for column, value in enumerate(columns):
        known[:, column] = value
    moved = {name: getattr(state, name).clone() for name in ("travel", "speed", "readings", "surplus", "stop")}
    kernel_control.regulate(
        (law.period, law.bandwidth, law.mass / law.damping, law.reset_time, law.approach, law.force_limit,
         law.speed_limit, law.travel_limit, RESISTANCE),
        known,
        np.zeros(len(error)) if rise is None else rise.double().numpy(),
        *(value.contiguous().numpy() for value in (error, state.set_point, state.latency, *moved.values())),
    )  # fmt: skip
    return dataclasses.replace(state, **moved)


def _scale(tissue: Felt) -> Float[Tensor, " envs"]:
    """F0 that the controller expects."""
    return torch.where(tissue.scale < _TOUCHED, _EXPECTED[0], tissue.scale)


def regulate_reference(
    admittance: Admittance,
    state: AdmittanceState,
    tissue: Felt,
    rise: Float[Tensor, " envs"] | None,
    error: Float[Tensor, "envs samples"],
) -> AdmittanceState:
    """:func:`regulate`, defined.

    ``rise`` [m/s] is how fast the skin comes up against the face meanwhile. The controller takes the tissue's stiffness
    for (F + F0) / d0 and its resistance for F / 33 mm/s: F0 and d0 are known to it from the patient's scan (design).
    """
    begin, scale = state.travel, _scale(tissue)
    for sample in range(error.shape[1]):
        deeper, speed = state.travel - begin, state.speed
        if rise is not None:
            deeper, speed = deeper + sample * admittance.period * rise, speed + rise
        force = tissue.at(deeper, speed)
        state = admittance.step(state, force + error[:, sample], (force + scale) / tissue.depth, RESISTANCE * force)
    return state
