"""Fused CPU path of :mod:`sonogym.ultrasound.speckle`: scatterers, echoes' random parts and noise from hashed words."""

# numba infers the types of compiled functions and ships none of its own; an intrinsic is called without its context
# mypy: disable-error-code="no-untyped-def, call-arg"

from __future__ import annotations

import numpy as np
from numba.extending import intrinsic

from sonogym.ultrasound.kernel_arrays import compiled, inlined
from sonogym.ultrasound.speckle import BINOMIAL_MEAN, BINOMIAL_SCALE, ECHO_SALT, MIX_1, MIX_2, NOISE_SALT, PRIMES

_SCALE, _MEAN = np.float32(BINOMIAL_SCALE), np.int32(BINOMIAL_MEAN)
_MIX_1, _MIX_2 = np.uint32(MIX_1), np.uint32(MIX_2)
_NOISE, _ECHO, _PRIME = np.uint32(NOISE_SALT), np.uint32(ECHO_SALT), np.uint32(PRIMES[0])
_NONE = np.uint32(0)  # no share of occupied points: all of them scatter
# words whose halves hold 8 - 2 and 8 ones, and what makes 8 + 2 of 8 - 2 in either half
_SPARSE, _EMPTY, _LOW, _HIGH = np.uint32(0x003F003F), np.uint32(0x00FF00FF), np.uint32(0x3C0), np.uint32(0x3C00000)
_ONE, _TWO, _15, _16, _HALF_WORD = np.uint32(1), np.uint32(2), np.uint32(15), np.uint32(16), np.uint32(0xFFFF)
_0, _HALF, _1 = np.float32(0.0), np.float32(0.5), np.float32(1.0)


@intrinsic  # type: ignore[untyped-decorator]
def _ones(context, word):
    """Number of ones in a word: one instruction where the processor has it."""
    return word(word), lambda context, builder, signature, arguments: builder.ctpop(arguments[0])


@inlined
def mix(word):  # noqa: D103
    word = np.uint32(word ^ (word >> _16))
    word = np.uint32(word * _MIX_1)
    word = np.uint32(word ^ (word >> _15))
    word = np.uint32(word * _MIX_2)
    return np.uint32(word ^ (word >> _16))


@inlined
def _point(word, occupied):
    """A lattice point that holds a scatterer of one of four phases, or none: a word of as many ones."""
    full = np.uint32(_SPARSE + np.uint32((word & _ONE) * _LOW) + np.uint32(((word >> _ONE) & _ONE) * _HIGH))
    return full if (word >> _TWO) < occupied else _EMPTY


@inlined
def _counts(word):
    """Two binomial draws, less their mean: see ``speckle.complex_normal``."""
    return np.int32(np.int32(_ones(np.uint32(word & _HALF_WORD))) - _MEAN), np.int32(
        np.int32(_ones(np.uint32(word >> _16))) - _MEAN
    )


@inlined
def complex_normal(word):
    """Real and imaginary part, of unit power, of a scrambled word."""
    real, imaginary = _counts(word)
    return np.float32(real) * _SCALE, np.float32(imaginary) * _SCALE


@inlined
def echo_word(a, b, c, scatterers):
    """Scrambled word of the lattice cell that holds a point."""
    primes, cells, seed = scatterers.primes, scatterers.cells, scatterers.seed
    i, j, k = np.int32(np.floor(a * cells)), np.int32(np.floor(b * cells)), np.int32(np.floor(c * cells))
    word = np.uint32(np.uint32(i) * primes[0]) ^ np.uint32(np.uint32(j) * primes[1])
    return mix(np.uint32(word ^ np.uint32(np.uint32(k) * primes[2]) ^ seed ^ _ECHO))


@inlined
def _lattice_point(word, occupied):
    drawn = mix(word)
    return drawn if occupied == _NONE else _point(drawn, occupied)


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
            near = _counts(_lattice_point(np.uint32(word ^ np.uint32(i * p0)), occupied))
            far = _counts(_lattice_point(np.uint32(word ^ np.uint32(np.uint32(i + _ONE) * p0)), occupied))
            u, v = a - whole, strength[row, line] * _SCALE
            real[k, line] += v * (np.float32(near[0]) + u * np.float32(far[0] - near[0]))
            imaginary[k, line] += v * (np.float32(near[1]) + u * np.float32(far[1] - near[1]))


@compiled
def set_noise(level, amplitude, seed, lines, scatter, keep):
    """Noise that stands still in the picture, ``level`` (samples,) x ``amplitude``, and ``keep`` x what was there."""
    real, imaginary = scatter
    for k in range(real.shape[0]):
        height, start = level[k] * amplitude, np.uint32(k * lines)
        for line in range(lines):
            word = mix(np.uint32(np.uint32(np.uint32(start + np.uint32(line)) * _PRIME) ^ seed ^ _NOISE))
            a, b = complex_normal(word)
            real[k, line] = keep * real[k, line] + height * a
            imaginary[k, line] = keep * imaginary[k, line] + height * b
