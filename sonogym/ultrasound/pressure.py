"""How hard a column of tissue over bone pushes back: the spring law of the face, by area (contact.md, `design`)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.ultrasound.contact import SOFTNESS, Press

REFERENCE_FORCE = 1.0  # N: F0 of the reference face (design)
REFERENCE_AREA = 840e-6  # m^2: 60 x 14 mm
SHALLOWEST, DEEPEST = 23e-3, 90e-3  # m: bone depths beyond which the tissue column grows no stiffer or softer (design)
COLUMN_SHARE = 7.5  # bone depth over d0 (design)
LEAST_TOUCH = 1e-4  # share of the face that counts as touching in the air


def spring_depth(bone_depth: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """d0 = clip(D, 23, 90 mm) / 7.5 [m] of F = F0 (exp(delta / d0) - 1)."""
    return bone_depth.clamp(SHALLOWEST, DEEPEST) / COLUMN_SHARE


def spring_force(area: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """F0 = 1 N sqrt(A / 840 mm^2) [N] of an area A [m^2] in contact."""
    return REFERENCE_FORCE * (area / REFERENCE_AREA).sqrt()


def face_pressure(
    press: Press, face_area: float, stiffness: Float[Tensor, " envs"] | None = None
) -> Float[Tensor, " envs"]:
    """Mean pressure [Pa] of the face, from the press of the scan lines: what :mod:`sonogym.robot.contact` feels.

    ``stiffness`` multiplies that of the tissue, as there.
    """
    touching = 1.0 - torch.exp(-press.indentation / SOFTNESS)
    area = face_area * touching.mean(-1).clamp_min(LEAST_TOUCH)
    depth = spring_depth(press.bone + press.indentation)
    pressure = spring_force(area) / area * torch.expm1(press.indentation / depth).mean(-1)
    return pressure if stiffness is None else stiffness.to(pressure) * pressure
