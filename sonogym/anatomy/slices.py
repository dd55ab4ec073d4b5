"""Volumes, and areas and calibres in axial slices, measured on the labels of any patient."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sonogym.anatomy.anatomy import Anatomy
from sonogym.anatomy.tissues import Tissue

_KIDNEY = (Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_PYRAMID, Tissue.KIDNEY_SINUS)
_LUMEN = (int(Tissue.BLOOD), int(Tissue.VEIN))
_VESSEL_REACH = 8.0  # mm from the landmark to the lumen that it names
_WALL_SIDE = 35.0  # mm off the midline where the fat over the muscles of the back is measured


def _labels(anatomy: Anatomy) -> tuple[np.ndarray, np.ndarray]:
    return anatomy.labels.voxels[0].numpy(), 1e3 * np.array(anatomy.labels.spacing)


def _voxel(anatomy: Anatomy, name: str) -> np.ndarray:
    matrix = anatomy.labels.voxel_from_patient.double().numpy()
    return matrix[:3, :3] @ anatomy.landmarks[name].double().numpy() + matrix[:3, 3]


def organ_sizes(anatomy: Anatomy) -> dict[str, float]:
    """Volumes [ml] of liver (with its vessels' walls left out), spleen and kidneys, kidney lengths [mm]."""
    labels, spacing = _labels(anatomy)
    millilitre = spacing.prod() / 1e3
    sizes = {name: float((labels == tissue).sum() * millilitre) for name, tissue in (
        ("liver_ml", Tissue.LIVER), ("spleen_ml", Tissue.SPLEEN), ("pancreas_ml", Tissue.PANCREAS),
    )}  # fmt: skip
    kidney = np.isin(labels, _KIDNEY)
    for side in ("right", "left"):
        if f"kidney_{side}" not in anatomy.landmarks:
            continue
        points = np.argwhere(_part_at(kidney, _voxel(anatomy, f"kidney_{side}"))) * spacing
        if not len(points):
            continue
        axis = np.linalg.eigh(np.cov(points.T))[1][:, -1]
        along = points @ axis
        sizes[f"kidney_{side}_mm"] = float(np.ptp(along) + spacing.mean())
        sizes[f"kidney_{side}_ml"] = float(len(points) * millilitre)
    return sizes


def _part_at(mask: np.ndarray, voxel: np.ndarray) -> np.ndarray:
    """The connected part of a mask nearest to a voxel."""
    parts, count = ndimage.label(mask)
    if count == 0:
        return mask
    points = np.argwhere(mask)
    nearest = points[np.argmin(((points - voxel) ** 2).sum(1))]
    return parts == parts[tuple(nearest)]


def slice_sizes(anatomy: Anatomy, level: str) -> dict[str, float]:
    """Through a vertebral body: trunk width and depth, fat thickness [mm], areas of muscle and fat [cm2]."""
    labels, spacing = _labels(anatomy)
    centre = _voxel(anatomy, f"vertebra_{level}")
    k = int(np.clip(round(centre[2]), 0, labels.shape[2] - 1))
    plane = labels[:, :, k]
    body = ndimage.binary_fill_holes(plane > 0)
    square = spacing[0] * spacing[1] / 100.0
    across, along = np.flatnonzero(body.any(1)), np.flatnonzero(body.any(0))
    sizes = {
        "trunk_width": float((across[-1] - across[0] + 1) * spacing[0]),
        "trunk_depth": float((along[-1] - along[0] + 1) * spacing[1]),
        "muscle_cm2": float((plane == Tissue.MUSCLE).sum() * square),
        "subcutaneous_cm2": float((plane == Tissue.SUBCUTANEOUS_FAT).sum() * square),
        "visceral_cm2": float(_visceral(plane, round(centre[1])).sum() * square),
    }
    return sizes | {"fat_over_back": _fat_over_back(plane, centre, spacing)}


def _visceral(plane: np.ndarray, middle: int) -> np.ndarray:
    """Fat within the wall: in front of a body's ``middle``, and what of it reaches behind round the kidneys.

    As areas of visceral fat are drawn on CT, retroperitoneal fat included; sheets of fat in muscles are not.
    """
    fat = plane == Tissue.VISCERAL_FAT
    parts, _ = ndimage.label(ndimage.binary_opening(fat))
    ahead = np.unique(parts[:, middle:])
    inside = np.isin(parts, ahead[ahead > 0])
    inside[:, middle:] |= fat[:, middle:]
    return inside


def _fat_over_back(plane: np.ndarray, centre: np.ndarray, spacing: np.ndarray) -> float:
    """Skin and fat over the muscles of the back, mean of both sides [mm]."""
    found = []
    for sign in (-1.0, 1.0):
        line = plane[int(np.clip(round(centre[0] + sign * _WALL_SIDE / spacing[0]), 0, plane.shape[0] - 1))]
        first, muscle = np.argmax(line > 0), np.argmax(line == Tissue.MUSCLE)
        found.append((muscle - first) * spacing[1])
    return float(np.mean(found))


def calibre(anatomy: Anatomy, landmark: str) -> float | None:
    """Diameter [mm] of the largest circle in the lumen at a vessel's landmark in its axial slice; None if absent.

    Branches that leave the vessel do not count; an ellipse counts with its smaller axis.
    """
    labels, spacing = _labels(anatomy)
    if landmark not in anatomy.landmarks:
        return None
    voxel = _voxel(anatomy, landmark)
    k = round(float(voxel[2]))
    if not 0 <= k < labels.shape[2]:
        return None
    lumen = np.isin(labels[:, :, k], _LUMEN)
    x, y = ((np.arange(n) - voxel[i]) * spacing[i] for i, n in enumerate(lumen.shape))
    near = (x[:, None] ** 2 + y[None, :] ** 2 < _VESSEL_REACH**2) & lumen
    if not near.any():
        return None
    inward = ndimage.distance_transform_edt(lumen, sampling=spacing[:2])
    return float(2.0 * inward[near].max() - spacing[0])  # the distance is to the first centre outside
