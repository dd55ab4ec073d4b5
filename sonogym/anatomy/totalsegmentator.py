"""Structures named by TotalSegmentator (Wasserthal et al. 2023): its id tables, its files, and their tissues."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sonogym.anatomy.readers import SUFFIXES, read_label_file
from sonogym.anatomy.tissues import Tissue
from sonogym.anatomy.volume import Volume
from sonogym.errors import InvalidInputError, MissingFileError, unknown_name

BODY_ID = 120  # published SonoGym label maps keep the rest of the body under this id
TABLE_FILE = "structures.csv"


def _sides(*names: str, first: str = "left") -> list[str]:
    second = "right" if first == "left" else "left"
    return [f"{name}_{side}" for name in names for side in (first, second)]


def _spine(lowest: str) -> list[str]:
    levels = [f"{region}{i}" for region, count in (("L", 5), ("T", 12), ("C", 7)) for i in range(count, 0, -1)]
    return [f"vertebrae_{level}" for level in ([lowest] if lowest else []) + levels]


_RIBS = [f"rib_{side}_{i}" for side in ("left", "right") for i in range(1, 13)]
_LUNGS = ["lung_upper_lobe_left", "lung_lower_lobe_left"] + [
    f"lung_{lobe}_lobe_right" for lobe in ("upper", "middle", "lower")
]
_TRUNK_ORGANS = ["spleen", "kidney_right", "kidney_left", "gallbladder", "liver", "stomach"]
_ADRENALS = _sides("adrenal_gland", first="right")
_ILIAC = _sides("iliac_artery", "iliac_vena")
_GLUTEALS = _sides("gluteus_maximus", "gluteus_medius", "gluteus_minimus")
_BACK = _sides("autochthon", "iliopsoas")

V1_NAMES = (
    *_TRUNK_ORGANS, "aorta", "inferior_vena_cava", "portal_vein_and_splenic_vein", "pancreas", *_ADRENALS, *_LUNGS,
    *_spine(""), "esophagus", "trachea", "heart_myocardium", "heart_atrium_left", "heart_ventricle_left",
    "heart_atrium_right", "heart_ventricle_right", "pulmonary_artery", "brain", *_ILIAC, "small_bowel", "duodenum",
    "colon", *_RIBS, *_sides("humerus", "scapula", "clavicula", "femur", "hip"), "sacrum", "face", *_GLUTEALS, *_BACK,
    "urinary_bladder",
)  # fmt: skip
V2_NAMES = (
    *_TRUNK_ORGANS, "pancreas", *_ADRENALS, *_LUNGS, "esophagus", "trachea", "thyroid_gland", "small_bowel", "duodenum",
    "colon", "urinary_bladder", "prostate", *_sides("kidney_cyst"), "sacrum", *_spine("S1"), "heart", "aorta",
    "pulmonary_vein", "brachiocephalic_trunk", *_sides("subclavian_artery", "common_carotid_artery", first="right"),
    *_sides("brachiocephalic_vein"), "atrial_appendage_left", "superior_vena_cava", "inferior_vena_cava",
    "portal_vein_and_splenic_vein", *_ILIAC, *_sides("humerus", "scapula", "clavicula", "femur", "hip"), "spinal_cord",
    *_GLUTEALS, *_BACK, "brain", "skull", *_RIBS, "sternum", "costal_cartilages",
)  # fmt: skip
TABLES: Mapping[str, Mapping[int, str]] = {
    "v1": dict(enumerate(V1_NAMES, start=1)),
    "v2": dict(enumerate(V2_NAMES, start=1)),
}

# starts of structure names -> tissue; None: the HU decide. Glands without an entry of their own in the acoustic
# table take the pancreas', the closest parenchyma.
_TISSUE_BY_START: tuple[tuple[str, Tissue | None], ...] = (
    ("kidney_cyst", Tissue.FLUID), ("kidney", Tissue.KIDNEY_CORTEX), ("liver", Tissue.LIVER), ("spleen", Tissue.SPLEEN),
    ("pancreas", Tissue.PANCREAS), ("adrenal_gland", Tissue.PANCREAS), ("thyroid_gland", Tissue.PANCREAS),
    ("prostate", Tissue.PANCREAS), ("stomach", Tissue.STOMACH), ("esophagus", Tissue.BOWEL),
    ("small_bowel", Tissue.BOWEL), ("duodenum", Tissue.BOWEL), ("colon", Tissue.BOWEL), ("gallbladder", Tissue.BILE),
    ("urinary_bladder", Tissue.FLUID), ("lung", Tissue.LUNG), ("trachea", Tissue.AIR),
    ("aorta", Tissue.BLOOD), ("inferior_vena_cava", Tissue.VEIN), ("superior_vena_cava", Tissue.BLOOD),
    ("portal_vein", Tissue.BLOOD), ("pulmonary_", Tissue.BLOOD), ("brachiocephalic_", Tissue.BLOOD),
    ("subclavian_artery", Tissue.BLOOD), ("common_carotid_artery", Tissue.BLOOD), ("iliac_artery", Tissue.BLOOD),
    ("iliac_vena", Tissue.VEIN), ("atrial_appendage", Tissue.BLOOD), ("heart_atrium", Tissue.BLOOD),
    ("heart_ventricle", Tissue.BLOOD), ("heart", Tissue.MYOCARDIUM), ("brain", Tissue.NERVE),
    ("spinal_cord", Tissue.NERVE), ("gluteus", Tissue.MUSCLE), ("autochthon", Tissue.MUSCLE),
    ("iliopsoas", Tissue.MUSCLE), ("costal_cartilages", Tissue.CARTILAGE), ("face", None), ("body", None),
    *((start, Tissue.TRABECULAR_BONE) for start in ("vertebrae_", "sacrum", "rib_", "sternum", "humerus", "scapula",
                                                    "clavicula", "femur", "hip_", "skull", "carpal")),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Structures:
    """A label volume (1, x, y, z) int16 and the name of each id that occurs in it, 0 apart.

    ``table`` says where the names come from: ``v1``, ``v2``, a file, or the mask files.
    """

    ids: Volume
    names: Mapping[int, str]
    table: str


def tissue_of(name: str) -> Tissue | None:
    """Tissue of a structure, bone as trabecular (its shell is painted later); None where the HU decide.

    Raises :class:`UnknownNameError` with the closest known structure.
    """
    for start, tissue in _TISSUE_BY_START:
        if name.startswith(start):
            return tissue
    raise unknown_name("structure", name, {*V1_NAMES, *V2_NAMES, "body"})


def read_structures(path: Path, table: str = "auto") -> Structures:
    """Structures from one multi-label file or from a folder with one mask a structure (named by its file).

    ``table``: ``v1``, ``v2``, or ``auto``: a ``structures.csv`` beside the file, else v2 if an id exceeds v1's 104.
    Raises :class:`MissingFileError`, :class:`InvalidInputError` (unknown ids, listed) or :class:`UnknownNameError`.
    """
    if table not in ("auto", *TABLES):
        raise unknown_name("label table", table, ("auto", *TABLES))
    if path.is_dir():
        return _read_folder(path)
    volume = read_label_file(path)
    present = [int(i) for i in torch.unique(volume.voxels) if i > 0]
    if not present:
        raise InvalidInputError(f"{path} holds no label: every voxel is 0")
    source, known = _table_for(path, present, table)
    unknown = [i for i in present if i not in known and i != BODY_ID]
    if unknown:
        raise InvalidInputError(
            f"{path} holds ids unknown to the table {source}: {unknown}; known are 1 .. {max(known)} and {BODY_ID} "
            f"(body). Choose the table (v1, v2), or put a {TABLE_FILE} with columns id,structure beside the file"
        )
    return Structures(ids=volume, names={i: known.get(i, "body") for i in present}, table=source)


def _table_for(path: Path, present: list[int], table: str) -> tuple[str, Mapping[int, str]]:
    beside = path.with_name(TABLE_FILE)
    if table == "auto" and beside.is_file():
        return str(beside), read_table(beside)
    if table == "auto":
        table = "v1" if max((i for i in present if i != BODY_ID), default=0) <= len(V1_NAMES) else "v2"
    return table, TABLES[table]


def read_table(path: Path) -> dict[int, str]:
    """Id -> structure from a CSV file with the columns ``id`` and ``structure`` (or ``name``)."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"{path} is no CSV text in UTF-8 ({error}); save it as that") from error
    columns = list(rows[0]) if rows else []
    column = next((name for name in ("structure", "name") if name in columns), None)
    if "id" not in columns or column is None:
        raise InvalidInputError(f"{path} must have the columns id and structure, got {columns}")
    try:
        return {int(row["id"]): row[column] for row in rows}
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{path} has an id that is no whole number ({error})") from error


