"""Scan lines through a patient who breathes: straight in the room, bent in the tissue of the scan.

What a line meets at x is the material X = x - a u(x) of :mod:`sonogym.anatomy.breathing`, so in the scan's frame the
line is a curve. It is followed by straight pieces between knots on the curve; on the standard planes of a procedural
and a real patient, C5-2v, one piece errs by up to 11 mm at a full breath, six (five knots) by 1.7 mm, .5 mm in 95 %
(benchmarks/breathing.py).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonogym.anatomy.breathing import displacement
from sonogym.anatomy.stack import VolumeStack

KNOTS = 5
READ = 17  # lines at which the smooth field is read; those between are interpolated


class Rays(NamedTuple):
    """Scan lines in patient coordinates [m]: at each depth of ``knot`` [m] ``turn`` is added to the direction."""

    origin: Float[Tensor, "envs lines 3"]
    direction: Float[Tensor, "envs lines 3"]
    turn: Float[Tensor, "envs knots lines 3"]
    knot: Float[Tensor, " knots"]


def straight(origin: Float[Tensor, "envs lines 3"], direction: Float[Tensor, "envs lines 3"]) -> Rays:
    """Lines without knots."""
    return Rays(origin, direction, origin.new_zeros(len(origin), 0, *origin.shape[1:]), origin.new_zeros(0))


def carried(
    rays: Rays, field: VolumeStack, index: Int[Tensor, " envs"], amplitude: Float[Tensor, " envs"], depth: float
) -> Rays:
    """Straight ``rays`` of length ``depth`` [m] as the material of the scan that they meet at ``amplitude`` (envs,)."""
    node, read = nodes(depth).to(amplitude.device), lines_read(rays.origin.shape[1]).to(amplitude.device)
    points = rays.origin[:, None, read] + node[:, None, None] * rays.direction[:, None, read]
    moved = -amplitude.to(points)[:, None, None, None] * displacement(field, points, index)
    lower, upper, share = (part.to(read.device) for part in neighbours(rays.origin.shape[1]))
    moved = torch.lerp(moved[:, :, lower], moved[:, :, upper], share[:, None].to(moved))
    slope = (moved[:, 1:] - moved[:, :-1]) / (depth / (KNOTS + 1))
    return Rays(rays.origin + moved[:, 0], rays.direction + slope[:, 0], slope[:, 1:] - slope[:, :-1], node[1:-1])


def nodes(depth: float) -> Float[Tensor, " nodes"]:
    """Depths [m] between which lines of length ``depth`` are straight: the face, the knots and the end."""
    return torch.linspace(0.0, depth, KNOTS + 2)


def lines_read(count: int) -> Int[Tensor, " read"]:
    """The lines, of ``count``, at which the field is read."""
    return torch.linspace(0.0, count - 1.0, min(READ, count)).round().long()


def neighbours(count: int) -> tuple[Int[Tensor, " lines"], Int[Tensor, " lines"], Float[Tensor, " lines"]]:
    """Between which of the lines read each of ``count`` lies, and its share of the way from the first to the second."""
    read, line = lines_read(count), torch.arange(count)
    lower = (torch.searchsorted(read, line, right=True) - 1).clamp(0, max(len(read) - 2, 0))
    upper = (lower + 1).clamp_max(len(read) - 1)
    return lower, upper, (line - read[lower]) / (read[upper] - read[lower]).clamp_min(1)
