"""Landmarks of an unlabelled CT, each with a confidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float, UInt8
from tqdm import tqdm

from sonogym.anatomy.atlas import organs
from sonogym.anatomy.atlas.canal import find_spine
from sonogym.anatomy.atlas.levels import LEVELS, Levels, find_levels, renumbered
from sonogym.anatomy.atlas.registration import (
    PITCH,
    Channels,
    along_spine,
    half_sizes,
    landmark_in_scan,
    make_channels,
    register,
)
from sonogym.anatomy.atlas.scene import Scene, make_scene
from sonogym.anatomy.atlas.templates import Template, load_templates
from sonogym.anatomy.resampling import Grid

LEAST_CONFIDENCE = 0.5  # what is below is no landmark to place a probe by (design)
LEAST_LEVELS = 3  # vertebrae in a row that name a spine
POINTS = ("gall_bladder",)
VESSELS = tuple(f"{vessel}_{level}" for vessel in ("aorta", "cava") for level in ("T12", "L1", "L2", "L3", "L4"))
REGISTERED = 6  # patients
SPREAD = 20e-3  # m between patients at which an organ's place is worth 1/e
SOFT = (-20.0, 300.0)  # HU
PROBE = 8e-3  # m: radius of the ball whose HU must fit the organ
_LEVEL_OF = {"sacrum": "S1"}
_Map = tuple[Template, Float[np.ndarray, "x y z 3"], float]  # a patient, the scan's points in it [m], mismatch left
END = 12e-3  # m: landmarks closer to an end of the scan are not given


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Places [m] by landmark name, the confidence (0 to 1) of each, and the voxels of organs on ``grid``."""

    landmarks: Mapping[str, Float[np.ndarray, "3"]]
    confidence: Mapping[str, float]
    organs: Mapping[str, Bool[np.ndarray, "x y z"]] = field(default_factory=dict)
    grid: Grid | None = None


def estimate_landmarks(
    hu: Float[np.ndarray, "x y z"],
    tissue: UInt8[np.ndarray, "x y z"],
    grid: Grid,
    known: Mapping[str, Float[np.ndarray, "3"]],
    progress: bool = False,
) -> Estimate:
    """Vertebrae by :func:`find_levels`, organs by registration of the made patients closest in size.

    Empty where no spine is found.

    The confidence of a vertebra is that of :meth:`Levels.confidence`. That of an organ is the overlap of what each
    patient says it is with what was found, that of a point how far the patients agree on it and how well the HU there
    fit; both times the vertebrae's median. A ``known`` vertebra [m] (by landmark name) settles the numbering.
    """
    scene = make_scene(hu, tissue, grid)
    templates, model = load_templates(progress)
    given = {name.removeprefix("vertebra_"): point for name, point in known.items() if name.startswith("vertebra_")}
    levels = renumbered(find_levels(scene, find_spine(scene), model), given)
    levels = replace(levels, centres=_whole(levels, scene))
    if len(levels.centres) < LEAST_LEVELS or sum(name in model.names for name in levels.centres) < 2:
        return Estimate(landmarks={}, confidence={})
    places = {f"vertebra_{name}": point for name, point in levels.centres.items()}
    if "S1" in levels.centres:
        places["sacrum"] = levels.centres["S1"]
    confidence = {name: levels.confidence(_LEVEL_OF.get(name, name.removeprefix("vertebra_"))) for name in places}
    usual = float(np.median(list(confidence.values())))
    scan, maps = _registered(scene, levels, templates, progress)
    masks, found = _organs(scene, levels, maps)
    for name, (point, agreement) in {**_points(scene, scan, maps), **found}.items():
        places[name], confidence[name] = point, usual * agreement
    confidence = {name: round(value, 2) for name, value in confidence.items()}
    return Estimate(landmarks=places, confidence=confidence, organs=masks, grid=scene.grid)


def _whole(levels: Levels, scene: Scene) -> dict[str, np.ndarray]:
    """Vertebrae whose middle is well inside the scan."""
    low = scene.grid.origin[2] + END
    high = scene.grid.end[2] - END
    return {name: point for name, point in levels.centres.items() if low < point[2] < high and name in LEVELS}