def _read_folder(folder: Path) -> Structures:
    files = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES))
    if not files:
        raise MissingFileError(f"no mask ({' or '.join(SUFFIXES)}) in {folder}")
    names = [path.name.removesuffix(".gz").removesuffix(".nii") for path in files]
    for name in names:
        tissue_of(name)
    first = read_label_file(files[0])
    merged = np.zeros(tuple(first.voxels.shape), np.int16)
    for number, path in enumerate(files, start=1):
        mask = first if number == 1 else read_label_file(path)
        if not mask.same_grid(first):
            raise InvalidInputError(f"masks {files[0].name} and {path.name} in {folder} are not on one grid")
        merged[mask.voxels.numpy() > 0] = number
    present = {int(i) for i in np.unique(merged)} - {0}
    if not present:
        raise InvalidInputError(f"every mask in {folder} is empty")
    ids = Volume(torch.from_numpy(merged), first.patient_from_voxel)
    return Structures(ids=ids, names={i: names[i - 1] for i in sorted(present)}, table="mask files")


def tissue_table(names: Mapping[int, str], undecided: int) -> np.ndarray:
    """Look-up (ids,) uint8 from id to tissue; ``undecided`` where the HU decide."""
    table = np.full(max(names, default=0) + 1, undecided, np.uint8)
    for i, name in names.items():
        tissue = tissue_of(name)
        table[i] = undecided if tissue is None else int(tissue)
    return table


def levels(names: Iterable[str]) -> list[str]:
    """Spinal levels (``T12``, ``L1`` ..) among structure names."""
    return [name.removeprefix("vertebrae_") for name in names if name.startswith("vertebrae_")]
