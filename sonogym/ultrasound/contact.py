"""Contact of the probe face with the skin, line by line: indentation, support and coupling (docs/contact.md)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonogym.anatomy.bone import column_above_bone
from sonogym.anatomy.stack import VolumeStack

SOFTNESS = 0.5e-3  # m: rounding of the first touch
GAP_FULL, GAP_NONE = 0.3e-3, 2.5e-3  # m of gel: all, and nothing, of the sound passes
SUPPORT = 60e-3  # m under the skin: where compression has died out if no bone lies above (design)
THINNEST = 3e-3  # m of tissue that are always left between face and bone
STEEPEST = 0.3  # least cosine between a line and the skin's normal that is followed
LEVER = 1e-3  # m: the cosine is read over at least this much of the line
READ = 9  # lines along which bone is looked for; those between are interpolated


@dataclass(frozen=True, kw_only=True)
class Press:
    """How the face presses on each line, all (envs, lines).

    ``indentation`` A [m] along the line; ``column`` D - A [m]: tissue left between the face and what supports it;
    ``bone`` tissue left above bone, at most 90 mm; ``coupling`` the two-way amplitude that passes into the body.
    """

    indentation: Float[Tensor, "envs lines"]
    column: Float[Tensor, "envs lines"]
    bone: Float[Tensor, "envs lines"]
    coupling: Float[Tensor, "envs lines"]


def free(origin: Float[Tensor, "envs lines 3"]) -> Press:
    """No skin: nothing is pressed and every line is coupled."""
    zero = torch.zeros(origin.shape[:2], device=origin.device)
    far = torch.full_like(zero, SUPPORT)
    return Press(indentation=zero, column=far, bone=far, coupling=torch.ones_like(zero))


def face_contact(
    skin: VolumeStack,
    bone: VolumeStack,
    index: Int[Tensor, " envs"],
    origin: Float[Tensor, "envs lines 3"],
    direction: Float[Tensor, "envs lines 3"],
    gel: Float[Tensor, " envs"] | None = None,
) -> Press:
    """The press of lines from ``origin`` along unit ``direction``, patient coordinates [m].

    Depth p is that of the face point under the skin; A = .5 ln(1 + e^(p/.5)) mm / cos, the cosine to the skin's normal
    read along the line behind the face; coupling = 1 - smoothstep(.3, 2.5 mm, A cos - p), or of ``gel`` [m]. The
    support D under the skin is bone, at most SUPPORT; A is at most half of it, or the map would fold.
    """
    depth = -skin.trilinear(origin, index)
    lever = depth.clamp_min(LEVER)
    behind = skin.trilinear(origin - lever[..., None] * direction, index)
    cosine = ((behind + depth) / lever).clamp(STEEPEST, 1.0)
    indentation = (rounded(depth) / cosine).clamp_max(0.5 * SUPPORT)
    above_bone = _bone_column(bone, index, origin, direction)
    column = torch.minimum(above_bone, SUPPORT - indentation).clamp_min(THINNEST)
    thickest = depth.new_tensor(GAP_NONE) if gel is None else gel.to(depth)[:, None]
    return Press(
        indentation=torch.minimum(indentation, column),
        column=column,
        bone=above_bone,
        coupling=coupling_of(depth, thickest),
    )


def rounded(depth: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """.5 ln(1 + e^(p/.5)) mm: how far the skin is pushed in by a face at depth p, rounded at the first touch."""
    ratio = depth / SOFTNESS
    return SOFTNESS * (torch.log1p(torch.exp(-ratio.abs())) + ratio.clamp_min(0.0))


def coupling_of(depth: Float[Tensor, "*shape"], gel: Float[Tensor, "#*shape"]) -> Float[Tensor, "*shape"]:
    """Two-way amplitude that passes at a face point at ``depth`` p under the undeformed skin.

    1 - smoothstep(.12 g, g, gap), gap = A - p, ``gel`` g [m] the thickest layer of gel that couples.
    """
    full = (GAP_FULL / GAP_NONE) * gel
    t = ((rounded(depth) - depth - full) / (gel - full)).clamp(0.0, 1.0)
    return 1.0 - t * t * (3.0 - 2.0 * t)


def _bone_column(
    bone: VolumeStack,
    index: Int[Tensor, " envs"],
    origin: Float[Tensor, "envs lines 3"],
    direction: Float[Tensor, "envs lines 3"],
) -> Float[Tensor, "envs lines"]:
    """Tissue [m] between face and bone, read along some lines; cubic B-splines make it smooth across the others."""
    read, pick, weight = spline(origin.shape[1], origin.dtype, origin.device)
    column = column_above_bone(bone, index, origin[:, read], direction[:, read])
    first, second, third, fourth = (column[:, at] * share for at, share in zip(pick, weight, strict=True))
    return first + second + third + fourth


@lru_cache(maxsize=64)
def spline(
    lines: int, dtype: torch.dtype, device: torch.device
) -> tuple[Int[Tensor, " read"], Int[Tensor, "4 lines"], Float[Tensor, "4 lines"]]:
    """Lines along which bone is looked for, and for each line four of them and their weights (> 0, of unit sum)."""
    place = torch.arange(lines) * ((READ - 1) / (lines - 1))
    base = place.floor().clamp_max(READ - 2)
    t = place - base
    weight = torch.stack(((1 - t) ** 3, 4 - 6 * t**2 + 3 * t**3, 1 + 3 * t + 3 * t**2 - 3 * t**3, t**3)) / 6.0
    pick = (base.long() + torch.arange(-1, 3)[:, None]).clamp(0, READ - 1)
    read = torch.linspace(0, lines - 1, READ).round().long()
    return read.to(device), pick.to(device), weight.to(dtype).to(device)
