"""Scatterers by hashing tissue coordinates: no memory, and the same whatever the batch, the frame or the thread."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

MASK = 0xFFFFFFFF
PRIMES = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)  # odd 32-bit constants, one for each voxel axis
MIX_1, MIX_2 = 0x7FEB352D, 0x846CA68B  # finaliser of 32-bit words with low bias
ECHO_SALT, NOISE_SALT = 0x3C6EF372, 0xA54FF53A
# real and imaginary part are each the sum of two bytes: variance 2 (256^2 - 1) / 12; together they have unit power
BYTE_SCALE = 1.0 / math.sqrt(2.0 * 2.0 * (256.0**2 - 1.0) / 12.0)


def mix(word: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Scramble 32-bit words held in int64."""
    word = word & MASK
    word = ((word ^ (word >> 16)) * MIX_1) & MASK
    word = ((word ^ (word >> 15)) * MIX_2) & MASK
    return word ^ (word >> 16)


def complex_normal(word: Int[Tensor, "*shape"]) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Real and imaginary part, of unit power, of scrambled words."""
    real = ((word & 255) + ((word >> 8) & 255) - 255).float() * BYTE_SCALE
    imaginary = (((word >> 16) & 255) + (word >> 24) - 255).float() * BYTE_SCALE
    return real, imaginary


def linear_correlation(distance: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Correlation of lattice noise read by linear interpolation, ``distance`` in lattice cells (a cubic B-spline)."""
    t = distance.abs()
    near = 2.0 / 3.0 - t.square() + 0.5 * t**3
    far = (2.0 - t).clamp_min(0.0) ** 3 / 6.0
    return torch.where(t < 1.0, near, far)


def nearest_correlation(distance: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Correlation of lattice noise read at the nearest point, ``distance`` in lattice cells."""
    return (1.0 - distance.abs()).clamp_min(0.0)
