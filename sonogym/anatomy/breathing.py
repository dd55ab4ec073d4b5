"""Breathing: where one full quiet breath carries each point of a patient, and how far through it a patient is.

The scan is taken as the end of exhale (``design``). At amplitude ``a`` (1: a full quiet breath in) the material seen at
x is that of the scan's X = x - a u(x). The diaphragm drives u: organs below it go down, the front of the belly comes
forward, spine, ribs, pelvis and the skin of the back stay. Left out: the ribs' own few millimetres, sliding (the
map is continuous, so a layer about a node thick shears), and hysteresis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import ndimage
from torch import Tensor

from sonogym.anatomy import stack_kernel
from sonogym.anatomy.stack import VolumeStack
from sonogym.anatomy.surface import Skin
from sonogym.anatomy.tissues import BONE, TISSUE_COUNT, Tissue
from sonogym.anatomy.volume import Volume
from sonogym.errors import InvalidInputError
from sonogym.geometry import grids

NODES = 12e-3  # m between the nodes of the field: it is smooth, and read trilinearly
# Travel from the head to the feet [m]: liver, spleen, kidneys Brandner 2006 (Int J Radiat Oncol Biol Phys 65:554, 13
# patients: 13, 13, 11 and 13 mm; Xi 2009 has 10.1, 10.6, 9.3, 9.6; Yamashita 2014 kidneys 11.1 +- 4.8), pancreas Xi
# 2009 (Chin J Cancer 28:989, 7.6 +- 3.0). Gall bladder as the liver that holds it, stomach between (``design``).
# Lesions are the liver's; stones lie in kidneys or the gall bladder: between.
CAUDAL: Mapping[Tissue, float] = {
    Tissue.LIVER: 13e-3, Tissue.BILE: 13e-3, Tissue.SPLEEN: 13e-3, Tissue.KIDNEY_CORTEX: 11e-3,
    Tissue.KIDNEY_PYRAMID: 11e-3, Tissue.KIDNEY_SINUS: 11e-3, Tissue.STOMACH: 11e-3, Tissue.PANCREAS: 7.6e-3,
    Tissue.LESION: 13e-3, Tissue.STONE: 12e-3,
}  # fmt: skip
# Travel to the front [m]: kidneys 3.6 +- 2.1 (Yamashita 2014, SpringerPlus 3:131). The belly moves forward only, more
# than the 3-5 mm of the rib cage (De Groote 1997, J Appl Physiol 83:1531); 7 mm ``design``.
VENTRAL: Mapping[Tissue, float] = {
    Tissue.KIDNEY_CORTEX: 3.6e-3, Tissue.KIDNEY_PYRAMID: 3.6e-3, Tissue.KIDNEY_SINUS: 3.6e-3,
}  # fmt: skip
BELLY = 7e-3
_SAMPLE = 4e-3  # m: voxels about this far apart are looked at
_STIFFNESS = 0.15  # of the membrane between the nodes, against the weight 1 of a node full of organ or bone (design)
_SWEEPS = 300
LUJAN = 4  # 2n of Lujan's cos^2n: more time near the end of exhale


@dataclass(frozen=True, kw_only=True)
class Breathing:
    """How each patient breathes: ``amplitude`` in full quiet breaths, ``period`` [s], ``phase`` as a share of it."""

    amplitude: Float[Tensor, " envs"]
    period: Float[Tensor, " envs"]
    phase: Float[Tensor, " envs"]

    def __post_init__(self) -> None:
        if not bool((self.period > 0.0).all()):
            raise InvalidInputError(f"period must be > 0 s, got {self.period.tolist()}")

    def at(self, time: Float[Tensor, " envs"]) -> Float[Tensor, " envs"]:
        """Amplitude at ``time`` [s]: a = A cos^4(pi (t / T + phase)) (Lujan 1999, Med Phys 26:715, n = 2)."""
        return self.amplitude * torch.cos(torch.pi * (time / self.period + self.phase)) ** LUJAN


def breathing_field(labels: Volume, skin: Skin) -> Volume:
    """u (3, x, y, z) float32 [m, RAS] of a full breath on nodes ``NODES`` apart along the axes of ``labels``.

    A membrane through the nodes: it minimises sum w |u - d|^2 + stiffness |grad u|^2, with d the published travel of
    the organs, 0 for bone, and for the skin 0 behind and forward in front. ``labels`` holds :class:`Tissue` ids.
    """
    weight, target, matrix = _organs(labels)
    at = grids.affine(matrix.float(), torch.from_numpy(np.moveaxis(np.indices(weight.shape), 0, -1)).float())
    near = (1.0 - (skin.at(at).abs() / NODES)).clamp_min(0.0)
    forward = BELLY * skin.normal(at)[..., 1].clamp_min(0.0) ** 2
    target[0] += (near * forward).numpy()
    weight = weight + near.numpy()
    field = _membrane(weight, target)
    smooth = np.stack(
        [np.zeros_like(field[0]), *(ndimage.gaussian_filter(part, 0.6, mode="nearest") for part in field)]
    )
    return Volume(torch.from_numpy(smooth.astype(np.float32)), matrix)


def _organs(labels: Volume) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Weight (x, y, z) and weighted displacement (2, x, y, z) along A and S of each node, and the nodes' affine."""
    step = [max(1, round(_SAMPLE / length)) for length in labels.spacing]
    ids = labels.voxels[0, :: step[0], :: step[1], :: step[2]].numpy()
    zoom = NODES / np.array(labels.spacing)
    shape = tuple(int(np.ceil((n - 1) / z)) + 1 for n, z in zip(labels.voxels.shape[1:], zoom, strict=True))
    node = [np.rint(np.arange(n) * s / z).astype(int) for n, s, z in zip(ids.shape, step, zoom, strict=True)]
    cell = np.ravel_multi_index(np.meshgrid(*node, indexing="ij"), shape).ravel()
    held, caudal, ventral = (_table(entries)[ids].ravel() for entries in (_held(), CAUDAL, VENTRAL))
    full = NODES**3 / np.prod([s * length for s, length in zip(step, labels.spacing, strict=True)])
    sums = [np.bincount(cell, part, minlength=int(np.prod(shape))) / full for part in (held, ventral, -caudal)]
    weight, *target = (part.reshape(shape) for part in sums)
    scale = torch.diag(torch.tensor([*zoom, 1.0], dtype=torch.float64))
    return weight, np.stack(target), labels.patient_from_voxel.double() @ scale


