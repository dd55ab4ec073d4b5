"""CT (NIfTI or a DICOM folder) and label files, any orientation and spacing, as volumes in RAS metres."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from sonogym.anatomy.volume import Volume
from sonogym.errors import InvalidInputError, MissingFileError

LOWEST_HU = -1024  # scanners' own floor; what lies below marks the outside of the field of view
OUTSIDE_HU = -1500  # paddings in use are -2000, -2048, -3024: noise in air stays above this
AIR_HU = -500
HIGHEST_HU, MOST_ABOVE = 5000, 0.01  # beyond metal; the share of voxels above it that only swapped bytes reach
SPACING_LIMITS = (0.1, 10.0)  # mm: finer is no body CT, coarser resolves no vertebra
SUFFIXES = (".nii", ".nii.gz")
_PART = 1 << 24  # bytes


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A CT as read: ``volume`` int16 HU (1, x, y, z) whose axes point closest to right, anterior and superior.

    ``outside``: voxels the scanner did not reconstruct (set to air in ``volume``).
    ``orientation``: the axes as stored, such as ``LAS``; ``placed``: whether the header says so at all.
    """

    volume: Volume
    outside: Bool[Tensor, "x y z"]
    orientation: str
    placed: bool


def read_ct(path: Path, series: str | None = None) -> Scan:
    """A CT in Hounsfield units from a NIfTI file or a DICOM folder; the affine is kept, oblique or not, in metres.

    ``series`` picks one of several in a folder (see :func:`sonogym.anatomy.dicom.read_series`).

    Raises :class:`MissingFileError`, and :class:`InvalidInputError` for a damaged file, an image that is not
    three-dimensional, a singular affine, a spacing that cannot be millimetres, NaN, and a scan without body or air.
    """
    if path.is_dir():
        from sonogym.anatomy.dicom import read_series

        return read_series(path, series)
    if series is not None:
        raise InvalidInputError(f"{path} is one file: a series is picked from a DICOM folder; leave --series out")
    image = _load(path)
    placed = int(image.header["qform_code"]) > 0 or int(image.header["sform_code"]) > 0
    return make_scan(_voxels(image, path), image.affine, placed, path)


def make_scan(array: np.ndarray, affine: np.ndarray, placed: bool, path: Path) -> Scan:
    """A :class:`Scan` of HU (x, y, z) float32 and their affine [mm, RAS]; ``path`` is named in errors."""
    array = _finite(array, path)
    _require_body_in_air(array, path)
    array, matrix = _canonical(array, affine)
    outside = torch.from_numpy(np.ascontiguousarray(array < OUTSIDE_HU))
    hu = np.clip(np.rint(array), LOWEST_HU, np.iinfo(np.int16).max).astype(np.int16)
    return Scan(
        volume=Volume(torch.from_numpy(np.ascontiguousarray(hu))[None], matrix),
        outside=outside,
        orientation=orientation_of(affine),
        placed=placed,
    )


def read_label_file(path: Path) -> Volume:
    """Integer labels (1, x, y, z) int16 from a NIfTI file, axes as in :func:`read_ct`; the same errors."""
    image = _load(path)
    array = _finite(_voxels(image, path), path, "outside every structure as 0")
    if array.min() < 0 or array.max() > np.iinfo(np.int16).max or bool((array != np.rint(array)).any()):
        raise InvalidInputError(
            f"{path} is no label file: its values {array.min():g} .. {array.max():g} are not whole numbers from 0"
        )
    array, matrix = _canonical(array, image.affine)
    return Volume(torch.from_numpy(np.ascontiguousarray(array.astype(np.int16)))[None], matrix)


def orientation_of(affine: np.ndarray) -> str:
    """Letters of the directions in which the stored axes run, such as ``LAS``."""
    import nibabel

    return "".join(nibabel.aff2axcodes(affine))


def _load(path: Path) -> Any:
    import nibabel
    from nibabel.imageglobals import LoggingOutputSuppressor

    _require_nifti(path)
    with _refused(path, "is damaged or no NIfTI file", "copy or convert it again"), LoggingOutputSuppressor():
        if path.suffix == ".gz":
            _require_whole(path)
        image: Any = nibabel.load(path)
        with nibabel.openers.ImageOpener(str(path)) as file:
            stored = type(image.header).from_fileobj(file, check=False)
    _require_measured(stored, path)
    if image.get_data_dtype().kind not in "iuf":
        raise InvalidInputError(
            f"{path} holds colours or complex numbers ({image.get_data_dtype()}), not one number a voxel; give the CT "
            "or the labels themselves"
        )
    if len(image.shape) != 3 or min(image.shape) < 4:
        raise InvalidInputError(
            f"{path} must be one 3-D image of at least 4 voxels an axis, got shape {tuple(image.shape)}; "
            "export a single volume"
        )
    _require_affine(np.asarray(image.affine, dtype=np.float64), path)
    return image


