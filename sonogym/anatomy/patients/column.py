"""Painting the spine: discs, ligaments, the canal with what it holds, and vertebrae with their facet joints."""

from __future__ import annotations

import numpy as np

from sonogym.anatomy.patients.canvas import SOFT, Canvas
from sonogym.anatomy.patients.params import LEVELS, PatientParams
from sonogym.anatomy.patients.sdf import chain, placed, sweep
from sonogym.anatomy.patients.spine import Spine
from sonogym.anatomy.patients.vertebra import canal_rows, posterior_rows, spinous_tip, vertebra_field
from sonogym.anatomy.tissues import Tissue

_JOINT_GAP = 0.85  # mm, half the width of a facet joint with its cartilage
_POSTERIOR_CORTEX = 2.0  # mm; spinous process 2.5 +- 0.5 (Sobottke 2010)


def paint_discs(canvas: Canvas, spine: Spine) -> None:
    """Discs from body to body; the vertebrae painted later cut them to their wedge."""
    for i, shape in enumerate(spine.shapes):
        half = 0.5 * shape.lower_width + 0.5
        deep = 0.5 * shape.depth + 0.5
        top = spine.rotation[i] @ np.array([0, 0, -0.3 * shape.height]) + spine.origin[i]
        if i + 1 < len(spine.shapes):
            low = spine.rotation[i + 1] @ np.array([0, 0, 0.3 * spine.shapes[i + 1].height]) + spine.origin[i + 1]
        else:
            low = spine.sacral((0.0, -1.0, -7.0))
        row = sweep(low, top, (half, half, deep, deep), u=spine.rotation[i][:, 0], p=2.4, cap=0.5)
        canvas.stamp(row, Tissue.DISC, (*SOFT, Tissue.DISC))


def paint_canal(canvas: Canvas, params: PatientParams, spine: Spine) -> None:
    """Flavum, epidural fat, dural sac; the cord ends at L1, below it the roots lie on the dependent side."""
    s = params.size * params.canal
    path = spine.canal_path()
    over = (*SOFT, Tissue.DISC)
    for (rx, ry), forward, tissue in (
        ((13.0, 10.3), 0.0, Tissue.LIGAMENT),
        ((12.0, 9.4), 2.4, Tissue.VISCERAL_FAT),
        ((8.3, 6.5), 0.6, Tissue.FLUID),
    ):
        points = path + np.array([0.0, forward * s, 0.0])
        radii = np.tile([rx * s, ry * s], (len(points), 1))
        radii[:2] *= 0.8 if tissue is not Tissue.FLUID else 0.72
        canvas.stamp(chain(points, radii, p=2.2, cap=2.0), tissue, (*over, Tissue.LIGAMENT))
    inside = (Tissue.FLUID,)
    conus = next(i for i in range(len(path)) if path[i, 2] >= spine.at("L1")[2] - 16.0)
    cord = path[conus:]
    taper = np.tile([4.8 * s, 3.8 * s], (len(cord), 1))
    taper[0] *= 0.6
    if len(cord) > 1:
        canvas.stamp(chain(cord, taper), Tissue.NERVE, inside)
    dependent = (2.6 if params.prone else -2.6) * s
    for n, x in enumerate((-4.6, -2.2, 0.2, 2.4, 4.7)):
        root = path[: conus + 1] + np.array([x * s, dependent * (1.0 - 0.12 * (n - 2) ** 2), 0.0])
        canvas.stamp(chain(root, np.full((len(root), 2), 1.2 * s)), Tissue.NERVE, inside)


def paint_ligaments(canvas: Canvas, params: PatientParams, spine: Spine) -> None:
    """Interspinous sheets and the supraspinous cord between neighbouring spinous processes."""
    s, tips = params.size, spine.tips()
    rows = [sweep(tips[i + 1], tips[i], (2.6 * s, 2.6 * s, 2.2 * s, 2.2 * s)) for i in range(len(tips) - 1)]
    end = spine.sacral((0.0, -43.0 * s, -20.0 * s))
    rows.append(sweep(end, tips[-1], (2.6 * s, 2.6 * s, 2.2 * s, 2.2 * s)))
    for i in range(len(tips) - 1):
        upper, lower = (_sheet(spine, j, 0.5 * s) for j in (i, i + 1))
        rows.append(sweep(lower, upper, (1.6 * s, 1.6 * s, 11.0 * s, 11.0 * s), p=3.0))
    canvas.stamp(np.concatenate(rows), Tissue.LIGAMENT, SOFT)


def _sheet(spine: Spine, index: int, lift: float) -> np.ndarray:
    shape = spine.shapes[index]
    tip = spinous_tip(shape)
    root = shape.canal_y - 0.5 * shape.canal_depth
    return spine.rotation[index] @ np.array([0.0, 0.5 * (tip[1] + root) - 1.0, tip[2] + lift]) + spine.origin[index]


def paint_vertebrae(canvas: Canvas, spine: Spine, nearest: np.ndarray) -> None:
    """Vertebrae from the head down. Where two facets would touch, the space between them is cartilage.

    ``nearest`` holds the distance [mm] to the bone painted so far and is updated.
    """
    for shape, rotation, origin in zip(spine.shapes, spine.rotation, spine.origin, strict=True):
        rows = placed(posterior_rows(shape), rotation, origin)
        bore = placed(canal_rows(shape), rotation, origin)
        field, body, where = vertebra_field(canvas.grid, shape, rotation, origin, rows, bore)
        previous = nearest[where]
        mine = field < np.minimum(previous, 0.0)
        labels = canvas.labels[where]
        labels[mine] = Tissue.CORTICAL_BONE
        core = (field < -_POSTERIOR_CORTEX) | (body < -max(0.5, 0.6 * canvas.grid.spacing))
        labels[mine & core] = Tissue.TRABECULAR_BONE
        joint = (field < 1.0) & (previous < 1.0) & (np.abs(field - previous) < 2.0 * _JOINT_GAP)
        labels[joint] = Tissue.CARTILAGE
        np.minimum(previous, field, out=previous, casting="same_kind")


def spine_landmarks(spine: Spine, params: PatientParams) -> dict[str, np.ndarray]:
    """Body centres, spinous tips (3 mm inside the bone) and the S1 body's centre [mm]."""
    marks = {f"vertebra_{level}": spine.origin[i] for i, level in enumerate(LEVELS)}
    for i, level in enumerate(LEVELS):
        tip = spinous_tip(spine.shapes[i]) + np.array([0.0, 3.0, 0.0])
        marks[f"spinous_{level}"] = spine.rotation[i] @ tip + spine.origin[i]
    marks["sacrum"] = spine.sacral((0.0, -2.0 * params.size, -15.0 * params.size))
    return marks
