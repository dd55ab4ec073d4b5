"""Bounded reward terms."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def tolerance(
    value: Float[Tensor, "*batch"], bound: float, margin: float, at_margin: float = 0.1
) -> Float[Tensor, "*batch"]:
    """1 where ``|value| <= bound``, then a Gaussian slope that has fallen to ``at_margin`` a ``margin`` beyond it."""
    beyond = (value.abs() - bound).clamp_min(0.0) / margin
    return torch.exp(beyond.square() * torch.log(torch.tensor(at_margin)))


def bounded(value: Float[Tensor, "*batch"], limit: float) -> Float[Tensor, "*batch"]:
    """``value`` kept within [-limit, limit]."""
    return value.clamp(-limit, limit)
