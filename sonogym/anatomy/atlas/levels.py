"""Which vertebra is which: the level of each point of the spine by what lies around it, and the rhythm of end-plates.

One dynamic programme places all vertebrae at once: it adds, for each, how well its surroundings fit those of the level
in procedural patients (:class:`LevelModel`), how bright the end-plates half a step below and above it are, and how
usual the step from its neighbour is. How much each counts (:class:`LevelWeights`) was chosen from a grid by
benchmarks/atlas_weights.py; lengths and spreads are design choices.
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
SCALES, SCALE_SPREAD = (0.86, 0.93, 1.0, 1.07, 1.14), 0.06  # of all steps of one patient
ASIDE = (0.025, 0.04, 0.055, 0.07, 0.09, 0.11, 0.135)  # m: edges of the bins to either side
DEPTH = (-0.09, -0.06, -0.04, -0.02, 0.0, 0.02, 0.05, 0.09)  # m: behind and in front of the column
HALF_SLAB = 12e-3  # m
BONE_SPREAD, LUNG_SPREAD = 0.10, 0.10  # least spread of a bin's filling: patients differ more than a few made ones do
INSPIRED = 20e-3  # m by which lungs reach lower in a CT (taken in full breath) than in patients made for ultrasound
OUTLIER = 30.0  # squared spreads: what no made patient shows counts no more than this
BONE_FAIR, LUNG_FAIR = 1.0, 1.5  # mean square of a fair fit
WORST_FIT, PLAIN = -3.0, 0.2  # bounds of the fit, and of the fit of levels that no made patient has
LONGEST = 1.3  # steps: no neighbour is farther
PLATE, WIDE = 5e-3, 40e-3  # m: reach of an end-plate in the profile, and of the average it is compared with
MOVED = 3  # levels
SAME = 16e-3  # m: half a step
DISK = 13e-3  # m: radius of the part of a body that is read


@dataclass(frozen=True, kw_only=True)
class LevelWeights:
    """What counts against the fit of the bone around a vertebra, whose weight is 1.

    ``lung``: the fit of the lungs (they move by a level with breath); ``rhythm``: end-plates where they belong;
    ``usual``: steps as long as their neighbours'; ``size``: a spine of usual length. ``certainty``: of the sum of it
    all, as neighbours are not independent.
    """

    lung: float = 0.1
    rhythm: float = 0.4
    usual: float = 0.5
    size: float = 1.0
    certainty: float = 2.0


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """How well bone and lungs about each point of a spine are those of each level, and its end-plates.

    ``unknown``: levels that no made patient has.
    """

    bone: Float[np.ndarray, "levels points"]
    lung: Float[np.ndarray, "levels points"]
    unknown: Bool[np.ndarray, " levels"]
    plates: Float[np.ndarray, " points"]


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
    """Middle [m] of each vertebra that was found.

    ``belief``: the share of this numbering of all there could be; ``held``: by level, the share of the sequences with
    other steps that put this vertebra in the same place.
    """

    centres: dict[str, Float[np.ndarray, "3"]]
    belief: float
    held: Mapping[str, float]

    def confidence(self, level: str) -> float:
        """Of a vertebra's name: both shares."""
        return self.belief * self.held.get(level, 1.0)


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


def find_levels(scene: Scene, spine: Spine, model: LevelModel, weights: LevelWeights | None = None) -> Levels:
    """The vertebrae along a spine, by the best numbering and the best scale of all steps."""
    return place_levels(spine, find_evidence(scene, spine, model), weights or LevelWeights())


def find_evidence(scene: Scene, spine: Spine, model: LevelModel) -> Evidence:
    """What the scan says of each point of its spine: fits are 1 at best and fall with the squared distance."""
    bone = _away(surroundings(scene.bone, scene.grid, spine.points), *model.bone)
    lung = _away(surroundings(scene.lung, scene.grid, spine.points), *model.lung)
    # above the highest level that patients show, all look alike
    rows = [model.names.index(name) if name in model.names else len(model.names) - 1 for name in LEVELS]
    unknown = np.array([name not in model.names for name in LEVELS])
    bone, lung = _bounded(1.0 - bone[rows] / BONE_FAIR), _bounded(1.0 - lung[rows] / LUNG_FAIR)
    return Evidence(bone=bone, lung=lung, unknown=unknown, plates=_plates(scene, spine))


