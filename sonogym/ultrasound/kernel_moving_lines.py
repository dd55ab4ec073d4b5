# mypy: disable-error-code="no-untyped-def"
"""Scan lines through a patient who breathes, compiled: what :mod:`moving_lines` defines in torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sonogym.anatomy import stack_kernel
from sonogym.ultrasound.compilation import source_digest
from sonogym.ultrasound.kernel_arrays import Array, entry, spliced


class Bending(NamedTuple):
    """``node`` [m] where the pieces of a line meet, its ends too, ``rate`` [1/m] one over their length; the lines at
    which the field is ``read``, and between which of these each line lies (``lower``, ``upper``, ``share``).
    """

    node: Array
    rate: np.float32
    read: Array
    lower: Array
    upper: Array
    share: Array


@spliced
def _displaced(flat, start, shape, matrix, amplitude, bending, origin, direction, out):
    """``out`` (nodes, read, 3): X - x = -a u(x) [m] at the nodes of the lines that are read."""
    for node in range(bending.node.shape[0]):
        depth = bending.node[node]
        for number in range(bending.read.shape[0]):
            line = bending.read[number]
            x = origin[0, line] + depth * direction[0, line]
            y = origin[1, line] + depth * direction[1, line]
            z = origin[2, line] + depth * direction[2, line]
            for axis in range(3):
                out[node, number, axis] = -amplitude * stack_kernel.value(flat, axis, start, shape, matrix, x, y, z)


@spliced
def _follow(bending, moved, origin, direction, turn):
    """Straight pieces between the nodes, at which every line moves as its neighbours that were read."""
    for line in range(origin.shape[1]):
        lower, upper, share = bending.lower[line], bending.upper[line], bending.share[line]
        for axis in range(3):
            near = moved[0, lower, axis] + share * (moved[0, upper, axis] - moved[0, lower, axis])
            origin[axis, line] += near
            before = np.float32(0.0)
            for node in range(1, moved.shape[0]):
                far = moved[node, lower, axis] + share * (moved[node, upper, axis] - moved[node, lower, axis])
                slope = (far - near) * bending.rate
                if node == 1:
                    direction[axis, line] += slope
                else:
                    turn[node - 2, axis, line] = slope - before
                near, before = far, slope


def _entry_point(sources: str):
    """The loop over environments ``first`` to ``last``; ``sources`` as in :mod:`kernels`."""

    @entry
    def bend(first, last, index, field, bending, amplitude, origin, direction, room, turn):
        """Bend lines (envs, 3, lines) [m] in place into what they meet; ``turn`` (envs, knots, 3, lines).

        ``room`` (envs, nodes, read, 3) for the displacement.
        """
        sources  # noqa: B018
        for env in range(first, last):
            patient, moved = index[env], room[env]
            _displaced(
                field.flat, field.offset[patient], field.shape[patient], field.matrix[patient], amplitude[env], bending,
                origin[env], direction[env], moved,
            )  # fmt: skip
            _follow(bending, moved, origin[env], direction[env], turn[env])

    return bend


bend = _entry_point(source_digest())
