"""Widths of the point spread function: -6 dB full widths [m] of the two-way amplitude along each axis."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.ultrasound.transducer import Transducer

_ELEMENTS = 32  # points on half an aperture at which its directivity is read
_ELEMENT_WIDTH = 0.9  # of the pitch; the rest is kerf (.90-.91 in the makers' figures of L11-5v and C5-2v)
FWHM_PER_SIGMA = 2.3548200450309493  # 2 sqrt(2 ln 2) of a Gaussian


def axial_width(transducer: Transducer) -> float:
    """.441 lambda / B_eff: the pulse of a Gaussian band, two-way travel."""
    return 0.441 * transducer.wavelength / transducer.effective_bandwidth


def lateral_width(
    transducer: Transducer, depths: Float[Tensor, "*depths"], wavelengths: Float[Tensor, "*depths"] | None = None
) -> Float[Tensor, "*depths"]:
    """1/w^2 = 1/w_rx^2 + 1/w_tx^2: dynamic receive focus, one transmit focus, apertures as wide as they are heard.

    The receive aperture is the depth over the f-number as far as the probe has elements. ``wavelengths`` [m] of each
    depth are the probe's own by default.
    """
    a, focus = transducer.lateral_a, transducer.transmit_focus
    wavelength: float | Tensor = transducer.wavelength if wavelengths is None else wavelengths
    send = heard_aperture(transducer, torch.full_like(depths, focus / transducer.transmit_f_number), depths)
    receive = a * wavelength * depths / heard_aperture(transducer, depths / transducer.receive_f_number, depths)
    diffraction = a * wavelength * depths / send
    defocus = transducer.lateral_b * send * (1.0 - depths / focus)
    transmit_squared = diffraction.square() + defocus.square()
    return (1.0 / receive**2 + 1.0 / transmit_squared).rsqrt()


def heard_aperture(
    transducer: Transducer, aperture: Float[Tensor, "*depths"], depths: Float[Tensor, "*depths"]
) -> Float[Tensor, "*depths"]:
    """Width [m] of an even aperture with the second moment of ``aperture`` [m] as a point at ``depths`` hears it.

    An element hears sinc(w sin t / lambda) cos t at an angle t from its normal (a strip of width w in a soft baffle:
    Selfridge, Kino and Khuri-Yakub, Appl. Phys. Lett. 37, 1980); those of a curved face look away from the axis.
    """
    share = (torch.arange(_ELEMENTS, dtype=depths.dtype, device=depths.device) + 0.5) / _ELEMENTS
    arc = 0.5 * aperture.clamp_max(transducer.width)[..., None] * share
    turn = arc / transducer.radius if transducer.radius else torch.zeros_like(arc)
    across = transducer.radius * turn.sin() if transducer.radius else arc
    down = depths[..., None] + transducer.radius * (1.0 - turn.cos())
    cosine = ((down * turn.cos() - across * turn.sin()) / torch.hypot(across, down)).clamp(1e-3, 1.0)
    sine = (1.0 - cosine.square()).sqrt()
    heard = torch.sinc(_ELEMENT_WIDTH * transducer.pitch * sine / transducer.wavelength).abs() * cosine
    return (12.0 * (heard * arc.square()).sum(-1) / heard.sum(-1)).sqrt()


def elevation_width(transducer: Transducer, depths: Float[Tensor, "*depths"]) -> Float[Tensor, "*depths"]:
    """The preset's table, interpolated linearly; held at its ends."""
    known = torch.tensor(transducer.elevation_depths, dtype=depths.dtype, device=depths.device)
    widths = torch.tensor(transducer.elevation_widths, dtype=depths.dtype, device=depths.device)
    upper = torch.searchsorted(known, depths.contiguous()).clamp(1, len(known) - 1)
    low, high = known[upper - 1], known[upper]
    weight = ((depths - low) / (high - low)).clamp(0.0, 1.0)
    return torch.lerp(widths[upper - 1], widths[upper], weight)
