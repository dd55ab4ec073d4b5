"""A CT made a patient: read, cleaned, resampled, its tissues named, written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from sonogym.anatomy.anatomy import ANATOMY_FILE, Anatomy, anatomy_digest, anatomy_tensors
from sonogym.anatomy.atlas.estimate import LEAST_CONFIDENCE, Estimate, estimate_landmarks
from sonogym.anatomy.cache import ABANDONED, write_atomically, write_tensors
from sonogym.anatomy.cleanup import body_mask, bounding_box, cut_surface
from sonogym.anatomy.hu_tissues import UNDECIDED, tissues_from_hu
from sonogym.anatomy.label_check import check_labels, require_same_way_round, require_sides
from sonogym.anatomy.landmark_finding import KINDS, check_landmarks, find_landmarks
from sonogym.anatomy.organ_parts import paint_heart, paint_sinus
from sonogym.anatomy.plausibility import require_back_behind, require_trunk
from sonogym.anatomy.readers import LOWEST_HU, Scan, read_ct
from sonogym.anatomy.resampling import Grid, between, cropped, grid_over, resample_labels, resample_linear
from sonogym.anatomy.scan_facts import HIGHEST_HU, contrast_agent, find_metal, problems_of, structure_medians
from sonogym.anatomy.show import write_figure
from sonogym.anatomy.surface import Skin, mark_cut, skin_from_body
from sonogym.anatomy.synthetic_ct import synthesise_ct
from sonogym.anatomy.tissues import Tissue
from sonogym.anatomy.totalsegmentator import Structures, read_structures, tissue_table
from sonogym.anatomy.volume import Volume
from sonogym.errors import InvalidInputError, require_between, unknown_name

QA_FILE = "qa.png"
STAGING = ".import-"  # folders that begin so are no patients
AIR_HU = -1000.0
MARGIN = 15e-3  # m of air kept around the body


@dataclass(frozen=True, kw_only=True)
class _Patient:
    """The scan on its final grid. ``cut``: where the body ends at the field of view, ``share_cut`` of its side."""

    grid: Grid
    hu: np.ndarray
    body: np.ndarray
    outside: np.ndarray
    cut: np.ndarray
    share_cut: float
    metal: np.ndarray


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What is to be made of the scan."""

    name: str
    spacing: float
    landmarks: dict[str, tuple[float, float, float]]
    atlas: bool
    progress: bool
    situs_inversus: bool


def import_ct(
    ct: Path | None,
    labels: Path | None,
    out: Path,
    spacing: float = 1.5e-3,
    landmarks: Mapping[str, tuple[float, float, float]] | None = None,
    name: str | None = None,
    label_table: str = "auto",
    series: str | None = None,
    heights: tuple[float, float] | None = None,
    atlas: bool = False,
    progress: bool = False,
    situs_inversus: bool = False,
) -> Anatomy:
    """Write ``out/anatomy.safetensors`` and ``out/qa.png`` of a CT (file or DICOM folder) and return the patient.

    Without ``ct`` the labels make one up (:func:`synthesise_ct`).

    ``labels``: TotalSegmentator file or folder on the CT's grid; ``spacing`` [m]; ``landmarks``: RAS metres, they go
    before those found in the labels; ``label_table``: see :func:`read_structures`;
    ``series``: which one of a DICOM folder; ``heights``: the lowest and highest slice that is kept, RAS metres;
    ``atlas``: estimate vertebrae and organs of a scan without labels, with ``progress`` on stderr;
    ``situs_inversus``: the labels may lie on the other side, as the patient's organs are known to.
    Raises the errors of the readers and :class:`InvalidInputError` for a scan that shows no trunk or is turned, labels
    of another grid or scan or mirrored, a landmark outside the body, or a full disk; nothing is left behind then.
    """
    require_between("spacing", spacing, 0.5e-3, 5e-3, "m", "millimetres?")
    for key in landmarks or {}:
        if key not in KINDS:
            raise unknown_name("landmark", key, KINDS)
    scan, structures = _read(ct, labels, label_table, series)
    if heights is not None:
        scan, structures = _between(scan, structures, heights)
    if scan is None:
        scan = _synthesised(structures)
    if atlas and labels is not None:
        raise InvalidInputError("the atlas is for scans without labels: leave --atlas or --labels out")
    if situs_inversus and structures is None:
        raise InvalidInputError("the atlas knows no situs inversus, and labels are not given: leave it out")
    wanted = _Wanted(
        name=name or out.name, spacing=spacing, landmarks=dict(landmarks or {}), atlas=atlas, progress=progress,
        situs_inversus=situs_inversus,
    )  # fmt: skip
    anatomy = _assemble(scan, structures, wanted, _source(ct, labels))
    _write(anatomy, out)
    return anatomy


