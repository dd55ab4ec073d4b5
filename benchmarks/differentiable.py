"""Registers a probe pose to an image by gradient descent and draws it: docs/differentiable.png."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from sonogym.anatomy import phantoms
from sonogym.anatomy.tissues import Tissue
from sonogym.geometry import Pose
from sonogym.ultrasound.frame import RenderConfig
from sonogym.ultrasound.renderer import Renderer

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "differentiable.png"
FRAMES = 48
FREE = torch.tensor([0, 2, 4])  # lateral, depth, turn about the elevation axis
UNIT = torch.tensor([1e-3] * 3 + [math.radians(1.0)] * 3)


def organs() -> object:
    """Layers and two organs, none aligned with the voxels."""

    def ball(x: float, y: float, radius: float) -> object:
        return lambda points: (points[..., 0] - x).square() + (points[..., 1] - y).square() <= radius**2

    shapes = [
        (Tissue.MUSCLE, lambda points: points[..., 1] > 0.008),
        (Tissue.LIVER, lambda points: points[..., 1] > 0.02 + 0.15 * points[..., 2] + 0.1 * points[..., 0]),
        (Tissue.BLOOD, ball(-0.012, 0.045, 0.008)),
        (Tissue.KIDNEY_CORTEX, ball(0.018, 0.05, 0.010)),
    ]
    return phantoms.phantom("organs", Tissue.SUBCUTANEOUS_FAT, shapes, 1.5e-3, (0.12, 0.085, 0.05))


def main() -> None:
    """Descend from 2 mm and 2 degrees off and save before, after, goal and the loss."""
    config = RenderConfig(
        lines=32, samples=48, depth=0.08, outputs=("decibels",), sampling="trilinear", speckle=False, pitch=1.5e-3
    )
    renderer = Renderer([organs()], "C5-2v", config)
    nudge = torch.tensor([[0.0013, 0.0007, 0.0004, 0.03, -0.02, 0.04]])
    base = phantoms.phantom_pose(press=0.004).unsqueeze(0) @ Pose.exp(nudge)

    def image(free: torch.Tensor) -> torch.Tensor:
        twist = torch.zeros(6).index_put((FREE,), free) * UNIT
        level = renderer.render(base @ Pose.exp(twist[None]), torch.tensor([0])).decibels
        return (level / 60.0 + 1.0).clamp(0.0, 1.0)[0]

    goal = image(torch.zeros(3)).detach()
    free = torch.tensor([1.6, 1.2, -2.0], requires_grad=True)  # mm, mm, degrees
    before = image(free).detach()
    losses: list[float] = []
    optimiser = torch.optim.LBFGS([free], max_iter=FRAMES, max_eval=FRAMES, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = 1e3 * (image(free) - goal).square().mean()
        loss.backward()
        losses.append(float(loss.detach()))
        return loss.detach()

    optimiser.step(closure)
    draw(before, image(free).detach(), goal, losses, free.detach().tolist())


def draw(before: torch.Tensor, after: torch.Tensor, goal: torch.Tensor, losses: list[float], left: list[float]) -> None:
    """Four panels in a row."""
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.6), layout="constrained")
    titles = ("2 mm, 2 deg off", f"found: {math.hypot(*left[:2]):.2f} mm, {abs(left[2]):.2f} deg off", "goal")
    for axis, picture, title in zip(axes, (before, after, goal), titles, strict=False):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=1, aspect="auto")
        axis.set(title=title, xlabel="scan line", ylabel="sample")
    axes[3].semilogy(losses)
    axes[3].set(title="loss", xlabel="frame")
    figure.savefig(PICTURE, dpi=80)
    print(titles[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
