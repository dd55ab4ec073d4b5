"""Patients as the renderer reads them: four bytes a voxel on an isotropic grid, cropped to the body."""

from __future__ import annotations

import functools
import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from tqdm import tqdm

from sonogym.anatomy.anatomy import Anatomy, Body, anatomy_file, content_digest
from sonogym.anatomy.bone import bone_distance
from sonogym.anatomy.cache import cache_folder, kept
from sonogym.anatomy.library import WARP, load_patient, resolve_patients
from sonogym.anatomy.patients import VERSION as PATIENTS_VERSION
from sonogym.anatomy.surface import skin_from_tensors, skin_tensors
from sonogym.anatomy.tissues import Tissue
from sonogym.anatomy.volume import Volume
from sonogym.anatomy.warps import VERSION as WARPS_VERSION
from sonogym.errors import require_between
from sonogym.ultrasound.acoustics import Acoustics, load_acoustics_table
from sonogym.ultrasound.texture import density_map, texture_levels
from sonogym.ultrasound.veins import mark_veins
from sonogym.ultrasound.voxel_word import pack

VERSION = 9  # of what :func:`bake` writes; part of the cache key
NORMAL_BLUR = 1.5e-3  # m: of the map whose gradient is the normal (error 4-6 degrees)
CROSSING_BLUR = 0.7e-3  # m: of the map that places an interface between voxels
LABEL_BLUR = 1.0e-3  # m: of each tissue's mask before labels are refined
# What keeps whole, where they cross voxels askew, sheets about a voxel thick (their faces move by about .2 mm) and
# needles (by about .5 mm).
_THIN = {Tissue.CONNECTIVE: 1.45, Tissue.CORTICAL_BONE: 1.45, Tissue.SKIN: 1.45, Tissue.METAL: 2.5}
_MARGIN = 3  # voxels of gel kept around the body
_FINEST_PROCEDURAL = 1.5e-3


@dataclass(frozen=True, kw_only=True)
class AcousticAnatomy(Body):
    """A body with ``voxels`` uint8 (4, x, y, z), isotropic.

    The bytes of :mod:`sonogym.ultrasound.voxel_word`: the first is the tissue id (air outside the skin is gel).
    ``bone`` is :func:`~sonogym.anatomy.bone.bone_distance`.
    """

    voxels: Volume
    bone: Volume

    @functools.cached_property
    def tissues(self) -> Volume:
        """The channel of tissue ids."""
        return Volume(self.voxels.voxels[:1], self.voxels.patient_from_voxel)


def bake(anatomy: Anatomy, pitch: float = 1.5e-3, table: Acoustics | None = None) -> AcousticAnatomy:
    """What the renderer needs of ``anatomy`` at voxels of ``pitch`` [m], along its own voxel axes.

    Raises :class:`InvalidInputError` for a pitch outside [0.2, 4] mm.
    """
    require_between("pitch", pitch, 2e-4, 4e-3, "m", "millimetres?")
    table = table or load_acoustics_table()
    labels, matrix = _resample(_outside_to_gel(anatomy), anatomy.labels.patient_from_voxel.double(), pitch)
    labels, matrix = _crop(labels, matrix)
    order = table.order.numpy().astype(np.float32)[labels]
    normals, crossings = _blur(order, NORMAL_BLUR / pitch), _blur(order, CROSSING_BLUR / pitch)
    texture = texture_levels(labels, table.texture.numpy(), pitch, _density(anatomy, matrix, labels.shape))
    mark_veins(texture, labels, pitch)
    voxels = Volume(pack(labels, normals, crossings, texture), matrix)
    return AcousticAnatomy(
        name=anatomy.name,
        skin=anatomy.skin,
        landmarks=anatomy.landmarks,
        digest=content_digest(anatomy.digest, pitch, VERSION, table.digest),
        doubtful=anatomy.doubtful,
        voxels=voxels,
        bone=bone_distance(anatomy.labels),
    )


