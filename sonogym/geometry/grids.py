"""Sampling of voxel grids at metric points: voxel centres at integers, one flat buffer for many grids."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

_CORNERS = torch.tensor(list(itertools.product((0, 1), repeat=3)))  # of a cell, the last axis fastest


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
    flat: Float[Tensor, "voxels *channels"],
    offset: Int[Tensor, "*points"],
    shape: Int[Tensor, "*points 3"],
    voxel: Float[Tensor, "*points 3"],
) -> Float[Tensor, "*points *channels"]:
    """Trilinear interpolation at points in voxel units, clamped to the grid's border."""
    voxel = torch.minimum(voxel.clamp_min(0.0), (shape - 1).to(voxel.dtype))
    base = torch.minimum(voxel.floor().long(), (shape - 2).clamp_min(0))
    weight = voxel - base
    stride = torch.stack((shape[..., 1] * shape[..., 2], shape[..., 2], torch.ones_like(shape[..., 2])), dim=-1)
    step = torch.where(shape > 1, stride, torch.zeros_like(stride))
    start = offset + (base * stride).sum(-1)
    index = start[..., None] + (step[..., None, :] * _CORNERS.to(step.device)).sum(-1)
    value = flat[index].to(weight.dtype).unflatten(weight.ndim - 1, (2, 2, 2))
    for axis in range(3):
        low, high = value.unbind(weight.ndim - 1)
        value = torch.lerp(low, high, weight[..., axis][(..., *[None] * (1 + flat.ndim - axis))])
    return value
