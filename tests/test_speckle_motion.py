"""Speckle that moves, and noise that ends the picture (physics.md section 9, V18 under strain, V25, V29).

Where the cheap lookup (linear along the beam, nearest across) holds: V18 for lines along a voxel axis with
dr <= .2 pulse widths on a lattice of .25-.33 of it; V29 where elevation planes lie closer than two thirds of a
lattice cell.
Mutations seen to fail: V6: planes taken as independent (+1.5 dB with 9 planes).
"""

import numpy as np
import pytest
import torch
from laboratory import envelope, level, probe_at, rows_between

from sonogym.anatomy.phantoms import homogeneous, phantom_pose
from sonogym.anatomy.tissues import Tissue
from sonogym.ultrasound.acoustics import load_acoustics_table
from sonogym.ultrasound.contact import SOFTNESS, SUPPORT
from sonogym.ultrasound.psf import axial_width, elevation_width
from sonogym.ultrasound.transducer import SPEED_OF_SOUND, load_probe

LIVER = homogeneous(spacing=2e-3)


def _decibels(values):
    return 20.0 * np.log10(np.maximum(values, 1e-9))


def test_speckle_follows_tissue_strained_by_five_percent():
    """V18: compensated correlation > .95 where the compression map strains by 3-5 % (nearest scatterer: .87).

    Pressed by p, the sample at depth d shows the tissue that lay d + A S(d / (D - A)) under the skin.
    """
    probe, press = load_probe("L11-5v"), 2e-3
    width = axial_width(probe)
    view = {"lines": 64, "samples": round(0.05 / (0.2 * width)), "depth": 0.05, "lattice": 0.33 * width}
    still, depth = envelope(LIVER, "L11-5v", **view)
    pressed, _ = envelope(LIVER, "L11-5v", pose=phantom_pose(press=press), contact=True, **view)
    stretch = float(load_acoustics_table().speed[Tissue.LIVER]) / SPEED_OF_SOUND
    indentation = SOFTNESS * np.log1p(np.exp(press / SOFTNESS))
    t = depth * stretch / (SUPPORT - indentation)
    origin = depth + (press - indentation * (1.0 - t * t * (3.0 - 2.0 * t))) / stretch
    used = rows_between(depth, 0.018, 0.04)
    strain = np.gradient(origin, depth)[used] - 1.0
    assert 0.03 < strain.min() < strain.max() < 0.06
    pairs = [
        (np.interp(origin[used], depth, _decibels(still[0, :, line])), _decibels(pressed[0, used, line]))
        for line in range(64)
    ]
    compensated, seen = (np.concatenate(part) for part in zip(*pairs, strict=True))
    assert np.corrcoef(compensated, seen)[0, 1] > 0.95
    assert abs(np.corrcoef(_decibels(still[0, used]).ravel(), seen)[0, 1]) < 0.3, "the tissue did move"


def test_penetration_falls_as_one_over_the_frequency():
    """V25: the depth at which echo and noise are equal, so that the power is twice the noise's: 1/f +- 10 %."""
    reach = []
    for megahertz in (6.0, 12.0):
        view = {"lines": 64, "samples": 700, "depth": 0.14, "seeds": 2}
        values, depth = envelope(LIVER, probe_at(megahertz), noise=True, **view)
        power = (values**2).mean(axis=(0, 2))
        power = np.convolve(power, np.ones(15) / 15, "same")
        quiet, _ = envelope(
            LIVER, probe_at(megahertz), pose=phantom_pose(press=-0.02), contact=True, noise=True, **view
        )
        noise = (quiet**2).mean()
        assert level(quiet) < -70.0
        reach.append(depth[np.flatnonzero(power[20:-20] > 2.0 * noise)[-1] + 20])
    assert reach[1] / reach[0] == pytest.approx(6.0 / 12.0, rel=0.10)


def test_speckle_decorrelates_out_of_plane_with_the_beam():
    """V29: half-width = that of the elevation autocorrelation +- 15 %, planes .84 mm apart, lattice 1.3 mm."""
    place, shifts = 0.065, np.arange(0.0, 2.6e-3, 0.3e-3)
    view = {"lines": 96, "samples": 160, "depth": 0.08, "planes": 9, "lattice": 1.3e-3, "seeds": 3, "outputs": ("iq",)}
    signals = []
    for shift in shifts:
        values, depth = _iq(phantom_pose(elevation=float(shift)), **view)
        signals.append(values[:, rows_between(depth, place - 0.006, place + 0.006)])
    correlation = np.array([abs((signals[0] * other.conj()).mean()) for other in signals])
    correlation = correlation / correlation[0]
    half = np.interp(0.5, correlation[::-1], shifts[::-1])
    width = float(elevation_width(load_probe("C5-2v"), torch.tensor(place)))
    assert half == pytest.approx(width * np.sqrt(2.0) / 2.0, rel=0.15)


def _iq(pose, **view):
    from laboratory import render

    frame = render(LIVER, "C5-2v", pose=pose, **view)
    return frame.iq.numpy(), frame.depth.double().numpy()


@pytest.mark.parametrize("planes", [3, 9])
def test_mean_grey_does_not_depend_on_planes_that_share_lattice_cells(planes):
    """V6 on a coarse grid: <= .5 dB, though neighbouring planes read the same scatterers."""
    view = {"lines": 64, "samples": 96, "depth": 0.12, "seeds": 4}
    greys = []
    for count in (1, planes):
        values, depth = envelope(LIVER, "C5-2v", planes=count, **view)
        greys.append(10 * np.log10((values[:, rows_between(depth, 0.03, 0.11)] ** 2).mean(axis=(0, 2))).mean())
    assert greys[1] == pytest.approx(greys[0], abs=0.5)
