"""Landmarks (RAS metres) from labelled structures, and those a user gives."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int16
from scipy import ndimage
from torch import Tensor

from sonogym.anatomy.planes import LEVELS
from sonogym.anatomy.resampling import Grid
from sonogym.anatomy.surface import Skin
from sonogym.anatomy.totalsegmentator import levels
from sonogym.errors import InvalidInputError, unknown_name

ORGANS = {name: name for name in ("kidney_left", "kidney_right", "liver", "spleen")} | {
    "gall_bladder": "gallbladder", "lung_right": "lung_lower_lobe_right",
}  # fmt: skip
_REGIONS = (("C", 7), ("T", 12), ("L", 5), ("S", 1))
SPINAL_LEVELS = tuple(f"{region}{i}" for region, count in _REGIONS for i in range(1, count + 1))
VESSELS = {"aorta": "aorta", "cava": "inferior_vena_cava"}
KINDS = (
    *ORGANS, "sacrum", "hepatic_veins",
    *(f"{kind}_{level}" for kind in ("vertebra", "spinous", *VESSELS) for level in SPINAL_LEVELS),
)  # fmt: skip
CORE = 0.7  # share of the largest inner distance: the vertebral body, not its arch, which is less than half as thick
SLAB = 3e-3  # m
MIDLINE = 12e-3  # m
_CUT_MARGIN = 8e-3  # m: a body centre closer than this to a cut end of the scan says little


def find_landmarks(
    ids: Int16[np.ndarray, "x y z"], names: Mapping[int, str], grid: Grid
) -> tuple[dict[str, Float[Tensor, "3"]], list[str]]:
    """Landmarks of the structures in ``ids`` on ``grid``, and a sentence for each vertebra that the scan cuts."""
    boxes = dict(enumerate(ndimage.find_objects(ids), start=1))
    number = {name: i for i, name in names.items()}
    found: dict[str, np.ndarray] = {}
    lost: list[str] = []
    for level in levels(number):
        i = number[f"vertebrae_{level}"]
        if boxes.get(i) is None:
            continue
        centre, tip, cut = _vertebra(ids, i, boxes[i], grid)
        if cut:
            lost.append(level)
        else:
            found[f"vertebra_{level}"], found[f"spinous_{level}"] = centre, tip
    problems = _continue_spine(ids, number, found, lost)
    for name, structure in ORGANS.items():
        if structure in number and boxes.get(number[structure]) is not None:
            found[name] = _centre_inside(ids, number[structure], boxes[number[structure]])
    for name, structure in VESSELS.items():
        if structure in number:
            found |= _vessel(name, ids == number[structure], found, grid)
    if "cava_T10" in found and "cava_T11" in found:
        found["hepatic_veins"] = 0.5 * (found["cava_T10"] + found["cava_T11"])
    found |= _sacrum(ids, number, found)
    return {name: _patient(point, grid) for name, point in found.items()}, problems


def _vertebra(ids: np.ndarray, i: int, box: tuple[slice, ...], grid: Grid) -> tuple[np.ndarray, np.ndarray, bool]:
    """Body centre and spinous tip [voxels], and whether an end of the scan cuts the body."""
    mask = ids[box] == i
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
    depth = ndimage.gaussian_filter(depth, 1.0)
    core, _ = ndimage.label(depth > CORE * depth.max())
    core = core == core[np.unravel_index(depth.argmax(), depth.shape)]
    start = np.array([part.start for part in box])
    centre = np.array(ndimage.center_of_mass(depth * core)) + start
    points = np.argwhere(mask) + start
    near = points[np.abs(points[:, 0] - centre[0]) * grid.spacing < MIDLINE]
    tip = near[near[:, 1] <= near[:, 1].min() + round(SLAB / grid.spacing)].mean(axis=0)
    low, high = box[2].start, grid.shape[2] - box[2].stop
    inner = min(centre[2] - box[2].start, box[2].stop - 1 - centre[2]) * grid.spacing
    return centre, tip, min(low, high) <= 1 and bool(inner < _CUT_MARGIN)


def _continue_spine(
    ids: np.ndarray, number: Mapping[str, int], found: dict[str, np.ndarray], lost: list[str]
) -> list[str]:
    """Add the centre of a cut vertebra where its two neighbours' step leads into it; a sentence for each cut one."""
    problems = []
    for level in lost:
        at = SPINAL_LEVELS.index(level)
        rows = [
            (SPINAL_LEVELS[at + s], SPINAL_LEVELS[at + 2 * s]) for s in (-1, 1) if 0 <= at + 2 * s < len(SPINAL_LEVELS)
        ]
        known = [(found.get(f"vertebra_{a}"), found.get(f"vertebra_{b}")) for a, b in rows]
        points = [2 * near - far for near, far in known if near is not None and far is not None]
        inside = [p for p in points if _label_at(ids, p) == number[f"vertebrae_{level}"]]
        if inside:
            found[f"vertebra_{level}"] = inside[0]
        what = "its centre is estimated from its two neighbours" if inside else "no landmark"
        problems.append(f"vertebra {level} is cut by the end of the scan: {what}")
    return problems