def _read(
    ct: Path | None, labels: Path | None, label_table: str, series: str | None
) -> tuple[Scan | None, Structures | None]:
    """Both as they are stored, which must be one scan the same way round."""
    structures = read_structures(labels, label_table) if labels else None
    scan = read_ct(ct, series) if ct is not None else None
    if scan is not None and structures is not None:
        _require_same_grid(scan, structures, ct, labels)
        require_same_way_round(structures.ids.voxels[0].numpy(), structures.names, scan.volume.voxels[0].numpy())
    return scan, structures


def _between(
    scan: Scan | None, structures: Structures | None, heights: tuple[float, float]
) -> tuple[Scan | None, Structures | None]:
    if scan is not None:
        volume, kept = between(scan.volume, *heights)
        scan = replace(scan, volume=volume, outside=scan.outside[:, :, kept])
    if structures is not None:
        structures = replace(structures, ids=between(structures.ids, *heights)[0])
    return scan, structures


def _synthesised(structures: Structures | None) -> Scan:
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


def _assemble(scan: Scan, structures: Structures | None, wanted: _Wanted, source: dict[str, Any]) -> Anatomy:
    patient = _place(scan, wanted.spacing)
    matrix = patient.grid.patient_from_voxel
    skin = mark_cut(skin_from_body(torch.from_numpy(patient.body), matrix), patient.cut, matrix)
    tissue, found, more = _name_tissues(patient, structures, wanted, measured=source["source"] is not None)
    given = {key: torch.tensor(point) for key, point in wanted.landmarks.items()}
    check_landmarks(given, skin, patient.grid)
    estimate = _estimate(patient, tissue, given, wanted)
    # a centre found in the last millimetres before the scan ends may lie beyond the skin drawn there
    kept_points = {key: point for key, point in found.items() if float(skin.at(point)) < 0.0}
    points = kept_points | _believed(estimate, skin) | given
    hu = np.clip(np.rint(patient.hu), LOWEST_HU, None).astype(np.int16)
    facts = source | _scan_facts(scan, patient) | more | {"landmarks_given": sorted(given)} | _estimate_facts(estimate)
    facts["landmarks_beyond_the_skin"] = sorted(set(found) - set(kept_points))
    facts["problems"] = problems_of(facts)
    anatomy = Anatomy(
        name=wanted.name,
        skin=skin,
        landmarks=points,
        digest="",
        doubtful={key: value for key, value in estimate.confidence.items() if key not in points},
        ct=Volume(torch.from_numpy(hu)[None], matrix),
        labels=Volume(torch.from_numpy(tissue)[None], matrix),
        facts=facts,
    )
    return replace(anatomy, digest=anatomy_digest(anatomy))


def _estimate(patient: _Patient, tissue: np.ndarray, given: dict[str, torch.Tensor], wanted: _Wanted) -> Estimate:
    if not wanted.atlas:
        return Estimate(landmarks={}, confidence={})
    known = {key: point.double().numpy() for key, point in given.items()}
    return estimate_landmarks(patient.hu, tissue, patient.grid, known, wanted.progress)


