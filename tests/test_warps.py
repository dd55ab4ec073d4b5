"""Deformed patients: one-to-one, carried landmarks, named seeds.

Mutations seen to fail: the skin distance true to first order alone (before _BAND).
"""

import numpy as np
import pytest
import torch

from sonogym.anatomy.library import load_patient, resolve_patients
from sonogym.anatomy.patients import make_procedural
from sonogym.anatomy.tissues import Tissue
from sonogym.anatomy.warps import WarpConfig, _Flow, warp_anatomy
from sonogym.errors import InvalidInputError
from sonogym.geometry import grids


@pytest.fixture(scope="module")
def original():
    return make_procedural(3, 3e-3)


@pytest.fixture(scope="module")
def warped(original):
    return warp_anatomy(original, 5)


def label_at(anatomy, point):
    voxel = grids.affine(anatomy.labels.voxel_from_patient, point.double()[None])[0].round().long()
    return Tissue(int(anatomy.labels.voxels[0][tuple(voxel)]))


def test_landmarks_move_with_their_tissue(original, warped):
    moved = [float((warped.landmarks[name] - point).norm()) for name, point in original.landmarks.items()]
    assert max(moved) > 5e-3
    organs = ("kidney_left", "kidney_right", "liver", "spleen", "gall_bladder", "aorta_L2", "aorta_L4", "lung_right")
    assert [label_at(warped, warped.landmarks[o]) for o in organs] == [
        label_at(original, original.landmarks[o]) for o in organs
    ]


def test_map_is_one_to_one_and_has_the_inverse_it_claims(original):
    flow = _Flow(original.labels, 5, WarpConfig())
    forward, back = flow.exponential(1.0), flow.exponential(-1.0)
    axis = np.linspace(-0.08, 0.08, 33)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    there = points + forward(points)
    assert np.abs(there + back(there) - points).max() < 3e-4
    jacobian = np.stack([np.gradient(there[..., i], axis[1] - axis[0]) for i in range(3)])
    determinant = np.linalg.det(np.moveaxis(jacobian, (0, 1), (-2, -1)))
    assert 0.3 < determinant.min() < 0.95 < 1.05 < determinant.max() < 2.5


def test_skin_distance_stays_a_distance(warped):
    distance = warped.skin.distance
    slope = np.sqrt(sum(g**2 for g in np.gradient(distance.voxels[0].numpy(), distance.spacing[0])))
    near = np.abs(distance.voxels[0].numpy()) < 4e-3
    assert np.percentile(np.abs(slope[near] - 1.0), 90) < 0.06
    labels = warped.labels.voxels[0]
    edge = torch.nonzero(labels == Tissue.SKIN)[::97].double()
    points = grids.affine(warped.labels.patient_from_voxel, edge).float()
    assert warped.skin.at(points).abs().median() < 3e-3


def test_rays_cast_at_warped_skin_stay_on_their_line(original):
    """A distance that is too long away from the skin lets the walk along a ray run past it, and land elsewhere."""
    aside = torch.linspace(-0.05, 0.05, 11)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    for seed in range(4):
        warped = warp_anatomy(original, seed)
        spine = torch.stack([warped.landmarks[f"vertebra_{level}"] for level in ("T12", "L1", "L2", "L3", "L4")])
        inside = spine[:, None] + aside
        met = warped.skin.cast(inside, torch.tensor([0.0, -1.0, 0.0]).expand_as(inside))
        assert (met - inside)[..., [0, 2]].abs().max() < 4e-3
        assert (met[..., 1] < inside[..., 1]).all()


def test_same_seed_is_the_same_patient_and_another_seed_another(original, warped):
    assert warp_anatomy(original, 5).digest == warped.digest != warp_anatomy(original, 6).digest
    still = warp_anatomy(original, 5, WarpConfig(displacement=0.0))
    assert torch.equal(still.labels.voxels, original.labels.voxels)
    assert torch.equal(still.ct.voxels, original.ct.voxels)


def test_warps_have_names():
    assert resolve_patients("procedural:test/3-4+warp7-8") == [
        f"procedural:test/{i}+warp{seed}" for seed in (7, 8) for i in (3, 4)
    ]
    patient = load_patient("procedural:test/3+warp2", 4e-3)
    assert patient.name == "procedural:test/3+warp2"
    assert patient.facts["warp_seed"] == 2
    with pytest.raises(InvalidInputError, match="NUMBER or FIRST-LAST"):
        resolve_patients("procedural:test/3+warpx")


def test_crumpling_warp_is_refused():
    with pytest.raises(InvalidInputError, match="displacement"):
        WarpConfig(displacement=0.03)
