"""Probes: geometry and beam constants, read from ``assets/probes`` or a user's TOML file."""

from __future__ import annotations

import dataclasses
import itertools
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.errors import InvalidInputError, MissingFileError, require_between, unknown_name
from sonogym.resources import read_toml

SPEED_OF_SOUND = 1540.0  # m/s, the speed every scanner assumes
KINDS = ("convex", "linear", "phased", "radial")
MAX_DEPTH = 0.30
MAX_STEERING = math.radians(30.0)  # beyond it grating lobes of arrays with a pitch of a wavelength dominate (design)
BANDWIDTH_USED = 0.61  # effective over listed bandwidth (physics.md section 5)
_UNITS = {"_mm": 1e-3, "_mhz": 1e6, "_deg": math.pi / 180.0}
_TEXT_KEYS = ("name", "kind")
_WHOLE_KEYS = ("elements",)
_TABLE_KEYS = ("elevation_depths_mm", "elevation_widths_mm")
_LIMITS = {  # field -> lowest, highest, unit
    "elements": (2, 4096, ""),
    "center_frequency": (0.5e6, 30e6, "Hz"),
    "pitch": (5e-5, 2e-3, "m"),
    "height": (1e-3, 0.05, "m"),
    "elevation_focus": (1e-3, MAX_DEPTH, "m"),
    "effective_bandwidth": (0.05, 2.0, "(fraction of the centre frequency)"),
    "transmit_focus": (1e-3, MAX_DEPTH, "m"),
    "transmit_f_number": (0.5, 20.0, ""),
    "receive_f_number": (0.5, 20.0, ""),
    "lateral_a": (0.5, 3.0, ""),
    "lateral_b": (0.0, 3.0, ""),
    "depth": (5e-3, MAX_DEPTH, "m"),
    "press": (0.0, 0.03, "m"),
}


@dataclass(frozen=True, kw_only=True)
class Transducer:
    """One probe; SI units. Source of the presets: the heads of ``assets/probes/*.toml``.

    ``radius`` [m] is 0 unless convex or radial; ``width`` [m] is the arc or face length; ``field_of_view`` [rad] is 0
    for a linear probe; ``effective_bandwidth`` is B_eff / f; ``press`` [m] is the usual indentation of the face centre;
    ``elevation_widths`` [m] are two-way -6 dB widths at ``elevation_depths`` [m]. A radial probe looks all round from
    inside the body: its origin lies on its axis, and its ``press`` is the depth of that axis below the skin (`design`).
    ``steering`` [rad] turns the parallel lines of a linear probe towards +x; no file holds it, see
    :class:`sonogym.ultrasound.frame.RenderConfig`. Raises :class:`InvalidInputError` for a value out of range.
    """

    name: str
    kind: str
    elements: int
    center_frequency: float
    pitch: float
    height: float
    elevation_focus: float
    effective_bandwidth: float
    transmit_focus: float
    transmit_f_number: float
    receive_f_number: float
    lateral_a: float
    lateral_b: float
    depth: float
    elevation_depths: tuple[float, ...]
    elevation_widths: tuple[float, ...]
    radius: float = 0.0
    field_of_view: float = 0.0
    press: float = 3e-3
    steering: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_name("probe kind", self.kind, KINDS)
        for name, (low, high, unit) in _LIMITS.items():
            value = getattr(self, name)
            hint = "millimetres?" if unit == "m" and high < value <= 1e3 * high else ""
            require_between(f"{name} of probe {self.name!r}", value, low, high, unit, hint)
        if self.kind in ("convex", "radial"):
            require_between(f"radius of probe {self.name!r}", self.radius, 2e-3, 0.3, "m")
            if not self.field_of_view:
                object.__setattr__(self, "field_of_view", self.width / self.radius)
        if self.kind in ("convex", "phased"):
            require_between(f"field_of_view of probe {self.name!r}", self.field_of_view, 0.1, 2.6, "rad")
        if self.kind == "radial":
            _close_circle(self)
        _check_steering(self)
        _check_table(self.name, self.elevation_depths, self.elevation_widths)

    @property
    def width(self) -> float:
        """Length of the row of elements [m]."""
        return self.elements * self.pitch

    @property
    def wavelength(self) -> float:
        """c0 / f [m]."""
        return SPEED_OF_SOUND / self.center_frequency

    def driven(self, frequency_factor: float, focus_factor: float) -> Transducer:
        """The probe at another transmit frequency and focus; a pulse keeps its number of cycles (design).

        The tabulated elevation widths are kept. Raises :class:`InvalidInputError` for a frequency outside its band.
        """
        half_band = 0.5 * self.effective_bandwidth / BANDWIDTH_USED
        name = f"frequency factor of probe {self.name!r}"
        require_between(name, frequency_factor, 1.0 - half_band, 1.0 + half_band, "", "outside its band")
        return dataclasses.replace(
            self,
            center_frequency=frequency_factor * self.center_frequency,
            transmit_focus=focus_factor * self.transmit_focus,
        )

    @property
    def sagitta(self) -> float:
        """How far the edge of the face lies behind its centre [m]; 0 unless convex."""
        return self.radius * (1.0 - math.cos(0.5 * self.field_of_view)) if self.kind == "convex" else 0.0

    @property
    def inserted(self) -> bool:
        """Whether the probe lies inside the body, where no skin is met: all its lines are coupled (`design`)."""
        return self.kind == "radial"

    def angles(self, lines: int) -> Float[Tensor, " lines"]:
        """Angle of each scan line from the probe's z axis towards x [rad]; those of a radial probe start at 0."""
        if self.kind == "radial":
            return torch.arange(lines) * (self.field_of_view / lines)
        return _fractions(lines) * self.field_of_view + self.steering

    def scanlines(self, lines: int) -> tuple[Float[Tensor, "lines 3"], Float[Tensor, "lines 3"]]:
        """Origins [m] and unit directions of the scan lines in the probe frame (x lateral, y elevation, z depth)."""
        angle = self.angles(lines)
        zero = torch.zeros_like(angle)
        direction = torch.stack((angle.sin(), zero, angle.cos()), dim=-1)
        if self.kind == "linear":
            origin = torch.stack((_fractions(lines) * self.width, zero, zero), dim=-1)
        elif self.kind == "radial":
            origin = self.radius * direction
        else:
            origin = self.radius * (direction - torch.tensor([0.0, 0.0, 1.0]))
        return origin, direction

    def line_pitch(self, lines: int, ranges: Float[Tensor, " samples"]) -> Float[Tensor, " samples"]:
        """Distance [m] across the beam between neighbouring scan lines at each range [m] from the face."""
        if self.kind == "linear":
            return torch.full_like(ranges, self.width / (lines - 1) * math.cos(self.steering))
        return (self.radius + ranges) * (self.field_of_view / (lines if self.kind == "radial" else lines - 1))


