"""One vertebra: measured sizes, the primitives of its posterior elements, and its body.

Local frame [mm]: origin at the body centre, x right, y forward, z up. Sizes: Wang 2024, Panjabi 1993, Sobottke 2010,
Int J Spine Surg 2021;15:1072 and four CT label maps; T9-T12 continue the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from numba import njit

from sonogym.anatomy.patients.params import LEVELS, PatientParams
from sonogym.anatomy.patients.sdf import Grid, bounds, mirrored, sweep, unite

_TABLE = {
    # width, lower width, depth, height in front, behind, canal w, d, pedicle w, h, transverse tip to tip, its y, z
    "T9": (33.0, 35.0, 29.5, 20.0, 21.0, 18.0, 15.0, 7.0, 13.5, 62.0, -20.0, 8.0),
    "T10": (35.0, 38.0, 30.0, 20.5, 21.5, 18.0, 15.0, 7.0, 14.0, 58.0, -18.0, 8.0),
    "T11": (38.0, 41.0, 31.0, 21.0, 22.5, 19.0, 15.5, 8.0, 15.0, 50.0, -14.0, 5.0),
    "T12": (41.0, 44.0, 32.0, 23.0, 25.0, 21.0, 16.0, 8.5, 15.5, 48.0, -12.0, 3.0),
    "L1": (44.0, 48.0, 33.0, 25.0, 27.0, 23.0, 17.0, 9.0, 15.5, 69.0, -10.0, 6.0),
    "L2": (46.0, 50.0, 33.0, 27.0, 27.5, 23.0, 17.0, 9.0, 15.0, 80.0, -10.0, 7.0),
    "L3": (49.0, 52.0, 34.5, 28.0, 27.5, 24.0, 17.0, 10.0, 15.0, 93.0, -10.0, 7.0),
    "L4": (51.0, 53.0, 36.0, 29.0, 27.0, 25.0, 17.0, 13.0, 15.0, 90.0, -8.0, 6.0),
    "L5": (53.0, 53.0, 36.0, 29.5, 25.0, 28.0, 16.0, 16.0, 13.0, 95.0, 1.0, 2.0),
}
_SPINOUS = {  # length behind the canal centre, height at the tip, tip z, half-lamina angle, lamina height
    "T9": (44.0, 10.0, -22.0, 28.0, 20.0),
    "T10": (42.0, 11.0, -20.0, 28.0, 20.5),
    "T11": (39.0, 14.0, -14.0, 28.0, 21.0),
    "T12": (38.0, 17.0, -9.0, 28.0, 21.5),
    "L1": (40.0, 20.5, -7.5, 28.0, 21.0),
    "L2": (43.0, 21.0, -8.0, 28.0, 21.0),
    "L3": (44.0, 20.0, -8.5, 28.0, 20.5),
    "L4": (42.0, 17.5, -8.0, 32.0, 21.0),
    "L5": (37.0, 14.5, -7.0, 36.0, 20.5),
}
DISC = {
    "T9": 4.5,
    "T10": 5.5,
    "T11": 6.5,
    "T12": 7.5,
    "L1": 9.0,
    "L2": 9.5,
    "L3": 10.3,
    "L4": 10.8,
    "L5": 11.0,
}  # below
_JOINT = {  # below the level: interfacet distance, angle of the joint from the sagittal plane (deg)
    "T8": (22.0, 70.0), "T9": (22.0, 68.0), "T10": (22.0, 62.0), "T11": (23.0, 42.0), "T12": (25.0, 26.0),
    "L1": (26.0, 25.0), "L2": (28.0, 27.0), "L3": (31.0, 33.0), "L4": (36.0, 42.0), "L5": (43.0, 48.0),
}  # fmt: skip
_LAMINA_HALF = 3.4


@dataclass(frozen=True, kw_only=True)
class Joint:
    """A facet joint pair: interfacet distance [mm], angle from the sagittal plane [rad], disc height beside it [mm]."""

    distance: float
    angle: float
    disc: float


@dataclass(frozen=True, kw_only=True)
class LevelShape:
    """Sizes of one vertebra in millimetres, angles in radians."""

    level: str
    width: float
    lower_width: float
    depth: float
    front: float
    back: float
    canal_width: float
    canal_depth: float
    pedicle_width: float
    pedicle_height: float
    transverse: float
    transverse_y: float
    transverse_z: float
    spinous_length: float
    spinous_height: float
    spinous_z: float
    lamina_angle: float
    lamina_height: float
    above: Joint
    below: Joint

    @property
    def height(self) -> float:
        """Mean body height."""
        return 0.5 * (self.front + self.back)

    @property
    def canal_y(self) -> float:
        """Where the canal's centre lies."""
        return -0.5 * self.depth - 0.5 * self.canal_depth + 0.5

    @property
    def wedge(self) -> float:
        """Angle between the end-plates [rad], positive when the front is higher."""
        return float(np.arctan2(self.front - self.back, self.depth))


