"""Folders as data sets publish them are patients without a manual step; a stored patient can be checked."""

import json
import re

import anatomy_fixtures as trunk
import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from sonogym.anatomy import checks
from sonogym.anatomy.anatomy import anatomy_from_tensors, anatomy_tensors
from sonogym.anatomy.cache import read_tensors, write_tensors
from sonogym.anatomy.checks import FAILED, PASSED, WARNING, check_anatomy, check_patient
from sonogym.anatomy.importing import import_ct
from sonogym.anatomy.sources import find_source
from sonogym.cli.anatomy import register
from sonogym.errors import InvalidInputError, MissingFileError


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """SonoGym's tree: scans, and label maps (float64, body under 120) with meshes, in sister folders."""
    tree = tmp_path_factory.mktemp("data") / "HumanModels"
    hu, labels = trunk.trunk()
    labels = np.where((labels == 0) & (hu > -500), 120, labels)
    for folder in ("selected_dataset/s0001", "selected_dataset/s0002", "selected_dataset_stl/s0001"):
        (tree / folder).mkdir(parents=True)
    (tree / "selected_dataset_stl/s0003").mkdir()
    (tree / "selected_dataset_stl/s0003/liver.stl").write_text("solid")
    for patient in ("s0001", "s0002"):
        trunk.save_ct(tree / f"selected_dataset/{patient}/ct.nii.gz")
    labels[0, 0, 0] = 117  # costal cartilages: ids above 104 tell the table
    trunk.save(tree / "selected_dataset_stl/s0001/combined_label_map.nii.gz", labels.astype(np.float64))
    return tree


def test_scan_and_label_map_of_one_patient_find_each_other(models):
    for folder in ("selected_dataset/s0001", "selected_dataset_stl/s0001", "selected_dataset_body_from_urdf/s0001"):
        if (models / folder).exists():
            source = find_source(models / folder)
            assert source.ct == models / "selected_dataset/s0001/ct.nii.gz"
            assert source.labels == models / "selected_dataset_stl/s0001/combined_label_map.nii.gz"
    alone = find_source(models / "selected_dataset/s0002")
    assert (alone.ct, alone.labels) == (models / "selected_dataset/s0002/ct.nii.gz", None)


def test_patient_of_totalsegmentators_data_set(tmp_path):
    trunk.save_ct(tmp_path / "ct.nii.gz")
    (tmp_path / "segmentations").mkdir()
    assert find_source(tmp_path).labels == tmp_path / "segmentations"


def test_meshes_alone_several_patients_and_nothing_are_refused(models, tmp_path):
    with pytest.raises(InvalidInputError, match="meshes alone make no patient"):
        find_source(models / "selected_dataset_stl/s0003")
    with pytest.raises(InvalidInputError, match=r"several patients; import one: .*s0001.*s0002"):
        find_source(models)
    with pytest.raises(MissingFileError, match="no file or folder"):
        find_source(tmp_path / "none")
    assert find_source(tmp_path).ct == tmp_path  # read as DICOM, which then says that there is none


@pytest.fixture(scope="module")
def command():
    app = typer.Typer()
    register(app)
    return lambda *arguments: CliRunner().invoke(app, ["anatomy", *map(str, arguments)], env={"COLUMNS": "160"})


@pytest.fixture(scope="module")
def published(models, tmp_path_factory, command):
    out = tmp_path_factory.mktemp("patients") / "s0001"
    result = command("import", models / "selected_dataset/s0001", "--spacing-mm", 3, "--out", out)
    assert result.exit_code == 0, result.output
    assert all(word in result.output for word in ("combined_label_map.nii.gz by v2", "vertebra_L3", "contrast agent"))
    return out


def test_published_folder_becomes_a_patient_that_passes_its_check(published, command, tmp_path):
    result = command("check", published, "--json", tmp_path / "check.json")
    assert result.exit_code == 0, result.output
    stored = json.loads((tmp_path / "check.json").read_text())
    assert {check["result"] for check in stored["checks"]} == {PASSED}
    assert {"file", "digest", "landmarks", "levels", "sides", "bone", "air outside"} <= {
        check["what"] for check in stored["checks"]
    }


def test_check_of_no_patient_and_of_a_damaged_one(published, command, tmp_path):
    assert isinstance(command("check", tmp_path).exception, MissingFileError)
    content = bytearray((published / "anatomy.safetensors").read_bytes())
    content[-5000] ^= 1
    (tmp_path / "anatomy.safetensors").write_bytes(content)
    result = command("check", tmp_path)
    assert result.exit_code == 1
    assert "damaged" in result.output


def altered(published, change):
    """The stored patient with its tensors and text changed by ``change``."""
    tensors, text = read_tensors(published / "anatomy.safetensors")
    change(tensors, text)
    return anatomy_from_tensors(tensors, text)


