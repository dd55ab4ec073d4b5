"""Whether a scan keeps to its limits: what is exceeded now, for how long it was, and what stops the robot."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonogym.robot.admittance import StopReason
from sonogym.robot.contact import ContactReading
from sonogym.robot.robot import RobotState
from sonogym.sim.limits import Limits

TERMS = ("force_warn", "force", "pressure", "speed", "workspace", "joint", "contact")
COSTS = TERMS[1:]
SHALLOW = 0.025  # m: bone this close under the skin of flank or belly counts as ribs (design)
_LASTING = {"workspace": StopReason.WORKSPACE, "reach": StopReason.REACH, "contact": StopReason.CONTACT}
_FACING = math.cos(math.radians(45.0))


@dataclass(frozen=True, kw_only=True)
class SafetyState:
    """Batch first. ``exceeded`` are the limits of :data:`TERMS` that are broken now, ``over`` [s] for how long each was
    in this episode; ``lasting`` [s] how long border, reach and loss of contact have lasted without a break; ``region``
    indexes REGIONS; ``stop`` holds a :class:`StopReason`.
    """

    exceeded: Bool[Tensor, "envs terms"]
    over: Float[Tensor, "envs terms"]
    lasting: Float[Tensor, "envs lasting"]
    region: Int[Tensor, " envs"]
    stop: Int[Tensor, " envs"]

    @staticmethod
    def fresh(envs: int) -> SafetyState:
        """Nothing exceeded yet."""
        none = torch.zeros(envs, dtype=torch.int64)
        over = torch.zeros(envs, len(TERMS))
        return SafetyState(
            exceeded=over > 0, over=over, lasting=torch.zeros(envs, len(_LASTING)), region=none, stop=none
        )


@dataclass(frozen=True, kw_only=True)
class Safety:
    """The limits, and the joints [rad] within which no margin is missed (None: no arm)."""

    limits: Limits
    lower: Float[Tensor, " joints"] | None = None
    upper: Float[Tensor, " joints"] | None = None

    def region(self, outward: Float[Tensor, "envs 3"], bone_depth: Float[Tensor, " envs"]) -> Int[Tensor, " envs"]:
        """Index in REGIONS of skin that faces ``outward`` in the patient, with bone ``bone_depth`` [m] below."""
        facing = outward[:, 1]
        region = torch.where(facing > _FACING, 2, torch.where(facing < -_FACING, 0, 1))
        return torch.where((region > 0) & (bone_depth < SHALLOW), 3, region)

    def judge(
        self,
        before: SafetyState,
        period: float,
        speed: Float[Tensor, " envs"],
        held_back: Bool[Tensor, " envs"],
        region: Int[Tensor, " envs"],
        touch: ContactReading | None,
        robot: RobotState | None,
        controller: Int[Tensor, " envs"] | None,
    ) -> SafetyState:
        """The state after ``period`` [s]; ``controller`` is the stop of the force control. A stop stays."""
        limits, never = self.limits, torch.zeros_like(held_back)
        scale = torch.tensor(limits.regions, dtype=speed.dtype)[region]
        force, pressure = (never * scale,) * 2 if touch is None else (touch.force / scale, touch.peak_pressure / scale)
        lost = never if touch is None else (touch.coupled < limits.contact_coupled) & (speed > limits.contact_speed)
        blocked = never if robot is None else robot.blocked
        exceeded = torch.stack(
            (
                force > limits.force_warn,
                force > limits.force_cost,
                pressure > limits.pressure_cost,
                speed > limits.speed_cost,
                held_back,
                blocked | self._at_limit(robot, never),
                lost,
            ),
            dim=-1,
        )
        lasting = torch.where(torch.stack((held_back, blocked, lost), dim=-1), before.lasting + period, 0.0)
        broken = (
            (StopReason.SPEED, speed > limits.speed_stop),
            (StopReason.PRESSURE, pressure > limits.pressure_stop),
            (StopReason.FORCE, force > limits.force_stop),
            *zip(_LASTING.values(), (lasting > self._patience()).unbind(-1), strict=True),
        )
        stop = before.stop if controller is None else torch.where(before.stop > 0, before.stop, controller)
        for reason, violated in broken:
            stop = torch.where((stop == StopReason.NONE) & violated, int(reason), stop)
        return SafetyState(
            exceeded=exceeded, over=before.over + period * exceeded, lasting=lasting, region=region, stop=stop
        )

    def _patience(self) -> Float[Tensor, " lasting"]:
        limits = self.limits
        return torch.tensor([limits.workspace_stop, limits.reach_stop, limits.contact_stop])

    def _at_limit(self, robot: RobotState | None, never: Bool[Tensor, " envs"]) -> Bool[Tensor, " envs"]:
        if robot is None or self.lower is None or self.upper is None:
            return never
        margin, q = self.limits.joint_margin, robot.joint_position
        return ((q < self.lower + margin) | (q > self.upper - margin)).any(-1)
