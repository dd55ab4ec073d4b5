"""Liver, spleen and the other organs of the upper abdomen. Millimetres, patient frame."""

from __future__ import annotations

import numpy as np

from sonogym.anatomy.patients.canvas import ROOM, Canvas
from sonogym.anatomy.patients.kidneys import paint_kidneys
from sonogym.anatomy.patients.params import PatientParams
from sonogym.anatomy.patients.sdf import Number, Point, ball, chain, grown
from sonogym.anatomy.patients.soft_tissue import Trunk
from sonogym.anatomy.patients.spine import Spine
from sonogym.anatomy.tissues import Tissue

_SPARE = 12.0  # mm an organ may grow beyond its solid to reach its drawn volume
_SPARE_RIGHT = 28.0  # mm for the liver right of the spine: a slim chest lets it grow only along the wall


class Frame:
    """Places points given as (right, in front of the body, above L3) at unit size."""

    def __init__(self, params: PatientParams, spine: Spine, drop: float = 0.0) -> None:
        self._size, self._spine, self._drop = params.size, spine, drop

    def __call__(self, x: Number, y: Number, z: Number) -> np.ndarray:
        """One place [mm]."""
        height = self._size * z
        body = self._spine.body_at(np.array([height]))[0]
        return np.array([0.6 * body[0] + self._size * x, body[1] + self._size * y, height - self._drop])

    def path(self, *points: Point) -> np.ndarray:
        """Several places (n, 3) [mm]."""
        return np.array([self(*point) for point in points])


def paint_organs(canvas: Canvas, params: PatientParams, spine: Spine, trunk: Trunk) -> dict[str, np.ndarray]:
    """Kidneys, liver, gall bladder, spleen, stomach, pancreas; their landmarks [mm]."""
    marks = paint_kidneys(canvas, params, spine)
    at, s = Frame(params, spine), params.size
    radii = np.array([(9.0, 12.0), (8.0, 9.0), (8.0, 9.0), (7.0, 8.0)]) * s
    path = at.path((27, 38, 68), (2, 46, 78), (-38, 34, 92), (-70, 12, 106))
    canvas.stamp(chain(path, radii, u=(0, 1, 0)), Tissue.PANCREAS, ROOM)
    marks["pancreas"] = path[2]
    marks |= _paint_liver(canvas, params, spine, trunk)
    marks["spleen"] = _paint_spleen(canvas, params, spine)
    marks["stomach"] = _paint_stomach(canvas, params, at, trunk)
    return marks


