"""The rig that a task's options ask for: which arm, where it stands, what the face feels, which limits hold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose
from sonogym.robot.arm import load_arm
from sonogym.robot.contact import Contact
from sonogym.robot.inverse_kinematics import InverseKinematics
from sonogym.robot.placement import lay_in_reach
from sonogym.robot.robot import KinematicArm, Robot
from sonogym.sim.limits import load_limits
from sonogym.sim.probe_motion import MODES
from sonogym.sim.rig import Rig, Stand, force_control
from sonogym.sim.safety import Safety
from sonogym.sim.start_region import StartRegion
from sonogym.ultrasound.renderer import Renderer

if TYPE_CHECKING:
    from .scan_task import ScanConfig

ROBOTS = ("kinematic", "bullet")
_LATTICE = (5, 3, 5)  # along, across and yaw: the starts at which an arm's reach is tried


def make_rig(config: ScanConfig, renderer: Renderer, region: StartRegion, visits: Pose | None = None) -> Rig | None:
    """None where options ask for neither arm nor contact; ``visits`` (patients, poses) is where a task leads to.

    Raises :class:`InvalidInputError` where a start is out of the arm's reach, and what loading arm and limits raises.
    """
    if config.robot is None and not config.contact:
        return None
    limits, random = load_limits(config.limits), config.randomization
    stand = None if config.robot is None else _stand(config, renderer, region, visits)
    regulated = config.contact and MODES[config.action_mode].regulated
    return Rig(
        stand=stand,
        contact=Contact(renderer.skin, renderer.bone, renderer.transducer) if config.contact else None,
        admittance=force_control(1.0 / config.control_rate, random.force_latency[1], limits.force_stop)
        if regulated
        else None,
        safety=Safety(limits=limits, chain=None if stand is None else stand.robot.arm.chain),
        breathing=renderer.breathing if random.breathing[1] else None,
    )


def _stand(config: ScanConfig, renderer: Renderer, region: StartRegion, visits: Pose | None) -> Stand:
    arm = load_arm(config.arm, tool="probe")
    starts = starts_of(region, config.randomization.yaw)
    placement = lay_in_reach(
        renderer.skin, starts if visits is None else _joined(starts, visits), arm, InverseKinematics()
    )
    base_from_probe = placement.base_from_patient.unsqueeze(1) @ starts
    robot: Robot
    robot = planner = KinematicArm.among(arm, _flat(base_from_probe))
    _require_reach(planner, base_from_probe, renderer)
    if config.robot == "bullet":
        from sonogym.robot.bullet import BulletArm

        skins = [body.skin for body in renderer.bodies]
        robot = BulletArm(planner=planner, skins=skins, placement=placement, transducer=renderer.transducer)
    return Stand(robot=robot, base_from_patient=placement.base_from_patient)


def starts_of(region: StartRegion, yaw: float) -> Pose:
    """(patients, starts) poses of a lattice over the start region."""
    axes = (torch.linspace(0.0, 1.0, _LATTICE[0]), torch.linspace(0.0, 1.0, _LATTICE[1]),
            torch.linspace(-yaw, yaw, _LATTICE[2]))  # fmt: skip
    along, across, turn = (value.reshape(-1) for value in torch.meshgrid(*axes, indexing="ij"))
    patients = region.points.shape[0]
    index = torch.arange(patients).repeat_interleave(math.prod(_LATTICE))
    pose = region.pose(index, along.repeat(patients), across.repeat(patients), turn.repeat(patients))
    return Pose(pose.quaternion.unflatten(0, (patients, -1)), pose.translation.unflatten(0, (patients, -1)))


def _require_reach(planner: KinematicArm, base_from_probe: Pose, renderer: Renderer) -> None:
    """Raise unless every start of the lattice is in reach, naming the patients of which some are not."""
    patients = base_from_probe.translation.shape[0]
    missed = ~planner.reaches(_flat(base_from_probe)).unflatten(0, (patients, -1))
    if bool(missed.any()):
        names = [renderer.bodies[at].name for at in missed.any(1).nonzero()[:, 0].tolist()]
        raise InvalidInputError(
            f"{int(missed.sum())} of {missed.numel()} start poses are out of reach of {planner.arm.name!r} (patients "
            f"{', '.join(names[:4])}{', ...' if len(names) > 4 else ''}): take another arm, plane or a smaller "
            "randomization.yaw"
        )


def _joined(first: Pose, second: Pose) -> Pose:
    """Poses (patients, poses) of both."""
    return Pose(
        torch.cat((first.quaternion, second.quaternion), dim=1),
        torch.cat((first.translation, second.translation), dim=1),
    )


def _flat(pose: Pose) -> Pose:
    return Pose(pose.quaternion.flatten(0, 1), pose.translation.flatten(0, 1))
