"""Fused CPU path: the loop over environments, its tables and its workspaces.

Equal to :mod:`sonogym.ultrasound.reference` within one grey level on 99.9 % of pixels.
"""

# numba infers the types of compiled functions, and ships none of its own
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sonogym.ultrasound.beam import BeamTables
from sonogym.ultrasound.compilation import compilation_noted, source_digest
from sonogym.ultrasound.kernel_arrays import (
    BLOCK,
    CACHE_LINE,
    Array,
    Grid,
    Plane,
    Rays,
    Scatterers,
    Tables,
    Workspace,
    compiled,
    entry,
    spliced,
)
from sonogym.ultrasound.kernel_focus import PAIRS, focus
from sonogym.ultrasound.kernel_interfaces import CORNER, LIST, MET
from sonogym.ultrasound.kernel_march import STATES, march
from sonogym.ultrasound.kernel_reverberation import add_lens, peak_arrays, reverberate, ring_down
from sonogym.ultrasound.kernel_speckle import set_noise
from sonogym.ultrasound.render_threads import at_once, render_threads
from sonogym.ultrasound.speckle import HAZE_SALT
from sonogym.ultrasound.tracer import Tracing

_SHARE = 1 << 14  # samples (about .4 ms) that are worth a thread of their own
_HAZE = np.uint32(HAZE_SALT)
_0, _1 = np.float32(0.0), np.float32(1.0)


class Outputs(NamedTuple):
    """What is filled, the environment first; all but ``beam`` may be empty."""

    beam: Array
    iq: Array
    labels: Array
    transmission: Array


@compiled
def _rays(env, batch, refracts, work):
    """The scan lines of one environment; copies of those that will be bent."""
    origin, direction = batch.origin[env], batch.direction[env]
    if refracts or batch.knot.shape[0]:
        for axis in range(3):
            for line in range(origin.shape[1]):
                work.bent[0][axis, line] = origin[axis, line]
                work.bent[1][axis, line] = direction[axis, line]
        origin, direction = work.bent
    return Rays(
        origin, direction, batch.elevation[env], batch.indentation[env], batch.column[env], batch.slopes[env],
        batch.closed[env], batch.coupling[env], batch.scale[env], batch.crowding[env], batch.turn[env], batch.knot,
    )  # fmt: skip


@spliced
def _render(env, voxels, batch, tables, outputs, work):
    """One environment: noise, every elevation plane, late echoes, then detection."""
    samples, lines, planes = outputs.beam.shape[1], outputs.beam.shape[2], tables.elevation.shape[0]
    reach = tables.axial.shape[0] - 1
    scatter = (work.scatter[0][reach : reach + samples], work.scatter[1][reach : reach + samples])
    work.echoes[0][:] = _0
    work.echoes[1][:] = _0
    set_noise(tables.noise, _1, batch.noise_seed[env], lines, scatter, _0)
    if batch.haze[env] > _0:
        set_noise(tables.haze, batch.haze[env], np.uint32(batch.seed[env] ^ _HAZE), lines, scatter, _1)
    grid = Grid(voxels[batch.start[env] :], batch.shape[env], batch.stride[env], batch.leap[env])
    scatterers = Scatterers(batch.primes[env], batch.cells[env], batch.seed[env], batch.occupied[env])
    tissue = batch.tissue[env % batch.tissue.shape[0]]  # the table of each environment, or one for all
    for number in range(planes):
        beside = tables.bulge.shape[1] > 0 and number != planes // 2
        plane = Plane(
            tables.elevation[number], tables.plane[number], tables.rough[number], tables.bulge[number], beside
        )
        rays = _rays(env, batch, tables.refracts, work)
        kept = samples if number == planes // 2 else 0
        labels, transmission = outputs.labels[env][:kept], outputs.transmission[env][:kept]
        march(grid, rays, scatterers, tissue, plane, tables, work, scatter, labels, transmission)
        if tables.tail.shape[0]:
            ring_down(tables, rays, plane, scatterers, work, scatter)
    if tables.face > _0:
        reverberate(work.echoes, tables.splat, tables.face, tables.orders, tables.nearest, work.peaks)
        add_lens(work.echoes[0], tables.lens, batch.coupling[env])
    focus(
        tables, work.scatter, work.echoes, work.beam, work.focused, batch.level[env], batch.dynamic_range[env],
        outputs.beam[env], outputs.iq[env],
    )  # fmt: skip


def _entry_point(sources: str):
    """The loop over environments ``first`` to ``last``.

    numba's cache looks at the function that it compiles and at what that closes over, never at the functions that it
    calls: closing over the digest ``sources`` keeps it from running old code after an edit of any of them.
    """

    @entry
    def run(first, last, voxels, batch, tables, outputs, work):
        sources  # noqa: B018
        for env in range(first, last):
            _render(env, voxels, batch, tables, outputs, work)

    return run


_run = _entry_point(source_digest())


