"""Laws of the point spread function (physics.md section 9, V5, V7-V9)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from laboratory import envelope, peak, render, rows_between

from sonogym.anatomy.phantoms import homogeneous, layers, phantom, phantom_pose
from sonogym.anatomy.tissues import Tissue
from sonogym.ultrasound import renderer
from sonogym.ultrasound.acoustics import load_acoustics_table
from sonogym.ultrasound.beam import beam_tables
from sonogym.ultrasound.frame import RenderConfig
from sonogym.ultrasound.psf import axial_width, elevation_width
from sonogym.ultrasound.transducer import load_probe

PROBES = ("C5-2v", "P4-2v", "L11-5v", "L12-3v", "flat75", "radial360")
LIVER = homogeneous(spacing=2e-3)
FACE = {"C5-2v": 0.0104, "L11-5v": 0.0, "L12-3v": 0.0, "P4-2v": 0.001}  # presses that bring the whole face into tissue


@pytest.mark.parametrize("name", ["L11-5v", "L12-3v", "flat75"])
def test_axial_width_of_a_plane_echo_is_that_of_the_bandwidth(name):
    """V7: .441 lambda / B_eff +- 10 %, sampled at dr <= .33 of it."""
    probe = load_probe(name)
    width = axial_width(probe)
    samples = 4 * round(0.03 / (0.3 * width) / 4)
    values, depth = envelope(
        layers((0.02,), (Tissue.FLUID, Tissue.BLOOD), 5e-4, (0.02, 0.04, 0.01)),
        name,
        lines=32,
        samples=samples,
        depth=0.03,
        pitch=0.5e-3,
    )
    rows = np.flatnonzero(rows_between(depth, 0.016, 0.024))
    widths = [peak(values[0, rows, line], depth[1] - depth[0])[2] for line in range(4, 28)]
    assert np.median(widths) == pytest.approx(width, rel=0.10)


def test_axial_width_of_the_probe_that_looks_all_round_is_that_of_the_bandwidth():
    """V7 of radial360: the plane 20 mm in front of its face, on the lines that meet it squarely."""
    probe = load_probe("radial360")
    width = axial_width(probe)
    plane = layers((0.02 + probe.radius,), (Tissue.FLUID, Tissue.BLOOD), 5e-4, (0.03, 0.04, 0.01))
    samples = round(0.024 / (0.3 * width))
    values, depth = envelope(plane, probe, lines=720, samples=samples, depth=0.024, pitch=5e-4)
    rows = np.flatnonzero(rows_between(depth, 0.018, 0.023))
    widths = [peak(values[0, rows, line], depth[1] - depth[0])[2] for line in (-3, -2, -1, 0, 1, 2, 3)]
    assert np.median(widths) == pytest.approx(width, rel=0.10)


@pytest.mark.parametrize("name", PROBES)
def test_one_plane_lies_in_the_image_plane(name):
    """V9: with one plane, and for the middle one of an odd number, the elevation is 0 exactly at every depth."""
    for planes in (1, 3, 9):
        tables = beam_tables(
            load_probe(name), RenderConfig(lines=32, samples=64, planes=planes), load_acoustics_table()
        )
        assert not bool(tables.elevation[planes // 2].any())
        assert bool((tables.elevation[planes // 2 + 1 :] > 0).all())


@pytest.fixture
def specular_only(monkeypatch):
    """Nothing scatters and interfaces have no diffuse part: an echo is the beam's profile and nothing else."""
    table = load_acoustics_table()
    silent = replace(table, scatter=torch.zeros_like(table.scatter), diffuse=torch.zeros_like(table.diffuse))
    monkeypatch.setattr(renderer, "load_acoustics_table", lambda *name: silent)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("C5-2v", 0.03),
        ("C5-2v", 0.06),
        ("C5-2v", 0.10),
        ("L11-5v", 0.01),
        ("L11-5v", 0.018),
        ("L11-5v", 0.04),
        ("P4-2v", 0.06),
        ("L12-3v", 0.02),
    ],
)
def test_elevation_width_in_a_frame_is_that_of_the_table(specular_only, name, place):
    """V9: section 5 +- 10 %. A plane slanted in elevation smears its echo along depth by the beam's profile.

    Variances add, and Gauss-Hermite planes have that of the Gaussian exactly. Fluid on muscle: an interface is placed
    by the rank of its tissues, and the ten ranks between fluid and blood round to .1 mm.
    """
    probe = load_probe(name)
    width = float(elevation_width(probe, torch.tensor(place)))
    slope = min(0.5, 2e-3 / width)
    flat, slanted = (_smear(name, place, angle) for angle in (0.0, slope))
    assert 2.3548 * np.sqrt(slanted - flat) / slope == pytest.approx(width, rel=0.10)


