"""Tissue pushed away by the face: which point of the undeformed body lies at a point of the image (docs/contact.md).

Along a line of the image plane Z = z - A S(t), S = 1 - 3 t^2 + 2 t^3, t = z / (D - A): z from the face, A the
indentation of the line, D the depth of its support. The face shows the skin; at and below the support nothing has
moved. What is squeezed leaves in elevation: with J the change of area in the image plane, the point that lies y beside
it comes from Y,

    Y + (J - 1) Phi(Y) = y,  volume(Z) = volume(z) - phi(Y) (volume(z) - volume(Z at Y = 0)),

phi = Phi' the profile of the face across its height, 1 in the middle. This is the inverse map of a mixed generating
function, so it preserves volume exactly, also where A and D differ from line to line.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.ultrasound.contact import Press

# the profile: a flat top wider than the face with soft edges, less a wide heave so that its integral vanishes (design)
_EDGE, _HEAVE = 5e-3, 0.135  # m: .1 and 3 times a support of 45 mm
_BEYOND = 2.0 * _EDGE  # m past the face where the profile has fallen to a half: under a rigid face the skin is flat
LOWEST, HIGHEST, NODES = -0.5, 1.5, 41  # of J - 1 in the table of Y and phi; beyond it the map would fold
_NEWTON = 8


class Moved(NamedTuple):
    """Where tissue came from, all (envs, lines): depth [m] along the line, distance [m] from the image plane."""

    depth: Float[Tensor, "envs lines"]
    across: Float[Tensor, "envs lines"]


class Stretch(NamedTuple):
    """How the material read at a point of the image plane changes with that point: dZ/dz, dZ/dl, dL/dl and dY/dy."""

    along: Float[Tensor, "*points"]
    shear: Float[Tensor, "*points"]
    lateral: Float[Tensor, "*points"]
    elevation: Float[Tensor, "*points"]


def steepest(press: Press) -> Float[Tensor, "envs lines"]:
    """Largest stretch dZ/dz of the material read along a pressed line: 1 + 1.5 A / (D - A), at t = 1/2.

    Elsewhere dZ/dz - 1 is 4 t (1 - t) of that.
    """
    return 1.0 + 1.5 * press.indentation / press.column


def in_plane(
    depth: Float[Tensor, "*points"], indentation: Float[Tensor, "*points"], column: Float[Tensor, "*points"]
) -> tuple[Float[Tensor, "*points"], Float[Tensor, "*points"]]:
    """Z [m] in the image plane of points ``depth`` z [m] below the face, and t."""
    t = (depth / column).clamp_max(1.0)
    return depth - indentation * (1.0 - t * t * (3.0 - 2.0 * t)), t


def moved(
    depth: Float[Tensor, "envs lines"],
    indentation: Float[Tensor, "envs lines"],
    column: Float[Tensor, "envs lines"],
    curvature: float,
    bulge: Float[Tensor, "nodes 2"],
) -> Moved:
    """The map beside the image plane; ``bulge`` is the row of :func:`bulge_table` for the distance y from it.

    ``curvature`` 1/R [1/m] of the face: lines that diverge make the volume of a step grow as 1 + z / R.
    """
    middle, t = in_plane(depth, indentation, column)
    along = 1.0 + 6.0 * indentation / column * t * (1.0 - t)
    area = along * (1.0 + curvature * middle) / (1.0 + curvature * depth)
    place = ((area - 1.0 - LOWEST) * ((NODES - 1) / (HIGHEST - LOWEST))).clamp(0.0, NODES - 1.001)
    base = place.long()
    across, share = torch.lerp(bulge[base], bulge[base + 1], (place - base)[..., None]).unbind(-1)
    pushed = depth - middle
    scale = (2.0 + curvature * (2.0 * depth - pushed)) / (2.0 + curvature * (2.0 * depth - share * pushed))
    return Moved(depth - share * pushed * scale, across)


def bulge_table(height: float, elevation: Float[Tensor, "planes samples"]) -> Float[Tensor, "planes samples nodes 2"]:
    """Y [m] and phi(Y) for points ``elevation`` y [m] beside the image plane at NODES values of J - 1."""
    excess = torch.linspace(LOWEST, HIGHEST, NODES, dtype=torch.float64)
    y = elevation.double()[..., None]
    place = y / (1.0 + excess)
    for _ in range(_NEWTON):
        phi, integral = _profile(place, height)
        place = place - (place + excess * integral - y) / (1.0 + excess * phi)
    return torch.stack((place, _profile(place, height)[0]), dim=-1).to(elevation)


def _profile(y: Tensor, height: float) -> tuple[Tensor, Tensor]:
    """phi(y) and its integral Phi from 0 (contact.md): both vanish far from the face."""
    half = 0.5 * height + _BEYOND
    heave = 2.0 * half / (math.sqrt(math.pi) * _HEAVE)
    norm = math.erf(half / _EDGE) - heave
    above, below = (y + half) / _EDGE, (y - half) / _EDGE
    phi = 0.5 * (torch.erf(above) - torch.erf(below)) - heave * torch.exp(-((y / _HEAVE) ** 2))
    integral = 0.5 * _EDGE * (_erf_integral(above) - _erf_integral(below)) - half * torch.erf(y / _HEAVE)
    return phi / norm, integral / norm


def _erf_integral(t: Tensor) -> Tensor:
    """G(t) = t erf t + exp(-t^2) / sqrt(pi)."""
    return t * torch.erf(t) + torch.exp(-t * t) / math.sqrt(math.pi)


def stretch(
    depth: Float[Tensor, "*points"],
    indentation: Float[Tensor, "*points"],
    column: Float[Tensor, "*points"],
    slopes: tuple[Float[Tensor, "*points"], Float[Tensor, "*points"]],
    curvature: float,
) -> Stretch:
    """Jacobian in the image plane; ``slopes`` dA/dl and d(D - A)/dl / (D - A) [1/m] across the lines at the face."""
    middle, t = in_plane(depth, indentation, column)
    along = 1.0 + 6.0 * indentation / column * t * (1.0 - t)
    lateral = (1.0 + curvature * middle) / (1.0 + curvature * depth)
    support = 1.0 - t * t * (3.0 - 2.0 * t)
    shear = -(slopes[0] * support + 6.0 * indentation * t * t * (1.0 - t) * slopes[1]) / (1.0 + curvature * depth)
    return Stretch(along, shear, lateral, (along * lateral).reciprocal())


def pressed_cosine(
    normal: Float[Tensor, "points 3"],
    direction: Float[Tensor, "points 3"],
    elevation: Float[Tensor, "points 3"],
    stretched: Stretch,
) -> Float[Tensor, " points"]:
    """|cos| between lines and an interface whose undeformed gradient is ``normal`` g: that of (dX/dx)^T g.

    All vectors in voxels; the lateral axis is elevation x direction, whose sign the slopes of ``stretched`` carry.
    """
    unit = direction / direction.norm(dim=-1, keepdim=True)
    out = elevation / elevation.norm(dim=-1, keepdim=True)
    along, beside = (normal * unit).sum(-1), (normal * torch.linalg.cross(out, unit)).sum(-1)
    across = stretched.lateral * beside + stretched.shear * along
    above = stretched.elevation * (normal * out).sum(-1)
    along = stretched.along * along
    return along.abs() * (along.square() + across.square() + above.square()).clamp_min(1e-20).rsqrt()