def load_acoustic(name_or_dir: str, pitch: float) -> AcousticAnatomy:
    """One baked patient by name or folder, kept in the cache so that neither generation nor the CT is needed again.

    Raises as :func:`sonogym.anatomy.library.load_patient` and :func:`bake` do.
    """
    name = _single(str(name_or_dir))
    return kept(
        _cache_file(name, pitch),
        read=_from_tensors,
        make=lambda: bake(load_patient(name, max(pitch, _FINEST_PROCEDURAL)), pitch),
        pack=_to_tensors,
    )


def load_acoustics(names: Sequence[str], pitch: float, progress: bool = False) -> list[AcousticAnatomy]:
    """:func:`load_acoustic` of many patients."""
    return [load_acoustic(name, pitch) for name in tqdm(names, disable=not progress, desc="patients")]


def bake_missing(names: Sequence[str], pitch: float, workers: int, progress: bool = False) -> None:
    """Fill the cache with those of ``names`` that are not in it, by ``workers`` processes.

    The processes start anew and import the main module, so a script must guard its own with ``__name__``.
    """
    require_between("workers", workers, 1, 256)
    todo = [name for name in map(str, names) if not _cache_file(_single(name), pitch).is_file()]
    if not todo:
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(todo)), mp_context=context) as pool:
        work = pool.map(partial(_bake_one, pitch=pitch), todo)
        for _ in tqdm(work, total=len(todo), disable=not progress, desc="making patients"):
            pass


def _bake_one(name: str, pitch: float) -> None:
    torch.set_num_threads(1)
    load_acoustic(name, pitch)


def _single(name: str) -> str:
    """The canonical name of one patient (several are refused by :func:`load_patient`)."""
    names = resolve_patients(name)
    return names[0] if len(names) == 1 else name


def _cache_file(name: str, pitch: float) -> Path:
    original, _, warp = name.partition(WARP)
    folder = Path(original)
    source: list[object] = [original, PATIENTS_VERSION]
    if anatomy_file(folder).is_file():
        status = anatomy_file(folder).stat()
        source = [str(folder.resolve()), status.st_size, status.st_mtime_ns]
    source += [warp, WARPS_VERSION] if warp else []
    key = content_digest(source, pitch, VERSION, load_acoustics_table().digest)
    return cache_folder() / "acoustic" / f"{key}.safetensors"


def _to_tensors(body: AcousticAnatomy) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors = {
        "voxels": body.voxels.voxels,
        "patient_from_voxel": body.voxels.patient_from_voxel,
        **skin_tensors(body.skin),
        "bone": body.bone.voxels,
        "bone_patient_from_voxel": body.bone.patient_from_voxel,
    }
    landmarks = json.dumps({name: point.tolist() for name, point in body.landmarks.items()})
    doubtful = json.dumps(dict(body.doubtful))
    return tensors, {"name": body.name, "digest": body.digest, "landmarks": landmarks, "doubtful": doubtful}


def _from_tensors(tensors: dict[str, Tensor], text: dict[str, str]) -> AcousticAnatomy:
    return AcousticAnatomy(
        name=text["name"],
        skin=skin_from_tensors(tensors),
        landmarks={name: torch.tensor(point) for name, point in json.loads(text["landmarks"]).items()},
        digest=text["digest"],
        doubtful=json.loads(text["doubtful"]),
        voxels=Volume(tensors["voxels"], tensors["patient_from_voxel"]),
        bone=Volume(tensors["bone"], tensors["bone_patient_from_voxel"]),
    )


def _outside_to_gel(anatomy: Anatomy) -> np.ndarray:
    """Labels (x, y, z) with the air outside the skin turned into gel; air deeper than 3 mm stays bowel gas."""
    labels = anatomy.labels.voxels[0].numpy().copy()
    skin = anatomy.skin.distance
    to_skin = (skin.voxel_from_patient @ anatomy.labels.patient_from_voxel.double()).numpy()
    scale = to_skin[:3, :3]
    straight = np.abs(scale - np.diag(np.diag(scale))).max() < 1e-6  # one axis after another is five times faster
    distance = ndimage.affine_transform(
        skin.voxels[0].numpy(),
        np.diag(scale) if straight else scale,
        to_skin[:3, 3],
        labels.shape,
        order=1,
        mode="nearest",
    )
    labels[(labels == Tissue.AIR) & (distance > -3e-3)] = Tissue.GEL
    return labels


