"""How far bone lies below a point of the skin: a coarse distance volume, and the query along lines."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonogym.anatomy import stack_kernel
from sonogym.anatomy.stack import VolumeStack
from sonogym.anatomy.surface import signed_distance
from sonogym.anatomy.tissues import BONE
from sonogym.anatomy.volume import Volume

BONE_SPACING = 2.5e-3  # m: with the blur below a plate of 3 mm is never lost between voxels
REACH = 90e-3  # m: bone farther than this holds no tissue up (contact.md: the column grows no softer)
ASIDE = 2.0  # millimetres deeper that bone counts for each millimetre it lies beside the line (design)
_BLUR = 0.5 * BONE_SPACING
NODES = (0, 6, 12, 18, 24, 30, 36, 42, 48, 58, 68, 79, 90)  # mm along a line where the distance is read


def bone_distance(labels: Volume) -> Volume:
    """Signed distance [m] to bone of a label volume, negative within; REACH everywhere where there is none.

    Bone cut by the border of the scan goes on beyond it.
    """
    bone = np.isin(labels.voxels[0].numpy(), [int(tissue) for tissue in BONE])
    matrix = labels.patient_from_voxel.double()
    if not bone.any():
        return no_bone()
    return signed_distance(bone, matrix, BONE_SPACING, _BLUR, margin=1)


def no_bone() -> Volume:
    """The volume of a body without bone."""
    return Volume(torch.full((1, 2, 2, 2), REACH), torch.eye(4, dtype=torch.float64))


def column_above_bone(
    bone: VolumeStack,
    index: Int[Tensor, " envs"],
    origin: Float[Tensor, "envs lines 3"],
    direction: Float[Tensor, "envs lines 3"],
) -> Float[Tensor, "envs lines"]:
    """Depth [m] of the bone that holds up the tissue under ``origin``, along the unit ``direction``; at most REACH.

    min over z of z + 2 max(d(z), 0), d the distance to bone at depth z: exact where the line meets bone, and bone
    beside it counts as deeper, so that the depth changes by at most twice the shift of the line (design). Between the
    nodes at which d is read it is taken as linear, which it is above a plane.
    """
    node = 1e-3 * torch.tensor(NODES, dtype=origin.dtype, device=origin.device)
    if bone.compiled(origin) and bone.compiled(direction):
        out = torch.empty(origin.shape[:-1])
        lines = (origin.contiguous().numpy(), direction.contiguous().numpy(), node.numpy())
        stack_kernel.shallowest(*bone.arrays(index), *lines, np.float32(ASIDE), out.numpy())
        return out
    distance = bone.trilinear(origin[:, :, None] + node[:, None] * direction[:, :, None], index)
    near, far = distance[..., :-1], distance[..., 1:]
    share = near / torch.where(far < near, near - far, torch.inf)
    met = node[:-1] + node.diff() * share
    met = torch.where((near > 0.0) & (far <= 0.0), met, REACH)
    beside = node + ASIDE * distance.clamp_min(0.0)
    return torch.minimum(beside.amin(-1), met.amin(-1)).clamp_max(REACH)
