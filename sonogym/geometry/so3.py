"""Rotations as unit quaternions (w, x, y, z), batched by leading dimensions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.errors import InvalidInputError


def multiply(left: Float[Tensor, "*batch 4"], right: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """Hamilton product: the rotation ``right`` followed by ``left``."""
    w1, x1, y1, z1 = left.unbind(-1)
    w2, x2, y2, z2 = right.unbind(-1)
    return torch.stack(
        (
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ),
        dim=-1,
    )


def conjugate(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """The inverse rotation."""
    return torch.cat((quaternion[..., :1], -quaternion[..., 1:]), dim=-1)


def rotate(quaternion: Float[Tensor, "*batch 4"], vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """``vector`` turned by ``quaternion``: v + 2 w (q x v) + 2 q x (q x v)."""
    axis = quaternion[..., 1:]
    twice = 2.0 * torch.linalg.cross(axis, vector)
    return vector + quaternion[..., :1] * twice + torch.linalg.cross(axis, twice)


def exp(rotation_vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 4"]:
    """Quaternion of a rotation vector [rad]."""
    half = 0.5 * rotation_vector
    squared = (half * half).sum(-1, keepdim=True)
    angle = squared.clamp_min(1e-24).sqrt()
    sinc = torch.where(squared < 1e-8, 1.0 - squared / 6.0, angle.sin() / angle)
    return torch.cat((angle.cos(), sinc * half), dim=-1)


def log(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3"]:
    """Rotation vector [rad] of length <= pi."""
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    vector = quaternion[..., 1:]
    sine = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    angle = 2.0 * torch.atan2(sine, quaternion[..., :1])
    return torch.where(sine < 1e-6, 2.0 * torch.ones_like(sine), angle / sine.clamp_min(1e-12)) * vector


def angle(left: Float[Tensor, "*batch 4"], right: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch"]:
    """Angle [rad] in [0, pi] between two rotations."""
    return log(multiply(conjugate(left), right)).norm(dim=-1)


def to_matrix(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix."""
    w, x, y, z = quaternion.unbind(-1)
    twice = 2.0 * quaternion[..., 1:]
    x2, y2, z2 = twice.unbind(-1)
    wx, wy, wz = (w[..., None] * twice).unbind(-1)
    xx, xy, xz, yy, yz, zz = x * x2, x * y2, x * z2, y * y2, y * z2, z * z2
    rows = (1.0 - (yy + zz), xy - wz, xz + wy, xy + wz, 1.0 - (xx + zz), yz - wx, xz - wy, yz + wx, 1.0 - (xx + yy))
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def from_matrix(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Quaternion of a rotation matrix; refuses a non-rotation."""
    deviation = (matrix @ matrix.mT - torch.eye(3, dtype=matrix.dtype, device=matrix.device)).abs().amax()
    if not bool(deviation < 1e-3) or bool((torch.linalg.det(matrix) < 0).any()):
        raise InvalidInputError(f"matrix is not a rotation: |R R^T - I| = {float(deviation):.3g} or det R < 0")
    return from_rotation(matrix)


def from_rotation(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Quaternion of a rotation matrix, unchecked (Bar-Itzhack's largest-component form)."""
    m00, m11, m22 = matrix[..., 0, 0], matrix[..., 1, 1], matrix[..., 2, 2]
    skew = (
        matrix[..., 2, 1] - matrix[..., 1, 2],
        matrix[..., 0, 2] - matrix[..., 2, 0],
        matrix[..., 1, 0] - matrix[..., 0, 1],
    )
    sums = (
        matrix[..., 1, 0] + matrix[..., 0, 1],
        matrix[..., 2, 0] + matrix[..., 0, 2],
        matrix[..., 2, 1] + matrix[..., 1, 2],
    )
    rows = torch.stack(
        (
            torch.stack((1 + m00 + m11 + m22, skew[0], skew[1], skew[2]), -1),
            torch.stack((skew[0], 1 + m00 - m11 - m22, sums[0], sums[1]), -1),
            torch.stack((skew[1], sums[0], 1 - m00 + m11 - m22, sums[2]), -1),
            torch.stack((skew[2], sums[1], sums[2], 1 - m00 - m11 + m22), -1),
        ),
        -2,
    )
    best = torch.diagonal(rows, dim1=-2, dim2=-1).argmax(-1)
    row = torch.take_along_dim(rows, best[..., None, None].expand(*best.shape, 1, 4), dim=-2).squeeze(-2)
    return row / row.norm(dim=-1, keepdim=True)