def _registered(
    scene: Scene, levels: Levels, templates: tuple[Template, ...], progress: bool
) -> tuple[Channels, list[_Map]]:
    """The scan as it is registered, and the map to each of the patients closest in size, with the mismatch left."""
    scan, maps = make_channels(scene), []
    for template in tqdm(_closest(scene, levels, templates), desc="registering", disable=not progress, leave=False):
        start = along_spine(scan.points(), (scene, levels.centres), (template.scene, template.centres()))
        maps.append((template, *register(scan, make_channels(template.scene), start)))
    return scan, maps


def _organs(
    scene: Scene, levels: Levels, maps: list[_Map]
) -> tuple[dict[str, Bool[np.ndarray, "x y z"]], dict[str, tuple[np.ndarray, float]]]:
    """The voxels of each organ, and the landmark and the agreement on it."""
    each = [organs.votes(template.organs, template.scene.grid, moved, scene.grid) for template, moved, _ in maps]
    masks = organs.organs_of(scene, np.mean(each, axis=0), levels.centres)
    found = {
        name: (organs.middle(masks[name], scene.grid), organs.agreement(masks[name], [vote[at] for vote in each]))
        for at, name in enumerate(organs.VOTED)
        if name in masks
    }
    behind = organs.lung_behind(masks["lung_right"], levels.centres, scene.grid) if "lung_right" in masks else None
    if behind is not None and behind.any():
        found["lung_right"] = organs.middle(behind, scene.grid), 1.0
    return masks, {name: seen for name, seen in found.items() if _inside(scene, seen[0])}


def _points(scene: Scene, scan: Channels, maps: list[_Map]) -> dict[str, tuple[np.ndarray, float]]:
    """Place and agreement of vessels and other points that lie in the scan."""
    found: dict[str, list[tuple[np.ndarray, float]]] = {}
    for template, moved, mismatch in maps:
        for name in (*POINTS, *VESSELS):
            if name in template.landmarks:
                point, miss = landmark_in_scan(moved, scan, template.landmarks[name])
                if miss < PITCH:
                    found.setdefault(name, []).append((point, mismatch))
    agreed = {name: _agreed(seen) for name, seen in found.items() if len(seen) > len(maps) // 2}
    return {
        name: (point, near * _plausible(scene, point))
        for name, (point, near) in agreed.items()
        if _inside(scene, point)
    }


def _closest(scene: Scene, levels: Levels, templates: tuple[Template, ...]) -> list[Template]:
    """The patients whose trunk needs least scaling."""

    def strain(template: Template) -> float:
        centres = template.centres()
        common = [name for name in levels.centres if name in centres]
        ratio = half_sizes(scene, levels.centres, common) / half_sizes(template.scene, centres, common)
        return float(np.abs(np.log(ratio)).sum())

    return sorted(templates, key=strain)[:REGISTERED]


def _agreed(seen: list[tuple[np.ndarray, float]]) -> tuple[np.ndarray, float]:
    """The better half's middle, and exp(-(spread / SPREAD)^2)."""
    best = sorted(seen, key=lambda scored: scored[1])[: max(3, len(seen) // 2)]
    points = np.stack([point for point, _ in best])
    middle = np.median(points, axis=0)
    spread = np.sqrt(np.square(points - middle).sum(axis=1).mean())
    return middle, float(np.exp(-np.square(spread / SPREAD)))


def _inside(scene: Scene, point: Float[np.ndarray, "3"]) -> bool:
    """Whether a point keeps away from the ends of the scan."""
    return bool(scene.grid.origin[2] + END < point[2] < scene.grid.end[2] - END)


def _plausible(scene: Scene, point: Float[np.ndarray, "3"]) -> float:
    """Share of a ball about the place whose HU are those of soft tissue or blood."""
    centre = (point - np.array(scene.grid.origin)) / scene.grid.spacing
    reach = int(np.ceil(PROBE / scene.grid.spacing))
    ticks = np.mgrid[-reach : reach + 1, -reach : reach + 1, -reach : reach + 1].reshape(3, -1).T
    ball = np.rint(centre + ticks[np.linalg.norm(ticks, axis=1) * scene.grid.spacing <= PROBE]).astype(int)
    ball = np.clip(ball, 0, np.array(scene.grid.shape) - 1)
    low, high = SOFT
    values = scene.hu[tuple(ball.T)]
    return float(((values > low) & (values < high)).mean())
