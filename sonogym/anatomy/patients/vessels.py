"""Aorta, vena cava, their iliac and renal branches: blood in a thin wall, swept along the bodies. Millimetres."""

from __future__ import annotations

import numpy as np

from sonogym.anatomy.patients.canvas import Canvas
from sonogym.anatomy.patients.params import PatientParams
from sonogym.anatomy.patients.sdf import chain, grown
from sonogym.anatomy.patients.spine import Spine
from sonogym.anatomy.tissues import Tissue

_OVER = (Tissue.VISCERAL_FAT, Tissue.MUSCLE, Tissue.CONNECTIVE, Tissue.DIAPHRAGM, Tissue.LUNG)
_ARTERY_WALL, _VEIN_WALL = 1.5, 0.8  # mm

# level, right of and in front of the body centre, radius (aorta) or half-axes (cava)
_AORTA = (
    ("T8", -16, 26, 11.8), ("T9", -14, 27, 11.5), ("T10", -12, 28, 11.2), ("T11", -10, 29, 10.8),
    ("T12", -9, 29, 10.4), ("L1", -9, 29, 9.8), ("L2", -10, 29, 9.2), ("L3", -10, 29, 8.3), ("L4", -9, 28, 7.2),
)  # fmt: skip
_CAVA = (
    ("T8", 20, 48, 12, 10), ("T9", 22, 44, 12, 10), ("T10", 22, 42, 12, 10), ("T11", 22, 37, 12.5, 9.5),
    ("T12", 21, 33, 12.5, 9), ("L1", 20, 30, 12.8, 9), ("L2", 20, 28, 12.5, 8.5), ("L3", 20, 27, 11.5, 8),
    ("L4", 20, 26, 11, 7.5), ("L5", 17, 25, 10, 7),
)  # fmt: skip


def _tube(canvas: Canvas, points: np.ndarray, radii: np.ndarray, wall: float, content: Tissue = Tissue.BLOOD) -> None:
    rows = chain(points, radii, cap=3.0)
    canvas.stamp(grown(rows, max(wall, 0.6 * canvas.grid.spacing)), Tissue.CONNECTIVE, _OVER)
    canvas.stamp(rows, content, (*_OVER, Tissue.CONNECTIVE))


def aorta_path(params: PatientParams, spine: Spine) -> tuple[np.ndarray, np.ndarray]:
    """Centres (n, 3) from T8 to the fork under L4, and half-axes (n, 2) [mm]."""
    s, shift = params.size, 10.0 - params.aorta_aside
    points = [spine.local(level, (s * (x + shift), s * y, 0.0)) for level, x, y, _ in _AORTA]
    widen = params.vessel * (1.0 + 0.003 * max(params.age - 40.0, 0.0))
    radii = np.array([(r, r) for *_, r in _AORTA]) * s * widen
    fork = spine.local("L4", (s * (-6 + shift), s * 28, -17.0 * s))
    return np.array([*points, fork]), np.vstack([radii, 0.95 * radii[-1]])


def paint_vessels(canvas: Canvas, params: PatientParams, spine: Spine) -> dict[str, np.ndarray]:
    """Veins first, arteries over them; ``aorta_<level>`` and ``cava_<level>`` centres [mm]."""
    s = params.size
    points, radii = aorta_path(params, spine)
    cava = np.array([spine.local(level, (s * x, s * y, 0.0)) for level, x, y, *_ in _CAVA])
    wide = np.array([(a, b) for *_, a, b in _CAVA]) * s * params.vessel
    for side in (1.0, -1.0):
        _iliac(canvas, params, spine, cava[-1], side, 6.5, -5.0, Tissue.VEIN)
    _renal(canvas, params, spine, cava[6], 4.2, 6.0)
    _tube(canvas, cava, wide, _VEIN_WALL, Tissue.VEIN)
    _renal(canvas, params, spine, points[5] + np.array([0, 0, -14.0 * s]), 2.7, -1.0)
    for side in (1.0, -1.0):
        _iliac(canvas, params, spine, points[-1], side, 5.0, 6.0)
    _splanchnic(canvas, params, spine)
    _tube(canvas, points, radii, _ARTERY_WALL)
    levels = [level for level, *_ in _AORTA]
    middles = {"aorta": dict(zip(levels, points, strict=False)), "cava": dict(zip(levels, cava, strict=False))}
    return {f"{name}_{level}": of[level] for name, of in middles.items() for level in ("T12", "L1", "L2", "L3", "L4")}


def _iliac(
    canvas: Canvas, params: PatientParams, spine: Spine, start: np.ndarray, side: float, radius: float, ahead: float,
    content: Tissue = Tissue.BLOOD,
) -> None:  # fmt: skip
    s = params.size
    path = [
        start,
        spine.sacral((side * s * 30, s * (22 + ahead), -s * 4)),
        spine.sacral((side * s * 46, s * (24 + ahead), -s * 45)),
    ]
    _tube(canvas, np.array(path), np.full((3, 2), radius * s * params.vessel), _VEIN_WALL, content)


def _splanchnic(canvas: Canvas, params: PatientParams, spine: Spine) -> None:
    """Coeliac trunk, upper mesenteric artery, and the left renal vein between it and the aorta."""
    s, r = params.size, params.size * params.vessel
    coeliac = [spine.local("L1", (s * x, s * y, s * z)) for x, y, z in ((-9, 34, 12), (-7, 50, 14), (16, 56, 20))]
    mesenteric = [
        spine.local(level, (s * x, s * y, s * z))
        for level, x, y, z in (
            ("L1", -9, 34, -2),
            ("L1", -7, 50, -12),
            ("L2", -5, 54, -6),
            ("L3", -2, 58, 0),
            ("L4", 6, 60, 0),
        )
    ]
    for path, radius in ((coeliac, 3.2), (mesenteric, 3.3)):
        _tube(canvas, np.array(path), np.full((len(path), 2), radius * r), 1.0)


def _renal(canvas: Canvas, params: PatientParams, spine: Spine, start: np.ndarray, radius: float, ahead: float) -> None:
    s = params.size
    for side, sign in ((0, 1.0), (1, -1.0)):
        z = params.kidney_height[side] * s
        body = spine.body_at(np.array([z]))[0]
        hilum = np.array([body[0] + sign * (params.kidney_aside[side] - 24.0) * s, body[1] + (8.0 + ahead) * s, z])
        middle = 0.5 * (start + hilum) + np.array([0.0, (4.0 + ahead) * s, 0.0])
        _tube(canvas, np.array([start, middle, hilum]), np.full((3, 2), radius * s * params.vessel), _VEIN_WALL)
