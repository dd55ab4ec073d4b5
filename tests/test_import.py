"""A CT with known anatomy becomes a patient: no table, each tissue in its place, landmarks, one whole file."""

import errno
import json
import os
import signal
import subprocess
import sys

import anatomy_fixtures as trunk
import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from sonogym.anatomy import cache, importing
from sonogym.anatomy.importing import import_ct
from sonogym.anatomy.landmark_finding import parse_landmark
from sonogym.anatomy.library import load_patient
from sonogym.anatomy.planes import plane_pose, reachable_planes
from sonogym.anatomy.tissues import BONE, Tissue
from sonogym.cli.anatomy import register
from sonogym.errors import InvalidInputError, MissingFileError, UnknownNameError
from sonogym.geometry import grids

SPACING = 3e-3


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scan")
    return trunk.save_ct(folder / "ct.nii.gz", "LPS"), trunk.save_labels(folder / "seg.nii.gz", "LPS")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("patients") / "ann"


@pytest.fixture(scope="module")
def patient(files, out):
    return import_ct(*files, out, SPACING, label_table="v2")


@pytest.fixture(scope="module")
def unlabelled(files, tmp_path_factory):
    return import_ct(files[0], None, tmp_path_factory.mktemp("patients") / "bob", SPACING)


def tissue_at(anatomy, *point):
    voxel = grids.affine(anatomy.labels.voxel_from_patient, 1e-3 * torch.tensor(point, dtype=torch.float64))
    return Tissue(int(anatomy.labels.voxels[0][tuple(voxel.round().long().tolist())]))


def test_tissues_lie_where_the_anatomy_has_them(patient):
    assert tissue_at(patient, *trunk.LIVER) == Tissue.LIVER
    assert tissue_at(patient, *trunk.KIDNEYS["left"]) == Tissue.KIDNEY_CORTEX
    assert tissue_at(patient, *trunk.LUNG) == Tissue.LUNG
    assert tissue_at(patient, *trunk.AORTA, 60) == Tissue.BLOOD
    assert tissue_at(patient, 0, 84, 84) == Tissue.SUBCUTANEOUS_FAT
    assert tissue_at(patient, 0, 69, 84) == Tissue.MUSCLE
    assert tissue_at(patient, 15, 45, 36) == Tissue.VISCERAL_FAT
    assert tissue_at(patient, *trunk.BODIES["L3"]) == Tissue.TRABECULAR_BONE
    assert tissue_at(patient, 0, -61.5, 81) == Tissue.CORTICAL_BONE
    assert tissue_at(patient, 0, 88.5, 84) == Tissue.SKIN


def test_gas_in_a_bowel_label_is_gas(patient):
    assert tissue_at(patient, *trunk.GAS) == Tissue.AIR


@pytest.mark.parametrize("which", ["patient", "unlabelled"])
def test_table_and_blanket_are_gone(which, request):
    anatomy = request.getfixturevalue(which)
    x, y, _ = trunk.grid()
    true = ((x / trunk.HALF[0]) ** 2 + (y / trunk.HALF[1]) ** 2 < 1).mean() * trunk.STEP**3 * x.size * 1e-6
    assert anatomy.facts["body_litres"] == pytest.approx(true, rel=0.02)
    for y in (-99.0, 99.0):
        assert tissue_at(anatomy, 45, y, 84) == Tissue.AIR
        assert float(anatomy.skin.at(torch.tensor([0.015, 1e-3 * y, 0.084]))) > 5e-3
    assert anatomy.ct.voxels[0, :, :3].max() == -1000


def test_skin_is_the_body_s_surface(patient):
    turn = torch.linspace(0, 2 * torch.pi, 40)
    ring = torch.stack((0.12 * turn.cos(), 0.09 * turn.sin(), torch.full_like(turn, 0.084)), -1)
    assert patient.skin.at(ring).abs().max() < 2.5e-3


def test_trabecular_bone_never_touches_soft_tissue(patient):
    labels = patient.labels.voxels[0].numpy()
    soft = ~np.isin(labels, BONE)
    core = labels == Tissue.TRABECULAR_BONE
    assert core.any()
    for axis in range(3):
        for near, far in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
            a, b = [slice(None)] * 3, [slice(None)] * 3
            a[axis], b[axis] = near, far
            assert not (core[tuple(a)] & soft[tuple(b)]).any()


def test_landmarks_are_the_known_centres(patient):
    for level, centre in trunk.BODIES.items():
        assert (1e3 * patient.landmarks[f"vertebra_{level}"] - torch.tensor(centre)).norm() < 2.0
        tip = 1e3 * patient.landmarks[f"spinous_{level}"] - torch.tensor([0.0, centre[1] - 49, centre[2] - 4])
        assert tip.norm() < 4.0
        aorta = 1e3 * patient.landmarks[f"aorta_{level}"] - torch.tensor([*trunk.AORTA, centre[2]])
        assert aorta.norm() < 3.0
    for side, centre in trunk.KIDNEYS.items():
        assert (1e3 * patient.landmarks[f"kidney_{side}"] - torch.tensor(centre)).norm() < 3.0
    assert patient.landmarks["liver"][0] > 0 > patient.landmarks["kidney_left"][0]


