"""Fused CPU path: echoes that met the probe's face again, and the tail of gas (see ``reverberation``)."""

# numba infers the types of compiled functions, and ships none of its own
# mypy: disable-error-code="no-untyped-def,attr-defined"

from __future__ import annotations

import math

import numpy as np

from sonogym.ultrasound.kernel_arrays import Array, compiled
from sonogym.ultrasound.kernel_interfaces import put_pulse
from sonogym.ultrasound.kernel_march import GAS_PLACE, GAS_ROW, GAS_STRENGTH
from sonogym.ultrasound.kernel_speckle import add_scatter
from sonogym.ultrasound.long_paths import PEAKS

_0, _HALF, _1, _2 = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(2.0)
_QUARTER = np.float32(0.25)


@compiled
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


@compiled
def _power(echoes, k, power, at):
    real, imaginary = echoes
    for line in range(real.shape[1]):
        power[at, line] = real[k, line] * real[k, line] + imaginary[k, line] * imaginary[k, line]


@compiled
def _strongest_rows(echoes, nearest, heights, found, power):
    """Rows of each line's strongest peaks into ``found``, powers into ``heights``; rows of ``power`` take turns."""
    samples, lines = echoes[0].shape
    heights[:] = _0
    _power(echoes, nearest - 1, power, (nearest - 1) % 3)
    _power(echoes, nearest, power, nearest % 3)
    for k in range(nearest, samples - 1):
        below, at, above = (k - 1) % 3, k % 3, (k + 1) % 3
        _power(echoes, k + 1, power, above)
        for line in range(lines):
            if power[at, line] > power[below, line] > _0 and power[at, line] >= power[above, line] > _0:
                _keep_strongest(heights, found, line, power[at, line], k)


@compiled
def _log_amplitude(echoes, k, line):
    real, imaginary = echoes[0][k, line], echoes[1][k, line]
    return _HALF * math.log(real * real + imaginary * imaginary)


@compiled
def _peak(echoes, k, line):
    """Fractional row and complex height of the Gaussian through three samples."""
    low, middle, high = (
        _log_amplitude(echoes, k - 1, line), _log_amplitude(echoes, k, line), _log_amplitude(echoes, k + 1, line),
    )  # fmt: skip
    shift = _HALF * (low - high) / (low - _2 * middle + high)
    gain = math.exp(-_QUARTER * (low - high) * shift)
    return np.float32(k) + shift, np.float32(gain * echoes[0][k, line]), np.float32(gain * echoes[1][k, line])


@compiled
def reverberate(echoes, splat, face, orders, nearest, peaks):
    """Add 2 rho a_i a_j at r_i + r_j and a_i^m rho^(m-1) at m r_i of each line's strongest interfaces.

    ``peaks`` is scratch: see :func:`peak_arrays`.
    """
    samples, lines = echoes[0].shape
    heights, found, power, place, value = peaks
    last = np.float32(samples + splat.shape[1])
    _strongest_rows(echoes, max(nearest, 1), heights, found, power)
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


@compiled
def add_lens(echoes, lens, coupling):
    """Add what lines see of a face that does not couple: (1 - k) of the lens in air."""
    for k in range(echoes.shape[0]):
        for line in range(echoes.shape[1]):
            echoes[k, line] += lens[k] * (_1 - coupling[line])


@compiled
def ring_down(tables, rays, plane, scatterers, work, scatter):
    """Add the tail below each line's first gas, which the march has left in ``work.state``."""
    state, place, strength, tail = work.state, work.place, work.strength, tables.tail
    samples, lines = scatter[0].shape
    first = samples
    for line in range(lines):
        if state[GAS_STRENGTH, line] > _0:
            first = min(first, int(state[GAS_ROW, line]))
    for k in range(first, samples):
        level = tables.row[k, 0] * plane.weight[1]
        for line in range(lines):
            entry = int(state[GAS_ROW, line])
            below = max(k - entry, 0)
            met = state[GAS_STRENGTH, line] > _0 and k >= entry
            work.across[0, line] = plane.offset[k]
            place[1, line] = state[GAS_PLACE, line] + np.float32(below) * tables.step
            strength[0, line] = level * rays.scale[line] * state[GAS_STRENGTH, line] * tail[below] if met else _0
        add_scatter(k, 1, place, work.across, strength, rays, plane, scatterers, scatter)


def peak_arrays(lines: int) -> tuple[Array, ...]:
    """Scratch of :func:`reverberate`: powers and rows of each line's peaks, rows of power, places and values of one."""
    return (
        np.zeros((PEAKS, lines), np.float32),
        np.zeros((PEAKS, lines), np.int32),
        np.zeros((3, lines), np.float32),
        np.zeros(PEAKS, np.float32),
        np.zeros((2, PEAKS), np.float32),
    )
