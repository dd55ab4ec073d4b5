"""Fused CPU path of :mod:`sonogym.ultrasound.speckle`: scatterers, echoes' random parts and noise from hashed words."""

# numba infers the types of compiled functions, and ships none of its own
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from sonogym.ultrasound.kernel_arrays import compiled, inlined
from sonogym.ultrasound.speckle import BINOMIAL_MEAN, BINOMIAL_SCALE, ECHO_SALT, MIX_1, MIX_2, NOISE_SALT, PRIMES

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


@inlined
def mix(word):  # noqa: D103
    word = np.uint32(word ^ (word >> _16))
    word = np.uint32(word * _MIX_1)
    word = np.uint32(word ^ (word >> _15))
    word = np.uint32(word * _MIX_2)
    return np.uint32(word ^ (word >> _16))


@inlined
def _ones(word):
    """Number of ones in each half of a word: two binomial draws (see ``speckle.complex_normal``)."""
    word = np.uint32(word - ((word >> _ONE) & _MASK_1))
    word = np.uint32((word & _MASK_2) + ((word >> _TWO) & _MASK_2))
    word = np.uint32((word + (word >> _FOUR)) & _MASK_4)
    return np.uint32((word + (word >> _8)) & _MASK_8)


@inlined
def _point(word, occupied):
    """A lattice point that holds a scatterer of one of four phases, or none; as :func:`_ones` would give its parts."""
    full = np.uint32(_SPARSE + np.uint32((word & _ONE) << _TWO) + np.uint32((word & _TWO) << _17))
    return full if (word >> _TWO) < occupied else _EMPTY


@inlined
def real_part(ones):
    """Real part of the complex number that :func:`_ones` holds."""
    return np.float32(np.int32(ones & _31) - _MEAN) * _SCALE


@inlined
def imaginary_part(ones):
    """Its imaginary part."""
    return np.float32(np.int32(ones >> _16) - _MEAN) * _SCALE


@inlined
def echo_word(a, b, c, scatterers):
    """Scrambled word of the lattice cell that holds a point."""
    primes, cells, seed = scatterers.primes, scatterers.cells, scatterers.seed
    i, j, k = np.int32(np.floor(a * cells)), np.int32(np.floor(b * cells)), np.int32(np.floor(c * cells))
    word = np.uint32(np.uint32(i) * primes[0]) ^ np.uint32(np.uint32(j) * primes[1])
    return _ones(mix(np.uint32(word ^ np.uint32(np.uint32(k) * primes[2]) ^ seed ^ _ECHO)))


@inlined
def _lattice_point(word, occupied):
    return _ones(mix(word)) if occupied == _NONE else _point(mix(word), occupied)


@compiled
def add_scatter(first, count, place, across, strength, rays, plane, scatterers, scatter):
    """Add strength x scatterers to ``count`` rows from ``first`` on; ``place`` (1 + count, lines) [m] along the lines,
    ``across`` [m] from the image plane where ``plane`` is beside it and the tissue pressed.

    Scatterers are interpolated along the first axis, nearest along the others.
    """
    real, imaginary = scatter
    origin, direction, elevation, cells, seed, occupied = (
        rays.origin, rays.direction, rays.elevation, scatterers.cells, scatterers.seed, scatterers.occupied,
    )  # fmt: skip
    p0, p1, p2 = scatterers.primes[0], scatterers.primes[1], scatterers.primes[2]
    ea, eb, ec = elevation[0], elevation[1], elevation[2]
    for row in range(count):
        k, out = first + row, plane.offset[first + row]
        for line in range(place.shape[1]):
            r, y = place[row + 1, line], across[row, line] if plane.beside else out
            a = (origin[0, line] + direction[0, line] * r + ea * y) * cells
            b = (origin[1, line] + direction[1, line] * r + eb * y) * cells
            c = (origin[2, line] + direction[2, line] * r + ec * y) * cells
            whole = np.floor(a)
            i = np.uint32(np.int32(whole))
            j, m = np.uint32(np.int32(np.floor(b + _HALF))), np.uint32(np.int32(np.floor(c + _HALF)))
            word = np.uint32(np.uint32(j * p1) ^ np.uint32(m * p2) ^ seed)
            near = _lattice_point(np.uint32(word ^ np.uint32(i * p0)), occupied)
            far = _lattice_point(np.uint32(word ^ np.uint32(np.uint32(i + _ONE) * p0)), occupied)
            u = a - whole
            v = strength[row, line]
            real[k, line] += v * ((_1 - u) * real_part(near) + u * real_part(far))
            imaginary[k, line] += v * ((_1 - u) * imaginary_part(near) + u * imaginary_part(far))


@compiled
def set_noise(level, amplitude, seed, scatter, keep):
    """Noise that stands still in the picture, ``level`` (samples,) x ``amplitude``, and ``keep`` x what was there."""
    real, imaginary = scatter
    lines = real.shape[1]
    for k in range(real.shape[0]):
        height, start = level[k] * amplitude, np.uint32(k * lines)
        for line in range(lines):
            ones = _ones(mix(np.uint32(np.uint32(np.uint32(start + np.uint32(line)) * _PRIME) ^ seed ^ _NOISE)))
            real[k, line] = keep * real[k, line] + height * real_part(ones)
            imaginary[k, line] = keep * imaginary[k, line] + height * imaginary_part(ones)
