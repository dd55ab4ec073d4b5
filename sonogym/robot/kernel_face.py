# mypy: disable-error-code="no-untyped-def"
"""What a probe's face feels, compiled: what :mod:`sonogym.robot.contact` defines in torch, in one pass."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from sonogym.anatomy.stack_kernel import at, column
from sonogym.geometry.kernel_pose import turned
from sonogym.robot.contact_force import DAMPING, LOSS_SPEED
from sonogym.ultrasound.contact import GAP_FULL, GAP_NONE, SOFTNESS
from sonogym.ultrasound.pressure import COLUMN_SHARE, DEEPEST, REFERENCE_AREA, REFERENCE_FORCE, SHALLOWEST

COLUMNS = 15  # numbers of a reading, in the order of ContactReading


@njit(cache=True, error_model="numpy")
def feel(skin, bone, node, aside, index, quaternion, translation, velocity, factors, face, area, sticking, out):
    """Fill ``out`` (envs, COLUMNS) for faces at ``quaternion`` (envs, 4), ``translation`` (envs, 3).

    ``skin`` and ``bone`` are (flat, offset, shape, matrix) of their stacks, ``node`` and ``aside`` those of
    :func:`~sonogym.anatomy.bone.column_above_bone`; ``velocity`` (envs, 3), empty at rest; ``factors`` (envs, 4)
    stiffness, friction, loss, gel; ``face`` its points (lateral, elevation, 3) [m] and normals (lateral, 3), ``area``
    [m^2] of a point; ``sticking`` [m/s].
    """
    points, normals = face
    depth, tissue = np.empty(points.shape[:2]), np.empty(len(normals))
    for env in range(len(index)):
        pose = (
            (quaternion[env, 0], quaternion[env, 1], quaternion[env, 2], quaternion[env, 3]),
            (translation[env, 0], translation[env, 1], translation[env, 2]),
        )
        _beneath(skin, bone, node, aside, index[env], pose, face, depth, tissue)
        speed = _speed(velocity, env)
        rate = 1.0
        if len(velocity):
            v = float(velocity[env, 2])
            rate = max(1.0 + factors[env, 2] * math.tanh(v / LOSS_SPEED) + DAMPING * v, 0.0)
        _sum(depth, tissue, factors[env, 0], factors[env, 3], rate, points, normals[:, 2], area, out[env])
        out[env, 3] = -at(skin, index[env], *pose[1])
        slide = -factors[env, 1] * out[env, 0] / max(speed, sticking)
        for axis in range(2):
            out[env, 1 + axis] = slide * velocity[env, axis] if len(velocity) else 0.0


@njit(cache=True, error_model="numpy")
def _beneath(skin, bone, node, aside, volume, pose, face, depth, tissue):
    """Depth of a face's points under the undeformed skin, and the tissue between its middle row and bone."""
    points, normals = face
    flat, offset, shape, matrix = bone
    middle = points.shape[1] // 2
    for i in range(points.shape[0]):
        for j in range(points.shape[1]):
            x, y, z = turned(pose[0], (points[i, j, 0], points[i, j, 1], points[i, j, 2]))
            place = (x + pose[1][0], y + pose[1][1], z + pose[1][2])
            depth[i, j] = -at(skin, volume, *place)
            if j == middle:
                a, b, c = turned(pose[0], (normals[i, 0], normals[i, 1], normals[i, 2]))
                tissue[i] = column(
                    flat, offset[volume], shape[volume], matrix[volume], node, aside,
                    place[0], place[1], place[2], a, b, c,
                )  # fmt: skip


@njit(cache=True, error_model="numpy")
def _speed(velocity, env):
    return math.hypot(velocity[env, 0], velocity[env, 1]) if len(velocity) else 0.0


@njit(cache=True, error_model="numpy")
def _touched(depth):
    """Sum of the points' share in the contact."""
    total = 0.0
    for deep in depth.flat:
        total += 1.0 / (1.0 + math.exp(-deep / SOFTNESS))
    return total


@njit(cache=True, error_model="numpy")
def _sum(depth, tissue, stiffness, gel, rate, spots, upright, area, out):
    """Sums of one face over its columns: p = F0 / A_c (exp(delta / d0) - 1)."""
    touched = _touched(depth)
    contact = area * touched
    scale = stiffness * REFERENCE_FORCE * math.sqrt(contact / REFERENCE_AREA) / max(contact, 1e-9)
    rest, slope, force_scale, softness, peak, coupled, x, y = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(depth.shape[0]):
        for j in range(depth.shape[1]):
            deep = depth[i, j]
            pressed = max(deep, 0.0)
            bone = tissue[i] + pressed
            spring = min(max(bone, SHALLOWEST), DEEPEST) / COLUMN_SHARE
            elastic, share = scale * math.expm1(pressed / spring), upright[i] * area
            push = elastic * share
            rest += push
            x += push * spots[i, j, 0]
            y += push * spots[i, j, 1]
            if deep > 0.0:
                slope += (elastic + scale) / spring * share
                force_scale += scale * share
            softness += 1.0 / (1.0 + math.exp(-deep / SOFTNESS)) / bone
            peak = max(peak, elastic)
            coupled += _coupling(deep, gel)
    last, count = depth.shape[0] - 1, depth.size
    out[0], out[4], out[5], out[6] = rest * rate, touched / softness, slope * rate, contact
    out[7], out[8] = peak * rate, coupled / count
    out[9], out[10] = x / max(rest, 1e-6), y / max(rest, 1e-6)
    out[11] = _gap(depth[last]) - _gap(depth[0])
    out[12] = _gap(depth[:, depth.shape[1] - 1]) - _gap(depth[:, 0])
    out[13], out[14] = force_scale, (rest + force_scale) / max(slope, 1e-6)


@njit(cache=True, error_model="numpy")
def _gap(depth):
    """Mean height of points above the skin."""
    total = 0.0
    for deep in depth:
        total += max(-deep, 0.0)
    return total / len(depth)


@njit(cache=True, error_model="numpy")
def _coupling(depth, gel):
    """1 - smoothstep(.12 g, g, gap) of :func:`sonogym.ultrasound.contact.coupling_of`."""
    ratio = depth / SOFTNESS
    gap = SOFTNESS * (math.log1p(math.exp(-abs(ratio))) + max(ratio, 0.0)) - depth
    full = GAP_FULL / GAP_NONE * gel
    t = min(max((gap - full) / (gel - full), 0.0), 1.0)
    return 1.0 - t * t * (3.0 - 2.0 * t)


def empty(envs: int) -> np.ndarray:
    """Room for readings."""
    return np.empty((envs, COLUMNS), np.float32)
