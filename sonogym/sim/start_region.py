"""Where a probe may be put down: a patch of skin for each patient, addressed by two numbers in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose, so3
from sonogym.robot.surface_motion import SurfaceMotion


@dataclass(frozen=True)
class StartRegion:
    """``points`` [m] is a grid near the skin for each patient, ``lateral`` the image axis x of a start without yaw."""

    motion: SurfaceMotion
    points: Float[Tensor, "patients rows columns 3"]
    lateral: Float[Tensor, "patients 3"]

    @staticmethod
    def fit(
        motion: SurfaceMotion,
        grids: Sequence[Float[Tensor, "rows columns 3"]],
        lateral: Float[Tensor, "patients 3"],
        names: Sequence[str],
    ) -> StartRegion:
        """The grids, each cut to the rows that lie in the workspace and stretched to its old number of rows.

        Raises :class:`InvalidInputError` naming the patient of which fewer than two rows are left.
        """
        fitted = [_fit(motion, grid, lateral[at], at, names[at]) for at, grid in enumerate(grids)]
        return StartRegion(motion, torch.stack(fitted), lateral)

    def pose(
        self,
        anatomy_index: Int[Tensor, " envs"],
        along: Float[Tensor, " envs"],
        across: Float[Tensor, " envs"],
        yaw: Float[Tensor, " envs"],
    ) -> Pose:
        """patient_from_probe on the skin at ``along`` the rows and ``across`` the columns, turned by ``yaw`` [rad]."""
        row, row_weight = _locate(along, self.points.shape[1])
        column, column_weight = _locate(across, self.points.shape[2])
        corners = self.points[anatomy_index]
        env = torch.arange(len(along), device=along.device)
        low, high = (
            torch.lerp(corners[env, row + i, column], corners[env, row + i, column + 1], column_weight) for i in (0, 1)
        )
        point = torch.lerp(low, high, row_weight)
        pose, _ = self.motion.place(point, self.lateral[anatomy_index], anatomy_index)
        turn = torch.stack((torch.zeros_like(yaw), torch.zeros_like(yaw), yaw), dim=-1)
        return Pose(so3.multiply(pose.quaternion, so3.exp(turn)), pose.translation)


def _locate(unit: Float[Tensor, " envs"], count: int) -> tuple[Int[Tensor, " envs"], Float[Tensor, "envs 1"]]:
    position = unit.clamp(0.0, 1.0) * (count - 1)
    cell = position.floor().clamp_max(count - 2)
    return cell.long(), (position - cell)[:, None]


def _fit(
    motion: SurfaceMotion, grid: Float[Tensor, "rows columns 3"], lateral: Float[Tensor, "3"], patient: int, name: str
) -> Float[Tensor, "rows columns 3"]:
    rows, columns, _ = grid.shape
    index = torch.full((rows * columns,), patient)
    pose, inside = motion.place(grid.reshape(-1, 3), lateral.expand(rows * columns, 3), index, rounds=3)
    kept = _longest_run(inside.reshape(rows, columns).all(1).tolist())
    if len(kept) < 2:
        raise InvalidInputError(
            f"patient {name!r}: the skin around the goal is outside the imaged region; pick another plane or patient"
        )
    row, weight = _locate(torch.linspace(0.0, 1.0, rows), len(kept))
    points = pose.translation.reshape(rows, columns, 3)[kept.start : kept.stop]
    return torch.lerp(points[row], points[row + 1], weight[:, :, None])


def _longest_run(flags: list[bool]) -> range:
    best = range(0)
    start = 0
    for at, flag in enumerate([*flags, False]):
        if not flag:
            best = max(best, range(start, at), key=len)
            start = at + 1
    return best
