"""Veins give way under the probe: the lumen shrinks from its wall inwards, and what lies above closes in (`design`).

A vein is held open by some 10 mmHg, an artery by 100: what a scan presses with closes the one and not the other. Each
voxel of a vein carries the share of the lumen's area that lies closer to the wall than it; the lumen that is left is
where that share is above the part that the pressure has closed. A closed place shows the tissue that the line came
from, so that no wall is left where the lumen was; how the tissue around moves is not followed.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import ndimage
from torch import Tensor

from sonogym.anatomy.tissues import Tissue
from sonogym.ultrasound.texture import NEUTRAL
from sonogym.ultrasound.voxel_word import LABEL_MASK, TEXTURE_LEVELS, TEXTURE_SHIFT, label, texture

VENOUS_PRESSURE = 1333.0  # Pa (10 mmHg): a vein begins to close at half of it and is closed at 1.5 times (design)
LEFT_OPEN = 0.08  # share of the lumen that stays in a closed vein, along its edges (design)
_WIDEST = 14e-3  # m from wall to middle: half the short axis of the widest vein, and some
_TOP = (1 << TEXTURE_SHIFT) - 1 - LABEL_MASK  # the bits between label and texture


def vein_levels(labels: np.ndarray, pitch: float) -> np.ndarray:
    """Levels (n,) of the vein voxels of ``labels`` (x, y, z): the share of the lumen closer to the wall, as texture.

    1 - (1 - d / m)^2 for a distance d to the wall and the largest such distance m nearby: exact in a round vein.
    """
    mask = labels == Tissue.VEIN
    box = ndimage.find_objects(mask.astype(np.uint8))
    if not box:
        return np.empty(0, np.uint8)
    lumen = mask[box[0]]
    distance = ndimage.distance_transform_edt(np.pad(lumen, 1))[1:-1, 1:-1, 1:-1] - 0.5
    widest = ndimage.maximum_filter(distance, 2 * math.ceil(_WIDEST / pitch) + 1)
    share = 1.0 - (1.0 - (distance[lumen] / np.maximum(widest[lumen], 0.5)).clip(0.0, 1.0)) ** 2
    return np.floor((TEXTURE_LEVELS - 1) * share).astype(np.uint8)


def strip_stress(depth: Float[Tensor, " samples"], height: float) -> Float[Tensor, " samples"]:
    """Share of the face's pressure that is felt at ``depth`` [m] below the middle of a long strip of ``height`` [m].

    Flamant's solution for a uniform strip load of half-width a: (2 / pi)(atan(a / z) + (a / z) / (1 + (a / z)^2)).
    """
    ratio = 0.5 * height / depth
    return (2.0 / math.pi) * (torch.atan(ratio) + ratio / (1.0 + ratio.square()))


def closed_levels(
    pressure: Float[Tensor, " envs"], stress: Float[Tensor, " samples"], venous: Float[Tensor, " envs"] | None
) -> Int[Tensor, "envs samples"]:
    """How many levels of :func:`vein_levels` are closed at each depth (int32), 0 to TEXTURE_LEVELS.

    The share of area left is 1 - (1 - LEFT_OPEN) smoothstep(P / P_v - 1/2), P_v ``venous`` [Pa].
    """
    held = pressure.new_tensor(VENOUS_PRESSURE) if venous is None else venous.to(pressure)[:, None]
    t = (pressure[:, None] * stress / held - 0.5).clamp(0.0, 1.0)
    closed = (1.0 - LEFT_OPEN) * t * t * (3.0 - 2.0 * t)
    return (TEXTURE_LEVELS * closed).ceil().to(torch.int32)


def closed(
    word: Int[Tensor, "*shape"], levels: Int[Tensor, "*#shape"], around: Int[Tensor, "*#shape"]
) -> Int[Tensor, "*shape"]:
    """Voxels of which ``levels`` of the veins are closed and hold ``around``, the tissue before the vein.

    A vein's level is no texture.
    """
    tissue = torch.where(texture(word) < levels, around, int(Tissue.VEIN)).to(word.dtype)
    neutral = NEUTRAL - TEXTURE_LEVELS if NEUTRAL >= TEXTURE_LEVELS // 2 else NEUTRAL  # the highest bit is the sign
    plain = (word & _TOP) | tissue | (neutral << TEXTURE_SHIFT)
    return torch.where(label(word) == int(Tissue.VEIN), plain, word)
