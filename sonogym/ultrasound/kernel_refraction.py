"""Fused CPU path of :mod:`sonogym.ultrasound.refraction` and of the knots in moving lines."""

# numba infers the types of compiled functions, and ships none of its own
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math

import numpy as np

from sonogym.ultrasound.kernel_arrays import compiled
from sonogym.ultrasound.refraction import SMALLEST_CHANGE

_SMALLEST = np.float32(SMALLEST_CHANGE)
_0, _1 = np.float32(0.0), np.float32(1.0)


@compiled
def bend_line(line, rays, place, normal, ratio):
    """Turn one line at ``place`` [m] along it, in place: its origin moves so that it still passes that point."""
    origin, direction = rays.origin, rays.direction
    da, db, dc = direction[0, line], direction[1, line], direction[2, line]
    ga, gb, gc = normal
    length, slope = math.sqrt(da * da + db * db + dc * dc), math.sqrt(ga * ga + gb * gb + gc * gc)
    along = (da * ga + db * gb + dc * gc) / (length * slope)
    cosine2 = _1 - ratio * ratio * (_1 - along * along)
    if abs(ratio - _1) <= _SMALLEST or cosine2 <= _0 or along == _0:
        return
    share = (math.copysign(math.sqrt(cosine2), along) - ratio * along) * length / slope
    for axis, before, across in ((0, da, ga), (1, db, gb), (2, dc, gc)):
        after = ratio * before + share * across
        origin[axis, line] += (before - after) * place
        direction[axis, line] = after


@compiled
def turn_lines(rays, before, place, gas):
    """Turn in place the lines that came past a knot between ``before`` and ``place`` [m]; those that met gas stay."""
    origin, direction, turn = rays.origin, rays.direction, rays.turn
    for i in range(rays.knot.shape[0]):
        at = rays.knot[i]
        for line in range(place.shape[0]):
            if before[line] < at <= place[line] and gas[line] == _0:
                for axis in range(3):
                    origin[axis, line] -= turn[i, axis, line] * at
                    direction[axis, line] += turn[i, axis, line]
