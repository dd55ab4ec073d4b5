"""Echoes that met the probe's face again, and haze, in torch: the definition of :mod:`kernel_reverberation`.

A line's K strongest interface echoes (r_i, a_i) add

    2 rho a_i a_j at r_i + r_j (i < j; one for each order of the two),    a_i^m rho^(m-1) at m r_i (m = 2, 3, ...)

with rho the reflection of the probe's face (physics.md section 4). The attenuation of the longer path needs no law of
its own: each a holds the two-way attenuation and transmission to its interface, and the sound that goes down twice
meets both. The second of them are the A-lines below pleura and other strong flat surfaces. Where the face lies dry,
sound goes to and fro in its lens.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonogym.ultrasound.beam import BeamTables
from sonogym.ultrasound.lines import Lines
from sonogym.ultrasound.long_paths import PEAKS, SILENT, LongPaths
from sonogym.ultrasound.propagation import Field, put_pulses
from sonogym.ultrasound.speckle import HAZE_SALT, MASK, NOISE_SALT, PRIMES, complex_normal, mix

_Peaks = tuple[Float[Tensor, "peaks envs lines"], Float[Tensor, "2 peaks envs lines"]]


def add_long_paths(field: Field, lines: Lines, tables: BeamTables) -> Field:
    """``field`` with the reverberation of its interfaces and the haze that the tables and the lines ask for."""
    if tables.paths.face:
        echoes = reverberate(field.echoes, tables.splat, tables.paths)
        field = dataclasses.replace(field, echoes=_add_lens(echoes, lines, tables.paths.lens))
    if bool((lines.haze > 0).any()):
        field = dataclasses.replace(field, scatter=field.scatter + _haze(lines, tables))
    return field


def reverberate(
    echoes: Float[Tensor, "2 envs samples lines"], splat: Float[Tensor, "places taps"], paths: LongPaths
) -> Float[Tensor, "2 envs samples lines"]:
    """``echoes`` and their reverberation."""
    total = echoes.clone()
    places, values = strongest_peaks(echoes, paths.nearest)
    for i in range(PEAKS):
        for j in range(i):
            _put(total, splat, places[i] + places[j] + 0.5, 2.0 * paths.face * _product(values[:, i], values[:, j]))
        power = values[:, i]
        for order in range(2, paths.orders + 1):
            power = paths.face * _product(power, values[:, i])
            _put(total, splat, order * (places[i] + 0.5) - 0.5, power)
    return total


def strongest_peaks(echoes: Float[Tensor, "2 envs samples lines"], nearest: int) -> _Peaks:
    """Fractional rows and complex heights of each line's PEAKS strongest echoes from row ``nearest`` on.

    A peak is a sample above the one before and not below the one behind; its place and height are those of the
    Gaussian through the three. Lines with fewer peaks have heights of zero.
    """
    first = max(nearest, 1)
    power = echoes.square().sum(0)
    below, at, above = power[:, first - 1 : -2], power[:, first:-1], power[:, first + 1 :]
    height = torch.where((at > below) & (at >= above) & (torch.minimum(below, above) > 0), at, torch.zeros_like(at))
    if height.shape[1] < PEAKS:
        height = torch.nn.functional.pad(height, (0, 0, 0, PEAKS - height.shape[1]))
    strongest, row = height.sort(dim=1, descending=True, stable=True)
    strongest, row = strongest[:, :PEAKS].movedim(1, 0), row[:, :PEAKS].movedim(1, 0) + first
    found = strongest > 0
    row = torch.where(found, row, torch.ones_like(row))
    around = [power.movedim(1, 0).gather(0, row + i) for i in (-1, 0, 1)]
    low, middle, high = (0.5 * torch.where(found, value, torch.ones_like(value)).log() for value in around)
    shift = torch.where(found, 0.5 * (low - high) / (low - 2.0 * middle + high), torch.zeros_like(low))
    gain = torch.where(found, torch.exp(-0.25 * (low - high) * shift), torch.zeros_like(low))
    value = torch.stack([part.movedim(1, 0).gather(0, row) for part in echoes]) * gain
    return row + shift, value


def _add_lens(echoes: Tensor, lines: Lines, lens: Float[Tensor, " samples"]) -> Float[Tensor, "2 envs samples lines"]:
    """``echoes`` and what lines see of a face that does not couple: (1 - k) of the lens in air."""
    dry = lens[:, None] * (1.0 - lines.coupling)[:, None]
    return torch.stack((echoes[0] + dry, echoes[1]))


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Complex product of (2, ...) values."""
    return torch.stack((a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]))


def _put(echoes: Tensor, splat: Tensor, row: Float[Tensor, "envs lines"], value: Float[Tensor, "2 envs lines"]) -> None:
    heard = (value.abs().sum(0) > SILENT) & (row < echoes.shape[2] + splat.shape[1])
    env, line = torch.nonzero(heard, as_tuple=True)
    put_pulses(echoes, splat, (env, line), row[env, line], value[:, env, line])


def _haze(lines: Lines, tables: BeamTables) -> Float[Tensor, "2 envs samples lines"]:
    """White noise that stands still in the picture, whatever moves below: the body wall in front of it stays."""
    samples, count = len(tables.ranges), lines.coupling.shape[1]
    number: Int[Tensor, " count"] = torch.arange(samples * count, device=lines.seed.device)
    word = mix(((number * PRIMES[0]) & MASK) ^ lines.seed[:, None] ^ HAZE_SALT ^ NOISE_SALT)
    noise = torch.stack(complex_normal(word)).reshape(2, -1, samples, count)
    return noise * (tables.paths.haze[:, None] * lines.haze[:, None, None])
