"""A DICOM series of axial CT slices as one scan; refused where slices are missing, mixed, doubled or tilted."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sonogym.anatomy.readers import Scan, make_scan, require_spacing
from sonogym.errors import InvalidInputError, MissingFileError, SonogymError, unknown_name

_FEWEST = 8  # slices: fewer are a scout view
_UNEVEN = 0.1  # share of the slice distance by which one gap may differ
_SAME = ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept")
_NUMBERS = {  # how many each holds
    "PixelSpacing": 2, "ImageOrientationPatient": 6, "ImagePositionPatient": 3, "RescaleSlope": 1,
    "RescaleIntercept": 1,
}  # fmt: skip
_NEEDED = (*_SAME, "ImagePositionPatient")
_SQUARE = 1e-2  # of unit length: rounding of the directions in headers


def read_series(folder: Path, series: str | None = None) -> Scan:
    """The CT series in ``folder`` (searched with its sub-folders) in Hounsfield units, RAS metres.

    ``series``: the end of its SeriesInstanceUID, needed where there are several. Raises :class:`MissingFileError`
    where there is no DICOM file, and :class:`InvalidInputError` for a series that is no CT, colour images, missing,
    doubled or tilted slices, a damaged file, or where pydicom is not installed.
    """
    slices = _pick(_headers(folder), folder, series)
    for header in slices:
        _require_ct(header)
    normal = _normal(slices)
    slices = sorted(slices, key=lambda header: float(np.dot(_numbers(header, "ImagePositionPatient"), normal)))
    step = _even_step(slices, normal)
    array = np.stack([_hounsfield(header) for header in tqdm(slices, desc="slices", leave=False)], axis=-1)
    first = slices[0]
    rows, columns = _numbers(first, "PixelSpacing")  # distance between rows first
    direction = _numbers(first, "ImageOrientationPatient")
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = direction[:3] * columns, direction[3:] * rows, step
    affine[:3, 3] = _numbers(first, "ImagePositionPatient")
    affine[:2] *= -1.0  # left and posterior are positive in DICOM
    require_spacing(affine, folder)
    return make_scan(array, affine, True, folder)


def _pydicom() -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise SonogymError('DICOM needs pydicom: pip install "sonogym[dicom]", or convert with dcm2niix') from error
    return pydicom


def _headers(folder: Path) -> dict[str, list[Any]]:
    """Headers of the images under ``folder`` by series; anything that is no DICOM image is passed over."""
    pydicom = _pydicom()
    found = defaultdict(list)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True)
        except pydicom.errors.InvalidDicomError:
            continue
        except (EOFError, OSError, ValueError) as error:
            raise InvalidInputError(f"{file} is damaged ({error}); copy it again") from error
        if "Rows" in header:
            found[str(header.get("SeriesInstanceUID", "?"))].append(header)
    if not found:
        raise MissingFileError(f"no DICOM image in {folder} or below it")
    return dict(found)


def _pick(found: dict[str, list[Any]], folder: Path, series: str | None) -> list[Any]:
    if series is not None:
        chosen = [uid for uid in found if uid.endswith(series)]
        if len(chosen) != 1:
            raise unknown_name(f"series in {folder}", series, found)
        found = {chosen[0]: found[chosen[0]]}
    whole = {uid: slices for uid, slices in found.items() if len(slices) >= _FEWEST}
    if len(whole) == 1:
        return next(iter(whole.values()))
    listed = "; ".join(
        f"{uid}: {slices[0].get('Modality', '?')} {slices[0].get('SeriesDescription', '')!s}, {len(slices)} images"
        for uid, slices in found.items()
    )
    if not whole:
        raise InvalidInputError(f"no series in {folder} has {_FEWEST} slices or more: {listed}")
    raise InvalidInputError(f"{folder} holds several series; pick one with --series: {listed}")


def _require_ct(header: Any) -> None:
    name = Path(header.filename).name
    if header.get("Modality", "CT") != "CT":
        raise InvalidInputError(f"{name} is {header.Modality}, not CT: its values are no Hounsfield units")
    if int(header.get("SamplesPerPixel", 1)) != 1:
        raise InvalidInputError(f"{name} is a colour image (a screen shot or a fused view); give the CT itself")
    if int(header.get("NumberOfFrames", 1)) != 1:
        raise InvalidInputError(f"{name} holds many frames (enhanced CT); convert it, for example with dcm2niix")
    lacking = [key for key in _NEEDED if key not in header]
    if lacking:
        raise InvalidInputError(f"{name} lacks {', '.join(lacking)}: it cannot be placed or read as Hounsfield units")
    for key, count in _NUMBERS.items():
        try:
            values = _numbers(header, key)
        except (TypeError, ValueError):
            values = np.zeros(0)
        if values.size != count or not np.isfinite(values).all():
            raise InvalidInputError(
                f"{key} of {name} must be {count} numbers, got {header[key].value}; export it again"
            )


def _numbers(header: Any, key: str) -> np.ndarray:
    return np.atleast_1d(np.asarray(header[key].value, dtype=np.float64))


def _normal(slices: list[Any]) -> np.ndarray:
    """Unit normal of the slices, which must share their grid and scale."""
    for key in _SAME:
        values = np.stack([_numbers(header, key) for header in slices])
        if np.ptp(values, axis=0).max() > 1e-3:
            raise InvalidInputError(
                f"the slices differ in {key} ({values[0].tolist()} and others): two acquisitions are mixed; split them"
            )
    row, column = _numbers(slices[0], "ImageOrientationPatient").reshape(2, 3)
    products = np.array([row @ row - 1.0, column @ column - 1.0, row @ column])
    if np.abs(products).max() > _SQUARE:
        raise InvalidInputError(
            f"ImageOrientationPatient must be two unit vectors at right angles, got {row.tolist()} and "
            f"{column.tolist()}; export the series again"
        )
    return np.cross(row, column)


def _even_step(slices: list[Any], normal: np.ndarray) -> np.ndarray:
    """The vector from one slice to the next [mm]; refuses doubled, missing and tilted slices."""
    places = np.stack([_numbers(header, "ImagePositionPatient") for header in slices])
    along = places @ normal
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    doubled = int((gaps < 1e-3 + 0.02 * usual).sum())
    if usual < 1e-3 or doubled:
        raise InvalidInputError(f"{max(doubled, 1)} slices lie where another one does: the series is stored twice?")
    uneven = np.flatnonzero(np.abs(gaps - usual) > _UNEVEN * usual)
    if len(uneven):
        at = int(uneven[0])
        raise InvalidInputError(
            f"slices are missing or unevenly spaced: {gaps[at]:.2f} mm between {along[at]:.1f} and {along[at + 1]:.1f} "
            f"mm where {usual:.2f} mm is usual ({len(uneven)} such gaps); send the whole series"
        )
    steps = np.diff(places, axis=0)
    aside = np.linalg.norm(steps - np.outer(gaps, normal), axis=1)
    if aside.max() > 0.02 * usual:
        tilt = np.degrees(np.arctan2(aside.max(), usual))
        raise InvalidInputError(f"the gantry was tilted by {tilt:.1f} degrees; straighten it (dcm2niix does) first")
    return steps.mean(axis=0)


def _hounsfield(header: Any) -> np.ndarray:
    """One slice (x, y) float32 in HU."""
    pydicom = _pydicom()
    try:
        pixels = pydicom.dcmread(header.filename).pixel_array
    except (AttributeError, EOFError, OSError, RuntimeError, ValueError, NotImplementedError) as error:
        why = str(error).splitlines()[0]
        raise InvalidInputError(
            f"{header.filename} is damaged, or compressed in a way that needs a plug-in of pydicom ({why}); copy it "
            "again, or convert the series with dcm2niix"
        ) from error
    return (pixels.T * float(header.RescaleSlope) + float(header.RescaleIntercept)).astype(np.float32)
