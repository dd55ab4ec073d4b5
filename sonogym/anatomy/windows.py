"""Acoustic windows: how much of a target can be seen past bone, gas and lung, and whether the face lies on the skin."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonogym.anatomy.surface import Skin
from sonogym.anatomy.tissues import BONE, TISSUE_COUNT, Tissue
from sonogym.anatomy.volume import Volume
from sonogym.geometry import Pose, grids

OBSTACLES = {"bone": (*BONE, Tissue.METAL), "gas": (Tissue.AIR,), "lung": (Tissue.LUNG,)}
_STEP = 2.5e-3  # m along a line: a cortical shell is thinner, but a bone is not
_LINES = 9
_OUTSIDE = 3e-3  # m: air no deeper than this under the skin is not bowel gas
_GAP = 1.4e-3  # m of gel at which half of the sound passes


@dataclass(frozen=True, kw_only=True)
class Face:
    """A convex probe as planes are judged by: the C5-2v's radius, half-width, height, press and depth [m]."""

    radius: float = 49.57e-3
    half_width: float = 32e-3
    half_height: float = 6e-3
    press: float = 8e-3
    depth: float = 150e-3


FACE = Face()


def openness(
    tissues: Volume, skin: Skin, pose: Pose, target: Float[Tensor, "poses 3"], window: float, blocks: tuple[str, ...]
) -> Float[Tensor, " poses"]:
    """Share of the scan lines towards ``target`` +- ``window`` [m] across the image that meet none of ``blocks``.

    ``pose`` (poses,) has its origin on the skin; ``tissues`` holds :class:`Tissue` ids.
    """
    if not blocks:
        return torch.ones(len(target))
    points = pose.apply(line_points(pose.inverse().apply(target), window).movedim(0, 2)).movedim(2, 0)
    label = labels_at(tissues, points)
    shut = _table(blocks)[label]
    if "gas" in blocks:
        shut &= (label != int(Tissue.AIR)) | (skin.at(points) < -_OUTSIDE)
    return (~shut.any(-1)).float().mean(-1)


def line_points(target: Float[Tensor, "poses 3"], window: float) -> Float[Tensor, "poses lines steps 3"]:
    """Points (probe frame, in the image) from the pressed face to ``target`` +- ``window``, on lines of the arc."""
    across = torch.linspace(-window, window, _LINES)
    ends = torch.stack((target[:, :1] + across, target[:, 2:] + 0.0 * across), dim=-1)
    centre = torch.tensor([0.0, FACE.press - FACE.radius])
    ray = ends - centre
    length = ray.norm(dim=-1, keepdim=True)
    steps = torch.arange(0.0, FACE.depth, _STEP)
    reach = torch.minimum(FACE.radius + steps, length)  # stops at the target
    points = centre + ray[:, :, None] / length[..., None] * reach[..., None]
    return torch.stack((points[..., 0], torch.zeros_like(points[..., 0]), points[..., 1]), dim=-1)


def labels_at(tissues: Volume, points: Float[Tensor, "*points 3"]) -> Int[Tensor, "*points"]:
    """The tissue at patient points [m]: that of the nearest voxel."""
    shape = torch.tensor(tissues.voxels.shape[1:])
    voxel = grids.affine(tissues.voxel_from_patient.float(), points)
    batch = points.shape[:-1]
    flat = tissues.voxels[0].reshape(-1)
    return grids.nearest(flat, torch.tensor(0).expand(batch), shape.expand(*batch, 3), voxel).long()


def _table(blocks: tuple[str, ...]) -> Bool[Tensor, " tissues"]:
    table = torch.zeros(TISSUE_COUNT, dtype=torch.bool)
    for what in blocks:
        table[[int(tissue) for tissue in OBSTACLES[what]]] = True
    return table


def coupled(skin: Skin, pose: Pose) -> Float[Tensor, " poses"]:
    """Share of the pressed face that touches the skin."""
    across = torch.linspace(-FACE.half_width, FACE.half_width, 9)
    up = torch.linspace(-FACE.half_height, FACE.half_height, 3)
    sagitta = FACE.radius - (FACE.radius**2 - across.square()).sqrt()
    x, y = torch.meshgrid(across, up, indexing="ij")
    face = torch.stack((x, y, FACE.press - sagitta[:, None].expand_as(x)), dim=-1).reshape(-1, 1, 3)
    return (skin.at(pose.apply(face)) < _GAP).float().mean(0)
