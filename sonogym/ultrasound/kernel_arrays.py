"""What the fused CPU path reads and writes, named: numba compiles these tuples away.

Arrays are [depth][line], line contiguous, float32 unless said. Functions take a block of rows at a time: a call costs
as much as a row of samples.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

# Arrays outlive the call, so compiled code keeps no counts of references, which took a tenth of a frame. Never hand an
# array from it to code that counts: it would free what it does not own.
_LAWS: dict[str, Any] = {"fastmath": {"contract", "nsz", "arcp"}, "error_model": "numpy", "_nrt": False}
_BARE = _LAWS | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
# Called from Python, and kept on disk.
entry = numba.njit(**(_LAWS | {"cache": True, "nogil": True, "no_cfunc_wrapper": True}))
# Called by compiled code alone.
compiled = numba.njit(**_BARE)
# The same, but rounded after every operation, as torch does.
exact = numba.njit(**(_BARE | {"fastmath": False}))
# Functions of a few numbers, which LLVM writes into the loops that call them.
inlined = numba.njit(forceinline=True, **_BARE)
# Written into its one caller before that is compiled: a function is optimised with all that it calls, and once more in
# each of its callers, so that every storey of calls took as long to compile again.
spliced = numba.njit(inline="always")
CACHE_LINE = 16  # float32; work begins at one, since vectors that cross from one to the next cost twice as much
BLOCK = 2048  # samples (about) that the stages of the march work on in turn: what they hand on stays near the core
_1 = np.int32(1)

Array = np.ndarray[Any, Any]


class Grid(NamedTuple):
    """Voxels of one patient as the lines read them (:class:`sonogym.anatomy.bricks.BrickStack`).

    ``voxels`` (n,) uint32; ``shape``, ``stride`` and ``leap`` (3,) int32.
    """

    voxels: Array
    shape: Array
    stride: Array
    leap: Array


class Rays(NamedTuple):
    """Scan lines of one environment; see :class:`sonogym.ultrasound.lines.Lines`."""

    origin: Array
    direction: Array
    elevation: Array
    indentation: Array
    column: Array
    slopes: Array
    closed: Array
    coupling: Array
    scale: Array
    crowding: Array
    turn: Array
    knot: Array


class Scatterers(NamedTuple):
    """Hashed scatterers of one environment: ``primes`` (3,) uint32, lattice cells a voxel, seed, density."""

    primes: Array
    cells: np.float32
    seed: np.uint32
    occupied: np.uint32


class Plane(NamedTuple):
    """One elevation plane: its offset at each row [m], weights of interfaces and of scatter, the table of ``moved``.

    ``rough`` scales the diffuse part of an interface of each row so that the weight of interfaces then suits it;
    ``beside``: pressed tissue comes from elsewhere than ``offset``.
    """

    offset: Array
    weight: Array
    rough: Array
    bulge: Array
    beside: bool


class Tables(NamedTuple):
    """:class:`sonogym.ultrasound.beam.BeamTables` as arrays; ``pair`` holds ``shadow`` as its eighth column.

    ``noise`` is the third column of ``row``. ``axial``, ``lateral`` and ``penumbra`` are half kernels with zeros until
    their pairs of taps fill whole passes (see :mod:`kernel_focus`).
    """

    step: np.float32
    row: Array
    noise: Array
    axial: Array
    splat: Array
    lateral: Array
    radius: Array
    penumbra: Array
    penumbra_radius: Array
    elevation: Array
    bulge: Array
    curvature: np.float32
    plane: Array
    rough: Array
    pair: Array
    texture: Array
    refracts: bool
    face: np.float32
    lens: Array
    orders: int
    nearest: int
    comet: np.float32
    tail: Array
    haze: Array


class Workspace(NamedTuple):
    """Scratch of one thread.

    ``scatter`` and ``echoes``: real and imaginary part of a frame, (rows, width), the lines first; rows of scatter are
    as wide as those of ``beam``, and above and below lie some of zeros. Of a block of rows, the row before it first:
    ``place`` [m] along the lines, ``word`` the voxels (``across`` [m] from the image plane has no row before), ``gain``
    the scale of scatter; ``shade`` transmission with room for a blur, ``strength`` of the scatterers.
    Of one row: ``voxel_index`` where its voxels lie, ``heard`` the lines that are not silent, ``fetched`` what the
    table of ``moved`` holds. ``state``: rows that the march carries down (see :mod:`kernel_march`); ``found``,
    ``corner``, ``met``: the list of interfaces (see :mod:`kernel_interfaces`); ``beam``: real and imaginary part of a
    block, with room for a blur.
    """

    scatter: tuple[Array, Array]
    echoes: tuple[Array, Array]
    place: Array
    across: Array
    word: Array
    gain: Array
    shade: Array
    soft: Array
    strength: Array
    state: Array
    voxel_index: Array
    heard: Array
    fetched: Array
    found: Array
    corner: Array
    met: Array
    beam: tuple[Array, Array]
    focused: tuple[Array, Array]
    peaks: tuple[Array, ...]
    bent: tuple[Array, Array]


@inlined
def margin(width: Any, lines: Any) -> Any:
    """Where the lines begin in a row with room on either side: at a cache line."""
    return np.int64((width - lines) // 2) // CACHE_LINE * CACHE_LINE


@inlined
def address(index: Any, stride: Any, leap: Any) -> Any:
    """Where the voxel ``index`` of one axis lies: see :func:`sonogym.anatomy.bricks.address`."""
    return np.int32(np.int32(index * stride) + np.int32(np.int32(index >> _1) * leap))


@inlined
def ahead(index: Any, stride: Any, leap: Any) -> Any:
    """How far behind it the next voxel of that axis lies."""
    return np.int32(stride + np.int32(np.int32(index & _1) * leap))
