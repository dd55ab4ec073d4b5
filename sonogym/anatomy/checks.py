"""A stored patient looked over again: its file, hashes, grids, landmarks, and whether its tissues make sense."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from sonogym.anatomy.anatomy import Anatomy, anatomy_digest, anatomy_file, anatomy_from_tensors
from sonogym.anatomy.cache import read_tensors
from sonogym.anatomy.importing import QA_FILE
from sonogym.anatomy.landmark_finding import SPINAL_LEVELS
from sonogym.anatomy.tissues import BONE, Tissue
from sonogym.errors import InvalidInputError, MissingFileError
from sonogym.geometry import grids

PASSED, WARNING, FAILED = "passed", "warning", "failed"
AIR_OUTSIDE = -700.0  # HU of what lies well outside the skin
OUTSIDE = 9e-3  # m: beyond the blur of the skin
BONY = 100.0  # HU: the upper quarter of every bone
SOFT = (-200.0, 500.0)  # HU: middle of muscle and organs, contrast included
LEVEL_STEP = (12e-3, 55e-3)  # m between the middles of neighbouring vertebrae
ON_BONE = 6e-3  # m: a vertebral landmark lies in or on bone


@dataclass(frozen=True)
class Check:
    """What was looked at, how it came out (``passed``, ``warning``, ``failed``), and what was found."""

    what: str
    result: str
    found: str


def check_patient(folder: Path) -> list[Check]:
    """All checks of a patient folder; after a damaged file there is nothing more to check.

    Raises :class:`MissingFileError` where ``folder`` holds no patient.
    """
    if not anatomy_file(folder).is_file():
        raise MissingFileError(f"no patient in {folder}: {anatomy_file(folder).name} is missing")
    try:
        anatomy = anatomy_from_tensors(*read_tensors(anatomy_file(folder)))
    except (InvalidInputError, KeyError, ValueError) as error:
        return [Check("file", FAILED, str(error))]
    picture = PASSED if (folder / QA_FILE).is_file() else WARNING
    whole = Check("file", PASSED, "whole, content has the hash it was stored with")
    return [whole, Check("picture", picture, str(folder / QA_FILE)), *check_anatomy(anatomy)]


def check_anatomy(anatomy: Anatomy) -> list[Check]:
    """The checks that need no file."""
    return [check for part in _PARTS for check in part(anatomy)]


def _judged(what: str, good: bool, found: str, bad: str = FAILED) -> Check:
    return Check(what, PASSED if good else bad, found)


def _digest(anatomy: Anatomy) -> Iterator[Check]:
    same = anatomy.digest == anatomy_digest(anatomy)
    yield _judged("digest", same, anatomy.digest if same else "names other voxels, skin or landmarks than are stored")


def _grid(anatomy: Anatomy) -> Iterator[Check]:
    spacing = anatomy.ct.spacing
    found = f"{tuple(anatomy.ct.voxels.shape[1:])} voxels of {' x '.join(f'{1e3 * s:.3g}' for s in spacing)} mm"
    yield _judged("grid", max(spacing) < 1.01 * min(spacing) and 0.4e-3 < min(spacing) < 6e-3, found)
    finite = bool(torch.isfinite(anatomy.skin.distance.voxels).all())
    yield _judged("skin", finite and bool((anatomy.skin.distance.voxels < 0).any()), "finite, encloses a body")


def _landmarks(anatomy: Anatomy) -> Iterator[Check]:
    out = [name for name, point in anatomy.landmarks.items() if not _in_scan(anatomy, point)]
    if not anatomy.landmarks:
        yield Check("landmarks", WARNING, "none: no standard plane can be used")
        return
    found = f"outside: {', '.join(out)}" if out else f"{len(anatomy.landmarks)} inside the body"
    yield _judged("landmarks", not out, found)
    bone = np.isin(anatomy.labels.voxels[0].numpy(), BONE)
    to_bone = ndimage.distance_transform_edt(~bone, sampling=anatomy.labels.spacing)
    spine = [name for name in anatomy.landmarks if name.startswith("vertebra_")]
    off = [name for name in spine if _value(anatomy, to_bone, name) > ON_BONE]
    yield _judged("vertebrae in bone", not off, f"{len(spine)} of {len(spine)}" if not off else ", ".join(off), WARNING)


def _in_scan(anatomy: Anatomy, point: torch.Tensor) -> bool:
    """Whether a point lies in the grid and in the body (NaN lies nowhere)."""
    voxel = grids.affine(anatomy.labels.voxel_from_patient, point.double())
    last = torch.tensor(anatomy.labels.voxels.shape[1:]) - 0.5
    return bool(((voxel > -0.5) & (voxel < last)).all()) and float(anatomy.skin.at(point)) < 0.0


def _value(anatomy: Anatomy, volume: np.ndarray, landmark: str) -> float:
    voxel = grids.affine(anatomy.labels.voxel_from_patient, anatomy.landmarks[landmark].double()).round().long()
    x, y, z = (min(max(int(i), 0), n - 1) for i, n in zip(voxel, volume.shape, strict=True))
    return float(volume[x, y, z])


def _spine(anatomy: Anatomy) -> Iterator[Check]:
    marks = [anatomy.landmarks.get(f"vertebra_{level}") for level in SPINAL_LEVELS]
    rows = zip(SPINAL_LEVELS, itertools.pairwise(marks), strict=False)
    steps = [(a - b, level) for level, (a, b) in rows if a is not None and b is not None]
    if steps:
        wrong = [f"{name} {1e3 * float(step.norm()):.0f} mm" for step, name in steps if not _next_level(step)]
        yield _judged("levels", not wrong, f"{len(steps)} steps" if not wrong else f"below {', '.join(wrong)}")


def _next_level(step: torch.Tensor) -> bool:
    return LEVEL_STEP[0] < float(step.norm()) < LEVEL_STEP[1] and float(step[2]) > 0.0


def _sides(anatomy: Anatomy) -> Iterator[Check]:
    pairs = [("kidney_left", "kidney_right"), ("spleen", "liver")]
    known = [(a, b) for a, b in pairs if a in anatomy.landmarks and b in anatomy.landmarks]
    crossed = [a for a, b in known if float(anatomy.landmarks[a][0]) > float(anatomy.landmarks[b][0])]
    if anatomy.facts.get("situs_inversus"):
        yield Check("sides", WARNING, "situs inversus, as told at import")
    elif known:
        yield _judged("sides", not crossed, "left is left" if not crossed else f"{', '.join(crossed)} on the right")


def _hounsfield(anatomy: Anatomy) -> Iterator[Check]:
    step = (slice(None, None, 2),) * 3
    hu, tissue = anatomy.ct.voxels[0][step].numpy(), anatomy.labels.voxels[0][step].numpy()
    outside = _far_outside(anatomy)[step]
    if outside.any():
        median = float(np.median(hu[outside]))
        yield _judged("air outside", median < AIR_OUTSIDE, f"median {median:.0f} HU")
    bone = hu[np.isin(tissue, BONE)]
    if bone.size:
        upper = float(np.percentile(bone, 75))
        yield _judged("bone", upper > BONY, f"upper quarter {upper:.0f} HU")
    else:
        yield Check("bone", FAILED, "none")
    muscle = hu[tissue == Tissue.MUSCLE]
    if muscle.size:
        median = float(np.median(muscle))
        yield _judged("muscle", SOFT[0] < median < SOFT[1], f"median {median:.0f} HU", WARNING)


def _far_outside(anatomy: Anatomy) -> np.ndarray:
    skin = anatomy.skin.distance
    matrix = (skin.voxel_from_patient @ anatomy.labels.patient_from_voxel.double()).numpy()
    distance = ndimage.affine_transform(
        skin.voxels[0].numpy(), matrix[:3, :3], matrix[:3, 3], anatomy.labels.voxels.shape[1:], order=1, mode="nearest"
    )
    return distance > OUTSIDE


_PARTS: tuple[Callable[[Anatomy], Iterator[Check]], ...] = (_digest, _grid, _landmarks, _spine, _sides, _hounsfield)
