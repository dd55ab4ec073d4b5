"""Attenuation lowers the frequency of echoes from depth."""

import dataclasses

import numpy as np
import pytest
import torch
from laboratory import BACKENDS, envelope, probe_at, rows_between

from sonogym.anatomy.phantoms import homogeneous
from sonogym.anatomy.tissues import Tissue
from sonogym.ultrasound.acoustics import load_acoustics_table
from sonogym.ultrasound.beam import beam_tables
from sonogym.ultrasound.downshift import centre_frequency, level_gain
from sonogym.ultrasound.frame import RenderConfig
from sonogym.ultrasound.transducer import load_probe

TABLE = load_acoustics_table()
DEPTHS = torch.linspace(0.002, 0.08, 14)


def _spectrum(probe, depth):
    """Centroid [Hz] and peak of the pulse's spectrum after 2 z of .5 dB/cm/MHz, frequency by frequency."""
    f0 = probe.center_frequency
    f = np.linspace(-3 * f0, 5 * f0, 400001)
    pulse = 0.5 ** ((2 * (f - f0) / (probe.effective_bandwidth * f0)) ** 2)  # half at the edges of B_eff
    left = pulse * 10 ** (-2 * 50 * depth * (f * 1e-6) / 20)
    return (f * left).sum() / left.sum(), left.max()


@pytest.mark.parametrize("name", ["C5-2v", "L11-5v", "P4-2v"])
def test_centroid_and_level_are_those_of_the_attenuated_spectrum(name):
    """f0 - 2 a z sigma^2, and exp((2 a z sigma)^2 / 2) over the law of the centre frequency: +- .1 %."""
    probe = load_probe(name)
    depths = DEPTHS[(0.03 if name == "L11-5v" else 1.0) > DEPTHS]
    shifted, gain = centre_frequency(probe, depths.double()), level_gain(probe, depths.double())
    for i, z in enumerate(depths.tolist()):
        centroid, peak = _spectrum(probe, z)
        at_centre = 10 ** (-2 * 50 * z * probe.center_frequency * 1e-6 / 20)
        assert float(shifted[i]) == pytest.approx(centroid, rel=1e-3)
        assert float(gain[i]) == pytest.approx(peak / at_centre, rel=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_deep_liver_is_as_much_brighter_as_its_spectrum_says(backend):
    """The envelope with and without, row by row: the peak of the attenuated spectrum, +- .5 dB."""
    probe = probe_at(5.0)
    view = {"lines": 64, "samples": 384, "depth": 0.09, "backend": backend, "seeds": 2}
    (off, depth), (on, _) = (envelope(homogeneous(spacing=2e-3), probe, downshift=d, **view) for d in (False, True))
    for low, high in ((0.01, 0.02), (0.04, 0.05), (0.07, 0.08)):
        rows = rows_between(depth, low, high)
        z = 0.5 * (low + high)
        law = _spectrum(probe, z)[1] * 10 ** (2 * 50 * z * 5 / 20)
        got = 10 * np.log10((on[:, rows] ** 2).mean() / (off[:, rows] ** 2).mean())
        assert got == pytest.approx(20 * np.log10(law), abs=0.5)


def test_beam_widens_with_the_wavelength_and_noise_stays():
    """At the focus w = a lambda(z) F: both parts of the width are diffraction."""
    probe = dataclasses.replace(load_probe("C5-2v"), lateral_b=0.0)
    config = RenderConfig(lines=512, samples=512, depth=0.14, outputs=("envelope",))
    plain = beam_tables(probe, config, TABLE)
    shifted = beam_tables(probe, dataclasses.replace(config, downshift=True), TABLE)
    k = 280
    z = float(plain.ranges[k])
    ratio = _width(shifted.lateral[k]) / _width(plain.lateral[k])
    assert ratio == pytest.approx(probe.center_frequency / _spectrum(probe, z)[0], rel=0.02)
    noise = [tables.row[:, 2].numpy() * _spread(tables) for tables in (plain, shifted)]
    assert noise[0] == pytest.approx(noise[1], rel=1e-5)


def _width(half):
    """Second moment of a half kernel."""
    at = np.arange(len(half))
    return np.sqrt((half.numpy() * at**2).sum() / (half.numpy().sum() - 0.5 * float(half[0])))


def _spread(tables):
    """RMS of white noise behind both kernels."""
    lateral = 2 * tables.lateral.square().sum(1) - tables.lateral[:, 0].square()
    return (lateral * tables.axial.square().sum()).sqrt().numpy()


def test_frequency_never_falls_out_of_the_band():
    probe = load_probe("L11-5v")
    assert float(centre_frequency(probe, torch.tensor([0.3]))) == pytest.approx(0.3 * probe.center_frequency)
    assert load_acoustics_table().attenuation[Tissue.LIVER] == pytest.approx(50.0)
