"""The reference implementation in torch, on any device: it defines what the fused kernel must equal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, UInt8
from torch import Tensor

from sonogym.ultrasound.beam import BeamTables
from sonogym.ultrasound.lines import Lines
from sonogym.ultrasound.propagation import Field, Plane, mirrored, propagate
from sonogym.ultrasound.reverberation import add_long_paths
from sonogym.ultrasound.smooth import ExpectedPlane

_TINY = 1e-30  # keeps the logarithm finite


@dataclass(frozen=True, kw_only=True)
class Detected:
    """``power`` of the beam and its level ``decibels`` relative to white; ``iq`` is None for an expected image."""

    power: Float[Tensor, "envs samples lines"]
    decibels: Float[Tensor, "envs samples lines"]
    iq: Complex[Tensor, "envs samples lines"] | None
    field: Field


def render_reference(
    voxels: UInt8[Tensor, "voxels 4"], lines: Lines, tables: BeamTables, rule: type[Plane] = Plane
) -> Detected:
    """What the beam receives of voxels read by ``rule``, amplified (physics.md section 6)."""
    field = add_long_paths(propagate(voxels, lines, tables, rule), lines, tables)
    iq = None if issubclass(rule, ExpectedPlane) else focus(field, tables)
    power = expected_power(field, tables) if iq is None else iq.real.square() + iq.imag.square()
    return Detected(power=power, decibels=decibels(power, lines.level), iq=iq, field=field)


def focus(field: Field, tables: BeamTables) -> Complex[Tensor, "envs samples lines"]:
    """Pulse along depth on the scatter, interfaces added at their own scale, then each row's lateral kernel.

    Past the outermost lines interfaces go on as they are (a plate still returns R), and scatter is turned by a quarter
    of a period: it then adds to the lines that it mirrors as other scatterers would, by power.
    """
    echoes = field.echoes * tables.row[:, 1, None]
    total = _along_depth(field.scatter, tables.axial, start=echoes)
    real, imaginary = total - echoes
    beyond = echoes + torch.stack((-imaginary, real))
    rows = [
        mirrored(total[:, :, k], tables.lateral[k], int(tables.radius[k]), beyond[:, :, k])
        for k in range(total.shape[2])
    ]
    real, imaginary = torch.stack(rows, dim=2)
    return torch.complex(real, imaginary)


def expected_power(field: Field, tables: BeamTables) -> Float[Tensor, "envs samples lines"]:
    """Mean of |b|^2 over the scatterers: |PSF * specular|^2 + PSF^2 * (scatter and diffuse power) + noise power.

    The squared kernels have unit sum, that of the specular part the scale of :func:`focus`.
    """
    samples = field.scatter.shape[2]
    axial = tables.axial.square() / tables.axial.square().sum()
    scatter = _along_depth(field.scatter[:1], axial, torch.zeros_like(field.scatter[:1]))[0]
    lateral, energy = tables.lateral.square(), _energy(tables)
    rows = []
    for k in range(samples):
        taps, radius, scale = lateral[k], int(tables.radius[k]), tables.row[k, 1]
        specular = mirrored(scale * field.echoes[0, :, k], tables.lateral[k], radius)
        power = scatter[:, k] + field.echoes[1, :, k]
        rows.append(specular.square() + mirrored(power, taps / energy[k], radius))
    noise = tables.row[:, 2].square() * energy * tables.axial.square().sum()
    return torch.stack(rows, dim=1) + noise[:, None]


def _energy(tables: BeamTables) -> Float[Tensor, " samples"]:
    """Sum of the squares of each row's lateral kernel."""
    return 2.0 * tables.lateral.square().sum(1) - tables.lateral[:, 0].square()


def _along_depth(
    values: Float[Tensor, "parts envs samples lines"],
    taps: Float[Tensor, " taps"],
    start: Float[Tensor, "parts envs samples lines"],
) -> Float[Tensor, "parts envs samples lines"]:
    """``start`` plus the convolution with the pulse; nothing lies above the first sample and below the last."""
    reach, samples = len(taps) // 2, values.shape[2]
    total = start
    for lag in range(max(-reach, 1 - samples), min(reach, samples - 1) + 1):
        first, last = max(0, -lag), samples - max(0, lag)
        part = torch.zeros_like(total)
        part[:, :, first:last] = taps[reach + lag] * values[:, :, first + lag : last + lag]
        total = total + part
    return total


def decibels(
    power: Float[Tensor, "envs samples lines"], level: Float[Tensor, "envs samples"]
) -> Float[Tensor, "envs samples lines"]:
    """D = 10 log10 |b|^2 + gain + TGC - reference, relative to white."""
    return 10.0 * torch.log10(power + _TINY) + level[:, :, None]


def display(
    level: Float[Tensor, "envs samples lines"], dynamic_range: Float[Tensor, " envs"]
) -> UInt8[Tensor, "envs samples lines"]:
    """round(255 clip((D + DR) / DR)) of levels D relative to white."""
    scale = (255.0 / dynamic_range)[:, None, None]
    return (scale * level.detach() + 255.5).clamp(0.0, 255.0).to(torch.uint8)
