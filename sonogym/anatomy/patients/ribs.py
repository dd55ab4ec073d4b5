"""Ribs, costal cartilages and the lower end of the breastbone. Millimetres."""

from __future__ import annotations

import numpy as np

from sonogym.anatomy.patients.canvas import SOFT, Canvas
from sonogym.anatomy.patients.params import PatientParams
from sonogym.anatomy.patients.pelvis import shell
from sonogym.anatomy.patients.sdf import chain
from sonogym.anatomy.patients.soft_tissue import Trunk
from sonogym.anatomy.patients.spine import Spine
from sonogym.anatomy.tissues import Tissue

_RIBS = {  # rib: angles where it starts and ends (deg from the side, + forward), drop at the back and per radian
    5: (-62.0, 58.0, 34.0, 44.0), 6: (-62.0, 55.0, 34.0, 46.0), 7: (-62.0, 52.0, 34.0, 46.0),
    8: (-62.0, 46.0, 32.0, 44.0), 9: (-62.0, 38.0, 31.0, 42.0), 10: (-62.0, 24.0, 30.0, 40.0),
    11: (-60.0, -4.0, 28.0, 42.0), 12: (-60.0, -32.0, 26.0, 42.0),
}  # fmt: skip
_CARTILAGE = {5: (80.0, 4.0), 6: (80.0, 22.0), 7: (82.0, 42.0), 8: (68.0, 46.0), 9: (58.0, 40.0), 10: (44.0, 30.0)}
_STERNUM_FALL = 10.0  # mm of the breastbone's tip below T9


def _rib(number: int, params: PatientParams, spine: Spine, trunk: Trunk, side: float) -> np.ndarray:
    """Points from the vertebra round the wall, falling as it goes, (14, 3)."""
    first, last, neck, fall = _RIBS[number]
    s = params.size
    index = max(number - 8, 0)
    head = spine.rotation[index] @ np.array([side * 17.0 * s, -19.0 * s, 6.0 * s]) + spine.origin[index]
    head[2] += max(8 - number, 0) * 26.0 * s
    tubercle = head + np.array([side * 16.0 * s, -13.0 * s, -7.0 * s])
    angle = np.radians(np.linspace(first, last, 12))
    z = head[2] - s * params.rib_drop * (neck * 0.8 + fall * (angle - angle[0]))
    around = angle if side > 0 else np.pi - angle
    return np.vstack([head, tubercle, trunk.inside(around, z, 9.0 * s)])


def _cartilage(number: int, params: PatientParams, trunk: Trunk, end: np.ndarray, side: float) -> np.ndarray:
    """Points of the cartilage: on from the rib's end, then up to the breastbone or the cartilage above, (8, 3)."""
    last, rise = _CARTILAGE[number]
    t = np.linspace(0.0, 1.0, 8)
    angle = np.radians(_RIBS[number][1] + t * (last - _RIBS[number][1]))
    z = end[2] + params.size * (rise * t**2 * 1.25 - 12.0 * t * (1.0 - t))
    points = trunk.inside(angle if side > 0 else np.pi - angle, z, 8.0 * params.size)
    points[0] = end
    return points


def paint_ribs(canvas: Canvas, params: PatientParams, spine: Spine, trunk: Trunk) -> None:
    """Ribs 5-12 as far as the grid holds them (11 high, 6.5 thick), the cartilages of 5-10, the breastbone's end."""
    s = params.size
    for number in _RIBS:
        for side in (1.0, -1.0):
            points = _rib(number, params, spine, trunk, side)
            if number in _CARTILAGE:
                gristle = _cartilage(number, params, trunk, points[-1], side)
                rows = chain(gristle, np.tile([5.2 * s, 3.4 * s], (8, 1)), u=(0.0, 0.0, 1.0), p=2.2, cap=3.0)
                canvas.stamp(rows, Tissue.CARTILAGE, SOFT)
            rows = chain(points, np.tile([5.4 * s, 3.3 * s], (len(points), 1)), u=(0.0, 0.0, 1.0), p=2.2, cap=3.0)
            canvas.layered(rows, shell(1.3), (*SOFT, Tissue.CARTILAGE))
    top = float(spine.at("T8")[2]) + 30.0 * s
    z = np.linspace(float(spine.at("T9")[2]) - _STERNUM_FALL * s, top, 4)
    points = trunk.inside(np.full(4, 0.5 * np.pi), z, 7.0 * s)
    canvas.layered(chain(points, np.array([[6.0, 3.5], [11.0, 4.5], [15.0, 5.0], [17.0, 5.5]]) * s, p=2.4),
                   shell(1.3), (*SOFT, Tissue.CARTILAGE))  # fmt: skip
