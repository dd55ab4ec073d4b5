"""Where the probe was: the pose from which the differentiable reference shows the images of a short sweep.

From one frame the six degrees of freedom are ill-conditioned: sliding or tilting out of the plane hardly changes it. A
few frames whose poses relative to one another are known hold them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose
from sonogym.ultrasound.frame import RenderParams
from sonogym.ultrasound.renderer import Renderer

UNIT = (1e-3,) * 3 + (math.radians(1.0),) * 3  # m, rad: of the unknowns, so that all weigh alike
STAGES = ((2.0, 12), (0.0, 24))  # blur [samples, lines] and most evaluations of each stage (design)
_SHOWN = 60.0  # dB below white that the residual sees


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


def register(
    renderer: Renderer,
    images: Float[Tensor, "frames samples lines"],
    start: Pose,
    sweep: Pose,
    anatomy_index: int = 0,
    stages: Sequence[tuple[float, int]] = STAGES,
) -> Pose:
    """The pose () near ``start`` () from which frames at ``sweep`` (frames,), poses relative to it, are ``images``.

    Gradient descent (L-BFGS) on the mean square difference of :func:`shown`, coarse to fine: each of ``stages`` blurs
    both sides by a Gaussian of so many samples and lines. Raises :class:`InvalidInputError` for a renderer without
    gradients or images of another shape.
    """
    config = renderer.config
    if config.sampling != "trilinear":
        raise InvalidInputError(f"registration needs RenderConfig(sampling='trilinear'), got {config.sampling!r}")
    wanted = (len(sweep.translation), config.samples, config.lines)
    if tuple(images.shape) != wanted:
        raise InvalidInputError(
            f"images must have shape (frames, samples, lines) = {wanted}, got {tuple(images.shape)}"
        )
    unit, offset = torch.tensor(UNIT), torch.zeros(6)
    for blur, evaluations in stages:
        blurs = (_blur(config.samples, blur), _blur(config.lines, blur).T)

        def error(offset: Tensor, blurs: tuple[Tensor, Tensor] = blurs) -> Tensor:
            seen = shown(renderer, (start @ Pose.exp(offset * unit)).unsqueeze(0) @ sweep, anatomy_index)
            return 1e3 * (blurs[0] @ (seen - images) @ blurs[1]).square().mean()

        offset = _descend(error, offset, evaluations)
    return start @ Pose.exp(offset * unit)


def _descend(error: Callable[[Tensor], Tensor], start: Tensor, evaluations: int) -> Float[Tensor, " unknowns"]:
    """Where ``evaluations`` of ``error`` and its gradient lead from ``start``."""
    value = start.clone().requires_grad_(True)
    optimiser = torch.optim.LBFGS([value], max_iter=evaluations, max_eval=evaluations, line_search_fn="strong_wolfe")

    def evaluate() -> Tensor:
        optimiser.zero_grad()
        result = error(value)
        result.backward()  # type: ignore[no-untyped-call]
        return result.detach()

    optimiser.step(evaluate)  # type: ignore[no-untyped-call]
    return value.detach()


def _blur(count: int, deviation: float) -> Float[Tensor, "count count"]:
    """Matrix that blurs ``count`` samples by a Gaussian, of unit sum also at the ends."""
    if not deviation:
        return torch.eye(count)
    place = torch.arange(count, dtype=torch.float32)
    weight = torch.exp(-0.5 * ((place[:, None] - place) / deviation) ** 2)
    return weight / weight.sum(1, keepdim=True)
