"""Fused CPU path, part 2: point spread function, detection, display, and the loop over environments.

Arrays are [depth][line], line contiguous. Each thread owns one workspace, so nothing is allocated while rendering.
Equal to :mod:`sonogym.ultrasound.reference` within one grey level on 99.9 % of pixels.
"""

# numba infers the types of compiled functions, and ships none of its own
# mypy: disable-error-code="no-untyped-def,attr-defined"

from __future__ import annotations

import numba
import numpy as np

from sonogym.ultrasound.beam import BeamTables
from sonogym.ultrasound.compilation import compilation_noted, source_digest
from sonogym.ultrasound.kernel_march import ROWS, blur, march
from sonogym.ultrasound.kernel_reverberation import haze, reverberate, ring_down
from sonogym.ultrasound.kernel_speckle import FAST
from sonogym.ultrasound.lines import Lines

_EXPONENT = np.int32(23)
_MANTISSA = np.int32(0x7FFFFF)
_ROOT_HALF = np.int32(0x3F3504F3)  # bits of sqrt(1/2): mantissas are taken from [sqrt(1/2), sqrt(2))
_TEN_LOG10_2 = np.float32(10.0 * np.log10(2.0))
# log2(m) = 2 / ln 2 (x + x^3/3 + x^5/5 + x^7/7), x = (m - 1) / (m + 1)
_LOG_1, _LOG_3, _LOG_5, _LOG_7 = (np.float32(2.0 / np.log(2.0) / n) for n in (1, 3, 5, 7))
_TINY = np.float32(1e-30)
_0, _1, _255 = np.float32(0.0), np.float32(1.0), np.float32(255.0)


@numba.njit(fastmath=FAST, error_model="numpy")
def _add(target, source, tap):
    for line in range(target.shape[0]):
        target[line] += tap * source[line]


@numba.njit(fastmath=FAST, error_model="numpy")
def _pulse(target, source, k, axial):
    """Add the pulse along depth to row ``k``; two symmetric pairs of taps a pass, one tap at the ends of the line."""
    samples, reach = source.shape[0], axial.shape[0] // 2
    if not reach <= k < samples - reach:
        for i in range(max(-reach, -k), min(reach, samples - 1 - k) + 1):
            _add(target, source[k + i], axial[reach + i])
        return
    _add(target, source[k], axial[reach])
    for i in range(1, reach, 2):
        near, far = axial[reach + i], axial[reach + i + 1]
        a, b, c, d = source[k - i], source[k + i], source[k - i - 1], source[k + i + 1]
        for line in range(target.shape[0]):
            target[line] += near * (a[line] + b[line]) + far * (c[line] + d[line])
    if reach % 2:
        _add(target, source[k - reach], axial[0])
        _add(target, source[k + reach], axial[0])


@numba.njit(fastmath=FAST, error_model="numpy")
def _received(k, source, echoes, axial, radius, interface_scale, padded):
    """One row of what returns: interfaces, and the pulse along depth on the scatter."""
    lines = source.shape[1]
    centre, echo = padded[radius : radius + lines], echoes[k]
    for line in range(lines):
        centre[line] = interface_scale * echo[line]
    _pulse(centre, source, k, axial)


@numba.njit(fastmath=FAST, error_model="numpy")
def _continue(padded, other, echo, other_echo, interface_scale, turn, radius):
    """Past the edges mirrored interfaces, and mirrored scatter turned by a quarter of a period: ``turn`` x the other
    part of it, so that it adds by power to the lines that it mirrors (see ``reference.focus``).
    """
    lines = echo.shape[0]
    for i in range(radius):
        low, high = min(i, lines - 1), max(lines - 1 - i, 0)
        for line, at in ((low, radius - 1 - i), (high, radius + lines + i)):
            scatter = other[radius + line] - interface_scale * other_echo[line]
            padded[at] = interface_scale * echo[line] + turn * scatter


@numba.njit(fastmath=FAST, error_model="numpy")
def _focus_row(k, scatter, echoes, axial, lateral, radius, scale, real, imaginary, padded):
    """One row of the beam: what returns, then the lateral kernel; result in ``real`` and ``imaginary``."""
    first, second = padded
    _received(k, scatter[0], echoes[0], axial, radius, scale, first)
    _received(k, scatter[1], echoes[1], axial, radius, scale, second)
    _continue(first, second, echoes[0, k], echoes[1, k], scale, -_1, radius)
    _continue(second, first, echoes[1, k], echoes[0, k], scale, _1, radius)
    blur(real, first, lateral, radius)
    blur(imaginary, second, lateral, radius)


