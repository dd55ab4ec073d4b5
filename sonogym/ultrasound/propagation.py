"""Sound down the scan lines, in torch: the definition of what :mod:`sonogym.ultrasound.kernel_march` computes.

All lines of all environments advance together, one sample at a time (physics.md section 4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from sonogym.anatomy.bricks import address
from sonogym.anatomy.tissues import Tissue
from sonogym.ultrasound import voxel_word
from sonogym.ultrasound.beam import BeamTables
from sonogym.ultrasound.deformation import in_plane, moved, pressed_cosine, stretch
from sonogym.ultrasound.lines import Lines
from sonogym.ultrasound.long_paths import COMET_ORDERS, FAINTEST, GasSurface
from sonogym.ultrasound.refraction import bend
from sonogym.ultrasound.speckle import ECHO_SALT, MASK, NOISE_SALT, PRIMES, complex_normal, mix, scatterers
from sonogym.ultrasound.veins import closed, last_around

FLOOR = 1e-9  # transmission below this is silence: even a total reflection returns 60 dB less than the receiver's noise
FURTHEST_SHIFT = 1e-3  # m: furthest an interface is moved from the middle of the step
FLAT = 4e-3  # levels a voxel: a map that rises less is constant but for the rounding of its interpolation
CORNERS = tuple((corner & 1, (corner >> 1) & 1, corner >> 2) for corner in range(8))


@dataclass(frozen=True, kw_only=True)
class Field:
    """What returns before focusing: ``scatter`` and ``echoes`` (2, envs, samples, lines), the middle plane's maps."""

    scatter: Float[Tensor, "2 envs samples lines"]
    echoes: Float[Tensor, "2 envs samples lines"]
    labels: UInt8[Tensor, "envs samples lines"]
    transmission: Float[Tensor, "envs samples lines"]


def propagate(
    voxels: UInt8[Tensor, "voxels 4"], lines: Lines, tables: BeamTables, rule: type[Plane] | None = None
) -> Field:
    """Scatter and interface echoes of every sample, summed over the elevation planes, with receiver noise.

    ``rule`` says how the voxels are read: at the nearest one, unless a subclass of :class:`Plane` says otherwise.
    """
    planes = [(rule or Plane)(voxels, lines, tables, number) for number in range(tables.plane.shape[0])]
    fields = [plane.march() for plane in planes]
    middle = len(fields) // 2
    return Field(
        scatter=torch.stack([field.scatter for field in fields]).sum(0),
        echoes=torch.stack([field.echoes for field in fields]).sum(0),
        labels=fields[middle].labels,
        transmission=fields[middle].transmission,
    )


