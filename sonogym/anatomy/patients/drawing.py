"""A seed -> the drawn parameters of a patient: sex, BMI, age and height first, then what they drive.

Sources stand beside the numbers; `design` marks a choice. Correlated drivers: everything below takes ``_Person``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
import torch

from sonogym.anatomy.patients.params import COUNT, PatientParams, Row
from sonogym.random import Streams

STRATA = 10  # two sexes x fifths of their BMI distribution: each once in every ten consecutive seeds
BMI = {False: (26.6, 0.16), True: (26.2, 0.20)}  # men, women: median and spread of ln; Western adults, `design`
_BMI_RANGE = (18.0, 42.0)
# 1.753 m and 1.613 m: NHANES 2015-18, adults from 20 y; sd of a sex 7 cm `design`
HEIGHT = {False: 1.753, True: 1.613}


FINDING_SEEDS = range(1300, 1400)
# how often a patient of the split ``findings`` has it besides the one that is due: Qaiser 2025 (cyst), Kebaish 2011
# (scoliosis over 40 y); the others `design` within the published incidental rates
PREVALENCE = {
    "renal_cyst": 0.31, "gallstones": 0.10, "kidney_stone": 0.08, "liver_lesion": 0.15, "hydronephrosis": 0.03,
    "aneurysm": 0.02, "scoliosis": 0.09, "compression_fracture": 0.05, "transitional_vertebra": 0.10,
    "pleural_effusion": 0.03,
}  # fmt: skip


@dataclass(frozen=True)
class _Person:
    """What drives the rest."""

    stratum: int
    female: bool
    age: float
    height: float
    bmi: float

    @property
    def surface(self) -> float:
        """Body surface [m2] (Mosteller 1987)."""
        return float(np.sqrt(100.0 * self.height * self.bmi * self.height**2 / 3600.0))

    def of(self, men: float, women: float) -> float:
        return women if self.female else men


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

    def uniforms(self, name: str) -> list[float]:
        return self._streams.uniform(name, 0.0, 1.0, COUNT)[0].tolist()

    def pair(self, name: str, mean: float, deviation: float) -> tuple[float, float]:
        return self.normal(f"{name}_right", mean, deviation), self.normal(f"{name}_left", mean, deviation)


def unit_draws(seed: int, name: str, size: int) -> np.ndarray:
    """(size,) uniform draws in [0, 1) of the stream ``name`` of a patient."""
    zero = torch.zeros(1, dtype=torch.int64)
    return Streams(seed=seed, environment=zero, episode=zero, step=zero).uniform(name, 0.0, 1.0, size)[0].numpy()


def normal_draws(seed: int, name: str, size: int) -> np.ndarray:
    """(size,) standard Gaussian draws of the stream ``name`` of a patient, float32."""
    zero = torch.zeros(1, dtype=torch.int64)
    return Streams(seed=seed, environment=zero, episode=zero, step=zero).normal(name, 0.0, 1.0, size)[0].numpy()


def stratum_of(seed: int) -> int:
    """Which of the :data:`STRATA` a seed belongs to: a shuffle of them for every block of ten seeds."""
    order = np.argsort(unit_draws(seed // STRATA, "strata", STRATA), kind="stable")
    return int(order[seed % STRATA])


def draw_patient(seed: int) -> PatientParams:
    """The patient called ``seed``: a pure function of it."""
    draw = _Draw(seed)
    person = _person(draw, seed)
    relative = person.height / 1.683
    size = relative**0.8 * (1.0 + draw.normal("size", 0.0, 0.02))  # exponent, spread: `design`
    params = PatientParams(
        seed=seed, stratum=person.stratum, female=person.female, age=person.age, height=person.height, bmi=person.bmi,
        size=size, **_habitus(draw, person, size), **_muscle(draw, person), **_curve(draw, person),
        **_vertebrae(draw, person, size), **_levels(draw, person), **_organs(draw, person, size),
    )  # fmt: skip
    return _with_findings(draw, params) if seed in FINDING_SEEDS else params


def _with_findings(draw: _Draw, params: PatientParams) -> PatientParams:
    """One finding in turn, the others by :data:`PREVALENCE`; those of the spine change its parameters."""
    names = tuple(PREVALENCE)
    first = names[(params.seed - FINDING_SEEDS[0]) % len(names)]
    chosen = tuple(name for name in names if name == first or draw.uniform(f"has_{name}", 0.0, 1.0) < PREVALENCE[name])
    changes: dict[str, Any] = {"findings": chosen}
    if "scoliosis" in chosen:
        changes["cobb"] = float(np.copysign(draw.uniform("finding_cobb", 20.0, 38.0), params.cobb))
    if "compression_fracture" in chosen:
        levels = ("T11", "T12", "L1", "L2")  # the thoracolumbar junction breaks most often
        changes["fracture"] = levels[int(draw.uniform("finding_level", 0.0, 3.999))]
        changes["collapse"] = draw.uniform("finding_collapse", 0.2, 0.5)  # Genant grades 1-3
    return replace(params, **changes)


def _person(draw: _Draw, seed: int) -> _Person:
    stratum = stratum_of(seed)
    female, fifth = stratum % 2 == 1, stratum // 2
    median, spread = BMI[female]
    part = 0.2 * (fifth + draw.uniform("bmi", 0.02, 0.98))
    bmi = float(median * np.exp(spread * NormalDist().inv_cdf(part)))
    age = draw.uniform("age", 20.0, 85.0)  # flat, so that no decade is rare: `design`
    lost = (0.0008, 0.0012)[female] * max(age - 40.0, 0.0)  # 3 and 5 cm from 30 to 70 y (Sorkin 1999)
    height = HEIGHT[female] + 0.4 * 40.0 * (0.0008, 0.0012)[female] - lost + draw.normal("height", 0.0, 0.07)
    return _Person(stratum, female, age, height, min(max(bmi, _BMI_RANGE[0]), _BMI_RANGE[1]))


def _half_width(girth: float, depth: float) -> float:
    """Half width of an outline of that girth and depth (Ramanujan; a superellipse of 2.4 is 3.5 % longer)."""
    low, high, b = 0.5 * depth, girth / 3.0, 0.5 * depth
    for _ in range(40):
        a = 0.5 * (low + high)
        h = ((a - b) / (a + b)) ** 2
        around = 1.035 * np.pi * (a + b) * (1.0 + 3.0 * h / (10.0 + np.sqrt(4.0 - 3.0 * h)))
        low, high = (a, high) if around < girth else (low, a)
    return 0.5 * (low + high)


def _habitus(draw: _Draw, who: _Person, size: float) -> dict[str, Any]:
    """Trunk and fat by sex and BMI; the depth under the supraspinous ligament does not vary (Bahk 1998).

    Girth and supine depth: NHANES 2011-14 (Kahn 2017): ratios to height .569 and .130 (m), .586 and .132 (f) at the
    median BMI, slopes from their 10th and 90th percentiles. Mean subcutaneous thickness at L3: areas 117 (m) and
    147 cm2 (f) at BMI 23.5 over the girth (Kong 2022, 1787 CT); 1.7 and 2.1 mm a unit of BMI: `design`.
    Chest depth: 251 +- 10 mm + 5.6 a unit of BMI over 27, 3 a metre of height (regression over the first 29 men of
    the public ANSUR II file, standing, at the nipples); 4 % less lying, women without breasts 8 % less: `design`.
    Chest breadth: the same men 281 +- 18 mm; at T9 two scans 300-306; 4.5 mm a unit of BMI and women 6 % less `design`.
    """
    depth = who.height * who.of(0.130, 0.132) * 1e3 + who.of(7.6, 6.6) * (who.bmi - who.of(28.0, 27.7))
    girth = who.height * who.of(0.569, 0.586) * 1e3 + who.of(27.5, 24.2) * (who.bmi - who.of(28.0, 27.7))
    depth += draw.normal("depth", 0.0, 9.0)
    chest = who.of(243.0, 225.0) + who.of(5.2, 4.4) * (who.bmi - 27.0)
    breadth = who.of(306.0, 287.0) + 4.5 * (who.bmi - 27.0)
    fat = who.of(14.5, 19.5) + who.of(1.7, 2.1) * (who.bmi - who.of(24.2, 22.8))
    return {
        "prone": draw.uniform("prone", 0.0, 1.0) < 0.5,
        "depth": depth,
        "chest_width": 0.5 * (1.0 + draw.normal("chest_width", 0.0, 0.035)) * breadth,
        "chest": chest + draw.normal("chest", 0.0, 9.0, 1.7),
        "width": 0.955 * _half_width(girth * (1.0 + draw.normal("width", 0.0, 0.025)), depth),  # L3 above the crest
        "fat_back": max(0.85 * fat * (1.0 + draw.normal("fat_back", 0.0, 0.15)), 4.0),
        "fat_side": max(0.9 * fat * (1.0 + draw.normal("fat_side", 0.0, 0.15)), 4.0),
        "fat_front": max(1.1 * fat * (1.0 + draw.normal("fat_front", 0.0, 0.15)), 4.0),
        "hip": draw.normal("hip", who.of(1.03, 1.08), 0.025),
    }


def _muscle(draw: _Draw, who: _Person) -> dict[str, Any]:
    """Linear bulk: square roots of the area's trends with sex, age and BMI at L3 (van der Werf 2017, 420 CT).

    Multifidus fat fraction 16.2 +- 6.3 % (m), 21.1 +- 6.8 % (f), rising with age (Si 2023, 336 MRI); .3 %/y `design`.
    """
    older = who.age - 45.0
    bulk = who.of(1.045, 0.955) * (1.0 - who.of(0.0027, 0.0033) * older) * (1.0 + 0.009 * (who.bmi - 25.0))
    fat = draw.normal("infiltration", who.of(0.162, 0.211), 0.05) + 0.003 * older
    return {
        "muscle": min(max(bulk * (1.0 + draw.normal("muscle", 0.0, 0.05)), 0.72), 1.28),
        "infiltration": min(max(fat, 0.03), 0.5),
    }


def _curve(draw: _Draw, who: _Person) -> dict[str, Any]:
    """Lying curve: lordosis T12-S1 37 +- 13 (PMC6680033, n = 627); Cobb > 10 in 9 % over 40 y (Kebaish 2011)."""
    angle = draw.normal("lordosis", 37.0, 13.0, 2.0)
    bodies = who.of(-7.6, 5.2)  # share of the bodies' wedges T12-L5 (Masharawi 2010)
    cobb = draw.normal("cobb", 0.0, 4.0 + 0.05 * max(who.age - 40.0, 0.0))
    return {
        "lordosis": min(max((angle - bodies) / 37.0, 0.1), 1.6),
        "recline": draw.normal("recline", 1.0, 3.0),  # `design`
        "cobb": cobb,
        "scoliosis_phase": draw.uniform("scoliosis_phase", 0.0, 1.0),
        "tilt": draw.normal("tilt", 0.0, 1.5),  # `design`: how straight one lies
        "twist": draw.normal("twist", 0.0, 1.5) - 0.3 * cobb,  # rotation goes with the bend, its amount `design`
        "spine_offset": (draw.normal("spine_right", 0.0, 4.0), draw.normal("spine_forward", 0.0, 5.0)),
    }


def _vertebrae(draw: _Draw, who: _Person, size: float) -> dict[str, Any]:
    """Sex: L5 depth 37.1/33.3, height 28.8/27.6, canal width 28.5/27.6 and depth 15.9/15.1 (m/f), depth + .084 mm/y
    (Int J Spine Surg 2021;15:1072, 196 CT); wedges T9-L5 and spinous height over body height (Masharawi 2010).

    Spinous process from 20 to 85 y: 2-5 mm higher, half as wide again (Sobottke 2010); higher in flat backs
    (Inanami 2020: r = -.8 with lordosis; slope in :mod:`spine`).
    """
    older = who.age - 52.0
    return {
        "vertebra_width": draw.normal("vertebra_width", who.of(1.02, 0.98), 0.025) * (1.0 + 0.0012 * older),
        "vertebra_height": draw.normal("vertebra_height", 1.0, 0.02) * (who.height / 1.683) ** 0.43 / size,
        "wedge": draw.normal("wedge", 0.0, 1.0),
        "spinous_length": draw.normal("spinous_length", who.of(1.01, 0.99), 0.06),
        "spinous_height": draw.normal("spinous_height", who.of(1.05, 0.95), 0.08) * (1.0 + 0.0027 * older),
        "spinous_width": draw.normal("spinous_width", 1.0, 0.12) * (1.0 + 0.0065 * older),
        "transverse_length": draw.normal("transverse_length", who.of(1.01, 0.99), 0.06),
        "disc_height": draw.normal("disc_height", who.of(1.02, 0.98), 0.08),
        "canal": draw.normal("canal", who.of(0.985, 1.015), 0.06),
        "pelvis_width": draw.normal("pelvis_width", who.of(1.0, 1.05), 0.04),
        "crest": draw.normal("crest", who.of(55.0, 45.0), 8.0),  # L4 and L4/5 (Spine 2008, 260 radiographs)
        "rib_drop": draw.normal("rib_drop", 1.0, 0.08),
    }


_NARROWING = (0.2, 0.2, 0.2, 0.2, 0.2, 0.3, 0.4, 0.6, 1.0, 1.0)  # of the discs T8 .. L5 relative to L5/S1: `design`


def _levels(draw: _Draw, who: _Person) -> dict[str, Any]:
    """Level-by-level spread; discs narrow with age, the lowest first."""
    disc = []
    worn, depth = draw.uniforms("disc_worn"), draw.uniforms("disc_loss")
    for value, share, u, loss in zip(draw.row("level_disc", 1.0, 0.06), _NARROWING, worn, depth, strict=True):
        narrowed = u < 0.007 * max(who.age - 30.0, 0.0) * share
        disc.append(value * (0.6 + 0.25 * loss if narrowed else 1.0))
    return {
        "level_scale": draw.row("level_scale", 1.0, 0.015),
        "level_disc": tuple(disc),
        "level_shift": draw.row("level_shift", 0.0, 1.5),
        "level_tilt": draw.row("level_tilt", 0.0, 0.8),
    }


def _organs(draw: _Draw, who: _Person, size: float) -> dict[str, Any]:
    """Factors that turn the tables into the drawn volumes and calibres.

    Liver: between 758 BSA - 124 ml (Feng 2017, 369 Chinese adults) and 1267 BSA - 794 ml (Vauthey 2002, 292 Western),
    spread 14 %. Spleen 195 +- 78 ml (Jasper 2019). Kidneys 177 +- 34 ml (m), 146 +- 28 ml (f), left longer by 4 %
    (Kwon 2008); shrinking after 60 y `design`. Aorta 18.4 +- 1.8 (m), 15.9 +- 1.7 mm (f) (Wang 2022), widening to 70 y
    (Rotterdam Study, Zhu 2021). Trabecular HU 226 +- 44 below 30 y, - 2.5 a year, +- 38 from 90 y on (Jang 2019,
    20374 CT).
    """
    liver = (1012.0 * who.surface - 459.0) * (1.0 + draw.normal("liver_size", 0.0, 0.14))
    spleen = 195.0 * who.of(1.12, 0.88) * float(np.exp(draw.normal("spleen_size", -0.06, 0.36, 2.0)))
    kidney = (who.of(172.0, 146.0) / 160.0) ** (1 / 3) / (size**0.7)
    shrunk = 1.0 - 0.0025 * max(who.age - 60.0, 0.0)
    kidneys = draw.pair("kidney_size", kidney * shrunk, 0.055)
    right = draw.normal("kidney_height_right", 30.0, 12.0)
    left = right + draw.normal("kidney_difference", 14.0, 9.0)
    older = 0.0042 * (min(who.age, 72.0) - 50.0)
    old = max(who.age - 30.0, 0.0)
    trabecular = 226.0 - 2.5 * old + draw.normal("trabecular", 0.0, 44.0 - 0.1 * old)
    return {
        "kidney_size": (0.985 * kidneys[0], 1.02 * kidneys[1]),
        "kidney_height": (right, left),
        "kidney_aside": draw.pair("kidney_aside", 65.0, 4.0),
        "kidney_tilt": draw.pair("kidney_tilt", 17.0, 3.0),
        "kidney_turn": draw.pair("kidney_turn", 35.0, 8.0),
        "liver_volume": min(max(liver, 750.0), 2400.0),
        "liver_drop": draw.normal("liver_drop", 0.0, 8.0),
        "spleen_volume": spleen,
        "dome": draw.normal("dome", 4.0, 8.0),
        "vessel": draw.normal("vessel", who.of(1.05, 0.96), 0.08) * (1.0 + older),
        "gas": min(max(draw.normal("gas", 0.2, 0.12), 0.0), 0.5),  # `design`
        "aorta_aside": draw.normal("aorta_aside", 10.0, 2.5),
        "trabecular": max(trabecular, 40.0),
    }
