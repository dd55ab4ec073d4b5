"""Stones and lesions are tissues of their own: echo and shadow like stones, but never taken for bone.

Mutations seen to fail: STONE among BONE; LESION absorbs as the liver does.
"""

from math import log10

import laboratory as lab
import pytest
import torch

from sonogym.anatomy import Tissue
from sonogym.anatomy.bone import bone_distance
from sonogym.anatomy.patients import make_procedural
from sonogym.anatomy.phantoms import phantom
from sonogym.anatomy.volume import Volume
from sonogym.ultrasound.ground_truth import bone_depth

SEED = 1321  # renal cyst, gallstones, kidney stone, solid liver lesion


@pytest.fixture(scope="module")
def patient():
    return make_procedural(SEED, 2e-3)


def around(anatomy, name, tissue):
    """How much [ml] of a tissue lies within 25 mm of a finding's landmark."""
    voxels = torch.nonzero(anatomy.labels.voxels[0] == int(tissue)).double()
    matrix = anatomy.labels.patient_from_voxel.double()
    points = voxels @ matrix[:3, :3].T + matrix[:3, 3]
    near = (points - anatomy.landmarks[f"finding_{name}"].double()).norm(dim=-1) < 25e-3
    return float(near.sum()) * 2.0**3 * 1e-3


def test_stones_and_solid_lesions_have_their_own_tissue(patient):
    kinds = {truth["name"]: truth for truth in patient.facts["findings"]}
    assert around(patient, "gallstones", Tissue.STONE) > 0.05
    assert around(patient, "kidney_stone", Tissue.STONE) > 0.05
    radius = 0.05 * kinds["liver_lesion"]["diameter_mm"]
    lesion = Tissue.FLUID if kinds["liver_lesion"]["kind"] == "cyst" else Tissue.LESION
    assert around(patient, "liver_lesion", lesion) == pytest.approx(4.19 * radius**3, rel=0.3)


def test_a_stone_is_no_bone_to_contact_or_truth(patient):
    stone = patient.labels.voxels[0] == int(Tissue.STONE)
    without = torch.where(stone, int(Tissue.BILE), patient.labels.voxels[0]).to(torch.uint8)
    bare = bone_distance(Volume(without[None], patient.labels.patient_from_voxel))
    assert torch.equal(bone_distance(patient.labels).voxels, bare.voxels)
    labels = torch.full((1, 8, 1), int(Tissue.KIDNEY_CORTEX), dtype=torch.uint8)
    labels[0, 3] = int(Tissue.STONE)
    labels[0, 6] = int(Tissue.CORTICAL_BONE)
    depth = torch.arange(8.0)[None, :, None]
    assert float(bone_depth(labels, depth)) == pytest.approx(5.5)


def behind(tissue):
    """Two-way transmission at 60 mm behind a layer of 20 mm on the left of a liver, against that of the liver alone."""
    layer = [(tissue, lambda p: (p[..., 1] >= 0.02) & (p[..., 1] < 0.04) & (p[..., 0] > 0.0))]
    body = phantom("layer", Tissue.LIVER, layer, spacing=1e-3, size=(0.1, 0.1, 0.02))
    frame = lab.render(body, lab.probe_at(3.0), outputs=("transmission",))
    rows = lab.rows_between(frame.depth, 0.058, 0.062)
    passed = frame.transmission[0][rows].double().mean(0)
    lines = len(passed)
    return float(passed[lines // 8 : lines // 4].mean() / passed[-lines // 4 : -lines // 8].mean())


def test_liver_is_brighter_behind_a_lesion_by_what_it_does_not_absorb_and_dark_behind_a_stone():
    gained = 2.0 * 2.0 * 3.0**1.05 * (0.5 - 0.29)  # dB: two ways of 2 cm
    assert 20.0 * log10(behind(Tissue.LESION)) == pytest.approx(gained, abs=0.3)
    assert 20.0 * log10(behind(Tissue.STONE)) < -40.0
