"""Where bone is compact: arches, processes and ribs, against the bodies whose middle is spongy. Millimetres."""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit

from sonogym.anatomy.tissues import Tissue

_DEEP = 6.0  # mm under the shell: only bodies, sacrum and the thick of the pelvis hold such marrow
_NEAR, _FAR = 5.0, 11.0  # mm from deep marrow where bone begins to be compact and where all of it is (`design`)
_FACE = 3  # step to a face of a voxel; to an edge 4, to a corner 5 (chamfer distance, Borgefors 1986)
_MOST = 250  # steps
# the 13 neighbours that come first in memory, and their steps
_BEFORE = np.array([(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1) if (i, j, k) < (0, 0, 0)])
_STEPS = _FACE - 1 + np.abs(_BEFORE).sum(axis=1)


def compactness(labels: np.ndarray, spacing: float) -> np.ndarray:
    """(x, y, z) uint8 of bone: 0 in the middle of a body, 255 where no marrow lies deep; 0 outside bone."""
    core, shell = int(Tissue.TRABECULAR_BONE), int(Tissue.CORTICAL_BONE)
    depth = np.where(labels == core, np.uint8(_MOST), np.uint8(0))
    _sweep_both(depth, depth > 0)
    bone = (labels == core) | (labels == shell)
    away = np.where(depth >= int(_FACE * _DEEP / spacing), np.uint8(0), np.uint8(_MOST))
    _sweep_both(away, bone)
    share = (np.arange(_MOST + 1) * spacing / _FACE - _NEAR) / (_FAR - _NEAR)
    return np.where(bone, np.rint(255.0 * np.clip(share, 0.0, 1.0)).astype(np.uint8)[away], np.uint8(0))


def _sweep_both(distance: np.ndarray, where: np.ndarray) -> None:
    sweep(distance, where, _BEFORE, _STEPS)
    sweep(distance[::-1, ::-1, ::-1], where[::-1, ::-1, ::-1], _BEFORE, _STEPS)


@njit(cache=True)
@no_type_check
def sweep(distance, where, neighbours, steps):
    """distance = min(distance, a neighbour's that comes before + its steps), in the voxels ``where``."""
    nx, ny, nz = distance.shape
    for i in range(nx):
        for j in range(ny):
            for m in range(nz):
                if not where[i, j, m]:
                    continue
                least = np.int64(distance[i, j, m])
                for n in range(len(steps)):
                    a, b, c = i + neighbours[n, 0], j + neighbours[n, 1], m + neighbours[n, 2]
                    if a >= 0 and 0 <= b < ny and 0 <= c < nz:
                        least = min(least, np.int64(distance[a, b, c]) + steps[n])
                distance[i, j, m] = least
