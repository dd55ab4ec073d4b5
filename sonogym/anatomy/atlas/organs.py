"""Where the large organs of a scan lie: what the registered patients vote for, grown into the HU that fit.

A registration on body, bone and lung brings an organ within a centimetre or two; its edge is then where the HU change.
Lungs need no vote: they are the aerated part to either side of the spine. Distances and HU are design choices, made
before the labelled scans of benchmarks/atlas.py were looked at; what part of a lung its landmark stands for
(:func:`lung_behind`) was settled after its error on one of them was seen.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from sonogym.anatomy.atlas.registration import PITCH
from sonogym.anatomy.atlas.scene import Scene
from sonogym.anatomy.resampling import Grid
from sonogym.anatomy.tissues import Tissue

KIDNEY = (Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_PYRAMID, Tissue.KIDNEY_SINUS)
VOTED = {"liver": (Tissue.LIVER,), "spleen": (Tissue.SPLEEN,), "kidney_left": KIDNEY, "kidney_right": KIDNEY}
FITS = {"liver": (0.0, 200.0), "spleen": (0.0, 250.0), "kidney_left": (-10.0, 300.0), "kidney_right": (-10.0, 300.0)}
LUNGS = ("lung_left", "lung_right")
LIKELY, RIVALS = 1.0 / 3.0, 0.8  # share of the votes; share of all other organs' votes together
NEAR, THIN = 9e-3, 6e-3  # m: how far an organ may grow beyond its votes; what is thinner is a bridge to a neighbour
BLUR = 3e-3  # m
LEAST = 2e-6  # m3
LOBE = 2.0 / 3.0  # of the lung's height
BEHIND = 20e-3  # m in front of the spine: what lies farther back is the lung that a probe on the back sees


def organ_ids(
    tissue: UInt8[np.ndarray, "x y z"], centres: Mapping[str, Float[np.ndarray, "3"]], grid: Grid
) -> UInt8[np.ndarray, "x y z"]:
    """The voted organs of a labelled patient as 1, 2 ..; kidneys told apart by the ``centres`` [m] of the vertebrae."""
    right = right_of_spine(centres, grid)
    ids = np.zeros(tissue.shape, np.uint8)
    for number, (name, tissues) in enumerate(VOTED.items(), start=1):
        side = ~right if name.endswith("left") else right if name.endswith("right") else True
        ids[np.isin(tissue, tissues) & side] = number
    return ids


def votes(
    ids: UInt8[np.ndarray, "i j k"], theirs: Grid, moved: Float[np.ndarray, "u v w 3"], ours: Grid
) -> Float[np.ndarray, "organs x y z"]:
    """One for each voxel of the scan's grid whose place, by the map ``moved``, lies in an organ of a patient."""
    at = np.indices(ours.shape).astype(np.float32) * np.float32(ours.spacing / PITCH)
    index, inside = [], np.ones(ours.shape, bool)
    for axis in range(3):
        place = ndimage.map_coordinates(moved[..., axis], at, order=1, mode="nearest")
        voxel = np.rint((place - theirs.origin[axis]) / theirs.spacing).astype(int)
        inside &= (voxel >= 0) & (voxel < theirs.shape[axis])
        index.append(np.clip(voxel, 0, theirs.shape[axis] - 1))
    seen = ids[tuple(index)] * inside
    return np.stack([seen == number for number in range(1, len(VOTED) + 1)]).astype(np.float32)


def organs_of(
    scene: Scene, share: Float[np.ndarray, "organs x y z"], centres: Mapping[str, Float[np.ndarray, "3"]]
) -> dict[str, Bool[np.ndarray, "x y z"]]:
    """The voxels of each organ that is found; ``share`` (0 to 1) of the registered patients voted for it."""
    voxel = scene.grid.spacing
    smooth = ndimage.gaussian_filter(scene.hu, BLUR / voxel)
    found = {}
    for number, (name, (low, high)) in enumerate(FITS.items()):
        mine = share[number]
        likely = mine >= LIKELY
        near = ndimage.binary_dilation(likely, iterations=round(NEAR / voxel)) & (
            likely | (mine >= RIVALS * (share.sum(axis=0) - mine))
        )
        fits = near & scene.body & (smooth > low) & (smooth < high)
        parts, count = ndimage.label(ndimage.binary_opening(fits, iterations=round(THIN / voxel)))
        if count:
            held = ndimage.sum_labels(mine, parts, range(1, count + 1))
            found[name] = parts == 1 + int(np.argmax(held))
    right = right_of_spine(centres, scene.grid)
    found |= {"lung_left": scene.lung & ~right, "lung_right": scene.lung & right}
    return {name: mask for name, mask in found.items() if mask.sum() * voxel**3 > LEAST}


def middle(mask: Bool[np.ndarray, "x y z"], grid: Grid) -> Float[np.ndarray, "3"]:
    """The centre of mass [m], or the voxel of the organ next to it where it lies in a hollow."""
    points = np.argwhere(mask)
    centre = points.mean(axis=0)
    if not mask[tuple(np.rint(centre).astype(int))]:
        centre = points[np.square(points - centre).sum(axis=1).argmin()].astype(np.float64)
    return np.array(grid.origin) + grid.spacing * centre


def agreement(mask: Bool[np.ndarray, "x y z"], each: list[Float[np.ndarray, "x y z"]]) -> float:
    """Mean overlap (Dice) of what the patients voted for, one by one, with the organ that was found."""
    overlap = [2.0 * float((vote * mask).sum()) / max(float(vote.sum() + mask.sum()), 1.0) for vote in each]
    return float(np.mean(overlap))


def lung_behind(
    mask: Bool[np.ndarray, "x y z"], centres: Mapping[str, Float[np.ndarray, "3"]], grid: Grid
) -> Bool[np.ndarray, "x y z"]:
    """About the lower lobe: what lies behind the spine's front, in the lower two thirds of the lung's height.

    The oblique fissure begins behind at the third or fourth thoracic vertebra.
    """
    _, y, z = _axes(grid)
    low, high = np.flatnonzero(mask.any(axis=(0, 1)))[[0, -1]]
    return mask & (y[:, None] < _along(centres, z, 1) + BEHIND) & (z < z[low] + LOBE * (z[high] - z[low]))


def right_of_spine(centres: Mapping[str, Float[np.ndarray, "3"]], grid: Grid) -> Bool[np.ndarray, "x y z"]:
    """Which voxels lie to the right of the vertebrae's middles."""
    x, _, z = _axes(grid)
    return np.broadcast_to((x[:, None] > _along(centres, z, 0))[:, None, :], grid.shape)


def _along(centres: Mapping[str, Float[np.ndarray, "3"]], z: np.ndarray, axis: int) -> Float[np.ndarray, " z"]:
    points = np.array(sorted(centres.values(), key=lambda point: point[2]))
    return np.interp(z, points[:, 2], points[:, axis])


def _axes(grid: Grid) -> list[np.ndarray]:
    return [start + grid.spacing * np.arange(n) for start, n in zip(grid.origin, grid.shape, strict=True)]
