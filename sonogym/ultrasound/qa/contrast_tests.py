"""Tests with speckle: contrast of cysts and grey targets, low-contrast detectability, uniformity, penetration."""

from __future__ import annotations

import math

import numpy as np
import torch

from sonogym.ultrasound.beam import NOISE_LEVEL
from sonogym.ultrasound.psf import axial_width, lateral_width
from sonogym.ultrasound.qa import measures
from sonogym.ultrasound.qa.phantom import GREY_DECIBELS, Disc, Medium, slab
from sonogym.ultrasound.qa.plan import Plan, beside, range_of
from sonogym.ultrasound.qa.row import Row, at_least, at_most, within
from sonogym.ultrasound.qa.scan import Scan, samples_for, scan
from sonogym.ultrasound.transducer import MAX_DEPTH, Transducer

LINES = 512
FRAMES = 48
_TARGET, _AROUND = 0.65, 0.5  # share of a disc's radius that is read, in it and in its background
_EDGE = 8  # lines at either edge that hold mirrored scatterers
_LEAST_ANECHOIC = -20.0  # dB
_ATTENUATIONS = (0.5, 0.7)  # dB/cm/MHz of the two halves of the penetration phantom


def scan_contrast(transducer: Transducer, plan: Plan) -> Scan:
    """Cysts and grey targets in background."""
    depth = transducer.depth
    body = slab(transducer, depth, 1e-3 * depth, Medium.BACKGROUND, (*plan.cysts, *plan.grey))
    return scan(body, transducer, LINES, samples_for(transducer, depth, 3.2), depth, FRAMES)


def contrast(transducer: Transducer, plan: Plan, scanned: Scan) -> list[Row]:
    """Grey targets against the background of their own depth, then anechoic cysts."""
    rows = []
    for disc in plan.grey:
        decibels = GREY_DECIBELS[disc.medium]
        target, around = scanned.values(disc, _TARGET), _around(transducer, scanned, disc, 1.75)
        name = f"{decibels:+g} dB target"
        cnr = measures.rayleigh_contrast_to_noise(decibels)
        gcnr = measures.rayleigh_generalized_contrast_to_noise(decibels)
        rows += [
            within("contrast", name, "dB", measures.contrast_decibels(target, around), decibels, 1.0, "echogenicity"),
            within("contrast", f"{name}, CNR", "", measures.contrast_to_noise(target, around), cnr,
                   max(0.1 * cnr, 0.08), "two Rayleigh laws"),
            within("contrast", f"{name}, gCNR", "", measures.generalized_contrast_to_noise(target, around), gcnr, 0.06,
                   "two Rayleigh laws"),
        ]  # fmt: skip
    for disc in plan.cysts[:2]:
        target, around = scanned.values(disc, _TARGET), _around(transducer, scanned, disc, 2.2)
        name = f"anechoic cyst at {1e3 * range_of(transducer, (disc.x, disc.z)):.0f} mm"
        rows += [
            at_most("contrast", name, "dB", measures.contrast_decibels(target, around), _LEAST_ANECHOIC, "design"),
            at_least(
                "contrast", f"{name}, gCNR", "", measures.generalized_contrast_to_noise(target, around), 0.95, "V28"
            ),
        ]
    return rows


def low_contrast(transducer: Transducer, plan: Plan, scanned: Scan) -> list[Row]:
    """Diameter from which the -3 dB target is detected for certain (signal-to-noise ratio 5 of its mean intensity)."""
    disc = next(disc for disc in plan.grey if disc.medium is Medium.MINUS_3)
    target = (scanned.values(disc, _TARGET) ** 2).mean(axis=1)
    sides = [beside(transducer, disc, side * 1.75 * disc.radius) for side in (-1.0, 1.0)]
    around = np.concatenate([(scanned.values(side, _TARGET) ** 2).mean(axis=1) for side in sides])
    diameter = 2.0 * _TARGET * disc.radius
    width = float(lateral_width(transducer, torch.tensor(range_of(transducer, (disc.x, disc.z)))))
    expected = measures.lesion_signal_to_noise(-3.0, diameter, measures.speckle_cell(axial_width(transducer), width))
    measured = measures.detectability(target, around)
    return [
        within("contrast", "smallest -3 dB target detected", "mm", 1e3 * diameter * measures.ROSE / measured,
               1e3 * diameter * measures.ROSE / expected, 300.0 * diameter * measures.ROSE / expected,
               "Smith and Wagner (1983), ratio 5"),
    ]  # fmt: skip


