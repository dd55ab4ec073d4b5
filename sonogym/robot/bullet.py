"""Arms with dynamics: PyBullet behind the same protocol as the kinematic arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonogym.anatomy.surface import Skin
from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose
from sonogym.robot.arm import Arm
from sonogym.robot.bullet_world import BulletConfig, BulletWorld, Moved, require_bullet
from sonogym.robot.placement import Placement
from sonogym.robot.robot import BlockReason, KinematicArm, RobotState
from sonogym.ultrasound.transducer import Transducer

_SPENT = 0.999  # share of a motor's torque from which it counts as spent


@dataclass(frozen=True, kw_only=True)
class BulletArm:
    """Arms that motors with limited torque move, stopped by skin, bed and their own links.

    ``planner`` says where the joints should be after a period, Bullet how far they come. ``skins`` and ``placement``
    are those of the patients, ``transducer`` shapes the head of the tool (None: no head, as of a drill). There is a
    world a patient, made at first use; environments take turns in it, and nothing of one is left for the next: the
    result is a function of state and command. The turns are taken one after another: PyBullet has no batch.
    """

    planner: KinematicArm
    skins: Sequence[Skin]
    placement: Placement
    transducer: Transducer | None = None
    config: BulletConfig = field(default_factory=BulletConfig)
    feels_wrench: bool = field(default=True, init=False)
    _worlds: dict[int, BulletWorld] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        require_bullet()
        if len(self.skins) != len(self.placement.bed_height):
            raise InvalidInputError(
                f"placement must hold one entry a patient, got {len(self.placement.bed_height)} for {len(self.skins)}"
            )

    @property
    def arm(self) -> Arm:
        """The arm that is carried out."""
        return self.planner.arm

    def world(self, patient: int) -> BulletWorld:
        """The world of a patient."""
        if patient not in self._worlds:
            self._worlds[patient] = BulletWorld(
                self.arm,
                self.skins[patient],
                self.placement.base_from_patient[patient],
                float(self.placement.bed_height[patient]),
                self.transducer,
                self.config,
            )
        return self._worlds[patient]

    def start(self, base_from_probe: Pose, anatomy_index: Int[Tensor, " envs"]) -> RobotState:
        """Arms at rest with their probes at the poses; blocked where a link touches already.

        Raises :class:`InvalidInputError` naming the environments whose pose is out of reach.
        """
        state = self.planner.start(base_from_probe, anatomy_index)
        touched = []
        for patient, position in zip(anatomy_index.tolist(), state.joint_position.tolist(), strict=True):
            self.world(patient).place(position)
            touched.append(bool(self.world(patient).touching()))
        blocked = torch.tensor(touched)
        return RobotState(
            joint_position=state.joint_position,
            joint_velocity=state.joint_velocity,
            base_from_probe=state.base_from_probe,
            blocked=blocked,
            reason=blocked * int(BlockReason.COLLISION),
            anatomy_index=anatomy_index,
        )

    def move(
        self, state: RobotState, base_from_probe: Pose, period: float, wrench: Float[Tensor, "envs 6"] | None = None
    ) -> RobotState:
        """The state ``period`` [s] later; ``wrench`` [N, N m] acts on the probe all the while."""
        plan = self.planner.move(state, base_from_probe, period)
        moved = self._carry_out(state, plan, period, wrench)
        position = _stack([one.position for one in moved], state.joint_position)
        reached = self.arm.base_from_tool(position)
        far = self.planner.misses(reached, base_from_probe)
        collided = torch.tensor([bool(one.touched) for one in moved])
        return RobotState(
            joint_position=position,
            joint_velocity=_stack([one.velocity for one in moved], position),
            base_from_probe=reached,
            blocked=far | collided,
            reason=self._reason(plan, far, collided, _stack([one.torque for one in moved], position)),
            anatomy_index=state.anatomy_index,
        )

    def _carry_out(self, state: RobotState, plan: RobotState, period: float, wrench: Tensor | None) -> list[Moved]:
        """Each environment's move in the world of its patient."""
        loads = [None] * len(state.anatomy_index) if wrench is None else wrench.tolist()
        rows = zip(
            state.anatomy_index.tolist(),
            state.joint_position.tolist(),
            state.joint_velocity.tolist(),
            plan.joint_position.tolist(),
            loads,
            state.base_from_probe.translation.tolist(),
            strict=True,
        )
        moved = []
        for patient, position, velocity, target, load, point in rows:
            world = self.world(patient)
            world.place(position, velocity)
            moved.append(world.move(target, period, load, point))
        return moved

    def _reason(
        self, plan: RobotState, far: Bool[Tensor, " envs"], collided: Bool[Tensor, " envs"], torque: Tensor
    ) -> Int[Tensor, " envs"]:
        """A collision first, then a motor that was too weak, then what held the plan back, or else lateness."""
        spent = (torque.abs() >= _SPENT * self.arm.chain.torque).any(-1)
        held = torch.where(plan.blocked, plan.reason, int(BlockReason.SPEED))
        reason = torch.where(far, torch.where(spent, int(BlockReason.TORQUE), held), int(BlockReason.NONE))
        return torch.where(collided, int(BlockReason.COLLISION), reason)


def _stack(rows: Sequence[np.ndarray], like: Tensor) -> Float[Tensor, "envs joints"]:
    return torch.from_numpy(np.stack(rows)).to(like)
