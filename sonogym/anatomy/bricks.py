"""Voxels of many patients in bricks of 2 x 2 x 2, so that a plane in any direction finds its voxels close together.

In C order a transverse plane reads one voxel of every cache line that it touches, and the renderer spends a third of
its time waiting for memory; here it reads eight of sixteen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from sonogym.anatomy.volume import Volume
from sonogym.errors import InvalidInputError
from sonogym.geometry import grids

# Voxels of a brick, and bricks, follow one another along y, then x, then z: a cache line of 16 words is 2 x 4 x 2
# voxels, of which transverse and sagittal planes both hold eight.
STRIDE = (2, 1, 4)  # voxels from one voxel of a brick to the next along x, y, z
_MULTIPLE = (2, 4, 2)  # of the voxels along x, y, z


@dataclass(frozen=True)
class BrickStack:
    """``flat`` holds volumes of four bytes a voxel one after another, in bricks.

    Voxel i of an axis lies ``i STRIDE + (i >> 1) leap`` behind the first; ``leap`` (anatomies, 3). ``shape`` is that of
    the volumes; bricks past it hold zeros.
    """

    flat: UInt8[Tensor, "voxels 4"]
    offset: Int[Tensor, " anatomies"]
    shape: Int[Tensor, "anatomies 3"]
    leap: Int[Tensor, "anatomies 3"]
    voxel_from_patient: Float[Tensor, "anatomies 4 4"]

    @staticmethod
    def from_volumes(volumes: Sequence[Volume], device: str = "cpu") -> BrickStack:
        """Stack volumes of four bytes a voxel."""
        if not volumes:
            raise InvalidInputError("at least one patient is needed, got none")
        shape = torch.tensor([volume.voxels.shape[1:] for volume in volumes])
        multiple = torch.tensor(_MULTIPLE)
        whole = ((shape + multiple - 1) // multiple * multiple).T
        (x, y, _), size = whole, whole.prod(0)
        flat = torch.zeros(int(size.sum()), 4, dtype=torch.uint8)
        offset = torch.cumsum(size, 0) - size
        for number, volume in enumerate(volumes):
            start, count = int(offset[number]), int(size[number])
            _lay(flat[start : start + count], volume.voxels, whole[:, number].tolist())
        inner = torch.tensor(STRIDE)
        leap = torch.stack((4 * y, torch.full_like(y, 8), 2 * x * y), dim=1) - 2 * inner
        inverse = torch.stack([volume.voxel_from_patient for volume in volumes]).float()
        return BrickStack(flat.to(device), offset.to(device), shape.to(device), leap.to(device), inverse.to(device))

    def voxel(
        self, points: Float[Tensor, "envs *points 3"], index: Int[Tensor, " envs"]
    ) -> Float[Tensor, "envs *points 3"]:
        """Patient points [m] of each environment in voxel units of its anatomy."""
        matrix = self.voxel_from_patient[index].to(points.dtype)
        return grids.affine(matrix.reshape(-1, *[1] * (points.ndim - 2), 4, 4), points)

    def nearest(
        self, points: Float[Tensor, "envs *points 3"], index: Int[Tensor, " envs"]
    ) -> UInt8[Tensor, "envs *points 4"]:
        """The voxel closest to each environment's points [m], clamped to the grid's border."""
        batch = (-1, *[1] * (points.ndim - 2))
        top = self.shape[index].reshape(*batch, 3) - 1
        place = torch.minimum(self.voxel(points, index).round().long().clamp_min(0), top)
        stride = torch.tensor(STRIDE, device=points.device)
        return self.flat[
            self.offset[index].reshape(batch) + address(place, stride, self.leap[index].reshape(*batch, 3))
        ]


def address(index: Int[Tensor, "*#points 3"], stride: Tensor, leap: Tensor) -> Int[Tensor, "*points"]:
    """Where voxels lie behind the first of their volume; all (..., 3), the axes in any order."""
    return (index * stride + (index >> 1) * leap).sum(-1)


def _lay(flat: Tensor, voxels: Tensor, whole: list[int]) -> None:
    """Write voxels (4, x, y, z) in bricks."""
    (x, y, z), (a, b, c) = whole, voxels.shape[1:]
    padded = torch.zeros(x, y, z, dtype=torch.int32)
    padded[:a, :b, :c] = voxels.movedim(0, -1).contiguous().view(torch.int32)[..., 0]
    split = padded.reshape(x // 2, 2, y // 2, 2, z // 2, 2)
    flat.view(torch.int32).view(z // 2, x // 2, y // 2, 2, 2, 2).copy_(split.permute(4, 0, 2, 5, 1, 3))
