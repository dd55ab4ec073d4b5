"""Fused CPU path: echoes of the interfaces of a block of rows, as one list (see ``propagation.Plane._interfaces``).

The list is worked through in stages, so that the processor fetches many corners at once and computes many interfaces
at once. ``found`` (2, n) int32: line and row in the block; ``corner`` uint32 and ``met``: columns, see below.
"""

# numba infers the types of compiled functions, and ships none of its own
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math

import numpy as np

from sonogym.ultrasound.kernel_arrays import address, ahead, compiled, inlined
from sonogym.ultrasound.kernel_contact import pressed_cosine
from sonogym.ultrasound.kernel_speckle import complex_normal, echo_word
from sonogym.ultrasound.long_paths import COMET_ORDERS, FAINTEST
from sonogym.ultrasound.propagation import FLAT, FURTHEST_SHIFT
from sonogym.ultrasound.voxel_word import ORDER_MASK, ORDER_SHIFT, SHARP_MASK, SHARP_SHIFT

LINE, ROW = 0, 1  # of ``found``
# Columns of ``met`` and ``corner`` lie a constant apart: else the compiler cannot see that they never overlap. A row of
# the most lines fits (of a closed circle marched twice); an odd number of cache lines keeps columns apart in the cache.
LIST = 3 * 4096 + 16
(
    A, B, C, U, V, W, DIRECTION_A, DIRECTION_B, DIRECTION_C, ADVANCE, Z1, Z2, RATIO, WALL, LOBE, DIFFUSE, MIDDLE,
    SHADOW, PLACE, CROSSING, REAL, IMAGINARY, LOST, NORMAL_A, NORMAL_B, NORMAL_C,
    ALONG, SHEAR, LATERAL, ABOVE, SPACING, LOOP,
) = (np.uintp(LIST * column) for column in range(32))  # fmt: skip
N0, N1, N2, N3, F0, F1, F2, F3, CELL, NEXT_A, NEXT_B, NEXT_C, DRAWN = (np.uintp(LIST * column) for column in range(13))
MET, CORNER = 32 * LIST, 13 * LIST
_255 = np.uint32(255)
_ORDER, _ORDERS, _SHARP, _SHARPS = (np.uint32(n) for n in (ORDER_SHIFT, ORDER_MASK, SHARP_SHIFT, SHARP_MASK))
_0, _HALF, _1, _2 = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(2.0)
_NEXT = np.uintp(1)
FLAT2, _SHIFT, _FAINTEST = np.float32(FLAT**2), np.float32(FURTHEST_SHIFT), np.float32(FAINTEST)


@inlined
def _base(value, count):
    """Whole voxel index at or below ``value`` that leaves room for its upper neighbour."""
    return min(np.int32(value), max(np.int32(count - 2), np.int32(0)))


@inlined
def _axes(values):
    return values[0], values[1], values[2]


@inlined
def _held(value, count):
    return min(max(value, _0), np.float32(count - 1))


@inlined
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


@inlined
def _orders(words):
    a, b, c, d = words
    return _part(a, _ORDER, _ORDERS), _part(b, _ORDER, _ORDERS), _part(c, _ORDER, _ORDERS), _part(d, _ORDER, _ORDERS)


@inlined
def _sharps(words):
    a, b, c, d = words
    return _part(a, _SHARP, _SHARPS), _part(b, _SHARP, _SHARPS), _part(c, _SHARP, _SHARPS), _part(d, _SHARP, _SHARPS)


@inlined
def _part(word, shift, mask):
    return np.float32(np.int32((word >> shift) & mask))


@inlined
def _corners(corner, i):
    near = (corner[N0 + i], corner[N1 + i], corner[N2 + i], corner[N3 + i])
    return near, (corner[F0 + i], corner[F1 + i], corner[F2 + i], corner[F3 + i])


@inlined
def _exp(x):
    """exp(x) of x <= 0 to 1e-4: 1 / (e^(-x/16))^16 by its series, a fifth of the library's time."""
    t = x * np.float32(-1 / 16)
    root = _1 + t * (_1 + t * (_HALF + t * (np.float32(1 / 6) + t * np.float32(1 / 24))))
    root *= root
    root *= root
    root *= root
    return _1 / (root * root)


@inlined
def _echo(cosine, z1, z2, ratio, wall, lobe, diffuse):
    """(|R|, specular echo, diffuse echo) of an interface met at ``cosine``; see ``acoustics.interface_table``."""
    sine2 = ratio * ratio * (_1 - cosine * cosine)
    through, back = z1 * math.sqrt(max(_1 - sine2, _0)), z2 * cosine
    reflection = abs((back - through) / (back + through)) if sine2 < _1 else _1
    x = _1 - cosine  # arccos(1 - x)^2 = 2x + x^2/3 + 4x^3/45 + x^4/35 + ...
    angle2 = x * (_2 + x * (np.float32(1 / 3) + x * (np.float32(4 / 45) + x * np.float32(1 / 35))))
    return reflection, (reflection + wall) * _exp(angle2 * lobe), cosine * diffuse