def place_levels(spine: Spine, evidence: Evidence, weights: LevelWeights) -> Levels:
    """The best numbering that ``weights`` make of what a scan says."""
    fit = (evidence.bone + weights.lung * evidence.lung) / (1.0 + weights.lung)
    fit = np.where(evidence.unknown[:, None], np.minimum(fit, PLAIN), fit)
    runs = [_best_run(fit, evidence.plates, scale, weights) for scale in SCALES]
    best = max(range(len(runs)), key=lambda i: runs[i][0])
    odds = np.exp(weights.certainty * (np.array([score for score, _ in runs]) - runs[best][0]))
    named = [{LEVELS[level]: spine.points[at] for level, at in run} for _, run in runs]
    held = {}
    for level, place in named[best].items():
        same = [level in other and bool(np.linalg.norm(other[level] - place) < SAME) for other in named]
        held[level] = float(odds @ np.array(same, float) / odds.sum())
    return Levels(centres=named[best], belief=_belief(fit, runs[best][1], weights), held=held)


def renumbered(levels: Levels, known: Mapping[str, Float[np.ndarray, "3"]]) -> Levels:
    """``levels`` with their names moved so that the vertebra at each ``known`` middle [m] has the name it has there.

    Then the numbering is no matter of belief; places too far from every vertebra that was found change nothing.
    """
    for name, point in known.items():
        if name not in LEVELS or not levels.centres:
            continue
        nearest = min(levels.centres, key=lambda level: float(np.linalg.norm(levels.centres[level] - point)))
        if np.linalg.norm(levels.centres[nearest] - point) < SAME:
            moved = LEVELS.index(name) - LEVELS.index(nearest)
            at = {LEVELS.index(level) + moved: centre for level, centre in levels.centres.items()}
            centres = {LEVELS[i]: centre for i, centre in at.items() if 0 <= i < len(LEVELS)}
            held = {LEVELS[LEVELS.index(n) + moved]: share for n, share in levels.held.items()
                    if 0 <= LEVELS.index(n) + moved < len(LEVELS)}  # fmt: skip
            return Levels(centres=centres, belief=1.0, held=held)
    return levels


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
    fit: Float[np.ndarray, "levels points"], plates: Float[np.ndarray, " points"], scale: float, weights: LevelWeights
) -> tuple[float, list[tuple[int, int]]]:
    """Score and (level, point) of the best sequence of neighbouring levels at one scale of all steps."""
    count = len(plates)
    steps = [scale * step / STEP for step in STEPS]
    value, came = np.full(fit.shape, -np.inf), np.full(fit.shape, -1)
    for level, step in enumerate(steps):
        gain = fit[level] + weights.rhythm * _rhythm(plates, step)
        open_end = count if level == 0 else int(LONGEST * step)  # the scan may begin at any level
        value[level, :open_end] = 0.0
        if level:
            for jump in range(int((2.0 - LONGEST) * step), int(LONGEST * step) + 1):
                unusual = weights.usual * 0.5 * ((jump / step - 1.0) / STEP_SPREAD) ** 2
                reached = value[level - 1, : count - jump] - unusual
                better = reached > value[level, jump:]
                value[level, jump:][better] = reached[better]
                came[level, jump:][better] = np.flatnonzero(better)
        value[level] += gain
    at = np.unravel_index(value.argmax(), value.shape)
    run = [(int(at[0]), int(at[1]))]
    while came[run[-1]] >= 0:
        run.append((run[-1][0] - 1, int(came[run[-1]])))
    return float(value.max()) - weights.size * 0.5 * ((scale - 1.0) / SCALE_SPREAD) ** 2, run[::-1]


def _rhythm(plates: Float[np.ndarray, " points"], step: float) -> Float[np.ndarray, " points"]:
    """End-plates half a step away on both sides, none between."""
    half = round(0.5 * step)
    wide = np.pad(plates, half, mode="edge")
    return np.clip(0.5 * (wide[: len(plates)] + wide[2 * half :]) - plates, -1.0, 1.5)


def _belief(fit: Float[np.ndarray, "levels points"], run: list[tuple[int, int]], weights: LevelWeights) -> float:
    """Share of this numbering among those moved by up to three levels, each as likely as its fit says."""
    scores = []
    for shift in range(-MOVED, MOVED + 1):
        named = [(level + shift, at) for level, at in run if 0 <= level + shift < len(LEVELS)]
        scores.append(weights.certainty * sum(float(fit[level, at]) for level, at in named))
    odds = np.exp(np.array(scores) - max(scores))
    return float(odds[MOVED] / odds.sum())
