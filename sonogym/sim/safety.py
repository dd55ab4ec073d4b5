"""Whether a scan keeps to its limits: what is exceeded now, for how long it was, and what stops the robot."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonogym.robot.admittance import StopReason
from sonogym.robot.chain import Chain
from sonogym.robot.robot import RobotState
from sonogym.sim.limits import Limits
from sonogym.sim.probe_motion import axis_of
from sonogym.sim.state import SafetyState, SimState

SHALLOW = 0.025  # m: bone this close under the skin of flank or belly counts as ribs (design)
_LASTING = (StopReason.WORKSPACE, StopReason.REACH, StopReason.CONTACT)
_REASONS = torch.tensor([StopReason.SPEED, StopReason.PRESSURE, StopReason.FORCE, *_LASTING])
_FACING = math.cos(math.radians(45.0))


@dataclass(frozen=True, kw_only=True)
class Safety:
    """The limits, and the ``chain`` of the arm whose joints have them (None: no arm)."""

    limits: Limits
    chain: Chain | None = None

    @functools.cached_property
    def _scale(self) -> Float[Tensor, " regions"]:
        return torch.tensor(self.limits.regions)

    def judge(self, before: SafetyState, after: SimState, period: float, speed: Float[Tensor, " envs"]) -> SafetyState:
        """The state after a step of ``period`` [s] at ``speed`` [m/s] that led to ``after``. A stop stays."""
        touch, robot, held_back = after.touch, after.robot, after.held_back
        limits, never = self.limits, torch.zeros_like(held_back)
        region = before.region if touch is None else region_of(-axis_of(after.patient_from_probe), touch.bone_depth)
        scale = self._scale[region]
        force, pressure = (speed * 0.0,) * 2 if touch is None else (touch.force / scale, touch.peak_pressure / scale)
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
        violated = torch.stack(
            (
                speed > limits.speed_stop,
                pressure > limits.pressure_stop,
                force > limits.force_stop,
                *(lasting > self._patience).unbind(-1),
            ),
            dim=-1,
        )
        stop = self._stop(before.stop, after, violated)
        return SafetyState(
            exceeded=exceeded, over=before.over + period * exceeded, lasting=lasting, region=region, stop=stop
        )

    def _stop(
        self, before: Int[Tensor, " envs"], after: SimState, violated: Bool[Tensor, "envs reasons"]
    ) -> Int[Tensor, " envs"]:
        """The first reason to stop: one of old, that of the force control, or the first of _REASONS that is met."""
        if after.press is not None:
            before = torch.where(before == StopReason.NONE, after.press.stop, before)
        first = _REASONS[violated.int().argmax(-1)]
        return torch.where((before == StopReason.NONE) & violated.any(-1), first, before)

    @functools.cached_property
    def _patience(self) -> Float[Tensor, " lasting"]:
        limits = self.limits
        return torch.tensor([limits.workspace_stop, limits.reach_stop, limits.contact_stop])

    def _at_limit(self, robot: RobotState | None, never: Bool[Tensor, " envs"]) -> Bool[Tensor, " envs"]:
        if robot is None or self.chain is None:
            return never
        margin, q = self.limits.joint_margin, robot.joint_position
        return ((q < self.chain.lower + margin) | (q > self.chain.upper - margin)).any(-1)


def region_of(outward: Float[Tensor, "envs 3"], bone_depth: Float[Tensor, " envs"]) -> Int[Tensor, " envs"]:
    """Index in REGIONS of skin that faces ``outward`` in the patient, with bone ``bone_depth`` [m] below."""
    facing = outward[:, 1]
    region = torch.where(facing > _FACING, 2, torch.where(facing < -_FACING, 0, 1))
    return torch.where((region > 0) & (bone_depth < SHALLOW), 3, region)
