"""Limits of a scan as data: what is warned of, what costs, what stops the robot."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sonogym.errors import InvalidInputError, MissingFileError, require_between, unknown_name
from sonogym.resources import read_toml

REGIONS = ("back", "flank", "abdomen", "ribs")
_UNITS = {"_n": 1.0, "_kpa": 1e3, "_mm_s": 1e-3, "_s": 1.0, "_deg": math.pi / 180.0, "_coupled": 1.0}
_RANGES = {  # key -> lowest, highest in the file's unit
    "force_warn_n": (0.1, 200.0), "force_cost_n": (0.1, 200.0), "force_stop_n": (0.1, 200.0),
    "pressure_cost_kpa": (1.0, 2000.0), "pressure_stop_kpa": (1.0, 2000.0),
    "speed_cost_mm_s": (1.0, 2000.0), "speed_stop_mm_s": (1.0, 2000.0),
    "workspace_stop_s": (0.0, 1e6), "reach_stop_s": (0.0, 1e6),
    "joint_margin_deg": (0.0, 45.0),
    "contact_coupled": (0.0, 1.0), "contact_speed_mm_s": (0.0, 1000.0), "contact_stop_s": (0.0, 1e6),
}  # fmt: skip
_ORDERED = (("force_warn", "force_cost"), ("force_cost", "force_stop"), ("pressure_cost", "pressure_stop"),
            ("speed_cost", "speed_stop"))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Limits:
    """SI: forces [N], pressures [Pa], speeds [m/s], times [s], angles [rad]; ``regions`` scales force and pressure.

    ``*_warn`` and ``*_cost`` are limits of the moment; ``*_stop`` of speed, force and pressure stop at once, those in
    seconds where something lasts so long. Raises :class:`InvalidInputError` where a stop lies below its cost.
    """

    name: str
    force_warn: float
    force_cost: float
    force_stop: float
    pressure_cost: float
    pressure_stop: float
    speed_cost: float
    speed_stop: float
    workspace_stop: float
    reach_stop: float
    joint_margin: float
    contact_coupled: float
    contact_speed: float
    contact_stop: float
    regions: tuple[float, ...]

    def __post_init__(self) -> None:
        for low, high in _ORDERED:
            if getattr(self, low) > getattr(self, high):
                raise InvalidInputError(
                    f"limits {self.name!r}: {low} must not exceed {high}, got {getattr(self, low):g} and "
                    f"{getattr(self, high):g}"
                )


def load_limits(name: str) -> Limits:
    """Limits by name, or from a ``.toml`` file.

    Raises :class:`UnknownNameError`, :class:`MissingFileError`, or :class:`InvalidInputError` for missing keys and
    impossible values.
    """
    table = _read_file(Path(name)) if name.endswith(".toml") else read_toml("limits", name, "limits")
    known = ("name", "regions", *_RANGES)
    for key in table:
        if key not in known:
            raise unknown_name(f"key in limits file {name!r}", key, known)
    missing = [key for key in known if key not in table]
    if missing:
        raise InvalidInputError(f"limits file {name!r} lacks {', '.join(missing)}")
    values: dict[str, Any] = {_field(key): _value(table[key], key, name) * _unit(key) for key in _RANGES}
    return Limits(name=str(table["name"]), regions=_regions(table["regions"], name), **values)


def _field(key: str) -> str:
    unit = next(unit for unit in _UNITS if key.endswith(unit))
    return key if unit == "_coupled" else key.removesuffix("_mm_s").removesuffix(unit)


def _unit(key: str) -> float:
    return 1e-3 if key.endswith("_mm_s") else next(factor for unit, factor in _UNITS.items() if key.endswith(unit))


def _value(value: Any, key: str, source: str, low: float | None = None, high: float | None = None) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidInputError(f"{key} in limits file {source!r} must be a number, got {value!r}")
    low, high = _RANGES[key] if low is None or high is None else (low, high)
    require_between(f"{key} in limits file {source!r}", float(value), low, high)
    return float(value)


def _regions(table: Mapping[str, Any], source: str) -> tuple[float, ...]:
    for region in table:
        if region not in REGIONS:
            raise unknown_name(f"region in limits file {source!r}", region, REGIONS)
    missing = [region for region in REGIONS if region not in table]
    if missing:
        raise InvalidInputError(f"limits file {source!r} lacks regions {', '.join(missing)}")
    return tuple(_value(table[region], region, source, 0.01, 10.0) for region in REGIONS)


def _read_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MissingFileError(f"no limits file {path}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} is not a TOML file: {error}") from error
