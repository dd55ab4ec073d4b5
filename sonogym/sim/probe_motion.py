"""What a command moves: action modes as motions of a probe beside a patient's skin."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonogym.geometry import Pose, so3
from sonogym.robot.surface_motion import SurfaceMotion, shortest_turn

MOST_TILT = math.radians(30.0)  # off the skin's normal (design)
HIGHEST, DEEPEST = 0.05, 0.03  # m: how far a free probe may go off the skin and into it (design)


@dataclass(frozen=True)
class Moved:
    """Where probes were moved to, who was held back, and the frame whose z they are pressed along."""

    pose: Pose
    held_back: Bool[Tensor, " envs"]
    upright: Pose

    @property
    def inward(self) -> Float[Tensor, "envs 3"]:
        """Unit vector along which the probe is pressed."""
        return axis_of(self.upright)


Press = float | Float[Tensor, "envs 1"]
Motion = Callable[[SurfaceMotion, Pose, Int[Tensor, " envs"], Tensor, float, Press], Moved]


def surface(
    motion: SurfaceMotion,
    pose: Pose,
    anatomy_index: Int[Tensor, " envs"],
    command: Float[Tensor, "envs 3"],
    duration: float,
    press: Press,
) -> Moved:
    """Lateral, elevation speed [m/s] and yaw rate [rad/s] on the skin, the normal kept, ``press`` [m] below it."""
    moved, held_back = motion.step(pose, anatomy_index, command, duration, press)
    return Moved(moved, held_back, moved)


def surface_tilt(
    motion: SurfaceMotion,
    pose: Pose,
    anatomy_index: Int[Tensor, " envs"],
    command: Float[Tensor, "envs 5"],
    duration: float,
    press: Press,
) -> Moved:
    """As :func:`surface`, then rates [rad/s] about the probe's y (pitch) and x (roll), within MOST_TILT of the normal.

    pose = upright pose on the skin x exp(tilt): the tilt is read off the pose, turned and put back.
    """
    axis = axis_of(pose)
    _, normal = motion.distance_and_normal(pose.translation, anatomy_index)
    upright = Pose(so3.multiply(shortest_turn(axis, -normal), pose.quaternion), pose.translation)
    tilt = so3.log(so3.multiply(so3.conjugate(upright.quaternion), pose.quaternion))[:, :2]
    upright, held_back = motion.step(upright, anatomy_index, command[:, :3], duration, press)
    tilt = tilt + duration * command[:, [4, 3]]
    tilt = tilt * (MOST_TILT / tilt.norm(dim=-1, keepdim=True).clamp_min(1e-9)).clamp_max(1.0)
    turn = so3.exp(torch.cat((tilt, torch.zeros_like(tilt[:, :1])), dim=-1))
    return Moved(Pose(so3.multiply(upright.quaternion, turn), upright.translation), held_back, upright)


def twist(
    motion: SurfaceMotion,
    pose: Pose,
    anatomy_index: Int[Tensor, " envs"],
    command: Float[Tensor, "envs 6"],
    duration: float,
    press: Press,
) -> Moved:
    """Linear [m/s] and angular [rad/s] velocity in the probe frame; who would leave the workspace stands still.

    That reaches from HIGHEST off the skin to DEEPEST into it, and to two MOST_TILT off its normal.
    """
    moved = pose @ Pose.exp(duration * command)
    distance, normal = motion.distance_and_normal(moved.translation, anatomy_index)
    upright = -(normal * axis_of(moved)).sum(-1) >= math.cos(2.0 * MOST_TILT)
    below = moved.translation - distance[:, None] * normal
    free = motion.inside(below, anatomy_index) & (distance <= HIGHEST) & (distance >= -DEEPEST) & upright
    kept = moved.where(free, pose)
    return Moved(kept, ~free, kept)


@dataclass(frozen=True)
class Mode:
    """An action mode: its motion, what its numbers move, and whether the force is regulated for the agent."""

    move: Motion
    axes: tuple[str, ...]
    regulated: bool

    @property
    def angular(self) -> tuple[bool, ...]:
        """Whether each number is a turn."""
        return tuple(axis in ("yaw", "pitch", "roll") for axis in self.axes)


MODES: Mapping[str, Mode] = {
    "surface": Mode(surface, ("lateral", "elevation", "yaw"), True),
    "surface_tilt": Mode(surface_tilt, ("lateral", "elevation", "yaw", "pitch", "roll"), True),
    "twist": Mode(twist, ("lateral", "elevation", "axial", "roll", "pitch", "yaw"), False),
}


def axis_of(pose: Pose) -> Float[Tensor, "envs 3"]:
    """The probe's z in the patient."""
    return so3.rotate(pose.quaternion, torch.tensor([0.0, 0.0, 1.0]).to(pose.quaternion).expand_as(pose.translation))
