"""A voxel as the renderer reads it: four bytes, one little-endian word.

Bits 0-7 are the tissue id; 8-17 the tissue order blurred for normals, in quarters of a unit (the rounding of whole
units turns normals of weak contrasts by degrees); 18-25 the order blurred little, which places interfaces; 26-31 the
texture.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

LABEL_MASK = 0xFF
ORDER_SHIFT, ORDER_MASK, ORDER_SCALE = 8, 0x3FF, 4
SHARP_SHIFT, SHARP_MASK = 18, 0xFF
TEXTURE_SHIFT, TEXTURE_LEVELS = 26, 64


def pack(labels: np.ndarray, order: np.ndarray, sharp: np.ndarray, texture: np.ndarray) -> UInt8[Tensor, "4 x y z"]:
    """Channels of :class:`AcousticAnatomy`: uint8 ``labels``, ``order`` and ``sharp`` in [0, 255], uint8 ``texture``.

    All (x, y, z); ``texture`` < TEXTURE_LEVELS.
    """
    word = labels.astype(np.uint32)
    word |= np.rint(ORDER_SCALE * order).astype(np.uint32) << ORDER_SHIFT
    word |= np.rint(sharp).astype(np.uint32) << SHARP_SHIFT
    word |= texture.astype(np.uint32) << TEXTURE_SHIFT
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(word.view(np.uint8).reshape(*word.shape, 4), -1, 0)))


def words(voxels: UInt8[Tensor, "voxels 4"]) -> Int[Tensor, " voxels"]:
    """The words (int32) of stacked voxels, without a copy."""
    return voxels.view(torch.int32)[:, 0]


def label(word: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Tissue ids (int64)."""
    return (word & LABEL_MASK).long()


def order(word: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Order blurred for normals, in quarters of a unit."""
    return (word >> ORDER_SHIFT) & ORDER_MASK


def sharp(word: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Order blurred little."""
    return (word >> SHARP_SHIFT) & SHARP_MASK


def texture(word: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Index (int64) of the texture's gain."""
    return ((word >> TEXTURE_SHIFT) & (TEXTURE_LEVELS - 1)).long()