@compiled
def _places(count, first, rays, plane, pair, place, across, word, found, met):
    """Of each interface: its labels' row of ``pair``, its line, and the point midway between the samples."""
    origin, direction, elevation = rays.origin, rays.direction, rays.elevation
    for n in range(count):
        i, line, row = np.uintp(n), np.uintp(found[LINE, n]), np.uintp(found[ROW, n])
        near, far = place[row, line], place[row + _NEXT, line]
        middle = _HALF * (near + far)
        out = across[row, line] if plane.beside else plane.offset[np.uintp(first) + row]
        met[ADVANCE + i], met[PLACE + i] = far - near, middle
        met[CROSSING + i] = np.float32(first + found[ROW, n]) - _HALF
        da, db, dc = direction[0, line], direction[1, line], direction[2, line]
        met[DIRECTION_A + i], met[DIRECTION_B + i], met[DIRECTION_C + i] = da, db, dc
        met[A + i] = origin[0, line] + da * middle + elevation[0] * out
        met[B + i] = origin[1, line] + db * middle + elevation[1] * out
        met[C + i] = origin[2, line] + dc * middle + elevation[2] * out
        change = pair[np.uintp(word[row, line] & _255), np.uintp(word[row + _NEXT, line] & _255)]
        met[Z1 + i], met[Z2 + i], met[RATIO + i], met[WALL + i] = change[0], change[1], change[2], change[3]
        met[LOBE + i], met[MIDDLE + i], met[SHADOW + i] = change[4], change[6], change[7]
        met[DIFFUSE + i] = plane.rough[np.uintp(first) + row] * change[5]


@compiled
def _draw(count, scatterers, corner, met):
    """The random number of each place."""
    for n in range(count):
        i = np.uintp(n)
        corner[DRAWN + i] = echo_word(met[A + i], met[B + i], met[C + i], scatterers)


@compiled
def _cells(count, grid, corner, met):
    """The cell that holds each point, and where in it that is."""
    shape, (p, q, r), (over_p, over_q, over_r) = grid.shape, _axes(grid.stride), _axes(grid.leap)
    for n in range(count):
        i = np.uintp(n)
        a, b, c = _held(met[A + i], shape[0]), _held(met[B + i], shape[1]), _held(met[C + i], shape[2])
        whole_a, whole_b, whole_c = _base(a, shape[0]), _base(b, shape[1]), _base(c, shape[2])
        met[U + i], met[V + i], met[W + i] = a - np.float32(whole_a), b - np.float32(whole_b), c - np.float32(whole_c)
        corner[CELL + i] = np.uint32(
            address(whole_a, p, over_p) + address(whole_b, q, over_q) + address(whole_c, r, over_r)
        )
        corner[NEXT_A + i] = np.uint32(ahead(whole_a, p, over_p))
        corner[NEXT_B + i], corner[NEXT_C + i] = (
            np.uint32(ahead(whole_b, q, over_q)),
            np.uint32(ahead(whole_c, r, over_r)),
        )


@compiled
def _fetch(count, voxels, corner):
    """The eight voxels of each cell; nothing waits for them yet, so that many are under way at once."""
    for n in range(count):
        i = np.uintp(n)
        at, q, r = np.uintp(corner[CELL + i]), np.uintp(corner[NEXT_B + i]), np.uintp(corner[NEXT_C + i])
        corner[N0 + i], corner[N1 + i], corner[N2 + i], corner[N3 + i] = (
            voxels[at], voxels[at + q], voxels[at + r], voxels[at + q + r],
        )  # fmt: skip
        at += np.uintp(corner[NEXT_A + i])
        corner[F0 + i], corner[F1 + i], corner[F2 + i], corner[F3 + i] = (
            voxels[at], voxels[at + q], voxels[at + r], voxels[at + q + r],
        )  # fmt: skip


