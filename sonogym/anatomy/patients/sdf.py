"""Swept superellipses on a voxel grid: the one solid every procedural structure is made of.

Primitives are rows of :data:`COLUMNS` numbers in millimetres. A segment a -> b carries a superelliptic section with
half-axes ru along u and rv along w x u (w along the segment), linear between the ends, with caps of height ``cap``.
The distance is first order, (q - 1) / |grad q|: right within a few millimetres of the surface.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from numba import njit

from sonogym.anatomy.patients.portable import power

COLUMNS = 16  # a 3, b 3, u 3, ru at a, ru at b, rv at a, rv at b, exponent p, cap, blending radius k
FAR = 1e3  # mm, distance of an empty field
_STUB = 0.5  # mm: half the segment of a ball, long enough for its direction
MARGIN = 4.0  # mm around a primitive where its distance is still evaluated: more than any blending radius

Number = float | int  # tables hold whole numbers too, and run-time type checks tell them apart
Point = Sequence[Number] | np.ndarray


def sweep(
    a: Point,
    b: Point,
    radii: Point,
    u: Point = (1.0, 0.0, 0.0),
    p: Number = 2.0,
    cap: Number = 3.0,
    k: Number = 0.0,
) -> np.ndarray:
    """One primitive as a (1, COLUMNS) row; ``radii`` = (ru at a, ru at b, rv at a, rv at b) [mm]."""
    return np.array([[*a, *b, *u, *radii, p, cap, k]], dtype=np.float64)


def ball(centre: Point, half: Point, axis: Point, u: Point, p: Number = 2.0, k: Number = 0.0) -> np.ndarray:
    """A superellipsoid with half-axes along u, axis x u and axis, as a (1, COLUMNS) row [mm]."""
    middle, along = np.asarray(centre, dtype=np.float64), np.asarray(axis, dtype=np.float64)
    step = _STUB * along / np.linalg.norm(along)
    return sweep(middle - step, middle + step, (half[0], half[0], half[1], half[1]), u, p, half[2] - _STUB, k)


def chain(
    points: np.ndarray,
    radii: np.ndarray,
    u: Point = (1.0, 0.0, 0.0),
    p: Number = 2.0,
    cap: Number = 4.0,
    k: Number = 0.0,
) -> np.ndarray:
    """Primitives along (n, 3) points with (n, 2) half-axes (ru, rv): (n - 1, COLUMNS) [mm]."""
    rows = [
        sweep(points[i], points[i + 1], (radii[i, 0], radii[i + 1, 0], radii[i, 1], radii[i + 1, 1]), u, p, cap, k)
        for i in range(len(points) - 1)
    ]
    return np.concatenate(rows)


def mirrored(rows: np.ndarray) -> np.ndarray:
    """The rows and their mirror images across x = 0."""
    other = rows.copy()
    other[:, [0, 3, 6]] *= -1.0
    return np.concatenate([rows, other])


def placed(rows: np.ndarray, rotation: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Rows moved from a local frame into the patient's (p = rotation @ local + origin)."""
    moved = rows.copy()
    moved[:, 0:3] = rows[:, 0:3] @ rotation.T + origin
    moved[:, 3:6] = rows[:, 3:6] @ rotation.T + origin
    moved[:, 6:9] = rows[:, 6:9] @ rotation.T
    return moved


def grown(rows: np.ndarray, amount: float) -> np.ndarray:
    """Rows with every half-axis and cap larger by ``amount`` [mm] (smaller if negative)."""
    bigger = rows.copy()
    bigger[:, 9:13] = np.maximum(bigger[:, 9:13] + amount, 0.3)
    bigger[:, 14] = np.maximum(bigger[:, 14] + amount, 0.3)
    return bigger


