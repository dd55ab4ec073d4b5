"""Landmarks of an unlabelled CT, each with a confidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8
from tqdm import tqdm

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
ORGANS = ("kidney_left", "kidney_right", "liver", "spleen", "gall_bladder", "lung_right")
VESSELS = tuple(f"{vessel}_{level}" for vessel in ("aorta", "cava") for level in ("T12", "L1", "L2", "L3", "L4"))
REGISTERED = 6  # patients
SPREAD = 20e-3  # m between patients at which an organ's place is worth 1/e
SOFT = dict.fromkeys((*ORGANS, *VESSELS), (-20.0, 300.0)) | {"lung_right": (-1000.0, -500.0)}  # HU
PROBE = 8e-3  # m: radius of the ball whose HU must fit the organ
_LEVEL_OF = {"sacrum": "S1"}
END = 12e-3  # m: landmarks closer to an end of the scan are not given


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Places [m] by landmark name, and the confidence (0 to 1) of each."""

    landmarks: Mapping[str, Float[np.ndarray, "3"]]
    confidence: Mapping[str, float]


def estimate_landmarks(
    hu: Float[np.ndarray, "x y z"],
    tissue: UInt8[np.ndarray, "x y z"],
    grid: Grid,
    known: Mapping[str, Float[np.ndarray, "3"]],
    progress: bool = False,
) -> Estimate:
    """Vertebrae by :func:`find_levels`, organs by registration of the made patients closest in size.

    Empty where no spine is found.

    The confidence of a vertebra is that of :meth:`Levels.confidence`; that of an organ says how far the patients agree
    on its place and how well the HU there fit it, times the vertebrae's median. A ``known`` vertebra [m] (by landmark
    name) settles the numbering.
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
    for name, (point, agreement) in _organs(scene, levels, templates, progress).items():
        places[name], confidence[name] = point, usual * agreement * _plausible(scene, name, point)
    return Estimate(landmarks=places, confidence={name: round(value, 2) for name, value in confidence.items()})


def _whole(levels: Levels, scene: Scene) -> dict[str, np.ndarray]:
    """Vertebrae whose middle is well inside the scan."""
    low = scene.grid.origin[2] + END
    high = scene.grid.end[2] - END
    return {name: point for name, point in levels.centres.items() if low < point[2] < high and name in LEVELS}


def _organs(
    scene: Scene, levels: Levels, templates: tuple[Template, ...], progress: bool
) -> dict[str, tuple[np.ndarray, float]]:
    """Place [m] and agreement of each organ that lies in the scan."""
    scan = make_channels(scene)
    found: dict[str, list[tuple[np.ndarray, float]]] = {}
    chosen = _closest(scene, levels, templates)
    for template in tqdm(chosen, desc="registering", disable=not progress, leave=False):
        centres = template.centres()
        start = along_spine(scan.points(), (scene, levels.centres), (template.scene, centres))
        moved, mismatch = register(scan, make_channels(template.scene), start)
        for name in (*ORGANS, *VESSELS):
            if name in template.landmarks:
                point, miss = landmark_in_scan(moved, scan, template.landmarks[name])
                if miss < PITCH:
                    found.setdefault(name, []).append((point, mismatch))
    return {name: _agreed(seen) for name, seen in found.items() if len(seen) > len(chosen) // 2 and _inside(scan, seen)}


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


def _inside(scan: Channels, seen: list[tuple[np.ndarray, float]]) -> bool:
    """Whether the organ's middle keeps away from the ends of the scan."""
    z = float(np.median([point[2] for point, _ in seen]))
    low = float(scan.origin[2])
    high = low + (scan.values.shape[4] - 1) * PITCH
    return low + END < z < high - END


def _plausible(scene: Scene, name: str, point: Float[np.ndarray, "3"]) -> float:
    """Share of a ball about the place whose HU fit the organ."""
    centre = (point - np.array(scene.grid.origin)) / scene.grid.spacing
    reach = int(np.ceil(PROBE / scene.grid.spacing))
    ticks = np.mgrid[-reach : reach + 1, -reach : reach + 1, -reach : reach + 1].reshape(3, -1).T
    ball = np.rint(centre + ticks[np.linalg.norm(ticks, axis=1) * scene.grid.spacing <= PROBE]).astype(int)
    ball = np.clip(ball, 0, np.array(scene.grid.shape) - 1)
    low, high = SOFT[name]
    values = scene.hu[tuple(ball.T)]
    return float(((values > low) & (values < high)).mean())