def _joint(level: str, params: PatientParams) -> Joint:
    distance, angle = _JOINT[level]
    disc = DISC.get(level, 4.0) * params.disc_height
    return Joint(distance=distance * params.size, angle=float(np.radians(angle)), disc=disc * params.size)


def level_shape(params: PatientParams, index: int) -> LevelShape:
    """The drawn sizes of level ``LEVELS[index]``; joints depend on the patient only, so that facets meet."""
    level = LEVELS[index]
    scale = params.size * params.level_scale[index]
    w, lw, d, front, back, cw, cd, pw, ph, tt, ty, tz = (scale * value for value in _TABLE[level])
    length, height, tip, angle, lamina = _SPINOUS[level]
    return LevelShape(
        level=level, width=w, lower_width=lw, depth=d, front=front, back=back, pedicle_width=pw, pedicle_height=ph,
        canal_width=cw * params.canal, canal_depth=cd * params.canal,
        transverse=tt * params.transverse_length, transverse_y=ty, transverse_z=tz,
        spinous_length=scale * length * params.spinous_length, spinous_height=scale * height * params.spinous_height,
        spinous_z=scale * tip, lamina_angle=float(np.radians(angle)), lamina_height=scale * lamina,
        above=_joint(LEVELS[index - 1] if index else "T8", params), below=_joint(level, params),
    )  # fmt: skip


def _pedicles(s: LevelShape) -> list[np.ndarray]:
    x, y, z = 0.5 * (s.canal_width + s.pedicle_width) - 0.5, s.canal_y, 0.5 * (s.height - s.pedicle_height) - 0.5
    w, h = 0.5 * s.pedicle_width, 0.5 * s.pedicle_height
    pedicle = sweep((x, -0.5 * s.depth + 8.0, z), (x + 1.0, y - 1.0, z - 1.0), (w, w, h, h), p=2.4, k=3.0)
    tip = (0.5 * s.transverse - 4.0, y + s.transverse_y, s.transverse_z)
    process = sweep((x + 2.0, y - 1.5, z - 1.5), tip, (4.2, 2.4, 7.5, 4.5), u=(0, 1, 0), p=2.3, k=3.0)
    return [pedicle, process]


def _laminae(s: LevelShape) -> list[np.ndarray]:
    """Bat wings: slabs (p > 3) sloping backwards to the midline, and the pars that carries the joint below."""
    cx, slope = 0.5 * s.canal_width, float(np.tan(s.lamina_angle))
    ap = s.canal_y - 0.5 * s.canal_depth - _LAMINA_HALF
    z = 0.5 * s.height - 9.0 - 0.5 * s.lamina_height
    up = (0.0, float(np.sin(np.radians(18.0))), float(np.cos(np.radians(18.0))))
    half = 0.5 * s.lamina_height
    radii = (half, half, _LAMINA_HALF, _LAMINA_HALF)
    outer = cx + 1.5
    wing = sweep((0, ap - 1.5, z), (outer, ap + slope * outer, z + 1.0), radii, u=up, p=3.2, k=2.5)
    px, zp = 0.5 * (s.canal_width + s.pedicle_width) - 1.0, 0.5 * (s.height - s.pedicle_height) - 0.5
    xi = 0.5 * s.below.distance - 3.8 * np.cos(s.below.angle)
    pars = sweep(
        (px + 0.5, s.canal_y - 2.0, zp - 3.0), (xi + 1.0, ap + 0.8 * slope * xi, z - 4.0), (4.5, 4.5, 3.6, 3.6), k=2.5
    )
    return [wing, pars]


