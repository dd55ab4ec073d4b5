"""What a path given to import stands for: a file, a DICOM folder, or a patient folder as data sets publish it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sonogym.errors import InvalidInputError, MissingFileError

CT_FILE, LABEL_FILE, MASKS = "ct.nii.gz", "combined_label_map.nii.gz", "segmentations"
# SonoGym's assets/HumanModels keeps scans, label maps with meshes, and bodies of one patient in three folders
SCANS, LABEL_MAPS, BODIES = "selected_dataset", "selected_dataset_stl", "selected_dataset_body_from_urdf"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A CT (file or DICOM folder), labels (file or folder of masks), or both."""

    ct: Path | None
    labels: Path | None


def find_source(path: Path) -> Source:
    """The scan and labels behind ``path``.

    A folder may be a patient of SonoGym's ``HumanModels`` (its ``ct.nii.gz`` and ``combined_label_map.nii.gz`` lie in
    sister folders), of TotalSegmentator's data set (``ct.nii.gz`` and ``segmentations/``), or a DICOM series.
    Raises :class:`MissingFileError`, and :class:`InvalidInputError` for a folder of several patients or meshes alone.
    """
    if not path.exists():
        raise MissingFileError(f"no file or folder {path}")
    if path.is_file():
        return Source(ct=path, labels=None)
    _require_one_patient(path)
    folders = _sisters(path)
    ct = _first(folder / CT_FILE for folder in folders)
    labels = _first(folder / name for folder in folders for name in (LABEL_FILE, MASKS))
    if ct is None and labels is None:
        if path.parent.name in (LABEL_MAPS, BODIES):
            raise InvalidInputError(
                f"{path} holds neither {CT_FILE} nor {LABEL_FILE} (nor does its sister folder): meshes alone make no "
                "patient; get the rest of this patient's files"
            )
        return Source(ct=path, labels=None)
    return Source(ct=ct, labels=labels)


def _sisters(path: Path) -> list[Path]:
    """The folders of one patient: ``path`` itself, and those of its name beside it in a published tree."""
    tree = path.parent
    if tree.name not in (SCANS, LABEL_MAPS, BODIES):
        return [path]
    return [tree.parent / name / path.name for name in (SCANS, LABEL_MAPS)]


def _first(paths: Iterable[Path]) -> Path | None:
    return next((path for path in paths if path.exists()), None)


def _require_one_patient(path: Path) -> None:
    trees = [path] if path.name in (SCANS, LABEL_MAPS) else [path / name for name in (SCANS, LABEL_MAPS)]
    patients = sorted(
        str(file.parent) for tree in trees for name in (CT_FILE, LABEL_FILE) for file in tree.glob(f"*/{name}")
    )
    if patients:
        raise InvalidInputError(f"{path} holds several patients; import one: {', '.join(patients)}")
