"""Which vertebra is which: the level of each point of the spine by what lies around it, and the rhythm of end-plates.

One dynamic programme places all vertebrae at once: it adds, for each, how well its surroundings fit those of the level
in procedural patients (:class:`LevelModel`), how bright the end-plates half a step below and above it are, and how
usual the step from its neighbour is. The weights and spreads are design choices, tuned until the levels of four real
scans were right (benchmarks/atlas.md); patients of the procedural test split were not looked at for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from sonogym.anatomy.atlas.canal import STEP, Spine
from sonogym.anatomy.atlas.scene import Scene
from sonogym.anatomy.resampling import Grid

# from the sacrum up
LEVELS = ("S1", "L5", "L4", "L3", "L2", "L1", *(f"T{i}" for i in range(12, 0, -1)), "C7", "C6", "C5", "C4", "C3")
# m from each level's middle to that of the one below; lumbar as measured on four scans (anatomy.md section 2), above
# as body and disc heights fall towards the neck
STEPS = (0.034, 0.034, 0.0355, 0.036, 0.0355, 0.034, *np.linspace(0.031, 0.019, 12), 0.017, 0.016, 0.016, 0.016, 0.016)
STEP_SPREAD = 0.10  # share of the step
SCALES = (0.86, 0.93, 1.0, 1.07, 1.14)  # of all steps of one patient
ASIDE = (0.025, 0.04, 0.055, 0.07, 0.09, 0.11, 0.135)  # m: edges of the bins to either side
DEPTH = (-0.09, -0.06, -0.04, -0.02, 0.0, 0.02, 0.05, 0.09)  # m: behind and in front of the column
HALF_SLAB = 12e-3  # m
BONE_SPREAD, LUNG_SPREAD = 0.10, 0.10  # least spread of a bin's filling: patients differ more than a few made ones do
INSPIRED = 20e-3  # m by which lungs reach lower in a CT (taken in full breath) than in patients made for ultrasound
LUNG_WEIGHT = 0.25  # lungs move by a level with breath, bones do not
OUTLIER = 30.0  # squared spreads: what no made patient shows counts no more than this
BONE_FAIR, LUNG_FAIR = 1.0, 1.5  # mean square of a fair fit
WORST_FIT, PLAIN = -3.0, 0.2  # bounds of the fit, and of the fit of levels that no made patient has
FIT, RHYTHM, USUAL = 1.0, 0.8, 0.5  # weights
LONGEST = 1.3  # steps: no neighbour is farther
PLATE, WIDE = 5e-3, 40e-3  # m: reach of an end-plate in the profile, and of the average it is compared with
MOVED = 3  # levels
SAME = 16e-3  # m: half a step
CERTAINTY = 2.0  # of the sum of fits: neighbours are not independent
DISK = 13e-3  # m: radius of the part of a body that is read


@dataclass(frozen=True, kw_only=True)
class LevelModel:
    """Mean and spread of how far the bins about a vertebra are filled, of the levels that made patients have.

    ``bone`` and ``lung`` are each (mean, spread), (levels, bins).
    """

    names: tuple[str, ...]
    bone: tuple[Float[np.ndarray, "levels bins"], Float[np.ndarray, "levels bins"]]
    lung: tuple[Float[np.ndarray, "levels bins"], Float[np.ndarray, "levels bins"]]


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Middle [m] of each vertebra that was found, and the share of belief in this numbering of all there could be."""

    centres: dict[str, Float[np.ndarray, "3"]]
    belief: float


def surroundings(
    part: Bool[np.ndarray, "x y z"], grid: Grid, points: Float[np.ndarray, "points 3"]
) -> Float[np.ndarray, "points bins"]:
    """How far the bins about each point [m] are filled with a part of the scene, left and right taken together."""
    voxel = grid.spacing
    half = round(HALF_SLAB / voxel)
    total = np.cumsum(np.pad(part, ((0, 0), (0, 0), (1, 0))), axis=2, dtype=np.float32)
    filled = []
    for x, y, z in (points - np.array(grid.origin)) / voxel:
        low, high = (int(np.clip(round(z) + side, 0, grid.shape[2])) for side in (-half, half + 1))
        filled.append(_binned((total[:, :, high] - total[:, :, low]) / max(high - low, 1), x, y, voxel))
    return np.array(filled)


