"""A made patient brought onto a scan: along the spine first, then by a smooth field that matches classes and HU.

Everything maps points of the scan to points of the patient (a pull-back), on a grid of 8 mm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from sonogym.anatomy.atlas.scene import Scene

PITCH = 8e-3  # m
NODES = (48e-3, 24e-3)  # m between the nodes of the field, coarse to fine
ITERATIONS, RATE = 30, 2e-3  # a stage; m an iteration
BENDING = 0.02  # price of the field's unevenness against the mismatch (design)
BLUR = 8e-3  # m
WINDOW = (-120.0, 80.0)  # HU: fat against soft tissue; contrast agent ends at the upper bound
WEIGHTS = (1.0, 2.0, 2.0, 1.0)  # body, bone, lung, HU


@dataclass(frozen=True, kw_only=True)
class Channels:
    """Classes and HU of a scene (1, 4, x, y, z) in [0, 1], ``PITCH`` apart from ``origin`` [m]."""

    values: Float[Tensor, "1 4 x y z"]
    origin: Float[np.ndarray, "3"]

    def points(self) -> Float[np.ndarray, "x y z 3"]:
        """Where the voxels lie [m]."""
        index = np.moveaxis(np.indices(tuple(self.values.shape[2:])), 0, -1)
        return index * PITCH + self.origin


def make_channels(scene: Scene) -> Channels:
    """Low-passed classes and HU of a scene."""
    hu = np.clip((scene.hu - WINDOW[0]) / (WINDOW[1] - WINDOW[0]), 0.0, 1.0) * scene.body
    zoom = PITCH / scene.grid.spacing
    shape = tuple(int((n - 1) / zoom) + 1 for n in scene.grid.shape)
    parts = []
    for part in (scene.body, scene.bone, scene.lung, hu):
        smooth = ndimage.gaussian_filter(part.astype(np.float32), BLUR / scene.grid.spacing)
        parts.append(ndimage.affine_transform(smooth, np.full(3, zoom), output_shape=shape, order=1))
    return Channels(values=torch.from_numpy(np.stack(parts))[None], origin=np.array(scene.grid.origin))


def along_spine(
    points: Float[np.ndarray, "*points 3"],
    scan: tuple[Scene, Mapping[str, np.ndarray]],
    patient: tuple[Scene, Mapping[str, np.ndarray]],
) -> Float[np.ndarray, "*points 3"]:
    """Points [m] of the patient for points of the scan: vertebra on vertebra, width and depth of the body scaled."""
    levels = [name for name in scan[1] if name in patient[1]]
    ours, theirs = (np.stack([centres[name] for name in levels]) for centres in (scan[1], patient[1]))
    order = np.argsort(ours[:, 2])
    ours, theirs = ours[order], theirs[order]
    z = points[..., 2]
    axis = np.stack([_extended(z, ours[:, 2], ours[:, i]) for i in range(2)], axis=-1)
    target = np.stack([_extended(z, ours[:, 2], theirs[:, i]) for i in range(3)], axis=-1)
    scale = half_sizes(*patient, levels) / half_sizes(*scan, levels)
    aside = points[..., :2] - axis
    front = np.where(aside[..., 1] > 0.0, scale[1], scale[2])
    target[..., 0] += aside[..., 0] * scale[0]
    target[..., 1] += aside[..., 1] * front
    return target


def _extended(at: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Linear between the known places and straight on beyond them."""
    inner = np.interp(at, known, values)
    slope = (values[-1] - values[0]) / (known[-1] - known[0])
    return inner + slope * (at - np.clip(at, known[0], known[-1]))


def half_sizes(scene: Scene, centres: Mapping[str, np.ndarray], levels: list[str]) -> Float[np.ndarray, "3"]:
    """Half the width of the body, and its depth in front of and behind the vertebrae [m], on average."""
    sizes = []
    for name in levels:
        x, y, z = np.rint((centres[name] - np.array(scene.grid.origin)) / scene.grid.spacing).astype(int)
        body = scene.body[:, :, int(np.clip(z, 0, scene.grid.shape[2] - 1))]
        columns, rows = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body[np.clip(x, 0, len(body) - 1)])
        if len(columns) and len(rows):
            sizes.append((0.5 * (columns[-1] - columns[0]), max(rows[-1] - y, 1), max(y - rows[0], 1)))
    return np.maximum(np.mean(sizes, axis=0), 1.0) * scene.grid.spacing


def register(
    scan: Channels, patient: Channels, start: Float[np.ndarray, "x y z 3"]
) -> tuple[Float[np.ndarray, "x y z 3"], float]:
    """The refined map from the scan's voxels to the patient [m], and the mismatch that is left.

    ``start`` is the map to refine. The field is trilinear between nodes, found by Adam from coarse to fine; its
    unevenness has a price, so that it stays a smooth one-to-one map.
    """
    size = torch.tensor(patient.values.shape[2:], dtype=torch.float32)
    base = torch.from_numpy(((start - patient.origin) / PITCH).astype(np.float32))
    weight = torch.tensor(WEIGHTS).reshape(1, -1, 1, 1, 1)
    inside = ((base > 0) & (base < size - 1)).all(-1).float() * (scan.values[0, 0] > 0.1)
    field, loss = torch.zeros(1, 3, *base.shape[:3]), torch.tensor(0.0)
    for spacing in NODES:
        nodes = [max(2, round(n * PITCH / spacing)) for n in base.shape[:3]]
        step = functional.interpolate(field, nodes, mode="trilinear", align_corners=True).requires_grad_()
        adam = torch.optim.Adam([step], lr=RATE / PITCH)
        for _ in range(ITERATIONS):
            field = functional.interpolate(step, base.shape[:3], mode="trilinear", align_corners=True)
            seen = _read(patient.values, base + field[0].movedim(0, -1), size)
            square = (weight * (seen - scan.values).square()).sum(1)[0]
            loss = (square * inside).sum() / inside.sum().clamp_min(1.0)
            adam.zero_grad()
            (loss + BENDING * _unevenness(step)).backward()
            adam.step()
        field = field.detach()
    moved = (base + field[0].movedim(0, -1)).double().numpy() * PITCH + patient.origin
    return moved, float(loss.detach())


def _read(values: Float[Tensor, "1 c x y z"], voxel: Float[Tensor, "x y z 3"], size: Tensor) -> Tensor:
    unit = 2.0 * voxel / (size - 1.0) - 1.0
    return functional.grid_sample(values, unit.flip(-1)[None], align_corners=True, padding_mode="border")


def _unevenness(nodes: Float[Tensor, "1 3 x y z"]) -> Tensor:
    """Mean square of the differences between neighbouring nodes [voxels]."""
    return torch.stack([nodes.diff(dim=axis).square().mean() for axis in (2, 3, 4)]).sum()


def landmark_in_scan(
    moved: Float[np.ndarray, "x y z 3"], scan: Channels, landmark: Float[np.ndarray, "3"]
) -> tuple[Float[np.ndarray, "3"], float]:
    """The place [m] in the scan that the map takes to a landmark of the patient, and by how much it misses."""
    away = np.linalg.norm(moved - landmark, axis=-1)
    near = away < max(float(away.min()) + PITCH, 1.5 * PITCH)
    weight = np.exp(-0.5 * (away[near] / PITCH) ** 2) + 1e-9
    return np.average(scan.points()[near], axis=0, weights=weight), float(away.min())
