"""Fused CPU path: echoes that met the probe's face again, and the tail of gas (see ``reverberation``)."""

# numba infers the types of compiled functions, and ships none of its own
# mypy: disable-error-code="no-untyped-def,attr-defined"

from __future__ import annotations

import math

import numpy as np

from sonogym.ultrasound.kernel_arrays import Array, compiled, inlined, spliced
from sonogym.ultrasound.kernel_interfaces import put_pulse
from sonogym.ultrasound.kernel_march import GAS_PLACE, GAS_ROW, GAS_STRENGTH
from sonogym.ultrasound.kernel_speckle import add_scatter
from sonogym.ultrasound.long_paths import PEAKS, SILENT

_0, _HALF, _1, _2 = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(2.0)
_QUARTER, _SILENT = np.float32(0.25), np.float32(SILENT)


@spliced
def _keep_strongest(heights, rows, line, height, row):
    """Insert a peak into the line's list, strongest first; of equals the nearer stays."""
    at = PEAKS - 1
    while at > 0 and heights[at - 1, line] < height:
        heights[at, line], rows[at, line] = heights[at - 1, line], rows[at - 1, line]
        at -= 1
    heights[at, line], rows[at, line] = height, row


@compiled
def _power(real, imaginary, power):
    for line in range(power.shape[0]):
        power[line] = real[line] * real[line] + imaginary[line] * imaginary[line]


@compiled
def _peaks(below, at, above, weakest, found):
    """List the lines whose power has a peak stronger than the ``weakest`` that they keep; returns how many."""
    count = 0
    for line in range(at.shape[0]):
        found[count] = line
        peak = (at[line] > below[line] > _0) & (at[line] >= above[line] > _0)
        count += peak & (at[line] > weakest[line])
    return count


@compiled
def _strongest_rows(echoes, nearest, heights, rows, power, found):
    """Rows of each line's strongest peaks into ``rows``, powers into ``heights``; rows of ``power`` take turns."""
    real, imaginary = echoes
    heights[:] = _0
    for k in range(nearest - 1, real.shape[0]):
        _power(real[k], imaginary[k], power[k % 3])
        if k > nearest:
            at = power[(k - 1) % 3]
            for i in range(_peaks(power[(k - 2) % 3], at, power[k % 3], heights[PEAKS - 1], found)):
                line = found[i]
                _keep_strongest(heights, rows, line, at[line], k - 1)


@inlined
def _log_amplitude(echoes, k, line):
    real, imaginary = echoes[0][k, line], echoes[1][k, line]
    return _HALF * math.log(real * real + imaginary * imaginary)


@inlined
def _peak(echoes, k, line):
    """Fractional row and complex height of the Gaussian through three samples."""
    low, middle, high = (
        _log_amplitude(echoes, k - 1, line), _log_amplitude(echoes, k, line), _log_amplitude(echoes, k + 1, line),
    )  # fmt: skip
    shift = _HALF * (low - high) / (low - _2 * middle + high)
    gain = math.exp(-_QUARTER * (low - high) * shift)
    return np.float32(k) + shift, np.float32(gain * echoes[0][k, line]), np.float32(gain * echoes[1][k, line])


@compiled
def _repeat(line, count, place, value, face, orders, last, splat, echoes):
    """Pulses of the repetitions of one line's first ``count`` peaks, none from row ``last`` on."""
    for i in range(count):
        a, b = value[0, i], value[1, i]
        for j in range(i):
            c, d = value[0, j], value[1, j]
            at, both = place[i] + place[j] + _HALF, _2 * face
            real, imaginary = both * (a * c - b * d), both * (a * d + b * c)
            if at < last and abs(real) + abs(imaginary) > _SILENT:
                put_pulse(at, line, real, imaginary, splat, echoes)
        real, imaginary = a, b
        for order in range(2, orders + 1):
            at = np.float32(order) * (place[i] + _HALF) - _HALF
            real, imaginary = face * (real * a - imaginary * b), face * (real * b + imaginary * a)
            if at >= last or abs(real) + abs(imaginary) <= _SILENT:
                break
            put_pulse(at, line, real, imaginary, splat, echoes)


@compiled
def reverberate(echoes, splat, face, orders, nearest, peaks):
    """Add 2 rho a_i a_j at r_i + r_j and a_i^m rho^(m-1) at m r_i of each line's strongest interfaces.

    ``peaks`` is scratch: see :func:`peak_arrays`.
    """
    heights, rows, power, found, place, value = peaks
    last = np.float32(echoes[0].shape[0] + splat.shape[1])
    _strongest_rows(echoes, max(nearest, 1), heights, rows, power, found)
    for line in range(power.shape[1]):
        count = 0
        while count < PEAKS and heights[count, line] > _0:
            place[count], value[0, count], value[1, count] = _peak(echoes, rows[count, line], line)
            count += 1
        _repeat(np.uintp(line), count, place, value, face, orders, last, splat, echoes)


@compiled
def add_lens(echoes, lens, coupling):
    """Add what lines see of a face that does not couple: (1 - k) of the lens in air."""
    for k in range(echoes.shape[0]):
        for line in range(coupling.shape[0]):
            echoes[k, line] += lens[k] * (_1 - coupling[line])


@compiled
def ring_down(tables, rays, plane, scatterers, work, scatter):
    """Add the tail below each line's first gas, which the march has left in ``work.state``."""
    state, place, strength, tail = work.state, work.place, work.strength, tables.tail
    samples, lines = tables.row.shape[0], place.shape[1]
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
    """Scratch of :func:`reverberate`: powers and rows of each line's peaks, three rows of power, lines that peak there,
    places and values of one line's peaks.
    """
    return (
        np.zeros((PEAKS, lines), np.float32),
        np.zeros((PEAKS, lines), np.int32),
        np.zeros((3, lines), np.float32),
        np.zeros(lines + 1, np.int32),
        np.zeros(PEAKS, np.float32),
        np.zeros((2, PEAKS), np.float32),
    )
