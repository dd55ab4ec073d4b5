"""``sonogym render --sweep``: parallel planes as a montage and as a NIfTI volume beside it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from sonogym.anatomy.cache import write_atomically
from sonogym.anatomy.volume import Volume
from sonogym.geometry import Pose
from sonogym.ultrasound.acquisition import Sweep, acquire
from sonogym.ultrasound.frame import RenderParams
from sonogym.ultrasound.renderer import Renderer


def write_sweep(out: Path, renderer: Renderer, pose: Pose, sweep: Sweep, params: RenderParams) -> Path:
    """Write the montage to ``out`` and the volume (RAS, millimetres) beside it as .nii.gz; returns its path."""
    from PIL import Image

    acquisition = acquire(renderer, pose, sweep, params=params, progress=True)
    montage = _montage(acquisition.images.numpy())
    write_atomically(out, lambda path: Image.fromarray(montage).save(path, format="PNG"))
    volume = out.with_suffix(".nii.gz")
    _write_nifti(volume, acquisition.volume)
    return volume


def _montage(images: np.ndarray) -> np.ndarray:
    """The planes row by row, as many across as down."""
    planes, height, width = images.shape
    across = math.ceil(math.sqrt(planes))
    down = math.ceil(planes / across)
    tiles = np.zeros((down * across, height, width), np.uint8)
    tiles[:planes] = images
    return tiles.reshape(down, across, height, width).swapaxes(1, 2).reshape(down * height, across * width)


def _write_nifti(path: Path, volume: Volume) -> None:
    import gzip

    import nibabel

    affine = volume.patient_from_voxel.numpy().copy()
    affine[:3] *= 1e3
    image: Any = nibabel.Nifti1Image(volume.voxels[0].numpy(), affine)
    image.header.set_xyzt_units("mm")
    packed = gzip.compress(image.to_bytes(), mtime=0)
    write_atomically(path, lambda staging: staging.write_bytes(packed))