def uniformity(transducer: Transducer) -> list[Row]:
    """Mean level of each scan line over a uniform phantom, and the statistics of its speckle."""
    depth = transducer.depth
    body = slab(transducer, depth, 1e-3, Medium.BACKGROUND)
    scanned = scan(body, transducer, LINES, samples_for(transducer, depth, 3.2), depth, FRAMES)
    band = scanned.envelope[:, (scanned.depth > 0.3 * depth) & (scanned.depth < 0.6 * depth)]
    flat = band / np.sqrt((band**2).mean(axis=(0, 2), keepdims=True))
    inner = band[:, :, _EDGE:-_EDGE]
    return [
        at_most("uniformity", "largest deviation of a line", "dB", measures.non_uniformity(inner), 4.0, "design"),
        at_most("uniformity", "the same with the outermost lines", "dB", measures.non_uniformity(band), 4.0, "design"),
        within("uniformity", "speckle mean over deviation", "", float(flat.mean() / flat.std()), measures.RAYLEIGH_SNR,
               0.05, "Rayleigh law, V1"),
    ]  # fmt: skip


def scan_penetration(transducer: Transducer) -> tuple[Scan, Scan]:
    """A phantom of .5 dB/cm/MHz on the left and .7 on the right, and receiver noise alone, far past penetration."""
    depth = min(1.15 * _penetration(transducer, _ATTENUATIONS[0]), MAX_DEPTH)
    samples = samples_for(transducer, depth, 3.2)
    halves = slab(transducer, depth, 1e-3, Medium.BACKGROUND, right=Medium.DENSE)
    silent = slab(transducer, depth, 1e-3, Medium.SILENT)
    return tuple(scan(body, transducer, LINES // 2, samples, depth, FRAMES // 3) for body in (halves, silent))  # type: ignore[return-value]


def penetration(transducer: Transducer, scans: tuple[Scan, Scan]) -> list[Row]:
    """Depth where the phantom's echoes are as strong as the noise, for either attenuation (IEC 61391-2)."""
    scanned, noise = scans
    floor = noise.envelope.mean(axis=(0, 2))
    rows = []
    for attenuation, lines in zip(_ATTENUATIONS, _halves(transducer), strict=True):
        signal = scanned.envelope[:, :, lines].mean(axis=(0, 2))
        measured = measures.penetration_depth(scanned.depth, signal, floor)
        expected = _penetration(transducer, attenuation)
        rows.append(
            within("penetration", f"{attenuation} dB/cm/MHz", "mm", 1e3 * measured, 1e3 * expected, 50.0 * expected,
                   "noise level / (2 alpha f), V25"),
        )  # fmt: skip
    return rows


def _penetration(transducer: Transducer, attenuation: float) -> float:
    """Depth [m] where echoes of the background, 0 dB at the face, have fallen to the receiver noise."""
    return -20.0 * math.log10(NOISE_LEVEL) / (2.0 * 1e-4 * attenuation * transducer.center_frequency)


def _halves(transducer: Transducer) -> tuple[slice, slice]:
    """Lines of the penetration scan on the left and on the right, but for those beside a seam, which hold both media.

    Those of a radial probe start at the seam below it and go round by the right.
    """
    side, half = LINES // 10, LINES // 4
    if transducer.kind == "radial":
        return slice(half + side, 2 * half - side), slice(side, half - side)
    return slice(0, half - side), slice(half + side, None)


def _around(transducer: Transducer, scanned: Scan, disc: Disc, offset: float) -> np.ndarray:
    """Background at the depth of ``disc``, ``offset`` radii to either side."""
    sides = [beside(transducer, disc, side * offset * disc.radius) for side in (-1.0, 1.0)]
    return np.concatenate([scanned.values(side, _AROUND) for side in sides], axis=1)
