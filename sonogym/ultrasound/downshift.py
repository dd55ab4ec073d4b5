"""Attenuation takes the high frequencies first: the pulse's centre falls with depth, its length does not.

A pulse with the Gaussian amplitude spectrum exp(-(f - f0)^2 / (2 sigma^2)) that has travelled 2 z through tissue of
amplitude attenuation a f [Np/m] keeps exp(-(f - f0)^2 / (2 sigma^2) - 2 a z f). Completing the square,

    f1(z) = f0 - 2 a z sigma^2,     peak = exp(-2 a z f0) exp((2 a z sigma)^2 / 2),     sigma unchanged

(Kuc, IEEE Trans. Acoust. Speech Signal Process. 32(1):1-6, 1984, for the shift). The first factor of the peak is the
law at the centre frequency, which the march applies with each tissue's own values; the second and f1 are taken from the
reference liver, so that they are tables of depth. Elevation widths are tabulated data and stay.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.ultrasound.psf import FWHM_PER_SIGMA
from sonogym.ultrasound.transducer import Transducer

LIVER = 0.5e-4 * math.log(10.0) / 20.0  # Np/(m Hz): .5 dB/cm/MHz, the reference liver
LOWEST = 0.3  # of f0: a real pulse has no energy below, and none is made up at great depth (design)


def spectral_width(transducer: Transducer) -> float:
    """sigma [Hz] of the pulse's amplitude spectrum, whose full width at half maximum is B_eff."""
    return transducer.effective_bandwidth * transducer.center_frequency / FWHM_PER_SIGMA


def centre_frequency(transducer: Transducer, ranges: Float[Tensor, " samples"]) -> Float[Tensor, " samples"]:
    """f1 [Hz] of echoes from ``ranges`` [m]."""
    f0 = transducer.center_frequency
    return (f0 - 2.0 * LIVER * ranges * spectral_width(transducer) ** 2).clamp_min(LOWEST * f0)


def level_gain(transducer: Transducer, ranges: Float[Tensor, " samples"]) -> Float[Tensor, " samples"]:
    """Amplitude of echoes from ``ranges`` [m] over the law of the centre frequency: exp((2 a z sigma)^2 / 2)."""
    sigma = spectral_width(transducer)
    fall = transducer.center_frequency - centre_frequency(transducer, ranges)
    return torch.exp(0.5 * (fall / sigma).square())
