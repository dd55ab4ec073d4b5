"""Analytic phantoms are what their names say."""

import math

import pytest
import torch

from sonogym.anatomy.phantoms import cyst, homogeneous, layers, phantom_pose, plate, tilted, wires
from sonogym.anatomy.tissues import Tissue
from sonogym.errors import InvalidInputError
from sonogym.geometry import grids
from sonogym.ultrasound.bake import bake


def label_at(anatomy, *point):
    volume = anatomy.labels
    voxel = grids.affine(volume.voxel_from_patient, torch.tensor([point], dtype=torch.float64))[0].round().long()
    return Tissue(int(volume.voxels[0][tuple(voxel)]))


def test_skin_of_a_phantom_is_the_plane_y_zero():
    anatomy = homogeneous()
    points = torch.tensor([[0.03, 0.011, -0.01], [-0.02, -0.007, 0.02], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(anatomy.skin.at(points), -points[:, 1], atol=1e-7, rtol=0)
    torch.testing.assert_close(anatomy.skin.normal(points), torch.tensor([0.0, -1.0, 0.0]).expand(3, 3))


def test_labels_change_at_the_asked_depths_to_the_voxel():
    anatomy = layers((0.01, 0.02), (Tissue.SKIN, Tissue.LIVER, Tissue.BLOOD))
    column = [label_at(anatomy, 0.0, y, 0.0) for y in (-0.0005, 0.0005, 0.0095, 0.0105, 0.0295, 0.0305)]
    assert column == [Tissue.AIR, Tissue.SKIN, Tissue.SKIN, Tissue.LIVER, Tissue.LIVER, Tissue.BLOOD]


def test_cyst_has_the_area_of_its_circle():
    anatomy = cyst(radius=0.01)
    area = float((anatomy.labels.voxels[0, :, :, 0] == Tissue.FLUID).sum()) * 1e-6
    assert area == pytest.approx(math.pi * 1e-4, rel=0.02)


def test_probe_looks_into_the_body_with_x_to_the_patients_left():
    anatomy = wires([(0.02, 0.04)])
    pose = phantom_pose(press=0.001)
    target = pose.apply(torch.tensor([0.02, 0.0, 0.039]))
    torch.testing.assert_close(target, torch.tensor([-0.02, 0.04, 0.0]))
    assert label_at(anatomy, *target.tolist()) == Tissue.CONNECTIVE
    assert label_at(anatomy, 0.02, 0.04, 0.0) == Tissue.GEL


def test_plate_and_tilted_interface_lie_where_asked():
    anatomy = plate(0.03, 0.004, width=0.02)
    assert label_at(anatomy, 0.009, 0.031, 0.0) == Tissue.CORTICAL_BONE
    assert label_at(anatomy, 0.012, 0.031, 0.0) == label_at(anatomy, 0.0, 0.035, 0.0) == Tissue.LIVER
    slope = tilted(0.04, math.radians(45))
    assert label_at(slope, 0.01, 0.052, 0.0) == Tissue.CORTICAL_BONE
    assert label_at(slope, 0.01, 0.048, 0.0) == Tissue.MUSCLE


def test_equal_phantoms_share_a_digest_and_others_do_not():
    assert homogeneous().digest == homogeneous().digest != homogeneous(Tissue.SPLEEN).digest


def test_impossible_phantoms_are_refused():
    with pytest.raises(InvalidInputError, match="one tissue more"):
        layers((0.01,), (Tissue.LIVER,))
    with pytest.raises(InvalidInputError, match="millimetres"):
        homogeneous(spacing=1.0)


def test_refining_a_volume_keeps_tissue_up_to_its_border():
    baked = bake(homogeneous(spacing=1e-3, size=(0.02, 0.02, 0.02)), pitch=0.4e-3)
    tissue = baked.voxels.voxels[0]
    assert set(tissue[:, -1, :].unique().tolist()) == {int(Tissue.LIVER)}
    assert set(tissue[0, 10:, :].unique().tolist()) == set(tissue[-1, 10:, :].unique().tolist()) == {int(Tissue.LIVER)}
