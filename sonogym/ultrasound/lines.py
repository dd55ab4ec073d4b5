"""Scan lines of a batch of poses in voxel units of their patients: the common input of both rendering paths."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonogym.anatomy.bricks import STRIDE, BrickStack
from sonogym.anatomy.stack import VolumeStack
from sonogym.geometry import Pose
from sonogym.ultrasound.beam import BeamTables, axial_power
from sonogym.ultrasound.contact import Press, face_contact, free
from sonogym.ultrasound.deformation import steepest
from sonogym.ultrasound.frame import RenderParams
from sonogym.ultrasound.moving_lines import carried, straight
from sonogym.ultrasound.postprocess import TGC_CAP
from sonogym.ultrasound.pressure import face_pressure
from sonogym.ultrasound.speckle import MASK, PRIMES, WORDS
from sonogym.ultrasound.transducer import Transducer
from sonogym.ultrasound.veins import closed_levels

TGC_UNIT = 1e-4  # dB/cm/MHz in dB/(m Hz)


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Voxel axes are permuted for each environment so that the first is the one closest to the beam.

    ``origin``, ``direction`` (envs, 3, lines) [voxels, voxels/m]; ``elevation`` (envs, 3) [voxels/m]; ``indentation``
    and ``column`` [m] of :class:`~sonogym.ultrasound.contact.Press`, ``slopes`` of :func:`deformation.stretch` (signed
    for voxel axes), ``pressed`` whether there is a skin to press, ``closed`` levels of the veins,
    ``coupling``, ``scale`` (of scatter) and ``crowding`` (envs, lines): scatterers that compression crowds under
    the pulse lose power, which 1 + crowding t (1 - t) gives back; ``start``, ``shape``, ``stride``, ``leap`` of the
    grid in the stack (:class:`BrickStack`); ``primes`` of the hash for each axis; ``cells`` lattice cells a voxel
    (envs,); ``seed`` and ``noise_seed`` 32-bit words in int64; ``level`` (envs, samples) [dB] is added to 10 log10 of
    the power, ``dynamic_range`` (envs,) [dB]; ``tissue`` is :func:`step_table` for each environment, or one row for
    all; ``haze`` (envs,) is its amplitude at the face; ``occupied`` (envs,) is that of
    :func:`~sonogym.ultrasound.speckle.scatterers`. At the material depths ``knot`` [m] along a line ``turn``
    [voxels/m] is added to its direction (see :mod:`sonogym.ultrasound.moving_lines`).
    """

    origin: Float[Tensor, "envs 3 lines"]
    direction: Float[Tensor, "envs 3 lines"]
    elevation: Float[Tensor, "envs 3"]
    indentation: Float[Tensor, "envs lines"]
    column: Float[Tensor, "envs lines"]
    slopes: Float[Tensor, "envs 2 lines"]
    pressed: bool
    closed: Int[Tensor, "envs samples"]
    coupling: Float[Tensor, "envs lines"]
    scale: Float[Tensor, "envs lines"]
    crowding: Float[Tensor, "envs lines"]
    start: Int[Tensor, " envs"]
    shape: Int[Tensor, "envs 3"]
    stride: Int[Tensor, "envs 3"]
    leap: Int[Tensor, "envs 3"]
    primes: Int[Tensor, "envs 3"]
    cells: Float[Tensor, " envs"]
    seed: Int[Tensor, " envs"]
    noise_seed: Int[Tensor, " envs"]
    level: Float[Tensor, "envs samples"]
    dynamic_range: Float[Tensor, " envs"]
    tissue: Float[Tensor, "rows tissues 3"]
    haze: Float[Tensor, " envs"]
    occupied: Int[Tensor, " envs"]
    turn: Float[Tensor, "envs knots 3 lines"]
    knot: Float[Tensor, " knots"]


def trace_lines(
    patient_from_probe: Pose,
    index: Int[Tensor, " envs"],
    params: RenderParams,
    transducer: Transducer,
    scanlines: tuple[Float[Tensor, "lines 3"], Float[Tensor, "lines 3"]],
    tables: BeamTables,
    voxels: BrickStack,
    body: tuple[VolumeStack, VolumeStack] | None,
    breathing: VolumeStack | None = None,
) -> Lines:
    """The scan lines of each environment; ``body``: distances to skin and bone, None: nothing is touched.

    ``breathing`` holds the fields of :func:`~sonogym.anatomy.breathing.breathing_field` where ``params`` breathe.
    """
    rotation, translation = _matrix(patient_from_probe, tables.ranges.dtype)
    rays = straight(_rotate(rotation, scanlines[0]) + translation[:, None], _rotate(rotation, scanlines[1]))
    if breathing is not None and params.breathing is not None:
        rays = carried(rays, breathing, index, params.breathing, float(tables.ranges[-1]))
    origin, direction = rays.origin, rays.direction
    press = free(origin) if body is None else face_contact(*body, index, origin, direction, params.gel)
    matrix = voxels.voxel_from_patient[index].to(rotation)
    linear = matrix[:, :3, :3]
    voxel_origin = _rotate(linear, origin) + matrix[:, None, :3, 3]
    voxel_direction = _rotate(linear, direction)
    axes = _axes(linear, rotation[..., 2])
    shape = voxels.shape[index]
    spacing = linear[:, 0].norm(dim=-1).reciprocal()  # the grid is isotropic
    direction = _pick(voxel_direction, axes)
    turn = _pick(_rotate(linear, rays.turn.flatten(1, 2)), axes).unflatten(1, rays.turn.shape[1:3])
    cosines = direction * spacing[:, None, None]
    power = axial_power(tables, cosines)
    occupied, strength = _density(params, tables)
    squeezed = power if body is None else axial_power(tables, cosines * steepest(press)[..., None])
    return Lines(
        origin=_pick(voxel_origin, axes).mT.contiguous(),
        direction=direction.mT.contiguous(),
        elevation=_pick(_rotate(linear, rotation[:, None, :, 1]), axes)[:, 0].contiguous(),
        indentation=press.indentation.contiguous(),
        column=press.column.contiguous(),
        slopes=_slopes(press, linear, transducer),
        pressed=body is not None,
        closed=closed_levels(
            face_pressure(press, transducer.width * transducer.height, params.stiffness),
            tables.stress,
            params.venous_pressure,
        ),
        coupling=press.coupling.contiguous(),
        scale=strength[:, None] * power.rsqrt(),
        crowding=4.0 * (power / squeezed - 1.0),
        start=voxels.offset[index],
        shape=shape.gather(1, axes),
        stride=torch.tensor(STRIDE, device=axes.device)[axes],
        leap=voxels.leap[index].gather(1, axes),
        primes=torch.tensor(PRIMES, device=axes.device)[axes],
        cells=spacing / tables.lattice,
        seed=_word(params.speckle_seed),
        noise_seed=_word(params.noise_seed),
        level=_level(params, transducer, tables),
        dynamic_range=params.dynamic_range.to(rotation),
        tissue=_tissue(tables.tissue, params),
        haze=_haze(params),
        occupied=occupied,
        turn=turn.mT.contiguous(),
        knot=rays.knot,
    )


