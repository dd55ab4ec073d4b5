# mypy: disable-error-code="no-untyped-def"
"""One control step of an arm, compiled: what inverse_kinematics defines in torch, without its many small calls.

Every function below takes one environment; the arrays it works in are made once and passed down.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

ON_LIMIT = 1e-6  # rad: a joint this close to its limit is on it
POSE = 7  # numbers of a wanted pose: w x y z and the origin


@njit(cache=True, error_model="numpy")
def step_arms(model, limits, home, settings, duration, joint_position, wanted, out, reached):
    """Fill ``out`` (envs, joints) with the postures after ``duration`` [s], ``reached`` (envs, 7) with the poses there.

    ``model`` is (motion, axis, turns, tip) as in :class:`~sonogym.robot.chain.Chain`, the tip as [R | p]; ``limits``
    (3, joints) are lower, upper and speed; ``settings`` rotation_length, damping, posture_gain, posture_share.
    ``wanted`` is (envs, 7) a pose or (envs, 6) what is left to go [m, rad].
    """
    motion, axis, turns, tip = model
    envs, joints = joint_position.shape
    origins, axes = np.empty((joints, 3)), np.empty((joints, 3))
    frame, work, local = np.empty((3, 4)), np.empty((3, 4)), np.empty((3, 4))
    jacobian, error, pull, step = np.empty((6, joints)), np.empty(6), np.empty(joints), np.empty(joints)
    normal, left = np.empty((6, 6)), np.empty(6)
    for env in range(envs):
        q = joint_position[env]
        _forward(motion, axis, tip, q, frame, work, local, origins, axes)
        if wanted.shape[1] == POSE:
            _left_to_go(frame, wanted[env], error)
        else:
            error[:] = wanted[env]
        _jacobian(frame, origins, axes, turns, settings[0], jacobian, error)
        _posture_pull(q, home, limits, settings, duration, pull)
        _leave_out_blocked(q, limits, jacobian, error, pull)
        _least_squares(jacobian, error, pull, settings[1], normal, left, step)
        _bounded(q, step, limits, duration, out[env])
        _forward(motion, axis, tip, out[env], frame, work, local, origins, axes)
        reached[env, 0], reached[env, 1], reached[env, 2], reached[env, 3] = _quaternion(frame)
        for row in range(3):
            reached[env, 4 + row] = frame[row, 3]


@njit(cache=True, error_model="numpy")
def _forward(motion, axis, tip, q, frame, work, local, origins, axes):
    """``frame`` [R | p] of the tip, and origin and axis of each joint, in the base."""
    for row in range(3):
        for column in range(4):
            frame[row, column] = 1.0 if row == column else 0.0
    for joint in range(len(q)):
        angle = float(q[joint])
        sine, cosine = math.sin(angle), math.cos(angle)
        for at in range(12):
            m = motion[joint, at]
            local[at // 4, at % 4] = m[0] + m[1] * sine + m[2] * cosine + m[3] * angle
        _compose(frame, local, work)
        for row in range(3):
            origins[joint, row] = frame[row, 3]
            axes[joint, row] = (
                frame[row, 0] * axis[joint, 0] + frame[row, 1] * axis[joint, 1] + frame[row, 2] * axis[joint, 2]
            )
    _compose(frame, tip, work)


@njit(cache=True, error_model="numpy")
def _compose(frame, step, work):
    """frame <- frame x step."""
    for row in range(3):
        for column in range(4):
            value = frame[row, 3] if column == 3 else 0.0
            for k in range(3):
                value += frame[row, k] * step[k, column]
            work[row, column] = value
    for row in range(3):
        for column in range(4):
            frame[row, column] = work[row, column]


@njit(cache=True, error_model="numpy")
def _left_to_go(frame, goal, error):
    """Linear [m] and rotation vector [rad] from the tip to the goal: log of q_goal q_tip^-1."""
    w1, x1, y1, z1 = float(goal[0]), float(goal[1]), float(goal[2]), float(goal[3])
    w2, x2, y2, z2 = _quaternion(frame)
    w = w1 * w2 + x1 * x2 + y1 * y2 + z1 * z2
    x = -w1 * x2 + x1 * w2 - y1 * z2 + z1 * y2
    y = -w1 * y2 + x1 * z2 + y1 * w2 - z1 * x2
    z = -w1 * z2 - x1 * y2 + y1 * x2 + z1 * w2
    sine = math.sqrt(x * x + y * y + z * z)
    factor = 2.0 if sine < 1e-9 else 2.0 * math.atan2(sine, abs(w)) / sine
    if w < 0.0:
        factor = -factor
    error[3], error[4], error[5] = factor * x, factor * y, factor * z
    for row in range(3):
        error[row] = goal[4 + row] - frame[row, 3]


@njit(cache=True, error_model="numpy")
def _quaternion(m):
    """w x y z of a rotation, from its largest component (Shepperd 1978)."""
    trace = m[0, 0] + m[1, 1] + m[2, 2]
    if trace > max(m[0, 0], m[1, 1], m[2, 2]):
        s = 2.0 * math.sqrt(1.0 + trace)
        return 0.25 * s, (m[2, 1] - m[1, 2]) / s, (m[0, 2] - m[2, 0]) / s, (m[1, 0] - m[0, 1]) / s
    if m[0, 0] >= m[1, 1] and m[0, 0] >= m[2, 2]:
        s = 2.0 * math.sqrt(1.0 + m[0, 0] - m[1, 1] - m[2, 2])
        return (m[2, 1] - m[1, 2]) / s, 0.25 * s, (m[0, 1] + m[1, 0]) / s, (m[0, 2] + m[2, 0]) / s
    if m[1, 1] >= m[2, 2]:
        s = 2.0 * math.sqrt(1.0 - m[0, 0] + m[1, 1] - m[2, 2])
        return (m[0, 2] - m[2, 0]) / s, (m[0, 1] + m[1, 0]) / s, 0.25 * s, (m[1, 2] + m[2, 1]) / s
    s = 2.0 * math.sqrt(1.0 - m[0, 0] - m[1, 1] + m[2, 2])
    return (m[1, 0] - m[0, 1]) / s, (m[0, 2] + m[2, 0]) / s, (m[1, 2] + m[2, 1]) / s, 0.25 * s


@njit(cache=True, error_model="numpy")
def _jacobian(frame, origins, axes, turns, length, jacobian, error):
    """Columns axis x (tip - origin), or the axis of a joint that slides; angles and their error times ``length``."""
    for joint in range(len(turns)):
        x, y, z = axes[joint]
        if turns[joint]:
            lx, ly, lz = (
                frame[0, 3] - origins[joint, 0],
                frame[1, 3] - origins[joint, 1],
                frame[2, 3] - origins[joint, 2],
            )
            column = (y * lz - z * ly, z * lx - x * lz, x * ly - y * lx, length * x, length * y, length * z)
        else:
            column = (x, y, z, 0.0, 0.0, 0.0)
        for row in range(6):
            jacobian[row, joint] = column[row]
    for row in range(3, 6):
        error[row] *= length


@njit(cache=True, error_model="numpy")
def _posture_pull(q, home, limits, settings, duration, pull):
    """z: towards home, at most a share of the joint's speed."""
    for joint in range(len(q)):
        most = settings[3] * limits[2, joint] * duration
        pull[joint] = min(max(settings[2] * duration * (home[joint] - q[joint]), -most), most)


