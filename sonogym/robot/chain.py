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

    Frame i in frame i - 1, as [R | p] row by row, is ``motion`` times (1, sin q, cos q, q): Rodrigues' formula for a
    joint of which ``turns`` holds, a slide along its ``axis`` for another; the axis lies in frame i. The tip lies at
    ``tip_offset`` [m] with ``tip_rotation`` in the last frame. Limits in rad or m, a second, and N m or N.
    Joints that mimic others are no joints of their own: q_moving = ``coupling`` q + ``shift``, None where none mimics.
    """

    joint_names: tuple[str, ...]
    turns: tuple[bool, ...]
    motion: Float[Tensor, "moving 12 4"]
    axis: Float[Tensor, "moving 3"]
    tip_rotation: Float[Tensor, "3 3"]
    tip_offset: Float[Tensor, " 3"]
    lower: Float[Tensor, " joints"]
    upper: Float[Tensor, " joints"]
    speed: Float[Tensor, " joints"]
    torque: Float[Tensor, " joints"]
    coupling: Float[Tensor, "moving joints"] | None = None
    shift: Float[Tensor, "moving 1"] | None = None

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
        if self.coupling is not None and self.shift is not None:
            q = self.coupling @ q + self.shift
        local = torch.bmm(self.motion, torch.stack((torch.ones_like(q), q.sin(), q.cos(), q), dim=1))
        local = local.reshape(-1, 3, 4, q.shape[-1])  # (moving, 3, 4, envs)
        rotation = torch.eye(3, dtype=q.dtype, device=q.device)[..., None].expand(3, 3, q.shape[-1])
        rotations, origins = [rotation], [torch.zeros_like(rotation[0])]
        for step in local:
            moved = (rotations[-1][:, :, None] * step).sum(1)
            rotations.append(moved[:, :3])
            origins.append(origins[-1] + moved[:, 3])
        origins.append(origins[-1] + (rotations[-1] * self.tip_offset[:, None]).sum(1))
        rotations.append((rotations[-1][:, :, None] * self.tip_rotation[..., None]).sum(1))
        rotation = torch.stack(rotations).permute(3, 0, 1, 2)
        origin = torch.stack(origins).permute(2, 0, 1)
        return Frames(rotation.reshape(*batch, -1, 3, 3), origin.reshape(*batch, -1, 3))

    def jacobian(self, frames: Frames) -> Float[Tensor, "*batch 6 joints"]:
        """Geometric Jacobian of the tip in base axes: rows linear [m], angular [rad], per unit of each joint.

        A turning joint moves the tip by axis x (tip - origin), a sliding one by its axis.
        """
        x, y, z = (frames.rotation[..., 1:-1, :, :] * self.axis[:, None, :]).sum(-1).unbind(-1)
        lx, ly, lz = (frames.origin[..., -1:, :] - frames.origin[..., 1:-1, :]).unbind(-1)
        rows = [y * lz - z * ly, z * lx - x * lz, x * ly - y * lx, x, y, z]
        if not all(self.turns):
            turns = torch.tensor(self.turns, device=x.device)
            still = torch.zeros_like(x)
            rows = [
                torch.where(turns, row, other) for row, other in zip(rows, (x, y, z, still, still, still), strict=True)
            ]
        jacobian = torch.stack([row.movedim(-1, 0) for row in rows]).movedim((0, 1), (-2, -1))
        return jacobian if self.coupling is None else jacobian @ self.coupling

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
    slide = (rest @ axis[..., None]) * (1.0 - turns[:, None, None])
    still = torch.cat((rest @ (eye + K @ K), offset[..., None]), dim=-1)
    sine, cosine = (torch.cat((rest @ part, torch.zeros_like(slide)), dim=-1) for part in (K, -K @ K))
    along = torch.cat((torch.zeros_like(eye), slide), dim=-1)
    own = [joint for joint in joints if joint.mimic is None]
    limits = [
        torch.tensor([getattr(joint, key) for joint in own], dtype=torch.float64)
        for key in ("lower", "upper", "speed", "effort")
    ]
    return Chain(
        tuple(joint.name for joint in own),
        tuple(joint.kind != "prismatic" for joint in joints),
        torch.stack((still, sine, cosine, along), dim=-1).reshape(-1, 12, 4),
        axis,
        tip_rotation,
        tip_offset,
        *limits,
        **_coupling(joints, own),
    )


def _coupling(joints: Sequence[Joint], own: Sequence[Joint]) -> dict[str, Any]:
    """How joints that mimic follow the others; raises where the leader is not in the chain."""
    if len(own) == len(joints):
        return {}
    column = {joint.name: at for at, joint in enumerate(own)}
    coupling, shift = torch.zeros(len(joints), len(own), dtype=torch.float64), torch.zeros(len(joints), 1).double()
    for row, joint in enumerate(joints):
        if joint.mimic is None:
            coupling[row, column[joint.name]] = 1.0
            continue
        if joint.mimic.joint not in column:
            raise InvalidInputError(
                f"joint {joint.name!r} mimics {joint.mimic.joint!r}, which is not between base and tip"
            )
        coupling[row, column[joint.mimic.joint]], shift[row] = joint.mimic.multiplier, joint.mimic.offset
    return {"coupling": coupling, "shift": shift}


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