def reflection(
    cosine: Float[Tensor, "*shape"], pair: Float[Tensor, "*shape 7"]
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """(|R|, specular echo, diffuse echo) of interfaces met at an angle; ``pair`` of :func:`interface_table`.

    R = (Z2 cos ti - Z1 cos tt) / (Z2 cos ti + Z1 cos tt), sin tt = c2/c1 sin ti, 1 beyond the critical angle. The
    specular echo |R| + wall falls as exp(-ti^2 / (2 lobe^2)), with ti^2 = 2x + x^2/3 + 4x^3/45 + x^4/35,
    x = 1 - cos ti; the diffuse one as cos ti.
    """
    sine2 = pair[..., 2].square() * (1.0 - cosine.square())
    passes = torch.where(sine2 < 1.0, 1.0 - sine2, torch.ones_like(sine2))  # keeps gradients finite beyond the angle
    z1, z2 = pair[..., 0] * passes.sqrt(), pair[..., 1] * cosine
    amplitude = torch.where(sine2 < 1.0, ((z2 - z1) / (z2 + z1)).abs(), torch.ones_like(cosine))
    x = 1.0 - cosine
    angle2 = x * (2.0 + x * (1 / 3 + x * (4 / 45 + x * (1 / 35))))
    specular = (amplitude + pair[..., 3]) * torch.exp(angle2 * pair[..., 4])
    return amplitude, specular, cosine * pair[..., 5]


class Plane:
    """One elevation plane on its way down; the state is (envs, lines). Tissue is that of the nearest voxel."""

    furthest_shift = FURTHEST_SHIFT

    def __init__(self, voxels: Tensor, lines: Lines, tables: BeamTables, number: int) -> None:
        self.words, self.lines, self.tables, self.number = voxel_word.words(voxels), lines, tables, number
        self.depth = torch.full_like(lines.coupling, 0.5 * tables.step)
        self.material = -lines.indentation - 0.5 * tables.step
        self.passed = lines.coupling.clone()
        self.before = torch.full(lines.coupling.shape, int(Tissue.GEL), device=lines.coupling.device)
        self.around = torch.full_like(self.before, int(Tissue.VISCERAL_FAT))  # what fills a vein that closes
        envs, count = lines.coupling.shape
        rows = lines.tissue.shape[0]  # the table of each environment, or one for all
        self.row_of_tissue = (torch.arange(envs, device=lines.coupling.device) % rows)[:, None]
        self.gas = GasSurface(lines.coupling)
        self.last_row = torch.full_like(lines.coupling, -torch.inf)
        self.last_lost, self.last_passed = torch.zeros_like(lines.coupling), torch.ones_like(lines.coupling)
        self.origin, self.direction = lines.origin, lines.direction
        self.echoes = lines.coupling.new_zeros(2, envs, len(tables.ranges), count)

    def march(self) -> Field:
        """All samples from the face down."""
        rows = [self._row(k) for k in range(len(self.tables.ranges))]
        scatter, labels, transmission = zip(*rows, strict=True)
        return Field(
            scatter=torch.stack(scatter, dim=2),
            echoes=self.echoes,
            labels=torch.stack(labels, dim=1).to(torch.uint8),
            transmission=torch.stack(transmission, dim=1),
        )

    def _row(self, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Scatter (2, envs, lines), labels and transmission of sample ``k``; the state moves to the next."""
        lines, tables, self.row = self.lines, self.tables, k
        material, t = in_plane(self.depth, lines.indentation, lines.column)
        self.across = tables.elevation[self.number, k].expand_as(material)
        if lines.pressed and tables.bulge.shape[1]:
            bulge = tables.bulge[self.number, k]
            material, self.across = moved(self.depth, lines.indentation, lines.column, tables.curvature, bulge)
        scale = lines.scale * (1.0 + lines.crowding * t * (1.0 - t)).sqrt()
        if len(lines.knot):
            self._turn(material)
        place = self._voxel(material, self.across)
        label, amplitude, transmission, length = self._tissue(place)
        self._interfaces(k, label, material)
        if tables.refraction:
            place = self._voxel(material, self.across)  # on the line as it goes on
        shade = self.passed
        passed = self.passed * transmission
        self.passed = torch.where(passed < FLOOR, torch.zeros_like(passed), passed)
        self.depth = self.depth + length
        self.material, self.before = material, label
        radius = int(tables.penumbra_radius[k])
        soft = mirrored(shade, tables.penumbra[k], radius) if radius else shade
        scatter = self._scatter(k, place, amplitude * soft, scale)
        if self.number == 0:
            scatter = scatter + self._noise(k)
        if len(tables.paths.tail):
            tail, below = self.gas.tail(k, tables.paths.tail)
            straight = tables.elevation[self.number, k].expand_as(material)
            behind = self._voxel(self.gas.place + below * tables.step, straight)
            scatter = scatter + self._scatter(k, behind, tail, lines.scale)
        return scatter, label, shade

    def _turn(self, material: Float[Tensor, "envs lines"]) -> None:
        """Turn the lines that have come past a knot there; those that have met gas stay, as only its tail follows."""
        knot = self.lines.knot[:, None]
        passed = (self.material[:, None] < knot) & (knot <= material[:, None]) & (self.gas.strength[:, None] == 0)
        turn = self.lines.turn * passed[:, :, None]
        self.origin = self.origin - (turn * knot[:, None]).sum(1)
        self.direction = self.direction + turn.sum(1)

    def _voxel(self, material: Tensor, across: Tensor) -> Float[Tensor, "envs 3 lines"]:
        out = self.lines.elevation[..., None] * across[:, None]
        return self.origin + self.direction * material[:, None] + out

    def _tissue(self, place: Float[Tensor, "envs 3 lines"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Label, scatter amplitude, two-way transmission over one step and its true length, at points [voxels]."""
        nearest = self._nearest(place)
        word = closed(nearest, self.lines.closed[:, self.row, None], self.around)
        self.around = last_around(nearest, self.around)
        label, gain = voxel_word.label(word), self.tables.texture[voxel_word.texture(word)]
        scattering, transmission, length = self.lines.tissue[self.row_of_tissue, label].unbind(-1)
        return label, scattering * gain, transmission, length

    def _nearest(self, place: Tensor) -> Int[Tensor, "envs lines"]:
        lines = self.lines
        top = (lines.shape[..., None] - 1).float()
        index = (torch.minimum(place.clamp_min(0.0), top) + 0.5).long()
        return self.words[lines.start[:, None] + address(index.mT, lines.stride[:, None], lines.leap[:, None])]

    def _interfaces(self, k: int, label: Tensor, material: Tensor) -> None:
        """Echoes of the lines whose label changes between samples k - 1 and k, and what they let through."""
        env, line = torch.nonzero(label != self.before, as_tuple=True)
        if not len(env):
            return
        change = (self.before[env, line], label[env, line])
        pair = self.tables.pair[change]
        advance = material[env, line] - self.material[env, line]
        middle = 0.5 * (material[env, line] + self.material[env, line])
        out = self.lines.elevation[env] * self.across[env, line][:, None]
        direction = self.direction[env, :, line]
        place = self.origin[env, :, line] + direction * middle[:, None] + out
        shift = self._shift(env, place, direction, pair[:, 6], advance)
        near = (0.5 * advance).clamp_min(FURTHEST_SHIFT)
        crossing = torch.minimum(torch.maximum(shift, -near), near)
        normal, _ = self._cell(env, place + direction * crossing[:, None], voxel_word.order)
        rise2, length2 = normal.square().sum(-1), direction.square().sum(-1)
        cosine = self._cosine(env, line, normal, direction, (rise2.clamp_min(FLAT**2) * length2).rsqrt())
        cosine = torch.where(rise2 > FLAT**2, cosine, torch.ones_like(cosine))
        row = (k - 0.5 + shift / advance).clamp_min(-0.5)
        amplitude, specular, diffuse = reflection(cosine, pair)
        lost = torch.minimum(amplitude, self.tables.shadow[change])
        self.gas.meet((env, line), label[env, line], k, self.passed[env, line] * lost, material[env, line])
        met = self._cross(env, line, k, row, 1.0 - lost.square())
        even, rough = self.tables.plane[self.number]
        echo = self._echo(env, k, place, met * even * specular, met * rough * diffuse)
        self._put(env, line, row, echo)
        if self.tables.paths.comet:
            self._comet_tail((env, line), k, row, met, lost, echo)
        if self.tables.refraction:
            normal = torch.where((rise2 > FLAT**2)[:, None], normal, torch.zeros_like(normal))
            self._bend(env, line, middle + shift, bend(direction, normal, pair[:, 2]))

    def _cosine(self, env: Tensor, line: Tensor, normal: Tensor, direction: Tensor, scale: Tensor) -> Tensor:
        """|cos| to the interface, turned with the tissue where that is compressed; ``scale`` of both vectors."""
        lines, at = self.lines, (env, line)
        if not lines.pressed:
            return ((normal * direction).sum(-1).abs() * scale).clamp_max(1.0)
        slopes = (lines.slopes[env, 0, line], lines.slopes[env, 1, line])
        turn = stretch(self.depth[at], lines.indentation[at], lines.column[at], slopes, self.tables.curvature)
        return pressed_cosine(normal, direction, lines.elevation[env], turn)

    def _shift(self, env: Tensor, place: Tensor, direction: Tensor, order: Tensor, advance: Tensor) -> Tensor:
        """How far [m] behind ``place`` the sharp map crosses ``order``, at most half a step or ``furthest_shift``."""
        gradient, value = self._cell(env, place, voxel_word.sharp)
        slope = (gradient * direction).sum(-1)
        crossed = slope.square() > FLAT**2 * direction.square().sum(-1)
        limit = (0.5 * advance).clamp_min(self.furthest_shift)
        shift = (order - value) / torch.where(crossed, slope, torch.inf)
        return torch.minimum(torch.maximum(shift, -limit), limit)

    def _comet_tail(
        self, at: tuple[Tensor, Tensor], k: int, row: Tensor, met: Tensor, lost: Tensor, echo: Tensor
    ) -> None:
        """What bounces between the line's last interface and this one, m times: a2 (R1 R2 T)^m at r2 + m (r2 - r1).

        T is the two-way transmission of the layer between them, which must be at most ``paths.comet`` samples thick:
        counted by labels, as the order map of a speck says little of where its faces are.
        """
        spacing = k - self.last_row[at]
        loop = self.last_lost[at] * lost * met / self.last_passed[at]
        self.last_row = self.last_row.index_put(at, torch.full_like(row, k))
        self.last_lost = self.last_lost.index_put(at, lost)
        self.last_passed = self.last_passed.index_put(at, (met * (1.0 - lost.square())).clamp_min(FLOOR))
        for order in range(1, COMET_ORDERS + 1):
            echo = self._bounced(echo, loop)
            heard = (spacing <= self.tables.paths.comet) & (echo.abs().sum(0) > FAINTEST)
            if not bool(heard.any()):
                return
            self._put(at[0][heard], at[1][heard], (row + order * spacing)[heard], echo[:, heard])

    def _bend(self, env: Tensor, line: Tensor, place: Tensor, after: Float[Tensor, "points 3"]) -> None:
        """Turn lines at ``place`` [m] along them; those that have met gas stay, as only its tail follows."""
        open_ = self.gas.strength[env, line] == 0
        env, line, place, after = env[open_], line[open_], place[open_], after[open_]
        at = (env[:, None], torch.arange(3, device=env.device), line[:, None])
        turn = self.direction[at] - after
        self.origin = self.origin.index_put(at, self.origin[at] + turn * place[:, None])
        self.direction = self.direction.index_put(at, after)

    def _cross(self, env: Tensor, line: Tensor, k: int, row: Tensor, kept: Tensor) -> Float[Tensor, " points"]:
        """Transmission at which interfaces are met; ``kept`` of it goes on."""
        passed = self.passed[env, line]
        self.passed = self.passed.index_put((env, line), passed * kept)
        return passed

    def _echo(self, env: Tensor, k: int, place: Tensor, specular: Tensor, diffuse: Tensor) -> Float[Tensor, "2 points"]:
        """Echoes of interfaces: the specular part, and the diffuse one times a complex number of the place."""
        diffuse = self.tables.row[k, 3] * diffuse
        real, imaginary = complex_normal(self._echo_word(env, place))
        return torch.stack((specular + diffuse * real, diffuse * imaginary))

    def _bounced(self, echo: Float[Tensor, "2 points"], loop: Tensor) -> Float[Tensor, "2 points"]:
        """``echo`` after one more way there and back that keeps ``loop`` of its amplitude."""
        return echo * loop

    def _cell(
        self, env: Tensor, place: Float[Tensor, "points 3"], field: Callable[[Tensor], Tensor]
    ) -> tuple[Float[Tensor, "points 3"], Float[Tensor, " points"]]:
        """Gradient and value of a map, trilinear at points in voxel units."""
        shape, stride, leap = self.lines.shape[env], self.lines.stride[env], self.lines.leap[env]
        place = torch.minimum(place.clamp_min(0.0), (shape - 1).float())
        base = torch.minimum(place.long(), (shape - 2).clamp_min(0))
        upper = place - base
        gradient, value = torch.zeros_like(place), torch.zeros_like(place[:, 0])
        for bits in CORNERS:
            at = address(base + torch.tensor(bits, device=base.device), stride, leap)
            corner = field(self.words[self.lines.start[env] + at]).to(place)
            weight = [upper[:, axis] if bit else 1.0 - upper[:, axis] for axis, bit in enumerate(bits)]
            slopes = [(1.0 if bits[i] else -1.0) * weight[i - 1] * weight[i - 2] for i in range(3)]
            gradient = gradient + torch.stack(slopes, dim=-1) * corner[:, None]
            value = value + weight[0] * weight[1] * weight[2] * corner
        return gradient, value

    def _echo_word(self, env: Tensor, place: Tensor) -> Tensor:
        cell = (place * self.lines.cells[env, None]).floor().long()
        words = (cell * self.lines.primes[env]) & MASK
        return mix(words[:, 0] ^ words[:, 1] ^ words[:, 2] ^ self.lines.seed[env] ^ ECHO_SALT)

    def _put(self, env: Tensor, line: Tensor, row: Tensor, echo: Float[Tensor, "2 points"]) -> None:
        put_pulses(self.echoes, self.tables.splat, (env, line), row, echo)

    def _scatter(self, k: int, place: Tensor, amplitude: Tensor, scale: Tensor) -> Float[Tensor, "2 envs lines"]:
        lines, tables = self.lines, self.tables
        strength = tables.row[k, 0] * tables.plane[self.number, 1] * scale * amplitude
        cell = place * lines.cells[:, None, None]
        whole = cell[:, 0].floor()
        share = cell[:, 0] - whole
        across = ((cell[:, 1:] + 0.5).floor().long() * lines.primes[:, 1:, None]) & MASK
        word = across[:, 0] ^ across[:, 1] ^ lines.seed[:, None]
        prime = lines.primes[:, :1]
        occupied = lines.occupied[:, None]
        near = torch.stack(scatterers(mix(word ^ ((whole.long() * prime) & MASK)), occupied))
        far = torch.stack(scatterers(mix(word ^ (((whole.long() + 1) * prime) & MASK)), occupied))
        return strength * ((1.0 - share) * near + share * far)

    def _noise(self, k: int) -> Float[Tensor, "2 envs lines"]:
        count = self.lines.coupling.shape[1]
        sample = ((k * count + torch.arange(count, device=self.lines.seed.device)) * PRIMES[0]) & MASK
        word = mix(sample ^ self.lines.noise_seed[:, None] ^ NOISE_SALT)
        return self.tables.row[k, 2] * torch.stack(complex_normal(word))


def put_pulses(
    echoes: Float[Tensor, "2 envs samples lines"],
    splat: Float[Tensor, "places taps"],
    at: tuple[Int[Tensor, " points"], Int[Tensor, " points"]],
    row: Float[Tensor, " points"],
    echo: Float[Tensor, "2 points"],
) -> None:
    """Add pulses centred at fractional rows of the lines ``at`` (env, line)."""
    samples = echoes.shape[2]
    centre = (row + 0.5).floor()
    pulse = splat[((row - centre + 0.5) * (splat.shape[0] - 1) + 0.5).long()]
    reach = splat.shape[1] // 2
    for tap in range(-reach, reach + 1):
        sample = centre.long() + tap
        inside = (sample >= 0) & (sample < samples)
        value = echo * (pulse[:, tap + reach] * inside)
        place = (at[0], sample.clamp(0, samples - 1), at[1])
        for part in range(2):
            echoes[part].index_put_(place, value[part], accumulate=True)


def mirrored(
    values: Float[Tensor, "*batch lines"],
    taps: Float[Tensor, " taps"],
    radius: int,
    beyond: Float[Tensor, "*batch lines"] | None = None,
) -> Float[Tensor, "*batch lines"]:
    """Symmetric blur across lines by a half kernel; past the edges ``beyond`` (None: the values) is mirrored."""
    count = values.shape[-1]
    index = torch.arange(-radius, count + radius, device=values.device)
    outside = (index < 0) | (index >= count)
    low, high = (-1 - index).clamp_max(count - 1), (2 * count - 1 - index).clamp_min(0)
    index = torch.where(index < 0, low, torch.where(outside, high, index))
    padded = values[..., index]
    if beyond is not None:
        padded = torch.where(outside, beyond[..., index], padded)
    total = taps[0] * values
    for i in range(1, radius + 1):
        total = total + taps[i] * (
            padded[..., radius - i : radius - i + count] + padded[..., radius + i : radius + i + count]
        )
    return total
