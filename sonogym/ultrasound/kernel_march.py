"""Fused CPU path, part 1: sound down the scan lines of one environment, row by row (see ``reference.march``)."""

# numba infers the types of compiled functions, and ships none of its own
# mypy: disable-error-code="no-untyped-def,attr-defined"

from __future__ import annotations

import math

import numba
import numpy as np

from sonogym.anatomy.tissues import Tissue
from sonogym.ultrasound.kernel_refraction import bend_line, turn_lines
from sonogym.ultrasound.kernel_speckle import (
    FAST,
    add_noise,
    echo_word,
    hash_scatterers,
    imaginary_part,
    real_part,
    scatter_row,
)  # fmt: skip
from sonogym.ultrasound.propagation import FLAT
from sonogym.ultrasound.voxel_word import ORDER_MASK, ORDER_SHIFT, SHARP_MASK, SHARP_SHIFT, TEXTURE_SHIFT

FLOOR = np.float32(1e-12)  # transmission below this is shadow; denormal numbers would be 50-100 times slower
ROWS = 15  # line-long scratch rows that the march needs
GAS_ROW, GAS_STRENGTH, GAS_PLACE = 12, 13, 14  # of these: first gas of each line (see ``long_paths.GasSurface``)
_255, _TEXTURE_SHIFT = np.uint32(255), np.uint32(TEXTURE_SHIFT)
_ORDER_SHIFT, _ORDER_MASK = np.uint32(ORDER_SHIFT), np.uint32(ORDER_MASK)
_SHARP_SHIFT, _SHARP_MASK = np.uint32(SHARP_SHIFT), np.uint32(SHARP_MASK)
_0, _HALF, _1, _2, _3 = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(2.0), np.float32(3.0)
_FLAT2 = np.float32(FLAT**2)
_SHIFT = np.float32(1e-3)  # m: furthest an interface is moved from the middle of the step
GEL, _AIR, _LUNG = np.uint32(int(Tissue.GEL)), np.uint32(int(Tissue.AIR)), np.uint32(int(Tissue.LUNG))


@numba.njit(inline="always")
def _clamped(value, count):
    """Whole voxel index at or below ``value`` that leaves room for its upper neighbour, and the remainder in [0, 1]."""
    value = min(max(value, _0), np.float32(count - 1))
    base = min(np.int64(value), max(count - 2, 0))
    return base, value - np.float32(base)


@numba.njit(inline="always")
def _slopes(near, far, u, v, w):
    """Value and gradient of a trilinear cell from its corners (b, c) = 00, 10, 01, 11 at both ends of axis a."""
    n0, n1, n2, n3 = near
    d0, d1, d2, d3 = far[0] - n0, far[1] - n1, far[2] - n2, far[3] - n3
    a0, a1, a2, a3 = n0 + u * d0, n1 + u * d1, n2 + u * d2, n3 + u * d3
    low, high = d0 + v * (d1 - d0), d2 + v * (d3 - d2)
    below, above = a0 + v * (a1 - a0), a2 + v * (a3 - a2)
    ga = low + w * (high - low)
    gb = (a1 - a0) + w * ((a3 - a2) - (a1 - a0))
    return below + w * (above - below), ga, gb, above - below


@numba.njit(inline="always")
def _order(word):
    return np.float32(np.int32((word >> _ORDER_SHIFT) & _ORDER_MASK))


@numba.njit(inline="always")
def _sharp(word):
    return np.float32(np.int32((word >> _SHARP_SHIFT) & _SHARP_MASK))


@numba.njit(inline="always")
def _corners(voxels, shape, stride, a, b, c):
    """Voxels around a point in voxel units, those near and those far along the first axis, and where it lies within."""
    i, u = _clamped(a, shape[0])
    j, v = _clamped(b, shape[1])
    k, w = _clamped(c, shape[2])
    p, q, r = stride[0], stride[1], stride[2]
    at = i * p + j * q + k * r
    n0, n1, n2, n3 = voxels[at], voxels[at + q], voxels[at + r], voxels[at + q + r]
    at += p
    f0, f1, f2, f3 = voxels[at], voxels[at + q], voxels[at + r], voxels[at + q + r]
    return (n0, n1, n2, n3), (f0, f1, f2, f3), u, v, w