def _paint_liver(canvas: Canvas, params: PatientParams, spine: Spine, outline: Trunk) -> dict[str, np.ndarray]:
    """Three blended ellipsoids that fill what dome, wall, kidney and cava leave; veins, portal vein, gall bladder.

    Returns the middles of the liver and of the gall bladder, and where the hepatic veins meet [mm].
    """
    at, g = (
        Frame(params, spine, params.liver_drop),
        params.size * (params.liver_volume / 1500.0 / params.size**3) ** (1 / 3),
    )
    lobes = [
        ball(at(66, 34, 128).tolist(), (66 * g, 72 * g, 70 * g), (0, 0, 1), (1, 0, 0), p=2.3),
        ball(at(-4, 66, 142).tolist(), (66 * g, 34 * g, 36 * g), (0.25, 0, 1), (1, 0, -0.25), k=3.9),
        ball(at(86, 26, 76).tolist(), (36 * g, 48 * g, 62 * g), (0.1, 0, 1), (1, 0, 0), k=3.9),
    ]
    field, where = canvas.field(grown(np.concatenate(lobes), _SPARE_RIGHT))
    x, y, z = canvas.coordinates(where)
    axis = spine.body_at(z.ravel())
    aside, ahead = (x - axis[:, 0]) / (33.0 * params.size), (y - axis[:, 1]) / (30.0 * params.size)
    left = np.clip((axis[:, 0] - x) / (40.0 * params.size), 0.0, 1.0)  # where the stomach keeps its room
    # the crura and the fat round the spine keep the liver off it
    barred = (aside * aside + ahead * ahead < 1.0) | (field > left * (_SPARE - _SPARE_RIGHT))
    field = np.where(barred, 1e3, field)
    field = field - canvas.level(field, where, ROOM, params.liver_volume)
    canvas.fill(field, where, [(0.0, Tissue.CONNECTIVE), (1.0, Tissue.LIVER)], ROOM)
    inside = (Tissue.LIVER,)
    confluence = (20, 38, 168)
    for end, r in (((92, 8, 138), 3.6), ((66, 72, 132), 3.4), ((-8, 70, 148), 3.0)):
        middle = tuple(0.5 * (a + b) + c for a, b, c in zip(confluence, end, (0, 4, 8), strict=True))
        path = at.path(confluence, middle, end)  # type: ignore[arg-type]
        canvas.stamp(chain(path, np.outer([1.2, 1.0, 0.5], [r, r]) * g), Tissue.BLOOD, inside)
    trunk = at.path((0, 38, 72), (16, 42, 88), (34, 48, 104), (62, 42, 106), (92, 34, 100))
    left = at.path((34, 48, 104), (14, 66, 122), (-18, 74, 134))
    for path, size in ((trunk, (6.0, 6.0, 5.6, 4.4, 2.4)), (left, (4.6, 3.6, 2.0))):
        rows = chain(path, np.outer(size, [1.0, 1.0]) * params.size * params.vessel)
        canvas.stamp(grown(rows, 1.6), Tissue.CONNECTIVE, (*inside, *ROOM, Tissue.PANCREAS))
        canvas.stamp(rows, Tissue.BLOOD, (*inside, *ROOM, Tissue.PANCREAS, Tissue.CONNECTIVE))
    gall = outline.kept(at(50, 74, 66), 12.0 * g)
    bladder = ball(gall.tolist(), (13 * g, 14 * g, 36 * g), (0.25, 0.45, -0.85), (1, 0, 0.3))
    canvas.layered(bladder, [(0.0, Tissue.CONNECTIVE), (2.0, Tissue.BILE)], (*inside, *ROOM, Tissue.CONNECTIVE))
    return {"liver": at(86, 30, 116), "gall_bladder": gall, "hepatic_veins": at(*confluence)}


def _paint_spleen(canvas: Canvas, params: PatientParams, spine: Spine) -> np.ndarray:
    at, g = Frame(params, spine), (params.spleen_volume / 190.0) ** (1 / 3)
    centre = at(-89, 6, 112)
    half = (24 * g, 38 * g, 54 * g)
    rows = ball(centre.tolist(), half, (-0.25, 0.55, -0.8), (1.0, 0.45, 0.0), p=2.2)
    field, where = canvas.field(grown(rows, _SPARE))
    field = field - canvas.level(field, where, ROOM, params.spleen_volume)
    canvas.fill(field, where, [(0.0, Tissue.CONNECTIVE), (1.0, Tissue.SPLEEN)], ROOM)
    return centre


def _paint_stomach(canvas: Canvas, params: PatientParams, at: Frame, trunk: Trunk) -> np.ndarray:
    """Fundus under the left dome, body, antrum; gas where it rises to. Returns the middle of the body [mm]."""
    s = params.size
    path = at.path((-58, 34, 158), (-62, 50, 122), (-46, 74, 88), (-6, 78, 70), (26, 66, 74))
    wide = np.array([30.0, 34.0, 27.0, 20.0, 13.0]) * s
    path = np.array([trunk.kept(point, 0.7 * float(r)) for point, r in zip(path, wide, strict=True)])
    rows = chain(path, np.outer(wide, [1.0, 0.85]), cap=18.0)
    field, where = canvas.field(rows)
    canvas.fill(field, where, [(0.0, Tissue.STOMACH)], ROOM)
    y = canvas.coordinates(where)[1]
    level = at(0, 34, 150)[1] + (-22.0 if params.prone else 26.0) * s
    risen = y < level if params.prone else y > level
    canvas.fill(np.where(risen, field, 1e3), where, [(4.0, Tissue.AIR)], (Tissue.STOMACH,))
    return path[2]
