"""Tests with wires and sheets: resolution along the three axes, distances, dead zone."""

from __future__ import annotations

import math

import numpy as np
import torch

from sonogym.ultrasound.psf import axial_width, elevation_width, lateral_width
from sonogym.ultrasound.qa import measures
from sonogym.ultrasound.qa.phantom import Disc, Medium, sheet, slab
from sonogym.ultrasound.qa.plan import (
    AXIAL_SPACINGS,
    LATERAL_SPACINGS,
    NEAR_RANGES,
    Plan,
    half_width,
    lines_for,
    near_wires,
    range_of,
)
from sonogym.ultrasound.qa.row import Row, at_most, within
from sonogym.ultrasound.qa.scan import Scan, elevation_profile, samples_for, scan
from sonogym.ultrasound.scan_conversion import ScanConverter
from sonogym.ultrasound.transducer import Transducer

_FOUR_LN_2 = 4.0 * math.log(2.0)
_PIXELS = 1024  # of the height of the picture in which distances are measured
_NEAR_DEPTH = 0.02  # m: view of the dead-zone scan
_SHEET_SHARE = 0.25  # half thickness of the elevation target over the beam's width
_SHIFTS = np.linspace(-3.0, 3.0, 73)  # of the probe in elevation, in widths
_VISIBLE = 2.0  # 6 dB above what surrounds it


def scan_wires(transducer: Transducer, plan: Plan, background: Medium) -> Scan:
    """Every wire of the plan in ``background``."""
    body = slab(transducer, transducer.depth, 0.5 * plan.wire, background, plan.wires())
    return scan(
        body, transducer, lines_for(transducer), samples_for(transducer, transducer.depth, 5.0), transducer.depth
    )


def resolution(transducer: Transducer, plan: Plan, wires: Scan) -> list[Row]:
    """Widths of single wires down the middle, and the closest pairs that are seen apart."""
    rows = [row for place in plan.column[::2] for row in _widths(transducer, plan, wires, place)]
    axial = [_along(wires, place, 0.5 * gap + 3.0 * axial_width(transducer))
             for place, gap in zip(plan.axial_pairs, AXIAL_SPACINGS, strict=True)]  # fmt: skip
    lateral = [_across(wires, place, 0.5 * gap + 3.0 * _lateral(transducer, range_of(transducer, place)))
               for place, gap in zip(plan.lateral_pairs, LATERAL_SPACINGS, strict=True)]  # fmt: skip
    beams = (
        _seen_axial(transducer, plan),
        _seen_lateral(transducer, plan, range_of(transducer, plan.lateral_pairs[0])),
    )
    for name, spacings, profiles, width, tolerance in (
        ("axial", AXIAL_SPACINGS, axial, beams[0], 0.10),
        ("lateral", LATERAL_SPACINGS, lateral, beams[1], 0.15),
    ):
        rows.append(_pair_row(name, spacings, measures.smallest_resolved(spacings, profiles), width, tolerance))
    return rows


def _pair_row(name: str, spacings: tuple[float, ...], measured: float, width: float, tolerance: float) -> Row:
    """The closest pair seen apart; between those of beams as much narrower and wider as V7 and V8 leave to a width."""
    smallest = measures.gaussian_pair_resolved(width)
    low, expected, high = (
        1e3 * min((s for s in spacings if s >= share * smallest), default=math.inf)
        for share in (1.0 - tolerance, 1.0, 1.0 + tolerance)
    )
    text = f"closest of {', '.join(f'{1e3 * s:g}' for s in spacings)} mm with a 6 dB valley"
    return Row(
        group="resolution", quantity=f"{name} pair resolved", unit="mm", measured=1e3 * measured, expected=expected,
        low=low - 1e-6, high=high + 1e-6, source=text,
    )  # fmt: skip


def distances(transducer: Transducer, plan: Plan, wires: Scan) -> list[Row]:
    """Distances between wires far apart along and across, in the scan-converted picture."""
    samples, lines = wires.beam.shape
    convert = ScanConverter(transducer, lines, samples, transducer.depth, _PIXELS, _PIXELS)
    image, z, x = convert(wires.beam).double().numpy(), convert.z.double().numpy(), convert.x.double().numpy()

    def found(place: tuple[float, float]) -> tuple[float, float]:
        reach = 0.4 * plan.row_spacing
        down, across = (np.flatnonzero(np.abs(axis - at) <= reach) for axis, at in ((z, place[1]), (x, place[0])))
        window = image[np.ix_(down, across)]
        return measures.centroid(window, z[down], x[across], 0.5 * float(window.max()))

    ends = [[found(place) for place in pair] for pair in (plan.vertical, plan.horizontal)]
    vertical, horizontal = (ends[0][1][0] - ends[0][0][0], ends[1][1][1] - ends[1][0][1])
    down = plan.vertical[1][1] - plan.vertical[0][1]
    across = plan.horizontal[1][0] - plan.horizontal[0][0]
    source = "true distance; limits of 1.5 % along and 2 % across: design"
    return [
        within("distance", "vertical", "mm", 1e3 * vertical, 1e3 * down, 15.0 * down, source),
        within("distance", "horizontal", "mm", 1e3 * horizontal, 1e3 * across, 20.0 * across, source),
    ]