@numba.njit(inline="always")
def _normal(voxels, shape, stride, a, b, c):
    """Gradient of the order map at a point in voxel units."""
    (n0, n1, n2, n3), (f0, f1, f2, f3), u, v, w = _corners(voxels, shape, stride, a, b, c)
    _, ga, gb, gc = _slopes(
        (_order(n0), _order(n1), _order(n2), _order(n3)), (_order(f0), _order(f1), _order(f2), _order(f3)), u, v, w
    )
    return ga, gb, gc


@numba.njit(inline="always")
def _place(voxels, shape, stride, a, b, c):
    """Value and gradient of the sharp map at a point in voxel units."""
    (n0, n1, n2, n3), (f0, f1, f2, f3), u, v, w = _corners(voxels, shape, stride, a, b, c)
    return _slopes(
        (_sharp(n0), _sharp(n1), _sharp(n2), _sharp(n3)), (_sharp(f0), _sharp(f1), _sharp(f2), _sharp(f3)), u, v, w
    )


@numba.njit(inline="always")
def _exp(x):
    """exp(x) of x <= 0 to 1e-4: 1 / (e^(-x/16))^16 by its series, a fifth of the library's time."""
    t = x * np.float32(-1 / 16)
    root = _1 + t * (_1 + t * (_HALF + t * (np.float32(1 / 6) + t * np.float32(1 / 24))))
    root *= root
    root *= root
    root *= root
    return _1 / (root * root)


@numba.njit(inline="always")
def _echo(cosine, pair, i, j):
    """(reflection that casts the shadow, specular echo, diffuse echo) of an interface met at ``cosine``."""
    sine2 = pair[i, j, 2] * pair[i, j, 2] * (_1 - cosine * cosine)
    z1, z2 = pair[i, j, 0] * math.sqrt(max(_1 - sine2, _0)), pair[i, j, 1] * cosine
    reflection = abs((z2 - z1) / (z2 + z1)) if sine2 < _1 else _1
    x = _1 - cosine  # arccos(1 - x)^2 = 2x + x^2/3 + 4x^3/45 + x^4/35 + ...
    angle2 = x * (_2 + x * (np.float32(1 / 3) + x * (np.float32(4 / 45) + x * np.float32(1 / 35))))
    strength = reflection + pair[i, j, 3]
    return min(reflection, pair[i, j, 7]), strength * _exp(angle2 * pair[i, j, 4]), cosine * pair[i, j, 5]


@numba.njit(fastmath=FAST, error_model="numpy")
def put_pulse(place, line, real, imaginary, splat, echoes):
    """Add a pulse centred at the fractional row ``place``."""
    centre = np.int64(math.floor(place + _HALF))
    fraction = place - np.float32(centre)
    pulse = np.uintp((fraction + _HALF) * np.float32(splat.shape[0] - 1) + _HALF)
    first = centre - (splat.shape[1] >> 1)
    for tap in range(max(-first, 0), min(splat.shape[1], echoes.shape[1] - first)):
        row, height = np.uintp(first + tap), splat[pulse, np.uintp(tap)]
        echoes[0, row, line] += height * real
        echoes[1, row, line] += height * imaginary


@numba.njit(fastmath=FAST, error_model="numpy")
def _changes(changed, word, before):
    """Lines whose label differs from the one before are listed in ``changed``; returns how many."""
    count = 0
    for line in range(word.shape[0]):
        changed[count] = np.uint32(line)
        count += (word[line] & _255) != before[line]
    return count


