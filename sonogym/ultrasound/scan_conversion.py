"""From scan lines and ranges to an upright picture with square pixels: a bilinear look-up built once."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from sonogym.errors import InvalidInputError
from sonogym.ultrasound.transducer import Transducer


class ScanConverter:
    """Beam (samples, lines) -> image (height, width), rows = depth. Pixels outside the view are 0.

    ``pixel`` is the edge of a pixel [m]: the view is fitted into the picture, centred laterally, its highest point in
    the top row. Raises :class:`InvalidInputError` for sizes below 2.
    """

    def __init__(
        self,
        transducer: Transducer,
        lines: int,
        samples: int,
        depth: float,
        height: int,
        width: int,
        device: str = "cpu",
    ) -> None:
        if min(lines, samples, height, width) < 2:
            raise InvalidInputError(
                f"lines, samples, height and width must be at least 2, got {lines}, {samples}, {height}, {width}"
            )
        self.shape = (height, width)
        self._beam = (samples, lines)
        half, top, bottom = view_extent(transducer, depth)
        self.pixel = max(2.0 * half / width, (bottom - top) / height)
        self._x = (torch.arange(width, dtype=torch.float64) + 0.5 - 0.5 * width) * self.pixel
        self._z = (torch.arange(height, dtype=torch.float64) + 0.5) * self.pixel + top
        line, sample, inside = self._beam_coordinates(transducer, depth)
        self.inside: Bool[Tensor, "height width"] = inside.to(device)
        self._index, self._weight = bilinear_corners(line, sample, lines, samples, closed=transducer.kind == "radial")
        self._index = self._index.to(device)
        self._weight = (self._weight * inside.reshape(1, -1)).float().to(device)

    @property
    def x(self) -> Float[Tensor, " width"]:
        """Lateral place [m] of each column's centre."""
        return self._x.float()

    @property
    def z(self) -> Float[Tensor, " height"]:
        """Depth [m] below the centre of the face of each row's centre (negative beside a curved face)."""
        return self._z.float()

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top edges of the picture [m], in matplotlib's order."""
        half = 0.5 * self.pixel
        left, right, top, bottom = (float(edge) for edge in (self._x[0], self._x[-1], self._z[0], self._z[-1]))
        return left - half, right + half, bottom + half, top - half

    def __call__(self, beam: Shaped[Tensor, "*batch samples lines"]) -> Shaped[Tensor, "*batch height width"]:
        """The picture, bilinear; uint8 stays uint8 (rounded), floats keep their dtype."""
        if tuple(beam.shape[-2:]) != self._beam:
            raise InvalidInputError(f"beam must end in (samples, lines) = {self._beam}, got {tuple(beam.shape)}")
        flat = beam.flatten(-2)
        whole = flat.dtype == torch.uint8
        value = torch.zeros(*flat.shape[:-1], self._index.shape[1], device=flat.device)
        for index, weight in zip(self._index, self._weight, strict=True):
            value += flat[..., index] * weight
        value = value.reshape(*beam.shape[:-2], *self.shape)
        return (value + 0.5).to(torch.uint8) if whole else value.to(beam.dtype)

    def nearest(self, beam: Shaped[Tensor, "*batch samples lines"]) -> Shaped[Tensor, "*batch height width"]:
        """The closest beam sample of each pixel, for label maps; 0 outside the view."""
        best = torch.take_along_dim(self._index, self._weight.argmax(0, keepdim=True), dim=0)[0]
        value = beam.flatten(-2)[..., best].reshape(*beam.shape[:-2], *self.shape)
        return torch.where(self.inside, value, torch.zeros_like(value))

    def _beam_coordinates(self, transducer: Transducer, depth: float) -> tuple[Tensor, Tensor, Tensor]:
        """Fractional line and sample of each pixel, and whether it is inside the view."""
        samples, lines = self._beam
        z, x = torch.meshgrid(self._z, self._x, indexing="ij")
        if transducer.kind == "linear":
            fraction = (x - z * math.tan(transducer.steering)) / transducer.width
            span = z / math.cos(transducer.steering)
        else:
            z = z + (transducer.radius if transducer.kind == "convex" else 0.0)
            fraction = torch.atan2(x, z) / transducer.field_of_view
            span = torch.hypot(x, z) - transducer.radius
        inside = (fraction.abs() <= 0.5) & (span >= 0) & (span <= depth)
        row = span * (samples / depth) - 0.5
        if transducer.kind == "radial":
            return fraction.remainder(1.0) * lines, row, inside
        return (fraction + 0.5) * (lines - 1), row, inside


def view_extent(transducer: Transducer, depth: float) -> tuple[float, float, float]:
    """Half width, top and bottom [m] of the view; that of steered lines is centred on the face."""
    if transducer.kind == "linear":
        steering = transducer.steering
        return 0.5 * transducer.width + depth * abs(math.sin(steering)), 0.0, depth * math.cos(steering)
    reach = transducer.radius + depth
    if transducer.kind == "radial":
        return reach, -reach, reach
    half = math.sin(min(0.5 * transducer.field_of_view, 0.5 * math.pi))
    return reach * half, -transducer.sagitta, depth


def bilinear_corners(line: Tensor, sample: Tensor, lines: int, samples: int, closed: bool) -> tuple[Tensor, Tensor]:
    """Flat indices and weights (4, pixels) of the four beam samples around each pixel.

    The border is held; of ``closed`` lines the last and the first are neighbours.
    """
    line, sample = line.reshape(-1), sample.reshape(-1).clamp(0, samples - 1)
    line = line if closed else line.clamp(0, lines - 1)
    left, upper = line.floor().clamp(max=lines - (1 if closed else 2)), sample.floor().clamp(max=samples - 2)
    u, v = line - left, sample - upper
    first, second = (upper * lines + left).long(), (upper * lines + (left + 1).remainder(lines)).long()
    index = torch.stack((first, second, first + lines, second + lines))
    return index, torch.stack(((1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v))