def _slopes(press: Press, linear: Float[Tensor, "envs 3 3"], transducer: Transducer) -> Float[Tensor, "envs 2 lines"]:
    """dA/dl and d(D - A)/dl / (D - A) along elevation x line, central differences; 0 where lines share one point."""
    lines = press.column.shape[1]
    pitch = float(transducer.line_pitch(lines, torch.zeros(1)))
    if not pitch:
        return torch.zeros_like(press.column)[:, None].repeat(1, 2, 1)
    values = torch.stack((press.indentation, press.column.log()), dim=1)
    inner = (values[..., 2:] - values[..., :-2]) * (0.5 / pitch)
    slope = torch.cat((inner[..., :1], inner, inner[..., -1:]), dim=-1)
    return (slope * torch.linalg.det(linear).sign()[:, None, None]).contiguous()


def _level(params: RenderParams, transducer: Transducer, tables: BeamTables) -> Float[Tensor, "envs samples"]:
    """Gain and time gain compensation over the level shown as white [dB]."""
    tgc = 2.0 * TGC_UNIT * transducer.center_frequency * params.tgc[:, None] * tables.ranges
    reference = 20.0 * torch.log10(torch.tensor(tables.reference))
    return params.gain[:, None] + tgc.clamp(max=TGC_CAP) - reference.to(tgc)


def _tissue(table: Float[Tensor, "tissues 3"], params: RenderParams) -> Float[Tensor, "rows tissues 3"]:
    """Scatter times 10^(offset / 20), transmission to the power of the factor: alpha times the factor."""
    scatter, transmission, length = table[None].unbind(-1)
    if params.scatter_offset is not None:
        scatter = scatter * 10.0 ** (params.scatter_offset.to(table) / 20.0)
    if params.attenuation_factor is not None:
        transmission = transmission ** params.attenuation_factor.to(table)
    return torch.stack(torch.broadcast_tensors(scatter, transmission, length), dim=-1)


def _density(params: RenderParams, tables: BeamTables) -> tuple[Int[Tensor, " envs"], Float[Tensor, " envs"]]:
    """Lattice points that scatter, in parts of WORDS, and what keeps their power; 0 and 1 where all of them do."""
    density = params.scatterers
    if density is None:
        density = torch.full_like(params.gain, torch.inf if tables.scatterers is None else tables.scatterers)
    share = density * tables.share
    sparse = share < 1.0
    occupied = torch.where(sparse, (share * WORDS).round(), torch.zeros_like(share)).long()
    return occupied, torch.where(sparse, share.rsqrt(), torch.ones_like(share)).to(tables.ranges.dtype)


def _haze(params: RenderParams) -> Float[Tensor, " envs"]:
    return torch.zeros_like(params.gain) if params.clutter is None else 10.0 ** (params.clutter / 20.0)


def _matrix(pose: Pose, dtype: torch.dtype) -> tuple[Float[Tensor, "envs 3 3"], Float[Tensor, "envs 3"]]:
    matrix = pose.matrix().to(dtype)
    return matrix[:, :3, :3], matrix[:, :3, 3]


def _rotate(matrix: Float[Tensor, "envs 3 3"], points: Float[Tensor, "*envs lines 3"]) -> Float[Tensor, "envs lines 3"]:
    """matrix @ points written out, so that the rounding does not depend on the size of the batch."""
    columns = matrix[:, None]
    return columns[..., 0] * points[..., 0:1] + columns[..., 1] * points[..., 1:2] + columns[..., 2] * points[..., 2:3]


def _axes(linear: Float[Tensor, "envs 3 3"], axis: Float[Tensor, "envs 3"]) -> Int[Tensor, "envs 3"]:
    """Voxel axes, the one closest to the probe's depth axis first."""
    first = _rotate(linear, axis[:, None])[:, 0].abs().argmax(dim=-1, keepdim=True)
    return (first + torch.arange(3, device=first.device)) % 3


def _pick(vectors: Float[Tensor, "envs lines 3"], axes: Int[Tensor, "envs 3"]) -> Float[Tensor, "envs lines 3"]:
    return vectors.gather(2, axes[:, None].expand(vectors.shape))


def _word(seed: Int[Tensor, " envs"]) -> Int[Tensor, " envs"]:
    """64-bit seeds folded to 32 bits."""
    return (seed ^ (seed >> 32)) & MASK
