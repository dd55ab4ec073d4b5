# mypy: disable-error-code="no-untyped-def"
"""How the face presses on each line, compiled: what :mod:`contact`, :mod:`pressure`, :mod:`veins` define in torch."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sonogym.anatomy import stack_kernel
from sonogym.anatomy.bone import ASIDE
from sonogym.ultrasound import contact, pressure, veins
from sonogym.ultrasound.compilation import source_digest
from sonogym.ultrasound.kernel_arrays import Array, entry, inlined, spliced
from sonogym.ultrasound.voxel_word import TEXTURE_LEVELS

_0, _HALF, _1, _2, _3 = (np.float32(value) for value in (0.0, 0.5, 1.0, 2.0, 3.0))
_STEEPEST, _LEVER, _SOFTNESS = np.float32(contact.STEEPEST), np.float32(contact.LEVER), np.float32(contact.SOFTNESS)
_SUPPORT, _THINNEST = np.float32(contact.SUPPORT), np.float32(contact.THINNEST)
_FULL = np.float32(contact.GAP_FULL / contact.GAP_NONE)
_SHALLOWEST, _DEEPEST = np.float32(pressure.SHALLOWEST), np.float32(pressure.DEEPEST)
_SHARE, _AREA = np.float32(pressure.COLUMN_SHARE), np.float32(pressure.REFERENCE_AREA)
_FORCE, _LEAST_TOUCH = np.float32(pressure.REFERENCE_FORCE), np.float32(pressure.LEAST_TOUCH)
_CLOSING, _LEVELS = np.float32(1.0 - veins.LEFT_OPEN), np.float32(TEXTURE_LEVELS)
_ASIDE = np.float32(ASIDE)


class Stack(NamedTuple):
    """A :class:`~sonogym.anatomy.stack.VolumeStack` as arrays."""

    flat: Array
    offset: Array
    shape: Array
    matrix: Array


class Face(NamedTuple):
    """``read`` lines along which bone is looked for at each ``node`` [m]; ``pick`` and ``weight`` (4, lines) of
    :func:`sonogym.ultrasound.contact.spline`; ``stress`` (samples,) of :func:`~sonogym.ultrasound.veins.strip_stress`;
    ``area`` [m^2]; ``half_over_pitch`` (patients,) [1/m] of the lines, negative where voxel axes are left-handed, 0
    where lines share a point.
    """

    read: Array
    node: Array
    pick: Array
    weight: Array
    stress: Array
    area: np.float32
    half_over_pitch: Array


class Factors(NamedTuple):
    """(envs,) each: thickest ``gel`` [m], ``stiffness``, and the ``venous`` pressure [Pa]."""

    gel: Array
    stiffness: Array
    venous: Array


class Press(NamedTuple):
    """What is filled, the environment first: see :class:`sonogym.ultrasound.lines.Lines`."""

    indentation: Array
    column: Array
    coupling: Array
    slopes: Array
    closed: Array


@inlined
def _rounded(depth):
    """.5 ln(1 + e^(p/.5)) mm."""
    ratio = depth / _SOFTNESS
    return _SOFTNESS * (math.log1p(math.exp(-abs(ratio))) + max(ratio, _0))


@inlined
def _coupling(gap, gel):
    """1 - smoothstep(.12 g, g, gap), gap = A cos - p."""
    full = _FULL * gel
    t = min(max((gap - full) / (gel - full), _0), _1)
    return _1 - t * t * (_3 - _2 * t)


@spliced
def _columns(flat, start, shape, matrix, face, origin, direction, out):
    """Tissue above bone along the lines that are read: min over z of z + 2 max(d(z), 0)."""
    for number in range(face.read.shape[0]):
        line = face.read[number]
        out[number] = stack_kernel.column(
            flat, start, shape, matrix, face.node, _ASIDE, origin[0, line], origin[1, line], origin[2, line],
            direction[0, line], direction[1, line], direction[2, line],
        )  # fmt: skip


@spliced
def _meet(flat, start, shape, matrix, face, above, origin, direction, gel, indentation, column, coupling):
    """Where the skin meets each line; the mean of what touches, and of exp(A / d0) - 1.

    ``above`` tissue above bone where it was read; the other arrays as in :func:`press`, of one environment.
    """
    touching, push, lines = _0, _0, origin.shape[1]
    for line in range(lines):
        x, y, z = origin[0, line], origin[1, line], origin[2, line]
        depth = -stack_kernel.value(flat, 0, start, shape, matrix, x, y, z)
        lever = max(depth, _LEVER)
        a, b, c = lever * direction[0, line], lever * direction[1, line], lever * direction[2, line]
        behind = stack_kernel.value(flat, 0, start, shape, matrix, x - a, y - b, z - c)
        bone = _0
        for part in range(face.pick.shape[0]):
            bone += above[face.pick[part, line]] * face.weight[part, line]
        pushed_in = _rounded(depth)
        steep = min(pushed_in / min(max((behind + depth) / lever, _STEEPEST), _1), _HALF * _SUPPORT)
        left = max(min(bone, _SUPPORT - steep), _THINNEST)
        pressed = min(steep, left)
        indentation[line], column[line], coupling[line] = pressed, left, _coupling(pushed_in - depth, gel)
        touching += _1 - math.exp(-pressed / _SOFTNESS)
        push += math.expm1(pressed * _SHARE / min(max(bone + pressed, _SHALLOWEST), _DEEPEST))
    return touching / np.float32(lines), push / np.float32(lines)


@spliced
def _across(indentation, column, half_over_pitch, out):
    """dA/dl and d(D - A)/dl / (D - A) (2, lines) by central differences."""
    last = column.shape[0] - 1
    for line in range(1, last):
        out[0, line] = (indentation[line + 1] - indentation[line - 1]) * half_over_pitch
        out[1, line] = math.log(column[line + 1] / column[line - 1]) * half_over_pitch
    for row in range(2):
        out[row, 0], out[row, last] = out[row, 1], out[row, last - 1]


@spliced
def _close(ratio, stress, out):
    """Levels of the veins closed at each depth: (1 - LEFT_OPEN) smoothstep(P / P_v - 1/2), ``ratio`` P / P_v."""
    for sample in range(out.shape[0]):
        t = min(max(ratio * stress[sample] - _HALF, _0), _1)
        out[sample] = np.int32(math.ceil(_LEVELS * (_CLOSING * t * t * (_3 - _2 * t))))


@spliced
def _pressure(touching, push, stiffness, face_area):
    """P = F0 / A_c mean(exp(A / d0) - 1), F0 = 1 N sqrt(A_c / 840 mm^2)."""
    area = face_area * max(touching, _LEAST_TOUCH)
    return stiffness * _FORCE * math.sqrt(area / _AREA) / area * push


def _entry_point(sources: str):
    """The loop over environments ``first`` to ``last``; ``sources`` as in :mod:`kernels`."""

    @entry
    def press(first, last, index, skin, bone, face, factors, origin, direction, room, out):
        """Fill ``out`` for lines in patient coordinates: ``origin``, ``direction`` (envs, 3, lines) [m]."""
        sources  # noqa: B018
        for env in range(first, last):
            patient, above = index[env], room[env]
            indentation, column = out.indentation[env], out.column[env]
            _columns(
                bone.flat, bone.offset[patient], bone.shape[patient], bone.matrix[patient], face, origin[env],
                direction[env], above,
            )  # fmt: skip
            touching, push = _meet(
                skin.flat, skin.offset[patient], skin.shape[patient], skin.matrix[patient], face, above, origin[env],
                direction[env], factors.gel[env], indentation, column, out.coupling[env],
            )  # fmt: skip
            _across(indentation, column, face.half_over_pitch[patient], out.slopes[env])
            pressure = _pressure(touching, push, factors.stiffness[env], face.area)
            _close(pressure / factors.venous[env], face.stress, out.closed[env])

    return press


press = _entry_point(source_digest())
