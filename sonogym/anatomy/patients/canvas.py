"""The label grid of a patient being made, and how solids are painted on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import no_type_check

import numpy as np
from numba import njit

from sonogym.anatomy.patients.portable import settled
from sonogym.anatomy.patients.sdf import Grid, bounds, grown, stamp_rows, unite
from sonogym.anatomy.tissues import Tissue

ROOM = (Tissue.VISCERAL_FAT,)  # what organs may displace
SOFT = (Tissue.VISCERAL_FAT, Tissue.MUSCLE, Tissue.CONNECTIVE, Tissue.SUBCUTANEOUS_FAT)


class Canvas:
    """Labels (x, y, z) uint8 on a millimetre grid; later paint covers earlier paint where it is allowed to."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.labels = np.zeros(grid.shape, dtype=np.uint8)
        self._corner = np.array(grid.corner)

    def stamp(self, rows: np.ndarray, tissue: Tissue, over: Iterable[Tissue]) -> None:
        """Paint the hard union of primitives where one of ``over`` lies."""
        stamp_rows(self.labels, self._corner, self.grid.spacing, settled(rows), int(tissue), _allowed(over))

    def layered(self, rows: np.ndarray, layers: Iterable[tuple[float, Tissue]], over: Iterable[Tissue]) -> None:
        """Paint shrunken copies of the primitives, one a (depth [mm], tissue), outermost first."""
        allowed = set(over)
        for depth, tissue in layers:
            self.stamp(grown(rows, -depth), tissue, allowed)
            allowed = {*allowed, tissue}

    def solid(self, rows: np.ndarray, layers: Iterable[tuple[float, Tissue]], over: Iterable[Tissue]) -> None:
        """Paint the smooth union of primitives in layers of depth [mm] below its surface, outermost first."""
        field, where = self.field(rows)
        self.fill(field, where, layers, over)

    def field(self, rows: np.ndarray) -> tuple[np.ndarray, tuple[slice, slice, slice]]:
        """Distance [mm] to the smooth union on the smallest box that holds it, and the box."""
        part, where = self.grid.box(*bounds(rows))
        field = np.full(part.shape, 1e3, dtype=np.float32)
        unite(field, np.array(part.corner), part.spacing, settled(rows))
        return field, where

    def level(
        self, field: np.ndarray, where: tuple[slice, slice, slice], over: Iterable[Tissue], volume: float
    ) -> float:
        """The field's value inside of which ``volume`` [ml] of ``over`` lies, within [-45, 3] mm of its surface."""
        free = np.sort(field[_allowed(over)[self.labels[where]]], axis=None)
        wanted = int(1e3 * volume / self.grid.spacing**3)
        return float(np.clip(free[min(wanted, len(free) - 1)], -45.0, 3.0)) if len(free) else 0.0

    def fill(
        self,
        field: np.ndarray,
        where: tuple[slice, slice, slice],
        layers: Iterable[tuple[float, Tissue]],
        over: Iterable[Tissue],
    ) -> None:
        """Paint a distance field in layers of depth [mm]."""
        view = self.labels[where]
        free = _allowed(over)[view]
        for depth, tissue in layers:
            view[free & (field < -depth)] = tissue

    def coordinates(self, where: tuple[slice, slice, slice]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Broadcastable x, y, z [mm] of a box."""
        x, y, z = (self.grid.axis(i)[where[i]] for i in range(3))
        return x[:, None, None], y[None, :, None], z[None, None, :]

    def seal(self) -> None:
        """Close the cortex: trabecular bone with a soft 6-neighbour becomes cortical."""
        seal_bone(self.labels, self.labels.copy(), int(Tissue.TRABECULAR_BONE), int(Tissue.CORTICAL_BONE))


def _allowed(over: Iterable[Tissue]) -> np.ndarray:
    table = np.zeros(256, dtype=np.bool_)
    table[[int(tissue) for tissue in over]] = True
    return table


@njit(cache=True)
@no_type_check
def seal_bone(labels, before, core, shell):
    """Turn ``core`` voxels that touch neither core nor shell on one of six sides into ``shell``."""
    nx, ny, nz = labels.shape
    for i in range(nx):
        for j in range(ny):
            for m in range(nz):
                if before[i, j, m] != core:
                    continue
                for axis in range(3):
                    for step in (-1, 1):
                        a = i + (step if axis == 0 else 0)
                        b = j + (step if axis == 1 else 0)
                        c = m + (step if axis == 2 else 0)
                        if 0 <= a < nx and 0 <= b < ny and 0 <= c < nz:
                            other = before[a, b, c]
                            if other != core and other != shell:
                                labels[i, j, m] = shell
