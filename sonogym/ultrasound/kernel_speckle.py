"""Fused CPU path of :mod:`sonogym.ultrasound.speckle`: scatterers, echoes' random parts and noise from hashed words."""

# numba infers the types of compiled functions, and ships none of its own
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math

import numba
import numpy as np

from sonogym.ultrasound.speckle import BINOMIAL_MEAN, BINOMIAL_SCALE, ECHO_SALT, MIX_1, MIX_2, NOISE_SALT, PRIMES

FAST = {"contract", "nsz", "arcp"}
_SCALE, _MEAN = np.float32(BINOMIAL_SCALE), np.int32(BINOMIAL_MEAN)
_MASK_1, _MASK_2 = np.uint32(0x55555555), np.uint32(0x33333333)
_MASK_4, _MASK_8 = np.uint32(0x0F0F0F0F), np.uint32(0x001F001F)
_MIX_1, _MIX_2 = np.uint32(MIX_1), np.uint32(MIX_2)
_NOISE, _ECHO, _PRIME = np.uint32(NOISE_SALT), np.uint32(ECHO_SALT), np.uint32(PRIMES[0])
_NONE = np.uint32(0)  # no share of occupied points: all of them scatter
_8, _15, _16 = np.uint32(8), np.uint32(15), np.uint32(16)
_SPARSE, _EMPTY, _17 = np.uint32(0x60006), np.uint32(0x80008), np.uint32(17)  # mean - 2, and mean, in both halves
_ONE, _TWO, _FOUR, _31 = np.uint32(1), np.uint32(2), np.uint32(4), np.uint32(31)
_0, _HALF, _1 = np.float32(0.0), np.float32(0.5), np.float32(1.0)


@numba.njit(inline="always")
def mix(word):  # noqa: D103
    word = np.uint32(word ^ (word >> _16))
    word = np.uint32(word * _MIX_1)
    word = np.uint32(word ^ (word >> _15))
    word = np.uint32(word * _MIX_2)
    return np.uint32(word ^ (word >> _16))


@numba.njit(inline="always")
def _ones(word):
    """Number of ones in each half of a word: two binomial draws (see ``speckle.complex_normal``)."""
    word = np.uint32(word - ((word >> _ONE) & _MASK_1))
    word = np.uint32((word & _MASK_2) + ((word >> _TWO) & _MASK_2))
    word = np.uint32((word + (word >> _FOUR)) & _MASK_4)
    return np.uint32((word + (word >> _8)) & _MASK_8)


@numba.njit(inline="always")
def _point(word, occupied):
    """A lattice point that holds a scatterer of one of four phases, or none; as :func:`_ones` would give its parts."""
    full = np.uint32(_SPARSE + np.uint32((word & _ONE) << _TWO) + np.uint32((word & _TWO) << _17))
    return full if (word >> _TWO) < occupied else _EMPTY


@numba.njit(inline="always")
def real_part(ones):
    """Real part of the complex number that :func:`_ones` holds."""
    return np.float32(np.int32(ones & _31) - _MEAN) * _SCALE


@numba.njit(inline="always")
def imaginary_part(ones):
    """Its imaginary part."""
    return np.float32(np.int32(ones >> _16) - _MEAN) * _SCALE


@numba.njit(inline="always")
def echo_word(a, b, c, scatterers):
    """Scrambled word of the lattice cell that holds a point."""
    primes, cells, seed = scatterers
    i, j, k = np.int32(math.floor(a * cells)), np.int32(math.floor(b * cells)), np.int32(math.floor(c * cells))
    word = np.uint32(np.uint32(i) * primes[0]) ^ np.uint32(np.uint32(j) * primes[1])
    return _ones(mix(np.uint32(word ^ np.uint32(np.uint32(k) * primes[2]) ^ seed ^ _ECHO)))


@numba.njit(fastmath=FAST, error_model="numpy")
def hash_scatterers(near, far, a, b, c, primes, cells, seed, occupied=_NONE):
    """Words of the two scatterers around each point along the first axis, nearest along the others."""
    p0, p1, p2 = primes[0], primes[1], primes[2]
    for line in range(near.shape[0]):
        j = np.uint32(np.int32(np.floor(b[line] * cells + _HALF)))
        m = np.uint32(np.int32(np.floor(c[line] * cells + _HALF)))
        near[line] = np.uint32(np.uint32(j * p1) ^ np.uint32(m * p2) ^ seed)
    for line in range(near.shape[0]):
        i = np.uint32(np.int32(np.floor(a[line] * cells)))
        word = near[line]
        near[line] = mix(np.uint32(word ^ np.uint32(i * p0)))
        far[line] = mix(np.uint32(word ^ np.uint32(np.uint32(i + _ONE) * p0)))
    if occupied == _NONE:
        for line in range(near.shape[0]):
            near[line], far[line] = _ones(near[line]), _ones(far[line])
    else:
        for line in range(near.shape[0]):
            near[line], far[line] = _point(near[line], occupied), _point(far[line], occupied)


@numba.njit(fastmath=FAST, error_model="numpy")
def scatter_row(real, imaginary, near, far, a, cells, strength, add):
    """strength x (scatterers interpolated along the first axis), written to or added to a row."""
    keep = _1 if add else _0
    for line in range(real.shape[0]):
        u = a[line] * cells
        u -= np.floor(u)
        value = strength[line] * ((_1 - u) * real_part(near[line]) + u * real_part(far[line]))
        real[line] = keep * real[line] + value
    for line in range(real.shape[0]):
        u = a[line] * cells
        u -= np.floor(u)
        value = strength[line] * ((_1 - u) * imaginary_part(near[line]) + u * imaginary_part(far[line]))
        imaginary[line] = keep * imaginary[line] + value


@numba.njit(fastmath=FAST, error_model="numpy")
def add_noise(real, imaginary, words, first, level, seed):
    """Receiver noise of one row, the same for any tissue; ``first`` is the number of its first sample."""
    for line in range(real.shape[0]):
        word = np.uint32(np.uint32(np.uint32(first + np.uint32(line)) * _PRIME) ^ seed ^ _NOISE)
        words[line] = _ones(mix(word))
    for line in range(real.shape[0]):
        real[line] += level * real_part(words[line])
    for line in range(real.shape[0]):
        imaginary[line] += level * imaginary_part(words[line])
