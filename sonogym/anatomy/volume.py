"""A voxel grid with its place in the patient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from sonogym.errors import InvalidInputError


@dataclass(frozen=True)
class Volume:
    """Voxels and where they lie: RAS [m], voxel centres at integers.

    ``voxels`` is (channels, x, y, z) of any dtype; ``patient_from_voxel`` is a float64 affine.
    Raises :class:`InvalidInputError` for a wrong rank or a singular or non-finite affine.
    """

    voxels: Shaped[Tensor, "channels x y z"]
    patient_from_voxel: Float[Tensor, "4 4"]

    def __post_init__(self) -> None:
        if self.voxels.ndim != 4:
            raise InvalidInputError(f"a volume has 4 axes (channels, x, y, z), got shape {tuple(self.voxels.shape)}")
        matrix = self.patient_from_voxel
        if not bool(torch.isfinite(matrix).all()) or abs(float(torch.linalg.det(matrix[:3, :3].double()))) < 1e-14:
            raise InvalidInputError(f"patient_from_voxel is singular or not finite: {matrix.tolist()}")

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel edge lengths [m] along the three voxel axes."""
        x, y, z = self.patient_from_voxel[:3, :3].norm(dim=0).tolist()
        return x, y, z

    @property
    def voxel_from_patient(self) -> Float[Tensor, "4 4"]:
        """Inverse affine."""
        return torch.linalg.inv(self.patient_from_voxel.double())

    def same_grid(self, other: Volume) -> bool:
        """Whether both have one shape and one affine (to a micrometre)."""
        if self.voxels.shape[1:] != other.voxels.shape[1:]:
            return False
        return bool(torch.allclose(self.patient_from_voxel, other.patient_from_voxel, atol=1e-6))
