"""Spatial compounding: frames steered to several angles, their envelopes averaged on the unsteered grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose
from sonogym.ultrasound.beam import display_reference
from sonogym.ultrasound.frame import Frame, RenderParams
from sonogym.ultrasound.postprocess import log_compress, tgc_decibels, to_bytes
from sonogym.ultrasound.psf import FWHM_PER_SIGMA, lateral_width
from sonogym.ultrasound.renderer import Renderer
from sonogym.ultrasound.scan_conversion import bilinear_corners
from sonogym.ultrasound.transducer import Transducer, sample_ranges

COMPOUNDED = ("beam", "envelope", "image")
_INDEPENDENT = 0.1  # correlation of speckle intensity below which two views count as independent (design)
_TGC_UNIT = 1e-4  # dB/cm/MHz in dB/(m Hz)
_EDGE = 1e-3  # of a line or sample: rounding that still counts as inside the view
_TINY = 1e-15  # of the envelope: keeps the logarithm finite


class CompoundRenderer:
    """Frames that are the mean of views steered to ``angles`` [rad]; the interface is that of :class:`Renderer`.

    ``renderer`` is an unsteered one of a linear probe; its patients are shared by all views. Each view is rendered as
    one batch of all environments, amplified along its own path, and read bilinearly at the points of the unsteered
    lines; the mean is over the views that see a point. Views are drawn with scatterers of their own (seed + view): the
    baseband model has no carrier that would decorrelate them, so angles closer than :func:`independent_angle` are
    refused rather than averaged as if they were independent (`design`).
    Raises :class:`InvalidInputError` for such angles, other probes, or outputs that have no mean.
    """

    def __init__(self, renderer: Renderer, angles: Sequence[float]) -> None:
        unknown = sorted(set(renderer.config.outputs) - set(COMPOUNDED))
        if unknown:
            raise InvalidInputError(f"a compound frame has only {', '.join(COMPOUNDED)}, got outputs {unknown}")
        if renderer.config.steering:
            raise InvalidInputError(
                f"compounding starts from an unsteered renderer, got {renderer.config.steering} rad"
            )
        if len(renderer.variants) > 1:
            raise InvalidInputError(f"compounding takes one beam, got {len(renderer.variants)} variants of it")
        _check_angles(renderer.variants[0], angles)
        self.angles = tuple(angles)
        self.config, self.transducer, self.bodies = renderer.config, renderer.transducer, renderer.bodies
        outputs = tuple({*renderer.config.outputs, "envelope"} - {"image"})
        self._plain = renderer
        self._views = [renderer.with_config(replace(renderer.config, steering=b, outputs=outputs)) for b in angles]
        self._places = [_Resampling(view, renderer.depth) for view in self._views]

    def render(
        self, patient_from_probe: Pose, anatomy_index: Int[Tensor, " envs"], params: RenderParams | None = None
    ) -> Frame:
        """Frames of ``patient_from_probe`` (envs,) in the patients that ``anatomy_index`` (envs,) picks."""
        params = params or RenderParams.default(len(anatomy_index))
        total, count = torch.zeros(()), torch.zeros(())
        for number, (view, place) in enumerate(zip(self._views, self._places, strict=True)):
            drawn = replace(params, speckle_seed=params.speckle_seed + number, noise_seed=params.noise_seed + number)
            frame = view.render(patient_from_probe, anatomy_index, drawn)
            assert frame.envelope is not None
            total = total + place(frame.envelope * _amplification(view, frame.depth, params))
            count = count + place.seen
        return self._frame(total / count.clamp_min(1), frame, params)

    def _frame(self, mean: Float[Tensor, "envs samples lines"], view: Frame, params: RenderParams) -> Frame:
        """The display law on the mean of amplified envelopes."""
        reference = 20.0 * math.log10(display_reference(self._plain.variants[0]))
        decibels = 20.0 * torch.log10(mean.clamp_min(_TINY)) + params.gain[:, None, None].to(mean) - reference
        dynamic_range = params.dynamic_range[:, None, None].to(mean)
        beam = to_bytes(log_compress(decibels / dynamic_range, 1.0))[:, None]
        wanted, picture = self.config.outputs, self._plain.converter
        origin, _ = self.transducer.scanlines(self.config.lines)
        envelope = mean / _amplification(self._plain, view.depth, params)
        return Frame(
            beam=beam,
            depth=view.depth,
            line_position=origin[:, 0].to(mean),
            envelope=envelope if "envelope" in wanted else None,
            image=None if picture is None else picture(beam),
            extent=None if picture is None else picture.extent,
        )


def independent_angle(transducer: Transducer) -> float:
    """Steering difference [rad] from which the speckle of two views is independent.

    Turning the beam by b shifts its lateral spectrum by 2 k sin b; two Gaussian beams of -6 dB width w = 2.355 s then
    correlate in intensity by exp(-(2 k s sin b)^2 / 2), which falls to .1 at the angle returned.
    """
    width = lateral_width(transducer, torch.tensor(transducer.transmit_focus, dtype=torch.float64))
    shift = math.sqrt(-2.0 * math.log(_INDEPENDENT)) * FWHM_PER_SIGMA / float(width)
    return math.asin(min(shift * transducer.wavelength / (4.0 * math.pi), 1.0))


class _Resampling:
    """Reads a steered view (samples, lines) at the points of the unsteered lines; 0 where the view does not reach."""

    def __init__(self, view: Renderer, depth: float) -> None:
        steering, lines, samples = view.transducer.steering, view.config.lines, view.config.samples
        z = sample_ranges(samples, depth).double()[:, None]
        fraction = torch.arange(lines, dtype=torch.float64) / (lines - 1) - 0.5
        fraction = fraction - z * math.tan(steering) / view.transducer.width
        line = (fraction + 0.5) * (lines - 1)
        row = z / math.cos(steering) * (samples / depth) - 0.5
        seen = (line > -_EDGE) & (line < lines - 1 + _EDGE) & (row < samples - 1 + _EDGE)
        self.seen: Bool[Tensor, "samples lines"] = seen.to(view.device)
        index, weight = bilinear_corners(line, row.expand_as(line), lines, samples, closed=False)
        self._index, self._weight = index.to(view.device), (weight * seen.reshape(1, -1)).float().to(view.device)

    def __call__(self, values: Float[Tensor, "envs samples lines"]) -> Float[Tensor, "envs samples lines"]:
        flat = values.flatten(1)
        pairs = zip(self._index, self._weight, strict=True)
        return torch.stack([flat[:, index] * weight for index, weight in pairs]).sum(0).reshape(values.shape)


def _amplification(view: Renderer, ranges: Tensor, params: RenderParams) -> Float[Tensor, "envs samples 1"]:
    slope = params.tgc.to(ranges)[:, None] * _TGC_UNIT
    gain = tgc_decibels(slope * ranges, view.variants[0].center_frequency, 1.0)
    return (10.0 ** (gain / 20.0))[..., None]


def _check_angles(transducer: Transducer, angles: Sequence[float]) -> None:
    if not angles:
        raise InvalidInputError("compounding needs at least one angle [rad], got none")
    for angle in angles:
        replace(transducer, steering=angle)  # refuses other kinds of probe and angles out of range
    nearest = min((abs(a - b) for i, a in enumerate(angles) for b in angles[:i]), default=math.inf)
    least = independent_angle(transducer)
    if nearest < least - 1e-9:
        raise InvalidInputError(
            f"angles of {transducer.name!r} must be at least {least:.3f} rad ({math.degrees(least):.1f} degrees) apart "
            f"for their speckle to be independent, got {nearest:.3f}; use fewer angles or wider ones"
        )