def test_standard_planes_can_be_reached(patient):
    assert {"transverse_L3", "sagittal_L4", "kidney_left_long", "liver"} <= set(reachable_planes(patient))
    assert float(plane_pose(patient, "transverse_L3").translation[1]) == pytest.approx(-0.09, abs=3e-3)


def test_stored_patient_is_the_one_imported(patient, out):
    stored = load_patient(out)
    assert (stored.digest, stored.name, stored.facts["orientation"]) == (patient.digest, "ann", "LPS")
    assert torch.equal(stored.labels.voxels, patient.labels.voxels)
    assert sorted(path.name for path in out.iterdir()) == ["anatomy.safetensors", "qa.png"]
    assert (out / "qa.png").read_bytes().startswith(b"\x89PNG")


def test_orientation_of_the_file_does_not_matter(patient, tmp_path):
    ct, seg = trunk.save_ct(tmp_path / "ct.nii", "SPR"), trunk.save_labels(tmp_path / "seg.nii", "RAI")
    other = import_ct(ct, seg, tmp_path / "ann", SPACING, label_table="v2")
    assert torch.equal(other.labels.voxels, patient.labels.voxels)
    assert other.landmarks.keys() == patient.landmarks.keys()


def test_hu_alone_tell_air_lung_fat_soft_tissue_and_bone(unlabelled):
    expected = {Tissue.LUNG: trunk.LUNG, Tissue.SUBCUTANEOUS_FAT: (0, 84, 84), Tissue.VISCERAL_FAT: (15, 45, 36)}
    expected |= {Tissue.MUSCLE: trunk.LIVER, Tissue.AIR: trunk.GAS, Tissue.TRABECULAR_BONE: trunk.BODIES["L2"]}
    for tissue, point in expected.items():
        assert tissue_at(unlabelled, *point) == tissue
    assert not unlabelled.landmarks
    assert any("no labels" in problem for problem in unlabelled.facts["problems"])


def test_given_landmark_goes_before_the_found_one(files, tmp_path):
    given = {"vertebra_L3": (0.002, -0.02, 0.085), "liver": (0.05, 0.01, 0.12)}
    anatomy = import_ct(files[0], None, tmp_path / "x", SPACING, given)
    assert {name: tuple(round(v, 4) for v in p.tolist()) for name, p in anatomy.landmarks.items()} == given


def test_landmark_texts():
    assert parse_landmark("vertebra_L3=-5,140.5,-488") == ("vertebra_L3", pytest.approx((-5e-3, 0.1405, -0.488)))
    with pytest.raises(UnknownNameError, match="Did you mean 'vertebra_L3'"):
        parse_landmark("vertebrae_L3=1,2,3")
    for bad in ("liver=1,2", "liver=a,b,c", "liver", "liver=nan,1,2"):
        with pytest.raises(InvalidInputError, match="NAME=X,Y,Z in mm"):
            parse_landmark(bad)


def cropped_labels(folder):
    return trunk.save(folder / "small.nii.gz", trunk.trunk()[1][:-3])


def shifted_labels(folder):
    matrix = trunk.affine()
    matrix[0, 3] += 5.0
    return trunk.save(folder / "shifted.nii.gz", trunk.trunk()[1], matrix)


@pytest.mark.parametrize("make", [cropped_labels, shifted_labels])
def test_labels_of_another_grid_are_refused_naming_both(files, tmp_path, make):
    labels = make(tmp_path)
    with pytest.raises(InvalidInputError, match="not on one grid") as caught:
        import_ct(files[0], labels, tmp_path / "x", SPACING, label_table="v2")
    assert str(labels) in str(caught.value)
    assert str(files[0]) in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_ids_of_another_table_are_noticed(files, tmp_path):
    with pytest.raises(InvalidInputError, match=r"contradicts.*another table than v1"):
        import_ct(*files, tmp_path / "x", SPACING)


@pytest.mark.parametrize(
    ("landmarks", "spacing", "cause"),
    [
        ({"vertebra_L3": (0.0, 0.0, 1.0)}, SPACING, "outside the body"),
        ({"vertebra_L3": (float("nan"), 0.0, 0.1)}, SPACING, "outside the body"),
        ({"vertebra_L33": (0.0, 0.0, 0.1)}, SPACING, "Did you mean 'vertebra_L3'"),
        ({}, 1.5, "millimetres"),
    ],
)
def test_wrong_settings_are_refused(files, tmp_path, landmarks, spacing, cause):
    with pytest.raises((InvalidInputError, UnknownNameError), match=cause):
        import_ct(files[0], None, tmp_path / "x", spacing, landmarks)
    assert not (tmp_path / "x").exists()


