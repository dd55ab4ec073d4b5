"""Procedural patients: one seed, one patient; sizes, windows and landmarks as in the tables they are drawn from.

Mutations seen to fail: a CT without a scanner's point spread; gall bladder and stomach not kept inside the wall; a
chest as deep as the belly.
"""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import ndimage

from sonogym.anatomy import Tissue
from sonogym.anatomy.cache import cache_folder
from sonogym.anatomy.patients import load_procedural, make_procedural
from sonogym.anatomy.patients.drawing import draw_patient
from sonogym.anatomy.patients.params import LEVELS
from sonogym.anatomy.patients.spine import build_spine
from sonogym.anatomy.planes import plane_pose
from sonogym.anatomy.surface import skin_from_body
from sonogym.errors import InvalidInputError

SPACING = 2.5e-3
SEEDS = (0, 5, 7)
BONE = (Tissue.TRABECULAR_BONE, Tissue.CORTICAL_BONE)
OWN = {
    "gall_bladder": (Tissue.BILE,), "liver": (Tissue.LIVER, Tissue.BLOOD, Tissue.CONNECTIVE),
    "spleen": (Tissue.SPLEEN,), "pancreas": (Tissue.PANCREAS,), "heart": (Tissue.BLOOD, Tissue.MYOCARDIUM),
    "stomach": (Tissue.STOMACH, Tissue.AIR), "lung_right": (Tissue.LUNG,),
    "kidney_right": (Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_PYRAMID, Tissue.KIDNEY_SINUS),
    "kidney_left": (Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_PYRAMID, Tissue.KIDNEY_SINUS),
}  # fmt: skip
LUMBAR = ("L1", "L2", "L3", "L4", "L5")


@pytest.fixture(scope="module")
def patients():
    return {seed: make_procedural(seed, SPACING) for seed in SEEDS}


def labels_of(anatomy):
    return anatomy.labels.voxels[0].numpy()


def at(anatomy, points):
    """Labels at patient points [m]; outside the volume counts as air."""
    matrix = anatomy.labels.voxel_from_patient.numpy()
    index = np.rint(np.asarray(points, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3])
    return ndimage.map_coordinates(labels_of(anatomy), index.T, order=0, cval=0)


def litres(anatomy, *tissues):
    return float(np.isin(labels_of(anatomy), tissues).sum()) * SPACING**3 * 1e3


def test_one_seed_gives_the_same_bytes_again(patients):
    again = make_procedural(0, SPACING)
    assert again.digest == patients[0].digest
    assert torch.equal(again.ct.voxels, patients[0].ct.voxels)
    assert torch.equal(again.skin.distance.voxels, patients[0].skin.distance.voxels)


def test_other_seeds_are_other_patients(patients):
    assert len({p.digest for p in patients.values()}) == len(SEEDS)
    assert len({tuple(p.labels.voxels.shape) for p in patients.values()}) == len(SEEDS)


def test_population_is_wide():
    drawn = [draw_patient(seed) for seed in range(60)]
    assert np.std([p.size for p in drawn]) > 0.04
    assert np.ptp([p.bmi for p in drawn]) > 12.0
    assert np.ptp([p.fat_back for p in drawn]) > 14.0
    assert 0.25 < np.mean([p.female for p in drawn]) < 0.75


@pytest.mark.parametrize("seed", SEEDS)
def test_every_tissue_has_a_plausible_volume(patients, seed):
    anatomy = patients[seed]
    elsewhere = {Tissue.GEL, Tissue.METAL, Tissue.STONE, Tissue.LESION}  # of the face, of scans and of findings
    missing = set(Tissue) - elsewhere - {Tissue(i) for i in np.unique(labels_of(anatomy))}
    assert not missing
    kidney = (Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_PYRAMID, Tissue.KIDNEY_SINUS)
    x = anatomy.labels.voxel_from_patient[0, 3]
    middle = round(float(x))
    for half in (labels_of(anatomy)[:middle], labels_of(anatomy)[middle:]):
        assert 0.09 < float(np.isin(half, kidney).sum()) * SPACING**3 * 1e3 < 0.22
    assert 0.8 < litres(anatomy, Tissue.LIVER) < 2.2
    assert 0.08 < litres(anatomy, Tissue.SPLEEN) < 0.35
    assert 0.5 < litres(anatomy, *BONE) < 1.8
    assert litres(anatomy, Tissue.PANCREAS) + litres(anatomy, Tissue.BILE) > 0.02


