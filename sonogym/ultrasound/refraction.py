"""Refraction: where two tissues differ in speed, a line goes on in the direction that Snell's law gives it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST_CHANGE = 0.02  # share by which the speeds must differ: less bends a line by under half a degree at 20 degrees


def bend(
    direction: Float[Tensor, "points 3"], normal: Float[Tensor, "points 3"], ratio: Float[Tensor, " points"]
) -> Float[Tensor, "points 3"]:
    """Directions behind interfaces: u' = q u + (sign(u.n) cos tt - q u.n) n, sin tt = q sin ti, q = c2 / c1.

    Lengths are kept. A line goes straight on where ``normal`` is zero or across it, where the speeds differ less than
    ``SMALLEST_CHANGE``, and where all sound is reflected.
    """
    length = direction.norm(dim=-1, keepdim=True)
    slope = normal.norm(dim=-1)
    u, n = direction / length, normal / slope.clamp_min(1e-12)[:, None]
    along = (u * n).sum(-1)
    cosine2 = 1.0 - ratio.square() * (1.0 - along.square())
    bends = ((ratio - 1.0).abs() > SMALLEST_CHANGE) & (cosine2 > 0.0) & (along != 0.0)
    share = along.sign() * torch.where(bends, cosine2, torch.ones_like(cosine2)).sqrt() - ratio * along
    turned = length * (ratio[:, None] * u + share[:, None] * n)
    return torch.where(bends[:, None], turned, direction)
