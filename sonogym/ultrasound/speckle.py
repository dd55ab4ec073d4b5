"""Scatterers by hashing tissue coordinates: no memory, and the same whatever the batch, the frame or the thread."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

MASK = 0xFFFFFFFF
PRIMES = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)  # odd 32-bit constants, one for each voxel axis
MIX_1, MIX_2 = 0x7FEB352D, 0x846CA68B  # finaliser of 32-bit words with low bias
WORDS = 2**30  # over which the words that decide on a scatterer are spread
ECHO_SALT, NOISE_SALT, HAZE_SALT = 0x3C6EF372, 0xA54FF53A, 0x510E527F
# real and imaginary part each count the ones of 16 bits: binomial of mean 8 and variance 4, together of unit power.
# Its excess kurtosis is -1/8, so that the few lattice points under a pulse already make Rayleigh speckle.
BINOMIAL_MEAN, BINOMIAL_SCALE = 8, 1.0 / math.sqrt(8.0)


def mix(word: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Scramble 32-bit words held in int64."""
    word = word & MASK
    word = ((word ^ (word >> 16)) * MIX_1) & MASK
    word = ((word ^ (word >> 15)) * MIX_2) & MASK
    return word ^ (word >> 16)


def complex_normal(word: Int[Tensor, "*shape"]) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Real and imaginary part, of unit power, of scrambled words."""
    ones = word - ((word >> 1) & 0x55555555)
    ones = (ones & 0x33333333) + ((ones >> 2) & 0x33333333)
    ones = (ones + (ones >> 4)) & 0x0F0F0F0F
    ones = (ones + (ones >> 8)) & 0x001F001F
    real = ((ones & 31) - BINOMIAL_MEAN).float() * BINOMIAL_SCALE
    imaginary = ((ones >> 16) - BINOMIAL_MEAN).float() * BINOMIAL_SCALE
    return real, imaginary


def scatterers(
    word: Int[Tensor, "*shape"], occupied: Int[Tensor, "*#shape"]
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Real and imaginary part of lattice points, of scrambled words.

    ``occupied`` 0: every point scatters, Gaussian (fully developed speckle). Else a point holds a scatterer of unit
    strength and one of four phases with probability ``occupied`` / WORDS, and nothing otherwise.
    """
    real, imaginary = complex_normal(word)
    if not bool(occupied.any()):
        return real, imaginary
    present, full = ((word >> 2) < occupied).float() * math.sqrt(0.5), occupied == 0
    sparse = present * (2 * (word & 1) - 1), present * ((word & 2) - 1)
    return torch.where(full, real, sparse[0]), torch.where(full, imaginary, sparse[1])


def linear_correlation(distance: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Correlation of lattice noise read by linear interpolation, ``distance`` in lattice cells (a cubic B-spline)."""
    t = distance.abs()
    near = 2.0 / 3.0 - t.square() + 0.5 * t**3
    far = (2.0 - t).clamp_min(0.0) ** 3 / 6.0
    return torch.where(t < 1.0, near, far)


def nearest_correlation(distance: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Correlation of lattice noise read at the nearest point, ``distance`` in lattice cells."""
    return (1.0 - distance.abs()).clamp_min(0.0)
