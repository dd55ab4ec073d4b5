"""What carries a probe: a pose is asked for, the pose that was reached comes back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonogym.errors import InvalidInputError, require_between
from sonogym.geometry import Pose
from sonogym.robot.arm import Arm
from sonogym.robot.inverse_kinematics import InverseKinematics, follow_to, pose_error, settled, solve

_AT_SPEED_LIMIT = 0.999  # share of a joint's speed from which it counts as spent


class BlockReason(IntEnum):
    """Why an arm is not where it should be."""

    NONE = 0
    REACH = 1  # joint limits or a singularity are in the way
    SPEED = 2  # a joint is at its speed limit: the probe comes later
    COLLISION = 3  # a link would touch the patient, the bed or the arm itself
    TORQUE = 4  # a motor is at its torque limit


@dataclass(frozen=True, kw_only=True)
class RobotState:
    """Arms, batch first: joints [rad, rad/s], the pose their probes reached, and why they are held back.

    ``reason`` holds a :class:`BlockReason`; ``anatomy_index`` the patient each arm stands beside.
    """

    joint_position: Float[Tensor, "envs joints"]
    joint_velocity: Float[Tensor, "envs joints"]
    base_from_probe: Pose
    blocked: Bool[Tensor, " envs"]
    reason: Int[Tensor, " envs"]
    anatomy_index: Int[Tensor, " envs"]


@runtime_checkable
class Robot(Protocol):
    """An arm for every environment. States are never changed in place."""

    @property
    def arm(self) -> Arm:
        """The arm in every environment."""
        ...

    @property
    def feels_wrench(self) -> bool:
        """Whether :meth:`move` wants the load on the probe; if not, it is not worked out."""
        ...

    def start(self, base_from_probe: Pose, anatomy_index: Int[Tensor, " envs"]) -> RobotState:
        """Arms at rest with their probes at the poses; raises :class:`InvalidInputError` for one out of reach."""
        ...

    def move(
        self, state: RobotState, base_from_probe: Pose, period: float, wrench: Float[Tensor, "envs 6"] | None = None
    ) -> RobotState:
        """The state ``period`` [s] later on the way to the wanted poses.

        ``wrench`` is the force [N] and torque [N m] on the probe at the centre of its face, in base axes.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class KinematicArm:
    """Arms without dynamics: every step is one of damped least squares within joint and speed limits.

    ``known`` are postures from which starts are searched (see :meth:`among`). An arm counts as blocked where its probe
    is farther than ``position_tolerance`` [m] or ``angle_tolerance`` [rad] from the wanted pose (design).
    """

    arm: Arm
    known: Float[Tensor, "postures joints"]
    ik: InverseKinematics = field(default_factory=InverseKinematics)
    position_tolerance: float = 3e-3
    angle_tolerance: float = math.radians(3.0)
    feels_wrench: bool = field(default=False, init=False)
    _tools: Pose = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_between("position_tolerance", self.position_tolerance, 1e-5, 0.1, "m", "millimetres?")
        require_between("angle_tolerance", self.angle_tolerance, 1e-4, 1.0, "rad", "degrees?")
        self.arm.require_posture(self.known)
        object.__setattr__(self, "_tools", self.arm.base_from_tool(self.known))

    @staticmethod
    def among(arm: Arm, base_from_probe: Pose, ik: InverseKinematics | None = None) -> KinematicArm:
        """An arm that will start near the poses (poses,), whose postures are searched here once.

        Raises :class:`InvalidInputError` where none of them is in reach.
        """
        ik = ik or InverseKinematics()
        solution = solve(arm, arm.home.expand(len(base_from_probe.translation), -1), base_from_probe, ik)
        if not bool(solution.reached.any()):
            raise InvalidInputError(
                f"none of {len(solution.reached)} probe poses is in reach of {arm.name!r}: "
                f"the nearest lacks {float(solution.position_error.min()):.3g} m; place the base elsewhere"
            )
        known = settled(arm, solution.joint_position[solution.reached], base_from_probe[solution.reached], ik)
        return KinematicArm(arm=arm, known=known, ik=ik)

    def start(self, base_from_probe: Pose, anatomy_index: Int[Tensor, " envs"]) -> RobotState:
        """Arms at rest at the poses (envs,), found from the nearest known posture.

        Raises :class:`InvalidInputError` naming the environments whose pose is out of reach.
        """
        solution = solve(self.arm, self.known[self._nearest(base_from_probe)], base_from_probe, self.ik)
        if not bool(solution.reached.all()):
            missed = (~solution.reached).nonzero()[:, 0]
            worst = float(solution.position_error[missed].max())
            raise InvalidInputError(
                f"start poses {missed.tolist()} are out of reach of {self.arm.name!r} (by up to {worst:.3g} m, or by "
                "their angle): place the base elsewhere or narrow the start region"
            )
        q = solution.joint_position
        free = torch.zeros_like(anatomy_index)
        return RobotState(
            joint_position=q,
            joint_velocity=torch.zeros_like(q),
            base_from_probe=self.arm.base_from_tool(q),
            blocked=free > 0,
            reason=free,
            anatomy_index=anatomy_index,
        )

    def reaches(self, base_from_probe: Pose) -> Bool[Tensor, " envs"]:
        """Whether poses (envs,) are in reach."""
        return solve(self.arm, self.known[self._nearest(base_from_probe)], base_from_probe, self.ik).reached

    def move(
        self, state: RobotState, base_from_probe: Pose, period: float, wrench: Float[Tensor, "envs 6"] | None = None
    ) -> RobotState:
        """The state ``period`` [s] later; a load on the probe does not move it."""
        q, reached = follow_to(self.arm, state.joint_position, base_from_probe, period, self.ik)
        velocity = (q - state.joint_position) / period
        blocked = self.misses(reached, base_from_probe)
        spent = (velocity.abs() >= _AT_SPEED_LIMIT * self.arm.chain.speed).any(-1)
        return RobotState(
            joint_position=q,
            joint_velocity=velocity,
            base_from_probe=reached,
            blocked=blocked,
            reason=torch.where(blocked, torch.where(spent, int(BlockReason.SPEED), int(BlockReason.REACH)), 0),
            anatomy_index=state.anatomy_index,
        )

    def misses(self, reached: Pose, wanted: Pose) -> Bool[Tensor, " envs"]:
        """Where a reached pose is farther from the wanted one than the tolerances."""
        left = pose_error(reached, wanted)
        far = left[:, :3].norm(dim=-1) > self.position_tolerance
        return far | (left[:, 3:].norm(dim=-1) > self.angle_tolerance)

    def _nearest(self, base_from_probe: Pose) -> Int[Tensor, " envs"]:
        """The known posture whose probe is closest: |dp|^2 + (length x angle)^2, angle^2 about 8 (1 - |<q, q'>|)."""
        away = torch.cdist(base_from_probe.translation, self._tools.translation).square()
        turned = 8.0 * (1.0 - (base_from_probe.quaternion @ self._tools.quaternion.T).abs())
        return (away + self.ik.rotation_length**2 * turned).argmin(-1)