def bounds(rows: np.ndarray, margin: float = MARGIN) -> tuple[np.ndarray, np.ndarray]:
    """Corners [mm] of the axis-aligned box round all rows."""
    reach = np.maximum.reduce([rows[:, 9], rows[:, 10]])[:, None], np.maximum(rows[:, 11], rows[:, 12])[:, None]
    along = rows[:, 3:6] - rows[:, 0:3]
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    u = rows[:, 6:9] - np.sum(rows[:, 6:9] * along, axis=1, keepdims=True) * along
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v = np.cross(along, u)
    half = np.abs(u) * reach[0] + np.abs(v) * reach[1] + np.abs(along) * rows[:, 14:15] + margin
    low = np.minimum(rows[:, 0:3], rows[:, 3:6]) - half
    high = np.maximum(rows[:, 0:3], rows[:, 3:6]) + half
    return low.min(axis=0), high.max(axis=0)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Voxel centres: ``corner`` + ``spacing`` * index [mm]."""

    corner: tuple[float, float, float]
    spacing: float
    shape: tuple[int, int, int]

    def axis(self, i: int) -> np.ndarray:
        """Coordinates [mm] of the voxel centres along axis ``i``."""
        return self.corner[i] + self.spacing * np.arange(self.shape[i])

    def box(self, low: np.ndarray, high: np.ndarray) -> tuple[Grid, tuple[slice, slice, slice]]:
        """The part of the grid between two corners [mm] and where it lies in the whole (may be empty)."""
        first = np.clip(np.ceil((low - np.array(self.corner)) / self.spacing), 0, self.shape).astype(int)
        last = np.clip(np.floor((high - np.array(self.corner)) / self.spacing) + 1, first, self.shape).astype(int)
        corner = np.array(self.corner) + self.spacing * first
        part = Grid(corner=tuple(corner.tolist()), spacing=self.spacing, shape=tuple((last - first).tolist()))
        x, y, z = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
        return part, (x, y, z)


@njit(cache=True, inline="always")
@no_type_check
def _distance(dx, dy, dz, w, length, u, v, row):
    """First-order signed distance to one primitive; (dx, dy, dz) is the point relative to the segment's start."""
    along = dx * w[0] + dy * w[1] + dz * w[2]
    t = min(max(along, 0.0), length)
    over = (along - t) / row[14]
    t = t / length
    ru = row[9] + t * (row[10] - row[9])
    rv = row[11] + t * (row[12] - row[11])
    eu = abs(dx * u[0] + dy * u[1] + dz * u[2]) / ru
    ev = abs(dx * v[0] + dy * v[1] + dz * v[2]) / rv
    eo = abs(over)
    square = eu * eu + ev * ev + eo * eo
    if row[13] == 2.0:
        q = np.sqrt(square)
    else:
        biggest = max(eu, ev, eo)
        if biggest > 3.0:
            q = biggest
        else:
            total = power(eu, row[13]) + power(ev, row[13])
            if eo > 0.0:
                total += power(eo, row[13])
            q = power(total, 1.0 / row[13])
    slope = (eu / ru) ** 2 + (ev / rv) ** 2 + (eo / row[14]) ** 2
    if slope < 1e-12:
        return -min(ru, rv, row[14])
    return (q - 1.0) * np.sqrt(square / slope)


@njit(cache=True)
@no_type_check
def _frame(row, w, u, v):
    """Fill the unit axes of a primitive; returns the segment's length."""
    length = np.sqrt((row[3] - row[0]) ** 2 + (row[4] - row[1]) ** 2 + (row[5] - row[2]) ** 2)
    for i in range(3):
        w[i] = (row[3 + i] - row[i]) / length
    dot = row[6] * w[0] + row[7] * w[1] + row[8] * w[2]
    norm = 0.0
    for i in range(3):
        u[i] = row[6 + i] - dot * w[i]
        norm += u[i] ** 2
    for i in range(3):
        u[i] /= np.sqrt(norm)
    v[0] = w[1] * u[2] - w[2] * u[1]
    v[1] = w[2] * u[0] - w[0] * u[2]
    v[2] = w[0] * u[1] - w[1] * u[0]
    return length


