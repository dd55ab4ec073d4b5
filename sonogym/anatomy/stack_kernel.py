"""Fused CPU path of :meth:`VolumeStack.trilinear` and :func:`column_above_bone`: eager torch takes ten times longer."""

# numba infers the types of compiled functions, and ships none of its own
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any, no_type_check

import numba
import numpy as np

_0 = np.float32(0.0)
_FAST = {"contract", "nsz", "arcp"}
_BARE: dict[str, Any] = {"_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_inner = numba.njit(fastmath=_FAST, error_model="numpy", **_BARE)


@_inner
@no_type_check
def _cell(value, count):
    """Whole index that leaves room for its upper neighbour, how far that is, and the remainder in [0, 1] or NaN."""
    top = np.float32(count - 1)
    held = value if value > _0 else _0  # NaN reads the first voxel, and spoils the remainder
    held = held if held < top else top
    base = min(np.int64(held), max(count - 2, 0))
    return base, np.int64(count > 1), held - np.float32(base) if value == value else value


@_inner
@no_type_check
def value(flat, channel, start, shape, m, x, y, z):
    """One ``channel`` of the volume that begins at ``start``, at a patient point."""
    wide, long = shape[1], shape[2]
    i, p, u = _cell(m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3], shape[0])
    j, q, v = _cell(m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3], wide)
    k, r, w = _cell(m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3], long)
    at = start + (i * wide + j) * long + k
    p, q = p * wide * long, q * long
    n0, n1 = flat[at, channel], flat[at + r, channel]
    n2, n3 = flat[at + q, channel], flat[at + q + r, channel]
    at += p
    f0, f1 = flat[at, channel], flat[at + r, channel]
    f2, f3 = flat[at + q, channel], flat[at + q + r, channel]
    a0, a1, a2, a3 = n0 + u * (f0 - n0), n1 + u * (f1 - n1), n2 + u * (f2 - n2), n3 + u * (f3 - n3)
    low, high = a0 + v * (a2 - a0), a1 + v * (a3 - a1)
    return low + w * (high - low)


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
@no_type_check
def at(stack, volume, x, y, z):
    """First channel of one volume of ``stack`` (flat, offset, shape, matrix) at a patient point."""
    flat, offset, shape, matrix = stack
    return value(flat, 0, offset[volume], shape[volume], matrix[volume], x, y, z)


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
@no_type_check
def read(flat, offset, shape, matrix, index, points, out):
    """``out`` (envs, points, channels): the first channels of ``flat`` at ``points`` (envs, points, 3) [m]."""
    for env in range(points.shape[0]):
        volume = index[env]
        start, size, m = offset[volume], shape[volume], matrix[volume]
        for i in range(points.shape[1]):
            x, y, z = points[env, i, 0], points[env, i, 1], points[env, i, 2]
            for channel in range(out.shape[2]):
                out[env, i, channel] = value(flat, channel, start, size, m, x, y, z)


@_inner
@no_type_check
def column(flat, start, shape, m, node, aside, x, y, z, a, b, c):
    """Tissue above bone from a patient point along (a, b, c): no node past the answer is read."""
    least, near = node[node.shape[0] - 1], _0
    for i in range(node.shape[0]):
        depth = node[i]
        if i and node[i - 1] >= least:
            break
        far = value(flat, 0, start, shape, m, x + a * depth, y + b * depth, z + c * depth)
        if i and near > _0 and far <= _0:
            least = min(least, node[i - 1] + (depth - node[i - 1]) * near / (near - far))
        least = min(least, depth + aside * max(far, _0))
        near = far
    return least


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
@no_type_check
def shallowest(flat, offset, shape, matrix, index, origin, direction, node, aside, out):
    """``out`` (envs, lines) of :func:`sonogym.anatomy.bone.column_above_bone`."""
    for env in range(origin.shape[0]):
        volume = index[env]
        start, size, m = offset[volume], shape[volume], matrix[volume]
        for line in range(origin.shape[1]):
            out[env, line] = column(
                flat, start, size, m, node, aside,
                origin[env, line, 0], origin[env, line, 1], origin[env, line, 2],
                direction[env, line, 0], direction[env, line, 1], direction[env, line, 2],
            )  # fmt: skip