def _binned(slab: Float[np.ndarray, "x y"], x: float, y: float, voxel: float) -> Float[np.ndarray, " bins"]:
    """Mean of each bin; what lies outside the scan is empty."""
    rows = [round(y + edge / voxel) for edge in DEPTH]
    columns = [round(edge / voxel) for edge in ASIDE]
    middle = round(x)
    width, height = columns[-1], rows[-1] - rows[0]
    window = np.zeros((2 * width + 1, height), np.float32)
    x0, y0 = middle - width, rows[0]
    inner = slab[max(x0, 0) : max(x0 + 2 * width + 1, 0), max(y0, 0) : max(y0 + height, 0)]
    window[max(-x0, 0) :, max(-y0, 0) :][: inner.shape[0], : inner.shape[1]] = inner
    both = 0.5 * (window[width:] + window[width::-1])
    starts, ends = np.subtract(columns[:-1], columns[0]), np.subtract(rows[:-1], rows[0])
    bins = np.add.reduceat(np.add.reduceat(both[columns[0] : columns[-1]], starts, axis=0), ends, axis=1)
    return (bins / np.outer(np.diff(columns), np.diff(rows))).ravel()


def learn_levels(scenes: Sequence[Scene], centres: Sequence[dict[str, Float[np.ndarray, "3"]]]) -> LevelModel:
    """The model of labelled patients; ``centres`` [m] by level."""
    names = tuple(name for name in LEVELS if all(name in known for known in centres))
    points = [np.stack([known[name] for name in names]) for known in centres]
    lift = np.array([0.0, 0.0, INSPIRED])
    bone = np.stack([surroundings(s.bone, s.grid, p) for s, p in zip(scenes, points, strict=True)])
    lung = np.stack([surroundings(s.lung, s.grid, p + lift) for s, p in zip(scenes, points, strict=True)])
    mean = lung.mean(axis=0)
    breath = np.gradient(mean, axis=0)  # a breath moves the lungs by about a level
    spread = np.hypot(np.maximum(lung.std(axis=0), LUNG_SPREAD), breath)
    return LevelModel(
        names=names,
        bone=(bone.mean(axis=0), np.maximum(bone.std(axis=0), BONE_SPREAD)),
        lung=(mean, spread),
    )


def find_levels(scene: Scene, spine: Spine, model: LevelModel) -> Levels:
    """The vertebrae along a spine, by the best numbering and the best scale of all steps."""
    fit = _fit(scene, spine, model)
    plates = _plates(scene, spine)
    runs = [_best_run(fit, plates, scale) for scale in SCALES]
    _, run = max(runs, key=lambda scored: scored[0])
    centres = {LEVELS[level]: spine.points[at] for level, at in run}
    return Levels(centres=centres, belief=_belief(fit, run))


def renumbered(levels: Levels, known: Mapping[str, Float[np.ndarray, "3"]]) -> Levels:
    """``levels`` with their names moved so that the vertebra at each ``known`` middle [m] has the name it has there.

    Then there is nothing left to believe; places too far from every vertebra that was found change nothing.
    """
    for name, point in known.items():
        if name not in LEVELS or not levels.centres:
            continue
        nearest = min(levels.centres, key=lambda level: float(np.linalg.norm(levels.centres[level] - point)))
        if np.linalg.norm(levels.centres[nearest] - point) < SAME:
            moved = LEVELS.index(name) - LEVELS.index(nearest)
            at = {LEVELS.index(level) + moved: centre for level, centre in levels.centres.items()}
            centres = {LEVELS[i]: centre for i, centre in at.items() if 0 <= i < len(LEVELS)}
            return Levels(centres=centres, belief=1.0)
    return levels


def _fit(scene: Scene, spine: Spine, model: LevelModel) -> Float[np.ndarray, "levels points"]:
    """1 where the surroundings are those of the level, falling with their squared distance."""
    bone = _away(surroundings(scene.bone, scene.grid, spine.points), *model.bone)
    lung = _away(surroundings(scene.lung, scene.grid, spine.points), *model.lung)
    fit = _bounded(1.0 - bone / BONE_FAIR) + LUNG_WEIGHT * _bounded(1.0 - lung / LUNG_FAIR)
    fit /= 1.0 + LUNG_WEIGHT
    # above the highest level that patients show, all look alike
    rows = [model.names.index(name) if name in model.names else len(model.names) - 1 for name in LEVELS]
    unknown = np.array([name not in model.names for name in LEVELS])
    return np.where(unknown[:, None], np.minimum(fit[rows], PLAIN), fit[rows])


