"""Probes: geometry of the scan lines, widths of the beam, scan conversion, and what is refused."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sonogym.errors import InvalidInputError, MissingFileError, UnknownNameError
from sonogym.resources import asset_names
from sonogym.ultrasound.postprocess import decibels, log_compress, tgc_decibels, to_bytes
from sonogym.ultrasound.psf import axial_width, elevation_width, lateral_width
from sonogym.ultrasound.scan_conversion import ScanConverter
from sonogym.ultrasound.transducer import load_probe, probe_from_table, sample_ranges

PROBES = asset_names("probes", ".toml")


@pytest.mark.parametrize("name", [name for name in PROBES if load_probe(name).kind != "radial"])
def test_scanlines_are_unit_lie_in_the_image_plane_and_mirror_left_to_right(name):
    origin, direction = load_probe(name).scanlines(65)
    torch.testing.assert_close(direction.norm(dim=-1), torch.ones(65))
    assert float(origin[:, 1].abs().max()) == float(direction[:, 1].abs().max()) == 0.0
    mirror = torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(origin.flip(0) * mirror, origin, atol=1e-7, rtol=0)
    torch.testing.assert_close(direction.flip(0) * mirror, direction, atol=1e-6, rtol=0)
    assert float(origin[32].norm()) == 0.0
    torch.testing.assert_close(direction[32], torch.tensor([0.0, 0.0, 1.0]))


def test_convex_face_is_an_arc_of_the_published_radius_and_sagitta():
    probe = load_probe("C5-2v")
    origin, direction = probe.scanlines(33)
    centre = torch.tensor([0.0, 0.0, -49.57e-3])
    torch.testing.assert_close((origin - centre).norm(dim=-1), torch.full((33,), 49.57e-3))
    torch.testing.assert_close(direction, (origin - centre) / 49.57e-3, atol=1e-5, rtol=0)
    assert probe.sagitta == pytest.approx(10.3e-3, abs=0.05e-3)
    assert -float(origin[0, 2]) == pytest.approx(probe.sagitta, abs=1e-6)
    assert math.degrees(probe.field_of_view) == pytest.approx(75.16, abs=0.05)


def test_linear_face_has_the_width_of_its_elements_and_parallel_lines():
    origin, direction = load_probe("flat75").scanlines(150)
    assert float(origin[-1, 0] - origin[0, 0]) == pytest.approx(75e-3, abs=1e-7)
    assert bool((direction == torch.tensor([0.0, 0.0, 1.0])).all())


def test_phased_lines_leave_from_one_point():
    origin, direction = load_probe("P4-2v").scanlines(9)
    assert float(origin.abs().max()) == 0.0
    assert float(torch.atan2(direction[-1, 0], direction[-1, 2])) == pytest.approx(math.pi / 4)


@pytest.mark.parametrize(("name", "millimetres"), [("C5-2v", 0.396), ("P4-2v", 0.555), ("L11-5v", 0.190)])
def test_axial_width_is_that_of_the_effective_bandwidth(name, millimetres):
    assert axial_width(load_probe(name)) == pytest.approx(1e-3 * millimetres, rel=0.01)


@pytest.mark.parametrize("name", ["C5-2v", "L11-5v"])
def test_lateral_width_is_that_of_simulated_arrays(name):
    """PyMUST's beams (benchmarks/oracle.md), most of all deep ones of a curved face."""
    depths = {"C5-2v": (0.04, 0.07, 0.10), "L11-5v": (0.015, 0.025, 0.035)}[name]
    oracle = json.loads((Path(__file__).parents[1] / "benchmarks" / "oracle.json").read_text())["reference"]
    widths = 1e3 * lateral_width(load_probe(name), torch.tensor(depths, dtype=torch.float64))
    assert widths.tolist() == pytest.approx(oracle[name]["lateral_mm"], rel=0.08)


def test_beam_widens_where_the_row_of_elements_ends():
    """P4-2v's 19.2 mm keep an f-number of 4 down to 77 mm; farther points are seen by a fixed aperture both ways."""
    probe = replace(load_probe("P4-2v"), lateral_b=0.0, transmit_focus=0.3, transmit_f_number=1.0)
    near, far = lateral_width(probe, torch.tensor([0.07, 0.16], dtype=torch.float64)).tolist()
    unit = probe.lateral_a * probe.wavelength
    assert near == pytest.approx(unit / math.hypot(1.0 / 4.0, 0.0192 / 0.07), rel=0.03)
    assert far == pytest.approx(unit * 0.16 / 0.0192 / math.sqrt(2.0), rel=0.02)