@pytest.mark.parametrize("seed", SEEDS)
def test_landmarks_lie_in_their_tissue(patients, seed):
    anatomy = patients[seed]
    expected = {
        "vertebra": BONE, "spinous": BONE, "sacrum": BONE, "iliac": BONE, "aorta": (Tissue.BLOOD,),
        "liver": (Tissue.LIVER, Tissue.BLOOD, Tissue.CONNECTIVE), "spleen": (Tissue.SPLEEN,),
        "kidney": (Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_PYRAMID, Tissue.KIDNEY_SINUS),
        "gall": (Tissue.BILE,), "lung": (Tissue.LUNG,), "heart": (Tissue.BLOOD, Tissue.MYOCARDIUM),
        "cava": (Tissue.VEIN, Tissue.BLOOD), "hepatic": (Tissue.VEIN, Tissue.BLOOD, Tissue.LIVER, Tissue.CONNECTIVE),
        "pancreas": (Tissue.PANCREAS,), "stomach": (Tissue.STOMACH, Tissue.AIR),
    }  # fmt: skip
    required = {f"vertebra_{level}" for level in LEVELS} | {f"spinous_{level}" for level in LEVELS}
    required |= {"aorta_L2", "aorta_L3", "aorta_L4", "iliac_crest_left", "iliac_crest_right"}
    assert required <= set(anatomy.landmarks)
    for name, point in anatomy.landmarks.items():
        assert at(anatomy, point[None])[0] in expected[name.split("_")[0]], name


@pytest.mark.parametrize("seed", SEEDS)
def test_right_is_positive_x_and_organs_lie_on_their_side(patients, seed):
    marks = patients[seed].landmarks
    assert marks["liver"][0] > 0.03
    assert marks["spleen"][0] < -0.03
    assert marks["kidney_right"][0] > 0.04
    assert marks["kidney_left"][0] < -0.04
    for side in ("right", "left"):
        assert marks["vertebra_L4"][2] < marks[f"kidney_{side}"][2] < marks["vertebra_T11"][2]


@pytest.mark.parametrize("seed", range(12))
def test_lumbar_bodies_are_spaced_as_in_adults(seed):
    spine = build_spine(draw_patient(seed))
    steps = np.linalg.norm(np.diff(np.array([spine.at(level) for level in LUMBAR]), axis=0), axis=1)
    assert ((steps > 28.0) & (steps < 44.0)).all()
    assert 31.0 < steps.mean() < 41.0


@pytest.mark.parametrize("seed", SEEDS)
def test_canal_holds_no_bone(patients, seed):
    anatomy, spine = patients[seed], build_spine(draw_patient(seed))
    path = spine.canal_path()[1:] * 1e-3
    dense = np.concatenate([np.linspace(a, b, 20) for a, b in pairwise(path)])
    for dx, dy in ((0, 0), (4e-3, 0), (-4e-3, 0), (0, 3e-3), (0, -3e-3)):
        assert not np.isin(at(anatomy, dense + np.array([dx, dy, 0.0])), BONE).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_spinous_processes_are_not_fused(patients, seed):
    anatomy = patients[seed]
    for upper, lower in pairwise(LUMBAR):
        ends = [anatomy.landmarks[f"spinous_{level}"].numpy() + np.array([0.0, 5e-3, 0.0]) for level in (upper, lower)]
        line = np.linspace(*ends, 200)
        free = ~np.isin(at(anatomy, line), BONE)
        assert free.mean() * np.linalg.norm(ends[1] - ends[0]) > 2e-3, (upper, lower)


@pytest.mark.parametrize("seed", SEEDS)
def test_interlaminar_window_is_open_in_the_midline(patients, seed):
    anatomy, spine = patients[seed], build_spine(draw_patient(seed))
    path = spine.canal_path()[2:][::-1][-5:] * 1e-3
    for above, below in pairwise(path):
        line = np.linspace(above, below, 120)
        behind = line[:, None] - np.arange(0.0, 0.018, 1e-3)[None, :, None] * np.array([0.0, 1.0, 0.0])
        blocked = np.isin(at(anatomy, behind.reshape(-1, 3)), BONE).reshape(len(line), -1).any(1)
        assert (~blocked).mean() * np.linalg.norm(below - above) > 3e-3


@pytest.mark.parametrize("seed", SEEDS)
def test_marrow_touches_no_soft_tissue(patients, seed):
    labels = labels_of(patients[seed])
    core = labels == Tissue.TRABECULAR_BONE
    bone = np.isin(labels, BONE)
    for axis in range(3):
        first, last = (np.take(core, range(s, core.shape[axis] - 1 + s), axis) for s in (0, 1))
        here, next_ = (np.take(bone, range(s, core.shape[axis] - 1 + s), axis) for s in (0, 1))
        assert not (first & ~next_).any()
        assert not (last & ~here).any()


def test_drawn_skin_agrees_with_the_skin_measured_on_the_labels(patients):
    anatomy = patients[0]
    labels = torch.from_numpy(ndimage.binary_fill_holes(labels_of(anatomy) > 0))
    measured = skin_from_body(labels, anatomy.labels.patient_from_voxel)
    outward = torch.tensor([[0.0, -1, 0], [0.2, -1, 0], [-0.5, -1, 0], [1, 0, 0], [-1, 0.3, 0], [0, 1, 0]])
    for level in ("L1", "L3", "L5"):
        surface = anatomy.skin.cast(anatomy.landmarks[f"vertebra_{level}"].expand(6, 3), outward)
        assert measured.at(surface).abs().max() < 1e-3
        assert (anatomy.skin.at(surface + 0.02 * outward / outward.norm(dim=-1, keepdim=True)) > 0.01).all()
    assert anatomy.skin.at(anatomy.landmarks["vertebra_L3"]) < -0.05


