"""Slow variation of echogenicity within a tissue, baked into six bits a voxel. All values are design choices."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sonogym.anatomy.tissues import TISSUE_COUNT
from sonogym.ultrasound.acoustics import TEXTURES
from sonogym.ultrasound.voxel_word import TEXTURE_LEVELS

STEP = 0.5  # dB a level
NEUTRAL = TEXTURE_LEVELS // 2
_GRAIN_DB = 1.4
_GRAIN = ((5.0e-3, 1.0), (1.9e-3, 0.8))  # lattice [m], share
_STRIAE_DB = 4.5
_STRIAE_LATTICE = (3.2e-3, 1.1e-3, 14e-3)  # m: across, across, along the fibre (the body's axis)
_DENSITY_GAIN = 2e-3  # 1/HU: share by which scatter grows with density (Schneider's rho has .9e-3, echogenicity more)
_DENSITY_LIMIT = 150.0  # HU: farther from its tissue's median a voxel tells of its neighbour or of metal
_DENSITY_BLUR = 2e-3  # m: the noise of a CT must not become texture
_LOWEST, _BINS = -1024, 4096  # HU
_SEED = 20260101


def texture_gain() -> np.ndarray:
    """(TEXTURE_LEVELS,) float32 amplitude factor of each level."""
    decibels = STEP * (np.arange(TEXTURE_LEVELS) - NEUTRAL)
    return (10.0 ** (decibels / 20.0)).astype(np.float32)


def texture_levels(labels: np.ndarray, kind: np.ndarray, pitch: float, density: np.ndarray) -> np.ndarray:
    """uint8 texture of a label volume (x, y, z); ``kind`` (tissues,) indexes :data:`TEXTURES`.

    ``density`` (x, y, z) [HU] is how much denser than usual the tissue is: it scales the amplitude by 1 + g HU'.
    """
    grain = _GRAIN_DB * sum(
        share * value_noise(labels.shape, (edge,) * 3, pitch, i) for i, (edge, share) in enumerate(_GRAIN)
    )
    striae = _STRIAE_DB * value_noise(labels.shape, _STRIAE_LATTICE, pitch, len(_GRAIN))
    of_label = kind.astype(np.uint8)[labels]
    decibels = np.where(of_label == TEXTURES.index("striae"), striae, grain)
    decibels += 20.0 * np.log10(1.0 + _DENSITY_GAIN * density)
    decibels[of_label == TEXTURES.index("none")] = 0.0
    return np.clip(np.rint(decibels / STEP) + NEUTRAL, 0, TEXTURE_LEVELS - 1).astype(np.uint8)


def density_map(hu: np.ndarray, labels: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """HU - median of the voxel's own tissue in this scan, low-passed; float32 (x, y, z) within +-150 HU.

    The median of the scan itself, since contrast moves it (aorta 371, kidney 190). ``spacing`` [m] of the voxels.
    """
    bins = np.clip(hu.astype(np.int32) - _LOWEST, 0, _BINS - 1)
    counts = np.bincount((labels.astype(np.int32) * _BINS + bins).ravel(), minlength=TISSUE_COUNT * _BINS)
    below = counts.reshape(TISSUE_COUNT, _BINS).cumsum(axis=1)
    median = (below >= 0.5 * below[:, -1:]).argmax(axis=1).astype(np.float32) + _LOWEST
    excess = hu - median[labels]
    excess[np.abs(excess) > _DENSITY_LIMIT] = 0.0
    return ndimage.gaussian_filter(excess, [_DENSITY_BLUR / edge for edge in spacing], truncate=2.5)


def value_noise(shape: tuple[int, ...], lattice: tuple[float, float, float], pitch: float, stream: int) -> np.ndarray:
    """Smooth noise of zero mean and unit variance: Gaussian values on a lattice [m], interpolated linearly."""
    step = [max(edge / pitch, 1.0) for edge in lattice]
    coarse = [int(np.ceil(n / s)) + 2 for n, s in zip(shape, step, strict=True)]
    values = np.random.default_rng((_SEED, stream)).standard_normal(coarse, dtype=np.float32)
    for axis, (n, s) in enumerate(zip(shape, step, strict=True)):
        values = _stretch(values, axis, n, s)
    return values


def _stretch(values: np.ndarray, axis: int, count: int, step: float) -> np.ndarray:
    """Linear interpolation along one axis, scaled to keep unit variance between the lattice points."""
    place = np.arange(count, dtype=np.float32) / np.float32(step)
    base = place.astype(np.int64)
    weight = (place - base).astype(np.float32)
    weight = weight * weight * (3.0 - 2.0 * weight)
    scale = 1.0 / np.sqrt((1.0 - weight) ** 2 + weight**2)
    extent = [1] * values.ndim
    extent[axis] = count
    low, high = np.take(values, base, axis), np.take(values, base + 1, axis)
    return low * ((1.0 - weight) * scale).reshape(extent) + high * (weight * scale).reshape(extent)
