"""Where patients lie before an arm: which side is up, and how far from the arm's base."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.anatomy.stack import VolumeStack
from sonogym.geometry import Pose, so3
from sonogym.robot.arm import Arm

NEAREST = 0.5  # m before the base: closer in, the elbow folds (design)
DROP, HIGHEST = 0.05, 0.2  # m below the home posture's tool, and above the base, that the probe is put down (design)
_SIDEWAYS = 2.0  # a patient lies on the side for a probe whose axis leans over more than this (design)
_RIGHT, _ANTERIOR, _HEAD = torch.eye(3)


@dataclass(frozen=True)
class Placement:
    """``base_from_patient`` and ``bed_height`` [m], the top of the bed in the base frame, of each patient."""

    base_from_patient: Pose
    bed_height: Float[Tensor, " patients"]


def lay(skin: VolumeStack, patient_from_probe: Pose, arm: Arm) -> Placement:
    """Patients on beds that run across the arm's x, the head towards +y, the probe where the arm can hold it.

    The mean of ``patient_from_probe`` (patients, starts) decides: prone for probes on the back, supine for those on the
    belly, else on a side. Its origin comes below the place of the tool at home, at least ``NEAREST`` before the base.
    The bed is a plane that touches the lowest point of the skin.
    """
    inward = so3.rotate(patient_from_probe.quaternion, _HEAD.expand(patient_from_probe.translation.shape))
    up = -_closest_side(inward.mean(1))
    # the head to +y and ``up`` to +z; what is left points to x
    head = _HEAD.expand_as(up)
    turn = so3.from_matrix(torch.stack((torch.linalg.cross(head, up), head, up), dim=1))
    home = arm.base_from_tool(arm.home).translation.float()
    target = torch.stack((home[0].clamp_min(NEAREST), home[1], (home[2] - DROP).clamp_max(HIGHEST)))
    origin = target - so3.rotate(turn, patient_from_probe.translation.mean(1).float())
    lowest = torch.stack([_lowest(skin, at, side) for at, side in enumerate(up)])
    return Placement(Pose(turn, origin), origin[:, 2] + lowest)


def _closest_side(inward: Float[Tensor, "patients 3"]) -> Float[Tensor, "patients 3"]:
    """The patient's axis across the body, right or anterior with a sign, that the probe looks along most."""
    side, front = inward[:, :1], inward[:, 1:2]
    sideways = side.abs() > _SIDEWAYS * front.abs()
    return torch.where(sideways, _RIGHT * side.sign(), torch.where(front >= 0, _ANTERIOR, -_ANTERIOR))


def _lowest(skin: VolumeStack, patient: int, up: Float[Tensor, "3"]) -> Float[Tensor, ""]:
    """Least coordinate [m] along ``up`` of the skin, read along its gradient from the grid points near it."""
    shape = skin.shape[patient].tolist()
    start = int(skin.offset[patient])
    distance = skin.flat[start : start + shape[0] * shape[1] * shape[2], 0].reshape(shape).float()
    patient_from_voxel = torch.linalg.inv(skin.voxel_from_patient[patient].float())
    step = float(patient_from_voxel[:3, :3].norm(dim=0).max())
    inside = (distance <= 0.0) & (distance > -step)
    points = inside.nonzero().float() @ patient_from_voxel[:3, :3].T + patient_from_voxel[:3, 3]
    return (points @ up + distance[inside]).min()
