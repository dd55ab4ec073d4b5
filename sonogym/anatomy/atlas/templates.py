"""The procedural patients the atlas is made of."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from tqdm import tqdm

from sonogym.anatomy.anatomy import Anatomy
from sonogym.anatomy.atlas.levels import LevelModel, learn_levels
from sonogym.anatomy.atlas.organs import organ_ids
from sonogym.anatomy.atlas.scene import COARSE, Scene, scene_of
from sonogym.anatomy.library import load_patient

COUNT = 12  # patients of the training split, of both sexes and many BMIs


@dataclass(frozen=True, kw_only=True)
class Template:
    """A labelled patient: its scene, its landmarks [m], and the numbers of its organs (:func:`organ_ids`)."""

    scene: Scene
    landmarks: Mapping[str, Float[np.ndarray, "3"]]
    organs: UInt8[np.ndarray, "x y z"]

    def centres(self) -> dict[str, Float[np.ndarray, "3"]]:
        """Middle [m] of each vertebra by level."""
        start = "vertebra_"
        found = {name.removeprefix(start): point for name, point in self.landmarks.items() if name.startswith(start)}
        return {"S1": self.landmarks["sacrum"], **found}


def template_of(patient: Anatomy) -> Template:
    """What the atlas keeps of a labelled patient at :data:`COARSE`."""
    points = {name: point.double().numpy() for name, point in patient.landmarks.items()}
    spine = {name: point for name, point in points.items() if name.startswith("vertebra_")}
    scene = scene_of(patient)
    organs = organ_ids(patient.labels.voxels[0].numpy(), spine, scene.grid)
    return Template(scene=scene, landmarks=points, organs=organs)


@functools.lru_cache(maxsize=1)
def load_templates(progress: bool = False) -> tuple[tuple[Template, ...], LevelModel]:
    """The patients and what they teach of the levels; made once, then in the cache."""
    templates = []
    for number in tqdm(range(COUNT), desc="atlas", disable=not progress, leave=False):
        patient = load_patient(f"procedural:train/{number}", COARSE)
        templates.append(template_of(patient))
    model = learn_levels([template.scene for template in templates], [template.centres() for template in templates])
    return tuple(templates), model
