"""Force control of a step: admittance runs faster than the rest of the simulation, on the tissue felt last."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.errors import require_between
from sonogym.geometry.compiled import array
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
    whose reading has ``noise`` [N, standard deviation] and ``bias`` [N]. ``model`` is the stiffness that the controller
    takes the tissue to have, over the one it has (None: 1).
    """

    set_point: Float[Tensor, " envs"]
    latency: Float[Tensor, " envs"]
    noise: Float[Tensor, " envs"]
    bias: Float[Tensor, " envs"]
    model: Float[Tensor, " envs"] | None = None

    def __post_init__(self) -> None:
        if self.model is not None and self.model.numel():
            for end in (self.model.min(), self.model.max()):
                require_between("model of the force control", float(end), 0.05, 20.0, "", "a factor of the stiffness")


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
    ahead: Felt,
    rise: Float[Tensor, " envs"] | None,
    error: Float[Tensor, "envs samples"],
    model: Float[Tensor, " envs"] | None = None,
) -> AdmittanceState:
    """The controller's state after as many of its periods as ``error`` [N] has samples, which the sensor adds.

    Compiled where no gradient is asked for and the controller is that of scans: :func:`regulate_reference` to rounding.
    """
    quick = None not in (admittance.bandwidth, admittance.reset_time, admittance.approach)
    given = (*vars(tissue).values(), *vars(ahead).values(), rise, error, model, *vars(state).values())
    if not quick or any(x is not None and (x.requires_grad or x.device.type != "cpu") for x in given):
        return regulate_reference(admittance, state, tissue, ahead, rise, error, model)
    return _fused(admittance, state, tissue, ahead, rise, error, model)


def _fused(
    admittance: Admittance,
    state: AdmittanceState,
    tissue: Felt,
    ahead: Felt,
    rise: Tensor | None,
    error: Tensor,
    model: Tensor | None,
) -> AdmittanceState:
    law, envs = admittance, len(error)
    moved = {
        name: getattr(state, name).contiguous().clone() for name in ("travel", "speed", "readings", "surplus", "stop")
    }
    kernel_control.regulate(
        (law.period, law.bandwidth, law.mass / law.damping, law.reset_time, law.approach, law.force_limit,
         law.speed_limit, law.travel_limit, RESISTANCE),
        (_TOUCHED, _EXPECTED[0]),
        *(tuple(array(part) for part in (at.force, at.scale, at.depth)) for at in (tissue, ahead)),
        *(array(torch.full((envs,), default) if value is None else value)
          for value, default in ((tissue.loss, LOSS), (rise, 0.0), (model, 1.0))),
        *map(array, (error, state.set_point, state.latency, *moved.values())),
    )  # fmt: skip
    return dataclasses.replace(state, **moved)


def _known(tissue: Felt) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Force, F0, d0, and F0 that the controller expects."""
    return tissue.force, tissue.scale, tissue.depth, torch.where(tissue.scale < _TOUCHED, _EXPECTED[0], tissue.scale)


def _feed(admittance: Admittance, tissue: Felt, ahead: Felt, samples: int) -> Float[Tensor, " envs"]:
    """Speed [m/s] at which the probe gives way to what the patient's scan shows ahead, so that the force stays.

    F + F0 grows as exp(deeper / d0): -d0 ln((F + F0)_ahead / (F + F0)) in a step, at most ``approach``; 0 in the air.
    """
    firmer = (ahead.force + ahead.scale).clamp_min(_TOUCHED) / (tissue.force + tissue.scale).clamp_min(_TOUCHED)
    speed = -ahead.depth * firmer.log() / (samples * admittance.period)
    touching = (tissue.scale >= _TOUCHED) & (ahead.scale >= _TOUCHED)
    most = math.inf if admittance.approach is None else admittance.approach
    return torch.where(touching, speed.clamp(-most, most), torch.zeros_like(speed))


def regulate_reference(
    admittance: Admittance,
    state: AdmittanceState,
    tissue: Felt,
    ahead: Felt,
    rise: Float[Tensor, " envs"] | None,
    error: Float[Tensor, "envs samples"],
    model: Float[Tensor, " envs"] | None = None,
) -> AdmittanceState:
    """:func:`regulate`, defined.

    The face comes from ``tissue`` to ``ahead``, which it would feel if it were pressed no deeper, evenly over the step.
    ``rise`` [m/s] is how fast the skin comes up against the face meanwhile. The controller takes the tissue's stiffness
    for (F + F0) / d0 and its resistance for F / 33 mm/s: F0 and d0 are known to it from the patient's scan (design).
    Where the stiffness that it takes is ``model`` times the true one, it expects forces to change so much more with the
    way: it gives way that much less to what lies ahead.
    """
    wrong = torch.ones_like(state.travel) if model is None else model
    begin, samples = state.travel, error.shape[1]
    feed = _feed(admittance, tissue, ahead, samples) / wrong
    for sample in range(samples):
        deeper, speed = state.travel - begin, state.speed + feed
        if rise is not None:
            deeper, speed = deeper + sample * admittance.period * rise, speed + rise
        share = (sample + 1) / samples
        pairs = zip(_known(tissue), _known(ahead), strict=True)
        force, scale, depth, expected = (torch.lerp(first, last, share) for first, last in pairs)
        felt_now = Felt(force=force, scale=scale, depth=depth, loss=tissue.loss).at(deeper, speed)
        stiffness = wrong * (felt_now + expected) / depth
        state = admittance.step(state, felt_now + error[:, sample], stiffness, RESISTANCE * felt_now, feed)
    return state
