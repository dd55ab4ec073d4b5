"""The CT of a labelled torso: a value a tissue, low-frequency texture, and noise."""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit

from sonogym.anatomy.patients.drawing import normal_draws
from sonogym.anatomy.patients.params import PatientParams
from sonogym.anatomy.tissues import TISSUE_COUNT, Tissue

# HU without contrast and the amplitude of its texture (anatomy.md, TotalSegmentator test CTs)
HOUNSFIELD = {
    Tissue.AIR: (-1000, 0), Tissue.GEL: (20, 0), Tissue.SKIN: (40, 10), Tissue.SUBCUTANEOUS_FAT: (-104, 8),
    Tissue.MUSCLE: (50, 12), Tissue.CONNECTIVE: (60, 8), Tissue.LIVER: (57, 5), Tissue.KIDNEY_CORTEX: (32, 3),
    Tissue.SPLEEN: (49, 4), Tissue.PANCREAS: (40, 12), Tissue.BLOOD: (43, 2), Tissue.FLUID: (8, 2), Tissue.BILE: (5, 2),
    Tissue.MYOCARDIUM: (45, 4), Tissue.BOWEL: (35, 18), Tissue.CARTILAGE: (110, 10), Tissue.TRABECULAR_BONE: (150, 25),
    Tissue.CORTICAL_BONE: (1050, 140), Tissue.LUNG: (-800, 40), Tissue.NERVE: (35, 4), Tissue.VISCERAL_FAT: (-100, 9),
    Tissue.KIDNEY_PYRAMID: (28, 3), Tissue.KIDNEY_SINUS: (-40, 20), Tissue.DISC: (72, 10), Tissue.LIGAMENT: (75, 8),
    Tissue.DIAPHRAGM: (48, 6), Tissue.STOMACH: (30, 15), Tissue.VEIN: (43, 2),
    Tissue.METAL: (3071, 0), Tissue.STONE: (700, 120), Tissue.LESION: (38, 5),
}  # fmt: skip
_NOISE = 13.0  # HU at 1.5 mm
_TEXTURE = 9.0  # mm between the nodes of the texture


def hounsfield(labels: np.ndarray, spacing: float, params: PatientParams) -> np.ndarray:
    """(x, y, z) int16 HU of labels on a grid of ``spacing`` [mm]; noise falls with the voxel as 1 / sqrt(volume)."""
    mean, texture = np.zeros(TISSUE_COUNT, dtype=np.float32), np.zeros(TISSUE_COUNT, dtype=np.float32)
    for tissue, (value, amplitude) in HOUNSFIELD.items():
        mean[tissue], texture[tissue] = value, amplitude
    mean[Tissue.TRABECULAR_BONE] = params.trabecular
    noise = min(_NOISE * (1.5 / spacing) ** 1.5, 25.0)
    step = spacing / _TEXTURE
    key = np.uint64(params.seed & 0xFFFFFFFFFFFFFFFF)
    shape = tuple(int(n * step) + 2 for n in labels.shape)
    coarse = normal_draws(params.seed, "hounsfield", int(np.prod(shape))).reshape(shape)
    ct = np.empty(labels.shape, dtype=np.int16)
    fill_ct(ct, labels, mean, texture, coarse, step, noise, key)
    return ct


@njit(cache=True)
@no_type_check
def fill_ct(ct, labels, mean, texture, coarse, step, noise, key):
    """HU = mean + texture * trilinear(coarse) + noise; four hashed 16-bit uniforms make one Gaussian-like draw."""
    nx, ny, nz = labels.shape
    for i in range(nx):
        a, fa = int(i * step), i * step - int(i * step)
        for j in range(ny):
            b, fb = int(j * step), j * step - int(j * step)
            for m in range(nz):
                c, fc = int(m * step), m * step - int(m * step)
                low = (coarse[a, b, c] * (1 - fa) + coarse[a + 1, b, c] * fa) * (1 - fb)
                low += (coarse[a, b + 1, c] * (1 - fa) + coarse[a + 1, b + 1, c] * fa) * fb
                high = (coarse[a, b, c + 1] * (1 - fa) + coarse[a + 1, b, c + 1] * fa) * (1 - fb)
                high += (coarse[a, b + 1, c + 1] * (1 - fa) + coarse[a + 1, b + 1, c + 1] * fa) * fb
                state = np.uint64((i * ny + j) * nz + m) * np.uint64(0x9E3779B97F4A7C15) + key
                state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
                state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
                state = state ^ (state >> np.uint64(31))
                total = 0.0
                for _ in range(4):
                    total += float(state & np.uint64(0xFFFF))
                    state = state >> np.uint64(16)
                gauss = (total / 65536.0 - 2.0) * 1.7320508
                label = labels[i, j, m]
                value = mean[label] + texture[label] * (low + fc * (high - low)) * 1.4 + noise * gauss
                ct[i, j, m] = np.int16(min(max(value, -1024.0), 3000.0))
