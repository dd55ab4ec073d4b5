"""A patient made of labels alone: the usual HU of each tissue, fat and muscle by depth."""

import anatomy_fixtures as trunk
import numpy as np
import pytest
import torch

from sonogym.anatomy.importing import import_ct
from sonogym.anatomy.tissues import Tissue
from sonogym.errors import InvalidInputError
from sonogym.geometry import grids


@pytest.fixture(scope="module")
def labels():
    hu, labels = trunk.trunk()
    labels[(hu > -500) & (labels == 0)] = 120
    return labels


@pytest.fixture(scope="module")
def patient(labels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    return import_ct(None, trunk.save(folder / "seg.nii.gz", labels), folder / "ed", 3e-3, label_table="v2")


def at(anatomy, volume, *point):
    voxel = grids.affine(volume.voxel_from_patient, 1e-3 * torch.tensor(point, dtype=torch.float64))
    return int(volume.voxels[0][tuple(voxel.round().long().tolist())])


def test_named_tissues_keep_their_name_and_get_their_usual_hounsfield_units(patient):
    assert at(patient, patient.labels, *trunk.LIVER) == Tissue.LIVER
    assert at(patient, patient.ct, *trunk.LIVER) == 58
    assert at(patient, patient.labels, *trunk.BODIES["L3"]) == Tissue.TRABECULAR_BONE
    assert at(patient, patient.labels, *trunk.LUNG) == Tissue.LUNG


def test_unnamed_tissue_is_fat_under_the_skin_then_the_muscle_of_the_wall_then_fat(patient):
    tissues = [at(patient, patient.labels, 0, 90 - depth, 84) for depth in (6, 15, 20, 36)]
    assert tissues == [Tissue.SUBCUTANEOUS_FAT, Tissue.MUSCLE, Tissue.MUSCLE, Tissue.VISCERAL_FAT]
    assert at(patient, patient.labels, 0, -75, 81) == Tissue.MUSCLE


def test_landmarks_and_skin_are_those_of_the_labels_and_the_guess_is_told(patient):
    assert (1e3 * patient.landmarks["vertebra_L3"] - torch.tensor(trunk.BODIES["L3"])).norm() < 2.0
    assert abs(float(patient.skin.at(torch.tensor([0.0, 0.09, 0.084])))) < 2.5e-3
    assert any("no CT" in problem for problem in patient.facts["problems"])


def test_labels_without_a_body_are_refused(tmp_path, labels):
    bare = np.where(labels == 120, 0, labels).astype(np.int16)
    with pytest.raises(InvalidInputError, match="whole body"):
        import_ct(None, trunk.save(tmp_path / "seg.nii.gz", bare), tmp_path / "x", 3e-3, label_table="v2")
    with pytest.raises(InvalidInputError, match="nothing to import"):
        import_ct(None, None, tmp_path / "x")
    assert not (tmp_path / "x").exists()
