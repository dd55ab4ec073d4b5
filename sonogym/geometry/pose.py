"""Rigid transforms, batched. A pose is named ``target_from_source``: it maps source points into the target frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.geometry import so3


@dataclass(frozen=True)
class Pose:
    """SE(3) element: unit quaternion (w, x, y, z) and translation [m]."""

    quaternion: Float[Tensor, "*batch 4"]
    translation: Float[Tensor, "*batch 3"]

    @staticmethod
    def identity(*batch: int) -> Pose:
        """The pose that moves nothing, with the given batch shape."""
        quaternion = torch.zeros(*batch, 4)
        quaternion[..., 0] = 1.0
        return Pose(quaternion, torch.zeros(*batch, 3))

    @staticmethod
    def from_matrix(matrix: Float[Tensor, "*batch 4 4"]) -> Pose:
        """Pose of a homogeneous matrix; raises :class:`InvalidInputError` if it is not rigid."""
        return Pose(so3.from_matrix(matrix[..., :3, :3]), matrix[..., :3, 3])

    @staticmethod
    def from_axes(
        x: Float[Tensor, "*batch 3"], z: Float[Tensor, "*batch 3"], origin: Float[Tensor, "*batch 3"]
    ) -> Pose:
        """Frame at ``origin`` with its z along ``z`` and its x as close to ``x`` as that allows."""
        z = z / z.norm(dim=-1, keepdim=True)
        x = x - (x * z).sum(-1, keepdim=True) * z
        x = x / x.norm(dim=-1, keepdim=True)
        return Pose(so3.from_matrix(torch.stack((x, torch.linalg.cross(z, x), z), dim=-1)), origin)

    @staticmethod
    def exp(twist: Float[Tensor, "*batch 6"]) -> Pose:
        """exp of a twist (linear [m], angular [rad]) on SE(3)."""
        linear, angular = twist[..., :3], twist[..., 3:]
        squared = (angular * angular).sum(-1, keepdim=True)
        theta = squared.clamp_min(1e-16).sqrt()
        small = squared < 1e-6
        b = torch.where(small, 0.5 - squared / 24.0, (1.0 - theta.cos()) / squared.clamp_min(1e-16))
        c = torch.where(small, 1.0 / 6.0 - squared / 120.0, (theta - theta.sin()) / (theta * squared).clamp_min(1e-24))
        once = torch.linalg.cross(angular, linear)
        return Pose(so3.exp(angular), linear + b * once + c * torch.linalg.cross(angular, once))

    def log(self) -> Float[Tensor, "*batch 6"]:
        """The twist whose :meth:`exp` is this pose."""
        angular = so3.log(self.quaternion)
        squared = (angular * angular).sum(-1, keepdim=True)
        theta = squared.clamp_min(1e-16).sqrt()
        half = 0.5 * theta
        regular = (1.0 - half * half.cos() / half.sin().clamp_min(1e-12)) / squared.clamp_min(1e-16)
        factor = torch.where(squared < 1e-6, 1.0 / 12.0 + squared / 720.0, regular)
        once = torch.linalg.cross(angular, self.translation)
        return torch.cat((self.translation - 0.5 * once + factor * torch.linalg.cross(angular, once), angular), dim=-1)

    def __matmul__(self, other: Pose) -> Pose:
        """``a_from_b @ b_from_c`` is ``a_from_c``."""
        left, right = self.quaternion, other.quaternion
        if left.shape != right.shape:
            left, right = torch.broadcast_tensors(left, right)
        quaternion = so3.multiply(left, right)
        quaternion = quaternion / torch.linalg.vector_norm(quaternion, dim=-1, keepdim=True)
        return Pose(quaternion, self.apply(other.translation))

    def inverse(self) -> Pose:
        """``b_from_a`` of an ``a_from_b``."""
        quaternion = so3.conjugate(self.quaternion)
        return Pose(quaternion, -so3.rotate(quaternion, self.translation))

    def apply(self, points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*out 3"]:
        """Points [m] mapped from source to target; the batch broadcasts against the points."""
        if self.quaternion.shape[:-1] == points.shape[:-1]:
            return so3.rotate(self.quaternion, points) + self.translation
        batch = torch.broadcast_shapes(self.quaternion.shape[:-1], points.shape[:-1])
        return so3.rotate(self.quaternion.expand(*batch, 4), points.expand(*batch, 3)) + self.translation

    def matrix(self) -> Float[Tensor, "*batch 4 4"]:
        """Homogeneous matrix."""
        rows = torch.cat((so3.to_matrix(self.quaternion), self.translation[..., None]), dim=-1)
        last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=rows.dtype, device=rows.device)
        return torch.cat((rows, last.expand(*rows.shape[:-2], 1, 4)), dim=-2)

    def __getitem__(self, index: object) -> Pose:
        """The poses picked along the batch."""
        return Pose(self.quaternion[index], self.translation[index])  # type: ignore[index]

    def to(self, device: torch.device | str) -> Pose:
        """The pose on ``device``."""
        return Pose(self.quaternion.to(device), self.translation.to(device))

    def unsqueeze(self, dim: int) -> Pose:
        """A batch dimension of length one put in at ``dim`` (counted over the batch; negative from its end)."""
        at = dim if dim >= 0 else dim - 1
        return Pose(self.quaternion.unsqueeze(at), self.translation.unsqueeze(at))

    def where(self, mask: Tensor, other: Pose) -> Pose:
        """This pose where ``mask`` (batch,) holds, ``other`` elsewhere."""
        return Pose(
            torch.where(mask[..., None], self.quaternion, other.quaternion),
            torch.where(mask[..., None], self.translation, other.translation),
        )
