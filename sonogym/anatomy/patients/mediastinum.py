"""What lies between the lungs above the diaphragm: the tip of the heart and the oesophagus. Millimetres."""

from __future__ import annotations

import numpy as np

from sonogym.anatomy.patients.canvas import Canvas
from sonogym.anatomy.patients.params import PatientParams
from sonogym.anatomy.patients.sdf import ball, chain, grown
from sonogym.anatomy.patients.soft_tissue import Trunk
from sonogym.anatomy.patients.spine import Spine
from sonogym.anatomy.patients.thorax import dome_height
from sonogym.anatomy.tissues import Tissue

_OVER = (Tissue.LUNG, Tissue.VISCERAL_FAT)
_FAT = 4.0  # mm of fat round the heart


def paint_mediastinum(canvas: Canvas, params: PatientParams, spine: Spine, trunk: Trunk) -> dict[str, np.ndarray]:
    """Heart (its part below the top of the grid) on the diaphragm, oesophagus to the stomach; the ``heart`` [mm]."""
    heart = _paint_heart(canvas, params, spine, trunk)
    _paint_oesophagus(canvas, params, spine)
    return {"heart": heart}


def _paint_heart(canvas: Canvas, params: PatientParams, spine: Spine, trunk: Trunk) -> np.ndarray:
    """A wall round two chambers, its axis to the left, forward and down, on the diaphragm, between spine and wall."""
    s, foot = params.size, spine.at("T10")
    front = float(trunk.inside(np.array([0.5 * np.pi]), foot[2:] + 25.0 * s, 13.0 * s)[0, 1])
    room = front - foot[1] - 38.0 * s  # from behind the oesophagus to the breastbone
    x, y = foot[0] - 26.0 * s, front - 0.5 * room
    flat = min(room / (78.0 * s), 1.1)
    rest = float(dome_height(params, spine, np.array([x]), np.array([y]))[0])
    centre = np.array([x, y, rest + 31.0 * s])
    axis = (-0.72, 0.52, -0.46)
    whole = ball(centre.tolist(), (38.0 * s * flat, 36.0 * s, 56.0 * s), axis, (0.2, 0.8, 0.6), p=2.1)
    canvas.stamp(grown(whole, _FAT), Tissue.VISCERAL_FAT, (Tissue.LUNG,))
    canvas.stamp(whole, Tissue.MYOCARDIUM, _OVER)
    marks = []
    across = np.array([0.2, 0.8, 0.6])  # from the left to the right ventricle
    for offset, half in ((-13.0, (15.0, 25.0, 44.0)), (17.0, (10.0, 24.0, 42.0))):
        place = centre + offset * flat * s * across
        rows = ball(place.tolist(), (half[0] * s * flat, half[1] * s, half[2] * s), axis, across.tolist(), p=2.1)
        canvas.stamp(rows, Tissue.BLOOD, (Tissue.MYOCARDIUM,))
        marks.append(place)
    top = canvas.grid.corner[2] + canvas.grid.spacing * (canvas.grid.shape[2] - 1)
    return np.array([marks[0][0], marks[0][1], min(marks[0][2], top - 6.0)])


def _paint_oesophagus(canvas: Canvas, params: PatientParams, spine: Spine) -> None:
    """Down in front of the aorta, through the hiatus at T10 to the cardia."""
    s = params.size
    points = [
        spine.local(level, (s * x, s * y, 0.0)) for level, x, y in (("T8", -6, 44), ("T9", -10, 46), ("T10", -15, 47))
    ]
    points.append(spine.local("T11", (-30.0 * s, 44.0 * s, 6.0 * s)))
    rows = chain(np.array(points), np.tile([8.5 * s, 6.0 * s], (len(points), 1)), cap=4.0)
    canvas.stamp(rows, Tissue.BOWEL, (*_OVER, Tissue.DIAPHRAGM, Tissue.CONNECTIVE))