@contextmanager
def _refused(path: Path, what: str, mend: str) -> Iterator[None]:
    """Whatever a damaged file makes its reader raise, as one :class:`InvalidInputError` of one line."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        yield
    except (ImageFileError, HeaderDataError, EOFError, MemoryError, OSError, zlib.error, ValueError) as error:
        why = (str(error) or "its header asks for more memory than there is").splitlines()[0]
        raise InvalidInputError(f"{path} {what} ({why}); {mend}") from error


def _require_whole(path: Path) -> None:
    """Read a compressed file to its end, where its checksum stands: readers stop before it."""
    with gzip.open(path) as file:
        while file.read(_PART):
            pass


def _require_measured(header: Any, path: Path) -> None:
    """Voxels must have a size in the header, which readers replace by 1 mm where it is 0."""
    sizes = [float(size) for size in header["pixdim"][1:4]]
    if int(header["sform_code"]) <= 0 and not all(abs(size) > 0.0 for size in sizes):
        raise InvalidInputError(f"{path} gives no voxel size (pixdim {sizes}, no sform); export it with its spacing")


def _require_nifti(path: Path) -> None:
    if path.is_dir():
        raise InvalidInputError(f"{path} is a folder; one label file must be NIfTI ({' or '.join(SUFFIXES)})")
    if not path.is_file():
        raise MissingFileError(f"no file {path}")
    if not path.name.endswith(SUFFIXES):
        raise InvalidInputError(f"{path} must end in {' or '.join(SUFFIXES)}, or be the folder of a DICOM series")


def _require_affine(affine: np.ndarray, path: Path) -> None:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6 * np.prod(np.maximum(lengths, 1e-6)):
        raise InvalidInputError(f"{path} has a singular affine {affine[:3].tolist()}; its header must place the voxels")
    require_spacing(affine, path)


def require_spacing(affine: np.ndarray, path: Path) -> None:
    """Raise :class:`InvalidInputError` unless the voxels of ``affine`` [mm] are those of a body CT."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    spacing = " x ".join(f"{length:.3g}" for length in lengths)
    low, high = SPACING_LIMITS
    if lengths.min() < low or lengths.max() > high:
        hint = " (written in metres? millimetres are wanted)" if lengths.max() < low else ""
        raise InvalidInputError(f"voxels of {path} must be {low:g} to {high:g} mm long, got {spacing} mm{hint}")


def _voxels(image: Any, path: Path) -> np.ndarray:
    with _refused(path, "ends too early or is damaged", "copy it again"):
        return np.asarray(image.get_fdata(dtype=np.float32, caching="unchanged"))


def _finite(array: np.ndarray, path: Path, instead: str = "air as -1000 HU") -> np.ndarray:
    if not np.isfinite(array.sum(dtype=np.float64)):
        count = int((~np.isfinite(array)).sum())
        raise InvalidInputError(f"{path} holds NaN or infinity in {count} of {array.size} voxels; write {instead}")
    return array


def _require_body_in_air(array: np.ndarray, path: Path) -> None:
    low, high = float(array.min()), float(array.max())
    if (array > HIGHEST_HU).mean() > MOST_ABOVE:
        raise InvalidInputError(
            f"{path} holds no Hounsfield units: its values are {low:g} .. {high:g}, {MOST_ABOVE:.0%} or more above "
            f"{HIGHEST_HU}. Are the bytes of each number swapped (big for little endian)? Export the scan again"
        )
    if high < AIR_HU:
        raise InvalidInputError(f"{path} holds only air: its highest value is {high:g} HU")
    if low > AIR_HU:
        raise InvalidInputError(
            f"{path} holds no air: its values are {low:g} .. {high:g}, and the skin is found against air. It must be "
            "a CT in Hounsfield units (stored with an offset of 1024? subtract it) with some air around the patient"
        )


def _canonical(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, Tensor]:
    """Axes flipped and swapped to run closest to +x right, +y anterior, +z superior; the affine in metres."""
    from nibabel import orientations

    order = orientations.io_orientation(affine)
    turned = orientations.apply_orientation(array, order)
    matrix = affine @ orientations.inv_ornt_aff(order, array.shape)
    matrix[:3] *= 1e-3
    return turned, torch.from_numpy(matrix)
