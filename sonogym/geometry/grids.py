"""Sampling of voxel grids at metric points: voxel centres at integers, one flat buffer for many grids."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor


def affine(matrix: Float[Tensor, "*batch 4 4"], points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*out 3"]:
    """Points mapped by homogeneous matrices; batch dimensions broadcast."""
    return (matrix[..., :3, :3] @ points[..., None])[..., 0] + matrix[..., :3, 3]


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
    flat: Float[Tensor, " voxels"],
    offset: Int[Tensor, "*points"],
    shape: Int[Tensor, "*points 3"],
    voxel: Float[Tensor, "*points 3"],
) -> Float[Tensor, "*points"]:
    """Trilinear interpolation of one channel at points in voxel units, clamped to the grid's border."""
    voxel = torch.minimum(voxel.clamp_min(0.0), (shape - 1).to(voxel.dtype))
    base = torch.minimum(voxel.floor().long(), (shape - 2).clamp_min(0))
    weight = voxel - base
    stride = torch.stack((shape[..., 1] * shape[..., 2], shape[..., 2], torch.ones_like(shape[..., 2])), dim=-1)
    step = torch.where(shape > 1, stride, torch.zeros_like(stride))
    start = offset + (base * stride).sum(-1)
    value = torch.zeros_like(weight[..., 0])
    for corner in range(8):
        bits = [(corner >> axis) & 1 for axis in range(3)]
        share = torch.ones_like(value)
        index = start
        for axis, bit in enumerate(bits):
            share = share * (weight[..., axis] if bit else 1.0 - weight[..., axis])
            index = index + (step[..., axis] if bit else 0)
        value = value + share * flat[index]
    return value