@pytest.mark.parametrize("seed", SEEDS)
def test_transverse_plane_lies_behind_the_spine(patients, seed):
    anatomy = patients[seed]
    origin = plane_pose(anatomy, "transverse_L4").translation
    tip = anatomy.landmarks["spinous_L4"]
    assert 5e-3 < float(tip[1] - origin[1]) < 0.07
    assert abs(float(anatomy.skin.at(origin))) < 1e-3


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("plane", "landmark"),
    [("transverse_L2", "vertebra_L2"), ("transverse_L5", "vertebra_L5"), ("sagittal_L4", "vertebra_L4"),
     ("kidney_left_long", "kidney_left"), ("liver", "liver"), ("gall_bladder", "gall_bladder")],
)  # fmt: skip
def test_image_plane_holds_the_structure_it_is_named_after(patients, seed, plane, landmark):
    pose = plane_pose(patients[seed], plane)
    lateral, elevation, depth = pose.inverse().apply(patients[seed].landmarks[landmark]).tolist()
    assert abs(elevation) < 2e-3
    assert abs(lateral) < 0.03 < depth < 0.14
    normal = patients[seed].skin.normal(pose.translation[None])[0]
    torch.testing.assert_close(pose.matrix()[:3, 2], -normal, atol=1e-4, rtol=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_ct_follows_the_tissues(patients, seed):
    ct, labels = patients[seed].ct.voxels[0].numpy(), labels_of(patients[seed])
    for tissue, low, high in (
        (Tissue.SUBCUTANEOUS_FAT, -115, -90), (Tissue.MUSCLE, 30, 65), (Tissue.LIVER, 30, 80),
        (Tissue.LUNG, -890, -780), (Tissue.CORTICAL_BONE, 200, 450),
    ):  # fmt: skip
        inside = labels == tissue
        inner = ndimage.binary_erosion(inside)
        assert low < ct[inner if inner.sum() > 4000 else inside].mean() < high, tissue
    liver = ndimage.binary_erosion(labels == Tissue.LIVER, iterations=2)
    assert 6.0 < ct[liver].std() < 25.0


def test_noise_of_the_ct_is_shared_by_neighbours_and_edges_are_partial_volumes(patients):
    ct, labels = patients[0].ct.voxels[0].numpy().astype(np.float64), labels_of(patients[0])
    liver = ndimage.binary_erosion(labels == Tissue.LIVER, iterations=2)
    pairs = liver[:, :, 1:] & liver[:, :, :-1]
    below, above = ct[:, :, :-1][pairs], ct[:, :, 1:][pairs]
    assert 0.2 < np.corrcoef(below, above)[0, 1] < 0.8
    skin = ct[labels == Tissue.SKIN]
    assert skin.mean() < -40.0  # thinner than a voxel, between air and fat


def test_landmarks_lie_well_inside_the_skin_and_organs_in_themselves():
    for seed in (1100, 1105, 1112, 1107, 1113, 3, 4, 8):
        anatomy = make_procedural(seed, 3e-3)
        names = list(anatomy.landmarks)
        depth = -anatomy.skin.at(torch.stack([anatomy.landmarks[name] for name in names]))
        shallow = {name: float(d) for name, d in zip(names, depth, strict=True) if d < 5e-3}
        assert not shallow, seed
        assert depth[names.index("gall_bladder")] > 10e-3, seed
        for name, tissue in OWN.items():
            assert at(anatomy, anatomy.landmarks[name][None])[0] in tissue, (seed, name)


def test_chests_are_as_deep_as_those_of_adults():
    """180-300 mm at T9: 250 +- 21 mm standing in 29 men of ANSUR II; two scans 222 and 240 mm."""
    for seed in (1100, 1105, 1112, 7):
        anatomy = make_procedural(seed, 3e-3)
        spine = anatomy.landmarks["vertebra_T9"].expand(2, 3)
        back, front = anatomy.skin.cast(spine, torch.tensor([[0.0, -1, 0], [0, 1, 0]]))[:, 1].tolist()
        assert 0.175 < front - back < 0.300, seed
        assert front - back == pytest.approx(1e-3 * anatomy.facts["chest"], abs=0.012)


def test_cache_gives_the_patient_back_and_mends_a_damaged_file(patients):
    made = load_procedural(0, SPACING, "one")
    (path,) = (cache_folder() / "patients").glob("seed0-2500um-*.safetensors")
    stored = load_procedural(0, SPACING, "two")
    assert stored.name == "two"
    assert made.digest == stored.digest == patients[0].digest
    assert dict(stored.facts) == dict(patients[0].facts)
    path.write_bytes(path.read_bytes()[:1000])
    assert load_procedural(0, SPACING, "one").digest == made.digest
    assert path.stat().st_size > 1000


def test_facts_hold_the_drawn_parameters(patients):
    names = {field.name for field in dataclasses.fields(draw_patient(5))}
    assert names <= set(patients[5].facts)
    assert patients[5].facts["bmi"] == draw_patient(5).bmi


def test_spacing_in_millimetres_is_refused():
    with pytest.raises(InvalidInputError, match=r"millimetres\?"):
        make_procedural(0, 1.5)
