"""Surfaces of a patient as triangle meshes: skin, bones, organs, vessels, and the fans of image planes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import trimesh
from scipy import ndimage
from skimage import measure

from sonogym.anatomy.anatomy import Anatomy
from sonogym.anatomy.surface import BORDER
from sonogym.anatomy.tissues import Tissue
from sonogym.anatomy.volume import Volume
from sonogym.anatomy.windows import FACE
from sonogym.geometry import Pose

_SMOOTH = 2.0e-3  # m of Gaussian that takes the voxels' steps off a surface
_STEP = 2  # voxels along an edge of the cells that a surface is cut into
_FEWEST = 30  # voxels of a structure worth a surface
_HALF_ANGLE = math.asin(FACE.half_width / FACE.radius)


@dataclass(frozen=True)
class Look:
    """How a surface is drawn: tissues that form it, RGB in [0, 1], and how much of what is behind it shows."""

    tissues: tuple[Tissue, ...]
    colour: tuple[float, float, float]
    opacity: float = 1.0


LOOKS: Mapping[str, Look] = {
    "bone": Look((Tissue.CORTICAL_BONE, Tissue.TRABECULAR_BONE), (0.93, 0.89, 0.78)),
    "disc and cartilage": Look((Tissue.DISC, Tissue.CARTILAGE), (0.62, 0.80, 0.82)),
    "liver": Look((Tissue.LIVER,), (0.56, 0.27, 0.19)),
    "kidneys": Look((Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_PYRAMID, Tissue.KIDNEY_SINUS), (0.80, 0.42, 0.24)),
    "spleen": Look((Tissue.SPLEEN,), (0.50, 0.26, 0.48)),
    "gall bladder": Look((Tissue.BILE,), (0.25, 0.62, 0.33)),
    "pancreas": Look((Tissue.PANCREAS,), (0.88, 0.72, 0.35)),
    "stomach": Look((Tissue.STOMACH,), (0.87, 0.58, 0.62)),
    "heart": Look((Tissue.MYOCARDIUM,), (0.70, 0.18, 0.24)),
    "arteries": Look((Tissue.BLOOD,), (0.83, 0.12, 0.12)),
    "veins": Look((Tissue.VEIN,), (0.20, 0.32, 0.72)),
    "stones": Look((Tissue.STONE,), (0.95, 0.93, 0.60)),
    "lesions": Look((Tissue.LESION,), (0.93, 0.80, 0.70)),
    "metal": Look((Tissue.METAL,), (0.62, 0.66, 0.70)),
    "skin": Look((), (0.91, 0.72, 0.60), 0.16),
}
FAN = Look((), (0.05, 0.75, 0.85), 0.55)


def surface_meshes(anatomy: Anatomy) -> dict[str, trimesh.Trimesh]:
    """The surfaces of :data:`LOOKS` that this patient has, vertices in patient coordinates [m]."""
    labels = anatomy.labels.voxels[0].numpy()
    found = {}
    for name, look in LOOKS.items():
        if look.tissues:
            mesh = _tissue_mesh(np.isin(labels, [int(tissue) for tissue in look.tissues]), anatomy.labels)
        else:
            mesh = _skin_mesh(anatomy.skin.distance)
        if mesh is not None:
            found[name] = mesh
    return found


def _skin_mesh(distance: Volume) -> trimesh.Trimesh | None:
    """The skin inside the scan; beyond its ends the distance only goes on as it was."""
    inner = -distance.voxels[0, :, :, BORDER:-BORDER].numpy()
    return _level_mesh(inner, 0.0, distance, np.array([0, 0, BORDER]))


def _tissue_mesh(mask: np.ndarray, volume: Volume) -> trimesh.Trimesh | None:
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    if not boxes or np.count_nonzero(mask) < _FEWEST:
        return None
    margin = 3
    low = np.array([max(part.start - margin, 0) for part in boxes[0]])
    high = [min(part.stop + margin, n) for part, n in zip(boxes[0], mask.shape, strict=True)]
    inner = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    padded = np.pad(inner.astype(np.float32), 1)
    smooth = ndimage.gaussian_filter(padded, _SMOOTH / np.array(volume.spacing))
    return _level_mesh(smooth, 0.4, volume, low - 1)


def _level_mesh(values: np.ndarray, level: float, volume: Volume, start: np.ndarray) -> trimesh.Trimesh | None:
    if not values.min() < level < values.max():
        return None
    vertices, faces, _, _ = measure.marching_cubes(values, level, step_size=_STEP, gradient_direction="ascent")
    matrix = volume.patient_from_voxel.double().numpy()
    return trimesh.Trimesh((vertices + start) @ matrix[:3, :3].T + matrix[:3, 3], faces, process=False)


def fan_mesh(pose: Pose) -> trimesh.Trimesh:
    """The sector that a convex probe at ``pose`` (patient_from_probe) shows, as a sheet [m]."""
    angle = torch.linspace(-_HALF_ANGLE, _HALF_ANGLE, 33)
    reach = FACE.radius + torch.linspace(0.0, FACE.depth, 16)
    x, z = reach[:, None] * angle.sin(), reach[:, None] * angle.cos() - FACE.radius
    points = pose.apply(torch.stack((x, torch.zeros_like(x), z), dim=-1)).reshape(-1, 3).double().numpy()
    row, column = np.meshgrid(np.arange(15), np.arange(32), indexing="ij")
    corner = (row * 33 + column).ravel()
    halves = (corner, corner + 1, corner + 33), (corner + 1, corner + 34, corner + 33)
    faces = np.concatenate([np.stack(half, axis=-1) for half in halves])
    return trimesh.Trimesh(points, faces, process=False)


def scene_bytes(meshes: Mapping[str, trimesh.Trimesh], fans: Mapping[str, trimesh.Trimesh], kind: str) -> bytes:
    """All surfaces with their colours as the content of a ``kind`` (glb, ply) file [m, RAS]."""
    scene = trimesh.Scene()
    for name, mesh in (*meshes.items(), *fans.items()):
        look = LOOKS.get(name, FAN)
        coloured = mesh.copy()
        coloured.visual = trimesh.visual.ColorVisuals(coloured, face_colors=[*look.colour, look.opacity])
        scene.add_geometry(coloured, geom_name=name)
    return bytes(scene.export(file_type=kind))
