"""The PNG of ``sonogym render``: the picture alone, or with millimetre axes and the tissue map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sonogym.anatomy.tissues import TISSUE_COUNT, Tissue
from sonogym.ultrasound.transducer import Transducer

Labels = tuple[np.ndarray, np.ndarray]


def picture_size(transducer: Transducer, depth: float, height: int) -> tuple[int, int]:
    """Height and width in pixels of a picture that the view fills."""
    from sonogym.ultrasound.scan_conversion import view_extent

    half, top, bottom = view_extent(transducer, depth)
    return height, max(round(height * 2.0 * half / (bottom - top)), 2)


def draw(path: Path, image: np.ndarray, labels: Labels | None, extent: Sequence[float], axes: bool) -> None:
    """Write ``image`` (height, width) uint8; ``labels`` are tissue ids and the mask of the view; ``extent`` in mm."""
    if labels is None and not axes:
        from PIL import Image

        Image.fromarray(image).save(path, format="PNG")
        return
    _figure(image, labels, extent, axes).savefig(path, format="png", dpi=100, facecolor="black")


def tissue_colours() -> np.ndarray:
    """(tissues, 3) distinct colours; gas is black."""
    from matplotlib import colormaps

    maps = [colormaps[name].colors for name in ("tab20", "Set2", "Dark2")]  # type: ignore[attr-defined]
    colours = np.concatenate(maps)[:TISSUE_COUNT]
    colours[Tissue.AIR] = 0.0
    return colours


def _figure(image: np.ndarray, labels: Labels | None, extent: Sequence[float], axes: bool) -> Any:
    from matplotlib.figure import Figure

    panels = 1 if labels is None else 2
    inches = 8.0 * image.shape[1] / image.shape[0]
    figure = Figure(figsize=(panels * inches + 2.0 * (panels - 1) + 1.0, 8.5), layout="constrained")
    shown = figure.subplots(1, panels, squeeze=False)[0]
    shown[0].imshow(image, cmap="gray", vmin=0, vmax=255, extent=extent)
    if labels is not None:
        _draw_labels(shown[1], labels, extent)
    for panel in shown:
        _style(panel, axes)
    return figure


def _draw_labels(panel: Any, labels: Labels, extent: Sequence[float]) -> None:
    from matplotlib.patches import Patch

    tissue, inside = labels
    colours = tissue_colours()
    panel.imshow(np.where(inside[..., None], colours[tissue], 0.0), extent=extent, interpolation="nearest")
    present = [Tissue(i) for i in np.unique(tissue[inside])]
    handles = [Patch(color=colours[i], label=i.name.lower().replace("_", " ")) for i in present]
    panel.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, labelcolor="white")


def _style(panel: Any, axes: bool) -> None:
    panel.set_facecolor("black")
    if not axes:
        panel.set_axis_off()
        return
    panel.set_xlabel("lateral [mm]", color="white")
    panel.set_ylabel("depth [mm]", color="white")
    panel.tick_params(colors="white")
