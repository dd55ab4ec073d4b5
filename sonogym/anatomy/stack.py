"""Many volumes in one flat buffer, each environment picking its own by ``anatomy_index``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from sonogym.anatomy import stack_kernel
from sonogym.anatomy.surface import Skin
from sonogym.anatomy.volume import Volume
from sonogym.errors import InvalidInputError
from sonogym.geometry import grids


@dataclass(frozen=True)
class VolumeStack:
    """``flat`` (voxels, channels) holds volumes in C order one after another, channels interleaved.

    Interleaving makes a voxel one cache line.
    """

    flat: Shaped[Tensor, "voxels channels"]
    offset: Int[Tensor, " anatomies"]
    shape: Int[Tensor, "anatomies 3"]
    voxel_from_patient: Float[Tensor, "anatomies 4 4"]

    @staticmethod
    def from_volumes(volumes: Sequence[Volume], device: str = "cpu") -> VolumeStack:
        """Stack volumes of one dtype and one number of channels."""
        if not volumes:
            raise InvalidInputError("at least one patient is needed, got none")
        shape = torch.tensor([volume.voxels.shape[1:] for volume in volumes])
        size = shape.prod(1)
        flat = torch.empty(int(size.sum()), volumes[0].voxels.shape[0], dtype=volumes[0].voxels.dtype)
        offset = torch.cumsum(size, 0) - size
        for volume, start, count in zip(volumes, offset.tolist(), size.tolist(), strict=True):
            flat[start : start + count] = volume.voxels.movedim(0, -1).reshape(count, -1)
        inverse = torch.stack([volume.voxel_from_patient for volume in volumes]).float()
        return VolumeStack(flat.to(device), offset.to(device), shape.to(device), inverse.to(device))

    def voxel(
        self, points: Float[Tensor, "envs *points 3"], index: Int[Tensor, " envs"]
    ) -> Float[Tensor, "envs *points 3"]:
        """Patient points [m] of each environment in voxel units of its anatomy."""
        matrix = self.voxel_from_patient[index].to(points.dtype)
        return grids.affine(matrix.reshape(-1, *[1] * (points.ndim - 2), 4, 4), points)

    def trilinear(
        self, points: Float[Tensor, "envs *points 3"], index: Int[Tensor, " envs"]
    ) -> Float[Tensor, "envs *points"]:
        """First channel interpolated at each environment's points [m].

        Compiled where no gradient is asked for: the same to rounding.
        """
        if self.compiled(points):
            out = torch.empty(points.shape[:-1])
            places = points.reshape(len(index), -1, 3).numpy()
            stack_kernel.read(*self.arrays(index), places, out.view(len(index), -1, 1).numpy())
            return out
        batch = (-1, *[1] * (points.ndim - 2))
        offset = self.offset[index].reshape(batch).expand(points.shape[:-1])
        shape = self.shape[index].reshape(*batch, 3).expand(points.shape)
        return grids.trilinear(self.flat[:, 0], offset, shape, self.voxel(points, index))

    def compiled(self, points: Float[Tensor, "*points 3"]) -> bool:
        """Whether compiled code may read this stack at ``points``: on the CPU, where no gradient is asked for."""
        given = (self.flat, points)
        return all(x.device.type == "cpu" and x.dtype == torch.float32 and not x.requires_grad for x in given)

    def arrays(self, index: Int[Tensor, " envs"]) -> tuple[np.ndarray, ...]:
        """What :mod:`sonogym.anatomy.stack_kernel` takes first."""
        return tuple(x.numpy() for x in (self.flat, self.offset, self.shape, self.voxel_from_patient, index))


def clearance_stack(skins: Sequence[Skin], device: str = "cpu") -> VolumeStack | None:
    """Distance [m] to where the scan cut each body, for all at once; None where no skin is cut."""
    if all(skin.clearance is None for skin in skins):
        return None
    whole = Volume(torch.ones(1, 2, 2, 2), torch.eye(4, dtype=torch.float64))  # 1 m everywhere: nothing is cut
    return VolumeStack.from_volumes([skin.clearance or whole for skin in skins], device)