@pytest.mark.parametrize("name", PROBES)
def test_elevation_table_agrees_with_a_two_way_fresnel_integral(name):
    """V9, independent of benchmarks/beam_tables.py: the lens's delays summed in time, echoed by convolution."""
    probe = load_probe(name)
    depths = [probe.elevation_depths[i] for i in (1, len(probe.elevation_depths) // 2, -2)]
    expected = [_fresnel_width(probe, depth) for depth in depths]
    table = elevation_width(probe, torch.tensor(depths, dtype=torch.float64)).tolist()
    assert table == pytest.approx(expected, rel=0.10)


def _fresnel_width(probe, depth):
    """-6 dB width of the envelope of the two-way pulse (listed bandwidth = effective / .61), delay by delay."""
    step = 1 / (24 * probe.center_frequency)
    across = np.linspace(0, 0.75 * probe.height, 241)
    source = ((np.arange(600) + 0.5) / 600 - 0.5) * probe.height
    lens = source**2 / (2 * probe.elevation_focus)
    delay = ((across[:, None] - source) ** 2 / (2 * depth) - lens) / 1540.0
    bins = np.rint((delay - delay.min()) / step).astype(int)
    size = 2 ** math.ceil(math.log2(2 * bins.max() + 400))
    carrier = np.exp(-2j * np.pi * probe.center_frequency * delay)
    one_way = np.stack([_histogram(*row, size) for row in zip(bins, carrier, strict=True)])
    frequency = np.fft.fftfreq(size, step)
    band = np.exp(-4 * np.log(2) * (frequency / (probe.effective_bandwidth / 0.61 * probe.center_frequency)) ** 2)
    echo = np.abs(np.fft.ifft(np.fft.fft(one_way) ** 2 * band)).max(1)
    return 2 * across[echo >= 0.5 * echo.max()][-1]


def _histogram(bins, weights, size):
    return np.bincount(bins, weights.real, size) + 1j * np.bincount(bins, weights.imag, size)


def test_elevation_width_is_held_beyond_the_table():
    probe = load_probe("L11-5v")
    ends = elevation_width(probe, torch.tensor([0.0, 0.2]))
    torch.testing.assert_close(ends, torch.tensor([3.0e-3, 5.6e-3]))


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("size", [(256, 256), (128, 320)])
def test_scan_conversion_keeps_distances_angles_and_areas(name, size):
    """V27: distance <= 1 px or 1 %, disc area <= 2 %, angle <= .5 deg."""
    probe = load_probe(name)
    convert = ScanConverter(probe, 512, 1024, probe.depth, *size)
    centre = torch.tensor([0.1, 0.0, 0.55]) * probe.depth
    radius = 0.25 * min(probe.depth, probe.width if probe.kind == "linear" else probe.depth)
    inside = (_beam_distance(probe, centre) <= radius).float()
    image = convert(inside)
    assert float(image.sum()) * convert.pixel**2 == pytest.approx(math.pi * radius**2, rel=0.02)
    z, x = torch.meshgrid(convert.z, convert.x, indexing="ij")
    middle = torch.stack(((image * x).sum(), (image * z).sum())) / image.sum()
    assert float((middle - centre[[0, 2]]).norm()) <= max(convert.pixel, 0.01 * float(centre.norm()))
    apex = torch.tensor([0.0, -probe.radius if probe.kind == "convex" else 0.0])
    got, wanted = middle - apex, centre[[0, 2]] - apex
    turn = torch.atan2(got[0], got[1]) - torch.atan2(wanted[0], wanted[1])
    assert abs(math.degrees(float(turn))) <= 0.5


def _beam_distance(probe, centre):
    origin, direction = probe.scanlines(512)
    points = origin + sample_ranges(1024, probe.depth)[:, None, None] * direction
    return (points - centre).norm(dim=-1)


@pytest.mark.parametrize("name", PROBES)
def test_scan_conversion_of_a_constant_is_constant_inside_and_black_outside(name):
    probe = load_probe(name)
    convert = ScanConverter(probe, 48, 64, probe.depth, 96, 120)
    image = convert(torch.full((2, 1, 64, 48), 77, dtype=torch.uint8))
    assert image.dtype == torch.uint8
    assert image.shape == (2, 1, 96, 120)
    assert set(image[..., convert.inside].unique().tolist()) == {77}
    assert int(image[..., ~convert.inside].max()) == 0
    labels = convert.nearest(torch.full((64, 48), 5, dtype=torch.uint8))
    assert bool(((labels == 5) == convert.inside).all())


def test_flat75_at_its_published_size_has_half_millimetre_pixels():
    convert = ScanConverter(load_probe("flat75"), 150, 200, 0.1, 200, 150)
    assert convert.pixel == pytest.approx(0.5e-3)
    assert bool(convert.inside.all())
    beam = torch.arange(200.0)[:, None].expand(200, 150).contiguous()
    torch.testing.assert_close(convert(beam), beam, atol=1e-3, rtol=0)


def test_scan_converter_refuses_a_beam_of_another_shape():
    convert = ScanConverter(load_probe("flat75"), 16, 32, 0.1, 32, 32)
    with pytest.raises(InvalidInputError, match=r"\(32, 16\)"):
        convert(torch.zeros(16, 32))


def test_gain_compensates_exactly_the_attenuation_it_is_set_for_and_stops_at_eighty_decibels():
    gain = tgc_decibels(torch.tensor([0.0, 0.05, 1.0]), 3.5e6, 0.6e-4)
    torch.testing.assert_close(gain, torch.tensor([0.0, 2 * 0.6 * 3.5 * 5, 80.0]))


@settings(max_examples=30, deadline=None)
@given(st.floats(-120, 20), st.floats(40, 90))
def test_log_compression_inverts_inside_the_dynamic_range_and_clips_outside(level, span):
    grey = float(log_compress(torch.tensor(level, dtype=torch.float64), span))
    assert grey == pytest.approx(min(max(1 + level / span, 0.0), 1.0), abs=1e-9)


def test_decibels_of_a_tenth_of_the_reference_are_minus_twenty_plus_gain():
    level = decibels(torch.tensor([[0.1], [0.0]]), torch.tensor([0.0, 7.0]), 1.0)
    torch.testing.assert_close(level, torch.tensor([[-20.0], [-233.0]]))
    assert to_bytes(torch.tensor([0.0, 0.5, 1.0])).tolist() == [0, 128, 255]


def test_unknown_probe_names_the_closest():
    with pytest.raises(UnknownNameError, match="Did you mean 'C5-2v'"):
        load_probe("C5-2")


def test_missing_and_broken_probe_files_are_refused(tmp_path):
    with pytest.raises(MissingFileError):
        load_probe(str(tmp_path / "none.toml"))
    broken = tmp_path / "broken.toml"
    broken.write_text("depth_mm = ")
    with pytest.raises(InvalidInputError, match="not a TOML file"):
        load_probe(str(broken))


TABLE = {
    "name": "mine",
    "kind": "linear",
    "elements": 64,
    "center_frequency_mhz": 5,
    "pitch_mm": 0.3,
    "height_mm": 5,
    "elevation_focus_mm": 20,
    "effective_bandwidth": 0.5,
    "transmit_focus_mm": 20,
    "transmit_f_number": 2,
    "receive_f_number": 1.5,
    "lateral_a": 1.3,
    "lateral_b": 1,
    "depth_mm": 50,
    "elevation_depths_mm": [5, 40],
    "elevation_widths_mm": [3, 4.0],
}


def test_a_users_file_is_read_in_its_own_units(tmp_path):
    probe = probe_from_table(TABLE, "mine")
    assert probe.center_frequency == 5e6
    assert probe.depth == pytest.approx(0.05)
    assert probe.elevation_widths == pytest.approx((3e-3, 4e-3))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"depth_mm": -50}, InvalidInputError, "depth of probe 'mine'"),
        ({"depth_mm": 50000}, InvalidInputError, "millimetres"),
        ({"depth": 0.05}, UnknownNameError, "depth_mm"),
        ({"frequency_mhz": 5}, UnknownNameError, "center_frequency_mhz"),
        ({"elements": "many"}, InvalidInputError, "must be a number"),
        ({"name": 3}, InvalidInputError, "must be a string"),
        ({"kind": "curved"}, UnknownNameError, "probe kind"),
        ({"kind": "convex"}, InvalidInputError, "radius"),
        ({"elevation_depths_mm": [40, 5]}, InvalidInputError, "increasing"),
        ({"center_frequency_mhz": math.nan}, InvalidInputError, "center_frequency"),
    ],
)
def test_an_impossible_probe_is_refused_with_its_cause(change, error, message):
    with pytest.raises(error, match=message):
        probe_from_table({**TABLE, **change}, "mine")


def test_a_missing_key_is_named():
    with pytest.raises(InvalidInputError, match="lacks pitch_mm"):
        probe_from_table({key: value for key, value in TABLE.items() if key != "pitch_mm"}, "mine")


def test_depth_given_in_millimetres_is_refused():
    with pytest.raises(InvalidInputError, match=r"millimetres\?"):
        replace(load_probe("C5-2v"), depth=150.0)
