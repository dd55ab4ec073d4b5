"""Standard planes: the probe pose on the skin that shows a named view."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.anatomy.anatomy import Body
from sonogym.anatomy.surface import Skin
from sonogym.errors import InvalidInputError, UnknownNameError, unknown_name
from sonogym.geometry import Pose

LEVELS = ("T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5")
_LEFT = torch.tensor([-1.0, 0.0, 0.0])
_UP = torch.tensor([0.0, 0.0, 1.0])
_POSTERIOR = torch.tensor([0.0, -1.0, 0.0])
_ANTERIOR = -_POSTERIOR
_MOST_TILT, _TILTS = math.radians(40.0), 13

# target landmark, direction from it to the probe (patient RAS), image lateral axis
_ORGAN_PLANES = {
    "kidney_left_long": ("kidney_left", torch.tensor([-0.75, -0.66, 0.0]), _UP),
    "kidney_right_long": ("kidney_right", torch.tensor([0.75, -0.66, 0.0]), _UP),
    "kidney_left_short": ("kidney_left", torch.tensor([-0.75, -0.66, 0.0]), _ANTERIOR),
    "kidney_right_short": ("kidney_right", torch.tensor([0.75, -0.66, 0.0]), _ANTERIOR),
    "liver_kidney": ("kidney_right", torch.tensor([0.98, 0.2, 0.0]), _UP),
    "liver": ("liver", torch.tensor([0.75, 0.66, 0.0]), _LEFT),
    "gall_bladder": ("gall_bladder", torch.tensor([0.45, 0.89, 0.0]), _UP),
    "spleen": ("spleen", torch.tensor([-0.87, -0.5, 0.0]), _UP),
    "aorta_transverse": ("aorta_L3", _ANTERIOR, _LEFT),
    "aorta_long": ("aorta_L3", _ANTERIOR, _UP),
    "lung_right": ("lung_right", torch.tensor([0.5, -0.87, 0.0]), _UP),
}
PLANE_NAMES = (*(f"transverse_{level}" for level in LEVELS), *(f"sagittal_{level}" for level in LEVELS), *_ORGAN_PLANES)


def plane_pose(body: Body, plane: str) -> Pose:
    """``patient_from_probe`` of a standard plane: origin on the skin, z into the body along the skin's normal,
    the named structure in the image plane.

    Spine planes are reached from the back, transverse with x to the patient's left, sagittal with x towards the head.
    Raises :class:`UnknownNameError` for an unknown plane, or one whose landmark this patient lacks, and
    :class:`InvalidInputError` where the probe would stand on a cut of the scan.
    """
    if plane not in PLANE_NAMES:
        raise unknown_name("plane", plane, PLANE_NAMES)
    pose = _plane_pose(body, plane)
    if not bool(body.skin.usable(pose.translation)):
        raise InvalidInputError(
            f"plane {plane!r} of patient {body.name!r} needs skin that the scan's field of view cut; pick another plane"
        )
    return pose


def _plane_pose(body: Body, plane: str) -> Pose:
    if plane in _ORGAN_PLANES:
        landmark, outward, lateral = _ORGAN_PLANES[plane]
        return skin_pose(body.skin, body.landmark(landmark), outward, lateral)
    kind, level = plane.split("_")
    return spine_poses(body, kind, [level])[0]


def spine_poses(body: Body, kind: str, levels: Sequence[str]) -> Pose:
    """``patient_from_probe`` (levels,) of the ``transverse`` or ``sagittal`` planes of several vertebrae."""
    axis = torch.stack([spine_axis(body, level) for level in levels])
    target = torch.stack([body.landmark(f"vertebra_{level}").float() for level in levels])
    outward = _POSTERIOR - (axis @ _POSTERIOR)[:, None] * axis
    lateral = _LEFT - (axis @ _LEFT)[:, None] * axis if kind == "transverse" else axis
    return skin_pose(body.skin, target, outward, lateral)


def skin_pose(
    skin: Skin,
    target: Float[Tensor, "*targets 3"],
    outward: Float[Tensor, "*targets 3"],
    lateral: Float[Tensor, "*targets 3"],
) -> Pose:
    """Probe on the skin that has ``target`` [m] in the middle of its image, near a ray from it along ``outward``.

    The probe keeps to the skin's normal, which seldom points at what lies under it (on a supine back it may miss a
    vertebra by 7 cm). So the ray is tilted towards the elevation axis, by the least angle that brings the target into
    the image plane, then across it towards the image's middle, and once more; where no tilt within 40 degrees does,
    by the one that comes closest. ``lateral`` is the wanted image axis.
    """
    ray = outward / outward.norm(dim=-1, keepdim=True)
    for axis in (1, 0, 1):
        ray = _aimed(skin, target, ray, lateral, axis)
    return _pose(skin, target, ray, lateral)


def _pose(skin: Skin, target: Tensor, ray: Float[Tensor, "*rays 3"], lateral: Tensor) -> Pose:
    origin = skin.cast(target.float().expand(ray.shape), ray)
    return Pose.from_axes(lateral.expand(ray.shape), -skin.normal(origin), origin)


def _aimed(skin: Skin, target: Tensor, ray: Tensor, lateral: Tensor, axis: int) -> Float[Tensor, "*targets 3"]:
    """The ray tilted least so that the target's coordinate ``axis`` in the probe frame is 0."""
    ahead = torch.linalg.cross(lateral.expand(ray.shape), ray)
    ahead = ahead / ahead.norm(dim=-1, keepdim=True)
    side = ahead if axis == 1 else torch.linalg.cross(ray, ahead)

    def tilted(tilt: Tensor) -> Tensor:
        return tilt.cos()[..., None] * ray + tilt.sin()[..., None] * side

    def miss(tilt: Tensor) -> Tensor:
        pose = _pose(skin, target, tilted(tilt), lateral)
        return pose.inverse().apply(target.expand(pose.translation.shape))[..., axis]

    tilt = torch.zeros(target.shape[:-1])
    for reach in (_MOST_TILT, 2.0 * _MOST_TILT / (_TILTS - 1)):
        tilts = tilt + torch.linspace(-reach, reach, _TILTS).reshape(-1, *(1 for _ in tilt.shape))
        tilt = _least_crossing(tilts, miss(tilts))
    return tilted(tilt)


