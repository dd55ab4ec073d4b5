"""What a frame's labels tell besides tissue, in the frame's own grid: true depths, and where bone begins."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from sonogym.anatomy.tissues import BONE


def true_depth(
    labels: UInt8[Tensor, "envs samples lines"], lengths: Float[Tensor, " tissues"], step: float
) -> Float[Tensor, "envs samples lines"]:
    """Distance [m] from the face, along the line, of what each sample shows.

    Every sample takes the same time, so in a tissue it is ``lengths`` [m] long, step c / c0 (physics.md section 4). The
    first lies half a ``step`` [m] of apparent depth from the face.
    """
    length = lengths[labels.long()]
    return 0.5 * step + length.cumsum(dim=1) - length


def bone_depth(
    labels: UInt8[Tensor, "envs samples lines"], depth: Float[Tensor, "envs samples lines"]
) -> Float[Tensor, "envs lines"]:
    """True depth [m] of each line's first bone, half-way between the last sample before it and the first in it.

    inf where a line meets none.
    """
    bone = torch.zeros_like(labels, dtype=torch.bool)
    for tissue in BONE:
        bone = bone | (labels == int(tissue))
    first = bone.int().argmax(dim=1, keepdim=True)
    middle = 0.5 * (depth.gather(1, first) + depth.gather(1, (first - 1).clamp_min(0)))
    return torch.where(bone.any(dim=1), middle[:, 0], torch.inf)
