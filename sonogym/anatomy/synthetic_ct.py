"""A CT where there are only labels: the usual Hounsfield units of each tissue, no noise."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from sonogym.anatomy.hu_tissues import UNDECIDED
from sonogym.anatomy.patients.hounsfield import HOUNSFIELD
from sonogym.anatomy.readers import Scan
from sonogym.anatomy.tissues import BONE, Tissue
from sonogym.anatomy.totalsegmentator import Structures, tissue_table
from sonogym.anatomy.volume import Volume
from sonogym.errors import InvalidInputError

_WALL = (10e-3, 24e-3)  # m under the skin: muscle of the wall (design, tuned on labelled scans)
_ON_BONE = 6e-3  # m: muscle on bone


def synthesise_ct(structures: Structures) -> Scan:
    """A :class:`Scan` on the labels' grid; unnamed tissue of the body is muscle near wall and bone, else fat.

    Raises :class:`InvalidInputError` where no label says where the body ends.
    """
    if "body" not in structures.names.values():
        raise InvalidInputError(
            "labels without a CT must include the whole body (id 120, or body.nii.gz), or no skin is known; "
            "give the CT, or add TotalSegmentator's body task"
        )
    volume = structures.ids
    ids = volume.voxels[0].numpy()
    tissue = tissue_table(structures.names, UNDECIDED)[ids]
    body = np.stack([ndimage.binary_fill_holes(ids[:, :, z] > 0) for z in range(ids.shape[2])], axis=2)
    tissue[~body] = Tissue.AIR
    open_ = body & ((tissue == UNDECIDED) | (ids == 0))
    tissue[open_] = np.where(
        _muscular(body, np.isin(tissue, BONE), volume.spacing), Tissue.MUSCLE, Tissue.VISCERAL_FAT
    )[open_]
    mean = np.zeros(256, np.int16)
    for name, (value, _) in HOUNSFIELD.items():
        mean[name] = value
    return Scan(
        volume=Volume(torch.from_numpy(mean[tissue])[None], volume.patient_from_voxel),
        outside=torch.zeros(ids.shape, dtype=torch.bool),
        orientation="RAS",
        placed=True,
    )


def _muscular(body: np.ndarray, bone: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    padded = np.pad(body, ((1, 1), (1, 1), (0, 0)))  # a scan ends above and below, where there is no skin
    depth = ndimage.distance_transform_edt(padded, sampling=spacing)[1:-1, 1:-1]
    to_bone = ndimage.distance_transform_edt(~bone, sampling=spacing)
    return ((depth >= _WALL[0]) & (depth < _WALL[1])) | (to_bone < _ON_BONE)
