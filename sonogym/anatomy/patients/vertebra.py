"""One vertebra: measured sizes, the primitives of its posterior elements, and its body.

Local frame [mm]: origin at the body centre, x right, y forward, z up. Sizes: Wang 2024, Panjabi 1993, Sobottke 2010,
Int J Spine Surg 2021;15:1072 and four CT label maps; T8-T12 continue the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from numba import njit

from sonogym.anatomy.patients.params import LEVELS, PatientParams
from sonogym.anatomy.patients.portable import exponential, power, settled
from sonogym.anatomy.patients.sdf import Grid, bounds, mirrored, sweep, unite

_TABLE = {
    # width, lower width, depth, height in front, behind, canal w, d, pedicle w, h, transverse tip to tip, its y, z
    "T8": (31.0, 33.0, 28.5, 19.5, 20.5, 17.5, 15.0, 6.5, 13.0, 64.0, -21.0, 8.0),
    "T9": (33.0, 35.0, 29.5, 20.0, 21.0, 18.0, 15.0, 7.0, 13.5, 62.0, -20.0, 8.0),
    "T10": (35.0, 38.0, 30.0, 20.5, 21.5, 18.0, 15.0, 7.0, 14.0, 58.0, -18.0, 8.0),
    "T11": (38.0, 41.0, 31.0, 21.0, 22.5, 19.0, 15.5, 8.0, 15.0, 50.0, -14.0, 5.0),
    "T12": (41.0, 44.0, 32.0, 23.0, 25.0, 21.0, 16.0, 8.5, 15.5, 48.0, -12.0, 3.0),
    "L1": (44.0, 48.0, 33.0, 25.0, 27.0, 23.0, 17.0, 9.0, 15.5, 69.0, -10.0, 6.0),
    "L2": (46.0, 50.0, 33.0, 27.0, 27.5, 23.0, 17.0, 9.0, 15.0, 80.0, -10.0, 7.0),
    "L3": (49.0, 52.0, 34.5, 28.0, 27.5, 24.0, 17.0, 10.0, 15.0, 93.0, -10.0, 7.0),
    "L4": (51.0, 53.0, 36.0, 29.0, 27.0, 25.0, 17.0, 13.0, 15.0, 90.0, -8.0, 6.0),
    "L5": (53.0, 53.0, 36.0, 29.5, 25.0, 28.0, 15.0, 16.0, 13.0, 95.0, 1.0, 2.0),
}
_WEDGE = {  # of the body, front lower: men, women (Masharawi 2010, 240 skeletons; T8 continues)
    "T8": (4.8, 3.0), "T9": (4.8, 2.8), "T10": (3.8, 3.0), "T11": (5.4, 4.6), "T12": (4.9, 3.5), "L1": (4.1, 3.0),
    "L2": (2.6, 0.7), "L3": (1.3, -1.1), "L4": (-0.7, -3.1), "L5": (-4.6, -7.8),
}  # fmt: skip
# length behind the canal centre, height at the tip (Masharawi 2010: ratio to the body), tip z, half-lamina angle,
# lamina height, swelling of the tip
_SPINOUS = {
    "T8": (33.0, 9.5, -25.0, 28.0, 19.5, 0.0), "T9": (34.0, 10.0, -24.0, 28.0, 20.0, 0.0),
    "T10": (35.0, 11.0, -21.0, 28.0, 20.5, 0.0), "T11": (36.0, 12.5, -16.0, 28.0, 21.0, 0.5),
    "T12": (37.0, 16.7, -11.0, 28.0, 21.5, 1.0), "L1": (40.0, 22.0, -7.5, 28.0, 21.5, 3.0),
    "L2": (43.0, 23.5, -8.0, 28.0, 22.0, 3.0), "L3": (44.0, 23.4, -8.5, 28.0, 23.5, 3.0),
    "L4": (42.0, 19.5, -7.5, 32.0, 23.0, 1.0), "L5": (37.0, 15.0, -7.0, 36.0, 21.5, 0.0),
}  # fmt: skip
DISC = {  # height of the disc below
    "T8": 4.2, "T9": 4.5, "T10": 5.5, "T11": 6.5, "T12": 7.5, "L1": 9.0, "L2": 9.5, "L3": 9.7, "L4": 9.9, "L5": 11.0,
}  # fmt: skip
_JOINT = {  # below the level: interfacet distance, angle of the joint from the sagittal plane (deg)
    "T7": (22.0, 71.0), "T8": (22.0, 70.0), "T9": (22.0, 68.0), "T10": (22.0, 62.0), "T11": (23.0, 42.0),
    "T12": (25.0, 26.0), "L1": (26.0, 25.0), "L2": (28.0, 27.0), "L3": (31.0, 33.0),
    "L4": (36.0, 42.0), "L5": (43.0, 48.0),
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
    spinous_width: float  # factor
    swelling: float  # of the spinous tip, up and down
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
        return -0.5 * self.depth - 0.5 * self.canal_depth + 1.8

    @property
    def wedge(self) -> float:
        """Angle between the end-plates [rad], positive when the front is higher."""
        return float(np.arctan2(self.front - self.back, self.depth))


def _joint(index: int, params: PatientParams) -> Joint:
    """The joint below level ``index``, -1 for the one above the first."""
    level = LEVELS[index] if index >= 0 else "T7"
    distance, angle = _JOINT[level]
    disc = DISC.get(level, 4.0) * params.disc_height * (params.level_disc[index] if index >= 0 else 1.0)
    return Joint(distance=distance * params.size, angle=float(np.radians(angle)), disc=disc * params.size)


def level_shape(params: PatientParams, index: int) -> LevelShape:
    """The drawn sizes of level ``LEVELS[index]``; joints depend on the patient only, so that facets meet."""
    level = LEVELS[index]
    scale = params.size * params.level_scale[index]
    w, lw, d, front, back, cw, cd, pw, ph, tt, ty, tz = (scale * value for value in _TABLE[level])
    w, lw, d, pw = (params.vertebra_width * value for value in (w, lw, d, pw))
    height = 0.5 * params.vertebra_height * (front + back)
    wedge = _WEDGE[level][params.female] + (params.wedge if level[0] == "L" else 0.0)
    lower = 0.5 * d * float(np.tan(np.radians(wedge)))
    front, back = height - lower, height + lower
    if level == params.fracture:
        front, back = front * (1.0 - params.collapse), back * (1.0 - 0.25 * params.collapse)
    length, spinous, tip, angle, lamina, swelling = _SPINOUS[level]
    return LevelShape(
        level=level, width=w, lower_width=lw, depth=d, front=front, back=back,
        pedicle_width=pw, pedicle_height=ph, canal_width=cw * params.canal, canal_depth=cd * params.canal,
        transverse=tt * params.transverse_length, transverse_y=ty, transverse_z=tz,
        spinous_length=scale * length * params.spinous_length, spinous_height=scale * spinous * params.spinous_height,
        spinous_width=params.spinous_width, swelling=scale * swelling, spinous_z=scale * tip,
        lamina_angle=float(np.radians(angle)), lamina_height=scale * lamina,
        above=_joint(index - 1, params), below=_joint(index, params),
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
    thick = 3.2 * s.spinous_width
    hind = half + 0.6 * s.swelling  # a hatchet: higher the farther back (Sobottke 2010: the space narrows backwards)
    plate = sweep((0, ap + 1.0, z), (0, tip[1] + 5.0, tip[2]), (5.0, thick, root, hind), p=3.0, k=3.5)
    reach = max(half - 4.5 + s.swelling, 1.0)
    bar = sweep(
        (0, tip[1] + 4.2, tip[2] + reach),
        (0, tip[1] + 4.2, tip[2] - reach),
        (1.2 * thick, 1.4 * thick, 4.2, 4.2),
        cap=4.2,
        k=2.5,
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
    unite(field, corner, part.spacing, settled(rows))
    bore = np.full(part.shape, 1e3, dtype=np.float32)
    unite(bore, corner, part.spacing, settled(canal))
    body = np.full(part.shape, 1e3, dtype=np.float32)
    sizes = np.array([s.width, s.lower_width, s.depth, s.front, s.back])
    body_distance(body, corner, part.spacing, settled(1e3 * rotation) / 1e3, settled(origin), settled(sizes))
    field = np.minimum(np.maximum(field, -bore), body)
    return field, body, where


@njit(cache=True)
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
                half_y = 0.5 * depth * (1.0 - 0.45 * (1.0 - waist))
                ex, ey = abs(x) / half_x, abs(y) / half_y
                q = power(power(ex, 2.4) + power(ey, 2.4), 1.0 / 2.4)
                slope = (ex / half_x) ** 2 + (ey / half_y) ** 2
                side = (q - 1.0) * np.sqrt((ex * ex + ey * ey) / slope) if slope > 1e-12 else -half_y
                if y < 0.0:
                    side += 1.5 * exponential(-((x / (0.25 * upper)) ** 2)) * min(-y / half_y, 1.0)
                top = abs(z) - 0.5 * (back + (front - back) * (y / depth + 0.5)) + 1.6 * max(1.0 - q * q, 0.0)
                a, b = side + 1.5, top + 1.5
                outside = np.sqrt(max(a, 0.0) ** 2 + max(b, 0.0) ** 2)
                field[i, j, m] = min(max(a, b), 0.0) + outside - 1.5
