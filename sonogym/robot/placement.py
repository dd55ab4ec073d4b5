"""Where patients lie before an arm: which side is up, and how far from the arm's base."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.anatomy.stack import VolumeStack
from sonogym.geometry import Pose, so3
from sonogym.robot.arm import Arm
from sonogym.robot.inverse_kinematics import InverseKinematics, pose_error, settled

FLAT = math.radians(8.0)  # a probe this close to straight down finds the patient prone or supine (design)
WEDGE = math.radians(45.0)  # else the patient is propped up in steps of this (design)
COMFORT = math.radians(8.0)  # room that every joint should have in all poses of a task (design)
_NEAR, _TURNED = 2e-3, math.radians(1.0)  # m, rad: so close a pose is reached
_LEANS = (0.0, -WEDGE, WEDGE)  # rad on the arm's own: how else a patient may be propped up (design)
_SHIFTS = ((0.0, 0.0, 0.0), (-0.08, 0.0, 0.1), (0.08, 0.0, 0.0), (0.0, 0.0, -0.1))  # m: where else one may lie (design)
_TURNS = (0.0, 0.5 * math.pi, -0.5 * math.pi, math.pi)  # rad about the vertical: how else the bed may stand (design)
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
    return _on_bed(skin, _beside(patient_from_probe, arm.scan_at.float(), arm.lean))


def lay_in_reach(skin: VolumeStack, patient_from_probe: Pose, arm: Arm, ik: InverseKinematics) -> Placement:
    """As :func:`lay`, but each patient is turned with the bed, moved or propped up otherwise until the arm holds all of
    its probe poses with COMFORT to its joints' limits. Where no try does, the best stays: most poses, then the room.
    """
    patients = patient_from_probe.translation.shape[0]
    best, score = _beside(patient_from_probe, arm.scan_at.float(), arm.lean), torch.full((patients,), -1.0)
    for lean, shift, turn in itertools.product(_LEANS, _SHIFTS, _TURNS):
        left = (score < 1.0 + COMFORT).nonzero()[:, 0]
        if not len(left):
            break
        poses = patient_from_probe[left]
        tried = _beside(poses, arm.scan_at.float() + torch.tensor(shift), arm.lean + lean, turn)
        found = _comfort(arm, tried.unsqueeze(1) @ poses, ik)
        chosen = best[left].where(found <= score[left], tried)
        best = Pose(
            best.quaternion.index_copy(0, left, chosen.quaternion),
            best.translation.index_copy(0, left, chosen.translation),
        )
        score = score.index_copy(0, left, torch.maximum(found, score[left]))
    return _on_bed(skin, best)


def _comfort(arm: Arm, base_from_probe: Pose, ik: InverseKinematics) -> Float[Tensor, " patients"]:
    """Share of the poses (patients, poses) that home leads to, and the least room [rad] of a joint, up to COMFORT."""
    patients, poses = base_from_probe.translation.shape[:2]
    flat = Pose(base_from_probe.quaternion.flatten(0, 1), base_from_probe.translation.flatten(0, 1))
    q = settled(arm, arm.home.expand(patients * poses, -1), flat, ik)
    left = pose_error(arm.base_from_tool(q), flat)
    reached = (left[:, :3].norm(dim=-1) < _NEAR) & (left[:, 3:].norm(dim=-1) < _TURNED)
    room = torch.minimum(q - arm.chain.lower, arm.chain.upper - q).amin(-1).clamp(0.0, COMFORT) * reached
    return reached.unflatten(0, (patients, poses)).float().mean(1) + room.unflatten(0, (patients, poses)).amin(1)


def _beside(patient_from_probe: Pose, scan_at: Float[Tensor, "3"], lean: float, turned: float = 0.0) -> Pose:
    """base_from_patient that brings the mean probe pose to ``scan_at`` [m], leaning by about ``lean`` [rad].

    The bed is ``turned`` [rad] about the vertical.
    """
    inward = so3.rotate(patient_from_probe.quaternion, _HEAD.expand(patient_from_probe.translation.shape))
    up = _up(inward.mean(1), lean)
    # the head to +y and ``up`` to +z; what is left points to x
    head = _HEAD.expand_as(up)
    turn = so3.from_matrix(torch.stack((torch.linalg.cross(head, up), head, up), dim=1))
    turn = so3.multiply(so3.exp(turned * _HEAD).expand_as(turn), turn)
    return Pose(turn, scan_at - so3.rotate(turn, patient_from_probe.translation.mean(1).float()))


def _on_bed(skin: VolumeStack, base_from_patient: Pose) -> Placement:
    up = so3.to_matrix(base_from_patient.quaternion)[:, 2]
    lowest = torch.stack([_lowest(skin, at, side) for at, side in enumerate(up)])
    return Placement(base_from_patient, base_from_patient.translation[:, 2] + lowest)


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
