"""Muscles of the back, quadratus lumborum and psoas in their fasciae, and the fat between their fibres. Millimetres."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any, no_type_check

import numpy as np
from numba import njit

from sonogym.anatomy.patients.canvas import SOFT, Canvas
from sonogym.anatomy.patients.drawing import unit_draws
from sonogym.anatomy.patients.params import PatientParams
from sonogym.anatomy.patients.portable import settled
from sonogym.anatomy.patients.sdf import bounds, chain, grown
from sonogym.anatomy.patients.spine import Spine
from sonogym.anatomy.tissues import Tissue

_FASCIA = 0.8
_STREAK = np.array([7.5, 7.5, 24.0])  # mm between the nodes of the fat in muscle: fibres run along the back
_ERECTOR_SHARE = 0.76  # of the multifidus' fat fraction (Si 2023: 12.4 / 16.2 and 16.0 / 21.1)


def _erector(params: PatientParams, spine: Spine, side: float) -> np.ndarray:
    z = np.array([-150.0, -130.0, -105.0, -80.0, -35.0, 0.0, 40.0, 80.0, 120.0, 160.0, 220.0]) * params.size
    m = np.interp(
        z / params.size, [-150, -130, -80, -35, 0, 80, 160, 220], [0.4, 0.5, 0.82, 1.02, 1.0, 0.82, 0.66, 0.6]
    )
    m = m * params.muscle
    body = spine.body_at(z)
    points = np.stack([body[:, 0] + side * 33.0 * params.size, body[:, 1] - params.size * (33.0 + 22.0 * m), z], -1)
    return chain(points, params.size * np.stack([30.0 * m**0.7, 22.5 * m], -1), p=2.6, cap=3.0)


def _multifidus(params: PatientParams, spine: Spine, side: float) -> np.ndarray:
    z = np.array([-110.0, -75.0, -35.0, 0.0, 40.0, 80.0, 120.0]) * params.size
    r = np.array([9.0, 12.5, 12.5, 11.5, 10.5, 9.5, 8.0]) * params.size * params.muscle
    body = spine.body_at(z)
    points = np.stack([body[:, 0] + side * (r + 3.0), body[:, 1] - params.size * 44.0 - 0.6 * r, z], -1)
    return chain(points, np.stack([r, 1.15 * r], -1), p=2.3, cap=3.0)


def _psoas(params: PatientParams, spine: Spine, side: float) -> np.ndarray:
    s, m = params.size, params.muscle
    at: list[tuple[Any, ...]] = [
        ("T12", 24, -6, -6, 3.5, 6),
        ("L1", 26, -7, -4, 6, 9),
        ("L2", 29, -7, 0, 9, 13),
        ("L3", 33, -6, 0, 12.5, 16.5),
    ]
    at += [("L4", 38.5, -4, 0, 16, 19.5), ("L5", 45, 2, 0, 17.5, 20)]
    points = [spine.local(level, (side * s * x, s * y, s * z)) for level, x, y, z, _, _ in at]
    points += [spine.sacral((side * s * 54, s * 16, -s * 10)), spine.sacral((side * s * 66, s * 36, -s * 42))]
    radii = np.array([(a, b) for *_, a, b in at] + [(17, 18), (16, 16)]) * s * m
    main = np.array(points)[::-1]
    lobe = main[2:] - np.array([side * 6.0 * s, 11.0 * s, 0.0])  # fills the corner between body and transverse process
    return np.concatenate([
        chain(main, radii[::-1], p=2.4, cap=5.0),
        chain(lobe, radii[::-1][2:] * np.array([0.75, 0.62]), p=2.2, cap=5.0),
    ])  # fmt: skip


def _quadratus(params: PatientParams, spine: Spine, side: float) -> np.ndarray:
    s = params.size
    at: list[tuple[Any, ...]] = [
        ("T12", 42, -36, -8, 8, 4),
        ("L1", 47, -36, 0, 11, 5),
        ("L2", 53, -35, 0, 14, 6.5),
        ("L3", 60, -32, 0, 17, 8),
    ]
    at += [("L4", 66, -28, 0, 18.5, 8.5), ("L5", 73, -26, 6, 16, 7)]
    points = np.array([spine.local(level, (side * s * x, s * y, s * z)) for level, x, y, z, _, _ in at])
    return chain(points[::-1], s * params.muscle * np.array([(a, b) for *_, a, b in at])[::-1], p=2.3, cap=4.0)


def paint_muscles(canvas: Canvas, params: PatientParams, spine: Spine) -> None:
    """Back muscles in the thoracolumbar fascia, quadratus lumborum, psoas; the wall gives way to them."""
    over = (*SOFT, Tissue.CONNECTIVE)
    for side, name in ((1.0, "right"), (-1.0, "left")):
        erector, multifidus = _erector(params, spine, side), _multifidus(params, spine, side)
        both = np.concatenate([erector, multifidus])
        canvas.stamp(grown(both, max(_FASCIA, 0.6 * canvas.grid.spacing)), Tissue.CONNECTIVE, over)
        canvas.stamp(both, Tissue.MUSCLE, over)
        _infiltrate(canvas, params, grown(erector, -3.0), _ERECTOR_SHARE * params.infiltration, f"fat_erector_{name}")
        _infiltrate(canvas, params, grown(multifidus, -1.5), params.infiltration, f"fat_multifidus_{name}")
        for rows in (_quadratus(params, spine, side), _psoas(params, spine, side)):
            canvas.stamp(grown(rows, 0.5), Tissue.CONNECTIVE, (Tissue.VISCERAL_FAT,))
            canvas.stamp(rows, Tissue.MUSCLE, over)


def _infiltrate(canvas: Canvas, params: PatientParams, rows: np.ndarray, part: float, name: str) -> None:
    """Turn ``part`` of the muscle inside the rows into sheets of fat."""
    field, where = canvas.field(rows)
    corner = np.array([canvas.grid.corner[i] + canvas.grid.spacing * where[i].start for i in range(3)])
    low, high = bounds(rows)
    first = np.floor(low / _STREAK)
    count = (np.ceil(high / _STREAK) - first).astype(int) + 2
    nodes = unit_draws(params.seed, name, int(count.prod())).reshape(tuple(count))
    # the mean of trilinearly weighted uniforms spreads by about .16 round a half; sheets lie where it is near a half
    threshold = round(0.16 * NormalDist().inv_cdf(0.5 + 0.5 * part), 4)
    origin = settled(first * _STREAK)
    streak_fat(canvas.labels[where], field, corner, canvas.grid.spacing, nodes, origin, _STREAK, threshold)


@njit(cache=True)
@no_type_check
def streak_fat(labels, field, corner, spacing, nodes, origin, step, threshold):
    """Muscle inside the field becomes fat where trilinear noise is within the threshold of a half: curved sheets."""
    for i in range(labels.shape[0]):
        u = (corner[0] + spacing * i - origin[0]) / step[0]
        a = int(u)
        u -= a
        for j in range(labels.shape[1]):
            v = (corner[1] + spacing * j - origin[1]) / step[1]
            b = int(v)
            v -= b
            for m in range(labels.shape[2]):
                if field[i, j, m] >= 0.0 or labels[i, j, m] != 4:
                    continue
                w = (corner[2] + spacing * m - origin[2]) / step[2]
                c = int(w)
                w -= c
                low = (nodes[a, b, c] * (1 - u) + nodes[a + 1, b, c] * u) * (1 - v)
                low += (nodes[a, b + 1, c] * (1 - u) + nodes[a + 1, b + 1, c] * u) * v
                high = (nodes[a, b, c + 1] * (1 - u) + nodes[a + 1, b, c + 1] * u) * (1 - v)
                high += (nodes[a, b + 1, c + 1] * (1 - u) + nodes[a + 1, b + 1, c + 1] * u) * v
                if abs(low + w * (high - low) - 0.5) < threshold:
                    labels[i, j, m] = 20