def _believed(estimate: Estimate, skin: Skin) -> dict[str, torch.Tensor]:
    """Estimated landmarks that are confident enough to place a probe by, inside the body."""
    points = {key: torch.from_numpy(point).float() for key, point in estimate.landmarks.items()}
    return {
        key: point
        for key, point in points.items()
        if estimate.confidence[key] >= LEAST_CONFIDENCE and float(skin.at(point)) < 0.0
    }


def _estimate_facts(estimate: Estimate) -> dict[str, Any]:
    """Place and confidence of all that was estimated, believed or not."""
    places = {key: [round(1e3 * float(value), 1) for value in point] for key, point in estimate.landmarks.items()}
    return {"estimates": {key: {"mm": places[key], "confidence": estimate.confidence[key]} for key in places}}


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
    cut, share = cut_surface(body, outside)
    require_trunk(hu, body, spacing, share)
    require_back_behind(hu, body, spacing)
    metal = find_metal(hu, body, spacing)
    hu[~ndimage.binary_dilation(body, iterations=2)] = AIR_HU  # the table goes from the picture too
    hu = np.minimum(hu, HIGHEST_HU)
    return _Patient(grid=small, hu=hu, body=body, outside=outside, cut=cut, share_cut=share, metal=metal)


def _name_tissues(
    patient: _Patient, structures: Structures | None, wanted: _Wanted, measured: bool
) -> tuple[np.ndarray, dict[str, torch.Tensor], dict[str, Any]]:
    """Tissue of each voxel, landmarks, and facts about the labels; HU that were not measured prove nothing of them."""
    grid = patient.grid
    named = np.full(grid.shape, UNDECIDED, np.uint8)
    landmarks: dict[str, torch.Tensor] = {}
    facts: dict[str, Any] = {}
    if structures is not None:
        named, landmarks, facts = _named(patient, structures, wanted, measured)
    tissue = tissues_from_hu(patient.hu, patient.body, patient.outside, named, grid.spacing)
    tissue[patient.metal & (named != Tissue.BLOOD)] = Tissue.METAL
    medians = facts.get("structures_hu", {})
    contrast = contrast_agent(medians, tissue, grid.spacing) if measured else "unknown"
    return tissue, landmarks, {**facts, "contrast": contrast}


def _named(
    patient: _Patient, structures: Structures, wanted: _Wanted, measured: bool
) -> tuple[np.ndarray, dict[str, torch.Tensor], dict[str, Any]]:
    """Tissues that labels decide, their landmarks, and their facts."""
    grid, names = patient.grid, structures.names
    ids = resample_labels(structures.ids, grid)
    require_sides(ids, names, wanted.situs_inversus)
    if measured:
        check_labels(ids, names, patient.hu, grid.spacing, structures.table)
    named = tissue_table(names, UNDECIDED)[ids]
    if "heart" in names.values():  # v1 labels wall and chambers apart
        paint_heart(named, grid.spacing)
    paint_sinus(named, patient.hu, grid.spacing)
    landmarks, lost = find_landmarks(ids, names, grid)
    counts = np.bincount(ids[ids > 0], minlength=max(names) + 1)
    litres = {name: round(float(counts[i]) * grid.spacing**3 * 1e6, 1) for i, name in names.items()}
    facts: dict[str, Any] = {"label_table": structures.table, "structures_ml": litres, "landmarks_lost": lost}
    if wanted.situs_inversus:
        facts["situs_inversus"] = True
    return named, landmarks, {**facts, "structures_hu": structure_medians(ids, names, patient.hu) if measured else {}}


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
        "skin_cut_percent": round(100 * patient.share_cut, 1),
        "metal_ml": round(float(patient.metal.sum()) * patient.grid.spacing**3 * 1e6, 2),
    }


def _write(anatomy: Anatomy, out: Path) -> None:
    """Both files made in a folder beside ``out`` and moved there when both are whole."""
    before = out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(out)
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=out))
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


def _remove_abandoned(out: Path) -> None:
    """What imports that were killed left behind."""
    for left in out.glob(f"{STAGING}*"):
        if time.time() - left.stat().st_mtime > ABANDONED:
            shutil.rmtree(left, ignore_errors=True)
