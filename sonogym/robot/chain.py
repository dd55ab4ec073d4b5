"""A serial chain of joints: where its links are and how they move, for many arms at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose, so3
from sonogym.robot.urdf import MOVING, Joint, Vector


@dataclass(frozen=True)
class Frames:
    """Frames of a chain in its base: frame 0 is the base, frame i what joint i moves, the last one the tip."""

    rotation: Float[Tensor, "*batch frames 3 3"]
    origin: Float[Tensor, "*batch frames 3"]

    @property
    def tip(self) -> Pose:
        """``base_from_tip``."""
        return Pose(so3.from_rotation(self.rotation[..., -1, :, :]), self.origin[..., -1, :])


@dataclass(frozen=True)
class Chain:
    """Moving joints in order; fixed joints are folded into their neighbours.

    Frame i in frame i - 1 is R_i = ``still`` + sin(q) ``sine`` + cos(q) ``cosine`` (Rodrigues) at ``offset`` [m]
    + q ``slide``; ``axis`` is the joint's axis in frame i, ``turns`` 1 where it rotates and 0 where it slides. The tip
    lies at ``tip_offset`` [m] with ``tip_rotation`` in the last frame. Limits in rad or m, a second, and N m or N.
    """

    joint_names: tuple[str, ...]
    still: Float[Tensor, "joints 3 3"]
    sine: Float[Tensor, "joints 3 3"]
    cosine: Float[Tensor, "joints 3 3"]
    offset: Float[Tensor, "joints 3"]
    slide: Float[Tensor, "joints 3"]
    axis: Float[Tensor, "joints 3"]
    turns: Float[Tensor, " joints"]
    tip_rotation: Float[Tensor, "3 3"]
    tip_offset: Float[Tensor, " 3"]
    lower: Float[Tensor, " joints"]
    upper: Float[Tensor, " joints"]
    speed: Float[Tensor, " joints"]
    torque: Float[Tensor, " joints"]

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Chain:
        """The same chain on another device or in another precision."""
        moved: dict[str, Any] = {}
        for name, value in vars(self).items():
            moved[name] = value.to(device, dtype) if isinstance(value, Tensor) else value
        return Chain(**moved)

    def frames(self, joint_position: Float[Tensor, "*batch joints"]) -> Frames:
        """Forward kinematics. The environment axis runs last inside, so that every product is elementwise over it."""
        batch = joint_position.shape[:-1]
        q = joint_position.reshape(-1, len(self.joint_names)).T  # (joints, envs)
        turn = self.still[..., None] + self.sine[..., None] * q.sin()[:, None, None]
        turn = turn + self.cosine[..., None] * q.cos()[:, None, None]  # (joints, 3, 3, envs)
        step = self.offset[..., None] + self.slide[..., None] * q[:, None]  # (joints, 3, envs)
        rotation = torch.eye(3, dtype=q.dtype, device=q.device)[..., None].expand(3, 3, q.shape[-1])
        rotations, origins = [rotation], [torch.zeros_like(step[0])]
        rotations.append(turn[0])
        origins.append(step[0])
        for joint in range(1, len(self.joint_names)):
            origins.append(origins[-1] + (rotations[-1] * step[joint]).sum(1))
            rotations.append((rotations[-1][:, :, None] * turn[joint]).sum(1))
        origins.append(origins[-1] + (rotations[-1] * self.tip_offset[:, None]).sum(1))
        rotations.append((rotations[-1][:, :, None] * self.tip_rotation[..., None]).sum(1))
        rotation = torch.stack(rotations).permute(3, 0, 1, 2)
        origin = torch.stack(origins).permute(2, 0, 1)
        return Frames(rotation.reshape(*batch, -1, 3, 3), origin.reshape(*batch, -1, 3))

    def jacobian(self, frames: Frames) -> Float[Tensor, "*batch 6 joints"]:
        """Geometric Jacobian of the tip in base axes: rows linear [m], angular [rad], per unit of each joint.

        A turning joint moves the tip by axis x (tip - origin), a sliding one by its axis.
        """
        axis = (frames.rotation[..., 1:-1, :, :] * self.axis[:, None, :]).sum(-1)
        lever = frames.origin[..., -1:, :] - frames.origin[..., 1:-1, :]
        turns = self.turns[:, None]
        linear = torch.linalg.cross(axis, lever) * turns + axis * (1.0 - turns)
        return torch.cat((linear, axis * turns), dim=-1).mT

    def with_tip(self, tip_from_tool: Pose) -> Chain:
        """The chain that ends in a tool fixed to the present tip."""
        rotation = so3.to_matrix(tip_from_tool.quaternion).to(self.tip_rotation)
        offset = self.tip_offset + self.tip_rotation @ tip_from_tool.translation.to(self.tip_offset)
        return replace(self, tip_rotation=self.tip_rotation @ rotation, tip_offset=offset)


def chain_from_joints(joints: Sequence[Joint]) -> tuple[Chain, Mapping[str, tuple[int, Pose]]]:
    """A float64 chain of the joints from base to tip, and each link's frame with its place in that frame.

    Raises :class:`InvalidInputError` if no joint moves or one floats.
    """
    rotation, offset = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    moving: list[Joint] = []
    turns, offsets = [], []
    place = {joints[0].parent: (0, _pose(rotation, offset))} if joints else {}
    for joint in joints:
        offset = offset + rotation @ torch.tensor(joint.xyz, dtype=torch.float64)
        rotation = rotation @ rotation_from_rpy(joint.rpy)
        if joint.kind in MOVING:
            moving.append(joint)
            turns.append(rotation)
            offsets.append(offset)
            rotation, offset = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
        elif joint.kind != "fixed":
            raise InvalidInputError(f"joint {joint.name!r} is {joint.kind}: a chain may turn, slide or be fixed")
        place[joint.child] = (len(moving), _pose(rotation, offset))
    if not moving:
        raise InvalidInputError("no joint between base and tip moves")
    return _assemble(moving, torch.stack(turns), torch.stack(offsets), rotation, offset), place


def _assemble(joints: Sequence[Joint], rest: Tensor, offset: Tensor, tip_rotation: Tensor, tip_offset: Tensor) -> Chain:
    """Rodrigues: exp(q K) = I + sin(q) K + (1 - cos(q)) K^2, after the rotation at rest."""
    axis = torch.tensor([joint.axis for joint in joints], dtype=torch.float64)
    turns = torch.tensor([float(joint.kind != "prismatic") for joint in joints], dtype=torch.float64)
    eye = torch.eye(3, dtype=torch.float64).expand(len(joints), 3, 3)
    K = torch.linalg.cross(axis[:, None, :].expand_as(eye), eye).mT * turns[:, None, None]
    limits = [
        torch.tensor([getattr(joint, key) for joint in joints], dtype=torch.float64)
        for key in ("lower", "upper", "speed", "effort")
    ]
    return Chain(
        tuple(joint.name for joint in joints),
        rest @ (eye + K @ K),
        rest @ K,
        -rest @ K @ K,
        offset,
        (rest @ axis[..., None])[..., 0] * (1.0 - turns[:, None]),
        axis,
        turns,
        tip_rotation,
        tip_offset,
        *limits,
    )


def rotation_from_rpy(rpy: Vector) -> Float[Tensor, "3 3"]:
    """R = Rz(yaw) Ry(pitch) Rx(roll), URDF's fixed-axis angles [rad], float64."""
    (cr, cp, cy), (sr, sp, sy) = [math.cos(a) for a in rpy], [math.sin(a) for a in rpy]
    rows = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    return torch.tensor(rows, dtype=torch.float64)


def _pose(rotation: Tensor, offset: Tensor) -> Pose:
    return Pose(so3.from_matrix(rotation), offset)
