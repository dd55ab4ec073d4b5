# mypy: disable-error-code="no-untyped-def"
"""A control step on the skin, compiled: what :mod:`sonogym.robot.surface_motion` defines in torch, in one pass."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from sonogym.anatomy.stack_kernel import at
from sonogym.anatomy.surface import CLEARANCE
from sonogym.geometry.kernel_pose import product, turned


@njit(cache=True, error_model="numpy")
def step(skin, clearance, index, quaternion, translation, command, press, settings, turn, shift, held):
    """Fill ``turn`` (envs, 4), ``shift`` (envs, 3) and ``held`` (envs,) of :meth:`SurfaceMotion.step`.

    ``skin`` and ``clearance`` are (flat, offset, shape, matrix) of their stacks, of no volume where there is none;
    ``press`` (envs,) [m]; ``settings`` duration, normal_step, margin, tolerance, iterations.
    """
    duration, normal_step, margin, tolerance, iterations = settings
    for env in range(len(index)):
        q = (quaternion[env, 0], quaternion[env, 1], quaternion[env, 2], quaternion[env, 3])
        axis = turned(q, (0.0, 0.0, 1.0))
        aside = turned(q, (duration * command[env, 0], duration * command[env, 1], 0.0))
        start = _along((translation[env, 0], translation[env, 1], translation[env, 2]), -press[env], axis)
        point, inward = _along(start, 1.0, aside), axis
        distance = 0.0
        for _ in range(iterations):
            distance, inward = _inward(skin, index[env], point, normal_step)
            point = _along(point, distance, inward)
        free = abs(distance) < tolerance and _inside(skin, clearance, index[env], point, margin)
        if not free:
            point, inward = start, axis
        held[env] = not free
        half = 0.5 * duration * command[env, 2]
        moved = product(_unit(product(_shortest_turn(axis, inward), q)), (math.cos(half), 0.0, 0.0, math.sin(half)))
        turn[env, 0], turn[env, 1], turn[env, 2], turn[env, 3] = _unit(moved)
        shift[env, 0], shift[env, 1], shift[env, 2] = _along(point, press[env], inward)


@njit(cache=True, error_model="numpy")
def _read(stack, volume, x, y, z):
    return float(at(stack, volume, np.float32(x), np.float32(y), np.float32(z)))


@njit(cache=True, error_model="numpy")
def _inward(skin, volume, point, span):
    """Distance to the skin, positive outside, and its smoothed inward normal."""
    x, y, z = point
    a = _read(skin, volume, x - span, y, z) - _read(skin, volume, x + span, y, z)
    b = _read(skin, volume, x, y - span, z) - _read(skin, volume, x, y + span, z)
    c = _read(skin, volume, x, y, z - span) - _read(skin, volume, x, y, z + span)
    length = max(math.sqrt(a * a + b * b + c * c), 1e-12)
    return _read(skin, volume, x, y, z), (a / length, b / length, c / length)


@njit(cache=True, error_model="numpy")
def _inside(skin, clearance, volume, point, margin):
    """Whether a point keeps ``margin`` from the border of the skin's grid, and CLEARANCE from where a scan is cut."""
    _, _, shape, matrix = skin
    for row in range(3):
        place, scale = matrix[volume, row, 3], 0.0
        for column in range(3):
            place += matrix[volume, row, column] * point[column]
            scale += matrix[volume, row, column] ** 2
        border = margin * math.sqrt(scale)
        if not border <= place <= shape[volume, row] - 1 - border:
            return False
    return len(clearance[1]) == 0 or _read(clearance, volume, point[0], point[1], point[2]) >= CLEARANCE


@njit(inline="always")
def _along(point, way, direction):
    return point[0] + way * direction[0], point[1] + way * direction[1], point[2] + way * direction[2]


@njit(inline="always")
def _shortest_turn(start, end):
    a, b, c = start
    d, e, f = end
    return 1.0 + a * d + b * e + c * f, b * f - c * e, c * d - a * f, a * e - b * d


@njit(inline="always")
def _unit(q):
    length = math.sqrt(q[0] ** 2 + q[1] ** 2 + q[2] ** 2 + q[3] ** 2)
    return q[0] / length, q[1] / length, q[2] / length, q[3] / length
