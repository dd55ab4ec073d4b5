"""Standard planes as data: the definitions in ``assets/planes`` (its files explain the keys)."""

from __future__ import annotations

import functools
import itertools
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sonogym.errors import InvalidInputError, unknown_name
from sonogym.resources import asset_names, asset_path

Vector = tuple[float, float, float]
FOLDER, SUFFIX = "planes", ".toml"
SIDES = ("left", "right")
STARTS = ("back", "about")
BLOCKS = ("bone", "gas", "lung")


@dataclass(frozen=True, kw_only=True)
class PlaneSpec:
    """One plane: which landmarks it shows, from where, and what must not lie in between.

    ``family`` is the file it comes from, ``kind`` its name without the level: planes of a kind look alike. ``turns``
    [rad] (about the head axis, towards the head) and ``shifts`` [m] along the head axis are the approaches tried;
    ``offset`` [m] moves the target from the landmarks' mean; ``window`` [m] is half of what should be seen, ``open``
    the share of it that must be. Vectors are RAS, or follow the column at ``spine`` (a level) where that is set, and
    also its turn about itself where ``turns_with`` names vertebrae (by their spinous processes). ``slides`` [m]: how
    far from the target, along the head axis, the middle of the image may lie. ``canal``: where all of that is shut,
    every probe over the gap and every place of the canal are tried (:mod:`sonogym.anatomy.canal_search`).
    """

    name: str
    family: str
    kind: str
    level: str | None
    landmarks: tuple[str, ...]
    spine: str | None
    offset: Vector
    approach: Vector
    lateral: Vector
    start: str
    blocks: tuple[str, ...]
    window: float
    open: float
    turns: tuple[tuple[float, float], ...]
    shifts: tuple[float, ...]
    slides: tuple[float, ...]
    turns_with: tuple[str, ...]
    canal: bool
    shows: str
    notes: str

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise unknown_name(f"start of plane {self.name!r}", self.start, STARTS)
        for what in self.blocks:
            if what not in BLOCKS:
                raise unknown_name(f"obstacle of plane {self.name!r}", what, BLOCKS)

    @property
    def approaches(self) -> list[tuple[Vector, float, float]]:
        """Each direction from the target to the probe, with each shift [m] of the target and slide [m] of the image."""
        kinds = itertools.product(self.slides, self.turns, self.shifts)
        return [(_turned(self.approach, *turn), shift, slide) for slide, turn, shift in kinds]


@functools.cache
def plane_specs() -> Mapping[str, PlaneSpec]:
    """Every standard plane by its name; raises :class:`InvalidInputError` for a definition that cannot be read."""
    specs: dict[str, PlaneSpec] = {}
    for family in sorted(asset_names(FOLDER, SUFFIX), key=lambda name: (name != "spine", name)):
        text = asset_path(FOLDER, family, SUFFIX, "family of planes").read_text(encoding="utf-8")
        for pattern, table in tomllib.loads(text).items():
            specs |= {spec.name: spec for spec in _expanded(family, pattern, table)}
    return specs


@functools.cache
def families() -> Mapping[str, tuple[PlaneSpec, ...]]:
    """The planes of each file."""
    specs = plane_specs().values()
    return {family: tuple(s for s in specs if s.family == family) for family in dict.fromkeys(s.family for s in specs)}


def plane_names() -> tuple[str, ...]:
    """Names of all standard planes."""
    return tuple(plane_specs())


def find_spec(plane: str) -> PlaneSpec:
    """The plane called ``plane``; raises :class:`UnknownNameError` listing the known ones."""
    if plane not in plane_specs():
        raise unknown_name("plane", plane, plane_specs())
    return plane_specs()[plane]


def _expanded(family: str, pattern: str, table: Mapping[str, Any]) -> Iterator[PlaneSpec]:
    levels, sides = table.get("level", [None]), table.get("side", [None])
    for side in sides:
        for at, level in enumerate(levels):
            try:
                yield _spec(family, pattern, table, side, level, at)
            except (KeyError, TypeError, ValueError) as error:
                raise InvalidInputError(f"plane {pattern!r} of assets/planes/{family}.toml: {error!r}") from error


def _spec(
    family: str, pattern: str, table: Mapping[str, Any], side: str | None, level: str | None, at: int
) -> PlaneSpec:
    words = {"side": side, "level": level}
    ends = [] if level is None else [level.split("_")[0], level.split("_")[-1]]
    if level is not None:
        words["upper"], words["lower"] = ends
    offset = table.get("offset_mm", [0, 0, 0])
    offset = offset[at] if isinstance(offset[0], list) else offset
    return PlaneSpec(
        name=pattern.format(**words),
        family=family,
        kind=table.get("kind", pattern).format(side=side, level="").strip("_"),
        level=None if level is None else words["upper"],
        landmarks=tuple(name.format(**words) for name in table["landmarks"]),
        spine=words["upper"] if table.get("frame") in ("spine", "vertebra") else None,
        offset=_mirrored([1e-3 * value for value in offset], side),
        approach=_mirrored(table["approach"], side),
        lateral=_mirrored(table["lateral"], side),
        start=table.get("start", "about"),
        blocks=tuple(table.get("blocks", ())),
        window=1e-3 * table.get("window_mm", 10),
        open=float(table.get("open", 0.0)),
        turns=tuple(_mirrored_turn(turn, side) for turn in table.get("turns_deg", [[0, 0]])),
        shifts=tuple(1e-3 * shift for shift in table.get("shifts_mm", [0])),
        slides=tuple(1e-3 * slide for slide in table.get("slides_mm", [0])),
        turns_with=tuple(dict.fromkeys(ends)) if table.get("frame") == "vertebra" else (),
        canal=bool(table.get("canal", False)),
        shows=table["shows"],
        notes=table["notes"],
    )


def _mirrored(vector: Sequence[int | float], side: str | None) -> Vector:
    x, y, z = (float(value) for value in vector)
    return (-x if side == "left" else x), y, z


def _mirrored_turn(turn: Sequence[int | float], side: str | None) -> tuple[float, float]:
    about, up = (math.radians(value) for value in turn)
    return (-about if side == "left" else about), up


def _turned(vector: Vector, about: float, up: float) -> Vector:
    """``vector`` turned by ``about`` [rad] round the head axis and ``up`` towards the head."""
    if about == 0.0 and up == 0.0:
        return vector
    x, y, z = vector
    level = math.hypot(x, y)
    azimuth, height = math.atan2(y, x) + about, math.atan2(z, level) + up
    return math.cos(height) * math.cos(azimuth), math.cos(height) * math.sin(azimuth), math.sin(height)
