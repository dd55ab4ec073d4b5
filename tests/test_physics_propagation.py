"""Laws of attenuation, shadow and enhancement (physics.md section 9, V10, V15, V16, V17, V26, V28)."""

import numpy as np
import pytest
from laboratory import BACKENDS, apparent, envelope, gcnr, level, peak, probe_at, render, rows_between

from sonogym.anatomy.phantoms import cyst, homogeneous, layers, phantom, phantom_pose, plate
from sonogym.anatomy.tissues import Tissue
from sonogym.ultrasound.acoustics import load_acoustics_table
from sonogym.ultrasound.postprocess import TGC_ABDOMEN, decibels, log_compress, tgc_decibels
from sonogym.ultrasound.transducer import load_probe

TABLE = load_acoustics_table()
LIVER_SPEED = float(TABLE.speed[Tissue.LIVER])
VIEW = {"lines": 64, "samples": 384, "depth": 0.09}
SEEDS = {"numba": 4, "reference": 1}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("megahertz", [2.5, 3.5, 5.0, 7.5])
def test_attenuation_slope_is_two_alpha_f(megahertz, backend):
    """V10: -2 alpha0 f^b dB/cm of true depth +- 3 %; liver .50 dB/cm at 1 MHz, exponent 1.05."""
    values, depth = envelope(
        homogeneous(spacing=2e-3), probe_at(megahertz), backend=backend, lines=64, samples=384, depth=0.08, seeds=2
    )
    rows = rows_between(depth, 0.01, 0.075)
    rate = np.polyfit(depth[rows] * LIVER_SPEED / 1540.0, (20 * np.log10(values)).mean(axis=(0, 2))[rows], 1)[0]
    assert 0.01 * rate == pytest.approx(-2 * 0.50 * megahertz**1.05, rel=0.03)


def _behind(anatomy, backend):
    values, depth = envelope(anatomy, probe_at(3.5), backend=backend, seeds=SEEDS[backend], **VIEW)
    return level(values[:, rows_between(depth, 0.06, 0.085)])


@pytest.mark.parametrize("backend", BACKENDS)
def test_echo_vanishes_behind_bone(backend):
    """V15: >= 25 dB down behind 3 mm of cortical bone at 3.5 MHz, and by how much: 10 dB/cm/MHz and 1 - R^2 twice.

    Sound is faster in it, so that 1.35 mm of liver lie between the two depths that are shown at one place. A sample's
    tissue counts for its whole step, so the plate is thick to half a step (1.8 dB of bone).
    """
    z1, z2 = 1555.0 * 1070.0, 3450.0 * 1900.0
    faces = -40.0 * np.log10(1.0 - ((z2 - z1) / (z2 + z1)) ** 2)
    spared = 0.3 * 1555.0 / 3450.0  # cm
    expected = 2 * 0.3 * 10.0 * 3.5 + faces - 2 * spared * 0.50 * 3.5**1.05
    assert expected == pytest.approx(28.1, abs=0.05)
    lost = _behind(homogeneous(), backend) - _behind(plate(0.03, 0.003), backend)
    assert lost >= 25.0
    assert lost == pytest.approx(expected, abs=2.0)


def test_transmission_vanishes_behind_gas():
    """V15: >= 40 dB down behind gas. The transmission is tested: the envelope holds the ring-down of the gas."""
    gas = render(plate(0.03, 0.01, content=Tissue.AIR), probe_at(3.5), outputs=("transmission",), **VIEW)
    clear = render(homogeneous(), probe_at(3.5), outputs=("transmission",), **VIEW)
    rows = rows_between(gas.depth.numpy(), 0.06, 0.085)
    assert level(clear.transmission.numpy()[:, rows]) - level(gas.transmission.numpy()[:, rows]) >= 40.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_tissue_behind_fluid_is_enhanced_by_the_attenuation_it_was_spared(backend):
    """V16: 2 cm of fluid: twice the difference of the attenuations times 2 cm, +- .5 dB."""
    spared = TABLE.decibels_per_metre(3.5e6)[[Tissue.LIVER, Tissue.FLUID]]
    expected = 2 * 0.02 * float(spared[0] - spared[1])
    assert expected == pytest.approx(7.2, abs=0.1)  # 6.7 at an exponent of one
    slab = layers((0.03, 0.02), (Tissue.LIVER, Tissue.FLUID, Tissue.LIVER))
    assert _behind(slab, backend) - _behind(homogeneous(), backend) == pytest.approx(expected, abs=0.5)


