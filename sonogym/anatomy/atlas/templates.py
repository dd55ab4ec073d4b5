"""The procedural patients the atlas is made of."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from sonogym.anatomy.atlas.levels import LevelModel, learn_levels
from sonogym.anatomy.atlas.scene import COARSE, Scene, scene_of
from sonogym.anatomy.library import load_patient

COUNT = 12  # patients of the training split, of both sexes and many BMIs


@dataclass(frozen=True, kw_only=True)
class Template:
    """A labelled patient: its scene, and its landmarks [m]."""

    scene: Scene
    landmarks: Mapping[str, Float[np.ndarray, "3"]]

    def centres(self) -> dict[str, Float[np.ndarray, "3"]]:
        """Middle [m] of each vertebra by level."""
        start = "vertebra_"
        found = {name.removeprefix(start): point for name, point in self.landmarks.items() if name.startswith(start)}
        return {"S1": self.landmarks["sacrum"], **found}


@functools.lru_cache(maxsize=1)
def load_templates(progress: bool = False) -> tuple[tuple[Template, ...], LevelModel]:
    """The patients and what they teach of the levels; made once, then in the cache."""
    templates = []
    for number in tqdm(range(COUNT), desc="atlas", disable=not progress, leave=False):
        patient = load_patient(f"procedural:train/{number}", COARSE)
        points = {name: point.double().numpy() for name, point in patient.landmarks.items()}
        templates.append(Template(scene=scene_of(patient), landmarks=points))
    model = learn_levels([template.scene for template in templates], [template.centres() for template in templates])
    return tuple(templates), model
