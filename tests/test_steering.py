"""Steered lines of linear probes, their parallelogram, and spatial compounding."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from laboratory import BARE, envelope

from sonogym.anatomy.phantoms import homogeneous, phantom_pose, tilted, wires
from sonogym.anatomy.tissues import Tissue
from sonogym.errors import InvalidInputError
from sonogym.ultrasound.compounding import CompoundRenderer, independent_angle
from sonogym.ultrasound.frame import RenderConfig
from sonogym.ultrasound.renderer import Renderer
from sonogym.ultrasound.scan_conversion import ScanConverter
from sonogym.ultrasound.transducer import load_probe, sample_ranges

LINEAR = ["flat75", "L11-5v", "L12-3v"]
ONE = torch.zeros(1, dtype=torch.int64)
POSE = phantom_pose().unsqueeze(0)
SIZE = (0.09, 0.06, 0.02)


@pytest.mark.parametrize("name", LINEAR)
def test_steered_lines_leave_the_same_face_in_parallel(name):
    probe = load_probe(name)
    origin, direction = replace(probe, steering=0.3).scanlines(33)
    assert torch.equal(origin, probe.scanlines(33)[0])
    torch.testing.assert_close(direction, torch.tensor([math.sin(0.3), 0.0, math.cos(0.3)]).expand(33, 3))
    pitch = replace(probe, steering=0.3).line_pitch(33, torch.zeros(1))
    across = torch.linalg.cross(origin[1] - origin[0], direction[0]).norm()
    torch.testing.assert_close(pitch[0], across)


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("steering", [-0.35, 0.2])
def test_parallelogram_keeps_distances_angles_and_areas(name, steering):
    """V27 of steered lines."""
    probe = replace(load_probe(name), steering=steering)
    convert = ScanConverter(probe, 512, 1024, probe.depth, 300, 300)
    centre = 0.5 * probe.depth * torch.tensor([math.sin(steering), 0.0, math.cos(steering)])
    radius = 0.2 * min(probe.depth, probe.width)
    origin, direction = probe.scanlines(512)
    points = origin + sample_ranges(1024, probe.depth)[:, None, None] * direction
    image = convert(((points - centre).norm(dim=-1) <= radius).float())
    assert float(image.sum()) * convert.pixel**2 == pytest.approx(math.pi * radius**2, rel=0.02)
    z, x = torch.meshgrid(convert.z, convert.x, indexing="ij")
    middle = torch.stack(((image * x).sum(), (image * z).sum())) / image.sum()
    assert float((middle - centre[[0, 2]]).norm()) <= max(convert.pixel, 0.01 * float(centre.norm()))
    turn = torch.atan2(middle[0], middle[1]) - steering
    assert abs(math.degrees(float(turn))) <= 0.5
    inside = float(convert.inside.sum()) * convert.pixel**2
    assert inside == pytest.approx(probe.width * probe.depth * math.cos(steering), rel=0.02)


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_a_steered_wire_is_seen_along_its_line(backend):
    """A wire at (6, 25) mm lies on the line that starts at 6 - 25 tan b, 25 / cos b from the face."""
    body = wires([(0.006, 0.025)], 1e-3, spacing=5e-4, size=(0.08, 0.04, 0.01))
    settings = {"lines": 151, "samples": 200, "depth": 0.04, "steering": 0.25, "pitch": 5e-4, "backend": backend}
    values, depth = envelope(body, "flat75", **settings)
    values[:, depth < 5e-3] = 0.0
    row, line = np.unravel_index(values[0].argmax(), values[0].shape)
    at = (line / 150 - 0.5) * 0.075
    assert at == pytest.approx(0.006 - 0.025 * math.tan(0.25), abs=1.2e-3)
    assert depth[row] == pytest.approx((0.025 / math.cos(0.25) - 1e-3) * 1540 / 1500, abs=1e-3)


def _compound(body, angles, probe="flat75", **settings):
    settings = {"lines": 256, "samples": 300, "depth": 0.045, "outputs": ("envelope",), "pitch": 1e-3, **settings}
    return CompoundRenderer(Renderer([body], probe, RenderConfig(**BARE, **settings)), angles)


def test_one_unsteered_view_is_the_plain_frame():
    body = homogeneous(Tissue.LIVER, 2e-3, SIZE)
    compound = _compound(body, (0.0,), outputs=("envelope", "image"), image_size=(90, 150))
    plain = Renderer([body], "flat75", compound.config).render(POSE, ONE)
    got = compound.render(POSE, ONE)
    torch.testing.assert_close(got.envelope, plain.envelope, rtol=1e-3, atol=5e-6)
    assert int((got.beam.int() - plain.beam.int()).abs().max()) <= 1
    assert int((got.image.int() - plain.image.int()).abs().max()) <= 1
    assert got.extent == plain.extent


def test_speckle_contrast_falls_as_the_root_of_the_number_of_views():
    """Mean over standard deviation of N independent views: sqrt(N) x 1.91, where all of them overlap."""
    body = homogeneous(Tissue.LIVER, 2e-3, SIZE)
    for angles in ((0.0,), (-0.185, 0.185), (-0.37, -0.185, 0.0, 0.185, 0.37)):
        values = _compound(body, angles, lines=512, samples=900).render(POSE, ONE).envelope[0].double().numpy()
        part = values[140:640, 160:352]
        part = part / part.mean(1, keepdims=True)
        wanted = 1.91 * math.sqrt(len(angles))
        assert 1 / part.std() == pytest.approx(wanted, rel=0.08), angles


def test_a_wire_stays_in_its_place():
    """Within one pixel of .5 mm of where the unsteered view shows it."""
    body = wires([(0.008, 0.02)], 1e-3, spacing=5e-4, size=(0.08, 0.03, 0.01))
    settings = {"depth": 0.03, "samples": 200, "pitch": 5e-4, "outputs": ("image",), "image_size": (60, 150)}
    pictures = [
        _compound(body, angles, **settings).render(POSE, ONE).image[0, 0].float()
        for angles in ((0.0,), (-0.2, 0.0, 0.2))
    ]
    places = []
    for picture in pictures:
        picture = picture[16:] * (picture[16:] > 0.8 * picture[16:].max())
        row, column = torch.meshgrid(torch.arange(44.0), torch.arange(150.0), indexing="ij")
        places.append(torch.stack(((picture * row).sum(), (picture * column).sum())) / picture.sum())
    assert float((places[0] - places[1]).abs().max()) <= 1.0
    assert float(places[0][0] + 16) == pytest.approx((0.019 * 1540 / 1500) / 0.5e-3, abs=2.0)


def test_a_slanted_plate_is_brighter_with_a_view_that_meets_it_straight():
    """An interface at 10 degrees: its specular echo is weakened unsteered and caught by the view steered onto it."""
    body = tilted(0.02, math.radians(10.0), Tissue.FLUID, Tissue.CARTILAGE, 5e-4, (0.08, 0.04, 0.01))
    peaks = []
    for angles in ((0.0,), (0.0, 0.185)):
        values = _compound(body, angles, depth=0.035, pitch=5e-4).render(POSE, ONE).envelope[0]
        peaks.append(float(values[60:, 108:148].amax(0).median()))
    assert peaks[1] > 1.1 * peaks[0]


def test_independent_angle_follows_from_wavelength_and_width():
    """L11-5v: 2 k s sin b = sqrt(2 ln 10), s = w / 2.355."""
    probe = load_probe("L11-5v")
    angle = independent_angle(probe)
    width = 0.35e-3
    rough = math.asin(math.sqrt(2 * math.log(10)) * 2.355 / width * 1540 / 7.6e6 / (4 * math.pi))
    assert angle == pytest.approx(rough, rel=0.2)


@pytest.mark.parametrize(
    ("probe", "angles", "settings", "message"),
    [
        ("flat75", (), {}, "at least one angle"),
        ("flat75", (0.0, 0.05), {}, "apart"),
        ("flat75", (0.0, 0.0), {}, "apart"),
        ("flat75", (0.0, 20.0), {}, "degrees"),
        ("flat75", (0.0,), {"outputs": ("iq",)}, "has only"),
        ("flat75", (0.0,), {"steering": 0.1}, "unsteered"),
        ("C5-2v", (-0.3, 0.3), {}, "linear probes only"),
    ],
)
def test_impossible_compounds_are_refused(probe, angles, settings, message):
    body = homogeneous(Tissue.LIVER, 4e-3, SIZE)
    with pytest.raises(InvalidInputError, match=message):
        _compound(body, angles, probe, lines=32, samples=32, **settings)
