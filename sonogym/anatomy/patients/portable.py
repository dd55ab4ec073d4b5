"""Powers, angles and exponentials from +, -, x, / and square roots alone.

IEEE 754 rounds those five alike everywhere; a machine's own ``pow`` or ``atan2`` may differ in the last bit, and one
bit at the edge of a solid is another voxel. Kernels of this package use these and no fast-math, and the tables they
read are rounded by :func:`settled`. Errors: relative 1e-9 (power, exponential), 1e-8 (cosine), 2e-7 rad (angle).
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit

_GRAIN = 1e-3  # mm


def settled(table: np.ndarray) -> np.ndarray:
    """``table`` [mm] in whole micrometres: hides the last bits of another machine's sines and matrix products."""
    return np.rint(np.asarray(table, dtype=np.float64) / _GRAIN) * _GRAIN


@njit(cache=True)
@no_type_check
def logarithm2(x):
    """log2 x, x > 0: exponent bits, then the series of artanh."""
    bits = np.float64(x).view(np.int64)
    exponent = (bits >> 52) - 1023
    mantissa = np.int64((bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000).view(np.float64)
    if mantissa > 1.4142135623730951:
        mantissa *= 0.5
        exponent += 1
    s = (mantissa - 1.0) / (mantissa + 1.0)
    t = s * s
    series = 1.0 + t * (1 / 3 + t * (1 / 5 + t * (1 / 7 + t * (1 / 9 + t / 11))))
    return exponent + 2.8853900817779268 * s * series


@njit(cache=True)
@no_type_check
def exponential2(y):
    """2^y; 0 below the smallest normal number."""
    if y < -1022.0:
        return 0.0
    whole = np.floor(y + 0.5)
    r = (y - whole) * 0.6931471805599453
    series = 1.0 + r * (1 / 7 + r / 56)
    series = 1.0 + r * (1.0 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + r * (1 / 120 + r * (series / 720))))))
    return series * np.int64((np.int64(whole) + 1023) << 52).view(np.float64)


@njit(cache=True)
@no_type_check
def power(x, p):
    """x^p for x >= 0."""
    return exponential2(p * logarithm2(x)) if x > 1e-300 else 0.0


@njit(cache=True)
@no_type_check
def exponential(x):
    """e^x."""
    return exponential2(1.4426950408889634 * x)


@njit(cache=True)
@no_type_check
def cosine(x):
    """cos x."""
    x = abs(x - 6.283185307179586 * np.floor(x / 6.283185307179586 + 0.5))
    sign = 1.0
    if x > 1.5707963267948966:
        x, sign = 3.141592653589793 - x, -1.0
    t = x * x
    return sign * (1.0 - t / 2 * (1.0 - t / 12 * (1.0 - t / 30 * (1.0 - t / 56 * (1.0 - t / 90 * (1.0 - t / 132))))))


@njit(cache=True)
@no_type_check
def angle(y, x):
    """Angle of (x, y) in (-pi, pi]; 0 at the origin."""
    low, high = min(abs(x), abs(y)), max(abs(x), abs(y))
    if high == 0.0:
        return 0.0
    z, base = low / high, 0.0
    if z > 0.41421356237309503:
        z, base = (z - 1.0) / (z + 1.0), 0.7853981633974483
    t = z * z
    value = base + z * (1.0 - t * (1 / 3 - t * (1 / 5 - t * (1 / 7 - t * (1 / 9 - t * (1 / 11 - t / 13))))))
    if abs(y) > abs(x):
        value = 1.5707963267948966 - value
    if x < 0.0:
        value = 3.141592653589793 - value
    return -value if y < 0.0 else value
