"""`sonogym qa`: the protocol on the real renderer, its report, and its bytes.

Mutations seen to fail: exit code always 0; penetration phantom of .5 dB/cm/MHz on either side.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from sonogym.cli import qa
from sonogym.errors import InvalidInputError, UnknownNameError
from sonogym.ultrasound.qa import contrast_tests, geometry_tests
from sonogym.ultrasound.qa.phantom import Disc, Medium
from sonogym.ultrasound.qa.plan import beside, make_plan
from sonogym.ultrasound.qa.row import Row, at_least, at_most, within
from sonogym.ultrasound.render_threads import render_threads, set_render_threads
from sonogym.ultrasound.transducer import load_probe

SMALL = """
name = "small"
kind = "linear"
elements = 64
center_frequency_mhz = 5.0
pitch_mm = 0.4
height_mm = 5.0
elevation_focus_mm = 18.0
effective_bandwidth = 0.47
transmit_focus_mm = 15.0
transmit_f_number = 2.0
receive_f_number = 1.5
lateral_a = 1.34
lateral_b = 1.08
depth_mm = 24.0
elevation_depths_mm = [5, 15, 24]
elevation_widths_mm = [3.0, 1.2, 2.0]
"""


def call(*words):
    app = typer.Typer()
    qa.register(app)
    result = CliRunner().invoke(app, list(map(str, words)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """The command on one thread, then on two."""
    folder = tmp_path_factory.mktemp("qa")
    probe = folder / "small.toml"
    probe.write_text(SMALL)
    before, contents, codes = render_threads(), [], []
    for i, threads in enumerate((1, 2)):
        set_render_threads(threads)
        out = folder / str(i)
        codes.append(call(probe, "--out", out, "--json", out / "small.json").exit_code)
        contents.append({path.name: path.read_bytes() for path in sorted(out.iterdir())})
    set_render_threads(before)
    return contents, codes


def test_report_is_the_same_to_the_byte_on_every_run_and_thread_count(reports):
    contents, _ = reports
    assert sorted(contents[0]) == ["small.json", "small.md", "small.png"]
    assert contents[0] == contents[1]


def test_report_says_what_was_measured_and_exit_code_follows(reports, tmp_path):
    contents, codes = reports
    content = json.loads(contents[0]["small.json"])
    assert codes[0] == (0 if content["passed"] else 1)
    assert content["passed"] == all(row["passed"] for row in content["rows"])
    failed = [row["quantity"] for row in content["rows"] if not row["passed"]]
    assert all("anechoic cyst" in name for name in failed), "the beam of so small a probe fills its cysts in"
    text = contents[0]["small.md"].decode()
    assert text.count("| pass |") == len(content["rows"]) - len(failed)
    assert text.count("| FAIL |") == len(failed)
    groups = {row["group"] for row in content["rows"]}
    assert groups == {"resolution", "distance", "dead zone", "contrast", "uniformity", "penetration"}
    picture = tmp_path / "small.png"
    picture.write_bytes(contents[0]["small.png"])
    assert len(contents[0]["small.png"]) < 200_000
    assert np.asarray(Image.open(picture).convert("L")).std() > 20


def test_a_failed_row_makes_exit_code_one(tmp_path, monkeypatch):
    from sonogym.ultrasound.qa import protocol

    good = at_most("g", "q", "mm", 1.0, 2.0, "s")
    bad = replace(good, measured=3.0)
    probe = tmp_path / "small.toml"
    probe.write_text(SMALL)
    for rows, code in (((good,), 0), ((good, bad), 1)):
        quality = protocol.Quality(transducer=load_probe(str(probe)), rows=rows, pictures={})
        monkeypatch.setattr(protocol, "run_quality", lambda transducer, step, quality=quality: quality)
        assert call(probe).exit_code == code


def test_rows_pass_within_their_range_and_never_unmeasured():
    assert within("g", "q", "mm", 1.1, 1.0, 0.1000001, "s").passed
    assert not within("g", "q", "mm", 1.2, 1.0, 0.1, "s").passed
    assert at_least("g", "q", "", 0.95, 0.95, "s").passed
    assert not at_most("g", "q", "", float("nan"), 1.0, "s").passed
    row = Row(group="g", quantity="q", unit="", measured=float("inf"), expected=1, low=0, high=2, source="s")
    assert not row.passed


def test_wires_are_where_the_plan_puts_them():
    transducer = replace(load_probe("P4-2v"), depth=0.06)
    plan = make_plan(transducer)
    scanned = geometry_tests.scan_wires(transducer, plan, Medium.SILENT)
    for x, z in (*plan.column, *plan.row):
        near = np.hypot(scanned.x - x, scanned.z - z) < 0.6e-3
        reach = np.hypot(scanned.x - x, scanned.z - z) < 2e-3
        assert scanned.envelope[0][near].max() == scanned.envelope[0][reach].max()


def test_round_a_radial_probe_no_wire_stands_in_the_shadow_of_another():
    """Bearings of wires apart by more than both half widths, seen from the axis; pairs, half hidden, are left out."""
    transducer = load_probe("radial360")
    plan = make_plan(transducer)
    singles = [complex(z, x) for x, z in (*plan.column, *plan.row)]
    for i, one in enumerate(singles):
        assert transducer.radius < abs(one) < transducer.radius + transducer.depth
        for other in [*singles[i + 1 :], *(complex(z, x) for x, z in plan.pair_wires)]:
            apart = abs(np.angle(one / other))
            assert apart > plan.wire / abs(one) + plan.wire / abs(other)
    assert abs(singles[9] - singles[11]) == pytest.approx(2 * (transducer.radius + 0.55 * transducer.depth))
    discs = [Disc(x=x, z=z, radius=1e-3, medium=Medium.WIRE) for x, z in plan.column]
    for disc in discs:
        moved = beside(transducer, disc, 2e-3)
        assert np.hypot(moved.x, moved.z) == pytest.approx(np.hypot(disc.x, disc.z))
        turn = abs(np.angle(complex(moved.z, moved.x) / complex(disc.z, disc.x)))
        assert turn * np.hypot(disc.x, disc.z) == pytest.approx(2e-3)


def test_penetration_halves_are_the_right_way_round():
    transducer = load_probe("L11-5v")
    weak, strong = contrast_tests.penetration(transducer, contrast_tests.scan_penetration(transducer))
    assert weak.measured / strong.measured == pytest.approx(0.7 / 0.5, rel=0.03)


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="L11-5v"):
        call("L11-5")
    probe = tmp_path / "bad.toml"
    probe.write_text(SMALL.replace("depth_mm = 24.0", "depth_mm = 24000.0"))
    with pytest.raises(InvalidInputError, match="depth"):
        call(probe)