class FusedRenderer:
    """Holds the tables and the workspaces of one renderer; call it with the lines of a batch, which it traces."""

    def __init__(self, tables: BeamTables, voxels: np.ndarray, samples: int, lines: int) -> None:
        """``voxels`` (n, 4) uint8, the stacked channels of :class:`AcousticAnatomy`, read as one word a voxel."""
        self._voxels = voxels.view(np.uint32).reshape(-1)
        self._tables = _tables(tables)
        self._shape = (samples, lines)
        self._work: list[Workspace] = []

    def __call__(
        self, tracing: Tracing, keep: bool, keep_iq: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """``beam`` uint8, ``iq`` float32 (..., 2), ``labels`` uint8, ``transmission`` float32; (envs, samples, lines).

        Without ``keep`` labels and transmission are empty, without ``keep_iq`` iq is.
        """
        batch = tracing.batch
        envs, (samples, count) = len(batch.start), self._shape
        maps = (envs, samples if keep else 0, count)
        outputs = Outputs(
            beam=np.empty((envs, samples, count), np.uint8),
            iq=np.empty((envs, samples if keep_iq else 0, count, 2), np.float32),
            labels=np.empty(maps, np.uint8),
            transmission=np.empty(maps, np.float32),
        )
        threads = max(1, min(envs, render_threads(), envs * samples * count // _SHARE))
        while len(self._work) < threads:
            self._work.append(_workspace(self._tables, samples, count))
        ends = [envs * part // threads for part in range(threads + 1)]

        def work_on(part: int) -> None:
            first, last = ends[part], ends[part + 1]
            tracing.fill(first, last)
            _run(first, last, self._voxels, batch, self._tables, outputs, self._work[part])

        with compilation_noted():
            at_once(work_on, threads)
        return outputs.beam, outputs.iq, outputs.labels, outputs.transmission


def _tables(tables: BeamTables) -> Tables:
    paths, row, (even, rough) = tables.paths, tables.row.numpy(), tables.plane.numpy().T
    return Tables(
        step=np.float32(tables.step),
        row=np.ascontiguousarray(row[:, :2]),
        noise=np.ascontiguousarray(row[:, 2]),
        axial=_padded(tables.axial[len(tables.axial) // 2 :].numpy(), PAIRS),
        splat=tables.splat.contiguous().numpy(),
        lateral=_padded(tables.lateral.numpy(), 2),
        radius=tables.radius.numpy(),
        penumbra=_padded(tables.penumbra.numpy(), 2),
        penumbra_radius=tables.penumbra_radius.numpy(),
        elevation=tables.elevation.contiguous().numpy(),
        bulge=tables.bulge.contiguous().numpy(),
        curvature=np.float32(tables.curvature),
        plane=tables.plane.contiguous().numpy(),
        rough=np.ascontiguousarray((rough / even)[:, None] * row[:, 3]),
        pair=np.concatenate((tables.pair.numpy(), tables.shadow.numpy()[..., None]), axis=-1),
        texture=tables.texture.contiguous().numpy(),
        refracts=bool(tables.refraction),
        face=np.float32(paths.face),
        lens=paths.lens.contiguous().numpy(),
        orders=paths.orders,
        nearest=paths.nearest,
        comet=np.float32(paths.comet),
        tail=paths.tail.numpy(),
        haze=paths.haze.contiguous().numpy(),
    )


def _padded(taps: np.ndarray, multiple: int) -> np.ndarray:
    """Half kernels (..., 1 + taps) with zeros until the taps past the first are a multiple."""
    missing = -(taps.shape[-1] - 1) % multiple
    return np.ascontiguousarray(np.pad(taps, [(0, 0)] * (taps.ndim - 1) + [(0, missing)]))


def _width(lines: int, reach: int) -> int:
    """Lines with room for ``reach`` on either side: an odd number of cache lines, so columns use all sets."""
    margin = -(-reach // CACHE_LINE)
    return CACHE_LINE * ((-(-lines // CACHE_LINE) + 2 * margin) | 1)


def _workspace(tables: Tables, samples: int, lines: int) -> Workspace:
    def zeros(*shape: int) -> np.ndarray:
        count = math.prod(shape)
        room = np.zeros(count + CACHE_LINE, np.float32)
        first = -room.ctypes.data % (4 * CACHE_LINE) // 4
        return room[first : first + count].reshape(shape)

    rows = min(samples, max(1, BLOCK // lines))
    shaded, wide = _width(lines, tables.penumbra.shape[1]), _width(lines, tables.lateral.shape[1])
    reach = len(tables.axial) - 1
    return Workspace(
        scatter=(zeros(samples + 2 * reach, wide), zeros(samples + 2 * reach, wide)),
        echoes=(zeros(samples, _width(lines, 0)), zeros(samples, _width(lines, 0))),
        place=zeros(1 + rows, lines),
        across=zeros(rows, lines),
        word=np.zeros((1 + rows, lines), np.uint32),
        gain=zeros(rows, lines),
        shade=zeros(rows, shaded),
        soft=zeros(lines),
        strength=zeros(rows, lines),
        state=zeros(STATES, lines),
        voxel_index=np.zeros(lines, np.uint32),
        heard=np.zeros(lines + 1, np.uint32),
        fetched=zeros(4, lines),
        found=np.zeros((2, LIST), np.int32),
        corner=np.zeros(CORNER, np.uint32),
        met=zeros(MET),
        beam=(zeros(rows, wide), zeros(rows, wide)),
        focused=(zeros(lines), zeros(lines)),
        peaks=peak_arrays(lines),
        bent=(zeros(3, lines), zeros(3, lines)),
    )
