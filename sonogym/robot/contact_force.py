"""Force of tissue under a pressed face: an exponential spring with constants of face and bone (contact.md)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sonogym.errors import InvalidInputError, require_between
from sonogym.ultrasound.pressure import spring_depth, spring_force

DAMPING = 10.0  # s/m: force grows by 1 % per mm/s of pressing (design)
LOSS = 0.1  # share by which a slow press lies above the force at rest, and a slow release below (design)
LOSS_SPEED = 5e-3  # m/s at which 3/4 of the slow loss is there: smooth, or a robot at rest would chatter (design)


@dataclass(frozen=True)
class Tissue:
    """The tissue column under a face: F0 [N] and d0 [m] of F = F0 (exp(delta / d0) - 1)."""

    force: Float[Tensor, "*batch"]
    depth: Float[Tensor, "*batch"]


def tissue_under(face_area: float, bone_depth: Float[Tensor, "*batch"]) -> Tissue:
    """F0 = 1 N sqrt(A / 840 mm^2) and d0 = clip(D, 23, 90 mm) / 7.5 for a face area A [m^2] and bone depth D [m].

    Tissue without bone below has D infinite. Raises :class:`InvalidInputError` for an impossible area.
    """
    require_between("face_area", face_area, 1e-6, 0.05, "m^2", "mm^2?" if face_area > 0.05 else "")
    depth = spring_depth(bone_depth)
    return Tissue(spring_force(torch.full_like(depth, face_area)), depth)


def contact_force(
    tissue: Tissue,
    indentation: Float[Tensor, "*batch"],
    speed: Float[Tensor, "*batch"] | None = None,
    loss: Float[Tensor, "*batch"] | None = None,
) -> Float[Tensor, "*batch"]:
    """F = max(0, F0 (exp(delta / d0) - 1)(1 + h tanh(v / v_h) + c v)) [N].

    ``indentation`` delta [m] of the face centre, negative in the air; ``speed`` v [m/s] into the tissue, 0 if absent;
    ``loss`` h, LOSS if absent. Never negative: tissue pushes, it does not stick. Pressing feels more than rest and
    release less, so a closed cycle always takes energy: the integral of F d(delta) is that of
    F_rest (h tanh(v / v_h) + c v) v dt.
    """
    elastic = tissue.force * torch.expm1(indentation.clamp_min(0.0) / tissue.depth)
    return elastic * rate_factor(speed, loss, elastic)


def rate_factor(
    speed: Float[Tensor, "*batch"] | None, loss: Float[Tensor, "*batch"] | None, like: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """max(0, 1 + h tanh(v / v_h) + c v) of :func:`contact_force`, ones at rest."""
    if speed is None:
        return torch.ones_like(like)
    share = LOSS if loss is None else loss
    return (1.0 + share * torch.tanh(speed / LOSS_SPEED) + DAMPING * speed).clamp_min(0.0)


def indentation_for(tissue: Tissue, force: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """delta = d0 ln(1 + F / F0) [m], the inverse of :func:`contact_force` at rest; negative forces give 0."""
    return tissue.depth * torch.log1p(force.clamp_min(0.0) / tissue.force)


def stiffness_at(tissue: Tissue, force: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """dF / d(delta) = (F + F0) / d0 [N/m] at a force [N] at rest."""
    return (force + tissue.force) / tissue.depth


def require_tissue(tissue: Tissue) -> None:
    """Raise :class:`InvalidInputError` unless F0 and d0 are positive and finite: no spring is of zero stiffness."""
    for name, value in (("force", tissue.force), ("depth", tissue.depth)):
        good: Bool[Tensor, "*batch"] = value.isfinite() & (value > 0)
        if not bool(good.all()):
            raise InvalidInputError(
                f"{name} of a tissue must be positive and finite, got {float(value[~good].flatten()[0]):g}"
            )