@numba.njit(fastmath=FAST, error_model="numpy")
def _interfaces(
    k, lines, word, before, grid, rays, offset, place, material, scatterers, pair, splat, weight, passed, echoes, rows,
    refracts,
):  # fmt: skip
    """Echoes of the ``lines`` whose label changes between rows k - 1 and k, and what they let through: 1 - R^2."""
    voxels, shape, stride = grid
    origin, direction = rays
    for line in lines:
        label, last = word[line] & _255, before[line]
        advance, middle = place[line] - material[line], _HALF * (place[line] + material[line])
        da, db, dc = direction[0, line], direction[1, line], direction[2, line]
        a = origin[0, line] + da * middle + offset[0]
        b = origin[1, line] + db * middle + offset[1]
        c = origin[2, line] + dc * middle + offset[2]
        value, sa, sb, sc = _place(voxels, shape, stride, a, b, c)
        slope, length2 = sa * da + sb * db + sc * dc, da * da + db * db + dc * dc
        limit = max(_SHIFT, _HALF * advance)
        shift = _0
        if slope * slope > _FLAT2 * length2:
            shift = min(max((pair[last, label, 6] - value) / slope, -limit), limit)
        ga, gb, gc = _normal(voxels, shape, stride, a + da * shift, b + db * shift, c + dc * shift)
        rise2, cosine = ga * ga + gb * gb + gc * gc, _1
        if rise2 > _FLAT2:
            cosine = min(abs(ga * da + gb * db + gc * dc) / math.sqrt(rise2 * length2), _1)
        row = max(np.float32(k) - _HALF + shift / advance, -_HALF)
        reflection, specular, diffuse = _echo(cosine, pair, last, label)
        ones, amplitude = echo_word(a, b, c, scatterers), passed[line] * weight
        real, imaginary = amplitude * (specular + diffuse * real_part(ones)), amplitude * diffuse * imaginary_part(ones)
        put_pulse(row, line, real, imaginary, splat, echoes)
        if label in (_AIR, _LUNG) and rows[GAS_STRENGTH, line] == _0:
            rows[GAS_ROW, line], rows[GAS_PLACE, line] = np.float32(k), place[line]
            rows[GAS_STRENGTH, line] = passed[line] * reflection
        if refracts and rise2 > _FLAT2 and rows[GAS_STRENGTH, line] == _0:
            bend_line(line, rays, middle + shift, (ga, gb, gc), pair[last, label, 2])
        passed[line] *= _1 - reflection * reflection
        before[line] = label


@numba.njit(fastmath=FAST, error_model="numpy")
def blur(target, padded, taps, radius):
    """target = symmetric blur across lines of what lies in padded[radius : radius + lines] and beyond."""
    lines = target.shape[0]
    centre, tap = padded[radius : radius + lines], taps[0]
    for line in range(lines):
        target[line] = tap * centre[line]
    for i in range(1, radius + 1):
        left, right, tap = padded[radius - i : radius - i + lines], padded[radius + i : radius + i + lines], taps[i]
        for line in range(lines):
            target[line] += tap * (left[line] + right[line])


@numba.njit(fastmath=FAST, error_model="numpy")
def _soften(shade, padded, taps, radius):
    """Shadows of one row blurred across lines, mirrored at the edges."""
    lines = shade.shape[0]
    centre = padded[radius : radius + lines]
    for line in range(lines):
        centre[line] = shade[line]
    for i in range(radius):
        padded[radius - 1 - i] = centre[min(i, lines - 1)]
        padded[radius + lines + i] = centre[max(lines - 1 - i, 0)]
    blur(shade, padded, taps, radius)


@numba.njit(fastmath=FAST, error_model="numpy")
def _material(place, depth, indentation, inverse):
    """Depth in the undeformed tissue: r - A S(t)."""
    for line in range(place.shape[0]):
        t = min(depth[line] * inverse[line], _1)
        place[line] = depth[line] - indentation[line] * (_1 - t * t * (_3 - _2 * t))


@numba.njit(fastmath=FAST, error_model="numpy")
def _crowd(gain, scale, crowding, depth, inverse):
    """Scale of scatter where the tissue is compressed: dZ/dz - 1 goes as t (1 - t)."""
    for line in range(gain.shape[0]):
        t = min(depth[line] * inverse[line], _1)
        gain[line] = scale[line] * math.sqrt(_1 + crowding[line] * t * (_1 - t))


@numba.njit(fastmath=FAST, error_model="numpy")
def along(target, origin, direction, place, offset):
    """Points at ``place`` [m] along the lines, one coordinate in voxels."""
    for line in range(target.shape[0]):
        target[line] = origin[line] + direction[line] * place[line] + offset


@numba.njit(fastmath=FAST, error_model="numpy")
def _gather(words, voxels, shape, stride, a, b, c):
    """The voxel nearest to each point, held at the border."""
    ta, tb, tc = np.float32(shape[0] - 1), np.float32(shape[1] - 1), np.float32(shape[2] - 1)
    sa, sb, sc = np.int32(stride[0]), np.int32(stride[1]), np.int32(stride[2])
    for line in range(words.shape[0]):
        i = np.int32(min(max(a[line], _0), ta) + _HALF)
        j = np.int32(min(max(b[line], _0), tb) + _HALF)
        m = np.int32(min(max(c[line], _0), tc) + _HALF)
        words[line] = np.uint32(np.int32(i * sa) + np.int32(j * sb) + np.int32(m * sc))
    for line in range(words.shape[0]):
        words[line] = voxels[words[line]]


