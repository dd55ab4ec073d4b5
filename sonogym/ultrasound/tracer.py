"""Scan lines as the fused path reads them: compiled what the pose decides, NumPy what parameters decide alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonogym.anatomy.bone import NODES
from sonogym.anatomy.bricks import BrickStack
from sonogym.anatomy.stack import VolumeStack
from sonogym.geometry import Pose
from sonogym.ultrasound.beam import BeamTables
from sonogym.ultrasound.contact import GAP_NONE, SUPPORT, spline
from sonogym.ultrasound.frame import RenderParams
from sonogym.ultrasound.kernel_face_contact import Face, Factors, Press, Stack, press
from sonogym.ultrasound.kernel_lines import Batch, Patients, Pulse, cast, place
from sonogym.ultrasound.kernel_moving_lines import Bending, bend
from sonogym.ultrasound.lines import TGC_UNIT
from sonogym.ultrasound.moving_lines import KNOTS, lines_read, neighbours, nodes
from sonogym.ultrasound.postprocess import TGC_CAP
from sonogym.ultrasound.speckle import MASK, WORDS
from sonogym.ultrasound.transducer import Transducer
from sonogym.ultrasound.veins import VENOUS_PRESSURE


@dataclass(frozen=True)
class Tracing:
    """A batch that is traced part by part: ``steps`` fill ``batch``, each given what is beside it."""

    batch: Batch
    steps: tuple[tuple[Callable[..., None], tuple[Any, ...]], ...]

    def fill(self, first: int, last: int) -> None:
        """Trace the environments ``first`` to ``last``; threads may trace different ones at once."""
        for step, given in self.steps:
            step(first, last, *given)


class Tracer:
    """:func:`~sonogym.ultrasound.lines.trace_lines` of one beam, compiled: equal to rounding, and without gradient."""

    def __init__(
        self,
        transducer: Transducer,
        scanlines: tuple[Float[Tensor, "lines 3"], Float[Tensor, "lines 3"]],
        tables: BeamTables,
        voxels: BrickStack,
        body: tuple[VolumeStack, VolumeStack] | None,
    ) -> None:
        """``body``: distances to skin and bone, None: nothing is touched."""
        lines = len(scanlines[0])
        self._scanlines = tuple(_array(part.T) for part in scanlines)
        self._patients = _patients(voxels, tables.lattice)
        lag = torch.arange(len(tables.overlap)) * (tables.step / tables.lattice)
        self._pulse = Pulse(_array(tables.overlap), _array(lag))
        self._body = None if body is None else tuple(map(_stack, body))
        self._face = _face(transducer, tables, lines, voxels)
        self._bending = _bending(lines, float(tables.ranges[-1]))
        self._ranges, self._tissue = _array(tables.ranges), _array(tables.tissue)
        self._share, self._scatterers = np.float32(tables.share), tables.scatterers or math.inf
        self._tgc = np.float32(2.0 * TGC_UNIT * transducer.center_frequency)
        self._reference = np.float32(20.0 * torch.log10(torch.tensor(tables.reference)))

    def begin(
        self, pose: Pose, index: Int[Tensor, " envs"], params: RenderParams, breathing: VolumeStack | None
    ) -> Tracing:
        """A batch to fill; ``breathing`` as in :func:`~sonogym.ultrasound.lines.trace_lines`."""
        amplitude = None if breathing is None or params.breathing is None else _array(params.breathing)
        batch = self._batch(len(index), 0 if amplitude is None else KNOTS, params)
        patient, quaternion = _array(index, np.int64), _array(pose.quaternion)
        rays = (batch.origin, batch.direction)
        steps: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        steps.append((cast, (quaternion, _array(pose.translation), *self._scanlines, *rays)))
        if amplitude is not None:
            assert breathing is not None
            moved = np.empty((len(index), len(self._bending.node), len(self._bending.read), 3), np.float32)
            steps.append((bend, (patient, _stack(breathing), self._bending, amplitude, *rays, moved, batch.turn)))
        if self._body is not None:
            out = Press(batch.indentation, batch.column, batch.coupling, batch.slopes, batch.closed)
            steps.append((press, (patient, *self._body, self._face, _factors(params), *rays, batch.crowding, out)))
        steps.append((place, (quaternion, patient, self._patients, self._pulse, batch)))
        return Tracing(batch, tuple(steps))

    def _batch(self, envs: int, knots: int, params: RenderParams) -> Batch:
        """What parameters decide alone, room for what the pose decides, and a face that touches nothing."""
        lines, samples = self._scanlines[0].shape[1], len(self._ranges)
        occupied, strength = self._density(params)

        def room(*shape: int, kind: type = np.float32) -> np.ndarray:
            return np.empty((envs, *shape), kind)

        return Batch(
            start=room(kind=np.int64),
            shape=room(3, kind=np.int32),
            stride=room(3, kind=np.int32),
            leap=room(3, kind=np.int32),
            origin=room(3, lines),
            direction=room(3, lines),
            elevation=room(3),
            indentation=np.zeros((envs, lines), np.float32),
            column=np.full((envs, lines), SUPPORT, np.float32),
            slopes=np.zeros((envs, 2, lines), np.float32),
            closed=np.zeros((envs, samples), np.int32),
            coupling=np.ones((envs, lines), np.float32),
            scale=np.repeat(strength[:, None], lines, axis=1),
            crowding=room(lines),
            turn=room(knots, 3, lines),
            primes=room(3, kind=np.uint32),
            cells=room(),
            seed=_word(params.speckle_seed),
            noise_seed=_word(params.noise_seed),
            level=self._level(params),
            dynamic_range=_array(params.dynamic_range),
            tissue=self._tissues(params),
            haze=_haze(params),
            occupied=occupied,
            knot=self._bending.node[1 : 1 + knots],
        )

    def _level(self, params: RenderParams) -> np.ndarray:
        """Gain and time gain compensation over the level shown as white [dB]."""
        tgc = self._tgc * _array(params.tgc)[:, None] * self._ranges
        return _array(params.gain)[:, None] + np.minimum(tgc, np.float32(TGC_CAP)) - self._reference

    def _density(self, params: RenderParams) -> tuple[np.ndarray, np.ndarray]:
        """Lattice points that scatter, in parts of WORDS, and what keeps their power; 0 and 1 where all of them do."""
        density = _or(params.scatterers, self._scatterers, len(params.gain))
        share = np.minimum(density * self._share, np.float32(1.0))
        return np.where(share < 1.0, np.rint(share * np.float32(WORDS)), 0.0).astype(np.uint32), share**-0.5

    def _tissues(self, params: RenderParams) -> np.ndarray:
        """Scatter times 10^(offset / 20), transmission to the power of the factor: alpha times the factor."""
        if params.scatter_offset is None and params.attenuation_factor is None:
            return self._tissue[None]
        out = np.repeat(self._tissue[None], len(params.gain), axis=0)
        if params.scatter_offset is not None:
            out[..., 0] *= 10.0 ** (_array(params.scatter_offset) / 20.0)
        if params.attenuation_factor is not None:
            out[..., 1] **= _array(params.attenuation_factor)
        return out


def _patients(voxels: BrickStack, lattice: float) -> Patients:
    spacing = voxels.voxel_from_patient[:, 0, :3].norm(dim=-1).reciprocal()  # the grid is isotropic
    return Patients(
        offset=_array(voxels.offset, np.int64),
        shape=_array(voxels.shape, np.int32),
        leap=_array(voxels.leap, np.int32),
        matrix=_array(voxels.voxel_from_patient),
        spacing=_array(spacing),
        cells=_array(spacing / lattice),
    )


def _face(transducer: Transducer, tables: BeamTables, lines: int, voxels: BrickStack) -> Face:
    read, pick, weight = spline(lines, torch.float32, torch.device("cpu"))
    pitch = float(transducer.line_pitch(lines, torch.zeros(1)))
    hand = torch.linalg.det(voxels.voxel_from_patient[:, :3, :3]).sign()
    return Face(
        read=_array(read, np.int64),
        node=_array(1e-3 * torch.tensor(NODES)),
        pick=_array(pick, np.int64),
        weight=_array(weight),
        stress=_array(tables.stress),
        area=np.float32(transducer.width * transducer.height),
        half_over_pitch=_array(hand * (0.5 / pitch if pitch else 0.0)),
    )


def _bending(lines: int, depth: float) -> Bending:
    lower, upper, share = neighbours(lines)
    return Bending(
        node=_array(nodes(depth)),
        rate=np.float32((KNOTS + 1) / depth),
        read=_array(lines_read(lines), np.int64),
        lower=_array(lower, np.int64),
        upper=_array(upper, np.int64),
        share=_array(share),
    )


def _stack(volumes: VolumeStack) -> Stack:
    integers = (_array(volumes.offset, np.int64), _array(volumes.shape, np.int64))
    return Stack(_array(volumes.flat), *integers, _array(volumes.voxel_from_patient))


def _factors(params: RenderParams) -> Factors:
    pairs = ((params.gel, GAP_NONE), (params.stiffness, 1.0), (params.venous_pressure, VENOUS_PRESSURE))
    return Factors(*(_or(values, usual, len(params.gain)) for values, usual in pairs))


def _haze(params: RenderParams) -> np.ndarray:
    if params.clutter is None:
        return np.zeros(len(params.gain), np.float32)
    return _array(10.0 ** (params.clutter / 20.0))


def _word(seed: Int[Tensor, " envs"]) -> np.ndarray:
    """64-bit seeds folded to 32 bits."""
    words = seed.numpy()
    return ((words ^ (words >> 32)) & MASK).astype(np.uint32)


def _or(values: Tensor | None, usual: float, envs: int) -> np.ndarray:
    return np.full(envs, usual, np.float32) if values is None else _array(values)


def _array(values: Tensor, kind: type = np.float32) -> np.ndarray:
    """For compiled code, which is compiled anew for every layout."""
    return np.ascontiguousarray(values.numpy(), dtype=kind)
