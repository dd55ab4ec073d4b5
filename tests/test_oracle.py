"""The renderer against figures that PyMUST left in benchmarks/oracle.json (no pymust needed here).

Mutations seen to fail: lateral_a 1.34 -> 1.6 in L11-5v.toml; grey target of -7.5 dB in phantom.toml.
"""

import importlib.util
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PROBE = "L11-5v"


def _oracle():
    spec = importlib.util.spec_from_file_location("oracle_pymust", BENCHMARKS / "oracle_pymust.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def oracle():
    return _oracle()


@pytest.fixture(scope="module")
def figures(oracle):
    """(PyMUST's, ours) of L11-5v."""
    reference = json.loads((BENCHMARKS / "oracle.json").read_text())["reference"]
    return reference[PROBE], oracle.rendered_figures(PROBE)


@pytest.mark.parametrize(("axis", "tolerance"), [("axial_mm", 0.10), ("lateral_mm", 0.10)])
def test_point_spread_of_a_linear_array_is_that_of_the_oracle(figures, axis, tolerance):
    theirs, ours = figures
    assert ours[axis] == pytest.approx(theirs[axis], rel=tolerance)


def test_contrast_to_noise_is_that_of_the_oracle(figures):
    """+- 10 %; anechoic targets at least as dark."""
    theirs, ours = figures
    assert ours["grey_cnr"] == pytest.approx(theirs["grey_cnr"], rel=0.10)
    assert ours["anechoic_cnr"] == pytest.approx(theirs["anechoic_cnr"], rel=0.10)
    assert ours["grey_db"] == pytest.approx(theirs["grey_db"], abs=0.5)
    assert ours["anechoic_db"] < -40.0


def test_envelope_histogram_is_that_of_the_oracle(oracle, figures):
    """Kolmogorov-Smirnov distance <= .05 once the means agree."""
    theirs, ours = figures
    assert oracle.kolmogorov_smirnov(theirs["quantiles"], ours["quantiles"]) <= 0.05


def test_speckle_of_few_scatterers_has_the_oracles_signal_to_noise(figures):
    """.5, 1, 2, 5, 10 in a cell; PyMUST's own values are known to .04."""
    theirs, ours = figures
    assert ours["speckle_snr"] == pytest.approx(theirs["speckle_snr"], abs=0.10)


def test_committed_figures_of_both_probes_are_within_the_stated_bounds(oracle):
    content = json.loads((BENCHMARKS / "oracle.json").read_text())
    for probe in oracle.PROBES:
        theirs, ours = content["reference"][probe], content["renderer"][probe]
        assert ours["axial_mm"] == pytest.approx(theirs["axial_mm"], rel=0.10)
        assert ours["lateral_mm"] == pytest.approx(theirs["lateral_mm"], rel=0.10)
        assert theirs["speckle_snr"] == pytest.approx(oracle.TABLE_SNR, abs=0.08)
        assert oracle.kolmogorov_smirnov(theirs["quantiles"], ours["quantiles"]) <= 0.05


def test_distance_of_distributions_is_zero_for_one_and_known_for_a_shift(oracle):
    first = oracle.QUANTILES  # uniform on [0, 1]
    assert oracle.kolmogorov_smirnov(first, first) == 0.0
    assert oracle.kolmogorov_smirnov(first, first + 0.2) == pytest.approx(0.2, abs=0.01)
