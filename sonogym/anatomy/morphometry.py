"""Sizes measured on the labels of any patient, procedural or imported, in a frame that follows the spine.

The bone is resampled along a curve through the vertebral bodies (x right, y forward across it, s along it towards the
feet), so that a curved spine is measured as if straight. A grid of 1.5 mm cannot measure below about 1 mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

from sonogym.anatomy.anatomy import Anatomy
from sonogym.anatomy.tissues import BONE, Tissue

LEVELS = ("T11", "T12", "L1", "L2", "L3", "L4", "L5")
_STEP = 1.0  # mm of the straightened grid
_X, _BEHIND, _AHEAD = 30.0, 105.0, 40.0  # mm around the bodies' centres
_WINDOW = 22.0  # mm behind the canal's centre that must hold no bone
WINDOW_OFFSETS = (0.0, 6.0, 9.0, 12.0)  # mm off the midline


@dataclass(frozen=True, kw_only=True)
class Straight:
    """Bone and body along the spine: arrays (x, y, s) on a grid of ``_STEP`` mm; ``at``: level -> s index."""

    bone: np.ndarray
    body: np.ndarray  # inside the skin
    x: np.ndarray
    y: np.ndarray
    at: dict[str, int]
    tip: dict[str, tuple[float, float]]  # spinous tip: y [mm], s index


def straighten(anatomy: Anatomy) -> Straight | None:
    """The spine unrolled, or None where fewer than three of :data:`LEVELS` are known."""
    known = [level for level in LEVELS if f"vertebra_{level}" in anatomy.landmarks]
    if len(known) < 3:
        return None
    centres = 1e3 * np.array([anatomy.landmarks[f"vertebra_{level}"].numpy() for level in known], dtype=np.float64)
    knots = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(centres, axis=0), axis=1))])
    s = np.arange(-18.0, knots[-1] + 18.0, _STEP)
    line = np.stack([_smooth(s, knots, centres[:, i]) for i in range(3)], -1)
    along = np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    tips = {level: anatomy.landmarks[f"spinous_{level}"] for level in known if f"spinous_{level}" in anatomy.landmarks}
    back = _backwards(along, centres, knots, s, {known.index(k): 1e3 * p.double().numpy() for k, p in tips.items()})
    side = np.cross(along, -back)
    x, y = np.arange(-_X, _X + 0.1, _STEP), np.arange(-_BEHIND, _AHEAD, _STEP)
    points = line[None, None] + x[:, None, None, None] * side[None, None] - y[None, :, None, None] * back[None, None]
    labels = _sample(anatomy, points)
    at = {level: int(np.argmin(np.abs(s - knots[i]))) for i, level in enumerate(known)}
    tip = {}
    for level, point in tips.items():
        near = int(np.argmin(np.linalg.norm(line - 1e3 * point.double().numpy(), axis=1)))
        offset = 1e3 * point.double().numpy() - line[near]
        tip[level] = (float(-offset @ back[near]), float(near))
    return Straight(bone=np.isin(labels, BONE), body=labels != Tissue.AIR, x=x, y=y, at=at, tip=tip)


def _smooth(s: np.ndarray, knots: np.ndarray, values: np.ndarray) -> np.ndarray:
    straight = np.interp(s, knots, values)
    low, high = s < knots[0], s > knots[-1]
    straight[low] = values[0] + (s[low] - knots[0]) * (values[1] - values[0]) / (knots[1] - knots[0])
    straight[high] = values[-1] + (s[high] - knots[-1]) * (values[-1] - values[-2]) / (knots[-1] - knots[-2])
    return ndimage.gaussian_filter1d(straight, 8.0 / _STEP, mode="nearest")


def _backwards(
    along: np.ndarray, centres: np.ndarray, knots: np.ndarray, s: np.ndarray, tips: dict[int, np.ndarray]
) -> np.ndarray:
    """Unit vectors across the spine towards the spinous processes, which may be turned."""
    aim = np.array([tips[i] - centres[i] if i in tips else [0.0, -1.0, 0.0] for i in range(len(centres))])
    aim /= np.linalg.norm(aim, axis=1, keepdims=True)
    back = np.stack([np.interp(s, knots, aim[:, i]) for i in range(3)], -1)
    back -= (back * along).sum(1, keepdims=True) * along
    return back / np.linalg.norm(back, axis=1, keepdims=True)


def _sample(anatomy: Anatomy, points: np.ndarray) -> np.ndarray:
    matrix = anatomy.labels.voxel_from_patient.float().numpy()
    index = np.rint(points.astype(np.float32) @ (1e-3 * matrix[:3, :3].T) + matrix[:3, 3]).astype(np.int32)
    labels = anatomy.labels.voxels[0].numpy()
    inside = ((index >= 0) & (index < np.array(labels.shape))).all(-1)
    index = np.where(inside[..., None], index, 0)
    return np.where(inside, labels[index[..., 0], index[..., 1], index[..., 2]], 0)


def _run(line: np.ndarray, start: int, value: bool = True) -> tuple[int, int]:
    """First and past-last index of the stretch of ``value`` that holds ``start``; empty if it holds none."""
    if bool(line[start]) != value:
        return start, start
    low, high = start, start
    while low > 0 and bool(line[low - 1]) == value:
        low -= 1
    while high < len(line) and bool(line[high]) == value:
        high += 1
    return low, high


def vertebrae(spine: Straight) -> dict[str, dict[str, float]]:
    """Per level [mm]: body width, depth, height in front and behind, canal width and depth, depths under the skin."""
    return {level: sizes for level in spine.at if (sizes := _vertebra(spine, level)) is not None}


def _vertebra(spine: Straight, level: str) -> dict[str, float] | None:
    s, cx, cy = spine.at[level], len(spine.x) // 2, int(np.argmin(np.abs(spine.y)))
    back, front = _run(spine.bone[cx, :, s], cy)
    if (front - back) * _STEP < 15.0:
        return None
    sizes = {}
    for name, rim in (("height_front", range(front - 6, front - 1)), ("height_back", range(back + 1, back + 6))):
        runs = [_run(spine.bone[cx, y, :], s) for y in rim]
        sizes[name] = max(high - low for low, high in runs) * _STEP
    upper = max(s - int(0.36 * sizes["height_front"] / _STEP), 0)
    depths = [_run(spine.bone[cx, :, k], cy) for k in range(upper, s)]  # a tilted end-plate crosses some of them
    first, last = max(depths, key=lambda run: run[1] - run[0])
    left, right = _run(spine.bone[:, min(cy + 4, len(spine.y) - 1), upper], cx)
    hole = spine.bone[cx, :back, s][::-1]  # from the body's hind wall backwards
    canal = int(np.argmax(hole)) if hole.any() else 0
    middle = back - canal // 2
    a, b = _run(spine.bone[:, middle, s], cx, False) if canal else (0, 0)
    sizes |= {"depth": (last - first) * _STEP, "width": (right - left) * _STEP}
    sizes |= {"canal_depth": canal * _STEP, "canal_width": (b - a) * _STEP}
    return sizes | _depths(spine, level, middle)


def _depths(spine: Straight, level: str, canal: int) -> dict[str, float]:
    """Skin to lamina 12 mm off the midline, to the spinous process, and to the canal's centre [mm]."""
    s, cx = spine.at[level], len(spine.x) // 2
    reach = round(10.0 / _STEP)
    slab = slice(max(s - reach, 0), s + reach)
    off = round(12.0 / _STEP)
    lamina = [_first_bone(spine, cx + side * off, k) for side in (-1, 1) for k in range(slab.start, slab.stop)]
    out = {"skin_lamina": float(np.nanmin(lamina))} if np.isfinite(lamina).any() else {}
    if level in spine.tip:
        k = int(np.clip(spine.tip[level][1], 0, spine.bone.shape[2] - 1))
        out["skin_spinous"] = _first_bone(spine, cx, k)
    skin = int(np.argmax(spine.body[cx, :, s]))
    out["skin_canal"] = (canal - skin) * _STEP if spine.body[cx, :, s].any() else float("nan")
    return out