def _density(anatomy: Anatomy, matrix: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """:func:`density_map` of the CT, read linearly at the voxels of ``matrix``."""
    x, y, z = anatomy.ct.patient_from_voxel[:3, :3].norm(dim=0).tolist()
    density = density_map(anatomy.ct.voxels[0].numpy(), anatomy.labels.voxels[0].numpy(), (x, y, z))
    to_ct = (anatomy.ct.voxel_from_patient @ matrix).numpy()
    return ndimage.affine_transform(density, np.diag(to_ct[:3, :3]), to_ct[:3, 3], shape, order=1, mode="nearest")


def _resample(labels: np.ndarray, matrix: Tensor, pitch: float) -> tuple[np.ndarray, Tensor]:
    """Labels on an isotropic grid along the same axes: smoothed masks where it is finer, else the nearest voxel."""
    spacing = matrix[:3, :3].norm(dim=0).numpy()
    zoom = pitch / spacing
    if np.allclose(zoom, 1.0, atol=1e-3):
        return labels, matrix
    shape = tuple(max(int(n / z), 1) for n, z in zip(labels.shape, zoom, strict=True))
    offset = 0.5 * (zoom - 1.0)
    scale = np.diag([*zoom, 1.0])
    scale[:3, 3] = offset
    if zoom.min() > 0.95:
        index = [
            np.rint(np.arange(n) * z + o).astype(int).clip(0, m - 1)
            for n, z, o, m in zip(shape, zoom, offset, labels.shape, strict=True)
        ]
        return labels[np.ix_(*index)], matrix @ torch.from_numpy(scale)
    return _refine(labels, spacing, zoom, offset, shape), matrix @ torch.from_numpy(scale)


def _refine(
    labels: np.ndarray, spacing: np.ndarray, zoom: np.ndarray, offset: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """The tissue whose blurred mask, interpolated linearly, is largest at each voxel of the finer grid."""
    best = np.zeros(shape, np.float32)
    refined = np.full(shape, Tissue.GEL, np.uint8)
    for tissue in np.unique(labels).tolist():
        low, high = _box(labels == tissue, 3)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        mask = ndimage.gaussian_filter((labels[box] == tissue).astype(np.float32), LABEL_BLUR / spacing, truncate=3.0)
        start = np.where(low == 0, 0, np.ceil((low - offset) / zoom).astype(int))
        stop = np.where(high == labels.shape, shape, np.floor((high - 1 - offset) / zoom).astype(int) + 1)
        window = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        fine = ndimage.affine_transform(
            mask, zoom, start * zoom + offset - low, tuple(stop - start), order=1, mode="nearest"
        )
        fine *= _THIN.get(tissue, 1.0)
        wins = fine > best[window]
        best[window][wins] = fine[wins]
        refined[window][wins] = tissue
    return refined


def _box(mask: np.ndarray, margin: int) -> tuple[np.ndarray, np.ndarray]:
    """First and one-past-last voxel of a mask along each axis, with a margin, inside the grid."""
    low, high = [], []
    for axis in range(3):
        line = np.flatnonzero(mask.any(tuple(a for a in range(3) if a != axis)))
        first, last = (int(line[0]), int(line[-1])) if line.size else (0, mask.shape[axis] - 1)
        low.append(max(first - margin, 0))
        high.append(min(last + 1 + margin, mask.shape[axis]))
    return np.array(low), np.array(high)


def _crop(labels: np.ndarray, matrix: Tensor) -> tuple[np.ndarray, Tensor]:
    low, high = _box(labels != Tissue.GEL, _MARGIN)
    shift = torch.eye(4, dtype=torch.float64)
    shift[:3, 3] = torch.from_numpy(low.astype(np.float64))
    return np.ascontiguousarray(labels[low[0] : high[0], low[1] : high[1], low[2] : high[2]]), matrix @ shift


def _blur(order: np.ndarray, sigma: float) -> np.ndarray:
    return np.asarray(ndimage.gaussian_filter(order, sigma, truncate=3.0, mode="nearest"))
