"""The drawn parameters of a procedural patient. Lengths in millimetres, angles in degrees (the field's tables)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sonogym.random import Streams

LEVELS = ("T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5")  # from the head down
COUNT = len(LEVELS)
Row = tuple[float, ...]  # one value a level


@dataclass(frozen=True, kw_only=True)
class PatientParams:
    """One adult lying on the couch. Pairs are (right, left); factors are relative to the tables of the structures."""

    seed: int
    size: float
    female: bool
    age: float  # years
    bmi: float  # kg/m2
    prone: bool
    width: float  # trunk half width at L3
    depth: float  # trunk depth at L3
    fat_back: float
    fat_side: float
    fat_front: float
    hip: float  # hip width over waist width
    lordosis: float  # 1 is a standing curve
    scoliosis: float  # lateral bend amplitude
    scoliosis_phase: float
    tilt: float  # of the whole spine in the coronal plane
    twist: float  # axial rotation that follows the bend
    spine_offset: tuple[float, float]  # of the spine in the trunk: right, forward
    muscle: float
    spinous_length: float
    spinous_height: float
    transverse_length: float
    disc_height: float
    canal: float
    level_scale: Row
    level_shift: Row  # rotation about the body axis
    level_tilt: Row
    crest: float  # iliac crest above the S1 end-plate
    pelvis_width: float
    kidney_size: tuple[float, float]
    kidney_height: tuple[float, float]
    kidney_aside: tuple[float, float]
    kidney_tilt: tuple[float, float]
    kidney_turn: tuple[float, float]
    liver_size: float
    liver_drop: float
    spleen_size: float
    dome: float  # height of the right dome over T9
    vessel: float
    gas: float  # part of the bowel segments that hold gas
    aorta_aside: float
    rib_drop: float
    trabecular: float  # HU


class _Draw:
    """Scalars from named streams, cut to a range."""

    def __init__(self, seed: int) -> None:
        zero = torch.zeros(1, dtype=torch.int64)
        self._streams = Streams(seed=seed, environment=zero, episode=zero, step=zero)

    def uniform(self, name: str, low: float, high: float) -> float:
        return float(self._streams.uniform(name, low, high))

    def normal(self, name: str, mean: float, deviation: float, width: float = 2.5) -> float:
        value = float(self._streams.normal(name, 0.0, 1.0))
        return mean + deviation * min(max(value, -width), width)

    def row(self, name: str, mean: float, deviation: float) -> Row:
        values = self._streams.normal(name, 0.0, 1.0, COUNT)[0].clamp(-2.5, 2.5)
        return tuple((mean + deviation * values).tolist())

    def pair(self, name: str, mean: float, deviation: float) -> tuple[float, float]:
        return self.normal(f"{name}_right", mean, deviation), self.normal(f"{name}_left", mean, deviation)


def unit_draws(seed: int, name: str, size: int) -> np.ndarray:
    """(size,) uniform draws in [0, 1) of the stream ``name`` of a patient."""
    zero = torch.zeros(1, dtype=torch.int64)
    return Streams(seed=seed, environment=zero, episode=zero, step=zero).uniform(name, 0.0, 1.0, size)[0].numpy()


def draw_patient(seed: int) -> PatientParams:
    """The patient called ``seed``: a pure function of it."""
    draw = _Draw(seed)
    female = draw.uniform("sex", 0.0, 1.0) < 0.5
    size = draw.normal("size", 0.98 if female else 1.02, 0.06)
    return PatientParams(
        seed=seed, size=size, female=female,
        **_habitus(draw, female, size), **_spine(draw, female), **_organs(draw),
    )  # fmt: skip


def _habitus(draw: _Draw, female: bool, size: float) -> dict[str, Any]:
    """Trunk and fat grow with BMI; the depth under the supraspinous ligament does not (Bahk 1998)."""
    bmi = min(max(draw.normal("bmi", 26.0, 4.5), 18.0), 40.0)
    over = bmi - 25.0
    fat = 12.0 + 1.2 * over + (2.0 if female else 0.0) + draw.normal("fat_back", 0.0, 2.5)
    return {
        "age": draw.uniform("age", 20.0, 85.0),
        "bmi": bmi,
        "prone": draw.uniform("prone", 0.0, 1.0) < 0.5,
        "width": size * (158.0 + 3.2 * over + draw.normal("width", 0.0, 6.0)),
        "depth": size * (218.0 + 4.5 * over + draw.normal("depth", 0.0, 8.0)),
        "fat_back": max(fat, 5.0),
        "fat_side": max(14.0 + 1.3 * over + draw.normal("fat_side", 0.0, 3.0), 5.0),
        "fat_front": max(16.0 + 1.5 * over + draw.normal("fat_front", 0.0, 3.0), 5.0),
        "hip": draw.normal("hip", 1.08 if female else 1.03, 0.025),
        "muscle": draw.normal("muscle", 0.96 if female else 1.03, 0.07),
    }


def _spine(draw: _Draw, female: bool) -> dict[str, Any]:
    """Curves, processes and level-by-level jitter; a strong curve lowers the spinous processes or they would fuse."""
    lordosis = draw.normal("lordosis", 0.66, 0.22, 2.0)
    return {
        "lordosis": lordosis,
        "scoliosis": draw.normal("scoliosis", 0.0, 3.0),
        "scoliosis_phase": draw.uniform("scoliosis_phase", 0.0, 1.0),
        "tilt": draw.normal("tilt", 0.0, 1.5),
        "twist": draw.normal("twist", 0.0, 2.0),
        "spine_offset": (draw.normal("spine_right", 0.0, 4.0), draw.normal("spine_forward", 0.0, 5.0)),
        "spinous_length": draw.normal("spinous_length", 1.0, 0.06),
        "spinous_height": draw.normal("spinous_height", 1.0, 0.11) - 0.25 * max(lordosis - 0.7, 0.0),
        "transverse_length": draw.normal("transverse_length", 1.0, 0.06),
        "disc_height": draw.normal("disc_height", 1.0, 0.09),
        "canal": draw.normal("canal", 1.0, 0.06),
        "level_scale": draw.row("level_scale", 1.0, 0.015),
        "level_shift": draw.row("level_shift", 0.0, 1.5),
        "level_tilt": draw.row("level_tilt", 0.0, 0.8),
        "crest": draw.normal("crest", 45.0 if female else 55.0, 8.0),  # Cooperstein 2017: L4/5 and L4
        "pelvis_width": draw.normal("pelvis_width", 1.03 if female else 1.0, 0.04),
        "rib_drop": draw.normal("rib_drop", 1.0, 0.08),
    }


def _organs(draw: _Draw) -> dict[str, Any]:
    age_trabecular = 226.0 - 2.5 * max(draw.uniform("age", 20.0, 85.0) - 30.0, 0.0)  # Jang 2019
    right = draw.normal("kidney_height_right", 30.0, 12.0)
    left = right + draw.normal("kidney_difference", 14.0, 9.0)
    return {
        "kidney_size": draw.pair("kidney_size", 1.0, 0.06),
        "kidney_height": (right, left),
        "kidney_aside": draw.pair("kidney_aside", 65.0, 4.0),
        "kidney_tilt": draw.pair("kidney_tilt", 17.0, 3.0),
        "kidney_turn": draw.pair("kidney_turn", 35.0, 8.0),
        "liver_size": draw.normal("liver_size", 1.0, 0.06),
        "liver_drop": draw.normal("liver_drop", 0.0, 8.0),
        "spleen_size": draw.normal("spleen_size", 1.0, 0.09),
        "dome": draw.normal("dome", 4.0, 8.0),
        "vessel": draw.normal("vessel", 1.0, 0.09),
        "gas": min(max(draw.normal("gas", 0.2, 0.12), 0.0), 0.5),
        "aorta_aside": draw.normal("aorta_aside", 10.0, 2.5),
        "trabecular": max(age_trabecular + draw.normal("trabecular", 0.0, 25.0), 60.0),
    }
