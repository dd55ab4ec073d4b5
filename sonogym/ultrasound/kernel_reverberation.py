"""Fused CPU path: echoes that met the probe's face again, the tail of gas, and haze (see ``reverberation``)."""

# numba infers the types of compiled functions, and ships none of its own
# mypy: disable-error-code="no-untyped-def,attr-defined"

from __future__ import annotations

import math

import numba
import numpy as np

from sonogym.ultrasound.kernel_march import GAS_PLACE, GAS_ROW, GAS_STRENGTH, along, put_pulse
from sonogym.ultrasound.kernel_speckle import FAST, add_noise, hash_scatterers, scatter_row
from sonogym.ultrasound.long_paths import PEAKS
from sonogym.ultrasound.speckle import HAZE_SALT

_HAZE = np.uint32(HAZE_SALT)
_0, _HALF, _2 = np.float32(0.0), np.float32(0.5), np.float32(2.0)
_QUARTER = np.float32(0.25)


@numba.njit(fastmath=FAST, error_model="numpy")
def _keep_strongest(heights, rows, line, height, row):
    """Insert a peak into the line's list, strongest first; of equals the nearer stays."""
    at = PEAKS
    while at > 0 and heights[at - 1, line] < height:
        at -= 1
    for i in range(PEAKS - 1, at, -1):
        heights[i, line] = heights[i - 1, line]
        rows[i, line] = rows[i - 1, line]
    if at < PEAKS:
        heights[at, line] = height
        rows[at, line] = row


@numba.njit(fastmath=FAST, error_model="numpy")
def _power(echoes, k, power):
    for line in range(power.shape[0]):
        power[line] = echoes[0, k, line] * echoes[0, k, line] + echoes[1, k, line] * echoes[1, k, line]


@numba.njit(fastmath=FAST, error_model="numpy")
def _strongest_rows(echoes, nearest, rows, heights, found):
    """Rows of each line's strongest peaks into ``found``, their powers into ``heights``."""
    samples, lines = echoes.shape[1], echoes.shape[2]
    heights[:] = _0
    below, at, above = rows[0, :lines], rows[1, :lines], rows[2, :lines]
    _power(echoes, nearest - 1, below)
    _power(echoes, nearest, at)
    for k in range(nearest, samples - 1):
        _power(echoes, k + 1, above)
        for line in range(lines):
            if at[line] > below[line] > _0 and at[line] >= above[line] > _0:
                _keep_strongest(heights, found, line, at[line], k)
        below, at, above = at, above, below


@numba.njit(fastmath=FAST, error_model="numpy")
def _log_amplitude(echoes, k, line):
    real, imaginary = echoes[0, k, line], echoes[1, k, line]
    return _HALF * math.log(real * real + imaginary * imaginary)


@numba.njit(fastmath=FAST, error_model="numpy")
def _peak(echoes, k, line):
    """Fractional row and complex height of the Gaussian through three samples."""
    low, middle, high = (
        _log_amplitude(echoes, k - 1, line), _log_amplitude(echoes, k, line), _log_amplitude(echoes, k + 1, line),
    )  # fmt: skip
    shift = _HALF * (low - high) / (low - _2 * middle + high)
    gain = math.exp(-_QUARTER * (low - high) * shift)
    return np.float32(k) + shift, np.float32(gain * echoes[0, k, line]), np.float32(gain * echoes[1, k, line])


@numba.njit(fastmath=FAST, error_model="numpy")
def reverberate(echoes, splat, face, orders, nearest, rows):
    """Add 2 rho a_i a_j at r_i + r_j and a_i^m rho^(m-1) at m r_i of each line's strongest interfaces."""
    samples, lines = echoes.shape[1], echoes.shape[2]
    heights, found = np.empty((PEAKS, lines), np.float32), np.empty((PEAKS, lines), np.int32)
    place, value = np.empty(PEAKS, np.float32), np.empty((2, PEAKS), np.float32)
    last = np.float32(samples + splat.shape[1])
    _strongest_rows(echoes, max(nearest, 1), rows, heights, found)
    for line in range(lines):
        count = 0
        while count < PEAKS and heights[count, line] > _0:
            place[count], value[0, count], value[1, count] = _peak(echoes, found[count, line], line)
            count += 1
        for i in range(count):
            a, b = value[0, i], value[1, i]
            for j in range(i):
                c, d = value[0, j], value[1, j]
                at = place[i] + place[j] + _HALF
                if at < last:
                    both = _2 * face
                    put_pulse(at, line, both * (a * c - b * d), both * (a * d + b * c), splat, echoes)
            real, imaginary = a, b
            for order in range(2, orders + 1):
                at = np.float32(order) * (place[i] + _HALF) - _HALF
                if at >= last:
                    break
                real, imaginary = face * (real * a - imaginary * b), face * (real * b + imaginary * a)
                put_pulse(at, line, real, imaginary, splat, echoes)


@numba.njit(fastmath=FAST, error_model="numpy")
def ring_down(tail, level, step, geometry, plane, scatterers, occupied, scatter, rows, words):
    """Add the tail below each line's first gas; ``level`` (samples,) scales scatter, ``rows`` come from march."""
    _, plane_offset, plane_weight = plane
    origin, direction, elevation, scale = geometry
    primes, cells, seed = scatterers
    samples, lines = scatter.shape[1], scatter.shape[2]
    entry, strength, surface = rows[GAS_ROW, :lines], rows[GAS_STRENGTH, :lines], rows[GAS_PLACE, :lines]
    a, b, c, place, amplitude = rows[0, :lines], rows[1, :lines], rows[2, :lines], rows[3, :lines], rows[4, :lines]
    first = samples
    for line in range(lines):
        if strength[line] > _0:
            first = min(first, int(entry[line]))
    for k in range(first, samples):
        for line in range(lines):
            below = max(k - int(entry[line]), 0)
            met = strength[line] > _0 and k >= int(entry[line])
            place[line] = surface[line] + np.float32(below) * step
            amplitude[line] = level[k] * plane_weight[1] * scale[line] * strength[line] * tail[below] if met else _0
        along(a, origin[0], direction[0], place, elevation[0] * plane_offset[k])
        along(b, origin[1], direction[1], place, elevation[1] * plane_offset[k])
        along(c, origin[2], direction[2], place, elevation[2] * plane_offset[k])
        hash_scatterers(words[0], words[1], a, b, c, primes, cells, seed, occupied)
        scatter_row(scatter[0, k], scatter[1, k], words[0], words[1], a, cells, amplitude, True)


@numba.njit(fastmath=FAST, error_model="numpy")
def haze(level, amplitude, seed, scatter, words):
    """Add haze of ``level`` (samples,) times ``amplitude`` to every row."""
    samples, lines = scatter.shape[1], scatter.shape[2]
    for k in range(samples):
        add_noise(scatter[0, k], scatter[1, k], words, np.uint32(k * lines), level[k] * amplitude, seed ^ _HAZE)