@compiled
def _cross(count, corner, met):
    """Move each point along its line to where the sharp map crosses the middle of the two labels' orders."""
    for n in range(count):
        i = np.uintp(n)
        da, db, dc = met[DIRECTION_A + i], met[DIRECTION_B + i], met[DIRECTION_C + i]
        near, far = _corners(corner, i)
        value, sa, sb, sc = _slopes(_sharps(near), _sharps(far), met[U + i], met[V + i], met[W + i])
        slope, length2, advance = sa * da + sb * db + sc * dc, da * da + db * db + dc * dc, met[ADVANCE + i]
        limit, crossed = max(_SHIFT, _HALF * advance), slope * slope > FLAT2 * length2
        shift = (met[MIDDLE + i] - value) / (slope if crossed else _1)
        shift = min(max(shift, -limit), limit) if crossed else _0
        met[CROSSING + i] = max(met[CROSSING + i] + shift / advance, -_HALF)
        met[PLACE + i] += shift
        met[A + i], met[B + i], met[C + i] = met[A + i] + da * shift, met[B + i] + db * shift, met[C + i] + dc * shift


@compiled
def _reflect(count, pressed, elevation, corner, met):
    """Echo at unit transmission, with the angle from the gradient of the order map."""
    for n in range(count):
        i = np.uintp(n)
        da, db, dc = met[DIRECTION_A + i], met[DIRECTION_B + i], met[DIRECTION_C + i]
        near, far = _corners(corner, i)
        _, ga, gb, gc = _slopes(_orders(near), _orders(far), met[U + i], met[V + i], met[W + i])
        rise2, length2 = ga * ga + gb * gb + gc * gc, da * da + db * db + dc * dc
        if pressed:
            stretch = (met[ALONG + i], met[SHEAR + i], met[LATERAL + i], met[ABOVE + i])
            cosine = pressed_cosine((ga, gb, gc), (da, db, dc), (elevation[0], elevation[1], elevation[2]), stretch)
        else:
            cosine = min(abs(ga * da + gb * db + gc * dc) / math.sqrt(max(rise2, FLAT2) * length2), _1)
        reflection, specular, diffuse = _echo(
            cosine if rise2 > FLAT2 else _1,
            met[Z1 + i], met[Z2 + i], met[RATIO + i], met[WALL + i], met[LOBE + i], met[DIFFUSE + i],
        )  # fmt: skip
        met[LOST + i] = min(reflection, met[SHADOW + i])
        real, imaginary = complex_normal(corner[DRAWN + i])
        met[REAL + i], met[IMAGINARY + i] = specular + diffuse * real, diffuse * imaginary
        met[NORMAL_A + i], met[NORMAL_B + i], met[NORMAL_C + i] = ga, gb, gc


@compiled
def meet(count, first, grid, rays, plane, pressed, scatterers, pair, place, across, word, found, corner, met):
    """Fill ``met`` for the first ``count`` interfaces ``found`` in the block of rows that begins with ``first``."""
    _places(count, first, rays, plane, pair, place, across, word, found, met)
    _draw(count, scatterers, corner, met)
    _cells(count, grid, corner, met)
    _fetch(count, grid.voxels, corner)
    _cross(count, corner, met)
    _cells(count, grid, corner, met)
    _fetch(count, grid.voxels, corner)
    _reflect(count, pressed, rays.elevation, corner, met)


@inlined
def put_pulse(place, line, real, imaginary, splat, echoes):
    """Add a pulse centred at the fractional row ``place``."""
    echo_real, echo_imaginary = echoes
    centre = np.int64(math.floor(place + _HALF))
    fraction = place - np.float32(centre)
    pulse = np.uintp((fraction + _HALF) * np.float32(splat.shape[0] - 1) + _HALF)
    first = centre - (splat.shape[1] >> 1)
    for tap in range(max(-first, 0), min(splat.shape[1], echo_real.shape[0] - first)):
        row, height = np.uintp(first + tap), splat[pulse, np.uintp(tap)]
        echo_real[row, line] += height * real
        echo_imaginary[row, line] += height * imaginary


@compiled
def put_pulses(count, found, met, splat, echoes):
    """Add the pulses of a list of interfaces."""
    for n in range(count):
        i = np.uintp(n)
        put_pulse(met[CROSSING + i], np.uintp(found[LINE, n]), met[REAL + i], met[IMAGINARY + i], splat, echoes)


@compiled
def put_comet_tails(count, found, met, thickest, splat, echoes):
    """Add what bounces in the layers up to ``thickest`` samples above interfaces (see ``Plane._comet_tail``)."""
    for n in range(count):
        i, line = np.uintp(n), np.uintp(found[LINE, n])
        spacing, loop = met[SPACING + i], met[LOOP + i]
        real, imaginary, place = loop * met[REAL + i], loop * met[IMAGINARY + i], met[CROSSING + i]
        order = 0
        while order < COMET_ORDERS and spacing <= thickest and abs(real) + abs(imaginary) > _FAINTEST:
            order += 1
            put_pulse(place + np.float32(order) * spacing, line, real, imaginary, splat, echoes)
            real, imaginary = loop * real, loop * imaginary