def _smear(name, place, slope):
    """Variance [m^2] along true depth of the echo of a plane at ``place`` that rises by ``slope`` with elevation."""
    true = float(load_acoustics_table().speed[Tissue.FLUID]) / 1540.0
    shapes = [(Tissue.MUSCLE, lambda points: points[..., 1] >= true * place + slope * points[..., 2])]
    anatomy = phantom("slanted", Tissue.FLUID, shapes, 5e-4, (0.02, place + 0.02, 0.04))
    view = {"lines": 256, "samples": 500, "depth": place + 0.01, "pitch": 5e-4, "planes": 9}
    frame = render(anatomy, name, outputs=("iq",), **view)
    depth = true * frame.depth.double().numpy()
    profile = frame.iq.real.double().numpy()[0, :, 124:132].mean(axis=1)  # lines that meet the plane squarely
    near = rows_between(depth, true * (place - 9e-3), true * (place + 9e-3))
    depth, weight = depth[near], profile[near] / profile[near].sum()
    return (weight * (depth - (weight * depth).sum()) ** 2).sum()


def _correlation_width(iq, axis, step):
    """Full width at half maximum [m] of the autocorrelation of ``iq`` along ``axis``, which is Gaussian.

    Fitted through the lags between .3 and .9 of the peak.
    """
    iq = np.moveaxis(iq, axis, -1)
    power = (np.abs(iq) ** 2).mean()
    lags = np.arange(1, min(40, iq.shape[-1] // 2))
    values = np.array([abs((iq[..., lag:] * iq[..., :-lag].conj()).mean()) for lag in lags]) / power
    used = lags[(values > 0.3) & (values < 0.93)]
    slope = np.polyfit((used * step) ** 2, np.log(values[used - 1]), 1)[0]
    return 2.0 * np.sqrt(np.log(2.0) / -slope)


def _iq(name, depth, samples, lines=512, seeds=3):
    frame = render(
        LIVER,
        name,
        seeds=seeds,
        pose=phantom_pose(press=FACE[name]),
        lines=lines,
        samples=samples,
        depth=depth,
        outputs=("iq",),
    )
    iq, ranges = frame.iq.numpy(), frame.depth.double().numpy()
    return iq / np.sqrt((np.abs(iq) ** 2).mean(axis=(0, 2), keepdims=True)), ranges


def _heard(probe, aperture, z):
    """Root of twelve times the mean square place on the face, each element weighted by what it hears from ``z``."""
    half = min(0.5 * aperture, 0.5 * probe.elements * probe.pitch)
    place = np.linspace(-half, half, 2001)
    normal = place / probe.radius if probe.kind == "convex" else 0.0 * place
    element = np.stack([place, 0.0 * place]) if probe.kind != "convex" else probe.radius * np.stack(
        [np.sin(normal), np.cos(normal) - 1.0]
    )  # fmt: skip
    ray = np.array([[0.0], [z]]) - element
    angle = np.arccos((ray * [np.sin(normal), np.cos(normal)]).sum(0) / np.hypot(*ray))
    weight = np.sinc(0.9 * probe.pitch / probe.wavelength * np.sin(angle)) * np.cos(angle)
    return np.sqrt(12.0 * (weight * place**2).sum() / weight.sum())


def _lateral_width(probe, z):
    """1/w^2 = 1/w_rx^2 + 1/w_tx^2 of section 5, with the apertures that are heard, written anew."""
    unit, sent = probe.lateral_a * probe.wavelength, probe.transmit_focus / probe.transmit_f_number
    sent = _heard(probe, sent, z)
    receive = unit * z / _heard(probe, z / probe.receive_f_number, z)
    transmit = np.hypot(unit * z / sent, probe.lateral_b * sent * (1.0 - z / probe.transmit_focus))
    return receive * transmit / np.hypot(receive, transmit)


@pytest.mark.parametrize(
    ("name", "lines", "places"),
    [
        ("C5-2v", 512, (0.03, 0.06, 0.09)),
        ("L11-5v", 512, (0.01, 0.025, 0.038)),
        ("P4-2v", 256, (0.05, 0.08, 0.11)),
        ("L12-3v", 512, (0.01, 0.025, 0.038)),
    ],
)
def test_lateral_width_is_that_of_the_aperture_at_each_depth(name, lines, places):
    """V8: section 5 +- 15 %. The autocorrelation of the baseband signal is sqrt 2 wider than the beam."""
    probe = load_probe(name)
    depth = max(places) + 0.01
    iq, ranges = _iq(name, depth, round(depth / (0.33 * axial_width(probe))), lines)
    for place in places:
        band = rows_between(ranges, 0.97 * place, 1.03 * place)  # the beam's waist is short
        pitch = float(probe.line_pitch(lines, torch.tensor([place]))[0])
        expected = _lateral_width(probe, place)
        measured = _correlation_width(iq[:, band], 2, pitch) / np.sqrt(2.0)
        assert measured == pytest.approx(expected, rel=0.15), f"{name} at {place} m"


@pytest.mark.parametrize("name", ["C5-2v", "L11-5v"])
def test_axial_correlation_of_speckle_is_that_of_the_pulse(name):
    """V5: autocorrelation +- 10 %; dr = a fifth of the width, so that the lag is resolved."""
    probe = load_probe(name)
    width = axial_width(probe)
    iq, ranges = _iq(name, 0.03, round(0.03 / (0.2 * width)), lines=256, seeds=4)
    band = rows_between(ranges, 0.01, 0.028)
    measured = _correlation_width(iq[:, band], 1, ranges[1] - ranges[0]) / np.sqrt(2.0)
    assert measured == pytest.approx(width, rel=0.10)
