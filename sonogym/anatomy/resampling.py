"""Volumes onto an isotropic grid along the patient's own axes (RAS): CT linearly, labels by the largest share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int16
from scipy import ndimage
from torch import Tensor

from sonogym.anatomy.volume import Volume
from sonogym.errors import InvalidInputError

_FEWEST = 8  # slices


@dataclass(frozen=True, kw_only=True)
class Grid:
    """An isotropic grid of ``shape`` voxels of ``spacing`` [m] along R, A, S; its first voxel is at ``origin`` [m]."""

    shape: tuple[int, int, int]
    spacing: float
    origin: tuple[float, float, float]

    @property
    def patient_from_voxel(self) -> Float[Tensor, "4 4"]:
        """Affine [m], float64."""
        matrix = torch.diag(torch.tensor([self.spacing] * 3 + [1.0], dtype=torch.float64))
        matrix[:3, 3] = torch.tensor(self.origin, dtype=torch.float64)
        return matrix

    @property
    def end(self) -> tuple[float, float, float]:
        """Centre of the last voxel [m]."""
        x, y, z = (start + (n - 1) * self.spacing for start, n in zip(self.origin, self.shape, strict=True))
        return x, y, z


def grid_over(volume: Volume, spacing: float) -> Grid:
    """The smallest isotropic grid over all voxel centres of ``volume``."""
    last = torch.tensor(volume.voxels.shape[1:], dtype=torch.float64) - 1
    corners = torch.cartesian_prod(*(torch.tensor([0.0, float(n)], dtype=torch.float64) for n in last))
    matrix = volume.patient_from_voxel.double()
    points = corners @ matrix[:3, :3].T + matrix[:3, 3]
    low, high = points.amin(0), points.amax(0)
    x, y, z = (int(n) for n in torch.floor((high - low) / spacing + 1e-6) + 1)
    return Grid(shape=(x, y, z), spacing=spacing, origin=(float(low[0]), float(low[1]), float(low[2])))


def cropped(grid: Grid, box: tuple[slice, slice, slice]) -> Grid:
    """The part of ``grid`` in a box of voxels."""
    x, y, z = (start + part.start * grid.spacing for start, part in zip(grid.origin, box, strict=True))
    nx, ny, nz = (part.stop - part.start for part in box)
    return Grid(shape=(nx, ny, nz), spacing=grid.spacing, origin=(x, y, z))


def parse_heights(text: str) -> tuple[float, float]:
    """``LOW,HIGH`` in mm -> metres; raises :class:`InvalidInputError` for anything but two rising numbers."""
    try:
        low, high = (1e-3 * float(part) for part in text.split(","))
    except ValueError:
        low, high = 1.0, 0.0
    if not low < high:
        raise InvalidInputError(f"heights must be LOW,HIGH in mm (RAS, towards the head), got {text!r}")
    return low, high


def between(volume: Volume, low: float, high: float) -> tuple[Volume, slice]:
    """The slices whose middles lie between two heights [m, towards the head], and which ones they are.

    Raises :class:`InvalidInputError` where fewer than 8 are left.
    """
    matrix = volume.patient_from_voxel.double()
    x, y, z = volume.voxels.shape[1:]
    middle = 0.5 * torch.tensor([x - 1, y - 1], dtype=torch.float64)
    heights = matrix[2, :2] @ middle + matrix[2, 2] * torch.arange(z) + matrix[2, 3]
    kept = torch.nonzero((heights >= low) & (heights <= high)).flatten().tolist()
    if len(kept) < _FEWEST:
        raise InvalidInputError(
            f"between {1e3 * low:g} and {1e3 * high:g} mm lie {len(kept)} slices, {_FEWEST} are needed; the scan has "
            f"{1e3 * float(heights[0]):.0f} .. {1e3 * float(heights[-1]):.0f} mm (RAS, towards the head)"
        )
    part = slice(kept[0], kept[-1] + 1)
    moved = matrix.clone()
    moved[:3, 3] += part.start * matrix[:3, 2]
    return Volume(volume.voxels[:, :, :, part].contiguous(), moved), part


def resample_linear(volume: Volume, grid: Grid, fill: float) -> Float[np.ndarray, "x y z"]:
    """Values float32 on ``grid``, low-passed first along axes that get coarser; ``fill`` outside the volume."""
    matrix = _source_from_grid(volume, grid)
    array = volume.voxels[0].numpy().astype(np.float32)
    step = np.linalg.norm(matrix[:3, :3], axis=1)
    sigma = 0.4 * np.sqrt(np.maximum(step**2 - 1.0, 0.0))  # the share of the new voxel that linear reading misses
    if sigma.max() > 0.1:
        array = ndimage.gaussian_filter(array, sigma, mode="nearest", truncate=3.0)
    return _transform(array, matrix, grid.shape, fill)


def resample_labels(volume: Volume, grid: Grid) -> Int16[np.ndarray, "x y z"]:
    """Each voxel's label with the largest linearly interpolated share, background (0) included."""
    matrix = _source_from_grid(volume, grid)
    array = volume.voxels[0].numpy()
    labels, best = np.zeros(grid.shape, np.int16), np.zeros(grid.shape, np.float32)
    rest = np.ones(grid.shape, np.float32)
    for index, box in enumerate(ndimage.find_objects(array), start=1):
        target = _target_box(box, matrix, grid.shape) if box else None
        if box is None or target is None:
            continue
        share = _share(array, index, box, matrix, target)
        rest[target] -= share
        ahead = share > best[target]
        best[target][ahead] = share[ahead]
        labels[target][ahead] = index
    labels[best <= rest] = 0
    return labels


def _share(
    array: np.ndarray, index: int, box: tuple[slice, ...], matrix: np.ndarray, target: tuple[slice, ...]
) -> np.ndarray:
    start = np.array([max(part.start - 1, 0) for part in box])
    stop = np.array([part.stop + 1 for part in box])
    inner = array[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] == index
    local = matrix.copy()
    local[:3, 3] += matrix[:3, :3] @ np.array([part.start for part in target]) - start
    x, y, z = (part.stop - part.start for part in target)
    return _transform(inner.astype(np.float32), local, (x, y, z), 0.0)


def _target_box(box: tuple[slice, ...], matrix: np.ndarray, shape: tuple[int, int, int]) -> tuple[slice, ...] | None:
    """Voxels of the new grid that may read from ``box`` of the old one."""
    edges = [(part.start - 1.0, float(part.stop)) for part in box]
    corners = np.array(np.meshgrid(*edges, indexing="ij")).reshape(3, -1)
    inverse = np.linalg.inv(matrix)
    points = inverse[:3, :3] @ corners + inverse[:3, 3:]
    low = np.maximum(np.floor(points.min(1)).astype(int), 0)
    high = np.minimum(np.ceil(points.max(1)).astype(int) + 1, shape)
    return None if (low >= high).any() else tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _source_from_grid(volume: Volume, grid: Grid) -> np.ndarray:
    return (volume.voxel_from_patient @ grid.patient_from_voxel).numpy()


def _transform(array: np.ndarray, matrix: np.ndarray, shape: tuple[int, int, int], fill: float) -> np.ndarray:
    linear, offset = matrix[:3, :3], matrix[:3, 3]
    straight = np.abs(linear - np.diag(np.diag(linear))).max() < 1e-9
    # scipy is several times faster where it is told that the axes stay apart
    return ndimage.affine_transform(
        array, np.diag(linear) if straight else linear, offset, shape, np.float32, order=1, mode="constant", cval=fill
    )
