"""`sonogym render` writes what it says and refuses bad input in one line."""

import json

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from sonogym.anatomy import library
from sonogym.anatomy.phantoms import cyst
from sonogym.cli import render
from sonogym.errors import InvalidInputError, UnknownNameError

SMALL = ["--probe", "flat75", "--lines", "48", "--samples", "96", "--size", "64", "--depth-mm", "90"]
POSE = "0 0.002 0 0 0 0.70710678 0.70710678"


@pytest.fixture
def run(monkeypatch):
    """The command on a phantom in place of a patient."""
    monkeypatch.setattr(library, "load_patient", lambda name: cyst())
    app = typer.Typer()
    render.register(app)

    def call(*words):
        result = CliRunner().invoke(app, list(words))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def test_picture_and_facts_are_written(run, tmp_path):
    out, facts = tmp_path / "a.png", tmp_path / "a.json"
    assert run("--patient", "p", "--pose", POSE, "--out", str(out), "--json", str(facts), *SMALL).exit_code == 0
    picture = np.asarray(Image.open(out))
    assert picture.shape == (64, round(64 * 75 / 90))
    content = json.loads(facts.read_text())
    assert content["depth_mm"] == pytest.approx(90)
    assert content["extent_mm"][2] == pytest.approx(90, abs=1)
    middle = picture[int(64 * 50 / 90) - 3 : int(64 * 50 / 90) + 3, 25:29]
    assert middle.mean() < 0.5 * picture[10:25].mean(), "the cyst at 5 cm is dark"


def test_gain_brightens_and_seeds_change_the_speckle(run, tmp_path):
    pictures = []
    for i, extra in enumerate(([], ["--gain", "12"], ["--seed", "3"])):
        out = tmp_path / f"{i}.png"
        run("--patient", "p", "--pose", POSE, "--out", str(out), *SMALL, *extra)
        pictures.append(np.asarray(Image.open(out)).astype(int))
    assert pictures[1].mean() > pictures[0].mean() + 10
    assert not np.array_equal(pictures[0], pictures[2])
    assert abs(pictures[2].mean() - pictures[0].mean()) < 8


def test_label_map_stands_beside_the_picture(run, tmp_path):
    out = tmp_path / "labels.png"
    run("--patient", "p", "--pose", POSE, "--out", str(out), "--labels", "--axes", *SMALL)
    picture = np.asarray(Image.open(out).convert("RGB")).astype(int)
    colourful = (picture.max(-1) - picture.min(-1)) > 40
    width = picture.shape[1] // 2
    assert colourful[:, width:].mean() > 0.1 > 10 * colourful[:, : width - width // 8].mean()


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--out", "a.jpg", "--pose", POSE], InvalidInputError, r"\.png"),
        (["--out", "a.png"], InvalidInputError, "either --plane"),
        (["--out", "a.png", "--plane", "x", "--pose", POSE], InvalidInputError, "either --plane"),
        (["--out", "a.png", "--pose", "1 2 3"], InvalidInputError, "seven"),
        (["--out", "a.png", "--pose", "a b"], InvalidInputError, "seven"),
        (["--out", "a.png", "--pose", "0 0 0 2 0 0 0"], InvalidInputError, "quaternion"),
        (["--out", "a.png", "--pose", "0 120 0 1 0 0 0"], InvalidInputError, "metres"),
        (["--out", "a.png", "--plane", "transverse_L9"], UnknownNameError, "transverse_L"),
        (["--out", "a.png", "--pose", POSE, "--probe", "C5"], UnknownNameError, "C5-2v"),
        (["--out", "a.png", "--pose", POSE, "--depth-mm", "0.1"], InvalidInputError, "depth-mm"),
        (["--out", "a.png", "--pose", POSE, "--depth-mm", "-50"], InvalidInputError, "depth-mm"),
        (["--out", "a.png", "--pose", POSE, "--lines", "0"], InvalidInputError, "lines"),
        (["--out", "a.png", "--pose", POSE, "--samples", "0"], InvalidInputError, "samples"),
        (["--out", "a.png", "--pose", POSE, "--size", "1"], InvalidInputError, "--size"),
        (["--out", "a.png", "--pose", "0 nan 0 1 0 0 0"], InvalidInputError, "finite"),
        (["--out", "a.png", "--pose", "0 2 0 1 0 0 0"], InvalidInputError, "no part"),
        (["--out", "a.png", "--pose", POSE, "--steering-deg", "10"], InvalidInputError, "linear probes only"),
        (
            ["--out", "a.png", "--pose", POSE, "--probe", "flat75", "--steering-deg", "50"],
            InvalidInputError,
            "steering",
        ),
        (["--out", "a.png", "--pose", POSE, "--device", "gpu"], UnknownNameError, "device"),
        (["--out", "a.png", "--pose", POSE, "--sweep", "0"], InvalidInputError, "planes of a sweep"),
        (["--out", "a.png", "--pose", POSE, "--sweep", "3", "--sweep-spacing", "-1"], InvalidInputError, "spacing"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(run, words, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        run("--patient", "p", *words)
    assert list(tmp_path.iterdir()) == []


def test_sweep_writes_a_montage_and_a_volume_in_millimetres(run, tmp_path):
    import nibabel

    out = tmp_path / "s.png"
    words = ["--sweep", "3", "--sweep-spacing", "2", "--patient", "p", "--pose", POSE, "--out", str(out), *SMALL]
    assert run(*words).exit_code == 0
    assert np.asarray(Image.open(out)).shape == (2 * 64, 2 * 53)
    volume = nibabel.load(tmp_path / "s.nii.gz")
    assert volume.shape == (53, 3, 64)
    assert volume.header.get_zooms() == pytest.approx((90 / 64, 2.0, 90 / 64), rel=0.02)
    assert np.linalg.inv(volume.affine)[:3] @ [0, 2, 0, 1] == pytest.approx([26, 1, -0.5], abs=0.51)


def test_radial_probe_and_steered_lines_are_drawn(run, tmp_path):
    for i, words in enumerate(
        (["--probe", "radial360", "--depth-mm", "40"], ["--probe", "flat75", "--steering-deg", "15"])
    ):
        pose = "0 0.06 0 0 0 0.70710678 0.70710678"
        small = ["--lines", "48", "--samples", "96", "--size", "64"]
        out = tmp_path / f"{i}.png"
        assert run("--patient", "p", "--pose", pose, "--out", str(out), *small, *words).exit_code == 0
        assert np.asarray(Image.open(out)).std() > 10


def test_importing_the_command_loads_no_renderer():
    import subprocess
    import sys

    code = "import sys, sonogym.cli.render; assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd="/").returncode == 0
