"""The virtual phantom: discs, wires and sheets of known media painted straight into the voxels that the renderer reads.

Places are those of the probe frame (x lateral, z depth below the centre of the face); nothing varies along elevation
unless said. The spacings follow the probe's depth the way catalogues of general-purpose phantoms do (design).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch

from sonogym.anatomy.anatomy import content_digest
from sonogym.anatomy.bone import no_bone
from sonogym.anatomy.phantoms import flat_skin
from sonogym.anatomy.tissues import Tissue
from sonogym.anatomy.volume import Volume
from sonogym.ultrasound.bake import AcousticAnatomy
from sonogym.ultrasound.scan_conversion import view_extent
from sonogym.ultrasound.texture import NEUTRAL
from sonogym.ultrasound.transducer import Transducer
from sonogym.ultrasound.voxel_word import pack

TABLE = "phantom"  # assets/tissues/phantom.toml
_ORDER = 0  # of every medium: no gradient, so that each wire is met at normal incidence
_HIDDEN = 2e-3  # m of medium kept behind the face
_SHEET_VOXELS = 2  # of depth: planes that come down beside a sheet must not meet it from the side
_ELEVATION_VOXELS = 2  # a voxel beyond the grid equals the last one in it


class Medium(IntEnum):
    """Media of the phantom, by the tissue id each borrows (see ``assets/tissues/phantom.toml``)."""

    SILENT = Tissue.GEL
    BACKGROUND = Tissue.LIVER
    DENSE = Tissue.SPLEEN
    ANECHOIC = Tissue.FLUID
    MINUS_9 = Tissue.KIDNEY_CORTEX
    MINUS_6 = Tissue.PANCREAS
    MINUS_3 = Tissue.BLOOD
    PLUS_3 = Tissue.MYOCARDIUM
    PLUS_6 = Tissue.NERVE
    WIRE = Tissue.CONNECTIVE


GREY_DECIBELS = {
    Medium.MINUS_9: -9.0,
    Medium.MINUS_6: -6.0,
    Medium.MINUS_3: -3.0,
    Medium.PLUS_3: 3.0,
    Medium.PLUS_6: 6.0,
}


@dataclass(frozen=True, kw_only=True)
class Disc:
    """A cylinder along elevation: ``x``, ``z``, ``radius`` [m]."""

    x: float
    z: float
    radius: float
    medium: Medium


def slab(
    transducer: Transducer,
    depth: float,
    pitch: float,
    background: Medium,
    discs: Sequence[Disc] = (),
    right: Medium | None = None,
) -> AcousticAnatomy:
    """``background`` over the whole view down to ``depth`` [m] in voxels of ``pitch`` [m], with ``discs`` put in.

    ``right`` fills the half of positive lateral. The patient frame is that of :mod:`sonogym.anatomy.phantoms`.
    """
    half, top, bottom = view_extent(transducer, depth)
    across, deep = round(2.0 * (half + _HIDDEN) / pitch), round((bottom - top + 2.0 * _HIDDEN) / pitch)
    x = -(np.arange(across) - 0.5 * (across - 1)) * pitch  # voxel order is to the patient's right
    z = top - _HIDDEN + np.arange(deep) * pitch
    labels = np.full((across, deep), int(background), np.uint8)
    if right is not None:
        labels[x > 0.0] = int(right)
    for disc in discs:
        columns, rows = (np.flatnonzero(np.abs(axis - at) <= disc.radius) for axis, at in ((x, disc.x), (z, disc.z)))
        inside = np.hypot(x[columns, None] - disc.x, z[rows] - disc.z) <= disc.radius
        labels[np.ix_(columns, rows)] = np.where(inside, int(disc.medium), labels[np.ix_(columns, rows)])
    start = (-float(x[0]), float(z[0]), -0.5 * pitch)
    return _acoustic(np.repeat(labels[..., None], _ELEVATION_VOXELS, axis=2), start, pitch)


def sheet(depth: float, half_width: float, half_thickness: float, reach: float) -> AcousticAnatomy:
    """An opaque strip ``depth`` [m] below the face, as wide as the view and 2 ``half_thickness`` [m] long in elevation.

    The voxels span ``half_width`` [m] on either side.

    ``reach`` [m] on either side in elevation is silent.
    """
    pitch = half_thickness / 4.0
    across, along = 2 * round(half_width / pitch), 2 * round(reach / pitch)
    y = (np.arange(along) - 0.5 * (along - 1)) * pitch
    labels = np.full((across, 3 * _SHEET_VOXELS, along), int(Medium.SILENT), np.uint8)
    labels[:, _SHEET_VOXELS : 2 * _SHEET_VOXELS, np.abs(y) <= half_thickness] = int(Medium.WIRE)
    return _acoustic(labels, (-0.5 * (across - 1) * pitch, depth - (_SHEET_VOXELS - 0.5) * pitch, float(y[0])), pitch)


def _acoustic(labels: np.ndarray, start: tuple[float, float, float], pitch: float) -> AcousticAnatomy:
    """``labels`` (x, y, z) from ``start`` [m] on, with one order and no texture."""
    flat = np.full_like(labels, _ORDER)
    voxels = pack(labels, flat, flat, np.full_like(labels, NEUTRAL))
    matrix = torch.diag(torch.tensor([pitch, pitch, pitch, 1.0], dtype=torch.float64))
    matrix[:3, 3] = torch.tensor(start, dtype=torch.float64)
    size = (labels.shape[0] * pitch, labels.shape[1] * pitch, 0.01)
    return AcousticAnatomy(
        name="quality phantom",
        skin=flat_skin(size),
        landmarks={},
        digest=content_digest(torch.from_numpy(labels), list(start), pitch),
        voxels=Volume(voxels, matrix),
        bone=no_bone(),
    )