@numba.njit(fastmath=FAST, error_model="numpy")
def _display(real, imaginary, power, bits, mantissa, mantissa_bits, level, dynamic_range, grey):
    """uint8 grey of one row: 10 log10 |b|^2 + level, over the dynamic range. The logarithm is taken from the bits."""
    lines = grey.shape[0]
    scale = _255 / dynamic_range
    base = _255 + np.float32(0.5) + level * scale
    scale *= _TEN_LOG10_2
    for line in range(lines):
        power[line] = real[line] * real[line] + imaginary[line] * imaginary[line] + _TINY
    for line in range(lines):
        shifted = np.int32(bits[line] - _ROOT_HALF)
        mantissa_bits[line] = np.int32(np.int32(shifted & _MANTISSA) + _ROOT_HALF)
        bits[line] = np.int32(shifted >> _EXPONENT)
    for line in range(lines):
        m = mantissa[line]
        x = (m - _1) / (m + _1)
        y = x * x
        series = x * (_LOG_1 + y * (_LOG_3 + y * (_LOG_5 + y * _LOG_7)))
        value = base + scale * (np.float32(bits[line]) + series)
        bits[line] = np.int32(min(max(value, _0), _255))
    for line in range(lines):
        grey[line] = bits[line]


@numba.njit(fastmath=FAST, error_model="numpy")
def _render(env, fields, rows, words, bent, voxels, traced, tables, outputs):
    """One environment: march every elevation plane, then detect row by row. Empty outputs are not written."""
    start, shape, stride, origin, direction, elevation, indentation, column, coupling, scale, crowding = traced[:11]
    primes, cells, seed, noise_seed, level, dynamic_range, tissues, clutter, turn, knot, density = traced[11:]
    occupied = density[env]
    tissue = tissues[env % tissues.shape[0]]  # the table of each environment, or one for all
    step, row_scale, axial, splat, lateral, radius, penumbra, penumbra_radius = tables[:8]
    plane_offset, plane_weight, pair, texture, refracts, face, orders, nearest, tail, haze_level = tables[8:]
    beam, iq, labels, transmission = outputs
    samples, lines = beam.shape[1], beam.shape[2]
    keep = labels.shape[0] == beam.shape[0]
    at = env if keep else 0
    scatter, echoes = fields[:2], fields[2:]
    echoes[:] = _0
    grid = (voxels[start[env] :], shape[env], stride[env])
    rays = (origin[env], direction[env])
    scatterers = (primes[env], cells[env], seed[env])
    march_tables = (step, row_scale, splat, penumbra, penumbra_radius, tissue, pair, texture, occupied)
    middle = plane_offset.shape[0] // 2
    for number in range(plane_offset.shape[0]):
        plane = (number, plane_offset[number], plane_weight[number])
        if refracts or knot.shape[0]:
            bent[0], bent[1] = origin[env], direction[env]
            rays = (bent[0], bent[1])
        march(
            grid,
            (
                *rays, elevation[env], indentation[env], column[env], coupling[env], scale[env], crowding[env],
                turn[env], knot,
            ),
            scatterers, noise_seed[env], march_tables, plane, scatter, echoes, rows, words, keep and number == middle,
            labels[at], transmission[at], refracts,
        )  # fmt: skip
        if tail.shape[0]:
            ring_down(
                tail, row_scale[:, 0], step, (*rays, elevation[env], scale[env]), plane,
                scatterers, occupied, scatter, rows, words,
            )  # fmt: skip
    if face > _0:
        reverberate(echoes, splat, face, orders, nearest, rows)
    if clutter[env] > _0:
        haze(haze_level, clutter[env], seed[env], scatter, words[0])
    real, imaginary, power, mantissa = rows[0, :lines], rows[1, :lines], rows[2, :lines], rows[3, :lines]
    bits, mantissa_bits = power.view(np.int32), mantissa.view(np.int32)
    for k in range(samples):
        _focus_row(
            k, scatter, echoes, axial, lateral[k], radius[k], row_scale[k, 1], real, imaginary, (rows[4], rows[5])
        )
        if iq.shape[0] == beam.shape[0]:
            for line in range(lines):
                iq[env, k, line, 0] = real[line]
                iq[env, k, line, 1] = imaginary[line]
        _display(real, imaginary, power, bits, mantissa, mantissa_bits, level[env, k], dynamic_range[env], beam[env, k])


