"""Where patients lie before an arm: which side is up, and how far from the arm's base."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.anatomy.stack import VolumeStack
from sonogym.geometry import Pose, so3
from sonogym.robot.arm import Arm

FLAT = math.radians(8.0)  # a probe this close to straight down finds the patient prone or supine (design)
WEDGE = math.radians(45.0)  # else the patient is propped up in steps of this (design)
_RIGHT, _ANTERIOR, _HEAD = torch.eye(3)


@dataclass(frozen=True)
class Placement:
    """``base_from_patient`` and ``bed_height`` [m], the top of the bed in the base frame, of each patient."""

    base_from_patient: Pose
    bed_height: Float[Tensor, " patients"]


def lay(skin: VolumeStack, patient_from_probe: Pose, arm: Arm) -> Placement:
    """Patients on beds that run across the arm's x, the head towards +y, the probe where the arm can hold it.

    The mean of ``patient_from_probe`` (patients, starts) decides: prone for probes on the back, supine for those on the
    belly, else propped up by wedges so that the scanned skin leans towards the base by about ``arm.lean``. Its origin
    comes to ``arm.scan_at``. The bed is a plane that touches the lowest point of the skin.
    """
    inward = so3.rotate(patient_from_probe.quaternion, _HEAD.expand(patient_from_probe.translation.shape))
    up = _up(inward.mean(1), arm.lean)
    # the head to +y and ``up`` to +z; what is left points to x
    head = _HEAD.expand_as(up)
    turn = so3.from_matrix(torch.stack((torch.linalg.cross(head, up), head, up), dim=1))
    origin = arm.scan_at.float() - so3.rotate(turn, patient_from_probe.translation.mean(1).float())
    lowest = torch.stack([_lowest(skin, at, side) for at, side in enumerate(up)])
    return Placement(Pose(turn, origin), origin[:, 2] + lowest)


def _up(inward: Float[Tensor, "patients 3"], lean: float) -> Float[Tensor, "patients 3"]:
    """Which direction of the patient points up, for probes that look along ``inward``."""
    around = torch.atan2(-inward[:, 0], -inward[:, 1])  # from anterior towards the patient's right
    flat = (around / math.pi).round() * math.pi
    propped = ((around - lean) / WEDGE).round() * WEDGE
    around = torch.where((around - flat).abs() <= FLAT, flat, propped)
    return around.sin()[:, None] * _RIGHT + around.cos()[:, None] * _ANTERIOR


def _lowest(skin: VolumeStack, patient: int, up: Float[Tensor, "3"]) -> Float[Tensor, ""]:
    """Least coordinate [m] along ``up`` of the body: of its skin, read along the gradient from the grid points near it,
    and of the points inside where the scan ends.
    """
    shape = skin.shape[patient].tolist()
    start = int(skin.offset[patient])
    distance = skin.flat[start : start + shape[0] * shape[1] * shape[2], 0].reshape(shape).float()
    patient_from_voxel = torch.linalg.inv(skin.voxel_from_patient[patient].float())
    step = float(patient_from_voxel[:3, :3].norm(dim=0).max())
    inside = distance <= 0.0
    points = inside.nonzero().float() @ patient_from_voxel[:3, :3].T + patient_from_voxel[:3, 3]
    to_skin = distance[inside]
    return (points @ up + torch.where(to_skin > -step, to_skin, 0.0)).min()