def _held() -> Mapping[Tissue, float]:
    return dict.fromkeys((*CAUDAL, *BONE), 1.0)


def _table(entries: Mapping[Tissue, float]) -> np.ndarray:
    table = np.zeros(TISSUE_COUNT)
    for tissue, value in entries.items():
        table[tissue] = value
    return table


def _membrane(weight: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(w + n k) u = w d + k sum of the n neighbours, by Jacobi sweeps; the border lets go."""
    field = np.zeros_like(target)
    for _ in range(_SWEEPS):
        padded = np.pad(field, ((0, 0), (1, 1), (1, 1), (1, 1)), mode="edge")
        around = (
            padded[:, 2:, 1:-1, 1:-1] + padded[:, :-2, 1:-1, 1:-1] + padded[:, 1:-1, 2:, 1:-1]
            + padded[:, 1:-1, :-2, 1:-1] + padded[:, 1:-1, 1:-1, 2:] + padded[:, 1:-1, 1:-1, :-2]
        )  # fmt: skip
        field = (target + _STIFFNESS * around) / (weight + 6.0 * _STIFFNESS)
    return field


def displacement(
    field: VolumeStack, points: Float[Tensor, "envs *points 3"], index: Int[Tensor, " envs"]
) -> Float[Tensor, "envs *points 3"]:
    """u [m] at points [m] of each environment's patient; ``field`` stacks :func:`breathing_field` of the patients.

    Compiled where no gradient is asked for: the same to rounding.
    """
    if field.compiled(points):
        out = torch.empty(points.shape)
        places = points.reshape(len(index), -1, 3)
        stack_kernel.read(*field.arrays(index), places.contiguous().numpy(), out.view_as(places).numpy())
        return out
    batch = (-1, *[1] * (points.ndim - 2))
    offset = field.offset[index].reshape(batch).expand(points.shape[:-1])
    shape = field.shape[index].reshape(*batch, 3).expand(points.shape)
    return grids.trilinear(field.flat, offset, shape, field.voxel(points, index))