def _joint_y(s: LevelShape) -> float:
    return s.canal_y - 0.275 * s.canal_depth - 3.0


def _articular(s: LevelShape) -> list[np.ndarray]:
    """Inferior plates lie medial of, superior ones lateral of, the same joint plane u = (sin f, -cos f)."""
    ap, slope = s.canal_y - 0.5 * s.canal_depth - _LAMINA_HALF, float(np.tan(s.lamina_angle))
    z, zp = 0.5 * s.height - 9.0 - 0.5 * s.lamina_height, 0.5 * (s.height - s.pedicle_height) - 0.5
    y, half = _joint_y(s), 0.5 * s.height
    f, g = s.below.angle, s.above.angle
    xi = 0.5 * s.below.distance - 3.8 * np.cos(f)
    inferior = sweep(
        (xi, ap + 0.7 * slope * xi, z - 3.0), (xi + 0.3, y - 1.5 - 3.8 * np.sin(f), -half - 0.5 * s.below.disc - 5.0),
        (6.0, 6.5, 3.6, 3.6), u=(np.sin(f), -np.cos(f), 0), p=2.6, k=2.5,
    )  # fmt: skip
    xs = 0.5 * s.above.distance + 3.6 * np.cos(g)
    px = 0.5 * (s.canal_width + s.pedicle_width) - 0.5
    superior = sweep(
        (px + 1.5, s.canal_y - 3.0, zp - 1.0), (xs + 0.3, y - 1.0 + 3.6 * np.sin(g), half + 0.5 * s.above.disc + 3.0),
        (5.5, 7.0, 4.8, 3.6), u=(np.sin(g), -np.cos(g), 0), p=2.6, k=2.5,
    )  # fmt: skip
    at = (xs + 3.0, y - 4.0, zp + 5.0)
    mamillary = sweep(at, (at[0], at[1] - 0.5, at[2]), (3, 3, 3, 3), p=2.0, k=2.0)
    return [inferior, superior, mamillary]


def spinous_tip(s: LevelShape) -> np.ndarray:
    """Local position of the spinous tip (3,) [mm]."""
    return np.array([0.0, s.canal_y - s.spinous_length, s.spinous_z])


def _spinous(s: LevelShape) -> np.ndarray:
    ap = s.canal_y - 0.5 * s.canal_depth - _LAMINA_HALF
    z, tip = 0.5 * s.height - 9.0 - 0.5 * s.lamina_height, spinous_tip(s)
    root, half = min(0.5 * s.lamina_height - 2.0, 0.5 * s.spinous_height), 0.5 * s.spinous_height
    plate = sweep((0, ap + 1.0, z), (0, tip[1] + 5.0, tip[2]), (5.0, 3.2, root, half), p=3.0, k=3.5)
    reach = max(half - 4.5, 1.0)
    bar = sweep(
        (0, tip[1] + 4.2, tip[2] + reach), (0, tip[1] + 4.2, tip[2] - reach), (3.8, 4.6, 4.2, 4.2), cap=4.2, k=2.5
    )
    return np.concatenate([plate, bar])


def posterior_rows(s: LevelShape) -> np.ndarray:
    """Primitives of pedicles, laminae and processes in the local frame."""
    paired = np.concatenate([*_pedicles(s), *_laminae(s), *_articular(s)])
    return np.concatenate([mirrored(paired), _spinous(s)])


