# mypy: disable-error-code="no-untyped-def"
"""What an image shows of a target, compiled: what :mod:`sonogym.sim.sight` defines in torch, in one pass."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from sonogym.anatomy.bricks import STRIDE
from sonogym.geometry.kernel_pose import turned

STEPS = 12  # places between face and point at which tissue is looked up
_X, _Y, _Z = STRIDE


@njit(cache=True, error_model="numpy")
def look(voxels, index, quaternion, translation, points, fan, elevation, free, opaque, inside, clear):
    """Fill ``inside`` and ``clear`` (envs, points) for ``points`` (envs, points, 3) [m] of the patients.

    ``voxels`` are (flat, offset, shape, leap, matrix) of their stack; ``fan`` is whether the probe is linear, its
    width, radius and angle, the depth, and the least thickness; ``elevation`` (2, places) depths and widths [m];
    ``free`` the share of the way that nothing ``opaque`` (tissues,) may stand in.
    """
    thickest = max(elevation[1].max(), fan[5])
    for env in range(len(index)):
        q = (quaternion[env, 0], quaternion[env, 1], quaternion[env, 2], quaternion[env, 3])
        origin = (translation[env, 0], translation[env, 1], translation[env, 2])
        for i in range(points.shape[1]):
            point = (points[env, i, 0], points[env, i, 1], points[env, i, 2])
            away = (point[0] - origin[0], point[1] - origin[1], point[2] - origin[2])
            x, y, z = turned((q[0], -q[1], -q[2], -q[3]), away)
            inside[env, i], clear[env, i] = False, False
            if abs(y) > 0.5 * thickest:
                continue
            shown, aside, ahead = _in_fan(x, y, z, fan, elevation)
            if shown:
                a, b, c = turned(q, (aside, np.float32(0.0), ahead))
                start = (a + origin[0], b + origin[1], c + origin[2])
                inside[env, i] = True
                clear[env, i] = not _hidden(voxels, index[env], start, point, free, opaque)


@njit(cache=True, error_model="numpy")
def gains(views, index, covered, out):
    """``out`` (envs, poses): how many points of ``views`` (patients, poses, points) are not yet ``covered``."""
    for env in range(len(index)):
        for pose in range(out.shape[1]):
            count = 0
            for i in range(covered.shape[1]):
                count += views[index[env], pose, i] & ~covered[env, i]
            out[env, pose] = count


@njit(cache=True, error_model="numpy")
def _in_fan(x, y, z, fan, elevation):
    """Whether a point of the probe's frame is shown, and where x and z of its scan line start."""
    linear, width, radius, angle, depth, thickness = fan
    if linear:
        across, span, aside, ahead = x / width, z, x, x * np.float32(0.0)
    else:
        turn = math.atan2(x, z + radius)
        across, span = turn / angle, math.hypot(x, z + radius) - radius
        aside, ahead = np.float32(radius * math.sin(turn)), np.float32(radius * (math.cos(turn) - 1.0))
    if not (abs(across) <= 0.5 and 0.0 < span <= depth):
        return False, aside, ahead
    wide = max(np.interp(span, elevation[0], elevation[1]), thickness)
    return abs(y) <= 0.5 * wide, aside, ahead


@njit(cache=True, error_model="numpy")
def _hidden(voxels, volume, start, point, free, opaque):
    """Whether an opaque voxel lies on the free share of the way."""
    flat, offset, shape, leap, matrix = voxels
    for step in range(STEPS):
        share = free * (step + 0.5) / STEPS
        at = offset[volume]
        for row in range(3):
            place = matrix[volume, row, 3]
            for axis in range(3):
                place += matrix[volume, row, axis] * (start[axis] + share * (point[axis] - start[axis]))
            cell = min(max(int(np.rint(place)), 0), shape[volume, row] - 1)
            at += cell * (_X if row == 0 else _Y if row == 1 else _Z) + (cell >> 1) * leap[volume, row]
        if opaque[flat[at, 0]]:
            return True
    return False
