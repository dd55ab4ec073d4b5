"""What the atlas reads of a scan: classes and Hounsfield units on a coarse grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from sonogym.anatomy.anatomy import Anatomy
from sonogym.anatomy.resampling import Grid
from sonogym.anatomy.tissues import Tissue

BONY = 200.0  # HU: classes leave out ribs, whose thin cortex the grid dilutes; most kidneys with contrast stay below
ENHANCED, THICK = (130.0, 450.0), 6e-3  # HU, m: half the thickness of what is taken for an organ
COARSE = 3e-3  # m: end-plates and the spinal canal are still seen


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Arrays (x, y, z) along R, A, S: HU, and where there is body, bone (by HU alone), aerated lung."""

    grid: Grid
    hu: Float[np.ndarray, "x y z"]
    body: Bool[np.ndarray, "x y z"]
    bone: Bool[np.ndarray, "x y z"]
    lung: Bool[np.ndarray, "x y z"]


def make_scene(hu: Float[np.ndarray, "x y z"], tissue: UInt8[np.ndarray, "x y z"], grid: Grid) -> Scene:
    """The scene of a scan's HU and tissue classes on ``grid``, at about :data:`COARSE`."""
    step = max(1, round(COARSE / grid.spacing))
    pick = (slice(None, None, step),) * 3
    smooth = ndimage.gaussian_filter(hu, 0.4 * np.sqrt(step**2 - 1.0)) if step > 1 else hu
    classes = tissue[pick]
    x, y, z = classes.shape
    solid = np.stack([ndimage.binary_fill_holes(classes[:, :, k] != Tissue.AIR) for k in range(z)], axis=2)
    return Scene(
        grid=Grid(shape=(x, y, z), spacing=step * grid.spacing, origin=grid.origin),
        hu=np.ascontiguousarray(smooth[pick], dtype=np.float32),
        body=solid,
        bone=_thin_and_bright(smooth[pick], step * grid.spacing),
        lung=classes == Tissue.LUNG,
    )


def _thin_and_bright(hu: np.ndarray, voxel: float) -> np.ndarray:
    """Bone without what is bright and thick as only organs with contrast agent are (and vertebral bodies)."""
    ball = ndimage.iterate_structure(ndimage.generate_binary_structure(3, 1), max(1, round(THICK / voxel)))
    thick = ndimage.binary_opening((hu > ENHANCED[0]) & (hu < ENHANCED[1]), ball)
    return (hu > BONY) & ~ndimage.binary_dilation(thick)


def scene_of(anatomy: Anatomy) -> Scene:
    """The scene of a patient on an isotropic grid."""
    x, y, z = anatomy.ct.voxels.shape[1:]
    ox, oy, oz = anatomy.ct.patient_from_voxel[:3, 3].tolist()
    grid = Grid(shape=(x, y, z), spacing=anatomy.ct.spacing[0], origin=(ox, oy, oz))
    return make_scene(anatomy.ct.voxels[0].numpy().astype(np.float32), anatomy.labels.voxels[0].numpy(), grid)