def _away(seen: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> Float[np.ndarray, "levels points"]:
    """Mean square of the bins' distance from each level's, in its spreads."""
    square = np.square((seen[None] - mean[:, None]) / spread[:, None])
    return (square / (1.0 + square / OUTLIER)).mean(axis=2)


def _bounded(fit: np.ndarray) -> np.ndarray:
    return np.maximum(fit, WORST_FIT)


def _plates(scene: Scene, spine: Spine) -> Float[np.ndarray, " points"]:
    """Change of brightness along the column: large about discs, small within bodies; 1 on average."""
    ticks = np.arange(-DISK, DISK + 1e-9, scene.grid.spacing)
    u, v = (side.ravel() for side in np.meshgrid(ticks, ticks))
    inside = np.hypot(u, v) <= DISK
    across = u[inside, None] * spine.right[:, None] + v[inside, None] * spine.forward[:, None]
    voxel = (spine.points[:, None] + across - np.array(scene.grid.origin)) / scene.grid.spacing
    values = ndimage.map_coordinates(scene.hu, voxel.reshape(-1, 3).T, order=1, mode="nearest")
    profile = np.clip(values, -50.0, 450.0).reshape(len(spine.points), -1).mean(axis=1)
    change = ndimage.gaussian_filter1d(np.abs(np.gradient(profile)), PLATE / STEP)
    return change / np.maximum(ndimage.gaussian_filter1d(change, WIDE / STEP, mode="nearest"), 1e-3)


def _best_run(
    fit: Float[np.ndarray, "levels points"], plates: Float[np.ndarray, " points"], scale: float
) -> tuple[float, list[tuple[int, int]]]:
    """Score and (level, point) of the best sequence of neighbouring levels at one scale of all steps."""
    count = len(plates)
    steps = [scale * step / STEP for step in STEPS]
    value, came = np.full(fit.shape, -np.inf), np.full(fit.shape, -1)
    for level, step in enumerate(steps):
        gain = FIT * fit[level] + RHYTHM * _rhythm(plates, step)
        open_end = count if level == 0 else int(LONGEST * step)  # the scan may begin at any level
        value[level, :open_end] = 0.0
        if level:
            for jump in range(int((2.0 - LONGEST) * step), int(LONGEST * step) + 1):
                unusual = USUAL * 0.5 * ((jump / step - 1.0) / STEP_SPREAD) ** 2
                reached = value[level - 1, : count - jump] - unusual
                better = reached > value[level, jump:]
                value[level, jump:][better] = reached[better]
                came[level, jump:][better] = np.flatnonzero(better)
        value[level] += gain
    at = np.unravel_index(value.argmax(), value.shape)
    run = [(int(at[0]), int(at[1]))]
    while came[run[-1]] >= 0:
        run.append((run[-1][0] - 1, int(came[run[-1]])))
    return float(value.max()), run[::-1]


def _rhythm(plates: Float[np.ndarray, " points"], step: float) -> Float[np.ndarray, " points"]:
    """End-plates half a step away on both sides, none between."""
    half = round(0.5 * step)
    wide = np.pad(plates, half, mode="edge")
    return np.clip(0.5 * (wide[: len(plates)] + wide[2 * half :]) - plates, -1.0, 1.5)


def _belief(fit: Float[np.ndarray, "levels points"], run: list[tuple[int, int]]) -> float:
    """Share of this numbering among those moved by up to three levels, each as likely as its fit says."""
    scores = []
    for shift in range(-MOVED, MOVED + 1):
        named = [(level + shift, at) for level, at in run if 0 <= level + shift < len(LEVELS)]
        scores.append(CERTAINTY * sum(float(fit[level, at]) for level, at in named))
    odds = np.exp(np.array(scores) - max(scores))
    return float(odds[MOVED] / odds.sum())
