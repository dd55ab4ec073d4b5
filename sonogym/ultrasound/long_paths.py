"""Sound that comes back late: tables and values of reverberation, a dry face, comet tails, ring-down of gas, haze.

Both paths read them; :mod:`sonogym.ultrasound.reverberation` is the definition in torch. All values are `design`
choices within the ranges of physics.md sections 4 and 8.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonogym.anatomy.tissues import Tissue
from sonogym.ultrasound.acoustics import INTERFACE_LEVEL
from sonogym.ultrasound.frame import RenderConfig
from sonogym.ultrasound.transducer import Transducer

LENS = 0.9e-3  # m of apparent depth across the probe's lens: .6 mm of silicone at 1000 m/s (design)
FACE_REFLECTION = 0.15  # of the probe's face, amplitude (design, .1 to .3: at .3 ribs repeat too crisply)
PEAKS = 4  # strongest interfaces of a line that reverberate
FAINTEST = 1e-6  # smallest a_1 rho^(m-1) followed: the receiver noise, relative to a total reflection
SILENT = 1e-8  # a reverberation below this is left out: 40 dB less than that
COMET_REACH = 4e-3  # m of apparent depth: a thicker layer's bounces are separate echoes, no tail (design)
COMET_ORDERS = 64  # most bounces followed: those of steel have fallen by 50 dB
GAS = (int(Tissue.AIR), int(Tissue.LUNG))
TAIL_LEVEL = 2e-3  # of the tail of gas, relative to what its surface reflects (design)
TAIL_DECAY = 10e-3  # m of apparent depth over which the tail falls to 1/e (design: at 18 mm TGC cancels the fall)
HAZE_DECAY = 30e-3  # m over which haze falls to 1/e of liver (design)
_LIVER = 0.5e-4  # dB/(m Hz): the reference liver
_NONE = torch.zeros(0)


@dataclass(frozen=True, kw_only=True)
class LongPaths:
    """Tables of the late echoes; an effect that is off has an empty table or a zero.

    ``face``: reflection of the probe's face; ``lens`` (samples,) what a face that lies in air sees; ``orders``: most
    reflections of one interface; ``nearest``: sample from which on an interface counts; ``comet``: most samples across
    a layer that sound bounces in (0: it does not); ``tail`` (samples,): amplitude of the tail, in liver RMS for a total
    reflection, by samples below the surface of the gas; ``haze`` (samples,): white amplitude that the point spread
    function turns into unit RMS at the face, falling with depth.
    """

    face: float
    lens: Float[Tensor, " lens_samples"]
    orders: int
    nearest: int
    comet: float
    tail: Float[Tensor, " tail_samples"]
    haze: Float[Tensor, " samples"]

    def to(self, target: torch.device | torch.dtype) -> LongPaths:
        """The tables on a device or in a precision."""
        return dataclasses.replace(
            self, lens=self.lens.to(target), tail=self.tail.to(target), haze=self.haze.to(target)
        )


def long_paths(
    transducer: Transducer, config: RenderConfig, ranges: Tensor, pulse: float, spread: Tensor, gain: Tensor
) -> LongPaths:
    """Tables for samples at ``ranges`` [m] of a pulse ``pulse`` [m] wide.

    ``spread`` (samples,) is the RMS behind the point spread function of white noise of unit RMS. Haze is scaled by the
    reference liver's attenuation and by ``gain`` (samples,), what downshift adds to liver, so that its level relative
    to liver falls by HAZE_DECAY alone.
    """
    step = float(ranges[0]) * 2.0
    below = (torch.arange(len(ranges)) + 0.5) * step
    liver = 10.0 ** (-2.0 * _LIVER * transducer.center_frequency * ranges / 20.0)
    return LongPaths(
        face=FACE_REFLECTION if config.reverberation else 0.0,
        lens=_lens(ranges, pulse) if config.reverberation else _NONE,
        orders=_orders(),
        nearest=math.ceil(pulse / step),
        comet=COMET_REACH / step if config.comet_tails else 0.0,
        tail=TAIL_LEVEL * INTERFACE_LEVEL * torch.exp(-below / TAIL_DECAY) if config.ring_down else _NONE,
        haze=liver * gain * torch.exp(-ranges / HAZE_DECAY) / spread,
    )


def _lens(ranges: Tensor, pulse: float) -> Float[Tensor, " samples"]:
    """Sound between the probe's face and the air at its lens: sum of rho^m at m LENS, each a Gaussian ``pulse`` [m]."""
    order = torch.arange(_orders())
    bounces = 2.0 ** (-4.0 * ((ranges[:, None] - LENS * order) / pulse) ** 2)
    return (bounces * FACE_REFLECTION**order).sum(1)


def _orders() -> int:
    """Most bounces off the face that are followed."""
    return 1 + math.ceil(math.log(FAINTEST) / math.log(FACE_REFLECTION))


class GasSurface:
    """Where each line first met gas, and how much of the sound turned back there; all (envs, lines)."""

    def __init__(self, like: Float[Tensor, "envs lines"]) -> None:
        self.row = torch.zeros_like(like, dtype=torch.int64)
        self.strength = torch.zeros_like(like)
        self.place = torch.zeros_like(like)

    def meet(
        self,
        at: tuple[Int[Tensor, " points"], Int[Tensor, " points"]],
        label: Int[Tensor, " points"],
        row: int,
        strength: Float[Tensor, " points"],
        place: Float[Tensor, " points"],
    ) -> None:
        """Keep those interfaces ``at`` (env, line) that are a line's first into gas; ``place`` [m] along the line."""
        gas = torch.zeros_like(label, dtype=torch.bool)
        for tissue in GAS:
            gas = gas | (label == tissue)
        first: Bool[Tensor, " points"] = gas & (self.strength[at] == 0)
        where = (at[0][first], at[1][first])
        self.row = self.row.index_put(where, torch.tensor(row, device=label.device))
        self.strength = self.strength.index_put(where, strength[first])
        self.place = self.place.index_put(where, place[first])

    def tail(self, row: int, tail: Tensor) -> tuple[Float[Tensor, "envs lines"], Int[Tensor, "envs lines"]]:
        """Amplitude of the tail at sample ``row``, and how many samples below the surface that is."""
        below = (row - self.row).clamp_min(0)
        return self.strength * tail[below], below