def _first_bone(spine: Straight, i: int, k: int) -> float:
    body, bone = spine.body[i, :, k], spine.bone[i, :, k]
    return float((np.argmax(bone) - np.argmax(body)) * _STEP) if bone.any() and body.any() else float("nan")


def gaps(spine: Straight) -> dict[str, dict[str, float]]:
    """Between neighbours [mm]: bone-free interlaminar height at each of :data:`WINDOW_OFFSETS`, interspinous gap."""
    cx, found = len(spine.x) // 2, {}
    canal = {level: _canal_y(spine, level) for level in spine.at}
    for upper, lower in pairwise(sorted(spine.at, key=LEVELS.index)):
        first, last = canal[upper], canal[lower]
        if first is None or last is None:
            continue
        low, high = spine.at[upper], spine.at[lower]
        centre = np.rint(np.linspace(first, last, high - low))
        row = {}
        for offset in WINDOW_OFFSETS:
            columns = {cx + round(offset / _STEP), cx - round(offset / _STEP)}
            row[f"window_{offset:.0f}"] = float(np.mean([_window(spine, i, low, centre.astype(int)) for i in columns]))
        if upper in spine.tip and lower in spine.tip:
            row["interspinous"] = _interspinous(spine, upper, lower)
        row["spacing"] = (high - low) * _STEP
        found[f"{upper}/{lower}"] = row
    return found


def _canal_y(spine: Straight, level: str) -> int | None:
    s, cx, cy = spine.at[level], len(spine.x) // 2, int(np.argmin(np.abs(spine.y)))
    back, _ = _run(spine.bone[cx, :, s], cy)
    hole = spine.bone[cx, :back, s][::-1]
    return back - int(np.argmax(hole)) // 2 if hole.any() else None


def _window(spine: Straight, i: int, low: int, centre: np.ndarray) -> float:
    """Longest stretch along the spine with no bone from the canal's centre ``_WINDOW`` mm backwards."""
    reach = round(_WINDOW / _STEP)
    free = [not spine.bone[i, max(y - reach, 0) : y, low + n].any() for n, y in enumerate(centre)]
    best = count = 0
    for value in free:
        count = count + 1 if value else 0
        best = max(best, count)
    return best * _STEP


def _interspinous(spine: Straight, upper: str, lower: str) -> float:
    """Free height between two spinous processes, 8 mm in front of their tips."""
    (ya, sa), (yb, sb) = spine.tip[upper], spine.tip[lower]
    cx, steps = len(spine.x) // 2, int(abs(sb - sa)) + 1
    y = np.linspace(ya, yb, steps) + 8.0
    s = np.rint(np.linspace(sa, sb, steps)).astype(int)
    row = np.rint((y - spine.y[0]) / _STEP).astype(int)
    bone = spine.bone[cx, np.clip(row, 0, len(spine.y) - 1), np.clip(s, 0, spine.bone.shape[2] - 1)]
    return float((~bone).sum() * _STEP)