def dead_zone(transducer: Transducer) -> list[Row]:
    """Range of the nearest wire that stands 6 dB above its surroundings; every wire beyond it must as well."""
    discs = near_wires(transducer)
    body = slab(transducer, _NEAR_DEPTH, 0.05e-3, Medium.SILENT, discs)
    near = scan(body, transducer, lines_for(transducer), samples_for(transducer, _NEAR_DEPTH, 5.0), _NEAR_DEPTH)
    nearest = math.inf
    for disc, place in reversed(list(zip(discs, NEAR_RANGES, strict=True))):
        if not _visible(near, disc):
            break
        nearest = place
    megahertz = 1e-6 * transducer.center_frequency
    limit = 7.0 if megahertz < 3.0 else 5.0 if megahertz < 7.0 else 3.0
    source = f"design, at {megahertz:g} MHz; wires every mm, the transmit pulse itself is not simulated"
    return [at_most("dead zone", "nearest wire seen", "mm", 1e3 * nearest, limit, source)]


def elevation(transducer: Transducer) -> list[Row]:
    """Slice thickness: an opaque sheet seen edge-on while the probe slides past it, its own thickness taken off."""
    places = [share * transducer.depth for share in (0.3, 0.5, 0.8)]
    widths = [float(elevation_width(transducer, torch.tensor(place))) for place in places]
    face = transducer.radius if transducer.kind == "radial" else 0.0
    bodies = [
        sheet(place + face, 0.25 * half_width(transducer, place), _SHEET_SHARE * w, 3.5 * w)
        for place, w in zip(places, widths, strict=True)
    ]
    shifts = np.array(widths)[:, None] * _SHIFTS
    samples = samples_for(transducer, transducer.depth, 3.2)
    profiles = elevation_profile(bodies, transducer, shifts, transducer.depth, samples)
    rows = []
    for place, width, shift, profile in zip(places, widths, shifts, profiles, strict=True):
        seen = measures.moment_width(shift, profile)
        measured = math.sqrt(max(seen**2 - 2.0 * _FOUR_LN_2 * (_SHEET_SHARE * width) ** 2 / 3.0, 0.0))
        name = f"elevation width at {1e3 * place:.0f} mm"
        rows.append(
            within("resolution", name, "mm", 1e3 * measured, 1e3 * width, 100.0 * width, "table of the probe, V9")
        )
    return rows


def _widths(transducer: Transducer, plan: Plan, wires: Scan, place: tuple[float, float]) -> list[Row]:
    at = range_of(transducer, place)
    beam = _lateral(transducer, at)
    expected = (_seen_axial(transducer, plan), _seen_lateral(transducer, plan, at))
    step, (row, line) = wires.depth[1] - wires.depth[0], _nearest(wires, *place)
    reach = math.ceil((3.0 * axial_width(transducer) + plan.wire) / step)
    pitch = float(np.hypot(wires.x[row, line + 1] - wires.x[row, line], wires.z[row, line + 1] - wires.z[row, line]))
    side = math.ceil(2.5 * beam / pitch)
    block = wires.envelope[0, max(row - reach, 0) : row + reach + 1, max(line - side, 0) : line + side + 1]
    top, best = np.unravel_index(int(block.argmax()), block.shape)
    measured = (
        measures.full_width(np.arange(block.shape[0]) * step, block[:, best]),
        measures.full_width(np.arange(block.shape[1]) * pitch, block[top]),
    )
    name = f"width at {1e3 * at:.0f} mm"
    return [
        within("resolution", f"axial {name}", "mm", 1e3 * measured[0], 1e3 * expected[0], 100.0 * expected[0],
               ".441 lambda / B_eff (V7), with the wire"),
        within("resolution", f"lateral {name}", "mm", 1e3 * measured[1], 1e3 * expected[1], 150.0 * expected[1],
               "aperture and focus (V8), with the wire"),
    ]  # fmt: skip


def _lateral(transducer: Transducer, z: float) -> float:
    return float(lateral_width(transducer, torch.tensor(z)))


def _seen_axial(transducer: Transducer, plan: Plan) -> float:
    """Width [m] of the echo of a wire's front: its depth varies by r^2 (2/3 - pi^2/16) over the wire."""
    variance = plan.wire**2 * (2.0 / 3.0 - math.pi**2 / 16.0)
    return math.sqrt(axial_width(transducer) ** 2 + 2.0 * _FOUR_LN_2 * variance)


def _seen_lateral(transducer: Transducer, plan: Plan, z: float) -> float:
    """Width [m] of a wire seen by the beam at ``z``: variances add, that of the wire is (2 r)^2 / 12."""
    return math.sqrt(_lateral(transducer, z) ** 2 + 2.0 * _FOUR_LN_2 * plan.wire**2 / 3.0)


def _nearest(scanned: Scan, x: float, z: float) -> tuple[int, int]:
    """Sample and line closest to a place [m]."""
    row, line = np.unravel_index(int(np.hypot(scanned.x - x, scanned.z - z).argmin()), scanned.x.shape)
    return int(row), int(line)


def _along(wires: Scan, place: tuple[float, float], reach: float) -> np.ndarray:
    row, line = _nearest(wires, *place)
    count = math.ceil(reach / (wires.depth[1] - wires.depth[0]))
    return wires.envelope[0, row - count : row + count + 1, line]


def _across(wires: Scan, place: tuple[float, float], reach: float) -> np.ndarray:
    """Highest echo of each line within ``reach`` [m] of a place, over the samples about it."""
    near = np.hypot(wires.x - place[0], wires.z - place[1]) <= reach
    lines = np.flatnonzero(near.any(axis=0))
    part = wires.envelope[0, :, lines[0] : lines[-1] + 1] * near[:, lines[0] : lines[-1] + 1]
    return part.max(axis=0)


def _visible(near: Scan, disc: Disc) -> bool:
    close = np.hypot(near.x - disc.x, near.z - disc.z)
    rows = np.flatnonzero((close < 1e-3).any(axis=1))
    return bool(near.envelope[0][close < 1e-3].max() >= _VISIBLE * np.median(near.envelope[0, rows]))
