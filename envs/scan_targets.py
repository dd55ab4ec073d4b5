"""What a sweep is to cover: points of an organ or vessel of every patient, and the poses a sweep visits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.anatomy.anatomy import Body
from sonogym.anatomy.tissues import Tissue
from sonogym.errors import InvalidInputError, unknown_name
from sonogym.geometry import Pose, grids
from sonogym.robot.surface_motion import SurfaceMotion

POINTS = 256  # of a target: its volume is sampled evenly
SPACING = 6e-3  # m between the poses of a sweep
STRIPS = (0.0, -0.02, 0.02)  # m: lateral offsets of the strips that make up a sweep
_VESSEL = (Tissue.BLOOD,)
_KIDNEY = (Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_PYRAMID, Tissue.KIDNEY_SINUS)


@dataclass(frozen=True, kw_only=True)
class TargetSpec:
    """Voxels of ``tissues`` within ``radius`` [m] of a landmark whose name starts with ``landmark``.

    The sweep starts from the standard plane ``plane`` and runs ``reach`` [m] both ways across it.
    """

    tissues: tuple[Tissue, ...]
    landmark: str
    radius: float
    plane: str
    reach: float


TARGETS: Mapping[str, TargetSpec] = {
    **{
        f"kidney_{side}": TargetSpec(
            tissues=_KIDNEY, landmark=f"kidney_{side}", radius=0.09, plane=f"kidney_{side}_short", reach=0.07
        )
        for side in ("left", "right")
    },
    "liver": TargetSpec(tissues=(Tissue.LIVER,), landmark="liver", radius=0.08, plane="liver", reach=0.08),
    "spleen": TargetSpec(tissues=(Tissue.SPLEEN,), landmark="spleen", radius=0.1, plane="spleen", reach=0.06),
    "gall_bladder": TargetSpec(
        tissues=(Tissue.BILE,), landmark="gall_bladder", radius=0.06, plane="gall_bladder", reach=0.05
    ),
    "aorta": TargetSpec(tissues=_VESSEL, landmark="aorta_", radius=0.016, plane="aorta_transverse", reach=0.08),
}


def target_spec(name: str) -> TargetSpec:
    """The target called ``name``; raises :class:`UnknownNameError`."""
    if name not in TARGETS:
        raise unknown_name("target", name, TARGETS)
    return TARGETS[name]


def target_points(bodies: Sequence[Body], name: str) -> Float[Tensor, "patients points 3"]:
    """Evenly chosen points [m] of the target in each patient at rest.

    Raises :class:`InvalidInputError` for a patient without labels or without the target.
    """
    spec = target_spec(name)
    return torch.stack([_points_of(body, name, spec) for body in bodies])


def _points_of(body: Body, name: str, spec: TargetSpec) -> Float[Tensor, "points 3"]:
    tissues = body.tissues
    marks = [point.float() for mark, point in body.landmarks.items() if mark.startswith(spec.landmark)]
    if tissues is None or not marks:
        raise InvalidInputError(f"patient {body.name!r} has no {name} to scan; known targets: {', '.join(TARGETS)}")
    wanted = torch.isin(tissues.voxels[0], torch.tensor([int(tissue) for tissue in spec.tissues], dtype=torch.uint8))
    points = grids.affine(tissues.patient_from_voxel.float(), wanted.nonzero().float())
    points = points[torch.cdist(points, torch.stack(marks)).amin(-1) <= spec.radius]
    points = points[_nearest_side(body, spec, points)]
    if len(points) < POINTS:
        raise InvalidInputError(f"patient {body.name!r} shows {len(points)} voxels of {name}, {POINTS} are needed")
    return points[torch.linspace(0, len(points) - 1, POINTS).round().long()]


def _nearest_side(body: Body, spec: TargetSpec, points: Float[Tensor, "points 3"]) -> Tensor:
    """Of paired organs the points that lie closer to this one's landmark than to the other's."""
    sides = {"left": "right", "right": "left"}
    organ, _, side = spec.landmark.rpartition("_")
    other = body.landmarks.get(f"{organ}_{sides.get(side, '')}")
    if other is None:
        return torch.ones(len(points), dtype=torch.bool)
    own = body.landmarks[spec.landmark].float()
    return (points - own).norm(dim=-1) < (points - other.float()).norm(dim=-1)


def sweep_poses(motion: SurfaceMotion, middle: Pose, reach: float) -> Pose:
    """(patients, poses) patient_from_probe of a boustrophedon over the skin: strips across the plane of ``middle``."""
    patients = middle.translation.shape[0]
    index = torch.arange(patients)
    strips = []
    for number, offset in enumerate(STRIPS):
        start = _glide(motion, middle, index, lateral=offset)
        line = _line(motion, start, index, reach)
        strips += line if number % 2 == 0 else line[::-1]
    return Pose(
        torch.stack([pose.quaternion for pose in strips], dim=1),
        torch.stack([pose.translation for pose in strips], dim=1),
    )


def _line(motion: SurfaceMotion, start: Pose, index: Tensor, reach: float) -> list[Pose]:
    steps = round(reach / SPACING)
    ways: list[list[Pose]] = []
    for sign in (-1.0, 1.0):
        pose, way = start, []
        for _ in range(steps):
            pose = _glide(motion, pose, index, elevation=sign * SPACING)
            way.append(pose)
        ways.append(way)
    return [*ways[0][::-1], start, *ways[1]]


def _glide(motion: SurfaceMotion, pose: Pose, index: Tensor, lateral: float = 0.0, elevation: float = 0.0) -> Pose:
    command = torch.tensor([lateral, elevation, 0.0]).expand(len(index), 3)
    return motion.step(pose, index, command, 1.0)[0]