def landmark(name, point):
    def change(_tensors, text):
        text["landmarks"] = json.dumps({**json.loads(text["landmarks"]), name: point})

    return change


def no_bone(tensors, _text):
    tensors["labels"] = torch.where(tensors["labels"] > 15, 4, tensors["labels"]).to(torch.uint8)


def table_back(tensors, _text):
    tensors["ct"][tensors["ct"] == -1000] = 30


@pytest.mark.parametrize(
    ("change", "what", "result"),
    [
        (landmark("liver", [0.06, 0.015, 0.5]), "landmarks", FAILED),
        (landmark("vertebra_L3", [0.0, -0.02, 0.14]), "levels", FAILED),
        (landmark("vertebra_L3", [0.04, 0.04, 0.08]), "vertebrae in bone", WARNING),
        (landmark("kidney_left", [0.09, -0.015, 0.075]), "sides", FAILED),
        (landmark("liver", [0.06, 0.015, 0.12]), "digest", FAILED),
        (no_bone, "bone", FAILED),
        (table_back, "air outside", FAILED),
    ],
)
def test_each_check_finds_its_fault(published, change, what, result):
    found = {check.what: check.result for check in check_anatomy(altered(published, change))}
    assert found[what] == result


def test_patient_of_another_format_is_refused(published, tmp_path):
    tensors, text = read_tensors(published / "anatomy.safetensors")
    write_tensors(tmp_path / "anatomy.safetensors", tensors, {**text, "format": "1"})
    assert [check.result for check in check_patient(tmp_path)] == [FAILED]
    assert "format 1" in check_patient(tmp_path)[0].found


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda tensors, text: tensors.pop("skin"), "lacks skin; import it again"),
        (lambda tensors, text: text.pop("landmarks"), "lacks landmarks"),
        (lambda tensors, text: text.update(facts="{"), "facts are no JSON"),
        (lambda tensors, text: text.update(landmarks='{"liver": [1, 2]}'), "three finite numbers, not so liver"),
        (lambda tensors, text: text.update(landmarks='{"liver": [0, 0, NaN]}'), "three finite numbers"),
        (lambda tensors, text: tensors.update(ct=tensors["ct"].float()), "ct must be finite torch.int16"),
        (lambda tensors, text: tensors.update(skin=tensors["skin"] * torch.nan), "skin must be finite"),
    ],
)
def test_a_patient_that_is_not_whole_is_refused_saying_what_it_lacks(published, spoil, cause):
    with pytest.raises(InvalidInputError, match=cause):
        altered(published, spoil)


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (("show", "{}", "--out", "x.jpg"), r"must end in \.png, got 'x.jpg' \(or add --3d\)"),
        (("show", "{}", "--3d", "--out", "x.xyz"), r"\.png, \.glb, \.ply"),
        (("show", "{}", "--out", "/dev"), "must end in"),
        (("check", "{}", "--json", "/dev/null"), "it is a device"),
        (("planes", "{}", "--json", "/dev"), "it is a folder"),
    ],
)
def test_places_that_cannot_be_written_are_refused_before_any_work(published, command, arguments, cause):
    result = command(*(word.format(published) for word in arguments))
    assert isinstance(result.exception, InvalidInputError)
    assert re.search(cause, str(result.exception))


def test_an_import_whose_table_cannot_be_written_is_refused_before_it_starts(models, command, tmp_path):
    out = tmp_path / "x"
    result = command("import", models / "selected_dataset/s0001", "--out", out, "--json", tmp_path)
    assert "it is a folder" in str(result.exception)
    assert not out.exists()


def test_planes_of_a_patient_without_landmarks_say_how_to_get_them(published, command, tmp_path):
    tensors, text = read_tensors(published / "anatomy.safetensors")
    write_tensors(tmp_path / "anatomy.safetensors", tensors, {**text, "landmarks": "{}"})
    assert "--landmark" in str(command("planes", tmp_path).exception)


def test_doubtful_landmarks_are_stored_and_refused(published, tmp_path):
    anatomy = altered(published, lambda _tensors, text: text.update(doubtful='{"spleen": 0.21}'))
    again = anatomy_from_tensors(*anatomy_tensors(anatomy))
    with pytest.raises(InvalidInputError, match=r"spleen.*confidence 0\.21.*--landmark spleen=X,Y,Z"):
        again.landmark("spleen")
    assert checks.check_anatomy(again)


def test_import_from_a_folder_equals_import_of_its_files(models, published, tmp_path):
    direct = import_ct(
        models / "selected_dataset/s0001/ct.nii.gz",
        models / "selected_dataset_stl/s0001/combined_label_map.nii.gz",
        tmp_path / "x",
        3e-3,
    )
    assert direct.digest == anatomy_from_tensors(*read_tensors(published / "anatomy.safetensors")).digest
