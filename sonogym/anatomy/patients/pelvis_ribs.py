"""Sacrum, iliac wings with their muscles, and ribs. Millimetres."""

from __future__ import annotations

import numpy as np

from sonogym.anatomy.patients.canvas import SOFT, Canvas
from sonogym.anatomy.patients.params import PatientParams
from sonogym.anatomy.patients.sdf import ball, chain, grown, mirrored, placed, sweep, unite
from sonogym.anatomy.patients.soft_tissue import Trunk
from sonogym.anatomy.patients.spine import Spine
from sonogym.anatomy.patients.vertebra import LevelShape
from sonogym.anatomy.tissues import Tissue

BONY = (*SOFT, Tissue.TRABECULAR_BONE, Tissue.CORTICAL_BONE)


def _shell(depth: float) -> tuple[tuple[float, Tissue], tuple[float, Tissue]]:
    return (0.0, Tissue.CORTICAL_BONE), (depth, Tissue.TRABECULAR_BONE)


def _sacral_rows(s: LevelShape) -> np.ndarray:
    """Bodies, wings, dorsal plate with its crest, and the superior processes that meet L5; local frame of S1."""
    w = 0.5 * s.lower_width
    rows = [
        sweep((0, -1, -3), (0, -4, -27), (w, 0.72 * w, 17.0, 11.5), p=2.5, k=3),
        sweep((0, -4, -27), (0, -13, -52), (0.72 * w, 0.62 * w, 11.5, 9.0), p=2.5, k=3),
        sweep((0, -13, -52), (0, -27, -80), (0.62 * w, 0.5 * w, 9.0, 7.0), p=2.5, k=3),
        sweep((0, -40, -15), (0, -45, -58), (2.8, 2.4, 3.6, 3.0), u=(1, 0, 0), p=2.2, k=4),
    ]
    wings = [
        sweep((14, -8, -14), (50, -22, -20), (9.0, 14.0, 12.0, 17.0), u=(0, 1, 0), p=2.3, cap=5, k=5),
        sweep((14, -13, -40), (42, -30, -46), (8.0, 9.0, 13.0, 15.0), u=(0, 1, 0), p=2.3, cap=5, k=5),
        sweep((10, -24, -66), (26, -34, -70), (7.0, 6.0, 12.0, 11.0), u=(0, 1, 0), p=2.3, cap=4, k=5),
        sweep((0, -37, -19), (31, -23, -16), (3.2, 5.5, 8.0, 10.0), u=(0, 1, 0.2), p=2.6, k=4),
        sweep((0, -41, -42), (24, -35, -42), (3.2, 5.0, 22.0, 18.0), u=(0, 1, 0.2), p=2.6, k=4),
    ]
    g = s.below.angle
    x = 0.5 * s.below.distance + 3.6 * np.cos(g)
    rise = 0.5 * s.below.disc + 5.0
    wings.append(
        sweep((x + 1, -24, -8), (x + 0.3, -25, rise), (6.5, 6.5, 5.5, 4.0), u=(np.sin(g), -np.cos(g), 0), p=2.6, k=4)
    )
    return np.concatenate([*rows, mirrored(np.concatenate(wings))])


def paint_sacrum(canvas: Canvas, params: PatientParams, spine: Spine, nearest: np.ndarray) -> None:
    """The sacrum down to S3, its canal left open; ``nearest`` learns its distance for the joint with L5."""
    rows = _sacral_rows(spine.shapes[-1])
    rows[:, 0:6] *= params.size
    rows[:, 9:15] *= params.size
    placed_rows = placed(rows, spine.sacrum_rotation, spine.sacrum_origin)
    field, where = canvas.field(placed_rows)
    bore = np.full(field.shape, 1e3, dtype=np.float32)
    half = 0.42 * spine.shapes[-1].canal_width
    tunnel = sweep((0, -23.5, 12), (0, -26, -25), (half, 0.9 * half, 7.5, 7.0), p=2.2)
    tunnel = np.concatenate([tunnel, sweep((0, -26, -25), (0, -37, -80), (0.9 * half, 0.5 * half, 7.0, 4.5), p=2.2)])
    corner = np.array(canvas.grid.corner) + canvas.grid.spacing * np.array([part.start for part in where])
    unite(bore, corner, canvas.grid.spacing, placed(tunnel, spine.sacrum_rotation, spine.sacrum_origin))
    field = np.maximum(field, -bore)
    canvas.fill(field, where, _shell(1.2), BONY)
    nearest[where] = field


_CREST = np.array(  # right side, relative to the S1 end-plate at unit crest height: from PSIS to ASIS
    [
        (46, -58, -0.35),
        (54, -58, 0.25),
        (70, -48, 0.72),
        (88, -24, 0.96),
        (104, 8, 1.0),
        (116, 40, 0.72),
        (122, 62, 0.15),
    ]
)
_BASE = np.array(
    [(44, -46, -34), (50, -40, -42), (58, -26, -52), (66, -8, -62), (74, 14, -70), (86, 38, -66), (108, 60, -48)],
    dtype=float,
)
_BOW = (-2.0, -6.0, -14.0, -12.0, 0.0, 8.0, 8.0)  # mm outwards: towards the sacrum behind, hollow in front


