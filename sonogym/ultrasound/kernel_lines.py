# mypy: disable-error-code="no-untyped-def"
"""Scan lines for the fused path, compiled: what the pose decides in :mod:`sonogym.ultrasound.lines`, env by env.

Every entry point is a loop over environments ``first`` to ``last``: threads take some each. Lines begin in patient
coordinates (:func:`cast`), are bent by breath (:mod:`kernel_moving_lines`), met by the skin
(:mod:`kernel_face_contact`), and end in voxels (:func:`place`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sonogym.anatomy.bricks import STRIDE
from sonogym.ultrasound.compilation import source_digest
from sonogym.ultrasound.kernel_arrays import Array, compiled, entry, exact, spliced
from sonogym.ultrasound.speckle import PRIMES

_0, _HALF, _1, _3_HALVES, _2, _4, _6 = (np.float32(value) for value in (0.0, 0.5, 1.0, 1.5, 2.0, 4.0, 6.0))
_2_THIRDS = np.float32(2.0 / 3.0)
_PRIMES, _STRIDE = np.array(PRIMES, np.uint32), np.array(STRIDE, np.int32)


class Batch(NamedTuple):
    """:class:`sonogym.ultrasound.lines.Lines` as arrays, the environment first in all but ``knot``."""

    start: Array
    shape: Array
    stride: Array
    leap: Array
    origin: Array
    direction: Array
    elevation: Array
    indentation: Array
    column: Array
    slopes: Array
    closed: Array
    coupling: Array
    scale: Array
    crowding: Array
    turn: Array
    primes: Array
    cells: Array
    seed: Array
    noise_seed: Array
    level: Array
    dynamic_range: Array
    tissue: Array
    haze: Array
    occupied: Array
    knot: Array


class Patients(NamedTuple):
    """Voxels of all patients (:class:`~sonogym.anatomy.bricks.BrickStack`): ``spacing`` [m], lattice ``cells``."""

    offset: Array
    shape: Array
    leap: Array
    matrix: Array
    spacing: Array
    cells: Array


class Pulse(NamedTuple):
    """``overlap`` (taps,) of the pulse with itself at ``lag`` (taps,) [lattice cells]."""

    overlap: Array
    lag: Array


@exact
def _rotation(q):
    """Rows of the matrix of a unit quaternion."""
    w, x, y, z = q[0], q[1], q[2], q[3]
    x2, y2, z2 = _2 * x, _2 * y, _2 * z
    wx, wy, wz = w * x2, w * y2, w * z2
    xx, xy, xz, yy, yz, zz = x * x2, x * y2, x * z2, y * y2, y * z2, z * z2
    return (
        (_1 - (yy + zz), xy - wz, xz + wy),
        (xy + wz, _1 - (xx + zz), yz - wx),
        (xz - wy, yz + wx, _1 - (xx + yy)),
    )


@exact
def _turned(m, x, y, z):
    return (
        m[0][0] * x + m[0][1] * y + m[0][2] * z,
        m[1][0] * x + m[1][1] * y + m[1][2] * z,
        m[2][0] * x + m[2][1] * y + m[2][2] * z,
    )


@exact
def _move(m, shift, vectors, out):
    """``out`` (3, lines) = m ``vectors`` + shift; both may be one array."""
    for line in range(out.shape[1]):
        x, y, z = _turned(m, vectors[0, line], vectors[1, line], vectors[2, line])
        out[0, line], out[1, line], out[2, line] = x + shift[0], y + shift[1], z + shift[2]


@exact
def _first_axis(linear, axis):
    """The voxel axis closest to the probe's depth axis."""
    x, y, z = _turned(linear, axis[0], axis[1], axis[2])
    best = 1 if abs(y) > abs(x) else 0
    return 2 if abs(z) > max(abs(x), abs(y)) else best