def _entry_points(sources: str):
    """The loop over environments, on one thread and on several.

    numba's cache looks at the function that it compiles and at what that closes over, never at the functions that it
    calls: closing over the digest ``sources`` keeps it from running old code after an edit of any of them.
    """

    @numba.njit(cache=True, nogil=True)
    def serial(envs, fields, rows, words, bent, voxels, lines, tables, outputs):
        sources  # noqa: B018
        for env in range(envs):
            _render(env, fields[0], rows[0], words[0], bent[0], voxels, lines, tables, outputs)

    @numba.njit(cache=True, parallel=True, nogil=True)
    def parallel(envs, fields, rows, words, bent, voxels, lines, tables, outputs):
        sources  # noqa: B018
        for env in numba.prange(envs):
            thread = numba.get_thread_id()
            workspace = (fields[thread], rows[thread], words[thread], bent[thread])
            _render(np.int64(env), *workspace, voxels, lines, tables, outputs)

    return serial, parallel


_serial, _parallel = _entry_points(source_digest())


class FusedRenderer:
    """Holds the tables and the workspaces of one renderer; call it with the lines of a batch."""

    def __init__(self, tables: BeamTables, voxels: np.ndarray, samples: int, lines: int) -> None:
        """``voxels`` (n, 4) uint8, the stacked channels of :class:`AcousticAnatomy`, read as one word a voxel."""
        self._voxels = voxels.view(np.uint32).reshape(-1)
        self._table_arrays = _table_arrays(tables)
        self._shape = (samples, lines)
        padding = int(max(tables.radius.max(), tables.penumbra_radius.max()))
        threads = numba.config.NUMBA_NUM_THREADS
        self._fields = np.zeros((threads, 4, samples, lines), np.float32)
        self._rows = np.zeros((threads, ROWS, lines + 2 * padding), np.float32)
        self._words = np.zeros((threads, 4, lines), np.uint32)
        self._bent = np.zeros((threads, 2, 3, lines), np.float32)

    def __call__(
        self, lines: Lines, keep: bool, keep_iq: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """``beam`` uint8, ``iq`` float32 (..., 2), ``labels`` uint8, ``transmission`` float32; (envs, samples, lines).

        Without ``keep`` labels and transmission are empty, without ``keep_iq`` iq is.
        """
        envs = len(lines.start)
        beam = np.empty((envs, *self._shape), np.uint8)
        iq = np.empty((envs, *self._shape, 2) if keep_iq else (0, 1, 1, 2), np.float32)
        labels = np.empty((envs, *self._shape) if keep else (envs + 1, 0, 0), np.uint8)
        transmission = np.empty(labels.shape, np.float32)
        run = _serial if envs == 1 or numba.get_num_threads() == 1 else _parallel
        outputs = (beam, iq, labels, transmission)
        workspace = (self._fields, self._rows, self._words, self._bent)
        with compilation_noted():
            run(envs, *workspace, self._voxels, _line_arrays(lines), self._table_arrays, outputs)
        return beam, iq, labels, transmission


def _line_arrays(lines: Lines) -> tuple[np.ndarray, ...]:
    words = ("primes", "seed", "noise_seed", "occupied")
    names = (
        "start", "shape", "stride", "origin", "direction", "elevation", "indentation", "column", "coupling", "scale",
        "crowding", "primes", "cells", "seed", "noise_seed", "level", "dynamic_range", "tissue", "haze", "turn", "knot",
        "occupied",
    )  # fmt: skip
    arrays = [getattr(lines, name).contiguous().numpy() for name in names]
    return tuple(array.astype(np.uint32) if name in words else array for name, array in zip(names, arrays, strict=True))


def _table_arrays(tables: BeamTables) -> tuple[object, ...]:
    """Flat: numba cannot hand a tuple within a tuple to several threads."""
    names = (
        "row", "axial", "splat", "lateral", "radius", "penumbra", "penumbra_radius", "elevation", "plane", "pair",
        "texture",
    )  # fmt: skip
    arrays = {name: getattr(tables, name).contiguous().numpy() for name in names}
    arrays["pair"] = np.concatenate((arrays["pair"], tables.shadow.numpy()[..., None]), axis=-1)
    paths = tables.paths
    late = (np.float32(paths.face), paths.orders, paths.nearest, paths.tail.numpy(), paths.haze.numpy())
    return (np.float32(tables.step), *arrays.values(), bool(tables.refraction), *late)
