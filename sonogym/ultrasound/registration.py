"""Where the probe was: the pose from which the differentiable reference shows the images of a short sweep.

From one frame the six degrees of freedom are ill-conditioned: sliding or tilting out of the plane hardly changes it. A
few frames whose poses relative to one another are known hold them all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose
from sonogym.ultrasound.frame import RenderParams
from sonogym.ultrasound.renderer import Renderer

UNIT = (1e-3,) * 3 + (math.radians(1.0),) * 3  # m, rad: of the unknowns, so that all weigh alike
# blur [samples, lines] and half width of the secants [UNIT] of each step, coarse to fine (design)
STEPS = ((2.0, 0.5),) * 3 + ((1.0, 0.3),) * 2 + ((0.0, 0.3), (0.0, 0.2), (0.0, 0.15), (0.0, 0.1))
_DAMPING = 1e-3  # of the diagonal, Marquardt's
_SHOWN = 60.0  # dB below white that the residual sees


def swept(patient_from_probe: Pose, sweep: Pose) -> Pose:
    """The poses (poses x frames,) of the frames of a ``sweep`` (frames,) from each ``patient_from_probe`` (poses,)."""
    poses, frames = len(patient_from_probe.translation), len(sweep.translation)
    first = Pose(*(part.repeat_interleave(frames, 0) for part in vars(patient_from_probe).values()))
    return first @ Pose(*(part.repeat(poses, 1) for part in vars(sweep).values()))


def shown(
    renderer: Renderer, patient_from_probe: Pose, anatomy_index: int = 0, params: RenderParams | None = None
) -> Float[Tensor, "frames samples lines"]:
    """Brightness in [0, 1] of 60 dB before it is rounded, differentiable; ``patient_from_probe`` (frames,).

    Raises :class:`InvalidInputError` unless ``renderer`` gives decibels.
    """
    frames = len(patient_from_probe.translation)
    level = renderer.render(patient_from_probe, torch.full((frames,), anatomy_index), params).decibels
    if level is None:
        raise InvalidInputError("registration needs RenderConfig(outputs=('decibels',))")
    return (level / _SHOWN + 1.0).clamp(0.0, 1.0)


@torch.no_grad()
def register(
    renderer: Renderer,
    images: Float[Tensor, "frames samples lines"],
    start: Pose,
    sweep: Pose,
    anatomy_index: int = 0,
    steps: Sequence[tuple[float, float]] = STEPS,
) -> Pose:
    """The pose () near ``start`` () from which frames at ``sweep`` (frames,), poses relative to it, are ``images``.

    Gauss-Newton on the square of the difference of :func:`shown`, both sides blurred by a Gaussian of so many samples
    and lines. The derivatives are secants: the gradient of the reference is exact, but an echo appears where a line
    begins to graze an interface, and secants see past such kinks. All frames of a step are one batch. Raises
    :class:`InvalidInputError` for a renderer that jumps from voxel to voxel or images of another shape.
    """
    config = renderer.config
    if config.sampling != "trilinear":
        raise InvalidInputError(f"registration needs RenderConfig(sampling='trilinear'), got {config.sampling!r}")
    wanted = (len(sweep.translation), config.samples, config.lines)
    if tuple(images.shape) != wanted:
        raise InvalidInputError(
            f"images must have shape (frames, samples, lines) = {wanted}, got {tuple(images.shape)}"
        )
    offset = torch.zeros(6)
    for blur, half in steps:
        aside = half * torch.eye(6)
        twists = Pose.exp(torch.cat((offset[None], offset + aside, offset - aside)) * torch.tensor(UNIT))
        frames = swept(swept(start.unsqueeze(0), twists), sweep)
        seen = shown(renderer, frames, anatomy_index).unflatten(0, (13, -1)) - images
        error = (_blur(config.samples, blur) @ seen @ _blur(config.lines, blur).T).flatten(1)
        slope = (error[1:7] - error[7:]) / (2.0 * half)
        normal = slope @ slope.T
        offset = offset - torch.linalg.solve(normal + _DAMPING * normal.diagonal().diag(), slope @ error[0])
    return start @ Pose.exp(offset * torch.tensor(UNIT))


def _blur(count: int, deviation: float) -> Float[Tensor, "count count"]:
    """Matrix that blurs ``count`` samples by a Gaussian, of unit sum also at the ends."""
    if not deviation:
        return torch.eye(count)
    place = torch.arange(count, dtype=torch.float32)
    weight = torch.exp(-0.5 * ((place[:, None] - place) / deviation) ** 2)
    return weight / weight.sum(1, keepdim=True)
