"""Goals and start regions of standard planes, for all patients of a renderer at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonogym.anatomy.anatomy import Body
from sonogym.anatomy.plane_specs import find_spec
from sonogym.anatomy.planes import LEVELS, plane_pose, plane_views, reachable_planes, spine_axis
from sonogym.errors import InvalidInputError, UnknownNameError, unknown_name
from sonogym.geometry import Pose
from sonogym.robot.surface_motion import SurfaceMotion
from sonogym.sim.start_region import StartRegion

SPINE_HALF_WIDTH = 0.05  # m: lateral reach of a start about the midline
ORGAN_HALF_WIDTH = 0.06  # m: reach of a start about the goal of an organ plane
_TOP = LEVELS.index("T12")
_ROWS, _COLUMNS = 25, 11
_LEFT = torch.tensor([-1.0, 0.0, 0.0])
_POSTERIOR = torch.tensor([0.0, -1.0, 0.0])
_UP = torch.tensor([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Goals:
    """``pose`` (patients,) is patient_from_goal on the manifold of the motion.

    ``level_point`` [m] is where a probe shows the transverse plane of each vertebra of LEVELS (NaN: not imaged).
    """

    pose: Pose
    level_point: Float[Tensor, "patients levels 3"]

    def level(self, points: Float[Tensor, "envs 3"], anatomy_index: Int[Tensor, " envs"]) -> Int[Tensor, " envs"]:
        """Index in LEVELS of the vertebra whose plane lies closest to skin points, along the body."""
        away = (self.level_point[anatomy_index][:, :, 2] - points[:, None, 2]).abs()
        return away.nan_to_num(nan=float("inf")).argmin(-1)


def find_goals(bodies: Sequence[Body], plane: str, motion: SurfaceMotion) -> Goals:
    """The plane's pose on every patient's skin, settled where the motion can be.

    Raises :class:`UnknownNameError` for an unknown plane or one that a patient lacks (naming those it has), and
    :class:`InvalidInputError` where the goal lies outside the workspace.
    """
    find_spec(plane)
    poses = [_plane_of(body, plane) for body in bodies]
    pose = Pose(*(torch.stack([getattr(one, part) for one in poses]) for part in ("quaternion", "translation")))
    lateral = pose.apply(torch.tensor([1.0, 0.0, 0.0])) - pose.translation
    goal, inside = motion.place(pose.translation, lateral, torch.arange(len(bodies)), rounds=3)
    for body, reached in zip(bodies, inside.tolist(), strict=True):
        if not reached:
            raise InvalidInputError(
                f"plane {plane!r} of patient {body.name!r} is out of reach: its probe pose lies outside the imaged "
                "skin; pick another plane or leave the patient out"
            )
    return Goals(goal, torch.stack([_level_points(body) for body in bodies]))


def _plane_of(body: Body, plane: str) -> Pose:
    try:
        return plane_pose(body, plane)
    except UnknownNameError:
        raise unknown_name(f"plane of patient {body.name!r}", plane, reachable_planes(body)) from None


def _level_points(body: Body) -> Float[Tensor, "levels 3"]:
    points = torch.full((len(LEVELS), 3), torch.nan)
    views = plane_views(body, "spine")
    for at, level in enumerate(LEVELS):
        if f"transverse_{level}" in views:
            points[at] = views[f"transverse_{level}"].pose.translation
    return points


def start_region(bodies: Sequence[Body], plane: str, goals: Goals, motion: SurfaceMotion) -> StartRegion:
    """Where episodes start: the back from T12 to S1 for spine planes, else the skin about the goal.

    The region reaches at least one level beyond a spine goal, and ends where the imaged skin does.
    """
    lateral = goals.pose.apply(torch.tensor([1.0, 0.0, 0.0])) - goals.pose.translation
    spec = find_spec(plane)
    if spec.start == "back":
        grids = [_back_grid(body, _TOP if spec.level is None else LEVELS.index(spec.level)) for body in bodies]
    else:
        grids = [_grid_about(goals.pose[at]) for at in range(len(bodies))]
    return StartRegion.fit(motion, grids, lateral, [body.name for body in bodies])


def _back_grid(body: Body, goal_level: int) -> Float[Tensor, "rows columns 3"]:
    """Skin of the back: rows along the spine (equal steps), columns to both sides of the midline."""
    line = _spine_line(body, min(_TOP, goal_level - 1))
    length = torch.cat((torch.zeros(1), (line[1:] - line[:-1]).norm(dim=-1).cumsum(0)))
    at = torch.linspace(0.0, float(length[-1]), _ROWS)
    cell = (torch.searchsorted(length, at, right=True) - 1).clamp(0, len(line) - 2)
    share = (at - length[cell]) / (length[cell + 1] - length[cell])
    centre = torch.lerp(line[cell], line[cell + 1], share[:, None])
    aside = torch.linspace(-SPINE_HALF_WIDTH, SPINE_HALF_WIDTH, _COLUMNS)
    inside = centre[:, None, :] + aside[:, None] * _LEFT
    return body.skin.cast(inside, _POSTERIOR.expand_as(inside))


def _spine_line(body: Body, top: int) -> Float[Tensor, "levels 3"]:
    """Vertebral centres from level ``top`` (or the first one imaged below it) down to S1."""
    centres = [body.landmarks.get(f"vertebra_{level}") for level in LEVELS[max(top, 0) :]]
    known = torch.stack([point.float() for point in centres if point is not None])
    lowest = body.landmarks.get("vertebra_S1")
    if lowest is None:
        step = known[-1] - known[-2] if len(known) > 1 else -0.035 * spine_axis(body, "L4")
        lowest = known[-1] + step
    return torch.cat((known, lowest.float()[None]))


def _grid_about(goal: Pose) -> Float[Tensor, "rows columns 3"]:
    """Points of the tangent plane about an organ's goal; rows run up the body."""
    inward = goal.apply(torch.tensor([0.0, 0.0, 1.0])) - goal.translation
    up = _UP - (_UP @ inward) * inward
    up = up / up.norm()
    steps = torch.linspace(-ORGAN_HALF_WIDTH, ORGAN_HALF_WIDTH, _COLUMNS)
    return goal.translation + steps[:, None, None] * up + steps[None, :, None] * torch.linalg.cross(up, inward)