def test_scan_without_a_body_is_refused(tmp_path):
    array = np.full((40, 40, 40), -1000, np.int16)
    array[20, :, :] = 40
    ct = trunk.save(tmp_path / "ct.nii", array)
    with pytest.raises(InvalidInputError, match="no body is found"):
        import_ct(ct, None, tmp_path / "x", SPACING)


def no_space(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(("module", "name"), [(cache, "save_file"), (importing, "write_figure")])
def test_full_disk_leaves_nothing_behind(files, tmp_path, monkeypatch, module, name):
    monkeypatch.setattr(module, name, no_space)
    with pytest.raises(InvalidInputError, match="No space left on device"):
        import_ct(files[0], None, tmp_path / "x", SPACING)
    assert not (tmp_path / "x").exists()


def test_full_disk_keeps_the_patient_that_was_there(patient, out, files, monkeypatch):
    before = (out / "anatomy.safetensors").read_bytes()
    monkeypatch.setattr(importing, "write_figure", no_space)
    with pytest.raises(InvalidInputError, match="No space left"):
        import_ct(files[0], None, out, SPACING)
    assert (out / "anatomy.safetensors").read_bytes() == before
    assert sorted(path.name for path in out.iterdir()) == ["anatomy.safetensors", "qa.png"]


KILLED_HALF_WAY = """
import os, signal, sys
from pathlib import Path
from sonogym.anatomy import importing
importing.write_figure = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
importing.import_ct(Path(sys.argv[1]), None, Path(sys.argv[2]), 3e-3)
"""


def test_a_killed_import_leaves_no_patient_and_is_cleared_away_in_time(files, tmp_path, monkeypatch):
    out = tmp_path / "x"
    run = subprocess.run([sys.executable, "-c", KILLED_HALF_WAY, files[0], out], check=False)
    assert run.returncode == -signal.SIGKILL
    left = next(out.iterdir())
    assert (left / "anatomy.safetensors").is_file()
    for spec in (out, tmp_path):
        with pytest.raises(MissingFileError, match="no patient"):
            load_patient(spec)
    os.utime(left, (0, 0))
    monkeypatch.setattr(importing, "write_figure", lambda _anatomy, path: path.write_bytes(b""))
    import_ct(files[0], None, out, SPACING)
    assert sorted(path.name for path in out.iterdir()) == ["anatomy.safetensors", "qa.png"]


def test_field_of_view_that_cuts_the_skin_is_told(tmp_path, unlabelled):
    assert unlabelled.facts["skin_cut_percent"] == 0
    hu = trunk.trunk()[0]
    x, y, _ = trunk.grid()
    hu[np.hypot(x, y) > 105] = -2048
    anatomy = import_ct(trunk.save(tmp_path / "ct.nii", hu.astype(np.int16)), None, tmp_path / "x", SPACING)
    assert 15 < anatomy.facts["skin_cut_percent"] < 50
    assert any("cuts" in problem for problem in anatomy.facts["problems"])
    assert tissue_at(anatomy, 103.5, 0, 84) != Tissue.SKIN
    assert tissue_at(anatomy, 0, 88.5, 84) == Tissue.SKIN


@pytest.fixture
def command():
    app = typer.Typer()
    register(app)
    return lambda *arguments: CliRunner().invoke(app, ["anatomy", *map(str, arguments)], env={"COLUMNS": "160"})


def test_command_imports_lists_and_shows(files, tmp_path, command):
    out, facts = tmp_path / "all" / "cy", tmp_path / "cy.json"
    landmark = ("--landmark", "vertebra_L4=1,-20,51")
    options = ("--labels", files[1], "--label-table", "v2", "--spacing-mm", 3, "--json", facts)
    result = command("import", files[0], *options, *landmark, "--out", out)
    assert result.exit_code == 0, result.output
    assert all(word in result.output for word in ("LPS", "vertebra_L4 (given)", "liver", "qa.png"))
    found = json.loads(facts.read_text())
    assert found["landmarks_mm"]["vertebra_L4"] == [1.0, -20.0, 51.0]
    assert found["structures_ml"]["liver"] == pytest.approx(4 / 3 * np.pi * 38 * 35 * 40 * 1e-3, rel=0.1)
    listed = command("list", tmp_path / "all").output
    assert all(word in listed for word in ("procedural:test", str(out)[:20], "ct.nii.gz"))
    assert command("show", out, "--out", tmp_path / "cy.png").exit_code == 0
    assert (tmp_path / "cy.png").stat().st_size > 10000


@pytest.mark.parametrize(
    ("name", "cause"), [("procedural:tran/3", "Did you mean 'train'"), ("ann2", "Did you mean .*ann'")]
)
def test_unknown_patient_names_the_closest(patient, out, command, name, cause):
    shown = name if name.startswith("procedural") else out.parent / name
    result = command("show", shown, "--out", out.parent / "x.png")
    assert isinstance(result.exception, UnknownNameError | MissingFileError)
    with pytest.raises((UnknownNameError, MissingFileError), match=cause):
        raise result.exception
    assert not (out.parent / "x.png").exists()
