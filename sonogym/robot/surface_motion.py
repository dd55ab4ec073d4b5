"""A probe that glides on the skin: two tangential speeds and a turn about the skin's normal."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonogym.anatomy.stack import VolumeStack
from sonogym.anatomy.surface import CLEARANCE
from sonogym.errors import require_between
from sonogym.geometry import Pose, so3
from sonogym.geometry.compiled import array, serves
from sonogym.robot import kernel_surface

SKIN_TOLERANCE = 3e-4  # m: farther than this from the skin after projection, the probe has lost it
_ITERATIONS = 2  # Newton steps onto the skin: a control step leaves it by less than 1 mm, each cuts that twentyfold
_NOTHING = (  # the arrays of a stack without volumes
    np.empty((0, 1), np.float32), np.empty(0, np.int64), np.empty((0, 3), np.int64), np.empty((0, 4, 4), np.float32)
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SurfaceMotion:
    """Motion on the skin with the probe's z along the smoothed inward normal.

    The poses it visits form a 3-DoF manifold: a skin point s, z = -n(s), x in the tangent plane, origin s + press z.
    ``skin`` holds signed skin distances [m], positive outside; ``press`` [m] is how far the face sinks in;
    ``normal_step`` [m] the half-width of the central difference that smooths the normal over a probe's face;
    ``margin`` [m] what the probe keeps from the border of the skin grid (beyond the imaged region); ``clearance``
    holds the distances [m] to where scans cut their bodies, of which it keeps ``CLEARANCE``.
    """

    skin: VolumeStack
    press: float
    clearance: VolumeStack | None = None
    normal_step: float = 9e-3
    margin: float = 3.3e-2
    _stencil: Float[Tensor, "7 3"] = field(init=False, repr=False)
    _border: Float[Tensor, "anatomies 3"] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_between("press", self.press, 0.0, 0.03, "m")
        require_between("normal_step", self.normal_step, 1e-3, 0.03, "m")
        require_between("margin", self.margin, 0.0, 0.2, "m")
        steps = self.normal_step * torch.eye(3, device=self.skin.flat.device)
        object.__setattr__(self, "_stencil", torch.cat((torch.zeros_like(steps[:1]), steps, -steps)))
        object.__setattr__(self, "_border", self.margin * self.skin.voxel_from_patient[:, :3, :3].norm(dim=-1))

    def step(
        self,
        patient_from_probe: Pose,
        anatomy_index: Int[Tensor, " envs"],
        command: Float[Tensor, "envs 3"],
        duration: float,
        press: float | Float[Tensor, "envs 1"] | None = None,
    ) -> tuple[Pose, Bool[Tensor, " envs"]]:
        """The pose after ``duration`` [s] of lateral and elevation speed [m/s] and yaw rate [rad/s].

        Also which environments were held back at the border of the workspace: they turn but do not move. ``press`` [m]
        replaces the usual one, before and after alike. Compiled where no gradient is asked for:
        :meth:`step_reference` to rounding.
        """
        press = self.press if press is None else press
        depth = press if isinstance(press, Tensor) else command.new_full((len(command), 1), press)
        given = (patient_from_probe.quaternion, patient_from_probe.translation, command, depth)
        if self.skin.compiled(command) and serves(*given):
            return self._fused(patient_from_probe, anatomy_index, command, duration, depth)
        return self.step_reference(patient_from_probe, anatomy_index, command, duration, press)

    def _fused(
        self, pose: Pose, index: Int[Tensor, " envs"], command: Tensor, duration: float, press: Tensor
    ) -> tuple[Pose, Bool[Tensor, " envs"]]:
        moved = Pose(torch.empty(len(index), 4), torch.empty(len(index), 3))
        held = torch.empty(len(index), dtype=torch.bool)
        kernel_surface.step(
            self.skin.arrays(index)[:4], _NOTHING if self.clearance is None else self.clearance.arrays(index)[:4],
            index.numpy(), array(pose.quaternion), array(pose.translation), array(command), array(press[:, 0]),
            (duration, self.normal_step, self.margin, SKIN_TOLERANCE, _ITERATIONS),
            moved.quaternion.numpy(), moved.translation.numpy(), held.numpy(),
        )  # fmt: skip
        return moved, held

    def step_reference(
        self,
        patient_from_probe: Pose,
        anatomy_index: Int[Tensor, " envs"],
        command: Float[Tensor, "envs 3"],
        duration: float,
        press: float | Float[Tensor, "envs 1"],
    ) -> tuple[Pose, Bool[Tensor, " envs"]]:
        """:meth:`step`, defined."""
        axis = so3.rotate(patient_from_probe.quaternion, _z_axis(command))
        skin_point = patient_from_probe.translation - press * axis
        in_plane = torch.cat((command[:, :2] * duration, torch.zeros_like(command[:, :1])), dim=-1)
        target = skin_point + so3.rotate(patient_from_probe.quaternion, in_plane)
        point, normal, on_skin = self.project(target, anatomy_index)
        point = torch.where(on_skin[:, None], point, skin_point)
        inward = torch.where(on_skin[:, None], -normal, axis)
        turn = torch.cat((torch.zeros_like(in_plane[:, :2]), command[:, 2:] * duration), dim=-1)
        moved = so3.multiply(shortest_turn(axis, inward), patient_from_probe.quaternion)
        quaternion = so3.multiply(moved, so3.exp(turn))
        quaternion = quaternion / quaternion.norm(dim=-1, keepdim=True)
        return Pose(quaternion, point + press * inward), ~on_skin

    def project(
        self, points: Float[Tensor, "envs 3"], anatomy_index: Int[Tensor, " envs"]
    ) -> tuple[Float[Tensor, "envs 3"], Float[Tensor, "envs 3"], Bool[Tensor, " envs"]]:
        """Skin point reached along the distance gradient, its outward normal, and whether it lies in the workspace."""
        for _ in range(_ITERATIONS):
            distance, normal = self.distance_and_normal(points, anatomy_index)
            points = points - distance[:, None] * normal
        return points, normal, self.inside(points, anatomy_index) & (distance.abs() < SKIN_TOLERANCE)

    def place(
        self,
        points: Float[Tensor, "envs 3"],
        lateral: Float[Tensor, "envs 3"],
        anatomy_index: Int[Tensor, " envs"],
        rounds: int = 1,
    ) -> tuple[Pose, Bool[Tensor, " envs"]]:
        """Poses of the manifold at the skin near ``points`` [m], x as close to ``lateral`` as the skin allows.

        Also which of them lie in the workspace. Points more than some mm off the skin take more ``rounds``.
        """
        for _ in range(rounds):
            points, normal, on_skin = self.project(points, anatomy_index)
        return Pose.from_axes(lateral, -normal, points - self.press * normal), on_skin

    def distance_and_normal(
        self, points: Float[Tensor, "envs 3"], anatomy_index: Int[Tensor, " envs"]
    ) -> tuple[Float[Tensor, " envs"], Float[Tensor, "envs 3"]]:
        """Signed distance [m] to the skin, positive outside, and its smoothed outward normal."""
        values = self.skin.trilinear(points[:, None, :] + self._stencil, anatomy_index)
        gradient = values[:, 1:4] - values[:, 4:]
        return values[:, 0], gradient / gradient.norm(dim=-1, keepdim=True).clamp_min(1e-12)

    def inside(self, points: Float[Tensor, "envs 3"], anatomy_index: Int[Tensor, " envs"]) -> Bool[Tensor, " envs"]:
        """Whether points [m] lie in the workspace."""
        voxel = self.skin.voxel(points, anatomy_index)
        border = self._border[anatomy_index]
        inside = ((voxel >= border) & (voxel <= self.skin.shape[anatomy_index] - 1 - border)).all(-1)
        if self.clearance is None:
            return inside
        return inside & (self.clearance.trilinear(points, anatomy_index) >= CLEARANCE)


def _z_axis(like: Tensor) -> Float[Tensor, "envs 3"]:
    axis = torch.zeros(like.shape[0], 3, dtype=like.dtype, device=like.device)
    axis[:, 2] = 1.0
    return axis


def shortest_turn(start: Float[Tensor, "envs 3"], end: Float[Tensor, "envs 3"]) -> Float[Tensor, "envs 4"]:
    """Quaternion that takes unit vector ``start`` to ``end`` without twist (they are never opposite on a skin)."""
    half = torch.cat((1.0 + (start * end).sum(-1, keepdim=True), torch.linalg.cross(start, end)), dim=-1)
    return half / half.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def displacement(probe_from_goal: Pose) -> Float[Tensor, "envs 3"]:
    """What is left to the goal in the probe frame: lateral and elevation shift [m], yaw [rad] in [-pi, pi)."""
    w, _, _, z = probe_from_goal.quaternion.unbind(-1)
    yaw = 2.0 * torch.atan2(z, w)
    yaw = torch.remainder(yaw + torch.pi, 2.0 * torch.pi) - torch.pi
    return torch.cat((probe_from_goal.translation[:, :2], yaw[:, None]), dim=-1)


def errors(probe_from_goal: Pose) -> tuple[Float[Tensor, " envs"], Float[Tensor, " envs"]]:
    """Distance [m] between the origins and angle [rad] in [0, pi] between the orientations."""
    return probe_from_goal.translation.norm(dim=-1), so3.log(probe_from_goal.quaternion).norm(dim=-1)