def _label_at(ids: np.ndarray, point: np.ndarray) -> int:
    voxel = np.rint(point).astype(int)
    if (voxel < 0).any() or (voxel >= ids.shape).any():
        return 0
    return int(ids[tuple(voxel)])


def _centre_inside(ids: np.ndarray, i: int, box: tuple[slice, ...]) -> np.ndarray:
    """Centroid, or the voxel of the structure closest to it where it lies in a hollow."""
    points = np.argwhere(ids[box] == i) + np.array([part.start for part in box])
    centre = points.mean(axis=0)
    x, y, z = np.rint(centre).astype(int)
    if ids[x, y, z] == i:
        return centre
    return points[np.square(points - centre).sum(axis=1).argmin()].astype(np.float64)


def _sacrum(ids: np.ndarray, number: Mapping[str, int], found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The first sacral body: as labelled, or the sacrum's voxel closest to one step of the spine below L5."""
    if "vertebra_S1" in found:
        return {"sacrum": found["vertebra_S1"]}
    if "sacrum" not in number or "vertebra_L4" not in found or "vertebra_L5" not in found:
        return {}
    points = np.argwhere(ids == number["sacrum"])
    below = 2.0 * found["vertebra_L5"] - found["vertebra_L4"]
    return {"sacrum": points[np.square(points - below).sum(axis=1).argmin()].astype(np.float64)} if len(points) else {}


def _vessel(name: str, vessel: np.ndarray, found: Mapping[str, np.ndarray], grid: Grid) -> dict[str, np.ndarray]:
    """Centre of the vessel's cross-section at the height of each vertebra a plane may ask for."""
    centres = {}
    half = max(1, round(0.5 * SLAB / grid.spacing))
    for level in LEVELS:
        if f"vertebra_{level}" not in found:
            continue
        vertebra = found[f"vertebra_{level}"]
        z = round(float(vertebra[2]))
        parts, count = ndimage.label(vessel[:, :, max(z - half, 0) : z + half + 1].any(axis=2))
        if count:
            middle = np.array(ndimage.center_of_mass(parts > 0, parts, range(1, count + 1)))
            nearest = middle[np.square(middle - vertebra[:2]).sum(axis=1).argmin()]
            centres[f"{name}_{level}"] = np.array([*nearest, vertebra[2]])
    return centres


def _patient(voxel: np.ndarray, grid: Grid) -> Tensor:
    return (torch.tensor(grid.origin, dtype=torch.float64) + grid.spacing * torch.from_numpy(voxel)).float()


def parse_landmark(text: str) -> tuple[str, tuple[float, float, float]]:
    """``vertebra_L3=x,y,z`` in mm RAS -> name and metres; raises for unknown names and anything but three numbers."""
    name, _, values = text.partition("=")
    if name not in KINDS:
        raise unknown_name("landmark", name, KINDS)
    numbers = values.split(",")
    if len(numbers) != 3 or not all(re.fullmatch(r"\s*[-+]?\d+(\.\d*)?\s*", number) for number in numbers):
        raise InvalidInputError(f"landmark {text!r} must be NAME=X,Y,Z in mm (RAS), such as vertebra_L3=-4.5,12,-310")
    x, y, z = (1e-3 * float(number) for number in numbers)
    return name, (x, y, z)


def check_landmarks(landmarks: Mapping[str, Float[Tensor, "3"]], skin: Skin, grid: Grid) -> None:
    """Raise :class:`InvalidInputError` for a landmark outside the scan (NaN included) or outside the body."""
    low, high = (torch.tensor(corner) - 1e-3 for corner in (grid.origin, grid.end))
    for name, point in landmarks.items():
        in_scan = bool((point >= low).all() and (point <= high + 2e-3).all())
        if not in_scan or float(skin.at(point)) >= 0:
            where = ", ".join(f"{1e3 * value:.1f}" for value in point.tolist())
            ends = ", ".join(f"{1e3 * a:.0f} .. {1e3 * b:.0f}" for a, b in zip(grid.origin, grid.end, strict=True))
            raise InvalidInputError(
                f"landmark {name} at ({where}) mm lies outside the body, which is within {ends} mm; "
                "give RAS millimetres: x to the right, y forward, z to the head"
            )
