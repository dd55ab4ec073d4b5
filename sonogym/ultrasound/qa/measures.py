"""Measurements of quality assurance: pure functions of profiles and regions with metric axes.

Definitions: AAPM Ultrasound Task Group 1 (Goodsitt et al., Med. Phys. 25:1385, 1998), IEC TR 61390, IEC 61391-1/-2.
Closed forms hold for fully developed speckle, whose envelope is Rayleigh distributed.
"""

from __future__ import annotations

import math

import numpy as np

RAYLEIGH_SNR = math.sqrt(math.pi / (4.0 - math.pi))  # mean over deviation of a Rayleigh envelope, 1.91
FWHM_PER_DEVIATION = 2.0 * math.sqrt(2.0 * math.log(2.0))
PENETRATION_RATIO = math.sqrt(2.0)  # signal with noise over noise where they are equally strong; IEC 61391-2 has 1.4
ROSE = 5.0  # signal-to-noise ratio from which a target is seen with certainty
_GCNR_BINS = 256


def full_width(place: np.ndarray, profile: np.ndarray) -> float:
    """Full width at half maximum of the highest peak, in the unit of ``place``; infinite if a side stays above half.

    Between samples the logarithm is interpolated linearly.
    """
    level = np.log2(np.maximum(profile, 1e-30) / profile.max())
    top = int(np.argmax(level))
    return _crossing(place[top:], level[top:]) - _crossing(place[top::-1], level[top::-1])


def _crossing(place: np.ndarray, level: np.ndarray) -> float:
    """Where ``level``, which starts at 0, first falls to -1; infinity towards the end of ``place`` if it never does."""
    below = np.flatnonzero(level <= -1.0)
    if not below.size:
        return math.copysign(math.inf, place[-1] - place[0])
    k = int(below[0])
    share = (level[k - 1] + 1.0) / (level[k - 1] - level[k])
    return float(place[k - 1] + share * (place[k] - place[k - 1]))


def moment_width(place: np.ndarray, profile: np.ndarray) -> float:
    """Width of the Gaussian of the same second moment: 2.355 sigma, in the unit of ``place``."""
    weight = profile / profile.sum()
    mean = float((weight * place).sum())
    return FWHM_PER_DEVIATION * math.sqrt(float((weight * (place - mean) ** 2).sum()))


def centroid(image: np.ndarray, rows: np.ndarray, columns: np.ndarray, threshold: float) -> tuple[float, float]:
    """(row place, column place) of the centre of mass of what exceeds ``threshold``, in the units of the axes."""
    weight = np.maximum(image - threshold, 0.0)
    total = weight.sum()
    return float((weight.sum(1) * rows).sum() / total), float((weight.sum(0) * columns).sum() / total)


def contrast_decibels(target: np.ndarray, background: np.ndarray) -> float:
    """20 log10 of the ratio of the mean envelopes."""
    return 20.0 * math.log10(max(float(target.mean()), 1e-30) / float(background.mean()))


def contrast_to_noise(target: np.ndarray, background: np.ndarray) -> float:
    """|mean difference| of the envelopes over the root of the sum of their variances."""
    return float(abs(target.mean() - background.mean()) / math.sqrt(target.var() + background.var()))


def rayleigh_contrast_to_noise(decibels: float) -> float:
    """:func:`contrast_to_noise` of two speckles whose levels differ by ``decibels``."""
    ratio = 10.0 ** (decibels / 20.0)
    return RAYLEIGH_SNR * abs(1.0 - ratio) / math.sqrt(1.0 + ratio**2)


