"""Rules that make the definition differentiable in pose, gain and tissue (docs/differentiable.md).

Every quantity of :class:`Plane` that jumps when a point changes its nearest voxel is replaced by one that does not.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.anatomy.bricks import address
from sonogym.ultrasound import voxel_word
from sonogym.ultrasound.acoustics import INTERFACE_LEVEL
from sonogym.ultrasound.beam import BeamTables, gaussian
from sonogym.ultrasound.lines import Lines
from sonogym.ultrasound.propagation import CORNERS, FLOOR, Field, Plane
from sonogym.ultrasound.veins import closed, last_around

_REACH = 2.0  # widths of a pulse kept on either side: cut at 1.5e-5 of its peak, so that no step is seen


class SmoothPlane(Plane):
    """Tissue blended from the eight voxels around a point; echoes and losses of interfaces at their exact place."""

    furthest_shift = 3e-3  # m: an interface stays where it is when another voxel becomes the nearest

    def __init__(self, voxels: Tensor, lines: Lines, tables: BeamTables, number: int) -> None:
        super().__init__(voxels, lines, tables, number)
        self.owed = torch.ones_like(self.passed)  # what interfaces just below the last sample still take
        self.last_step = self.this_step = torch.ones_like(self.passed)  # transmission to this sample, and to the next
        scattering, transmission, length = lines.tissue.unbind(-1)
        self.rates = torch.stack((scattering, transmission.log(), length), dim=-1)
        self.pulses: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def march(self) -> Field:
        """All samples from the face down, then every pulse at its place."""
        field = super().march()
        if self.pulses:
            env, line, row, echo = (torch.cat(part, dim=-1) for part in zip(*self.pulses, strict=True))
            self._place(env, line, row, echo)
        return Field(
            scatter=field.scatter, echoes=self.echoes, labels=field.labels, transmission=field.transmission.detach()
        )

    def _row(self, k: int) -> tuple[Tensor, Tensor, Tensor]:
        self.passed, self.owed = self.passed * self.owed, torch.ones_like(self.owed)
        self.last_step = self.this_step
        return super()._row(k)

    def _tissue(self, place: Float[Tensor, "envs 3 lines"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The nearest label; amplitude, attenuation rate and length of a step weighted by nearness to 8 voxels."""
        lines, bits = self.lines, torch.tensor(CORNERS, device=place.device)
        top = lines.shape[..., None] - 1
        held = torch.minimum(place.clamp_min(0.0), top.to(place))
        base = torch.minimum(held.long(), (top - 1).clamp_min(0))
        upper = (held - base)[:, None]
        weight = torch.where(bits[..., None] == 1, upper, 1.0 - upper).prod(2)  # (envs, 8, lines)
        corner = (base[:, None] + bits[..., None]).mT  # (envs, 8, lines, 3)
        at = address(corner, lines.stride[:, None, None], lines.leap[:, None, None])
        word = self.words[lines.start[:, None, None] + at]
        word = closed(word, lines.closed[:, self.row, None, None], self.around[:, None])
        amplitude, rate, length = self.rates[self.row_of_tissue[..., None], voxel_word.label(word)].unbind(-1)
        amplitude = (weight * amplitude * self.tables.texture[voxel_word.texture(word)]).sum(1)
        self.this_step = (weight * rate).sum(1).exp()
        nearest = self._nearest(place)
        label = voxel_word.label(closed(nearest, lines.closed[:, self.row, None], self.around))
        self.around = last_around(nearest, self.around)
        return label, amplitude, self.this_step, (weight * length).sum(1)

    def _cross(self, env: Tensor, line: Tensor, k: int, row: Tensor, kept: Tensor) -> Float[Tensor, " points"]:
        """Sound is met where the interface lies, and lost over the sample after it, not all at one sample."""
        share, kept = (k - row).clamp(0.0, 1.0), kept.clamp_min(FLOOR)
        passed = self.passed[env, line]
        self.passed = self.passed.index_put((env, line), passed * kept**share)
        self.owed = self.owed.index_put((env, line), self.owed[env, line] * kept ** (1.0 - share))
        return passed * self.last_step[env, line] ** (-share)

    def _put(self, env: Tensor, line: Tensor, row: Tensor, echo: Float[Tensor, "2 points"]) -> None:
        self.pulses.append((env, line, row, echo))

    def _place(self, env: Tensor, line: Tensor, row: Tensor, echo: Float[Tensor, "2 points"]) -> None:
        """Add a Gaussian pulse centred at each fractional row."""
        samples = self.echoes.shape[2]
        reach = math.ceil(_REACH * self.tables.pulse / self.tables.step)
        at = (row.detach() + 0.5).floor().long()[:, None] + torch.arange(-reach, reach + 1, device=row.device)
        pulse = gaussian((at - row[:, None]) * self.tables.step, self.tables.pulse) * ((at >= 0) & (at < samples))
        where = (env[:, None].expand_as(at), at.clamp(0, samples - 1), line[:, None].expand_as(at))
        self.echoes = torch.stack(
            [
                self.echoes[part].index_put(where, value, accumulate=True)
                for part, value in enumerate(self._shaped(echo, pulse))
            ]
        )

    def _shaped(self, echo: Float[Tensor, "2 points"], pulse: Float[Tensor, "points taps"]) -> tuple[Tensor, Tensor]:
        return echo[0, :, None] * pulse, echo[1, :, None] * pulse


class ExpectedPlane(SmoothPlane):
    """Mean over the scatterers: ``scatter[0]`` holds power, ``echoes`` specular amplitude and diffuse power."""

    def _echo(self, env: Tensor, k: int, place: Tensor, specular: Tensor, diffuse: Tensor) -> Float[Tensor, "2 points"]:
        return torch.stack((specular, (INTERFACE_LEVEL * self.tables.gain[k] * diffuse).square()))

    def _bounced(self, echo: Float[Tensor, "2 points"], loop: Tensor) -> Float[Tensor, "2 points"]:
        return echo * torch.stack((loop, loop.square()))

    def _shaped(self, echo: Float[Tensor, "2 points"], pulse: Float[Tensor, "points taps"]) -> tuple[Tensor, Tensor]:
        return echo[0, :, None] * pulse, echo[1, :, None] * pulse.square()

    def _noise(self, k: int) -> Float[Tensor, "2 envs lines"]:
        return torch.zeros_like(self.lines.coupling).expand(2, -1, -1)

    def _scatter(self, k: int, place: Tensor, amplitude: Tensor, scale: Tensor) -> Float[Tensor, "2 envs lines"]:
        power = (self.tables.gain[k] * self.tables.plane[self.number, 1] * amplitude).square()
        return torch.stack((power, torch.zeros_like(power)))


RULES: dict[tuple[str, bool], type[Plane]] = {
    ("nearest", True): Plane,
    ("trilinear", True): SmoothPlane,
    ("trilinear", False): ExpectedPlane,
}
