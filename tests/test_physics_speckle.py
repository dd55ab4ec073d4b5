"""Laws of the envelope in homogeneous tissue (physics.md section 9, V1-V3, V6)."""

import numpy as np
import pytest
from laboratory import envelope, flattened, level, rows_between

from sonogym.anatomy.phantoms import homogeneous, phantom_pose

LIVER = homogeneous(spacing=2e-3)
VIEW = {"lines": 128, "samples": 640, "depth": 0.08}  # dr = .125 mm, under a third of the axial width


@pytest.fixture(scope="module", params=["numba", "reference"])
def speckle(request):
    """>= 2e4 independent cells of C5-2v speckle, pressed until the whole face touches."""
    seeds = 6 if request.param == "numba" else 3
    values, depth = envelope(
        LIVER, "C5-2v", seeds=seeds, pose=phantom_pose(press=0.0104), backend=request.param, **VIEW
    )
    return flattened(values)[:, rows_between(depth, 0.02, 0.075)]


def test_mean_over_deviation_of_the_envelope_is_rayleigh(speckle):
    """V1: SNR 1.91 +- .05."""
    assert speckle.mean() / speckle.std() == pytest.approx(1.91, abs=0.05)


def test_nakagami_shape_is_one(speckle):
    """V2: m = E[x^2]^2 / Var[x^2] = 1.00 +- .05."""
    power = speckle**2
    assert power.mean() ** 2 / power.var() == pytest.approx(1.0, abs=0.05)


def test_deviation_of_the_log_envelope_is_rayleigh(speckle):
    """V3: 5.57 +- .20 dB."""
    assert (20 * np.log10(speckle)).std() == pytest.approx(5.57, abs=0.20)


def _grey(**change):
    settings = {"lines": 128, "samples": 512, "depth": 0.06, "seeds": 3, **change}
    values, depth = envelope(LIVER, "L11-5v" if settings["depth"] < 0.05 else "flat75", **settings)
    return level(values[:, rows_between(depth, 0.02, 0.055)])


@pytest.mark.parametrize(
    "change",
    [
        {"lines": 64},
        {"lines": 256},
        {"samples": 256},
        {"samples": 1024},
        {"planes": 3},
        {"planes": 5},
        {"lattice": 0.75e-4},
        {"lattice": 1.5e-4},
    ],
    ids=str,
)
def test_mean_grey_does_not_depend_on_sampling(change):
    """V6: <= .5 dB when lines, samples, planes or lattice are halved or doubled."""
    assert abs(_grey(**change) - _grey()) <= 0.5


@pytest.mark.parametrize("backend", ["numba", "reference"])
@pytest.mark.parametrize(
    ("name", "lines", "samples", "depth"),
    [("L11-5v", 128, 400, 0.04), ("C5-2v", 64, 64, 0.16), ("C5-2v", 256, 320, 0.08)],
)
def test_outermost_lines_are_as_bright_as_the_others(name, lines, samples, depth, backend):
    """V6 across the frame: <= 1 dB, where the beam's own neighbours are missing."""
    view = {"lines": lines, "samples": samples, "depth": depth, "backend": backend}
    values, ranges = envelope(LIVER, name, seeds=24 if samples == 64 else 8, pose=phantom_pose(press=0.02), **view)
    power = (values[:, ranges > 0.01] ** 2).mean(axis=0)
    power = (power / power[:, 20:-20].mean(axis=1, keepdims=True)).mean(axis=0)
    assert np.abs(10 * np.log10(power[[0, 1, 2, -3, -2, -1]])).max() <= 1.0


@pytest.mark.parametrize("press", [0.01, 0.015])
def test_mean_grey_does_not_depend_on_compression(press):
    """V6 under the probe: <= .4 dB where tissue is compressed by up to a half, for the pulse of every sample."""
    view = {"lines": 64, "samples": 512, "depth": 0.045, "seeds": 8, "pose": phantom_pose(press=press)}
    pressed, depth = envelope(LIVER, "L11-5v", contact=True, **view)
    loose, _ = envelope(LIVER, "L11-5v", contact=False, **view)
    for top in (0.01, 0.02, 0.03):
        rows = rows_between(depth, top, top + 0.01)
        assert abs(level(pressed[:, rows]) - level(loose[:, rows])) <= 0.4, top


def test_frames_of_other_seeds_are_independent_and_of_the_same_seed_equal():
    first, _ = envelope(LIVER, lines=64, samples=256, depth=0.05, seeds=2)
    again, _ = envelope(LIVER, lines=64, samples=256, depth=0.05, seeds=2)
    assert np.array_equal(first, again)
    one, other = (20 * np.log10(frame) for frame in first)
    one, other = (frame - frame.mean(axis=1, keepdims=True) for frame in (one, other))
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.1


def test_speckle_moves_with_the_tissue_when_the_probe_slides():
    """V18, rigid: after a slide by four scan lines the frame is the old one, four lines on: correlation > .95."""
    shift, lines = 4, 151  # flat75: .5 mm between lines
    view = {"lines": lines, "samples": 512, "depth": 0.06}
    still, depth = envelope(LIVER, **view)
    slid, _ = envelope(LIVER, pose=phantom_pose(lateral=shift * 0.5e-3), **view)
    rows = rows_between(depth, 0.01, 0.055)
    assert np.corrcoef(still[0, rows, shift:].ravel(), slid[0, rows, :-shift].ravel())[0, 1] > 0.95
