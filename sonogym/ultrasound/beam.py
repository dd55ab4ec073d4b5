"""Everything about a beam that no pose changes: sample grid, point spread functions, display law. Built once."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonogym.errors import InvalidInputError
from sonogym.ultrasound.acoustics import INTERFACE_LEVEL, Acoustics, interface_table, shadow_table, step_table
from sonogym.ultrasound.deformation import bulge_table
from sonogym.ultrasound.downshift import centre_frequency, level_gain
from sonogym.ultrasound.frame import RenderConfig
from sonogym.ultrasound.long_paths import LongPaths, long_paths
from sonogym.ultrasound.postprocess import REFERENCE_LEVEL, TGC_ABDOMEN
from sonogym.ultrasound.psf import axial_width, elevation_width, lateral_width
from sonogym.ultrasound.speckle import linear_correlation, nearest_correlation
from sonogym.ultrasound.texture import texture_gain
from sonogym.ultrasound.transducer import SPEED_OF_SOUND, Transducer, sample_ranges
from sonogym.ultrasound.veins import strip_stress
from sonogym.ultrasound.voxel_word import TEXTURE_LEVELS

NOISE_LEVEL = 10.0 ** (-76.0 / 20.0)  # receiver noise relative to unattenuated liver (design)
SUBSAMPLES = 32  # places between two samples at which an interface may be put
_REACH = 1.3  # widths of a Gaussian kept on either side: cut at 1 % of its peak
_PENUMBRA, _PENUMBRA_DEPTH = 0.7e-3, 15e-3  # m: blur of shadows across lines, reached at this depth (design)
_FOUR_LN_2 = 4.0 * math.log(2.0)


@dataclass(frozen=True, kw_only=True)
class BeamTables:
    """Tables read by both paths; float32 unless said. Rows follow samples.

    ``ranges`` (samples,) [m]; ``step`` [m]; ``pulse`` [m] full width; ``lattice`` [m] of the scatterers; ``axial``
    taps of the pulse, ``overlap`` its autocorrelation; ``share`` of the lattice points that one scatterer a
    resolution cell occupies, ``scatterers`` how many there are (None: all points scatter); ``splat``
    (SUBSAMPLES + 1, taps) the pulse placed between samples; ``lateral`` (samples, taps) half kernels; ``radius``
    int64 their lengths; ``row`` (samples, 4): scatter scale, interface scale, noise scale, and what gives the
    diffuse part of interfaces its RMS before the interface scale; ``penumbra`` and
    ``penumbra_radius``: half kernels that blur shadows; ``elevation`` (planes, samples) [m],
    ``bulge`` their :func:`bulge_table` (no rows where nothing is pressed or the image plane is the only one) and
    ``curvature`` of a convex face [1/m] for compressed tissue, ``stress`` of :func:`strip_stress`; ``plane``
    (planes, 2): weight of interfaces and of scatter; ``tissue`` :func:`step_table`; ``pair`` :func:`interface_table`;
    ``shadow`` :func:`shadow_table`; ``texture`` (levels,); ``reference`` the envelope shown as white; ``gain``
    (samples,) that downshift adds, part of ``row``; ``refraction`` whether lines bend; ``paths`` of late echoes.
    """

    ranges: Float[Tensor, " samples"]
    step: float
    pulse: float
    lattice: float
    axial: Float[Tensor, " taps"]
    overlap: Float[Tensor, " taps"]
    share: float
    scatterers: float | None
    splat: Float[Tensor, "places taps"]
    lateral: Float[Tensor, "samples lateral_taps"]
    radius: Int[Tensor, " samples"]
    row: Float[Tensor, "samples 4"]
    penumbra: Float[Tensor, "samples penumbra_taps"]
    penumbra_radius: Int[Tensor, " samples"]
    elevation: Float[Tensor, "planes samples"]
    bulge: Float[Tensor, "planes rows nodes 2"]
    curvature: float
    stress: Float[Tensor, " samples"]
    plane: Float[Tensor, "planes 2"]
    tissue: Float[Tensor, "tissues 3"]
    pair: Float[Tensor, "tissues tissues 7"]
    shadow: Float[Tensor, "tissues tissues"]
    texture: Float[Tensor, " levels"]
    reference: float
    paths: LongPaths
    gain: Float[Tensor, " samples"]
    refraction: bool

    def to(self, target: torch.device | torch.dtype) -> BeamTables:
        """The tables on a device or in a precision; kernel lengths stay on the CPU, which loops over them."""
        stay = ("radius", "penumbra_radius")
        moved: dict[str, Any] = {
            name: value.to(target)
            for name, value in vars(self).items()
            if isinstance(value, Tensor) and name not in stay
        }
        return dataclasses.replace(self, paths=self.paths.to(target), **moved)


def beam_tables(transducer: Transducer, config: RenderConfig, acoustics: Acoustics) -> BeamTables:
    """The tables of one probe and configuration (physics.md sections 1, 4, 5, 6).

    The pulse is at least 3 samples long and the beam at least 1.5 line pitches wide, knowingly wider than the probe's
    own where the grid is coarse.
    """
    depth = config.depth or transducer.depth
    ranges = sample_ranges(config.samples, depth)
    step = depth / config.samples
    pulse = max(axial_width(transducer), 3.0 * step)
    lattice = config.lattice or 0.5 * pulse
    axial = gaussian(torch.arange(-_taps(pulse, step), _taps(pulse, step) + 1) * step, _scatter_pulse(pulse, lattice))
    pitch = transducer.line_pitch(config.lines, ranges)
    wavelength = SPEED_OF_SOUND / centre_frequency(transducer, ranges) if config.downshift else None
    width = torch.maximum(lateral_width(transducer, ranges, wavelength), 1.5 * pitch)
    share = _share(transducer, config, lattice, pulse, step)
    lateral, radius = _half_kernels(width, pitch, config.lines)
    spread = _spread(axial, lateral)
    row = _row_scales(lateral, pitch, lattice, NOISE_LEVEL / spread if config.noise else 0.0 * spread)
    gain = level_gain(transducer, ranges) if config.downshift else torch.ones_like(ranges)
    row[:, :2] *= gain[:, None]
    elevation, plane = _planes(transducer, ranges, config.planes)
    together, ones = _plane_power(elevation, plane[:, 1], lattice).rsqrt(), torch.ones_like(ranges)
    aperture = 0.5 * math.atan(0.5 / transducer.receive_f_number)
    tissue = step_table(acoustics, transducer.center_frequency, step, SPEED_OF_SOUND)
    pair = interface_table(acoustics, aperture, config.walls)
    penumbra, penumbra_radius = _penumbra(ranges, pitch, config.penumbra)
    return BeamTables(
        ranges=ranges,
        step=step,
        pulse=pulse,
        lattice=lattice,
        axial=axial,
        overlap=_overlap(axial),
        splat=_splat(pulse, step),
        lateral=lateral,
        radius=radius,
        row=row * torch.stack((together, ones, ones, together), dim=1),
        share=share,
        scatterers=config.scatterers,
        penumbra=penumbra,
        penumbra_radius=penumbra_radius,
        elevation=elevation,
        bulge=bulge_table(transducer.height, elevation if _squeezes(transducer, config) else elevation[:, :0]),
        stress=strip_stress(ranges, transducer.height),
        curvature=1.0 / transducer.radius if transducer.kind == "convex" else 0.0,
        plane=plane,
        tissue=tissue,
        pair=pair,
        shadow=shadow_table(pair),
        texture=torch.from_numpy(texture_gain()) if config.texture else torch.ones(TEXTURE_LEVELS),
        reference=display_reference(transducer),
        paths=long_paths(transducer, config, ranges, pulse, spread, gain),
        gain=gain,
        refraction=config.refraction,
    )


def _squeezes(transducer: Transducer, config: RenderConfig) -> bool:
    """Whether a frame has planes into which tissue is pushed aside."""
    return config.planes > 1 and config.contact and not transducer.inserted


def axial_power(tables: BeamTables, cosines: Float[Tensor, "*lines 3"]) -> Float[Tensor, "*lines"]:
    """Power that the pulse passes of lattice noise read along lines of these direction cosines.

    Along the first axis the noise is read linearly, along the others at the nearest cell: sum_ij w_i w_j C(d_ij).
    """
    lags = torch.arange(len(tables.overlap), device=cosines.device) * (tables.step / tables.lattice)
    along, *across = (cosines[..., axis, None] * lags for axis in range(3))
    return (
        tables.overlap * linear_correlation(along) * nearest_correlation(across[0]) * nearest_correlation(across[1])
    ).sum(-1)


def _share(transducer: Transducer, config: RenderConfig, lattice: float, pulse: float, step: float) -> float:
    """Share of lattice points that one scatterer in pulse x beam width at the transmit focus occupies.

    Points between scan lines, or more than a lattice cell off every sample, are never read and so do not count.
    """
    focus = torch.tensor([transducer.transmit_focus])
    pitch = float(transducer.line_pitch(config.lines, focus))
    beam = max(float(lateral_width(transducer, focus)), 1.5 * pitch)
    share = max(lattice, 0.5 * step) * max(lattice, pitch) / (pulse * beam)
    if config.scatterers is not None and config.scatterers * share > 1.0:
        raise InvalidInputError(
            f"scatterers must be <= {1.0 / share:.2g} a resolution cell on this grid, got "
            f"{config.scatterers}; choose a smaller lattice and more lines, or None for fully developed speckle"
        )
    return share


def _overlap(taps: Tensor) -> Tensor:
    """Autocorrelation of a pulse at lags 0, 1, ..., those past 0 doubled: they count for both signs."""
    values = [(taps[: len(taps) - lag] * taps[lag:]).sum() for lag in range(len(taps))]
    return torch.stack(values) * torch.tensor([1.0] + [2.0] * (len(taps) - 1))


def gaussian(offset: Tensor, width: float | Tensor) -> Tensor:
    """Gaussian of -6 dB full width ``width``, peak 1."""
    return torch.exp(-_FOUR_LN_2 * (offset / width) ** 2)


def _taps(width: float, step: float) -> int:
    return math.ceil(_REACH * width / step)


def _splat(pulse: float, step: float) -> Float[Tensor, "places taps"]:
    reach = _taps(pulse, step)
    place = torch.arange(SUBSAMPLES + 1) / SUBSAMPLES - 0.5
    return gaussian((torch.arange(-reach, reach + 1) - place[:, None]) * step, pulse)


def _scatter_pulse(pulse: float, lattice: float) -> float:
    """Width [m] that gives ``pulse`` once the noise's linear interpolation (variance lattice^2 / 6) has widened it."""
    return math.sqrt(max(pulse**2 - 2.0 * _FOUR_LN_2 * lattice**2 / 6.0, 0.25 * pulse**2))


