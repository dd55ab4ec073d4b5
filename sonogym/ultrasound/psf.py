"""Widths of the point spread function: -6 dB full widths [m] of the two-way amplitude along each axis."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.ultrasound.transducer import Transducer

FWHM_PER_SIGMA = 2.3548200450309493  # 2 sqrt(2 ln 2) of a Gaussian


def axial_width(transducer: Transducer) -> float:
    """.441 lambda / B_eff: the pulse of a Gaussian band, two-way travel."""
    return 0.441 * transducer.wavelength / transducer.effective_bandwidth


def lateral_width(
    transducer: Transducer, depths: Float[Tensor, "*depths"], wavelengths: Float[Tensor, "*depths"] | None = None
) -> Float[Tensor, "*depths"]:
    """1/w^2 = 1/w_rx^2 + 1/w_tx^2: dynamic receive focus at constant f-number, one transmit focus.

    The aperture that a shallow depth can use is its depth over the f-number, so w_rx stays constant.
    ``wavelengths`` [m] of each depth are the probe's own by default.
    """
    a, focus = transducer.lateral_a, transducer.transmit_focus
    wavelength: float | Tensor = transducer.wavelength if wavelengths is None else wavelengths
    aperture = focus / transducer.transmit_f_number
    receive = a * wavelength * transducer.receive_f_number
    diffraction = a * wavelength * depths / aperture
    defocus = transducer.lateral_b * aperture * (1.0 - depths / focus)
    transmit_squared = diffraction.square() + defocus.square()
    return (1.0 / receive**2 + 1.0 / transmit_squared).rsqrt()


def elevation_width(transducer: Transducer, depths: Float[Tensor, "*depths"]) -> Float[Tensor, "*depths"]:
    """The preset's table, interpolated linearly; held at its ends."""
    known = torch.tensor(transducer.elevation_depths, dtype=depths.dtype, device=depths.device)
    widths = torch.tensor(transducer.elevation_widths, dtype=depths.dtype, device=depths.device)
    upper = torch.searchsorted(known, depths.contiguous()).clamp(1, len(known) - 1)
    low, high = known[upper - 1], known[upper]
    weight = ((depths - low) / (high - low)).clamp(0.0, 1.0)
    return torch.lerp(widths[upper - 1], widths[upper], weight)
