"""A picture of a patient: three planes through the CT with tissues, skin and landmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sonogym.anatomy.anatomy import Anatomy
from sonogym.anatomy.tissues import Tissue
from sonogym.geometry import grids

WINDOW = (-250.0, 350.0)  # HU
OVERLAY = 0.45
NEAR = 12e-3  # m: landmarks this close to a plane are drawn in it
_PLANES = (("sagittal", 0, "A", "S"), ("coronal", 1, "R", "S"), ("axial", 2, "R", "A"))
_COLOURS = {
    Tissue.SKIN: "#e8b08a", Tissue.SUBCUTANEOUS_FAT: "#f2e27c", Tissue.MUSCLE: "#a2403c", Tissue.CONNECTIVE: "#c9c2b0",
    Tissue.LIVER: "#7a4a2b", Tissue.KIDNEY_CORTEX: "#d9772b", Tissue.SPLEEN: "#7d4fa0", Tissue.PANCREAS: "#e0b03c",
    Tissue.BLOOD: "#e02020", Tissue.FLUID: "#3f8fe0", Tissue.BILE: "#3aa655", Tissue.MYOCARDIUM: "#c2255c",
    Tissue.BOWEL: "#c98f6b", Tissue.CARTILAGE: "#7fd6e8", Tissue.TRABECULAR_BONE: "#cfe0b0",
    Tissue.CORTICAL_BONE: "#ffffff", Tissue.LUNG: "#5a7fb0", Tissue.NERVE: "#f5f03a", Tissue.VISCERAL_FAT: "#c8a02a",
    Tissue.KIDNEY_PYRAMID: "#a04a10", Tissue.KIDNEY_SINUS: "#ffd0a0", Tissue.DISC: "#30b0b0",
    Tissue.LIGAMENT: "#9be09b", Tissue.DIAPHRAGM: "#8a2be2", Tissue.STOMACH: "#e07fb0", Tissue.VEIN: "#3050c0",
    Tissue.METAL: "#00ffff", Tissue.STONE: "#ff66ff", Tissue.LESION: "#ffe0c0",
}  # fmt: skip


def write_figure(anatomy: Anatomy, path: Path) -> None:
    """Write a PNG of the sagittal, coronal and axial planes through the landmarks' middle; raises OSError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sizes = [n * step for n, step in zip(anatomy.ct.voxels.shape[1:], anatomy.ct.spacing, strict=True)]
    figure = Figure(figsize=(17, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3, width_ratios=[sizes[1], sizes[0], sizes[0]])
    centre = _centre(anatomy)
    for ax, plane in zip(axes, _PLANES, strict=True):
        _draw(ax, anatomy, centre, plane)
    _legend(figure, anatomy)
    figure.suptitle(f"{anatomy.name}: {_summary(anatomy)}", fontsize=11)
    figure.savefig(path, dpi=80, format="png")


def _centre(anatomy: Anatomy) -> np.ndarray:
    """Voxel through which the planes go: L2 or L3 if known, else the middle landmark, else the body's middle."""
    points = anatomy.landmarks
    chosen = next((points[f"vertebra_{level}"] for level in ("L2", "L3", "L1") if f"vertebra_{level}" in points), None)
    if chosen is None and points:
        chosen = torch.stack([point.float() for point in points.values()]).median(dim=0).values
    shape = np.array(anatomy.ct.voxels.shape[1:])
    if chosen is None:
        return shape // 2
    voxel = grids.affine(anatomy.ct.voxel_from_patient, chosen.double()).numpy()
    return np.clip(np.rint(voxel).astype(int), 0, shape - 1)


def _draw(ax: Any, anatomy: Anatomy, centre: np.ndarray, plane: tuple[str, int, str, str]) -> None:
    title, axis, right, up = plane
    index: list[Any] = [slice(None)] * 3
    index[axis] = int(centre[axis])
    hu = anatomy.ct.voxels[0][tuple(index)].numpy().T
    tissue = anatomy.labels.voxels[0][tuple(index)].numpy().T
    extent = _extent(anatomy, axis)
    ax.imshow(hu, cmap="gray", vmin=WINDOW[0], vmax=WINDOW[1], origin="lower", interpolation="nearest", extent=extent)
    ax.imshow(_rgba()[tissue], origin="lower", interpolation="nearest", extent=extent)
    _draw_skin(ax, anatomy, tuple(index), extent)
    for name, point in anatomy.landmarks.items():
        _mark(ax, anatomy, centre, axis, name, point, "lime")
    for name, entry in anatomy.facts.get("estimates", {}).items():
        if name not in anatomy.landmarks:
            _mark(ax, anatomy, centre, axis, f"{name}?", 1e-3 * torch.tensor(entry["mm"]), "orange")
    where = float(anatomy.ct.patient_from_voxel[axis, axis]) * centre[axis] + float(
        anatomy.ct.patient_from_voxel[axis, 3]
    )
    ax.set_title(f"{title}, {'xyz'[axis]} = {1e3 * where:.0f} mm", fontsize=10)
    ax.set_xlabel(f"{right} [mm]")
    ax.set_ylabel(f"{up} [mm]")


def _extent(anatomy: Anatomy, axis: int) -> tuple[float, float, float, float]:
    """Outer edges [mm] of the slice across ``axis``: left, right, bottom, top."""
    sides = []
    for a in range(3):
        start, step = (1e3 * float(anatomy.ct.patient_from_voxel[a, column]) for column in (3, a))
        if a != axis:
            sides += [start - 0.5 * step, start + (anatomy.ct.voxels.shape[1 + a] - 0.5) * step]
    return sides[0], sides[1], sides[2], sides[3]


def _mark(ax: Any, anatomy: Anatomy, centre: np.ndarray, axis: int, name: str, point: Tensor, colour: str) -> None:
    """A cross and a name in the plane, for points close to it."""
    across, along = (a for a in range(3) if a != axis)
    voxel = grids.affine(anatomy.ct.voxel_from_patient, point.double()).tolist()
    if abs(voxel[axis] - centre[axis]) * anatomy.ct.spacing[axis] < NEAR:
        at = (1e3 * float(point[across]), 1e3 * float(point[along]))
        ax.plot(*at, "+", color=colour, markersize=7)
        ax.annotate(name, at, color=colour, fontsize=7, xytext=(3, 2), textcoords="offset points")


def _draw_skin(ax: Any, anatomy: Anatomy, index: tuple[Any, ...], extent: tuple[float, float, float, float]) -> None:
    """The skin in cyan, in red where the scan cut it and no probe can stand."""
    points = _slice_points(anatomy, index)
    distance = anatomy.skin.at(points).numpy().T
    usable = anatomy.skin.usable(points).numpy().T
    for shown, colour in ((usable, "cyan"), (~usable, "red")):
        if shown.any():
            ax.contour(np.where(shown, distance, np.nan), levels=[0.0], colors=colour, linewidths=0.9, extent=extent)


def _slice_points(anatomy: Anatomy, index: tuple[Any, ...]) -> torch.Tensor:
    shape = anatomy.ct.voxels.shape[1:]
    ticks = [torch.arange(n) if isinstance(i, slice) else torch.tensor([i]) for n, i in zip(shape, index, strict=True)]
    voxel = torch.stack(torch.meshgrid(*ticks, indexing="ij"), dim=-1).float()
    points = grids.affine(anatomy.ct.patient_from_voxel.float(), voxel)
    return points.squeeze(index.index(next(i for i in index if not isinstance(i, slice))))


def _rgba() -> np.ndarray:
    from matplotlib.colors import to_rgba

    table = np.zeros((256, 4))
    for tissue, colour in _COLOURS.items():
        table[tissue] = to_rgba(colour, OVERLAY)
    return table


def _legend(figure: Any, anatomy: Anatomy) -> None:
    from matplotlib.patches import Patch

    present = {int(i) for i in torch.unique(anatomy.labels.voxels)}
    patches = [
        Patch(color=colour, label=tissue.name.lower()) for tissue, colour in _COLOURS.items() if tissue in present
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=9, fontsize=8)


def _summary(anatomy: Anatomy) -> str:
    spacing = " x ".join(f"{1e3 * step:.2g}" for step in anatomy.ct.spacing)
    return f"{tuple(anatomy.ct.voxels.shape[1:])} voxels of {spacing} mm, {len(anatomy.landmarks)} landmarks"
