"""Scans that are turned, mirrored, of another part of the body, cut, or hold metal: refused or told, never used as is.

Mutations seen to fail: SMALLEST_TRUNK 0.008.
"""

import anatomy_fixtures as trunk
import numpy as np
import pytest
import torch

from sonogym.anatomy import importing
from sonogym.anatomy.checks import check_anatomy
from sonogym.anatomy.importing import import_ct
from sonogym.anatomy.planes import plane_pose, reachable_planes
from sonogym.anatomy.stack import VolumeStack, clearance_stack
from sonogym.anatomy.tissues import Tissue
from sonogym.errors import InvalidInputError
from sonogym.geometry import grids
from sonogym.robot.surface_motion import SurfaceMotion

SPACING = 3e-3


@pytest.fixture(scope="module", autouse=True)
def no_picture():
    """Pictures take longer than all the rest and are looked at elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importing, "write_figure", lambda _anatomy, path: path.write_bytes(b""))
        yield


@pytest.fixture(scope="module")
def scan():
    return trunk.trunk()


def refused(tmp_path, hu, labels, match, matrix=None, **options):
    ct = trunk.save(tmp_path / "ct.nii", hu.astype(np.int16), matrix)
    seg = None if labels is None else trunk.save(tmp_path / "seg.nii", labels, matrix)
    with pytest.raises(InvalidInputError, match=match):
        import_ct(ct, seg, tmp_path / "refused", SPACING, label_table="v2", **options)
    assert not (tmp_path / "refused").exists()


def off_centre(hu, labels):
    """The trunk 12 mm to one side, as couches have it: its mirror image does not fall on itself."""
    return np.roll(hu, 4, axis=0), np.roll(labels, 4, axis=0)


@pytest.mark.parametrize(("axis", "ends"), [(0, "left and right"), (1, "front and back"), (2, "head and feet")])
def test_labels_flipped_against_the_ct_are_refused_naming_the_axis(tmp_path, scan, axis, ends):
    hu, labels = off_centre(*scan)
    refused(tmp_path, hu, np.flip(labels, axis).copy(), f"mirrored against the CT.*{ends} exchanged")


def test_a_scan_mirrored_as_a_whole_is_noticed_by_its_organs(tmp_path, scan):
    hu, labels = off_centre(*scan)
    labels[trunk.ball((-70, 0, 120), (20, 25, 30)) & (hu > 0)] = 1  # a spleen
    refused(tmp_path, np.flip(hu, 0), np.flip(labels, 0).copy(), "left and right are exchanged: .*kidney_left")


def test_a_known_situs_inversus_is_imported_as_it_lies_and_told(tmp_path, scan):
    hu, labels = off_centre(*scan)
    labels[trunk.ball((-70, 0, 120), (20, 25, 30)) & (hu > 0)] = 1  # a spleen
    ct = trunk.save(tmp_path / "ct.nii", np.flip(hu, 0).astype(np.int16))
    seg = trunk.save(tmp_path / "seg.nii", np.flip(labels, 0).copy())
    patient = import_ct(ct, seg, tmp_path / "x", SPACING, label_table="v2", situs_inversus=True)
    assert patient.landmarks["liver"][0] < 0.0 < patient.landmarks["spleen"][0]
    assert [check.result for check in check_anatomy(patient) if check.what == "sides"] == ["warning"]
    refused(tmp_path, hu, labels, "no situs inversus: the liver lies right of the spleen", situs_inversus=True)
    with pytest.raises(InvalidInputError, match="labels are not given"):
        import_ct(ct, None, tmp_path / "y", SPACING, situs_inversus=True)


def test_a_scan_upside_down_is_noticed_by_its_vertebrae(tmp_path, scan):
    hu, labels = scan
    refused(tmp_path, np.flip(hu, 2), np.flip(labels, 2).copy(), "head and feet are exchanged")


def test_a_scan_turned_front_to_back_is_noticed_by_its_bones(tmp_path, scan):
    refused(tmp_path, np.flip(scan[0], 1), None, "turns the patient front to back")


def head():
    """A scalp of 5 mm over a skull of 7 mm, 18 x 14 cm, 20 cm high."""
    x, y, z = trunk.grid()
    radius = np.sqrt((x / 70) ** 2 + (y / 90) ** 2 + ((z - 84) / 110) ** 2)
    hu = np.full(trunk.SHAPE, -1000.0)
    for edge, value in ((1.0, 40.0), (0.93, 900.0), (0.84, 35.0)):
        hu[radius < edge] = value
    return hu


def knee():
    """A leg 12 cm thick around two bones."""
    x, y, _ = trunk.grid()
    hu = np.full(trunk.SHAPE, -1000.0)
    hu[np.hypot(x, y) < 60] = 50.0
    hu[np.hypot(x - 5, y) < 16] = 700.0
    hu[np.hypot(x + 28, y + 5) < 8] = 700.0
    return hu


@pytest.mark.parametrize(
    ("make", "what"),
    [(head, "a head .bone close under the skin all round"), (knee, "a limb, a head or a neck")],
)
def test_another_part_of_the_body_is_refused_saying_what_is_missing(tmp_path, make, what):
    refused(tmp_path, make(), None, rf"no trunk but {what}.*Missing: thoracic or lumbar vertebrae")


def test_a_spacing_that_makes_a_giant_is_refused(tmp_path, scan):
    hu = scan[0].repeat(2, axis=0).repeat(2, axis=1)[:, :, ::3]
    matrix = np.diag([6.0, 6.0, 9.0, 1.0])
    refused(tmp_path, hu, None, r"the body is 9\d x 7\d cm wide and deep.*spacing of the header", matrix)


def test_a_scan_without_skin_is_refused(tmp_path, scan):
    hu = scan[0][48:72, 26:62].copy()
    hu[0, 0, 0] = -1000  # a scan holds some air, here in the bowel
    refused(tmp_path, hu, None, "shows no skin: its field of view cuts 100 %")
    refused(tmp_path, -scan[0], None, "shows no skin.*sign of the HU")


def test_a_slab_lower_than_a_vertebra_is_refused(tmp_path, scan):
    refused(tmp_path, scan[0][:, :, 20:27], None, "the scan is 21 mm high.*25 mm or more")


def test_swapped_bytes_are_refused(tmp_path, scan):
    refused(tmp_path, scan[0].astype(np.int16).byteswap(), None, "bytes of each number swapped")


@pytest.fixture(scope="module")
def cut(scan, tmp_path_factory):
    """A field of view of 21 cm that cuts both flanks of a trunk 24 cm wide, and the labels."""
    folder = tmp_path_factory.mktemp("cut")
    hu, labels = scan[0].copy(), scan[1].copy()
    x, _, _ = trunk.grid()
    hu[np.abs(x) > 105] = -2048
    ct, seg = trunk.save(folder / "ct.nii", hu.astype(np.int16)), trunk.save(folder / "seg.nii", labels)
    return import_ct(ct, seg, folder / "x", SPACING, label_table="v2")


def at(*millimetres):
    return 1e-3 * torch.tensor(millimetres)


def test_skin_knows_where_the_field_of_view_cut_it(cut):
    back, flank, near = cut.skin.project(torch.stack([at(0, -90, 84), at(105.0, 0, 84), at(97.0, -53.0, 84)]))
    assert cut.skin.usable(torch.stack([back, flank, near])).tolist() == [True, False, False]
    assert any("no probe can stand" in problem for problem in cut.facts["problems"])


def test_planes_on_cut_skin_are_refused_and_others_are_not(cut):
    assert plane_pose(cut, "transverse_L3").translation[1] == pytest.approx(-0.09, abs=3e-3)
    with pytest.raises(InvalidInputError, match=r"'liver_kidney'.*field of view cut"):
        plane_pose(cut, "liver_kidney")
    reached = reachable_planes(cut)
    assert "transverse_L3" in reached
    assert "liver_kidney" not in reached


def test_probe_is_held_back_before_it_glides_onto_a_cut(cut):
    skins = [cut.skin]
    one = torch.zeros(1, dtype=torch.int64)
    stack = VolumeStack.from_volumes([skin.distance for skin in skins])
    bound = SurfaceMotion(skin=stack, press=0.0, clearance=clearance_stack(skins))
    free = SurfaceMotion(skin=stack, press=0.0)
    reached = {}
    for name, motion in (("bound", bound), ("free", free)):
        pose, inside = motion.place(at(60, -78, 84)[None], torch.tensor([[-1.0, 0.0, 0.0]]), one, rounds=3)
        assert bool(inside)
        for _ in range(20):
            pose, _ = motion.step(pose, one, torch.tensor([[-0.03, 0.0, 0.0]]), 0.1)
        reached[name] = float(pose.translation[0, 0])
    assert reached["bound"] < 0.095 < reached["free"]


def test_uncut_skin_costs_no_volume(scan, tmp_path):
    whole = import_ct(trunk.save(tmp_path / "ct.nii", scan[0].astype(np.int16)), None, tmp_path / "x", SPACING)
    assert whole.skin.clearance is None
    assert clearance_stack([whole.skin]) is None
    assert whole.skin.usable(torch.zeros(2, 3)).all()


def test_metal_is_named_and_its_hounsfield_units_are_cut(scan, tmp_path):
    hu = scan[0].copy()
    hu[trunk.ball((60, -40, 84), (8, 8, 8))] = 12000
    patient = import_ct(trunk.save(tmp_path / "ct.nii", hu.astype(np.int16)), None, tmp_path / "x", SPACING)
    voxel = grids.affine(patient.labels.voxel_from_patient, at(60, -40, 84).double()).round().long().tolist()
    assert Tissue(int(patient.labels.voxels[0][tuple(voxel)])) == Tissue.METAL
    assert int(patient.ct.voxels.max()) == 3071
    assert patient.facts["metal_ml"] == pytest.approx(4 / 3 * np.pi * 0.8**3, rel=0.3)
    assert any("metal" in problem for problem in patient.facts["problems"])


@pytest.mark.parametrize(("blood", "expected"), [(45, "no"), (300, "yes")])
def test_contrast_agent_is_read_from_the_aorta(scan, tmp_path, blood, expected):
    hu, labels = scan[0].copy(), scan[1]
    hu[labels == trunk.V2["aorta"]] = blood
    ct, seg = trunk.save(tmp_path / "ct.nii", hu.astype(np.int16)), trunk.save(tmp_path / "seg.nii", labels)
    patient = import_ct(ct, seg, tmp_path / "x", SPACING, label_table="v2")
    assert patient.facts["contrast"] == expected
    assert patient.facts["structures_hu"]["aorta"] == pytest.approx(blood, abs=5)


def test_only_the_wanted_heights_are_kept(scan, tmp_path):
    ct, seg = trunk.save(tmp_path / "ct.nii", scan[0].astype(np.int16)), trunk.save(tmp_path / "seg.nii", scan[1])
    part = import_ct(ct, seg, tmp_path / "x", SPACING, label_table="v2", heights=(0.06, 0.12))
    assert float(part.ct.patient_from_voxel[2, 3]) == pytest.approx(0.06)
    assert part.ct.voxels.shape[3] == 21
    assert (1e3 * part.landmarks["vertebra_L3"] - torch.tensor(trunk.BODIES["L3"])).norm() < 2.0
    with pytest.raises(InvalidInputError, match=r"2 slices, 8 are needed; the scan has 0 .. 165 mm"):
        import_ct(ct, None, tmp_path / "y", SPACING, heights=(0.06, 0.064))
