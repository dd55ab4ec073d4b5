"""Findings with their truth: what the patients of the split ``findings`` have besides their anatomy. Millimetres.

Stones and solid liver lesions have tissues of their own, cysts and effusions are fluid. Sizes are `design` within what
the named sources call common.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sonogym.anatomy.patients.canvas import ROOM, Canvas
from sonogym.anatomy.patients.drawing import unit_draws
from sonogym.anatomy.patients.kidneys import kidney_centre, kidney_frame, kidney_half
from sonogym.anatomy.patients.params import PatientParams
from sonogym.anatomy.patients.pelvis import BONY, shell
from sonogym.anatomy.patients.sdf import ball, chain, grown, sweep
from sonogym.anatomy.patients.spine import Spine
from sonogym.anatomy.patients.vessels import aorta_path
from sonogym.anatomy.tissues import Tissue

_KIDNEY = (Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_PYRAMID, Tissue.KIDNEY_SINUS)
_UP, _RIGHT = (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)


@dataclass(frozen=True)
class Truth:
    """One finding: where its middle lies [mm] (a landmark ``finding_<name>``) and what a reader would report."""

    name: str
    place: np.ndarray
    facts: dict[str, Any]


class _Draws:
    def __init__(self, params: PatientParams, name: str) -> None:
        self._values = iter(unit_draws(params.seed, f"finding_{name}", 24).astype(np.float64).tolist())

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * next(self._values)

    def side(self) -> int:
        return int(next(self._values) < 0.5)


_SIDES = ("right", "left")


def _round(centre: np.ndarray, radius: float) -> np.ndarray:
    return ball(centre.tolist(), (radius, radius, radius), _UP, _RIGHT)


def _renal_cyst(canvas: Canvas, params: PatientParams, spine: Spine) -> Truth:
    """A simple cyst that bulges from the cortex; 22 +- 9 mm across (PMC12305748)."""
    draw = _Draws(params, "renal_cyst")
    side, radius = draw.side(), draw.between(7.0, 20.0)
    frame, half = kidney_frame(params, side), kidney_half(params, side)
    lateral, pole = frame[:, 0] * (half[0] - 0.35 * radius), frame[:, 2] * half[2] * draw.between(-0.55, 0.55)
    centre = kidney_centre(params, spine, side) + 0.85 * lateral + pole
    canvas.stamp(_round(centre, radius), Tissue.FLUID, (*_KIDNEY, *ROOM))
    return Truth("renal_cyst", centre, {"side": _SIDES[side], "diameter_mm": 2.0 * radius})


def _kidney_stone(canvas: Canvas, params: PatientParams, spine: Spine) -> Truth:
    """A stone of 5-12 mm in a lower calyx."""
    draw = _Draws(params, "kidney_stone")
    side, radius = draw.side(), draw.between(2.5, 6.0)
    frame, half = kidney_frame(params, side), kidney_half(params, side)
    centre = kidney_centre(params, spine, side) - frame[:, 2] * 0.33 * half[2] - frame[:, 0] * 0.25 * half[0]
    canvas.stamp(_round(centre, radius), Tissue.STONE, _KIDNEY)
    return Truth("kidney_stone", centre, {"side": _SIDES[side], "diameter_mm": 2.0 * radius})


def _hydronephrosis(canvas: Canvas, params: PatientParams, spine: Spine) -> Truth:
    """The collecting system full of urine: renal pelvis and three calyces (grade 2-3)."""
    draw = _Draws(params, "hydronephrosis")
    side, wide = draw.side(), draw.between(0.8, 1.15)
    frame, half = kidney_frame(params, side), kidney_half(params, side)
    root = kidney_centre(params, spine, side) - frame[:, 0] * 0.55 * half[0]
    rows = [ball(root.tolist(), (0.42 * half[0] * wide, 0.42 * half[1] * wide, 0.34 * half[2] * wide),
                 frame[:, 2].tolist(), frame[:, 0].tolist())]  # fmt: skip
    for along, aside in ((0.46, 0.35), (0.0, 0.55), (-0.46, 0.35)):
        tip = root + frame[:, 2] * along * half[2] + frame[:, 0] * aside * half[0]
        rows.append(chain(np.array([root, tip]), np.array([[4.5, 4.5], [7.0, 6.5]]) * wide, cap=6.0 * wide))
    canvas.stamp(np.concatenate(rows), Tissue.FLUID, (*_KIDNEY, *ROOM))
    return Truth("hydronephrosis", root, {"side": _SIDES[side], "grade": 3 if wide > 1.0 else 2})


def _liver_lesion(canvas: Canvas, params: PatientParams, spine: Spine) -> Truth:
    """A simple cyst (anechoic) or a solid lesion brighter than the liver, 12-40 mm."""
    draw = _Draws(params, "liver_lesion")
    radius, cystic = draw.between(6.0, 20.0), draw.side() == 0
    inside = np.argwhere(canvas.labels == Tissue.LIVER)
    middle = inside.mean(axis=0)
    spread = 0.5 * inside.std(axis=0)
    voxel = middle + spread * np.array([draw.between(-1.0, 1.0) for _ in range(3)])
    centre = np.array(canvas.grid.corner) + canvas.grid.spacing * voxel
    tissue = Tissue.FLUID if cystic else Tissue.LESION
    canvas.stamp(_round(centre, radius), tissue, (Tissue.LIVER, Tissue.BLOOD, Tissue.CONNECTIVE))
    kind = "cyst" if cystic else "haemangioma-like"
    return Truth("liver_lesion", centre, {"kind": kind, "diameter_mm": 2.0 * radius})


def _gallstones(canvas: Canvas, params: PatientParams, spine: Spine) -> Truth:
    """One to four stones of 5-14 mm on the wall that lies lowest."""
    draw = _Draws(params, "gallstones")
    bile = np.argwhere(canvas.labels == Tissue.BILE)
    low = bile[:, 1].max() if params.prone else bile[:, 1].min()
    lowest = bile[np.abs(bile[:, 1] - low) < 0.3 * np.ptp(bile[:, 1])].mean(axis=0)
    centre = np.array(canvas.grid.corner) + canvas.grid.spacing * lowest
    count, largest = 1 + int(draw.between(0.0, 3.999)), 0.0
    for n in range(count):
        radius = draw.between(2.5, 7.0)
        largest = max(largest, radius)
        place = centre + np.array([draw.between(-3.0, 3.0), 0.0, 7.0 * (n - 0.5 * (count - 1))])
        canvas.stamp(_round(place, radius), Tissue.STONE, (Tissue.BILE,))
    return Truth("gallstones", centre, {"count": count, "largest_mm": 2.0 * largest})


def _aneurysm(canvas: Canvas, params: PatientParams, spine: Spine) -> Truth:
    """A spindle of 32-55 mm below the renal arteries (an aneurysm from 30 mm on)."""
    draw = _Draws(params, "aneurysm")
    radius, length = draw.between(16.0, 27.5), draw.between(30.0, 45.0)
    path, _ = aorta_path(params, spine)
    a, b = path[-4], path[-2]  # L2 .. L4
    centre = 0.5 * (a + b) + np.array([0.0, 0.55 * (radius - 9.0), 0.0])
    rows = ball(centre.tolist(), (radius, radius, length), (b - a).tolist(), _RIGHT, p=2.2)
    over = (*ROOM, Tissue.BLOOD, Tissue.VEIN, Tissue.CONNECTIVE, Tissue.PANCREAS)
    canvas.stamp(grown(rows, 1.8), Tissue.CONNECTIVE, over)
    canvas.stamp(rows, Tissue.BLOOD, over)
    return Truth("aneurysm", centre, {"diameter_mm": 2.0 * radius, "length_mm": 2.0 * length})


def _pleural_effusion(canvas: Canvas, params: PatientParams, spine: Spine) -> Truth:
    """Fluid in the dependent part of one pleural cavity."""
    draw = _Draws(params, "pleural_effusion")
    side, deep = draw.side(), draw.between(25.0, 55.0)
    x, y, _ = canvas.coordinates((slice(None), slice(None), slice(None)))
    middle = spine.at("T10")[0]
    lung = (canvas.labels == Tissue.LUNG) & ((x > middle) if side == 0 else (x < middle))
    reach = np.flatnonzero(lung.any(axis=(0, 2)))
    level = y[0, reach[-1], 0] - deep if params.prone else y[0, reach[0], 0] + deep
    fluid = lung & ((y > level) if params.prone else (y < level))
    canvas.labels[fluid] = Tissue.FLUID
    centre = np.array(canvas.grid.corner) + canvas.grid.spacing * np.argwhere(fluid).mean(axis=0)
    litres = float(fluid.sum() * canvas.grid.spacing**3 / 1e6)
    return Truth("pleural_effusion", centre, {"side": _SIDES[side], "depth_mm": deep, "shown_litres": litres})


def _scoliosis(canvas: Canvas, params: PatientParams, spine: Spine) -> Truth:
    apex = int(np.argmax(np.abs(spine.origin[:, 0])))
    return Truth("scoliosis", spine.origin[apex], {"cobb_deg": abs(params.cobb)})


def _compression_fracture(canvas: Canvas, params: PatientParams, spine: Spine) -> Truth:
    facts = {"level": params.fracture, "height_lost_percent": 100.0 * params.collapse}
    return Truth("compression_fracture", spine.at(params.fracture), facts)


def _transitional_vertebra(canvas: Canvas, params: PatientParams, spine: Spine) -> Truth:
    """L5 fused with the sacrum by its transverse processes (Castellvi III)."""
    draw = _Draws(params, "transitional_vertebra")
    s, shape = params.size, spine.shapes[-1]
    kind = draw.between(0.0, 1.0)
    sides = (1.0, -1.0) if kind < 0.5 else ((1.0,) if kind < 0.75 else (-1.0,))
    for side in sides:
        tip = spine.local("L5", (side * (0.5 * shape.transverse - 12.0 * s), -0.25 * shape.depth, 0.0))
        wing = spine.sacral((side * 36.0 * s, -15.0 * s, -16.0 * s))
        rows = sweep(tip, wing, (11.0 * s, 14.0 * s, 9.0 * s, 12.0 * s), p=2.4, cap=5.0)
        canvas.solid(rows, shell(1.2), BONY)
    name = "IIIb" if len(sides) == 2 else "IIIa"
    return Truth("transitional_vertebra", spine.at("L5"), {"castellvi": name, "sides": len(sides)})


_BEFORE_BOWEL = {
    "renal_cyst": _renal_cyst, "kidney_stone": _kidney_stone, "hydronephrosis": _hydronephrosis,
    "liver_lesion": _liver_lesion, "gallstones": _gallstones, "aneurysm": _aneurysm,
    "pleural_effusion": _pleural_effusion,
}  # fmt: skip
_IN_BONE = {
    "scoliosis": _scoliosis, "compression_fracture": _compression_fracture,
    "transitional_vertebra": _transitional_vertebra,
}  # fmt: skip


def paint_soft_findings(canvas: Canvas, params: PatientParams, spine: Spine) -> list[Truth]:
    """Findings of the organs, painted before the bowel takes what room is left."""
    return [paint(canvas, params, spine) for name, paint in _BEFORE_BOWEL.items() if name in params.findings]


def paint_bone_findings(canvas: Canvas, params: PatientParams, spine: Spine) -> list[Truth]:
    """Findings of the spine, after its vertebrae."""
    return [paint(canvas, params, spine) for name, paint in _IN_BONE.items() if name in params.findings]