@numba.njit(fastmath=FAST, error_model="numpy")
def _advance(words, tissue, texture, amplitude, shade, passed, depth):
    """Scatter amplitude and transmission at this sample; transmission and depth at the next."""
    for line in range(words.shape[0]):
        word = words[line]
        label = word & _255
        amplitude[line] = tissue[label, 0] * texture[word >> _TEXTURE_SHIFT]
        shade[line] = passed[line]
        passed[line] = max(passed[line] * tissue[label, 1], FLOOR)
        depth[line] += tissue[label, 2]


@numba.njit(fastmath=FAST, error_model="numpy")
def march(
    grid, geometry, scatterers, noise_seed, tables, plane, scatter, echoes, rows, words, keep, labels, transmission,
    refracts,
):  # fmt: skip
    """Fill ``scatter`` and ``echoes`` (2, samples, lines) with one elevation plane; planes after the first are added.

    ``grid``: voxels, shape, stride; ``geometry``: origin, direction, elevation, indentation, column, coupling, scale,
    crowding, turn, knot; ``scatterers``: primes, cells, seed; ``plane``: number, offsets, weights; ``tables``: as
    unpacked below. With ``refracts`` or knots the lines of ``geometry`` are bent in place.
    """
    voxels, shape, stride = grid
    origin, direction, elevation, indentation, column, coupling, scale, crowding, turn, knot = geometry
    primes, cells, seed = scatterers
    step, row_scale, splat, penumbra, penumbra_radius, tissue, pair, texture, occupied = tables
    number, plane_offset, plane_weight = plane
    rays = (origin, direction)
    samples, lines = scatter.shape[1], scatter.shape[2]
    a, b, c, depth, material = rows[0, :lines], rows[1, :lines], rows[2, :lines], rows[3, :lines], rows[4, :lines]
    passed, amplitude, shade, inverse, place, gain = (
        rows[5, :lines], rows[6, :lines], rows[7, :lines], rows[8, :lines], rows[9, :lines], rows[11, :lines],
    )  # fmt: skip
    word, near, far, before = words[0], words[1], words[2], words[3]
    offset, pressed = np.zeros(3, np.float32), crowding.max() > _0
    for line in range(lines):
        depth[line] = _HALF * step
        material[line] = -indentation[line] - _HALF * step
        inverse[line] = _1 / column[line]
        passed[line], gain[line] = coupling[line], scale[line]
        before[line] = GEL
        rows[GAS_STRENGTH, line] = _0
    for k in range(samples):
        for axis in range(3):
            offset[axis] = elevation[axis] * plane_offset[k]
        _material(place, depth, indentation, inverse)
        if pressed:
            _crowd(gain, scale, crowding, depth, inverse)
        if knot.shape[0]:
            turn_lines(rays, turn, knot, material, place, rows[GAS_STRENGTH])
        along(a, origin[0], direction[0], place, offset[0])
        along(b, origin[1], direction[1], place, offset[1])
        along(c, origin[2], direction[2], place, offset[2])
        _gather(word, voxels, shape, stride, a, b, c)
        count = _changes(far, word, before)
        _interfaces(
            k, far[:count], word, before, grid, rays, offset, place, material, scatterers, pair, splat, plane_weight[0],
            passed, echoes, rows, refracts,
        )  # fmt: skip
        for line in range(lines):
            material[line] = place[line]
        _advance(word, tissue, texture, amplitude, shade, passed, depth)
        if keep:
            for line in range(lines):
                labels[k, line] = np.uint8(word[line] & _255)
                transmission[k, line] = shade[line]
        if penumbra_radius[k] > 0:
            _soften(shade, rows[10], penumbra[k], penumbra_radius[k])
        level = row_scale[k, 0] * plane_weight[1]
        for line in range(lines):
            amplitude[line] *= level * gain[line] * shade[line]
        hash_scatterers(near, far, a, b, c, primes, cells, seed, occupied)
        scatter_row(scatter[0, k], scatter[1, k], near, far, a, cells, amplitude, number > 0)
        if number == 0:
            add_noise(scatter[0, k], scatter[1, k], near, np.uint32(k * lines), row_scale[k, 2], noise_seed)