@njit(cache=True)
@no_type_check
def _range(row, w, u, v, axis, corner, spacing, size, margin):
    """First and past-last voxel of a primitive's box along one axis."""
    ru, rv = max(row[9], row[10]), max(row[11], row[12])
    half = abs(u[axis]) * ru + abs(v[axis]) * rv + abs(w[axis]) * row[14] + margin
    low = min(row[axis], row[3 + axis]) - half
    high = max(row[axis], row[3 + axis]) + half
    first = max(int(np.ceil((low - corner[axis]) / spacing)), 0)
    last = min(int(np.floor((high - corner[axis]) / spacing)) + 1, size)
    return first, last


@njit(cache=True)
@no_type_check
def _reach(row, margin):
    """Square of the distance from the axis beyond which a primitive, ``margin`` [mm] thicker, cannot be."""
    return (np.sqrt(max(row[9], row[10]) ** 2 + max(row[11], row[12]) ** 2) + margin) ** 2


@njit(cache=True)
@no_type_check
def unite(field, corner, spacing, rows):
    """Smooth union of the rows, in order, into ``field`` [mm]: min(a, b) - max(k - |a - b|, 0)^2 / 4k."""
    w, u, v = np.empty(3), np.empty(3), np.empty(3)
    for n in range(rows.shape[0]):
        row = rows[n]
        k = row[15]
        length = _frame(row, w, u, v)
        reach = _reach(row, MARGIN)
        x0, x1 = _range(row, w, u, v, 0, corner, spacing, field.shape[0], MARGIN)
        y0, y1 = _range(row, w, u, v, 1, corner, spacing, field.shape[1], MARGIN)
        z0, z1 = _range(row, w, u, v, 2, corner, spacing, field.shape[2], MARGIN)
        for i in range(x0, x1):
            dx = corner[0] + spacing * i - row[0]
            for j in range(y0, y1):
                dy = corner[1] + spacing * j - row[1]
                for m in range(z0, z1):
                    dz = corner[2] + spacing * m - row[2]
                    along = dx * w[0] + dy * w[1] + dz * w[2]
                    if dx * dx + dy * dy + dz * dz - along * along > reach:
                        continue
                    d = _distance(dx, dy, dz, w, length, u, v, row)
                    old = field[i, j, m]
                    h = max(k - abs(d - old), 0.0)
                    field[i, j, m] = min(d, old) - (h * h / (4.0 * k) if h > 0.0 else 0.0)


@njit(cache=True)
@no_type_check
def stamp_rows(labels, corner, spacing, rows, label, allowed):
    """Write ``label`` inside any row, where ``allowed`` holds for the label met."""
    w, u, v = np.empty(3), np.empty(3), np.empty(3)
    for n in range(rows.shape[0]):
        row = rows[n]
        length = _frame(row, w, u, v)
        reach = _reach(row, 0.0)
        x0, x1 = _range(row, w, u, v, 0, corner, spacing, labels.shape[0], 0.0)
        y0, y1 = _range(row, w, u, v, 1, corner, spacing, labels.shape[1], 0.0)
        z0, z1 = _range(row, w, u, v, 2, corner, spacing, labels.shape[2], 0.0)
        for i in range(x0, x1):
            dx = corner[0] + spacing * i - row[0]
            for j in range(y0, y1):
                dy = corner[1] + spacing * j - row[1]
                for m in range(z0, z1):
                    if allowed[labels[i, j, m]]:
                        dz = corner[2] + spacing * m - row[2]
                        along = dx * w[0] + dy * w[1] + dz * w[2]
                        if dx * dx + dy * dy + dz * dz - along * along > reach:
                            continue
                        if _distance(dx, dy, dz, w, length, u, v, row) < 0.0:
                            labels[i, j, m] = label