def _blade(params: PatientParams, spine: Spine, share: float) -> np.ndarray:
    """The curve at ``share`` of the way from the crest to the base of the right wing, (7, 3), upright frame at S1."""
    crest = _CREST * np.array([1.0, 1.0, params.crest])
    bow = np.sin(np.pi * share) * np.outer(_BOW, [1.0, -0.2, 0.0])
    curve = (1.0 - share) * crest + share * _BASE + bow
    return curve * params.size * np.array([params.pelvis_width, 1.0, 1.0]) + spine.sacrum_origin


def _on_side(points: np.ndarray, side: float, centre: float) -> np.ndarray:
    mirrored_points = points.copy()
    mirrored_points[:, 0] = centre + side * (points[:, 0] - centre)
    return mirrored_points


_SHARES = (0.0, 0.12, 0.28, 0.46, 0.66, 0.88)


def _wing(params: PatientParams, spine: Spine, side: float) -> np.ndarray:
    """Slabs along curves between crest and base: thick at the crest and near the joint, thin between."""
    rows = []
    curves = [_on_side(_blade(params, spine, share), side, spine.sacrum_origin[0]) for share in _SHARES]
    for n, (share, curve) in enumerate(zip(_SHARES, curves, strict=True)):
        beside = curves[n + 1] if n + 1 < len(curves) else 2.0 * curve - curves[n - 1]
        thick = params.size * (6.3 if share == 0.0 else 4.6 + 3.0 * max(share - 0.5, 0.0))
        for i in range(len(curve) - 1):
            down = 0.5 * (beside[i] + beside[i + 1]) - 0.5 * (curve[i] + curve[i + 1])
            reach = thick if share == 0.0 else 0.75 * float(np.linalg.norm(down)) + 1.0
            rows.append(sweep(curve[i], curve[i + 1], (reach, reach, thick, thick), u=down, p=2.4, cap=4.0, k=3.0))
    return np.concatenate(rows)


def _gluteals(params: PatientParams, spine: Spine, side: float) -> np.ndarray:
    """Medius lateral of the wing, maximus behind it."""
    s, o = params.size, spine.sacrum_origin
    wide = s * params.pelvis_width
    medius = [((106, 12, 8), (20, 44, 34)), ((112, 6, -38), (24, 50, 48))]
    maximus = [((72, -62, -46), (36, 17, 44)), ((92, -44, -66), (34, 24, 40))]
    rows = []
    for (x, y, z), half in medius + maximus:
        centre = o + np.array([side * wide * x, s * y, s * z])
        sized = (s * half[0], s * half[1], s * half[2])
        rows.append(ball(centre.tolist(), sized, (0, 0, 1), (1, 0, 0)))
    return np.concatenate(rows)


def paint_pelvis(canvas: Canvas, params: PatientParams, spine: Spine) -> dict[str, np.ndarray]:
    """Iliac wings between iliacus and gluteal muscles; the crests' highest points [mm]."""
    inner = (Tissue.VISCERAL_FAT,)
    tops = {}
    for side, name in ((1.0, "right"), (-1.0, "left")):
        wing = _wing(params, spine, side)
        iliacus = grown(wing, 3.5)
        iliacus[:, [0, 3]] -= side * 12.0 * params.size
        canvas.stamp(iliacus, Tissue.MUSCLE, inner)
        canvas.stamp(_gluteals(params, spine, side), Tissue.MUSCLE, inner)
        canvas.solid(wing, _shell(2.2), BONY)
        crest = _on_side(_blade(params, spine, 0.0), side, spine.sacrum_origin[0])
        tops[f"iliac_crest_{name}"] = crest[np.argmax(crest[:, 2])]
    return tops


_RIBS = {  # rib: angles where it starts and ends (deg from the side, + forward), drop at the back and per radian
    6: (-62.0, 55.0, 34.0, 46.0), 7: (-62.0, 52.0, 34.0, 46.0), 8: (-62.0, 46.0, 32.0, 44.0),
    9: (-62.0, 38.0, 31.0, 42.0), 10: (-62.0, 24.0, 30.0, 40.0),
    11: (-60.0, -4.0, 28.0, 42.0), 12: (-60.0, -32.0, 26.0, 42.0),
}  # fmt: skip


def _rib(number: int, params: PatientParams, spine: Spine, trunk: Trunk, side: float) -> np.ndarray:
    """From the vertebra round the wall, falling as it goes: elliptic segments 11 high and 6.5 thick."""
    first, last, neck, fall = _RIBS[number]
    s = params.size
    index = max(number - 9, 0)
    head = spine.rotation[index] @ np.array([side * 17.0 * s, -19.0 * s, 6.0 * s]) + spine.origin[index]
    above = (9 - number if number < 9 else 0) * 27.0 * s
    head[2] += above
    tubercle = head + np.array([side * 16.0 * s, -13.0 * s, -7.0 * s])
    angle = np.radians(np.linspace(first, last, 12))
    z = head[2] - s * params.rib_drop * (neck * 0.8 + fall * (angle - angle[0]))
    around = angle if side > 0 else np.pi - angle
    wall = trunk.inside(around, z, 9.0 * s)
    points = np.vstack([head, tubercle, wall])
    return chain(points, np.tile([5.4 * s, 3.3 * s], (len(points), 1)), u=(0.0, 0.0, 1.0), p=2.2, cap=3.0)


def paint_ribs(canvas: Canvas, params: PatientParams, spine: Spine, trunk: Trunk) -> None:
    """Ribs 6-12 as far as the grid holds them."""
    for number in _RIBS:
        for side in (1.0, -1.0):
            canvas.layered(_rib(number, params, spine, trunk, side), _shell(1.3), SOFT)
