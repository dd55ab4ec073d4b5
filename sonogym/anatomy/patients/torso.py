"""A whole torso: every structure painted in its order, then sealed and given its CT."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import torch

from sonogym.anatomy.anatomy import Anatomy, content_digest
from sonogym.anatomy.patients import (
    bowel,
    column,
    findings,
    mediastinum,
    muscles,
    organs,
    pelvis,
    ribs,
    soft_tissue,
    thorax,
    vessels,
)  # fmt: skip
from sonogym.anatomy.patients.canvas import Canvas
from sonogym.anatomy.patients.hounsfield import hounsfield
from sonogym.anatomy.patients.params import PatientParams
from sonogym.anatomy.patients.sdf import FAR, Grid
from sonogym.anatomy.patients.soft_tissue import Trunk, build_trunk
from sonogym.anatomy.patients.spine import Spine, build_spine
from sonogym.anatomy.volume import Volume

_AIR_VOXELS = 2
_BELOW_SACRUM, _ABOVE_T8 = 52.0, 16.0  # mm of the sacrum shown, and over the centre of T8


def _heights(params: PatientParams, spine: Spine, spacing: float) -> np.ndarray:
    low = float(spine.sacrum_origin[2]) - _BELOW_SACRUM * params.size
    high = float(spine.origin[0][2]) + _ABOVE_T8 * params.size
    return low + spacing * np.arange(int((high - low) / spacing) + 1)


def _grid(trunk: Trunk, spacing: float) -> Grid:
    low, high = trunk.extent()
    low = np.append(low - _AIR_VOXELS * spacing, trunk.z[0])
    counts = [int(np.ceil((high[i] - low[i]) / spacing)) + 1 + _AIR_VOXELS for i in range(2)]
    x, y, z = low.tolist()
    return Grid(corner=(x, y, z), spacing=spacing, shape=(counts[0], counts[1], len(trunk.z)))


def paint(params: PatientParams, spacing: float) -> tuple[Canvas, Trunk, dict[str, np.ndarray], list[findings.Truth]]:
    """Labels at ``spacing`` [mm], the trunk they fill, the landmarks [mm] and the truth of the findings."""
    spine = build_spine(params)
    trunk = build_trunk(params, spine, _heights(params, spine, spacing))
    canvas = Canvas(_grid(trunk, spacing))
    soft_tissue.paint_trunk(canvas, trunk)
    muscles.paint_muscles(canvas, params, spine)
    nearest = np.full(canvas.grid.shape, FAR, dtype=np.float16)
    marks = pelvis.paint_pelvis(canvas, params, spine)
    pelvis.paint_sacrum(canvas, params, spine, nearest)
    ribs.paint_ribs(canvas, params, spine, trunk)
    marks |= thorax.paint_lungs(canvas, params, spine)
    marks |= mediastinum.paint_mediastinum(canvas, params, spine, trunk)
    marks |= vessels.paint_vessels(canvas, params, spine)
    marks |= organs.paint_organs(canvas, params, spine, trunk)
    truths = findings.paint_soft_findings(canvas, params, spine)
    bowel.paint_bowel(canvas, params, spine, trunk)
    column.paint_discs(canvas, spine)
    column.paint_ligaments(canvas, params, spine)
    column.paint_canal(canvas, params, spine)
    column.paint_vertebrae(canvas, spine, nearest)
    truths += findings.paint_bone_findings(canvas, params, spine)
    canvas.seal()
    return canvas, trunk, marks | column.spine_landmarks(spine, params), truths


def assemble(params: PatientParams, spacing: float, name: str) -> Anatomy:
    """The painted torso as an :class:`Anatomy` in metres."""
    canvas, trunk, marks, truths = paint(params, 1e3 * spacing)
    marks |= {f"finding_{truth.name}": truth.place for truth in truths}
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] *= spacing
    matrix[:3, 3] = 1e-3 * torch.tensor(canvas.grid.corner, dtype=torch.float64)
    ct = torch.from_numpy(hounsfield(canvas.labels, 1e3 * spacing, params))[None]
    labels = torch.from_numpy(canvas.labels)[None]
    landmarks = {key: torch.tensor(1e-3 * point, dtype=torch.float32) for key, point in sorted(marks.items())}
    drawn = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(params).items()}
    facts = {"source": "procedural", "sex": "female" if params.female else "male", **drawn}
    facts["findings"] = [{"name": truth.name, **truth.facts} for truth in truths]
    return Anatomy(
        name=name,
        skin=soft_tissue.trunk_skin(trunk),
        landmarks=landmarks,
        digest=content_digest(ct, labels, matrix),
        ct=Volume(ct, matrix),
        labels=Volume(labels, matrix),
        facts=facts,
    )
