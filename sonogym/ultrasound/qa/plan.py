"""Where the targets of the phantom lie for one probe: groups as in general-purpose phantoms, spaced by its depth.

All places and spacings are design choices.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch

from sonogym.errors import InvalidInputError
from sonogym.ultrasound.psf import lateral_width
from sonogym.ultrasound.qa.phantom import GREY_DECIBELS, Disc, Medium
from sonogym.ultrasound.transducer import Transducer

LINES = 1024  # of the scans of wires
THINNEST_WIRE = 0.05e-3  # m: radius of the nylon filament of real phantoms
AXIAL_SPACINGS = (2e-3, 1e-3, 0.5e-3, 0.25e-3)  # m
LATERAL_SPACINGS = (5e-3, 3e-3, 2e-3, 1e-3, 0.5e-3)  # m
NEAR_RANGES = (1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 6e-3, 7e-3, 8e-3)  # m
_USED = 0.8  # share of the view's half width in which targets are put

Place = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All [m], in the probe frame.

    ``wire`` radius of every wire; ``column`` (x, z) down the middle; ``row`` (x, z) across; ``axial_pairs`` and
    ``lateral_pairs`` (x, z) of the middle of a pair, one for each spacing, ``pair_wires`` their wires; ``cysts``
    anechoic and ``grey`` discs.
    """

    wire: float
    column: tuple[Place, ...]
    row: tuple[Place, ...]
    row_spacing: float
    axial_pairs: tuple[Place, ...]
    lateral_pairs: tuple[Place, ...]
    cysts: tuple[Disc, ...]
    grey: tuple[Disc, ...]

    pair_wires: tuple[Place, ...]

    def wires(self) -> list[Disc]:
        """Every wire."""
        return wires([*self.column, *self.row, *self.pair_wires], self.wire)


def wires(places: list[Place], radius: float) -> list[Disc]:
    """Wires of ``radius`` [m] at (x, z) [m]."""
    return [Disc(x=x, z=z, radius=radius, medium=Medium.WIRE) for x, z in places]


def make_plan(transducer: Transducer) -> Plan:
    """The plan for a probe at its own depth; raises :class:`InvalidInputError` for a radial one."""
    if transducer.kind == "radial":
        raise InvalidInputError(f"probe {transducer.name!r} looks all round: the phantom has no place for it")
    depth = transducer.depth
    pitch = float(transducer.line_pitch(LINES, torch.tensor([depth]))[0])
    wire = max(THINNEST_WIRE, 0.6 * pitch)  # wide enough to be met by at least one line
    spacing = 10e-3 if depth >= 80e-3 else 5e-3
    deep = 0.55 * depth
    count = int(_USED * half_width(transducer, deep) / spacing)
    axial, lateral = _axial(transducer, 0.35 * depth), _lateral(transducer, 0.65 * depth)
    return Plan(
        wire=wire,
        column=_column(transducer, wire),
        row=tuple((k * spacing, deep) for k in range(-count, count + 1) if k),
        row_spacing=spacing,
        axial_pairs=axial,
        lateral_pairs=lateral,
        pair_wires=_pair_wires(transducer, wire, axial, lateral),
        cysts=_cysts(depth),
        grey=_grey(transducer),
    )


def near_wires(transducer: Transducer) -> list[Disc]:
    """Wires at :data:`NEAR_RANGES` along scan lines of their own."""
    count = len(NEAR_RANGES)
    fractions = [0.8 * (i / (count - 1) - 0.5) for i in range(count)]
    return wires([_polar(transducer, f, r) for f, r in zip(fractions, NEAR_RANGES, strict=True)], THINNEST_WIRE)


def half_width(transducer: Transducer, z: float) -> float:
    """Half width [m] of the view ``z`` [m] below the face centre."""
    if transducer.kind == "linear":
        return 0.5 * transducer.width
    return (transducer.radius + z) * math.tan(min(0.5 * transducer.field_of_view, 1.2))


def _polar(transducer: Transducer, fraction: float, distance: float) -> Place:
    """``distance`` [m] along the scan line at ``fraction`` -1/2 .. 1/2 of the view."""
    if transducer.kind == "linear":
        return fraction * transducer.width, distance
    angle = fraction * transducer.field_of_view
    reach = transducer.radius + distance
    return reach * math.sin(angle), reach * math.cos(angle) - transducer.radius


def _pair_wires(
    transducer: Transducer, wire: float, axial: tuple[Place, ...], lateral: tuple[Place, ...]
) -> tuple[Place, ...]:
    """Pairs along, and across, the scan line of their middle. The far wire stands beside the shadow of the near one."""
    ends = [(place, 2.2 * wire, gap) for place, gap in zip(axial, AXIAL_SPACINGS, strict=True)]
    ends += [(place, gap, 0.0) for place, gap in zip(lateral, LATERAL_SPACINGS, strict=True)]
    places = []
    for (x, z), across, along in ends:
        angle = 0.0 if transducer.kind == "linear" else math.atan2(x, z + transducer.radius)
        cosine, sine = 0.5 * math.cos(angle), 0.5 * math.sin(angle)
        places += [
            (x + s * (across * cosine + along * sine), z + s * (along * cosine - across * sine)) for s in (-1, 1)
        ]
    return tuple(places)


def _column(transducer: Transducer, wire: float) -> tuple[Place, ...]:
    """Nine wires a tenth of the depth apart, each just beside the shadows of those above."""
    ranges = [0.1 * i * transducer.depth for i in range(1, 10)]
    full = transducer.width if transducer.kind == "linear" else transducer.field_of_view
    half = [wire / (full * (1.0 if transducer.kind == "linear" else transducer.radius + r)) for r in ranges]
    fraction = [0.0]
    for upper, lower in itertools.pairwise(half):
        fraction.append(fraction[-1] + 1.25 * (upper + lower))
    return tuple(_polar(transducer, f - 0.5 * fraction[-1], r) for f, r in zip(fraction, ranges, strict=True))


def _width(transducer: Transducer, z: float) -> float:
    return float(lateral_width(transducer, torch.tensor(z)))


def _axial(transducer: Transducer, z: float) -> tuple[Place, ...]:
    gap = 4.0 * _width(transducer, z)
    return tuple((-(i + 1.5) * gap, z) for i in range(len(AXIAL_SPACINGS)))


def _lateral(transducer: Transducer, z: float) -> tuple[Place, ...]:
    """The two widest pairs on the left, the others on the right."""
    gap = 4.0 * _width(transducer, z)
    places, left, right = [], -0.75 * gap, 0.75 * gap
    for i, spacing in enumerate(LATERAL_SPACINGS):
        if i < 2:
            places.append((left - 0.5 * spacing, z))
            left -= spacing + gap
        else:
            places.append((right + 0.5 * spacing, z))
            right += spacing + gap
    return tuple(places)


def _cysts(depth: float) -> tuple[Disc, ...]:
    radius = depth / 30.0
    places = ((0.0, 0.2, 1.0), (0.0, 0.72, 1.0), (-5.0, 0.72, 0.6), (5.0, 0.72, 0.35))
    return tuple(
        Disc(x=x * radius, z=z * depth, radius=share * radius, medium=Medium.ANECHOIC) for x, z, share in places
    )


def _grey(transducer: Transducer) -> tuple[Disc, ...]:
    radius, z = transducer.depth / 25.0, 0.45 * transducer.depth
    return tuple(
        Disc(x=(i - 2) * 3.5 * radius, z=z, radius=radius, medium=medium) for i, medium in enumerate(GREY_DECIBELS)
    )
