"""The probe that looks all round from inside the body: lines, seam, contact, scan conversion."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from laboratory import envelope, level, render

from sonogym.anatomy.phantoms import homogeneous, phantom, phantom_pose
from sonogym.anatomy.tissues import Tissue
from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose
from sonogym.ultrasound.psf import lateral_width
from sonogym.ultrasound.scan_conversion import ScanConverter
from sonogym.ultrasound.transducer import load_probe

PROBE = load_probe("radial360")
BLOCK = homogeneous(Tissue.LIVER, 2e-3, (0.16, 0.15, 0.03))
MIDDLE = phantom_pose(press=0.07)


def test_lines_leave_a_circle_outwards_at_equal_angles():
    origin, direction = PROBE.scanlines(8)
    angle = torch.arange(8) * math.pi / 4
    torch.testing.assert_close(direction, torch.stack((angle.sin(), 0 * angle, angle.cos()), dim=-1))
    torch.testing.assert_close(origin, 8.5e-3 * direction)
    pitch = PROBE.line_pitch(8, torch.tensor([0.0, 0.0115]))
    torch.testing.assert_close(pitch, torch.tensor([8.5e-3, 0.02]) * math.pi / 4)


def test_a_point_at_a_known_angle_is_drawn_there():
    """V27: the place of a beam sample, in each of the four quadrants and across the seam."""
    convert = ScanConverter(PROBE, 360, 600, PROBE.depth, 401, 401)
    for degrees in (0, 45, 135, 200, 315, 359):
        beam = torch.zeros(600, 360)
        beam[297:303, degrees] = 1.0
        image = convert(beam)
        z, x = torch.meshgrid(convert.z, convert.x, indexing="ij")
        place = torch.stack(((image * x).sum(), (image * z).sum())) / image.sum()
        assert float(place.norm()) == pytest.approx(PROBE.radius + 0.5 * PROBE.depth, rel=0.01)
        turn = math.degrees(math.atan2(float(place[0]), float(place[1]))) - degrees
        assert abs((turn + 180) % 360 - 180) <= 0.5


def test_picture_has_no_seam():
    """A pattern of whole waves round the circle is drawn without a step where the last line meets the first."""
    convert = ScanConverter(PROBE, 64, 32, PROBE.depth, 200, 200)
    wave = torch.cos(torch.arange(64) * 2 * math.pi / 64).expand(32, 64)
    below = convert(wave.contiguous())[150:, 98:102]
    assert float(below[:, 1:].sub(below[:, :-1]).abs().max()) < 0.01
    assert float(below[:40].min()) > 0.99


def test_the_first_and_the_last_line_are_neighbours():
    """Speckle decorrelates across the seam exactly as anywhere else (V5)."""
    iq = render(BLOCK, PROBE, seeds=2, pose=MIDDLE, lines=360, samples=240, depth=0.03, outputs=("iq",)).iq.numpy()
    across = np.abs((iq * np.roll(iq, 1, axis=2).conj()).sum((0, 1)))
    power = (np.abs(iq) ** 2).sum((0, 1))
    correlation = across / np.sqrt(power * np.roll(power, 1))
    assert correlation[0] == pytest.approx(np.median(correlation), abs=0.05)
    assert correlation[0] > 0.5


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_turning_the_probe_by_whole_lines_turns_the_frame(backend):
    """No line is special, the first and the last included: only the hash's rounding differs."""
    settings = {"lines": 64, "samples": 48, "depth": 0.03, "backend": backend}
    plain, _ = envelope(BLOCK, PROBE, pose=MIDDLE, **settings)
    turn = Pose.exp(torch.tensor([0.0, 0.0, 0.0, 0.0, 2 * math.pi * 4 / 64, 0.0]))
    turned, _ = envelope(BLOCK, PROBE, pose=MIDDLE @ turn, **settings)
    assert plain.shape == turned.shape == (1, 48, 64)
    difference = np.abs(np.roll(plain, -4, axis=2) - turned) / np.sqrt((plain**2).mean())
    assert np.median(difference) < 0.01
    assert np.median(difference[:, :, [59, 60]]) < 0.01


def test_mean_grey_is_the_same_all_round():
    """V6 in angle: each quarter of the circle within .5 dB of the whole."""
    values, _ = envelope(BLOCK, PROBE, seeds=8, pose=MIDDLE, lines=360, samples=480, depth=0.03)
    values = values / np.sqrt((values**2).mean(axis=(0, 2), keepdims=True))
    middles = [np.roll(values, 20 - at, axis=2)[:, 60:, :40] for at in range(0, 360, 45)]
    levels = [level(part) for part in middles]
    assert max(levels) - min(levels) <= 1.0, levels
    assert max(abs(one - level(values[:, 60:])) for one in levels) <= 0.5, levels


def test_no_skin_is_needed():
    """All lines are coupled although the skin is 7 cm away; a linear probe there is pressed in to no use."""
    values, _ = envelope(BLOCK, PROBE, pose=MIDDLE, lines=64, samples=64, depth=0.03, contact=True)
    bare, _ = envelope(BLOCK, PROBE, pose=MIDDLE, lines=64, samples=64, depth=0.03, contact=False)
    assert np.array_equal(values, bare)


def test_lateral_width_round_the_circle_is_that_of_the_aperture():
    """V8: section 5 +- 15 % at three depths."""
    iq = render(BLOCK, PROBE, seeds=3, pose=MIDDLE, lines=1440, samples=500, depth=0.05, outputs=("iq",))
    ranges = iq.depth.double().numpy()
    iq = iq.iq.numpy()
    iq = iq / np.sqrt((np.abs(iq) ** 2).mean(axis=(0, 2), keepdims=True))
    for place in (0.015, 0.03, 0.042):
        band = (ranges > 0.97 * place) & (ranges < 1.03 * place)
        pitch = float(PROBE.line_pitch(1440, torch.tensor([place]))[0])
        part = iq[:, band]
        lags = np.arange(1, 20)
        values = np.array([abs((part * np.roll(part, lag, axis=2).conj()).mean()) for lag in lags])
        values /= (np.abs(part) ** 2).mean()
        used = lags[(values > 0.3) & (values < 0.93)]
        slope = np.polyfit((used * pitch) ** 2, np.log(values[used - 1]), 1)[0]
        measured = 2 * np.sqrt(np.log(2) / -slope) / np.sqrt(2)
        expected = max(float(lateral_width(PROBE, torch.tensor(place))), 1.5 * pitch)
        assert measured == pytest.approx(expected, rel=0.15), place


def test_wall_round_the_probe_is_seen_as_a_circle():
    """A tube of fluid of 25 mm about the axis: its wall is met 25 mm - R from the face all round."""

    def tube(points):
        return torch.hypot(points[..., 0], points[..., 1] - 0.07) <= 0.025

    body = phantom("tube", Tissue.LIVER, [(Tissue.FLUID, tube)], 1e-3, (0.12, 0.14, 0.02))
    values, depth = envelope(body, PROBE, pose=MIDDLE, lines=96, samples=400, depth=0.03)
    deep = depth > 5e-3  # below the echo of the face
    values, depth = values[0, deep], depth[deep]
    wall = depth[(values > 0.25 * values.max(0)).argmax(0)]
    assert np.median(wall) == pytest.approx((0.025 - PROBE.radius) * 1540 / 1520, abs=1e-3)
    assert np.abs(wall - np.median(wall)).max() < 2e-3


def test_a_ring_that_does_not_close_is_refused():
    with pytest.raises(InvalidInputError, match="elements x pitch"):
        replace(PROBE, elements=200, field_of_view=0.0)
