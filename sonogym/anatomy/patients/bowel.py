"""Colon and small bowel: tubes along drawn paths, with gas where it rises to. Millimetres."""

from __future__ import annotations

import numpy as np

from sonogym.anatomy.patients.canvas import ROOM, Canvas
from sonogym.anatomy.patients.drawing import unit_draws
from sonogym.anatomy.patients.params import PatientParams
from sonogym.anatomy.patients.sdf import chain, grown
from sonogym.anatomy.patients.soft_tissue import SKIN, Trunk
from sonogym.anatomy.patients.spine import Spine
from sonogym.anatomy.tissues import Tissue

_WALL = 2.5  # mm
_FLUID_PART = {"colon": 0.1, "duodenum": 0.3, "loops": 0.4}  # of the segments hold liquid instead of paste
# segments of small bowel at BMI 20, fewer of them a unit more, as the fat between them grows, and their calibre: at L3
# and BMI 23.5 that fat is 121 (men) and 67 cm2 (women), the retroperitoneal one included (Kong 2022, 1787 CT)
_LOOPS = {False: (150.0, 6.5, 1.0), True: (360.0, 14.0, 1.25)}
_FEWEST, _MOST = 80, 360
# right (+1 is the inner wall), forward (0 at the bodies' front, 1 at the wall), above L3 at unit size, radius
_COLON = (
    (0.72, 0.42, -88, 22), (0.80, 0.34, -45, 22), (0.80, 0.30, 0, 21), (0.74, 0.36, 34, 20), (0.45, 0.72, 30, 19),
    (0.0, 0.80, 18, 18), (-0.42, 0.72, 34, 18), (-0.74, 0.22, 78, 18), (-0.84, 0.18, 40, 16), (-0.86, 0.22, -10, 15),
    (-0.82, 0.32, -60, 15), (-0.62, 0.36, -100, 15), (-0.25, 0.15, -130, 16), (0.0, 0.05, -160, 17),
)  # fmt: skip
_DUODENUM = ((22, 68, 72, 11), (38, 46, 68, 12), (43, 36, 34, 12), (24, 38, 8, 11), (-18, 40, 14, 11))


class _Cavity:
    """Abdominal cavity in parts of its inner width and of its depth in front of the spine."""

    def __init__(self, params: PatientParams, spine: Spine, trunk: Trunk) -> None:
        self._spine, self._trunk, self._size = spine, trunk, params.size

    def place(self, aside: np.ndarray, ahead: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Points (n, 3) [mm] at heights ``z`` [mm]."""
        wall = [self._reach(angle, z) for angle in (0.0, 0.5 * np.pi)]
        k = self._slices(z)
        body = self._spine.body_at(z)[:, 1] + 20.0 * self._size
        front = self._trunk.centre[k, 1] + wall[1]
        return np.stack([self._trunk.centre[k, 0] + aside * wall[0], body + ahead * (front - body), z], -1)

    def _slices(self, z: np.ndarray) -> np.ndarray:
        step = self._trunk.z[1] - self._trunk.z[0]
        return np.clip(np.rint((z - self._trunk.z[0]) / step).astype(int), 0, len(self._trunk.z) - 1)

    def _reach(self, angle: float, z: np.ndarray) -> np.ndarray:
        trunk, k = self._trunk, self._slices(z)
        j = round(angle / (2.0 * np.pi) * trunk.radius.shape[1])
        return trunk.radius[k, j] - SKIN - trunk.fat[k, j] - trunk.wall[k, j]


def _small_bowel(params: PatientParams) -> np.ndarray:
    """A wandering path in the cavity's unit box, (steps, 3): each step keeps most of its direction."""
    full, fewer, _ = _LOOPS[params.female]
    steps = round(min(max(full - fewer * (params.bmi - 20.0), _FEWEST), _MOST))
    draws = unit_draws(params.seed, "small_bowel", 3 * steps).reshape(steps, 3).astype(np.float64)
    low, high = np.array([-0.72, 0.05, -125.0]), np.array([0.72, 0.9, 48.0])
    step = np.array([0.21, 0.24, 24.0])
    point, heading, path = low + (high - low) * draws[0], np.zeros(3), []
    for draw in draws:
        heading = 0.8 * heading + (2.0 * draw - 1.0)
        point = point + step * heading / max(float(np.linalg.norm(heading)), 1e-6)
        outside = (point < low) | (point > high)
        heading[outside] *= -1.0
        point = np.where(point < low, 2 * low - point, np.where(point > high, 2 * high - point, point))
        path.append(point)
    return np.array(path)


def paint_bowel(canvas: Canvas, params: PatientParams, spine: Spine, trunk: Trunk) -> None:
    """Colon round the flanks, duodenum, and loops of small bowel between them, in that order."""
    s, cavity = params.size, _Cavity(params, spine, trunk)
    table = np.array(_COLON)
    colon = cavity.place(table[:, 0], table[:, 1], s * table[:, 2])
    _tube(canvas, params, colon, s * table[:, 3], 1.8, "colon")
    duodenum = np.array(_DUODENUM) * s
    duodenum[:, :2] += spine.body_at(duodenum[:, 2])
    _tube(canvas, params, duodenum[:, :3], duodenum[:, 3], 0.5, "duodenum")
    path = _small_bowel(params)
    radii = s * _LOOPS[params.female][2] * (9.0 + 4.0 * unit_draws(params.seed, "bowel_radius", len(path)))
    _tube(canvas, params, cavity.place(path[:, 0], path[:, 1], s * path[:, 2]), radii.astype(np.float64), 0.4, "loops")


def _tube(
    canvas: Canvas, params: PatientParams, points: np.ndarray, radii: np.ndarray, gassy: float, name: str
) -> None:
    """One gut: each segment painted over room only; a drawn part of them holds gas above its level."""
    gas = unit_draws(params.seed, f"gas_{name}", len(points)) < gassy * params.gas
    fluid = unit_draws(params.seed, f"fluid_{name}", len(points)) < _FLUID_PART[name]
    for i in range(len(points) - 1):
        rows = chain(points[i : i + 2], np.stack([radii[i : i + 2]] * 2, -1), u=(0.3, 1.0, 0.2), cap=0.8 * radii[i])
        canvas.stamp(rows, Tissue.BOWEL, ROOM)
        if fluid[i]:
            canvas.stamp(grown(rows, -_WALL), Tissue.FLUID, (Tissue.BOWEL,))
        if gas[i]:
            _fill_gas(canvas, rows, float(points[i : i + 2, 1].mean()), 0.15 * radii[i], params.prone)


def _fill_gas(canvas: Canvas, rows: np.ndarray, middle: float, lift: float, prone: bool) -> None:
    field, where = canvas.field(rows)
    y = canvas.coordinates(where)[1]
    risen = y < middle - lift if prone else y > middle + lift
    canvas.fill(np.where(risen, field, 1e3), where, [(_WALL, Tissue.AIR)], (Tissue.BOWEL, Tissue.FLUID))