def _half_kernels(width: Tensor, pitch: Tensor, lines: int) -> tuple[Tensor, Tensor]:
    """Taps 0, 1, 2 ... of each row's Gaussian, and the last tap used.

    No kernel reaches past ``lines``: near the apex of a phased probe all its lines lie within one beam.
    """
    radius = (_REACH * width / pitch).ceil().long().clamp_max(lines - 1)
    offset = torch.arange(int(radius.max()) + 1)
    taps = gaussian(offset * pitch[:, None], width[:, None])
    return torch.where(offset <= radius[:, None], taps, torch.zeros_like(taps)), radius


def _spread(axial: Tensor, lateral: Tensor) -> Float[Tensor, " samples"]:
    """RMS behind the point spread function of white noise of unit RMS."""
    return (_whole(lateral).square().sum(1) * axial.square().sum()).sqrt()


def _whole(half: Tensor) -> Tensor:
    return torch.cat((half[:, 1:].flip(1), half), dim=1)


def _row_scales(lateral: Tensor, pitch: Tensor, lattice: float, noise: Tensor) -> Float[Tensor, "samples 4"]:
    """Scales that give unattenuated liver unit RMS, a flat plate exactly R, the noise its level; the last one gives
    what differs from one lattice cell to the next, at the scale of interfaces, the RMS that it has in one cell.
    """
    full = _whole(lateral)
    count = full.shape[1]
    power = torch.zeros_like(pitch)
    for lag in range(count):
        overlap = (full[:, : count - lag] * full[:, lag:]).sum(1) * (1.0 if lag == 0 else 2.0)
        power = power + overlap * nearest_correlation(lag * pitch / lattice)
    total = full.sum(1)
    return torch.stack((power.rsqrt(), INTERFACE_LEVEL / total, noise, total * power.rsqrt()), dim=1)