def sample_ranges(samples: int, depth: float) -> Float[Tensor, " samples"]:
    """Range [m] of each sample along its scan line: (k + 1/2) depth / samples."""
    return (torch.arange(samples) + 0.5) * (depth / samples)


def load_probe(name: str) -> Transducer:
    """A preset by name, or a probe from a ``.toml`` file.

    Raises :class:`UnknownNameError` with the closest name, :class:`MissingFileError`, or :class:`InvalidInputError` for
    unknown keys and impossible values.
    """
    table = _read_file(Path(name)) if name.endswith(".toml") else read_toml("probes", name, "probe")
    return probe_from_table(table, name)


def probe_from_table(table: Mapping[str, Any], source: str) -> Transducer:
    """A probe from the keys of its file (``center_frequency_mhz``, ``pitch_mm`` ...), converted to SI."""
    keys = _file_keys()
    for key in table:
        if key not in keys:
            raise unknown_name(f"key in probe file {source!r}", key, keys)
    values = {keys[key][0]: _convert(key, value, keys[key][1], source) for key, value in table.items()}
    required = {f.name for f in dataclasses.fields(Transducer) if f.default is dataclasses.MISSING}
    missing = sorted(key for key, (field, _) in keys.items() if field in required - values.keys())
    if missing:
        raise InvalidInputError(f"probe file {source!r} lacks {', '.join(missing)}")
    return Transducer(**values)


def _file_keys() -> dict[str, tuple[str, float]]:
    """Key in the file -> field and factor to SI."""
    suffix = {"center_frequency": "_mhz", "field_of_view": "_deg"}
    plain = ("elements", "effective_bandwidth", "transmit_f_number", "receive_f_number", "lateral_a", "lateral_b")
    keys: dict[str, tuple[str, float]] = {}
    for field in dataclasses.fields(Transducer):
        if field.name == "steering":
            continue
        if field.name in (*_TEXT_KEYS, *plain):
            keys[field.name] = (field.name, 1.0)
        else:
            unit = suffix.get(field.name, "_mm")
            keys[field.name + unit] = (field.name, _UNITS[unit])
    return keys


def _convert(key: str, value: Any, factor: float, source: str) -> Any:
    if key in _TEXT_KEYS and isinstance(value, str):
        return value
    if key in _TABLE_KEYS and isinstance(value, list):
        return tuple(_number(key, item, factor, source) for item in value)
    if key in _TEXT_KEYS + _TABLE_KEYS:
        wanted = "a string" if key in _TEXT_KEYS else "a list of numbers"
        raise InvalidInputError(f"{key} in probe file {source!r} must be {wanted}, got {value!r}")
    return _number(key, value, factor, source)


def _number(key: str, value: Any, factor: float, source: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidInputError(f"{key} in probe file {source!r} must be a number, got {value!r}")
    return value if key in _WHOLE_KEYS else factor * float(value)


def _read_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MissingFileError(f"no probe file {path}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} is not a TOML file: {error}") from error


def _check_table(name: str, depths: tuple[float, ...], widths: tuple[float, ...]) -> None:
    increasing = all(low < high for low, high in itertools.pairwise(depths))
    if len(depths) < 2 or len(depths) != len(widths) or not increasing or min(*depths, *widths) <= 0:
        raise InvalidInputError(
            f"elevation table of probe {name!r} needs >= 2 increasing positive depths and as many positive widths, "
            f"got {depths} and {widths}"
        )


def _close_circle(probe: Transducer) -> None:
    full = 2.0 * math.pi
    around = probe.field_of_view
    require_between(
        f"elements x pitch / radius of radial probe {probe.name!r}", around, 0.99 * full, 1.01 * full, "rad"
    )
    object.__setattr__(probe, "field_of_view", full)


def _check_steering(probe: Transducer) -> None:
    if probe.kind != "linear" and probe.steering:
        raise InvalidInputError(f"steering turns the lines of linear probes only, and {probe.name!r} is {probe.kind}")
    require_between("steering", probe.steering, -MAX_STEERING, MAX_STEERING, "rad", "degrees?")


def _fractions(lines: int) -> Float[Tensor, " lines"]:
    if lines < 2:
        raise InvalidInputError(f"lines must be at least 2, got {lines}")
    return torch.arange(lines) / (lines - 1) - 0.5
