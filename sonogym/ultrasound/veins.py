"""Veins give way under the probe: the lumen shrinks from its wall inwards, and what lies above closes in (`design`).

A vein is held open by some 10 mmHg, an artery by 100: what a scan presses with closes the one and not the other. Each
voxel of a vein carries the share of the lumen's area that lies closer to the wall than it; the lumen that is left is
where that share is above the part that the pressure has closed. A closed place, and the wall of a vein that closes,
show the last tissue on the line that yields, so that no ring is left where the wall was; how the tissue around moves is
not followed.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor

from sonogym.anatomy.tissues import Tissue
from sonogym.ultrasound.texture import NEUTRAL
from sonogym.ultrasound.voxel_word import TEXTURE_LEVELS, TEXTURE_SHIFT, label, texture

VENOUS_PRESSURE = 1333.0  # Pa (10 mmHg): a vein begins to close at half of it and is closed at 1.5 times (design)
YIELDING = (Tissue.SUBCUTANEOUS_FAT, Tissue.MUSCLE, Tissue.LIVER, Tissue.PANCREAS, Tissue.VISCERAL_FAT)  # close in
LEFT_OPEN = 0.08  # share of the lumen that stays in a closed vein, along its edges (design)
_WIDEST = 14e-3  # m from wall to middle: half the short axis of the widest vein, and some
_WALL = 1.2e-3  # m: how far from the lumen connective tissue is its wall (design)


def mark_veins(texture: np.ndarray, labels: np.ndarray, pitch: float) -> None:
    """Write levels in place of ``texture`` (x, y, z) at the veins of ``labels``; ``pitch`` [m].

    In the lumen the share of it closer to the wall, 1 - (1 - d / m)^2 for a distance d to the wall and the largest such
    distance m nearby: exact in a round vein. Connective tissue around it is at 0, all other connective tissue is not.
    """
    sheet = labels == Tissue.CONNECTIVE
    texture[sheet] = np.maximum(texture[sheet], 1)
    box = ndimage.find_objects((labels == Tissue.VEIN).astype(np.uint8))
    if not box:
        return
    edge = math.ceil(max(_WALL, 2.0 * pitch) / pitch)
    near = tuple(slice(max(part.start - edge, 0), part.stop + edge) for part in box[0])
    lumen = labels[near] == Tissue.VEIN
    distance = ndimage.distance_transform_edt(np.pad(lumen, 1))[1:-1, 1:-1, 1:-1] - 0.5
    widest = ndimage.maximum_filter(distance, 2 * math.ceil(_WIDEST / pitch) + 1)
    share = 1.0 - (1.0 - (distance[lumen] / np.maximum(widest[lumen], 0.5)).clip(0.0, 1.0)) ** 2
    texture[near][lumen] = np.floor((TEXTURE_LEVELS - 1) * share).astype(np.uint8)
    close = ndimage.distance_transform_edt(~lumen) <= max(_WALL / pitch, 1.5)
    texture[near][close & sheet[near] & ~ndimage.binary_dilation(labels[near] == Tissue.BLOOD)] = 0


def strip_stress(depth: Float[Tensor, " samples"], height: float) -> Float[Tensor, " samples"]:
    """Share of the face's pressure that is felt at ``depth`` [m] below the middle of a long strip of ``height`` [m].

    Flamant's solution for a uniform strip load of half-width a: (2 / pi)(atan(a / z) + (a / z) / (1 + (a / z)^2)).
    """
    ratio = 0.5 * height / depth
    return (2.0 / math.pi) * (torch.atan(ratio) + ratio / (1.0 + ratio.square()))


def closed_levels(
    pressure: Float[Tensor, " envs"], stress: Float[Tensor, " samples"], venous: Float[Tensor, " envs"] | None
) -> Int[Tensor, "envs samples"]:
    """How many levels of :func:`mark_veins` are closed at each depth (int32), 0 to TEXTURE_LEVELS.

    The share of area left is 1 - (1 - LEFT_OPEN) smoothstep(P / P_v - 1/2), P_v ``venous`` [Pa].
    """
    held = pressure.new_tensor(VENOUS_PRESSURE) if venous is None else venous.to(pressure)[:, None]
    t = (pressure[:, None] * stress / held - 0.5).clamp(0.0, 1.0)
    closed = (1.0 - LEFT_OPEN) * t * t * (3.0 - 2.0 * t)
    return (TEXTURE_LEVELS * closed).ceil().to(torch.int32)


def closed(
    word: Int[Tensor, "*shape"], levels: Int[Tensor, "*#shape"], around: Int[Tensor, "*#shape"]
) -> Int[Tensor, "*shape"]:
    """Voxels of which ``levels`` of the veins are closed and hold ``around`` (see :func:`last_around`).

    A vein's level is no texture.
    """
    tissue = torch.where(texture(word) < levels, around, label(word)).to(word.dtype)
    neutral = NEUTRAL - TEXTURE_LEVELS if NEUTRAL >= TEXTURE_LEVELS // 2 else NEUTRAL  # the highest bit is the sign
    return torch.where(_of_vein(word), tissue | (neutral << TEXTURE_SHIFT), word)


def last_around(word: Int[Tensor, "*shape"], around: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """The last tissue (int64) on a line that yields, before it ``around``; ``word`` the voxels as they were read."""
    tissue = label(word)
    yields = (tissue[..., None] == torch.tensor(YIELDING, device=word.device)).any(-1)
    return torch.where(yields, tissue, around)


def _of_vein(word: Int[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """Lumen, or the wall around one."""
    tissue = label(word)
    return (tissue == int(Tissue.VEIN)) | ((tissue == int(Tissue.CONNECTIVE)) & (texture(word) == 0))
