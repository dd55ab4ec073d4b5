"""The tissue table: what each label is to sound, read from ``assets/tissues``."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sonogym.anatomy.tissues import TISSUE_COUNT, Tissue
from sonogym.errors import InvalidInputError, require_between, unknown_name
from sonogym.resources import read_toml

TEXTURES = ("none", "grain", "striae")
INTERFACE_LEVEL = 10.0 ** (44.0 / 20.0)  # echo of R = 1 relative to the RMS of liver speckle (design)
ATTENUATION_SPREAD = 0.2  # share of the attenuation by which a tissue without a published range varies (design)
SHADOW_MARGIN = 0.3  # by how much R may exceed its value at normal incidence when it casts a shadow (design)
_LIMITS = {  # key -> lowest, highest, unit
    "speed_m_s": (300.0, 7000.0, "m/s"),
    "density_kg_m3": (0.5, 22000.0, "kg/m3"),
    "attenuation_db_cm_mhz": (0.0, 100.0, "dB/cm at 1 MHz"),
    "attenuation_exponent": (0.2, 2.5, ""),
    "scatter_db": (-120.0, 40.0, "dB"),
    "order": (0, 255, ""),
    "roughness_deg": (0.0, 90.0, "degrees"),
    "diffuse": (0.0, 1.0, ""),
    "attenuation_low_db_cm_mhz": (0.0, 100.0, "dB/cm at 1 MHz"),
    "attenuation_high_db_cm_mhz": (0.0, 100.0, "dB/cm at 1 MHz"),
}
_RANGE = ("attenuation_low_db_cm_mhz", "attenuation_high_db_cm_mhz")


@dataclass(frozen=True, kw_only=True)
class Acoustics:
    """Properties by tissue id, SI units. All but ``wall`` are (tissues,).

    ``attenuation`` [dB/m] at 1 MHz grows with frequency to the power ``exponent``; ``scatter`` is the RMS amplitude of
    scattering relative to liver; ``order`` 0..255 ranks tissues in the map whose gradient is an interface's normal;
    ``roughness`` [rad] widens the specular lobe; ``diffuse`` is the RMS part of an echo that returns at any
    angle; ``texture`` indexes :data:`TEXTURES`; ``wall`` (tissues, tissues) is the echo, as a reflection coefficient,
    of the connective layer between two tissues. ``attenuation_low`` and ``attenuation_high`` [dB/m] bound what was
    published, else +-20 % (design). ``digest`` names what baked patients hold of the table: order and texture.
    """

    speed: Float[Tensor, " tissues"]
    density: Float[Tensor, " tissues"]
    attenuation: Float[Tensor, " tissues"]
    exponent: Float[Tensor, " tissues"]
    scatter: Float[Tensor, " tissues"]
    order: Float[Tensor, " tissues"]
    roughness: Float[Tensor, " tissues"]
    diffuse: Float[Tensor, " tissues"]
    texture: Float[Tensor, " tissues"]
    wall: Float[Tensor, "tissues tissues"]
    attenuation_low: Float[Tensor, " tissues"]
    attenuation_high: Float[Tensor, " tissues"]
    digest: str

    @property
    def impedance(self) -> Float[Tensor, " tissues"]:
        """Z = rho c [Rayl]."""
        return self.speed * self.density

    def decibels_per_metre(self, frequency: float) -> Float[Tensor, " tissues"]:
        """One-way attenuation alpha0 f^b [dB/m] at ``frequency`` [Hz]."""
        return self.attenuation * (frequency * 1e-6) ** self.exponent


@lru_cache(maxsize=8)
def load_acoustics_table(name: str = "default") -> Acoustics:
    """The table ``assets/tissues/<name>.toml``; raises :class:`UnknownNameError` or :class:`InvalidInputError`."""
    return acoustics_from_table(read_toml("tissues", name, "tissue table"), name)


def acoustics_from_table(table: Mapping[str, Any], source: str) -> Acoustics:
    """An :class:`Acoustics` of the keys of a tissue file, converted to SI."""
    rows = [_row(table.get("tissue", {}), tissue, source) for tissue in Tissue]
    column = {key: torch.tensor([float(row[key]) for row in rows]) for key in (*_LIMITS, "texture")}
    baked = torch.stack((column["order"], column["texture"])).numpy().tobytes()
    silent = torch.tensor([row["scatter_db"] is None or math.isnan(row["scatter_db"]) for row in rows])
    return Acoustics(
        speed=column["speed_m_s"],
        density=column["density_kg_m3"],
        attenuation=100.0 * column["attenuation_db_cm_mhz"],
        exponent=column["attenuation_exponent"],
        scatter=torch.where(silent, 0.0, 10.0 ** (column["scatter_db"] / 20.0)),
        order=column["order"],
        roughness=column["roughness_deg"].deg2rad(),
        diffuse=column["diffuse"],
        texture=column["texture"],
        wall=_walls(table.get("wall", []), source),
        attenuation_low=100.0 * column["attenuation_low_db_cm_mhz"],
        attenuation_high=100.0 * column["attenuation_high_db_cm_mhz"],
        digest=hashlib.blake2b(baked, digest_size=8).hexdigest(),
    )


def _row(rows: Mapping[str, Any], tissue: Tissue, source: str) -> dict[str, float]:
    if tissue.name not in rows:
        raise InvalidInputError(f"tissue table {source!r} lacks [tissue.{tissue.name}]")
    given = dict(rows[tissue.name])
    texture = given.pop("texture", "none")
    if texture not in TEXTURES:
        raise unknown_name(f"texture of {tissue.name}", str(texture), TEXTURES)
    row = {"scatter_db": math.nan, "texture": float(TEXTURES.index(texture))}
    for key, value in given.items():
        if key not in _LIMITS:
            raise unknown_name(f"key of {tissue.name} in tissue table {source!r}", key, _LIMITS)
        low, high, unit = _LIMITS[key]
        require_between(f"{key} of {tissue.name} in tissue table {source!r}", value, low, high, unit)
        row[key] = value
    missing = sorted(_LIMITS.keys() - row.keys() - set(_RANGE))
    if missing:
        raise InvalidInputError(f"{tissue.name} in tissue table {source!r} lacks {', '.join(missing)}")
    for key, sign in zip(_RANGE, (-1.0, 1.0), strict=True):
        row.setdefault(key, (1.0 + sign * ATTENUATION_SPREAD) * row["attenuation_db_cm_mhz"])
    if not row[_RANGE[0]] <= row["attenuation_db_cm_mhz"] <= row[_RANGE[1]]:
        raise InvalidInputError(f"attenuation of {tissue.name} in tissue table {source!r} lies outside its own range")
    return row


def _walls(walls: list[Mapping[str, Any]], source: str) -> Float[Tensor, "tissues tissues"]:
    echo = torch.zeros(TISSUE_COUNT, TISSUE_COUNT)
    for wall in walls:
        amplitude = float(wall["echo_per_mm"]) * float(wall["thickness_mm"])
        for inner in wall["inside"]:
            for outer in wall["outside"]:
                for name in (inner, outer):
                    if name not in Tissue.__members__:
                        raise unknown_name(f"tissue in wall {wall['name']!r} of {source!r}", name, Tissue.__members__)
                i, j = Tissue[inner], Tissue[outer]
                echo[i, j] = echo[j, i] = max(amplitude, float(echo[i, j]))
    return echo


def step_table(table: Acoustics, frequency: float, step: float, speed: float) -> Float[Tensor, "tissues 3"]:
    """(scatter amplitude, two-way transmission over one step, true length of one step [m]) of each tissue.

    One step is ``step`` [m] of apparent depth at the assumed ``speed``: ds = step c / speed, and
    transmission = 10^(-2 alpha f^b ds / 20).
    """
    length = step * table.speed / speed
    transmission = 10.0 ** (-2.0 * table.decibels_per_metre(frequency) * length / 20.0)
    return torch.stack((table.scatter, transmission, length), dim=-1)


def interface_table(table: Acoustics, aperture_angle: float, walls: bool) -> Float[Tensor, "tissues tissues 7"]:
    """For sound going from tissue i to j: Z_i, Z_j, c_j / c_i, wall echo, -1 / (2 lobe^2), diffuse echo, mid order.

    The diffuse echo is a part of (R at normal incidence + wall). The lobe is sqrt(``aperture_angle``^2 + roughness^2)
    [rad]. Trabecular bone is met through its cortical shell, which coarse voxels and steps may skip; so against soft
    tissue it takes the shell's impedance and speed.
    """
    shape = (TISSUE_COUNT, TISSUE_COUNT)
    z, c = table.impedance, table.speed
    z1, c1, z2, c2 = z[:, None].expand(shape), c[:, None].expand(shape), z.expand(shape), c.expand(shape)
    core, shell = int(Tissue.TRABECULAR_BONE), int(Tissue.CORTICAL_BONE)
    soft = torch.ones(TISSUE_COUNT, dtype=torch.bool)
    soft[[core, shell]] = False
    z1, c1, z2, c2 = z1.clone(), c1.clone(), z2.clone(), c2.clone()
    z2[soft, core], c2[soft, core], z1[core, soft], c1[core, soft] = z[shell], c[shell], z[shell], c[shell]
    rough = torch.maximum(table.roughness[:, None], table.roughness)
    lobe = -0.5 / (aperture_angle**2 + rough.square())
    diffuse = torch.maximum(table.diffuse[:, None], table.diffuse)
    middle = 0.5 * (table.order[:, None] + table.order)
    wall = table.wall if walls else torch.zeros_like(table.wall)
    normal = ((z2 - z1) / (z2 + z1)).abs()
    return torch.stack((z1, z2, c2 / c1, wall, lobe, diffuse * (normal + wall), middle), dim=-1)


def shadow_table(pair: Float[Tensor, "tissues tissues 7"]) -> Float[Tensor, "tissues tissues"]:
    """Most of R that casts a shadow, for every row of :func:`interface_table`.

    Beyond the critical angle R = 1 holds for a ray, but a beam spans a range of angles and bends around small steps.
    """
    normal = ((pair[..., 1] - pair[..., 0]) / (pair[..., 1] + pair[..., 0])).abs()
    return (normal + SHADOW_MARGIN).clamp_max(1.0)