def test_target_behind_fat_appears_deeper_by_its_slow_speed():
    """V17: +1.86 mm behind 30 mm of fat, +- 1 step."""
    anatomy = layers((0.03, 0.02), (Tissue.SUBCUTANEOUS_FAT, Tissue.FLUID, Tissue.BLOOD), 5e-4, (0.02, 0.06, 0.01))
    values, depth = envelope(anatomy, lines=32, samples=512, depth=0.045, pitch=5e-4)
    step = depth[1] - depth[0]
    rows = np.flatnonzero(rows_between(depth, 0.028, 0.036))
    profile = np.sqrt((values[0, rows] ** 2).mean(axis=1))
    found = depth[rows[0]] + peak(profile, step)[1]
    assert apparent(0.03, 1450.0) - 0.03 == pytest.approx(1.86e-3, abs=1e-5)
    assert found - 0.03 == pytest.approx(1.86e-3, abs=step)


def _with_bone_on_the_left(present):
    def inside(points):
        return (points[..., 0] > 0.02) & ((points[..., 1] - 0.03).abs() < 0.0015)

    shapes = [(Tissue.CORTICAL_BONE, inside)] if present else []
    return phantom("side", Tissue.LIVER, shapes)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bright_bone_elsewhere_leaves_tissue_grey_unchanged(backend):
    """V26: <= .1 dB; the patient's right is the probe's negative x, so the bone lies in the first lines."""
    frames = [
        render(_with_bone_on_the_left(present), lines=150, samples=256, depth=0.09, noise=True, backend=backend)
        for present in (False, True)
    ]
    clear, bone = (frame.envelope.double().numpy()[0, 40:] for frame in frames)
    assert level(clear[:, :20]) - level(bone[:, :20]) > 20.0
    assert np.abs(20 * np.log10(clear[:, 60:] / bone[:, 60:])).max() <= 0.1
    grey = [frame.beam[0, 0, :, 60:].int() for frame in frames]
    assert int((grey[0] - grey[1]).abs().max()) <= 1


def test_anechoic_cyst_at_the_focus_is_told_from_tissue():
    """V28: gCNR >= .95 on D before the clip, and on the 8-bit picture at 60 dB."""
    probe = load_probe("C5-2v")
    press, centre = 0.0104, 0.07
    anatomy = cyst(depth=centre + press, radius=0.01)
    frame = render(
        anatomy, probe, pose=phantom_pose(press=press), lines=192, samples=768, depth=0.1, noise=True, planes=3
    )
    origin, direction = probe.scanlines(192)
    points = origin + frame.depth[:, None, None] * (LIVER_SPEED / 1540.0) * direction
    away = np.hypot(points[..., 0].numpy(), points[..., 2].numpy() - centre)
    inside, outside = away < 0.007, (away > 0.0125) & (away < 0.018) & (abs(points[..., 0].numpy()) > 0.008)
    gain = tgc_decibels(frame.depth, probe.center_frequency, TGC_ABDOMEN)
    shown = decibels(frame.envelope[0], gain, 10 ** (28 / 20))
    assert gcnr(shown.numpy()[inside], shown.numpy()[outside]) >= 0.95
    grey = frame.beam[0, 0].float().numpy()
    assert gcnr(grey[inside], grey[outside]) >= 0.95
    assert float(log_compress(shown).max()) <= 1.0
