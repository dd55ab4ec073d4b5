"""One plane pressed harder and harder, image beside labels: `python benchmarks/press.py` writes docs/press.png."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt

from sonogym.anatomy.planes import plane_pose
from sonogym.anatomy.tissues import TISSUE_COUNT
from sonogym.geometry import Pose
from sonogym.robot.contact import Contact
from sonogym.ultrasound.frame import RenderConfig, RenderParams
from sonogym.ultrasound.renderer import Renderer

FORCES = (0.0, 2.0, 5.0, 10.0, 20.0)  # N
DEEPEST, TRIES = 0.05, 311  # m of press that are tried
PALETTE = plt.get_cmap("gist_ncar")((np.arange(TISSUE_COUNT) * 11 % TISSUE_COUNT + 0.5) / TISSUE_COUNT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patient", default="procedural:test/7")
    parser.add_argument("--plane", default="aorta_transverse")
    parser.add_argument("--probe", default="C5-2v")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "press.png")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = RenderConfig(outputs=("labels",), depth=0.12, planes=3, samples=768)
    renderer = Renderer([options.patient], options.probe, config)
    pose, force = pressed(renderer, plane_pose(renderer.bodies[0], options.plane))
    index = torch.zeros(len(FORCES), dtype=torch.long)
    params = replace(RenderParams.default(len(FORCES)), speckle_seed=torch.ones(len(FORCES), dtype=torch.long))
    draw(renderer.render(pose, index, params), force, options)


def pressed(renderer: Renderer, skin: Pose) -> tuple[Pose, torch.Tensor]:
    """The poses along the probe's axis that come closest to FORCES, and the forces [N] there."""
    press = torch.linspace(-0.012, DEEPEST, TRIES)
    zero = torch.zeros(TRIES)
    tries = skin.unsqueeze(0) @ Pose.exp(torch.stack((zero, zero, press, zero, zero, zero), dim=-1))
    contact = Contact(renderer.skin, renderer.bone, renderer.transducer)
    reading = contact.read(tries, torch.zeros(TRIES, dtype=torch.long))
    force = reading.force
    touching = int((reading.indentation >= 0.0).int().argmax())
    rows = [touching, *((force - wanted).abs().argmin().item() for wanted in FORCES[1:])]
    return tries[torch.tensor(rows)], force[rows]


def draw(frame, force, options) -> None:
    """Beam images over labels, one column a force; depth down, lines across."""
    figure, axes = plt.subplots(2, len(FORCES), figsize=(3 * len(FORCES), 7), constrained_layout=True)
    extent = (0, frame.beam.shape[-1], 1e3 * float(frame.depth[-1]), 0)
    for column, (image, labels) in enumerate(zip(frame.beam[:, 0], frame.labels, strict=True)):
        axes[0, column].imshow(image, cmap="gray", vmin=0, vmax=255, aspect="auto", extent=extent)
        axes[1, column].imshow(PALETTE[labels.numpy()], aspect="auto", extent=extent)
        axes[0, column].set_title(f"{float(force[column]):.1f} N")
        for row in (0, 1):
            axes[row, column].set_xticks([])
            axes[row, column].tick_params(labelsize=7)
    axes[0, 0].set_ylabel("depth [mm]")
    axes[1, 0].set_ylabel(f"tissues, {options.plane}, {options.probe}")
    figure.savefig(options.out, dpi=70)


if __name__ == "__main__":
    main()