def generalized_contrast_to_noise(target: np.ndarray, background: np.ndarray) -> float:
    """gCNR, 1 - overlap of the two histograms (Rodriguez-Molares 2020); the same for any monotonous display law."""
    values = np.concatenate((target.ravel(), background.ravel()))
    edges = np.unique(np.quantile(values, np.linspace(0.0, 1.0, min(_GCNR_BINS, max(values.size // 64, 8)) + 1)))
    shares = [np.histogram(part, edges)[0] / part.size for part in (target, background)]
    return 1.0 - float(np.minimum(*shares).sum())


def rayleigh_generalized_contrast_to_noise(decibels: float) -> float:
    """:func:`generalized_contrast_to_noise` of two speckles whose levels differ by ``decibels``.

    The densities of power cross at x = -r ln r / (1 - r) of the stronger mean, r the ratio of powers.
    """
    ratio = 10.0 ** (-abs(decibels) / 10.0)
    if ratio == 1.0:
        return 0.0
    return ratio ** (ratio / (1.0 - ratio)) - ratio ** (1.0 / (1.0 - ratio))


def non_uniformity(envelopes: np.ndarray) -> float:
    """Largest deviation [dB] of a scan line's mean from the median line, of ``envelopes`` (frames, samples, lines)."""
    level = 20.0 * np.log10(envelopes.mean(axis=(0, 1)))
    return float(np.abs(level - np.median(level)).max())


def penetration_depth(depth: np.ndarray, signal: np.ndarray, noise: np.ndarray) -> float:
    """Depth where the mean envelope falls to :data:`PENETRATION_RATIO` times that of noise alone (IEC 61391-2).

    ``signal`` and ``noise`` are mean envelopes (samples,); the power of the echoes without noise, an exponential of
    depth, is fitted between 15 dB above and 3 dB below the noise. Infinite where the noise is never reached.
    """
    power = np.maximum((signal / noise) ** 2 - 1.0, 1e-30)
    level = 10.0 * np.log10(power)
    deepest = np.flatnonzero(level > 15.0)
    used = (level > -3.0) & (depth > (depth[deepest[-1]] if deepest.size else 0.0))
    first_lost = np.flatnonzero(level < -3.0)
    first_lost = first_lost[first_lost > (deepest[-1] if deepest.size else 0)]
    if not first_lost.size:
        return math.inf
    used &= depth < depth[first_lost[0]]
    slope, offset = np.polyfit(depth[used], level[used], 1)
    crossing = 10.0 * math.log10(PENETRATION_RATIO**2 - 1.0)
    return float((crossing - offset) / slope)


def speckle_cell(axial: float, lateral: float) -> float:
    """Area [m^2] of a correlation cell of intensity (Wagner 1983) of beams of these -6 dB widths [m].

    The squared correlation of a Gaussian beam of width w integrates to sqrt(pi / (4 ln 2)) w along each axis.
    """
    return math.pi / (4.0 * math.log(2.0)) * axial * lateral


def lesion_signal_to_noise(decibels: float, diameter: float, cell: float) -> float:
    """Smith and Wagner (1983): detectability of the mean intensity of a disc, contrast x sqrt(independent cells)."""
    ratio = 10.0 ** (decibels / 10.0)
    cells = 0.25 * math.pi * diameter**2 / cell
    return abs(1.0 - ratio) / math.sqrt(0.5 * (1.0 + ratio**2)) * math.sqrt(cells)


def detectability(target: np.ndarray, background: np.ndarray) -> float:
    """|mean difference| over the pooled deviation of the readings (repeats,) of a target and of its background."""
    spread = math.sqrt(0.5 * (float(target.var(ddof=1)) + float(background.var(ddof=1))))
    return abs(float(target.mean()) - float(background.mean())) / spread


def smallest_resolved(spacings: tuple[float, ...], profiles: list[np.ndarray]) -> float:
    """Smallest of ``spacings`` whose profile shows two peaks and a valley 6 dB below both; infinite if none does."""
    resolved = [s for s, profile in zip(spacings, profiles, strict=True) if _valley(profile) <= 0.5]
    return min(resolved, default=math.inf)


def _valley(profile: np.ndarray) -> float:
    """Lowest value between the two highest peaks over the lower of them; 1 unless both are within 12 dB."""
    peaks = np.flatnonzero((profile[1:-1] >= profile[:-2]) & (profile[1:-1] > profile[2:])) + 1
    peaks = peaks[profile[peaks] >= 0.25 * profile.max()]
    if len(peaks) < 2:
        return 1.0
    low, high = np.sort(peaks[np.argsort(profile[peaks])[-2:]])
    return float(profile[low : high + 1].min() / min(profile[low], profile[high]))


def gaussian_pair_resolved(width: float) -> float:
    """Spacing from which two equal Gaussian echoes of -6 dB ``width``, in phase, leave a valley of 6 dB."""
    low, high = 0.5 * width, 4.0 * width
    for _ in range(60):
        middle = 0.5 * (low + high)
        valley = 2.0 ** (1.0 - (middle / width) ** 2) / (1.0 + 2.0 ** (-4.0 * (middle / width) ** 2))
        low, high = (middle, high) if valley > 0.5 else (low, middle)
    return high
