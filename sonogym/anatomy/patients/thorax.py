"""Lungs above the two domes of the diaphragm, and its crura. Millimetres."""

from __future__ import annotations

import numpy as np

from sonogym.anatomy.patients.canvas import Canvas
from sonogym.anatomy.patients.params import PatientParams
from sonogym.anatomy.patients.sdf import chain
from sonogym.anatomy.patients.spine import Spine
from sonogym.anatomy.tissues import Tissue

_DIAPHRAGM = 3.5  # mm, 3-5 in adults
_LEFT_LOWER = 14.0  # mm, the left dome stands lower


def dome_height(params: PatientParams, spine: Spine, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Upper face of the diaphragm [mm] over broadcastable x and y."""
    s = params.size
    centre = spine.at("T10")
    peak = float(spine.at("T9")[2]) + params.dome
    aside, ahead = x - centre[0], y - centre[1] - 58.0 * s
    fall = 62.0 * s * np.abs(ahead / (96.0 * s)) * (ahead / (96.0 * s)) ** 2
    right = peak - 60.0 * s * ((aside - 68.0 * s) / (95.0 * s)) ** 2
    left = peak - _LEFT_LOWER * s - 60.0 * s * ((aside + 68.0 * s) / (95.0 * s)) ** 2
    return np.maximum(right, left) - fall


def paint_lungs(canvas: Canvas, params: PatientParams, spine: Spine) -> dict[str, np.ndarray]:
    """Lung over the domes down to the pleural line (T12 behind, higher in front), diaphragm under it.

    Returns ``lung_right``: the middle of the right lung's part behind the spine's front [mm].
    """
    s, whole = params.size, (slice(None), slice(None), slice(None))
    x, y, z = canvas.coordinates(whole)
    dome = dome_height(params, spine, x, y)
    floor = float(spine.at("T12")[2]) + 8.0 * s + 0.35 * np.maximum(y - spine.at("T10")[1], 0.0)
    line = np.maximum(dome, floor)
    first = int(np.searchsorted(z[0, 0], line.min() - 2.0 * _DIAPHRAGM))
    view = canvas.labels[:, :, first:]
    above = z[:, :, first:] - line
    middle = np.abs(x - spine.at("T10")[0]) < np.where(y < spine.at("T10")[1] + 45.0 * s, 24.0, 34.0) * s
    room = (view == Tissue.VISCERAL_FAT) & ~middle
    view[room & (above > 0.0)] = Tissue.LUNG
    thick = max(_DIAPHRAGM * s, canvas.grid.spacing)
    under = (view == Tissue.VISCERAL_FAT) & (above <= 0.0) & (above > -thick)
    view[under] = Tissue.DIAPHRAGM
    _paint_crura(canvas, params, spine)
    right = np.argwhere((view == Tissue.LUNG) & (x > spine.at("T10")[0]) & (y < spine.at("T10")[1] + 20.0 * s))
    middle = right.mean(axis=0) + np.array([0.0, 0.0, first])
    return {"lung_right": np.array(canvas.grid.corner) + canvas.grid.spacing * middle}


def _paint_crura(canvas: Canvas, params: PatientParams, spine: Spine) -> None:
    s = params.size
    for side, last in ((1.0, "L3"), (-1.0, "L2")):
        places = [(last, 9, 19, 2.5), ("L1", 11, 21, 4.0), ("T12", 11, 24, 4.5), ("T11", 10, 30, 4.5)]
        points = np.array([spine.local(level, (side * s * px, s * py, 0.0)) for level, px, py, _ in places])
        radii = np.array([(0.8 * r, r) for *_, r in places]) * s
        canvas.stamp(chain(points, radii), Tissue.DIAPHRAGM, (Tissue.VISCERAL_FAT, Tissue.LUNG))