@njit(cache=True, error_model="numpy")
def _leave_out_blocked(q, limits, jacobian, error, pull):
    """A joint on its limit that descent of |e|^2 would push outward takes no part."""
    for joint in range(len(q)):
        descent = 0.0
        for row in range(6):
            descent += jacobian[row, joint] * error[row]
        if (q[joint] >= limits[1, joint] - ON_LIMIT and descent > 0.0) or (
            q[joint] <= limits[0, joint] + ON_LIMIT and descent < 0.0
        ):
            pull[joint] = 0.0
            for row in range(6):
                jacobian[row, joint] = 0.0


@njit(cache=True, error_model="numpy")
def _least_squares(jacobian, error, pull, damping, normal, left, step):
    """dq = z + J^T (J J^T + lambda^2 I)^-1 (e - J z), lambda^2 = damping^2 + |e|^2 / 2, by Cholesky."""
    joints = len(pull)
    squared = damping * damping
    for row in range(6):
        squared += 0.5 * error[row] * error[row]
        left[row] = error[row]
        for joint in range(joints):
            left[row] -= jacobian[row, joint] * pull[joint]
    for row in range(6):
        for column in range(row + 1):
            value = squared if row == column else 0.0
            for joint in range(joints):
                value += jacobian[row, joint] * jacobian[column, joint]
            for k in range(column):
                value -= normal[row, k] * normal[column, k]
            normal[row, column] = math.sqrt(value) if row == column else value / normal[column, column]
    for row in range(6):
        for k in range(row):
            left[row] -= normal[row, k] * left[k]
        left[row] /= normal[row, row]
    for row in range(5, -1, -1):
        for k in range(row + 1, 6):
            left[row] -= normal[k, row] * left[k]
        left[row] /= normal[row, row]
    for joint in range(joints):
        step[joint] = pull[joint]
        for row in range(6):
            step[joint] += jacobian[row, joint] * left[row]


@njit(cache=True, error_model="numpy")
def _bounded(q, step, limits, duration, after):
    """Shortened as a whole where a joint would be too fast, then within the limits."""
    excess = 1.0
    for joint in range(len(q)):
        excess = max(excess, abs(step[joint]) / (limits[2, joint] * duration))
    for joint in range(len(q)):
        after[joint] = min(max(q[joint] + step[joint] / excess, limits[0, joint]), limits[1, joint])