def _least_crossing(tilts: Float[Tensor, "tilts *targets"], miss: Float[Tensor, "tilts *targets"]) -> Tensor:
    """The smallest tilt at which ``miss`` changes its sign; where it does not, that of the smallest miss."""
    low, high = miss[:-1], miss[1:]
    crossing = tilts[:-1] + (tilts[1:] - tilts[:-1]) * low / torch.where(low == high, 1.0, low - high)
    crossing = torch.where(low * high <= 0.0, crossing, torch.inf)
    best = torch.take_along_dim(crossing, crossing.abs().argmin(0, keepdim=True), 0)[0]
    closest = torch.take_along_dim(tilts, miss.abs().argmin(0, keepdim=True), 0)[0]
    return torch.where(best.isfinite(), best, closest)


def spine_axis(body: Body, level: str) -> Float[Tensor, "3"]:
    """Unit tangent of the spine (towards the head) at a vertebra, from its neighbours' centres."""
    body.landmark(f"vertebra_{level}")
    at = LEVELS.index(level)
    near = [body.landmarks.get(f"vertebra_{name}") for name in LEVELS[max(at - 1, 0) : at + 2]]
    known = [point for point in near if point is not None]
    if len(known) < 2:
        return _UP
    axis = (known[0] - known[-1]).float()
    return axis / axis.norm()


def reachable_planes(body: Body) -> list[str]:
    """Names of the planes whose landmarks and skin this patient has."""
    names = []
    for plane in PLANE_NAMES:
        try:
            plane_pose(body, plane)
        except (UnknownNameError, InvalidInputError):
            continue
        names.append(plane)
    return names
