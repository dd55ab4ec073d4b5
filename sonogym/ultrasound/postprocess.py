"""From the envelope to grey: time gain compensation and log compression. Nothing looks at the rest of the frame."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

TGC_ABDOMEN = 0.6e-4  # dB/(m Hz), that is .6 dB/cm/MHz (design)
TGC_CAP = 80.0  # dB
DYNAMIC_RANGE = 60.0  # dB
REFERENCE_LEVEL = -28.0  # dB: where liver at the focus is displayed below white (design)


def tgc_decibels(ranges: Float[Tensor, "*ranges"], frequency: float, slope: float) -> Float[Tensor, "*ranges"]:
    """Gain [dB] at ranges [m]: 2 a_T f r, capped at 80 dB. ``slope`` a_T in dB/(m Hz), ``frequency`` in Hz."""
    return (2.0 * slope * frequency * ranges).clamp(max=TGC_CAP)


def decibels(
    envelope: Float[Tensor, "*batch samples lines"], tgc: Float[Tensor, " samples"], reference: float
) -> Float[Tensor, "*batch samples lines"]:
    """D = 20 log10(E / E_ref) + TGC [dB], with ``tgc`` in dB and the envelope floored at 1e-12 of the reference."""
    return 20.0 * torch.log10((envelope / reference).clamp_min(1e-12)) + tgc[:, None]


def log_compress(level: Float[Tensor, "*shape"], dynamic_range: float = DYNAMIC_RANGE) -> Float[Tensor, "*shape"]:
    """I = clip((D + DR) / DR) in [0, 1] of a level D [dB]."""
    return ((level + dynamic_range) / dynamic_range).clamp(0.0, 1.0)


def to_bytes(image: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """[0, 1] rounded to 0 .. 255."""
    return (255.0 * image + 0.5).to(torch.uint8)
