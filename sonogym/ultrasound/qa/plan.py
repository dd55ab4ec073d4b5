"""Where the targets of the phantom lie for one probe: groups as in general-purpose phantoms, spaced by its depth.

Round a radial probe the groups lie on arcs in directions of their own. All places and spacings are design choices.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import torch

from sonogym.ultrasound.psf import lateral_width
from sonogym.ultrasound.qa.phantom import GREY_DECIBELS, Disc, Medium
from sonogym.ultrasound.transducer import Transducer

LINES, ALL_ROUND = 1024, 2048  # of the scans of wires; of a radial probe
THINNEST_WIRE = 0.05e-3  # m: radius of the nylon filament of real phantoms
AXIAL_SPACINGS = (2e-3, 1e-3, 0.5e-3, 0.25e-3)  # m
LATERAL_SPACINGS = (5e-3, 3e-3, 2e-3, 1e-3, 0.5e-3)  # m
NEAR_RANGES = (1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 6e-3, 7e-3, 8e-3)  # m
_USED = 0.8  # share of the view's half width in which targets are put
# Directions of the groups round a radial probe, so that none lies in the shadow of another; lines start at 0 and
# distances are measured at 0, 90, 180 and 270 degrees.
_AXIAL_TURN, _LATERAL_TURN, _CYST_TURN, _GREY_TURN = (math.radians(turn) for turn in (130.0, 45.0, 90.0, 180.0))
_SPIRAL = (math.radians(193.0), math.radians(18.0))  # of the column: first wire, and from wire to wire

Place = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All [m], in the probe frame.

    ``wire`` radius of every wire; ``column`` (x, z) at growing depth; ``row`` (x, z) across, or a ring round a radial
    probe; ``vertical`` and ``horizontal`` two wires of these each, whose distance is measured; ``axial_pairs`` and
    ``lateral_pairs`` (x, z) of the middle of a pair, one for each spacing, ``pair_wires`` their wires; ``cysts``
    anechoic and ``grey`` discs.
    """

    wire: float
    column: tuple[Place, ...]
    row: tuple[Place, ...]
    row_spacing: float
    vertical: tuple[Place, Place]
    horizontal: tuple[Place, Place]
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
    """The plan for a probe at its own depth."""
    depth = transducer.depth
    pitch = float(transducer.line_pitch(lines_for(transducer), torch.tensor([depth]))[0])
    wire = max(THINNEST_WIRE, (0.66 if transducer.kind == "radial" else 0.6) * pitch)  # met by at least one line
    spacing = 10e-3 if depth >= 80e-3 else 5e-3
    column, row = _column(transducer, wire), _row(transducer, 0.55 * depth, spacing)
    axial, lateral = _axial(transducer, 0.35 * depth), _lateral(transducer, 0.65 * depth)
    return Plan(
        wire=wire,
        column=column,
        row=row,
        row_spacing=spacing,
        vertical=(row[2], row[0]) if transducer.kind == "radial" else (column[0], column[-1]),
        horizontal=(row[3], row[1]) if transducer.kind == "radial" else (row[0], row[-1]),
        axial_pairs=axial,
        lateral_pairs=lateral,
        pair_wires=_pair_wires(transducer, wire, axial, lateral),
        cysts=_cysts(transducer),
        grey=_grey(transducer),
    )


def lines_for(transducer: Transducer) -> int:
    """Scan lines of the scans of wires."""
    return ALL_ROUND if transducer.kind == "radial" else LINES


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


def range_of(transducer: Transducer, place: Place) -> float:
    """Depth [m] at which the beam meets a place: z below the face, or the distance from a radial probe's."""
    return math.hypot(*place) - transducer.radius if transducer.kind == "radial" else place[1]


def beside(transducer: Transducer, disc: Disc, shift: float) -> Disc:
    """``disc`` moved by ``shift`` [m] across at its depth."""
    turn = math.atan2(disc.x, disc.z)
    x, z = _at(transducer, shift if transducer.kind == "radial" else disc.x + shift,
               range_of(transducer, (disc.x, disc.z)), turn)  # fmt: skip
    return replace(disc, x=x, z=z)


