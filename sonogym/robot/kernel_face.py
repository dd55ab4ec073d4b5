# mypy: disable-error-code="no-untyped-def"
"""What a probe's face feels, compiled: what :mod:`sonogym.robot.contact` defines in torch, in one pass."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from sonogym.robot.contact_force import DAMPING, LOSS_SPEED
from sonogym.ultrasound.contact import GAP_FULL, GAP_NONE, SOFTNESS
from sonogym.ultrasound.pressure import COLUMN_SHARE, DEEPEST, REFERENCE_AREA, REFERENCE_FORCE, SHALLOWEST

COLUMNS = 15  # numbers of a reading, in the order of ContactReading


@njit(cache=True, error_model="numpy")
def place(quaternion, translation, points, out):
    """``out`` (envs, points, 3) = ``points`` (points, 3) of the probe in the patient."""
    for env in range(len(quaternion)):
        w, x, y, z = (
            float(quaternion[env, 0]), float(quaternion[env, 1]), float(quaternion[env, 2]), float(quaternion[env, 3])
        )  # fmt: skip
        turn = (
            (1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)),
            (2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)),
            (2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)),
        )
        for i in range(len(points)):
            for row in range(3):
                out[env, i, row] = (
                    turn[row][0] * points[i, 0] + turn[row][1] * points[i, 1] + turn[row][2] * points[i, 2]
                    + translation[env, row]
                )  # fmt: skip


@njit(cache=True, error_model="numpy")
def feel(depth, column, centre, velocity, factors, spots, upright, area, sticking, out):
    """Fill ``out`` (envs, COLUMNS) from the ``depth`` (envs, lateral, elevation) of the face's points.

    ``column`` (envs, lateral) [m] is tissue above bone; ``velocity`` (envs, 3), empty at rest; ``factors`` (envs, 4)
    stiffness, friction, loss, gel; ``spots`` (lateral, elevation, 2) [m] the points, ``upright`` (lateral,) the cosine
    of their normals, ``area`` [m^2] of one; ``sticking`` [m/s].
    """
    for env in range(len(depth)):
        speed = _speed(velocity, env)
        rate = 1.0
        if len(velocity):
            v = float(velocity[env, 2])
            rate = max(1.0 + factors[env, 2] * math.tanh(v / LOSS_SPEED) + DAMPING * v, 0.0)
        _sum(depth[env], column[env], factors[env, 0], factors[env, 3], rate, spots, upright, area, out[env])
        out[env, 3] = centre[env]
        slide = -factors[env, 1] * out[env, 0] / max(speed, sticking)
        for axis in range(2):
            out[env, 1 + axis] = slide * velocity[env, axis] if len(velocity) else 0.0


@njit(cache=True, error_model="numpy")
def _speed(velocity, env):
    return math.hypot(velocity[env, 0], velocity[env, 1]) if len(velocity) else 0.0


@njit(cache=True, error_model="numpy")
def _touched(depth):
    """Sum of the points' share in the contact."""
    total = 0.0
    for value in depth.flat:
        total += 1.0 / (1.0 + math.exp(-float(value) / SOFTNESS))
    return total


@njit(cache=True, error_model="numpy")
def _sum(depth, column, stiffness, gel, rate, spots, upright, area, out):
    """Sums of one face over its columns: p = F0 / A_c (exp(delta / d0) - 1)."""
    touched = _touched(depth)
    contact = area * touched
    scale = stiffness * REFERENCE_FORCE * math.sqrt(contact / REFERENCE_AREA) / max(contact, 1e-9)
    rest, slope, force_scale, softness, peak, coupled, x, y = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(depth.shape[0]):
        for j in range(depth.shape[1]):
            value = float(depth[i, j])
            pressed = max(value, 0.0)
            bone = column[i] + pressed
            spring = min(max(bone, SHALLOWEST), DEEPEST) / COLUMN_SHARE
            elastic, share = scale * math.expm1(pressed / spring), upright[i] * area
            push = elastic * share
            rest += push
            x += push * spots[i, j, 0]
            y += push * spots[i, j, 1]
            if value > 0.0:
                slope += (elastic + scale) / spring * share
                force_scale += scale * share
            softness += 1.0 / (1.0 + math.exp(-value / SOFTNESS)) / bone
            peak = max(peak, elastic)
            coupled += _coupling(value, gel)
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
    for value in depth:
        total += max(-float(value), 0.0)
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
