"""Interlaminar windows of a patient as their probes see them: `python benchmarks/windows.py PATIENT [OUT]`.

Each panel is the image plane through the labels (green: bone, white edge; light: canal where labelled), with the nine
scan lines that decide whether the window counts as open. Committed as docs/windows.png for s0004 (shard 001).
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from sonogym.anatomy.library import load_patient
from sonogym.anatomy.plane_specs import find_spec
from sonogym.anatomy.planes import plane_views
from sonogym.anatomy.tissues import BONE
from sonogym.anatomy.windows import labels_at, line_points

OUT = Path(__file__).parents[1] / "docs" / "windows.png"
COLUMNS = 5


def main() -> None:
    torch.set_num_threads(1)
    anatomy = load_patient(sys.argv[1])
    views = {name: view for name, view in plane_views(anatomy, "spine").items() if name.startswith("interlaminar")}
    rows = -(-len(views) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(3.4 * COLUMNS, 4.2 * rows), squeeze=False)
    across, deep = torch.arange(-50, 51) * 1e-3, torch.arange(-10, 110) * 1e-3
    for axis, (name, view) in zip(axes.flat, views.items(), strict=False):
        points = torch.stack(torch.meshgrid(across, torch.zeros(1), deep, indexing="ij"), -1)[:, 0]
        labels = labels_at(anatomy.labels, view.pose.apply(points)).numpy()
        axis.imshow(labels.T, extent=(-50, 50, 110, -10), cmap="nipy_spectral", vmin=0, vmax=30)
        axis.contour(1e3 * across, 1e3 * deep, np.isin(labels, BONE).T, levels=[0.5], colors="w")
        target = view.pose.inverse().apply(view.target)[None]
        for line in line_points(target, find_spec(name).window)[0]:
            axis.plot(1e3 * line[:, 0], 1e3 * line[:, 2], "y-", linewidth=0.5)
        axis.set_title(f"{name.removeprefix('interlaminar_')}: {view.window:.0%} open", fontsize=9)
    axes[0, 0].set_ylabel("depth [mm]")
    figure.tight_layout()
    figure.savefig(sys.argv[2] if len(sys.argv) > 2 else OUT, dpi=60)


if __name__ == "__main__":
    main()