def _at(transducer: Transducer, across: float, distance: float, turn: float) -> Place:
    """``across`` [m] beside the middle at depth ``distance`` [m]; round a radial probe on the arc about ``turn``."""
    if transducer.kind != "radial":
        return across, distance
    reach = transducer.radius + distance
    angle = turn + across / reach
    return reach * math.sin(angle), reach * math.cos(angle)


def _polar(transducer: Transducer, fraction: float, distance: float) -> Place:
    """``distance`` [m] along the scan line at ``fraction`` -1/2 .. 1/2 of the view."""
    if transducer.kind == "linear":
        return fraction * transducer.width, distance
    angle = fraction * transducer.field_of_view
    if transducer.kind == "radial":
        return _at(transducer, 0.0, distance, angle)
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
        angle = 0.0 if transducer.kind == "linear" else math.atan2(x, z + _apex(transducer))
        cosine, sine = 0.5 * math.cos(angle), 0.5 * math.sin(angle)
        places += [
            (x + s * (across * cosine + along * sine), z + s * (along * cosine - across * sine)) for s in (-1, 1)
        ]
    return tuple(places)


def _apex(transducer: Transducer) -> float:
    """How far [m] behind the origin of the probe frame its scan lines meet."""
    return 0.0 if transducer.kind == "radial" else transducer.radius


def _row(transducer: Transducer, z: float, spacing: float) -> tuple[Place, ...]:
    """Wires ``spacing`` [m] apart across the view at depth ``z`` [m], or four on a ring round a radial probe."""
    if transducer.kind == "radial":
        return tuple(_at(transducer, 0.0, z, 0.5 * math.pi * quarter) for quarter in range(4))
    count = int(_USED * half_width(transducer, z) / spacing)
    return tuple((k * spacing, z) for k in range(-count, count + 1) if k)


def _column(transducer: Transducer, wire: float) -> tuple[Place, ...]:
    """Nine wires a tenth of the depth apart, each just beside the shadows of those above."""
    ranges = [0.1 * i * transducer.depth for i in range(1, 10)]
    if transducer.kind == "radial":
        step = 2.0 * math.pi / ALL_ROUND  # on scan lines, none of whose neighbours just grazes a wire
        turns = [round((_SPIRAL[0] + i * _SPIRAL[1]) / step) * step for i in range(len(ranges))]
        return tuple(_at(transducer, 0.0, r, turn) for r, turn in zip(ranges, turns, strict=True))
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
    return tuple(_at(transducer, -(i + 1.5) * gap, z, _AXIAL_TURN) for i in range(len(AXIAL_SPACINGS)))


def _lateral(transducer: Transducer, z: float) -> tuple[Place, ...]:
    """The two widest pairs on the left, the others on the right."""
    gap = 4.0 * _width(transducer, z)
    places, left, right = [], -0.75 * gap, 0.75 * gap
    for i, spacing in enumerate(LATERAL_SPACINGS):
        if i < 2:
            places.append(_at(transducer, left - 0.5 * spacing, z, _LATERAL_TURN))
            left -= spacing + gap
        else:
            places.append(_at(transducer, right + 0.5 * spacing, z, _LATERAL_TURN))
            right += spacing + gap
    return tuple(places)


def _cysts(transducer: Transducer) -> tuple[Disc, ...]:
    deepest = 0.72 * transducer.depth
    radius = max(transducer.depth / 30.0, 1.75 * _width(transducer, deepest))  # wider than the beam that looks into it
    places = ((0.0, 0.2, 1.0), (0.0, 0.72, 1.0), (-5.0, 0.72, 0.6), (5.0, 0.72, 0.35))
    return tuple(
        _disc(_at(transducer, x * radius, z * transducer.depth, _CYST_TURN), share * radius, Medium.ANECHOIC)
        for x, z, share in places
    )


def _grey(transducer: Transducer) -> tuple[Disc, ...]:
    radius, z = transducer.depth / 25.0, 0.45 * transducer.depth
    return tuple(
        _disc(_at(transducer, (i - 2) * 3.5 * radius, z, _GREY_TURN), radius, medium)
        for i, medium in enumerate(GREY_DECIBELS)
    )


def _disc(place: Place, radius: float, medium: Medium) -> Disc:
    return Disc(x=place[0], z=place[1], radius=radius, medium=medium)
