"""Sampling of voxel grids at metric points: voxel centres at integers, one flat buffer for many grids."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor


def affine(matrix: Float[Tensor, "*batch 4 4"], points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*out 3"]:
    """Points mapped by homogeneous matrices; batch dimensions broadcast."""
    (a, b, c, shift), (x, y, z) = matrix[..., :3, :].unbind(-1), points.split(1, dim=-1)
    return a * x + b * y + c * z + shift


def nearest(
    flat: Shaped[Tensor, "voxels *channels"],
    offset: Int[Tensor, "*points"],
    shape: Int[Tensor, "*points 3"],
    voxel: Float[Tensor, "*points 3"],
) -> Shaped[Tensor, "*points *channels"]:
    """Value of the voxel closest to each point (voxel units), clamped to the grid's border.

    ``flat`` holds grids in C order one after another; a point's grid starts at ``offset`` and has ``shape``.
    """
    index = torch.minimum(voxel.round().long().clamp_min(0), shape - 1)
    return flat[offset + (index[..., 0] * shape[..., 1] + index[..., 1]) * shape[..., 2] + index[..., 2]]


def trilinear(
    flat: Float[Tensor, "voxels *channels"],
    offset: Int[Tensor, "*points"],
    shape: Int[Tensor, "*points 3"],
    voxel: Float[Tensor, "*points 3"],
) -> Float[Tensor, "*points *channels"]:
    """Trilinear interpolation at points in voxel units, clamped to the grid's border."""
    voxel = torch.minimum(voxel.clamp_min(0.0), (shape - 1).to(voxel.dtype))
    base = torch.minimum(voxel.floor().long(), (shape - 2).clamp_min(0))
    weight = voxel - base
    (i, j, k), (deep, wide, long) = base.unbind(-1), shape.unbind(-1)
    first = offset + (i * wide + j) * long + k
    rows = torch.stack((first, first + (wide > 1) * long), dim=-1)
    rows = torch.stack((rows, rows + ((deep > 1) * wide * long)[..., None]), dim=-2)
    value = flat[torch.stack((rows, rows + (long > 1)[..., None, None]), dim=-1)].to(weight.dtype)
    for axis in range(3):
        low, high = value.unbind(weight.ndim - 1)
        value = torch.lerp(low, high, weight[..., axis][(..., *[None] * (1 + flat.ndim - axis))])
    return value
