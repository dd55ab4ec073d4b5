"""Deformed patients: a family made of one anatomy by smooth random diffeomorphisms of CT, labels and landmarks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage

from sonogym.anatomy.anatomy import Anatomy, content_digest
from sonogym.anatomy.surface import Skin, extended_distance
from sonogym.anatomy.volume import Volume
from sonogym.errors import require_between

VERSION = "2"  # raise it with every change of what a seed looks like: baked patients are keyed by it
_NODES = 10e-3  # m between the nodes that hold the velocity
_SQUARINGS = 6
_SLAB = 32  # slices read at once: bounds the memory
_BAND = 2.0  # voxels from the skin within which the first order holds
_BORDER = 40e-3  # m: over which the warp dies out towards the ends of the scan, where nothing is known to move in


@dataclass(frozen=True, kw_only=True)
class WarpConfig:
    """Size and smoothness of the deformation (design): organs of one level differ by about 1 cm between adults.

    ``displacement`` [m] is the root mean square along each axis; ``length`` [m] the standard deviation of the Gaussian
    that smooths it. Raises :class:`InvalidInputError` where the two would crumple the anatomy.
    """

    displacement: float = 8e-3
    length: float = 45e-3

    def __post_init__(self) -> None:
        require_between("length", self.length, 0.02, 0.5, "m", "millimetres?")
        require_between("displacement", self.displacement, 0.0, 0.25 * self.length, "m", "millimetres?")


def warp_anatomy(anatomy: Anatomy, seed: int, config: WarpConfig | None = None) -> Anatomy:
    """``anatomy`` deformed by exp(v), v a smooth random velocity drawn from ``seed``; on the same grid.

    A stationary velocity makes the map one-to-one with exp(-v) as its inverse (Arsigny 2006): voxels are pulled back
    through exp(-v), landmarks go forward through exp(v). The skin's distance is made true again.
    """
    flow = _Flow(anatomy.labels, seed, config or WarpConfig())
    back = flow.exponential(-1.0)
    ct, labels = _pulled(anatomy.ct, back, 1), _pulled(anatomy.labels, back, 0)
    cut = anatomy.skin.clearance
    skin = Skin(_true_distance(_pulled(anatomy.skin.distance, back, 1)), None if cut is None else _pulled(cut, back, 1))
    points = torch.stack([torch.zeros(3), *anatomy.landmarks.values()])[1:].double()  # there may be none
    moved = (points + torch.from_numpy(flow.exponential(1.0)(points.numpy()))).float()
    places = dict(zip(anatomy.landmarks, moved, strict=True))
    digest = content_digest(ct.voxels, labels.voxels, skin.distance.voxels, moved)
    facts = {**anatomy.facts, "warp_of": anatomy.name, "warp_seed": seed}
    return replace(
        anatomy, name=f"{anatomy.name}+warp{seed}", ct=ct, labels=labels, skin=skin, landmarks=places, digest=digest,
        facts=facts,
    )  # fmt: skip


Displacement = Callable[[np.ndarray], np.ndarray]


class _Flow:
    """The velocity on a coarse grid along the patient's axes that covers a volume."""

    def __init__(self, volume: Volume, seed: int, config: WarpConfig) -> None:
        corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (
            np.array(volume.voxels.shape[1:]) - 1
        )
        matrix = volume.patient_from_voxel.numpy()
        points = corners @ matrix[:3, :3].T + matrix[:3, 3]
        self._low = points.min(axis=0)
        shape = np.ceil((points.max(axis=0) - self._low) / _NODES).astype(int) + 1
        noise = np.random.Generator(np.random.Philox(seed)).standard_normal((3, *shape))
        sigma = config.length / _NODES
        smooth = np.stack([ndimage.gaussian_filter(part, sigma, mode="nearest") for part in noise])
        smooth *= config.displacement / np.sqrt((smooth**2).mean(axis=(1, 2, 3), keepdims=True))
        up = np.arange(shape[2]) * _NODES
        self._velocity = smooth * np.clip(np.minimum(up, up[-1] - up) / _BORDER, 0.0, 1.0)

    def exponential(self, sign: float) -> Displacement:
        """x -> exp(sign v)(x) - x at points (..., 3) [m], by scaling and squaring."""
        nodes = np.moveaxis(np.indices(self._velocity.shape[1:]), 0, -1) * _NODES + self._low
        field = sign * self._velocity / 2**_SQUARINGS
        for _ in range(_SQUARINGS):
            field = field + np.moveaxis(self._read(field, nodes + np.moveaxis(field, 0, -1)), -1, 0)
        return lambda points: self._read(field, points)

    def _read(self, field: np.ndarray, points: np.ndarray) -> np.ndarray:
        at = np.moveaxis((points - self._low) / _NODES, -1, 0)
        return np.stack([ndimage.map_coordinates(part, at, order=1, mode="nearest") for part in field], axis=-1)


def _pulled(volume: Volume, displacement: Displacement, order: int) -> Volume:
    """The volume read at displaced points on its own grid, ``order`` 0 nearest or 1 linear."""
    voxels, matrix = volume.voxels[0].numpy(), volume.patient_from_voxel.double().numpy()
    inverse = np.linalg.inv(matrix)[:3, :3]
    out = np.empty_like(voxels)
    for first in range(0, voxels.shape[0], _SLAB):
        index = np.moveaxis(np.indices((min(_SLAB, voxels.shape[0] - first), *voxels.shape[1:])), 0, -1)
        index = index + np.array([first, 0, 0])
        moved = index + displacement(index @ matrix[:3, :3].T + matrix[:3, 3]) @ inverse.T
        value = ndimage.map_coordinates(voxels, np.moveaxis(moved, -1, 0), order=order, mode="nearest")
        out[first : first + _SLAB] = value
    return Volume(torch.from_numpy(out)[None], volume.patient_from_voxel)


def _true_distance(level: Volume) -> Volume:
    """A signed distance again: d / |grad d| near its zero level, the way to there farther off (voxels are cubes)."""
    value, voxel = level.voxels[0].numpy(), level.spacing[0]
    slope = np.sqrt(sum(np.square(part) for part in np.gradient(value, voxel)))
    distance = extended_distance(value / np.clip(slope, 0.5, 2.0), _BAND * voxel, voxel)
    return Volume(torch.from_numpy(distance.astype(np.float32))[None], level.patient_from_voxel)
