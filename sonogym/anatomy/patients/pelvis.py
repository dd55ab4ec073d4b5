"""Sacrum and iliac wings with their muscles. Millimetres."""

from __future__ import annotations

import numpy as np

from sonogym.anatomy.patients.canvas import SOFT, Canvas
from sonogym.anatomy.patients.params import PatientParams
from sonogym.anatomy.patients.sdf import ball, grown, mirrored, placed, sweep, unite
from sonogym.anatomy.patients.spine import Spine
from sonogym.anatomy.patients.vertebra import LevelShape
from sonogym.anatomy.tissues import Tissue

BONY = (*SOFT, Tissue.TRABECULAR_BONE, Tissue.CORTICAL_BONE)


def shell(depth: float) -> tuple[tuple[float, Tissue], tuple[float, Tissue]]:
    """Layers of a bone: cortex of ``depth`` [mm], trabeculae in it."""
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
    canvas.fill(field, where, shell(1.2), BONY)
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


_BETWEEN = (Tissue.VISCERAL_FAT, Tissue.CONNECTIVE)


def _paint_outside(canvas: Canvas, wing: np.ndarray, side: float) -> None:
    """Gluteus medius fills what lies between the wing and the flat muscles that end on its crest."""
    field, where = canvas.field(wing)
    view = canvas.labels[:, where[1], where[2]]
    start = where[0].start
    bone = field < 0.0
    found = bone.any(axis=0)
    last = bone.shape[0] - 1 - np.argmax(bone[::-1], axis=0)
    edge = start + (last if side > 0 else np.argmax(bone, axis=0))
    index = np.arange(view.shape[0])[:, None, None]
    out = (index - edge) * (1.0 if side > 0 else -1.0) * canvas.grid.spacing
    view[found & (out > 0.0) & np.isin(view, _BETWEEN)] = Tissue.MUSCLE


def _maximus(params: PatientParams, spine: Spine, side: float) -> np.ndarray:
    """Gluteus maximus behind sacrum and wing."""
    s, o = params.size, spine.sacrum_origin
    wide = s * params.pelvis_width
    rows = []
    for (x, y, z), half in (((72, -62, -46), (36, 17, 44)), ((92, -44, -66), (34, 24, 40))):
        centre = o + np.array([side * wide * x, s * y, s * z])
        rows.append(ball(centre.tolist(), (s * half[0], s * half[1], s * half[2]), (0, 0, 1), (1, 0, 0)))
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
        _paint_outside(canvas, wing, side)
        canvas.stamp(_maximus(params, spine, side), Tissue.MUSCLE, (*inner, Tissue.SUBCUTANEOUS_FAT))
        canvas.solid(wing, shell(2.2), BONY)
        crest = _on_side(_blade(params, spine, 0.0), side, spine.sacrum_origin[0])
        tops[f"iliac_crest_{name}"] = crest[np.argmax(crest[:, 2])]
    return tops
