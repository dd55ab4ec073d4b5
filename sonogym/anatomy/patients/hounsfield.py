"""The CT of a labelled torso: tissues with their texture, seen through a scanner's point spread and with its noise.

What a voxel holds passes the reconstruction kernel and so does the noise: neighbours share it, edges are partial
volumes, and a thin cortex never reaches its own density. Arches, processes and ribs are denser than the spongy middle
of a body. Shapes of the histograms are those of the scans compared in docs/population.md.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit

from sonogym.anatomy.patients.compact import compactness
from sonogym.anatomy.patients.drawing import normal_draws, unit_draws
from sonogym.anatomy.patients.params import PatientParams
from sonogym.anatomy.patients.sdf import Number
from sonogym.anatomy.tissues import TISSUE_COUNT, Tissue

# HU without contrast and the amplitude of its slow texture (anatomy.md, TotalSegmentator test CTs); cortical bone as a
# voxel sees a body's shell of half a millimetre: 240-305 +- 130-220 at the edge of the bones of two scans
HOUNSFIELD = {
    Tissue.AIR: (-1000, 0), Tissue.GEL: (20, 0), Tissue.SKIN: (15, 10), Tissue.SUBCUTANEOUS_FAT: (-108, 8),
    Tissue.MUSCLE: (52, 18), Tissue.CONNECTIVE: (60, 8), Tissue.LIVER: (58, 5), Tissue.KIDNEY_CORTEX: (32, 3),
    Tissue.SPLEEN: (49, 4), Tissue.PANCREAS: (42, 12), Tissue.BLOOD: (43, 2), Tissue.FLUID: (8, 2), Tissue.BILE: (5, 2),
    Tissue.MYOCARDIUM: (45, 4), Tissue.BOWEL: (37, 18), Tissue.CARTILAGE: (110, 10), Tissue.TRABECULAR_BONE: (150, 25),
    Tissue.CORTICAL_BONE: (240, 115), Tissue.LUNG: (-868, 25), Tissue.NERVE: (35, 4), Tissue.VISCERAL_FAT: (-104, 9),
    Tissue.KIDNEY_PYRAMID: (28, 3), Tissue.KIDNEY_SINUS: (-40, 20), Tissue.DISC: (72, 10), Tissue.LIGAMENT: (75, 8),
    Tissue.DIAPHRAGM: (48, 6), Tissue.STOMACH: (30, 15), Tissue.VEIN: (43, 2),
    Tissue.METAL: (3071, 0), Tissue.STONE: (700, 120), Tissue.LESION: (38, 5),
}  # fmt: skip
_GRAIN = {  # sd of what is finer than the scanner resolves: fibres, lobules, trabeculae
    Tissue.SUBCUTANEOUS_FAT: 6.0, Tissue.VISCERAL_FAT: 8.0, Tissue.MUSCLE: 14.0, Tissue.BOWEL: 12.0,
    Tissue.STOMACH: 12.0, Tissue.PANCREAS: 8.0, Tissue.LUNG: 30.0, Tissue.TRABECULAR_BONE: 35.0,
    Tissue.CORTICAL_BONE: 100.0, Tissue.DISC: 8.0,
}  # fmt: skip
_STRAND = {  # how the strands in it differ, per sd beyond the first: septa and vessels in fat and lung, fat in muscle
    Tissue.SUBCUTANEOUS_FAT: 40.0, Tissue.VISCERAL_FAT: 55.0, Tissue.MUSCLE: -70.0, Tissue.LUNG: 560.0,
    Tissue.PANCREAS: -60.0, Tissue.BOWEL: -60.0, Tissue.TRABECULAR_BONE: 60.0,
}  # fmt: skip
_COMPACT = {Tissue.TRABECULAR_BONE: 330.0, Tissue.CORTICAL_BONE: 140.0}  # HU more in bone without deep marrow
_VARIED = 0.4  # sd of the root of that excess, from one strand to the next
# sd between patients: liver 58 +- 9; the others `design`
_SPREAD = {
    Tissue.SUBCUTANEOUS_FAT: 3.0, Tissue.MUSCLE: 5.0, Tissue.LIVER: 8.0, Tissue.SPLEEN: 4.0, Tissue.BLOOD: 4.0,
    Tissue.KIDNEY_CORTEX: 3.0, Tissue.PANCREAS: 6.0, Tissue.LUNG: 15.0,
}  # fmt: skip
_ALIKE = ((Tissue.VISCERAL_FAT, Tissue.SUBCUTANEOUS_FAT), (Tissue.VEIN, Tissue.BLOOD))
_NOISE = 15.0  # HU at 1.5 mm at a BMI of 26; 13-19 in muscle and fat of real scans
_SLOW, _FINE = 20.0, 4.5  # mm between the nodes of the slow texture and of the strands
_STRAND_SD = 0.16  # of trilinearly weighted uniforms
_SPREAD_OF_POINT = (
    0.85,
    0.85,
    1.1,
)  # mm, sd of a scanner's point: at half height 2 mm wide in the slice, 2.6 across
_HANGING = {Tissue.LUNG: 70.0}  # HU from the highest to the lowest part: blood sinks


def hounsfield(labels: np.ndarray, spacing: float, params: PatientParams) -> np.ndarray:
    """(x, y, z) int16 HU of labels on a grid of ``spacing`` [mm]."""
    passes = [_passes(sd, spacing) for sd in _SPREAD_OF_POINT]
    left = float(np.prod([_noise_left(*one) for one in passes]))
    loud = float(normal_draws(params.seed, "ct_noise", 1)[0])
    noise = _NOISE * (1.0 + 0.015 * (params.bmi - 26.0)) * (1.0 + 0.2 * min(max(loud, -2.0), 2.0))
    noise *= (1.5 / spacing) ** 0.75
    grain = np.sqrt(_table(_GRAIN) ** 2 + min(noise, 30.0) ** 2) / left
    slow = _table({tissue: amplitude for tissue, (_, amplitude) in HOUNSFIELD.items()})
    grain[Tissue.AIR] = 0.0
    hanging = _table(_HANGING) * (1.0 if params.prone else -1.0)
    field = np.empty(labels.shape, dtype=np.float32)
    coarse, fine = spacing / _SLOW, spacing / _FINE
    nodes = _nodes(labels.shape, coarse, params.seed, "slow"), _nodes(labels.shape, fine, params.seed, "strands")
    key = np.uint64(params.seed & 0xFFFFFFFFFFFFFFFF)
    strand = _table(_STRAND)
    strand[Tissue.MUSCLE] *= _streaks(params)
    tables = _means(params), slow, grain, strand, hanging, _table(_COMPACT)
    fill_tissues(field, labels, compactness(labels, spacing), *tables, *nodes, coarse, fine, key)
    nx, ny, nz = labels.shape
    for shape, (count, weight) in zip(((1, nx, ny * nz), (nx, ny, nz), (nx * ny, nz, 1)), passes, strict=True):
        for _ in range(count):
            diffuse(field.reshape(shape), weight)
    return np.rint(np.clip(field, -1024.0, 3000.0)).astype(np.int16)


def _table(values: dict[Tissue, Number]) -> np.ndarray:
    table = np.zeros(TISSUE_COUNT)
    for tissue, value in values.items():
        table[tissue] = value
    return table


def _means(params: PatientParams) -> np.ndarray:
    """HU of each tissue of this patient; a fat liver is darker, muscle loses 0.15 a year (both `design`)."""
    mean = _table({tissue: value for tissue, (value, _) in HOUNSFIELD.items()})
    shift = normal_draws(params.seed, "hounsfield_mean", len(_SPREAD)).astype(np.float64)
    for (tissue, spread), draw in zip(_SPREAD.items(), shift, strict=True):
        mean[tissue] += spread * min(max(float(draw), -2.0), 2.0)
    mean[Tissue.LIVER] -= 0.6 * min(max(params.bmi - 26.0, -6.0), 14.0)
    mean[Tissue.MUSCLE] -= 0.15 * (params.age - 50.0)
    mean[Tissue.TRABECULAR_BONE] = params.trabecular
    for tissue, other in _ALIKE:
        mean[tissue] += mean[other] - HOUNSFIELD[other][0]
    return np.rint(256.0 * mean) / 256.0


def _streaks(params: PatientParams) -> float:
    """Fat between the fibres of all muscles, 1 for the mean person: with that of the multifidus (sex and age) and BMI.

    CT density of the muscles of the back falls with age and BMI (Kalichman 2010, 187 adults); 2 % a unit `design`.
    """
    part = params.infiltration / 0.21 * (1.0 + 0.02 * (params.bmi - 26.0))
    return round(min(max(part, 0.3), 2.0), 4)


def _passes(sd: float, spacing: float) -> tuple[int, float]:
    """How often to :func:`diffuse`, and with which weight, for a spread of ``sd`` [mm]: sd^2 = 2 n w spacing^2."""
    total = 0.5 * (sd / spacing) ** 2
    count = int(np.ceil(total / 0.3))
    return count, total / count


def _noise_left(count: int, weight: float) -> float:
    """Part of the sd of white noise that is left after the passes along one axis."""
    kernel = np.ones(1)
    for _ in range(count):
        kernel = np.convolve(kernel, [weight, 1.0 - 2.0 * weight, weight])
    return float(np.sqrt(np.sum(kernel * kernel)))


def _nodes(shape: tuple[int, ...], step: float, seed: int, name: str) -> np.ndarray:
    """Standardised uniform draws on a coarse grid; read trilinearly they spread by about one."""
    size = tuple(int(n * step) + 2 for n in shape)
    draws = unit_draws(seed, f"hounsfield_{name}", int(np.prod(size))).astype(np.float64)
    return (draws.reshape(size) - 0.5) / _STRAND_SD


@njit(cache=True, inline="always")
@no_type_check
def _between(nodes, x, y, z):
    """Trilinear value of ``nodes`` at (x, y, z) in nodes."""
    a, b, c = int(x), int(y), int(z)
    u, v, w = x - a, y - b, z - c
    low = (nodes[a, b, c] * (1 - u) + nodes[a + 1, b, c] * u) * (1 - v)
    low += (nodes[a, b + 1, c] * (1 - u) + nodes[a + 1, b + 1, c] * u) * v
    high = (nodes[a, b, c + 1] * (1 - u) + nodes[a + 1, b, c + 1] * u) * (1 - v)
    high += (nodes[a, b + 1, c + 1] * (1 - u) + nodes[a + 1, b + 1, c + 1] * u) * v
    return low + w * (high - low)


@njit(cache=True, inline="always")
@no_type_check
def _gauss(index, key):
    """A draw of a voxel: four hashed 16-bit uniforms, nearly Gaussian with sd 1."""
    state = np.uint64(index) * np.uint64(0x9E3779B97F4A7C15) + key
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state = state ^ (state >> np.uint64(31))
    total = 0.0
    for _ in range(4):
        total += float(state & np.uint64(0xFFFF))
        state = state >> np.uint64(16)
    return (total / 65536.0 - 2.0) * 1.7320508


@njit(cache=True)
@no_type_check
def fill_tissues(field, labels, dense, mean, slow, grain, strand, hanging, compact, nodes, fine, step, fine_step, key):
    """HU = mean + slow * texture + strand * max(strands - 1, 0) + grain * noise + compact * (1 + .4 strands)^2.

    ``dense``: how much of ``compact`` a voxel has, in 255ths; a lung is denser where it hangs.
    """
    nx, ny, nz = labels.shape
    for i in range(nx):
        for j in range(ny):
            for m in range(nz):
                label = labels[i, j, m]
                value = mean[label]
                if label != 0:
                    value += slow[label] * _between(nodes, i * step, j * step, m * step)
                    value += grain[label] * _gauss((i * ny + j) * nz + m, key)
                    if strand[label] != 0.0 or dense[i, j, m] > 0:
                        strands = _between(fine, i * fine_step, j * fine_step, m * fine_step)
                        value += strand[label] * max(strands - 1.0, 0.0)
                        root = 1.0 + _VARIED * strands
                        value += compact[label] * dense[i, j, m] / 255.0 * root * root
                    value += hanging[label] * (j / ny - 0.5)
                field[i, j, m] = value


@njit(cache=True)
@no_type_check
def diffuse(field, weight):
    """Along the middle axis: f += weight (neighbours - 2 f), the ends repeated."""
    outer, count, inner = field.shape
    before = np.empty(inner, dtype=np.float32)
    for a in range(outer):
        for k in range(inner):
            before[k] = field[a, 0, k]
        for n in range(count):
            after = min(n + 1, count - 1)
            for k in range(inner):
                here = field[a, n, k]
                field[a, n, k] = here + weight * (before[k] - 2.0 * here + field[a, after, k])
                before[k] = here