@compiled
def _passed(pulse, x, y, z):
    """Power that the pulse passes of noise along direction cosines: sum_ij w_i w_j C(d_ij) (beam.axial_power)."""
    total = _0
    for i in range(pulse.lag.shape[0]):
        t, u, v = abs(x * pulse.lag[i]), abs(y * pulse.lag[i]), abs(z * pulse.lag[i])
        if t >= _2 or u >= _1 or v >= _1:
            break
        far = _2 - t
        linear = _2_THIRDS - t * t + _HALF * t * t * t if t < _1 else far * far * far / _6
        total += pulse.overlap[i] * linear * (_1 - u) * (_1 - v)
    return total


@spliced
def _even_speckle(pulse, spacing, direction, indentation, column, scale, crowding):
    """Speckle has its power along any line, and ``crowding`` 4 t (1 - t) gives back what pressing takes of it."""
    for line in range(direction.shape[1]):
        x, y, z = direction[0, line] * spacing, direction[1, line] * spacing, direction[2, line] * spacing
        power = _passed(pulse, x, y, z)
        steepest = _1 + _3_HALVES * indentation[line] / column[line]
        scale[line] /= math.sqrt(power)
        crowding[line] = _4 * (power / _passed(pulse, x * steepest, y * steepest, z * steepest) - _1)


@spliced
def _to_grid(rows, shift, origin, direction, turn):
    """Lines from patient coordinates to voxels, in place."""
    still = (_0, _0, _0)
    _move(rows, shift, origin, origin)
    _move(rows, still, direction, direction)
    for knot in range(turn.shape[0]):
        _move(rows, still, turn[knot], turn[knot])


@spliced
def _place(env, patient, turn, patients, batch):
    """Lines in voxels of their patient, the axis closest to the beam first, and where these lie in memory."""
    m = patients.matrix[patient]
    rows = ((m[0, 0], m[0, 1], m[0, 2]), (m[1, 0], m[1, 1], m[1, 2]), (m[2, 0], m[2, 1], m[2, 2]))
    a = _first_axis(rows, (turn[0][2], turn[1][2], turn[2][2]))
    b, c = (a + 1) % 3, (a + 2) % 3
    rows = (rows[a], rows[b], rows[c])
    _to_grid(rows, (m[a, 3], m[b, 3], m[c, 3]), batch.origin[env], batch.direction[env], batch.turn[env])
    out = batch.elevation[env]
    out[0], out[1], out[2] = _turned(rows, turn[0][1], turn[1][1], turn[2][1])
    for number in range(3):
        axis = (a + number) % 3
        batch.shape[env, number], batch.leap[env, number] = patients.shape[patient, axis], patients.leap[patient, axis]
        batch.stride[env, number], batch.primes[env, number] = _STRIDE[axis], _PRIMES[axis]
    batch.start[env], batch.cells[env] = patients.offset[patient], patients.cells[patient]


def _entry_points(sources: str):
    """:func:`cast` and :func:`place`; ``sources`` as in :mod:`kernels`."""

    @entry
    def cast(first, last, quaternion, translation, start, along, origin, direction):
        """Lines of the probe, ``start`` and ``along`` (3, lines), in patient coordinates: ``origin``, ``direction``."""
        sources  # noqa: B018
        for env in range(first, last):
            turn, shift = _rotation(quaternion[env]), translation[env]
            _move(turn, (shift[0], shift[1], shift[2]), start, origin[env])
            _move(turn, (_0, _0, _0), along, direction[env])

    @entry
    def place(first, last, quaternion, index, patients, pulse, batch):
        """Lines from patient coordinates to voxels, and their speckle; ``scale`` is multiplied."""
        sources  # noqa: B018
        for env in range(first, last):
            patient = index[env]
            _place(env, patient, _rotation(quaternion[env]), patients, batch)
            _even_speckle(
                pulse, patients.spacing[patient], batch.direction[env], batch.indentation[env], batch.column[env],
                batch.scale[env], batch.crowding[env],
            )  # fmt: skip

    return cast, place


cast, place = _entry_points(source_digest())
