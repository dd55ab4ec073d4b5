"""Measurements of the quality phantom, on synthetic images whose answers are known.

Mutations seen to fail: half maximum taken at 1/sqrt(2); moment about zero instead of the mean; centroid without its
threshold; contrast from 10 log10; CNR over the sum of the deviations; gCNR as overlap, and its law with another power;
mean instead of largest deviation; penetration ratio of 1.61; power with the noise left in; speckle cell of one
axis; lesion of four times the area; valley of 3 dB; tiny side peaks counted as a pair.
"""

import math

import numpy as np
import pytest

from sonogym.ultrasound.qa import measures

RNG = np.random.default_rng(7)


def gaussian(place, centre, width):
    return np.exp(-4 * math.log(2) * ((place - centre) / width) ** 2)


def rayleigh(level, count=200_000):
    return RNG.rayleigh(10 ** (level / 20) / math.sqrt(2), count)


@pytest.mark.parametrize("step", [0.05, 0.2, 0.3])
def test_width_of_a_gaussian_is_its_own_also_on_coarse_samples(step):
    place = np.arange(-4, 4, step)
    assert measures.full_width(place, gaussian(place, 0.07, 1.3)) == pytest.approx(
        1.3, rel=0.035 if step > 0.1 else 0.002
    )


def test_width_of_a_peak_that_never_falls_to_half_is_infinite():
    place = np.linspace(0, 1, 11)
    assert measures.full_width(place, 1.5 + gaussian(place, 0.5, 0.1)) == math.inf


def test_width_counts_the_highest_peak_only():
    place = np.arange(-6, 6, 0.02)
    profile = gaussian(place, -3, 0.5) + 0.6 * gaussian(place, 3, 2.0)
    assert measures.full_width(place, profile) == pytest.approx(0.5, rel=0.01)


def test_moment_width_of_a_shifted_gaussian_and_of_a_box():
    place = np.arange(-8, 8, 0.01)
    assert measures.moment_width(place, gaussian(place, 1.5, 1.2)) == pytest.approx(1.2, rel=1e-3)
    box = (np.abs(place - 2.0) <= 1.0).astype(float)
    assert measures.moment_width(place, box) == pytest.approx(2.3548 * 2.0 / math.sqrt(12.0), rel=0.01)


def test_centroid_of_a_blob_on_a_bright_ground():
    rows, columns = np.arange(0, 4, 0.1), np.arange(-3, 5, 0.1)
    blob = 40 + 200 * gaussian(rows, 1.73, 0.4)[:, None] * gaussian(columns, 0.31, 0.9)
    assert measures.centroid(blob, rows, columns, 120.0) == pytest.approx((1.73, 0.31), abs=0.01)


@pytest.mark.parametrize("level", [-9.0, -3.0, 3.0, 6.0])
def test_contrast_of_rayleigh_noise_follows_its_closed_forms(level):
    target, background = rayleigh(level), rayleigh(0.0)
    assert measures.contrast_decibels(target, background) == pytest.approx(level, abs=0.05)
    law = measures.rayleigh_contrast_to_noise(level)
    assert measures.contrast_to_noise(target, background) == pytest.approx(law, rel=0.02)
    law = measures.rayleigh_generalized_contrast_to_noise(level)
    assert measures.generalized_contrast_to_noise(target, background) == pytest.approx(law, abs=0.01)


def test_closed_forms_at_known_points():
    assert pytest.approx(1.9131, abs=1e-4) == measures.RAYLEIGH_SNR
    assert measures.rayleigh_contrast_to_noise(-200.0) == pytest.approx(measures.RAYLEIGH_SNR)
    assert measures.rayleigh_generalized_contrast_to_noise(0.0) == 0.0
    assert measures.rayleigh_generalized_contrast_to_noise(-10 * math.log10(2)) == pytest.approx(0.25)  # r = 1/2
    assert measures.rayleigh_generalized_contrast_to_noise(40.0) > 0.99


def test_generalized_contrast_does_not_depend_on_the_display_law():
    target, background = rayleigh(-6.0), rayleigh(0.0)
    plain = measures.generalized_contrast_to_noise(target, background)
    assert measures.generalized_contrast_to_noise(np.log(target), np.log(background)) == pytest.approx(plain, abs=1e-3)


def test_non_uniformity_is_the_worst_line():
    frames = np.ones((3, 50, 40))
    frames[:, :, 7] *= 10 ** (-2.5 / 20)
    frames[:, :, 30] *= 10 ** (1.5 / 20)
    assert measures.non_uniformity(frames) == pytest.approx(2.5)


@pytest.mark.parametrize("slope", [300.0, 700.0])
def test_penetration_is_where_echoes_equal_the_noise(slope):
    """Signal of 0 dB at the face falling ``slope`` dB/m, noise of -60 dB."""
    depth = np.arange(0.0, 0.3, 2e-4)
    noise = 10 ** (-60 / 20) * np.ones_like(depth)
    signal = np.sqrt(10 ** (-slope * depth / 10) + noise**2)
    assert measures.penetration_depth(depth, signal, noise) == pytest.approx(60.0 / slope, rel=2e-3)


def test_penetration_is_infinite_where_the_noise_is_never_reached():
    depth = np.linspace(0.0, 0.1, 200)
    assert measures.penetration_depth(depth, np.ones(200), np.full(200, 1e-4)) == math.inf


def test_speckle_cell_is_the_integral_of_the_squared_correlation():
    place = np.arange(-10, 10, 0.01)
    beam = gaussian(place, 0, 1.4)
    correlation = np.convolve(beam, beam, "same") / (beam**2).sum()
    one = (correlation**2).sum() * 0.01
    assert measures.speckle_cell(1.4, 0.5) == pytest.approx(one * one * 0.5 / 1.4, rel=1e-3)


def test_detectability_of_a_disc_grows_with_contrast_and_diameter():
    cell = 0.4
    assert measures.lesion_signal_to_noise(0.0, 5.0, cell) == 0.0
    assert measures.lesion_signal_to_noise(-3.0, 10.0, cell) == pytest.approx(
        2.0 * measures.lesion_signal_to_noise(-3.0, 5.0, cell)
    )
    cells = 40  # independent exponential cells of intensity: the reading is their mean
    target = RNG.exponential(10**-0.3, (20_000, cells)).mean(1)
    around = RNG.exponential(1.0, (20_000, cells)).mean(1)
    diameter = math.sqrt(4 * cells * cell / math.pi)
    law = measures.lesion_signal_to_noise(-3.0, diameter, cell)
    assert measures.detectability(target, around) == pytest.approx(law, rel=0.03)


def test_pairs_are_resolved_from_the_spacing_of_the_closed_form_on():
    width = 1.0
    edge = measures.gaussian_pair_resolved(width)
    place = np.arange(-6, 6, 0.005)
    spacings = (2.0 * edge, 1.01 * edge, 0.99 * edge, 0.3 * edge)
    profiles = [gaussian(place, -s / 2, width) + gaussian(place, s / 2, width) for s in spacings]
    assert measures.smallest_resolved(spacings, profiles) == pytest.approx(1.01 * edge)


def test_a_single_peak_with_small_ripples_is_no_pair():
    place = np.arange(-6, 6, 0.02)
    profile = gaussian(place, 0, 1) + 0.05 * (1 + np.cos(9 * place))
    assert measures.smallest_resolved((1.0,), [profile]) == math.inf