def _penumbra(ranges: Tensor, pitch: Tensor, enabled: bool) -> tuple[Tensor, Tensor]:
    """Half kernels of unit sum that blur transmission across lines; radius 0 where the lines are coarser than it."""
    sigma = _PENUMBRA * (ranges / _PENUMBRA_DEPTH).clamp_max(1.0)
    used = (sigma > 0.4 * pitch) & enabled
    radius = torch.where(used, (2.5 * sigma / pitch).ceil(), torch.zeros_like(sigma)).long()
    offset = torch.arange(int(radius.max()) + 1)
    taps = torch.exp(-0.5 * (offset * pitch[:, None] / sigma[:, None]) ** 2)
    taps = torch.where(offset <= radius[:, None], taps, torch.zeros_like(taps))
    return taps / (2.0 * taps.sum(1, keepdim=True) - 1.0), radius


def _planes(transducer: Transducer, ranges: Tensor, planes: int) -> tuple[Tensor, Tensor]:
    """Elevation of Gauss-Hermite nodes at each range, and their weights; one plane lies at 0 exactly."""
    nodes, weights = np.polynomial.hermite.hermgauss(planes)
    weights = weights / weights.sum()
    scale = elevation_width(transducer, ranges) / math.sqrt(_FOUR_LN_2)
    elevation = torch.from_numpy(nodes).float()[:, None] * scale
    weight = torch.stack((torch.from_numpy(weights), torch.from_numpy(weights / np.sqrt((weights**2).sum()))), dim=1)
    return elevation, weight.float()


def _plane_power(elevation: Tensor, weight: Tensor, lattice: float) -> Float[Tensor, " samples"]:
    """Power of scatter summed over planes: neighbours closer than a lattice cell read the same scatterers."""
    between = elevation[:, None] - elevation
    return ((weight[:, None] * weight)[..., None] * nearest_correlation(between / lattice)).sum((0, 1))


def display_reference(transducer: Transducer) -> float:
    """Envelope shown as white: liver of .5 dB/cm/MHz at the transmit focus, amplified, lies at REFERENCE_LEVEL."""
    path = 2.0 * transducer.transmit_focus * transducer.center_frequency
    return 10.0 ** ((path * (TGC_ABDOMEN - 0.5e-4) - REFERENCE_LEVEL) / 20.0)
