"""The chain of levels: where each vertebra lies and how it is turned, built upwards from the sacrum. Millimetres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sonogym.anatomy.patients.params import COUNT, LEVELS, PatientParams
from sonogym.anatomy.patients.sdf import Point
from sonogym.anatomy.patients.vertebra import LevelShape, level_shape, spinous_tip

_DISC_WEDGE = {  # deg at lordosis 1, lying: most of it below L4 (PMC6680033); thoracic ones `design`
    "L5": 13.0, "L4": 9.5, "L3": 6.5, "L2": 4.5, "L1": 2.5, "T12": 1.5, "T11": 2.0, "T10": 2.0, "T9": 2.0, "T8": 2.0,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Spine:
    """Levels from the head down: patient = ``rotation[i]`` @ local + ``origin[i]``; origin of the patient at L3."""

    shapes: tuple[LevelShape, ...]
    rotation: np.ndarray  # (levels, 3, 3)
    origin: np.ndarray  # (levels, 3)
    sacrum_rotation: np.ndarray  # (3, 3)
    sacrum_origin: np.ndarray  # (3,) centre of the S1 end-plate

    def at(self, level: str) -> np.ndarray:
        """Body centre (3,) of a level."""
        return self.origin[LEVELS.index(level)]

    def local(self, level: str, point: Point) -> np.ndarray:
        """A point of a level's frame in the patient's."""
        i = LEVELS.index(level)
        return self.rotation[i] @ np.array(point) + self.origin[i]

    def sacral(self, point: Point) -> np.ndarray:
        """A point of the sacrum's frame (origin mid S1 end-plate) in the patient's."""
        return self.sacrum_rotation @ np.array(point) + self.sacrum_origin

    def tips(self) -> np.ndarray:
        """Spinous tips (levels, 3)."""
        tips = [r @ spinous_tip(s) + o for s, r, o in zip(self.shapes, self.rotation, self.origin, strict=True)]
        return np.array(tips)

    def body_at(self, z: np.ndarray) -> np.ndarray:
        """Centre line of the bodies and the sacrum, (n, 2) x and y at heights ``z`` [mm]."""
        low = [self.sacral(p) for p in ((0, -14, -60), (0, -6, -35), (0, -2, -14))]
        line = np.vstack([np.array(low), self.origin[::-1]])
        return np.stack([np.interp(z, line[:, 2], line[:, i]) for i in (0, 1)], axis=-1)

    def canal_path(self, low: float = 55.0) -> np.ndarray:
        """Centre of the canal, (levels + 2, 3), from the sacrum up."""
        points = [self.sacral((0, -30, -low)), self.sacral((0, -24.5, -8))]
        for s, r, o in zip(self.shapes[::-1], self.rotation[::-1], self.origin[::-1], strict=True):
            points.append(r @ np.array([0.0, s.canal_y, 0.0]) + o)
        return np.array(points)


def turned(pitch: float, roll: float, yaw: float) -> np.ndarray:
    """Rotation with the local z tilted forward by ``pitch``, right by ``roll``, after a turn ``yaw`` about it [rad]."""
    cp, sp, cr, sr, cy, sy = np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll), np.cos(yaw), np.sin(yaw)
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_y = np.array([[cr, 0, sr], [0, 1, 0], [-sr, 0, cr]])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def _sacral_pitch(params: PatientParams, shapes: tuple[LevelShape, ...]) -> float:
    """The pelvis tilts so that L3 lies on the couch: the wedges below L3, and its own recline [rad]."""
    below = range(LEVELS.index("L4"), COUNT)
    discs = sum(_DISC_WEDGE[level] for level in ("L3", "L4", "L5")) * params.lordosis
    return float(np.radians(discs + params.recline) + sum(shapes[i].wedge for i in below))


def build_spine(params: PatientParams) -> Spine:
    """Stack the levels on the sacrum: disc and body wedges give the lordosis, a sine the bend and its twist."""
    shapes = tuple(level_shape(params, i) for i in range(COUNT))
    rotation, origin = np.empty((COUNT, 3, 3)), np.empty((COUNT, 3))
    pitch = _sacral_pitch(params, shapes)
    roll_below = np.radians(params.tilt)
    sacrum = turned(pitch, roll_below, 0.0)
    point = np.zeros(3)
    for i in reversed(range(COUNT)):
        shape = shapes[i]
        bend = np.sin(2.0 * np.pi * (i / COUNT + params.scoliosis_phase))
        roll = np.radians(params.tilt + 0.5 * params.cobb * bend)
        wedge = np.radians(_DISC_WEDGE[shape.level] * params.lordosis + params.level_tilt[i])
        disc = turned(pitch - 0.5 * wedge, 0.5 * (roll + roll_below), 0.0)
        point = point + disc[:, 2] * shape.below.disc
        pitch -= wedge + 0.5 * shape.wedge
        rotation[i] = turned(pitch, roll, np.radians(params.twist * bend + params.level_shift[i]))
        origin[i] = point + rotation[i][:, 2] * 0.5 * shape.height
        point = point + rotation[i][:, 2] * shape.height
        pitch -= 0.5 * shape.wedge
        roll_below = roll
    centre = origin[LEVELS.index("L3")].copy()
    return Spine(
        shapes=shapes, rotation=rotation, origin=origin - centre, sacrum_rotation=sacrum, sacrum_origin=-centre
    )
