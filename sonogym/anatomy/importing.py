"""A CT made a patient: read, cleaned, resampled, its tissues named, written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from sonogym.anatomy.anatomy import ANATOMY_FILE, Anatomy, anatomy_tensors, content_digest
from sonogym.anatomy.cache import write_atomically, write_tensors
from sonogym.anatomy.cleanup import body_mask, bounding_box, share_cut
from sonogym.anatomy.hu_tissues import UNDECIDED, tissues_from_hu
from sonogym.anatomy.label_check import check_labels
from sonogym.anatomy.landmark_finding import KINDS, check_landmarks, find_landmarks
from sonogym.anatomy.organ_parts import paint_heart, paint_sinus
from sonogym.anatomy.readers import LOWEST_HU, Scan, read_ct
from sonogym.anatomy.resampling import Grid, cropped, grid_over, resample_labels, resample_linear
from sonogym.anatomy.show import write_figure
from sonogym.anatomy.surface import skin_from_body
from sonogym.anatomy.synthetic_ct import synthesise_ct
from sonogym.anatomy.totalsegmentator import Structures, read_structures, tissue_table
from sonogym.anatomy.volume import Volume
from sonogym.errors import InvalidInputError, require_between, unknown_name

QA_FILE = "qa.png"
AIR_HU = -1000.0
MARGIN = 15e-3  # m of air kept around the body


@dataclass(frozen=True, kw_only=True)
class _Patient:
    """The scan on its final grid."""

    grid: Grid
    hu: np.ndarray
    body: np.ndarray
    outside: np.ndarray


def import_ct(
    ct: Path | None,
    labels: Path | None,
    out: Path,
    spacing: float = 1.5e-3,
    landmarks: Mapping[str, tuple[float, float, float]] | None = None,
    name: str | None = None,
    label_table: str = "auto",
    series: str | None = None,
) -> Anatomy:
    """Write ``out/anatomy.safetensors`` and ``out/qa.png`` of a CT (file or DICOM folder) and return the patient.

    Without ``ct`` the labels make one up (:func:`synthesise_ct`).

    ``labels``: TotalSegmentator file or folder on the CT's grid; ``spacing`` [m]; ``landmarks``: RAS metres, they go
    before those found in the labels; ``label_table``: see :func:`read_structures`;
    ``series``: which one of a DICOM folder. Raises the errors of the readers and
    :class:`InvalidInputError` for labels of another grid or scan, a landmark outside the body, or a full disk; nothing
    is left behind then.
    """
    require_between("spacing", spacing, 0.5e-3, 5e-3, "m", "millimetres?")
    for key in landmarks or {}:
        if key not in KINDS:
            raise unknown_name("landmark", key, KINDS)
    structures = read_structures(labels, label_table) if labels else None
    scan = _scan(ct, structures, series)
    if structures is not None:
        _require_same_grid(scan, structures, ct, labels)
    anatomy = _assemble(scan, structures, spacing, dict(landmarks or {}), name or out.name, _source(ct, labels))
    _write(anatomy, out)
    return anatomy


def _scan(ct: Path | None, structures: Structures | None, series: str | None) -> Scan:
    if ct is not None:
        return read_ct(ct, series)
    if structures is None:
        raise InvalidInputError("nothing to import: give a CT, labels, or both")
    return synthesise_ct(structures)


def _source(ct: Path | None, labels: Path | None) -> dict[str, Any]:
    return {"source": ct.name if ct else None, "labels": labels.name if labels else None}


def _require_same_grid(scan: Scan, structures: Structures, ct: Path | None, labels: Path | None) -> None:
    a, b = scan.volume, structures.ids
    corner = torch.tensor([*(float(n) for n in a.voxels.shape[1:]), 1.0], dtype=torch.float64)
    apart = (a.patient_from_voxel @ corner - b.patient_from_voxel @ corner).norm()
    start = (a.patient_from_voxel - b.patient_from_voxel)[:3, 3].norm()
    if a.voxels.shape != b.voxels.shape or max(float(apart), float(start)) > 0.3 * min(a.spacing):
        raise InvalidInputError(
            f"labels and CT are not on one grid: {_grid_text(labels, b)}; {_grid_text(ct, a)}. "
            "Resample the labels to the CT, or give the CT they were made from"
        )


def _grid_text(path: Path | None, volume: Volume) -> str:
    spacing = " x ".join(f"{1e3 * length:.3g}" for length in volume.spacing)
    origin = ", ".join(f"{1e3 * value:.1f}" for value in volume.patient_from_voxel[:3, 3].tolist())
    return f"{path} has {tuple(volume.voxels.shape[1:])} voxels of {spacing} mm from ({origin})"


def _assemble(
    scan: Scan,
    structures: Structures | None,
    spacing: float,
    given: dict[str, tuple[float, float, float]],
    name: str,
    facts: dict[str, Any],
) -> Anatomy:
    patient = _place(scan, spacing)
    matrix = patient.grid.patient_from_voxel
    skin = skin_from_body(torch.from_numpy(patient.body), matrix)
    tissue, found, more = _name_tissues(patient, structures, measured=facts["source"] is not None)
    points = found | {key: torch.tensor(point) for key, point in given.items()}
    check_landmarks(points, skin, patient.grid)
    hu = np.clip(np.rint(patient.hu), LOWEST_HU, None).astype(np.int16)
    ct = Volume(torch.from_numpy(hu)[None], matrix)
    labels = Volume(torch.from_numpy(tissue)[None], matrix)
    facts = facts | _scan_facts(scan, patient) | more | {"landmarks_given": sorted(given)}
    facts["problems"] = _problems(facts)
    places = {key: point.tolist() for key, point in points.items()}
    digest = content_digest(ct.voxels, labels.voxels, skin.distance.voxels, matrix.tolist(), places)
    return Anatomy(name=name, skin=skin, landmarks=points, digest=digest, ct=ct, labels=labels, facts=facts)


def _place(scan: Scan, spacing: float) -> _Patient:
    """Resampled, the body found, cut to the body."""
    grid = grid_over(scan.volume, spacing)
    hu = resample_linear(scan.volume, grid, float(LOWEST_HU))
    body = body_mask(hu, spacing)
    box = bounding_box(body, round(MARGIN / spacing))
    small = cropped(grid, box)
    beyond = Volume(scan.outside[None].to(torch.uint8), scan.volume.patient_from_voxel)
    outside = resample_linear(beyond, small, 1.0) > 0.5
    hu, body = np.ascontiguousarray(hu[box]), np.ascontiguousarray(body[box])
    hu[~ndimage.binary_dilation(body, iterations=2)] = AIR_HU  # the table goes from the picture too
    return _Patient(grid=small, hu=hu, body=body, outside=outside)


def _name_tissues(
    patient: _Patient, structures: Structures | None, measured: bool
) -> tuple[np.ndarray, dict[str, torch.Tensor], dict[str, Any]]:
    """Tissue of each voxel, landmarks, and facts about the labels; HU that were not measured prove nothing of them."""
    grid = patient.grid
    named = np.full(grid.shape, UNDECIDED, np.uint8)
    if structures is None:
        return tissues_from_hu(patient.hu, patient.body, patient.outside, named, grid.spacing), {}, {}
    ids = resample_labels(structures.ids, grid)
    if measured:
        check_labels(ids, structures.names, patient.hu, grid.spacing, structures.table)
    named = tissue_table(structures.names, UNDECIDED)[ids]
    if "heart" in structures.names.values():  # v1 labels wall and chambers apart
        paint_heart(named, grid.spacing)
    paint_sinus(named, patient.hu, grid.spacing)
    tissue = tissues_from_hu(patient.hu, patient.body, patient.outside, named, grid.spacing)
    landmarks, lost = find_landmarks(ids, structures.names, grid)
    counts = np.bincount(ids[ids > 0], minlength=max(structures.names) + 1)
    litres = {name: round(float(counts[i]) * grid.spacing**3 * 1e6, 1) for i, name in structures.names.items()}
    return tissue, landmarks, {"label_table": structures.table, "structures_ml": litres, "landmarks_lost": lost}


def _scan_facts(scan: Scan, patient: _Patient) -> dict[str, Any]:
    shape = scan.volume.voxels.shape[1:]
    extent = [round(1e3 * n * patient.grid.spacing) for n in patient.body.shape]
    return {
        "orientation": scan.orientation,
        "orientation_in_header": scan.placed,
        "spacing_mm": [round(1e3 * length, 4) for length in scan.volume.spacing],
        "voxels": list(shape),
        "grid_mm": round(1e3 * patient.grid.spacing, 3),
        "size_mm": extent,
        "body_litres": round(float(patient.body.sum()) * patient.grid.spacing**3 * 1e3, 2),
        "skin_cut_percent": round(100 * share_cut(patient.body, patient.outside), 1),
    }


def _problems(facts: Mapping[str, Any]) -> list[str]:
    problems = list(facts.get("landmarks_lost", []))
    if not facts["orientation_in_header"]:
        problems.append("the header names no orientation: left and right may be exchanged")
    if facts["skin_cut_percent"] > 0.5:
        problems.append(f"the field of view cuts {facts['skin_cut_percent']:g} % of the skin at the sides")
    if facts["source"] is None:
        problems.append("no CT: Hounsfield units are those usual for each tissue, fat and muscle a guess by depth")
    if facts["labels"] is None:
        problems.append("no labels: air, lung, fat, soft tissue and bone by HU only; give landmarks to use the planes")
    return problems


def _write(anatomy: Anatomy, out: Path) -> None:
    """Both files made in a folder beside ``out`` and moved there when both are whole."""
    before = out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".import-", dir=out))
    except OSError as error:
        raise InvalidInputError(f"cannot write to {out}: {error.strerror or error}") from error
    done = False
    try:
        write_tensors(staging / ANATOMY_FILE, *anatomy_tensors(anatomy))
        write_atomically(staging / QA_FILE, lambda path: write_figure(anatomy, path))
        for file in (QA_FILE, ANATOMY_FILE):
            (staging / file).replace(out / file)
        done = True
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not done and not before:
            shutil.rmtree(out, ignore_errors=True)
