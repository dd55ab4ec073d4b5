"""The search for the skin point from which a probe along the skin's normal has a target in the middle of its image."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.anatomy.surface import Skin
from sonogym.geometry import Pose

_MOST_TILT, _TILTS = math.radians(40.0), 13


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
