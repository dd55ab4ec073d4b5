"""Fused CPU path: point spread function, detection and display of a block of rows (see ``reference.focus``)."""

# numba infers the types of compiled functions, and ships none of its own
# mypy: disable-error-code="no-untyped-def,attr-defined"

from __future__ import annotations

import numpy as np

from sonogym.ultrasound.kernel_arrays import compiled, inlined, margin

PAIRS = 4  # pairs of taps along depth in one pass
_EXPONENT = np.int32(23)
_MANTISSA = np.int32(0x7FFFFF)
_ROOT_HALF = np.int32(0x3F3504F3)  # bits of sqrt(1/2): mantissas are taken from [sqrt(1/2), sqrt(2))
_TEN_LOG10_2 = np.float32(10.0 * np.log10(2.0))
# log2(m) = 2 / ln 2 (x + x^3/3 + x^5/5 + x^7/7), x = (m - 1) / (m + 1)
_LOG_1, _LOG_3, _LOG_5, _LOG_7 = (np.float32(2.0 / np.log(2.0) / n) for n in (1, 3, 5, 7))
_TINY = np.float32(1e-30)
_0, _HALF, _1, _255 = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(255.0)


@compiled
def mirror(padded, lines, reach):
    """Continue a row of ``lines`` values in the middle of ``padded`` past both ends by its mirror image."""
    start = margin(padded.shape[0], lines)
    for i in range(reach):
        padded[start - 1 - i] = padded[start + min(i, lines - 1)]
        padded[start + lines + i] = padded[start + max(lines - 1 - i, 0)]


@compiled
def blur(target, padded, taps, reach):
    """target = the middle of ``padded``, blurred across lines by a half kernel; two pairs of taps a pass."""
    lines = target.shape[0]
    start = margin(padded.shape[0], lines)
    centre, tap = padded[start : start + lines], taps[0]
    for line in range(lines):
        target[line] = tap * centre[line]
    for i in range(1, reach + 1, 2):
        near, far = taps[i], taps[i + 1]
        a, b = padded[start - i : start - i + lines], padded[start + i : start + i + lines]
        c, d = padded[start - i - 1 : start - i - 1 + lines], padded[start + i + 1 : start + i + 1 + lines]
        for line in range(lines):
            target[line] += near * (a[line] + b[line]) + far * (c[line] + d[line])


@compiled
def _pulse(target, source, start, width, axial):
    """Add to a block of rows the pulse along depth of ``source``, PAIRS pairs of taps a pass.

    Both are flat, and rows ``width`` long in both: a block is one long row. That of ``source`` begins at ``start``.
    """
    size, tap = target.shape[0], axial[0]
    centre = source[start : start + size]
    for n in range(size):
        target[n] += tap * centre[n]
    for i in range(1, axial.shape[0], PAIRS):
        t0, t1, t2, t3 = axial[i], axial[i + 1], axial[i + 2], axial[i + 3]
        up, down = start - i * width, start + i * width
        a0, a1, a2, a3 = source[up:], source[up - width :], source[up - 2 * width :], source[up - 3 * width :]
        b0, b1, b2, b3 = source[down:], source[down + width :], source[down + 2 * width :], source[down + 3 * width :]
        for n in range(size):
            near = t0 * (a0[n] + b0[n]) + t1 * (a1[n] + b1[n])
            target[n] += near + (t2 * (a2[n] + b2[n]) + t3 * (a3[n] + b3[n]))


@compiled
def _along_depth(first, count, source, echoes, axial, row_scale, lines, target):
    """What returns of a block: interfaces, and the pulse along depth on the scatter.

    Rows of ``source`` are as wide as those of ``target``, but begin with the lines; it has as many rows of zeros above
    and below as ``axial`` has taps past its first.
    """
    width = target.shape[1]
    start = margin(width, lines)
    for row in range(count):
        scale, echo, centre = row_scale[first + row, 1], echoes[first + row], target[row, start : start + lines]
        for line in range(lines):
            centre[line] = scale * echo[line]
    block = target.reshape(-1)[start : count * width]
    _pulse(block, source.reshape(-1), (first + axial.shape[0] - 1) * width, width, axial)


@compiled
def _continue(first, count, radius, row_scale, lines, echoes, beam):
    """Past the edges mirrored interfaces, and mirrored scatter turned by a quarter of a period: the other part of it,
    so that it adds by power to the lines that it mirrors (see ``reference.focus``).
    """
    (echo_real, echo_imaginary), (real, imaginary) = echoes, beam
    start = margin(real.shape[1], lines)
    for row in range(count):
        k = first + row
        scale = row_scale[k, 1]
        for i in range(radius[k]):
            low, high = min(i, lines - 1), max(lines - 1 - i, 0)
            for line, at in ((low, start - 1 - i), (high, start + lines + i)):
                a, b = scale * echo_real[k, line], scale * echo_imaginary[k, line]
                real[row, at] = a - (imaginary[row, start + line] - b)
                imaginary[row, at] = b + (real[row, start + line] - a)


@inlined
def _decibels(power):
    """10 log10: exponent and mantissa are taken from the bits."""
    bits = np.int32(np.float32(power).view(np.int32) - _ROOT_HALF)
    m = np.int32(np.int32(bits & _MANTISSA) + _ROOT_HALF).view(np.float32)
    x = (m - _1) / (m + _1)
    y = x * x
    series = x * (_LOG_1 + y * (_LOG_3 + y * (_LOG_5 + y * _LOG_7)))
    return _TEN_LOG10_2 * (np.float32(np.int32(bits >> _EXPONENT)) + series)


@compiled
def _display(real, imaginary, level, dynamic_range, grey):
    """uint8 grey of one row: 10 log10 |b|^2 + level, over the dynamic range."""
    scale = _255 / dynamic_range
    base = _255 + _HALF + level * scale
    for line in range(grey.shape[0]):
        power = real[line] * real[line] + imaginary[line] * imaginary[line] + _TINY
        grey[line] = np.int32(min(max(base + scale * _decibels(power), _0), _255))


@compiled
def focus(tables, scatter, echoes, beam, focused, level, dynamic_range, grey, iq):
    """Pulse along depth, each row's lateral kernel, grey values; ``iq`` (samples, lines, 2) is filled if not empty.

    ``scatter`` and ``echoes`` as in :class:`Workspace`; ``beam``: two blocks of rows with room for the lateral kernel;
    ``focused``: two rows.
    """
    (samples, lines), rows, (real, imaginary) = grey.shape, beam[0].shape[0], focused
    for first in range(0, samples, rows):
        count = min(rows, samples - first)
        _along_depth(first, count, scatter[0], echoes[0], tables.axial, tables.row, lines, beam[0])
        _along_depth(first, count, scatter[1], echoes[1], tables.axial, tables.row, lines, beam[1])
        _continue(first, count, tables.radius, tables.row, lines, echoes, beam)
        for row in range(count):
            k = first + row
            blur(real, beam[0][row], tables.lateral[k], tables.radius[k])
            blur(imaginary, beam[1][row], tables.lateral[k], tables.radius[k])
            _display(real, imaginary, level[k], dynamic_range, grey[k])
            for line in range(grey.shape[1] if iq.shape[0] else 0):
                iq[k, line, 0], iq[k, line, 1] = real[line], imaginary[line]