def canal_rows(s: LevelShape) -> np.ndarray:
    """The canal's bore in the local frame: an ellipse in front, narrower behind."""
    w, d, y = 0.5 * s.canal_width, 0.5 * s.canal_depth, s.canal_y
    front = sweep((0, y + 0.5, -45), (0, y + 0.5, 45), (w, w, d - 0.5, d - 0.5), p=2.3)
    back = sweep((0, y - 1.5, -45), (0, y - 1.5, 45), (0.7 * w, 0.7 * w, d - 1.0, d - 1.0), p=2.2)
    return np.concatenate([front, back])


def vertebra_field(
    grid: Grid, s: LevelShape, rotation: np.ndarray, origin: np.ndarray, rows: np.ndarray, canal: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[slice, slice, slice]]:
    """Distance [mm] to the vertebra, that to its body alone, and the box of the grid they fill."""
    low, high = bounds(rows)
    reach = 0.5 * s.width + 8.0
    part, where = grid.box(np.minimum(low, origin - reach), np.maximum(high, origin + reach))
    corner = np.array(part.corner)
    field = np.full(part.shape, 1e3, dtype=np.float32)
    unite(field, corner, part.spacing, rows)
    bore = np.full(part.shape, 1e3, dtype=np.float32)
    unite(bore, corner, part.spacing, canal)
    body = np.full(part.shape, 1e3, dtype=np.float32)
    sizes = np.array([s.width, s.lower_width, s.depth, s.front, s.back])
    body_distance(body, corner, part.spacing, rotation, origin, sizes)
    field = np.minimum(np.maximum(field, -bore), body)
    return field, body, where


@njit(cache=True, fastmath=True)
@no_type_check
def body_distance(field, corner, spacing, rotation, origin, sizes):
    """Distance to a waisted body with concave end-plates and an indented posterior wall."""
    upper, lower, depth, front, back = sizes
    height = 0.5 * (front + back)
    reach = 0.5 * max(upper, depth) + 8.0
    for i in range(field.shape[0]):
        px = corner[0] + spacing * i - origin[0]
        for j in range(field.shape[1]):
            py = corner[1] + spacing * j - origin[1]
            if px * px + py * py > reach * reach + height * height:
                continue
            for m in range(field.shape[2]):
                pz = corner[2] + spacing * m - origin[2]
                z = rotation[0, 2] * px + rotation[1, 2] * py + rotation[2, 2] * pz
                if abs(z) > 0.5 * height + 7.0:
                    continue
                x = rotation[0, 0] * px + rotation[1, 0] * py + rotation[2, 0] * pz
                y = rotation[0, 1] * px + rotation[1, 1] * py + rotation[2, 1] * pz
                waist = 1.0 - 0.11 * max(1.0 - (2.0 * z / height) ** 2, 0.0)
                half_x = 0.5 * (upper + (lower - upper) * (0.5 - z / height)) * waist
                half_y = 0.5 * depth * (1.0 - 0.7 * (1.0 - waist))
                ex, ey = abs(x) / half_x, abs(y) / half_y
                q = (ex**2.4 + ey**2.4) ** (1.0 / 2.4)
                slope = (ex / half_x) ** 2 + (ey / half_y) ** 2
                side = (q - 1.0) * np.sqrt((ex * ex + ey * ey) / slope) if slope > 1e-12 else -half_y
                if y < 0.0:
                    side += 2.2 * np.exp(-((x / (0.25 * upper)) ** 2)) * min(-y / half_y, 1.0)
                top = abs(z) - 0.5 * (back + (front - back) * (y / depth + 0.5)) + 1.6 * max(1.0 - q * q, 0.0)
                a, b = side + 1.5, top + 1.5
                outside = np.sqrt(max(a, 0.0) ** 2 + max(b, 0.0) ** 2)
                field[i, j, m] = min(max(a, b), 0.0) + outside - 1.5
