"""The reference implementation in torch, on any device: it defines what the fused kernel must equal."""

from __future__ import annotations

import torch
from jaxtyping import Complex, UInt8
from torch import Tensor

from sonogym.ultrasound.beam import BeamTables
from sonogym.ultrasound.lines import Lines
from sonogym.ultrasound.propagation import Field, mirrored, propagate
from sonogym.ultrasound.reverberation import add_long_paths

_TINY = 1e-30  # keeps the logarithm finite


def render_reference(
    voxels: UInt8[Tensor, "voxels 4"], lines: Lines, tables: BeamTables
) -> tuple[UInt8[Tensor, "envs samples lines"], Complex[Tensor, "envs samples lines"], Field]:
    """Grey (display law of physics.md section 6), complex beam, and what returned before focusing."""
    field = add_long_paths(propagate(voxels, lines, tables), lines, tables)
    iq = focus(field, tables)
    return display(iq, lines), iq, field


def focus(field: Field, tables: BeamTables) -> Complex[Tensor, "envs samples lines"]:
    """Pulse along depth on the scatter, interfaces added at their own scale, then each row's lateral kernel."""
    reach = len(tables.axial) // 2
    samples = field.scatter.shape[2]
    total = field.echoes * tables.row[:, 1, None]
    for lag in range(max(-reach, 1 - samples), min(reach, samples - 1) + 1):
        first, last = max(0, -lag), samples - max(0, lag)
        part = torch.zeros_like(total)
        part[:, :, first:last] = tables.axial[reach + lag] * field.scatter[:, :, first + lag : last + lag]
        total = total + part
    rows = [mirrored(total[:, :, k], tables.lateral[k], int(tables.radius[k])) for k in range(samples)]
    real, imaginary = torch.stack(rows, dim=2)
    return torch.complex(real, imaginary)


def display(iq: Complex[Tensor, "envs samples lines"], lines: Lines) -> UInt8[Tensor, "envs samples lines"]:
    """round(255 clip((10 log10 |b|^2 + level + DR) / DR))."""
    power = iq.real.square() + iq.imag.square() + _TINY
    scale = (255.0 / lines.dynamic_range)[:, None, None]
    grey = scale * (10.0 * torch.log10(power) + lines.level[:, :, None]) + 255.5
    return grey.clamp(0.0, 255.0).to(torch.uint8)
