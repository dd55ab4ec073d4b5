"""NIfTI files of any orientation become RAS metres; every file that cannot be used is refused by name."""

import anatomy_fixtures as trunk
import nibabel
import numpy as np
import pytest
import torch

from sonogym.anatomy.readers import read_ct, read_label_file
from sonogym.anatomy.resampling import Grid, grid_over, resample_labels, resample_linear
from sonogym.anatomy.tissues import Tissue
from sonogym.anatomy.totalsegmentator import TABLES, V1_NAMES, V2_NAMES, read_structures, tissue_of
from sonogym.anatomy.volume import Volume
from sonogym.errors import InvalidInputError, MissingFileError, UnknownNameError


@pytest.fixture
def numbers():
    rng = np.random.default_rng(0)
    array = rng.integers(-900, 900, (7, 6, 5)).astype(np.int16)
    array[0, 0, 0] = -1000
    return array


def oblique():
    angle = 0.2
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag([0.8, 0.9, 2.5])
    matrix[:3, 3] = (-31.0, 12.0, -400.0)
    return matrix


@pytest.mark.parametrize("codes", ["RAS", "LAS", "LPS", "SPR", "AIL", "PIR"])
@pytest.mark.parametrize("matrix", [np.diag([0.7, 0.7, 2.5, 1.0]), oblique()], ids=["straight", "oblique"])
def test_every_orientation_places_each_value_where_the_file_does(tmp_path, numbers, codes, matrix):
    path = trunk.save(tmp_path / "ct.nii.gz", numbers, matrix, codes)
    stored = nibabel.load(path)
    scan = read_ct(path)
    assert scan.orientation == codes
    inverse = scan.volume.voxel_from_patient.numpy()
    for index in np.ndindex(stored.shape):
        point = stored.affine @ [*index, 1.0]
        at = inverse @ [*(1e-3 * point[:3]), 1.0]
        assert np.abs(at - np.rint(at)).max() < 1e-4
        assert scan.volume.voxels[0][tuple(np.rint(at[:3]).astype(int))] == stored.dataobj[index]
    assert nibabel.aff2axcodes(scan.volume.patient_from_voxel.numpy()) == ("R", "A", "S")


def test_padding_beyond_the_field_of_view_becomes_air(tmp_path, numbers):
    numbers[2, 3, 1] = -2048
    scan = read_ct(trunk.save(tmp_path / "ct.nii", numbers, np.eye(4)))
    assert int(scan.outside.sum()) == 1
    assert bool(scan.outside[2, 3, 1])
    assert scan.volume.voxels[0, 2, 3, 1] == -1024
    assert scan.volume.voxels.dtype == torch.int16


def bad_files(folder, numbers):
    def saved(name, array, matrix=None):
        image = nibabel.Nifti1Image(array, np.eye(4) if matrix is None else matrix)
        nibabel.save(image, folder / name)
        return folder / name

    flat = np.diag([1.0, 1.0, 0.0, 1.0])
    nan = numbers.astype(np.float32)
    nan[1, 1, 1] = np.nan
    whole = saved("whole.nii.gz", np.random.default_rng(1).normal(0, 300, (30, 30, 30)).astype(np.float32))
    (folder / "cut.nii.gz").write_bytes(whole.read_bytes()[:20000])
    (folder / "head.nii.gz").write_bytes(whole.read_bytes()[:40])
    (folder / "text.nii").write_text("no image")
    (folder / "ct.mha").write_text("no image")
    broken = nibabel.load(saved("flat.nii", numbers))
    broken.header.set_sform(flat, code=1)
    broken.header["qform_code"] = 0
    (folder / "singular.nii").write_bytes(broken.header.binaryblock + b"\0" * 4 + numbers.tobytes(order="F"))
    flipped = bytearray(whole.read_bytes())
    flipped[3000] ^= 1
    (folder / "flipped.nii.gz").write_bytes(bytes(flipped))
    plain = saved("plain.nii", numbers).read_bytes()

    def header(name, **fields):
        stored = nibabel.Nifti1Header(plain[:348], check=False)
        for key, value in fields.items():
            stored[key] = value
        (folder / name).write_bytes(stored.binaryblock + plain[348:])
        return folder / name

    colour = np.zeros(numbers.shape, [(name, "u1") for name in "RGB"])
    return {
        "CRC check failed": folder / "flipped.nii.gz",
        "colours or complex numbers": saved("colour.nii", colour),
        r"complex numbers \(complex64\)": saved("complex.nii", numbers.astype(np.complex64)),
        "data code 999": header("type.nii", datatype=999),
        "more memory than there is": header("huge.nii", dim=[3, 30000, 30000, 30000, 1, 1, 1, 1]),
        "vox offset": header("offset.nii", vox_offset=-1e9),
        "gives no voxel size": header("size.nii", pixdim=[1, 0, 0, 0, 0, 0, 0, 0], qform_code=0, sform_code=0),
        "no file": folder / "none.nii.gz",
        "ended before the end": folder / "cut.nii.gz",
        "damaged": folder / "head.nii.gz",
        "no NIfTI file": folder / "text.nii",
        r"must end in \.nii": folder / "ct.mha",
        "no DICOM image": folder,
        r"one 3-D image.*\(7, 6\)": saved("two.nii", numbers[:, :, 0]),
        r"one 3-D image.*\(7, 6, 5, 2\)": saved("four.nii", np.stack([numbers, numbers], -1)),
        "singular affine": folder / "singular.nii",
        "NaN or infinity in 1 of 210": saved("nan.nii", nan),
        "only air": saved("air.nii", np.full((7, 6, 5), -1000, np.int16)),
        "holds no air": saved("mr.nii", np.abs(numbers)),
        "written in metres": saved("metres.nii", numbers, np.diag([1e-3, 1e-3, 1e-3, 1.0])),
        "0.1 to 10 mm": saved("coarse.nii", numbers, np.diag([40.0, 1.0, 1.0, 1.0])),
    }


def test_files_that_cannot_be_used_are_refused_with_their_cause(tmp_path, numbers):
    for cause, path in bad_files(tmp_path, numbers).items():
        with pytest.raises((InvalidInputError, MissingFileError), match=cause) as caught:
            read_ct(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [0.5, -3.0])
def test_labels_must_be_whole_numbers_from_0(tmp_path, value):
    array = np.zeros((5, 5, 5), np.float32)
    array[2, 2, 2] = value
    with pytest.raises(InvalidInputError, match="not whole numbers from 0"):
        read_label_file(trunk.save(tmp_path / "seg.nii.gz", array))


def test_tables_of_both_versions():
    assert (len(V1_NAMES), len(V2_NAMES)) == (104, 117)
    assert len(set(V1_NAMES)) == 104
    assert len(set(V2_NAMES)) == 117
    v1 = {
        18: "vertebrae_L5",
        41: "vertebrae_C1",
        55: "small_bowel",
        58: "rib_left_1",
        92: "sacrum",
        104: "urinary_bladder",
    }
    v2 = {5: "liver", 26: "vertebrae_S1", 29: "vertebrae_L3", 52: "aorta", 79: "spinal_cord", 117: "costal_cartilages"}
    assert {i: TABLES["v1"][i] for i in v1} == v1
    assert {i: TABLES["v2"][i] for i in v2} == v2


def test_every_structure_has_a_tissue():
    tissues = {name: tissue_of(name) for name in {*V1_NAMES, *V2_NAMES}}
    assert {name for name, tissue in tissues.items() if tissue is None} == {"face"}
    expected = {"kidney_left": Tissue.KIDNEY_CORTEX, "kidney_cyst_left": Tissue.FLUID, "urinary_bladder": Tissue.FLUID}
    expected |= {
        "vertebrae_T4": Tissue.TRABECULAR_BONE,
        "costal_cartilages": Tissue.CARTILAGE,
        "gallbladder": Tissue.BILE,
    }
    expected |= {
        "heart_myocardium": Tissue.MYOCARDIUM,
        "heart_ventricle_left": Tissue.BLOOD,
        "spinal_cord": Tissue.NERVE,
    }
    assert {name: tissues[name] for name in expected} == expected
    with pytest.raises(UnknownNameError, match="Did you mean 'liver'"):
        tissue_of("livr")


def labels_with(folder, *ids):
    array = np.zeros((5, 5, 5), np.int16)
    array.flat[: len(ids)] = ids
    return trunk.save(folder / "seg.nii.gz", array)


def test_version_is_read_from_the_ids(tmp_path):
    assert read_structures(labels_with(tmp_path, 5, 104, 120)).table == "v1"
    found = read_structures(labels_with(tmp_path, 29, 117, 120))
    assert (found.table, dict(found.names)) == ("v2", {29: "vertebrae_L3", 117: "costal_cartilages", 120: "body"})
    assert read_structures(labels_with(tmp_path, 20), "v2").names == {20: "colon"}


def test_unknown_ids_are_listed(tmp_path):
    with pytest.raises(InvalidInputError, match=r"unknown to the table v2: \[118, 200\]"):
        read_structures(labels_with(tmp_path, 5, 118, 120, 200))
    with pytest.raises(InvalidInputError, match="every voxel is 0"):
        read_structures(labels_with(tmp_path))
    with pytest.raises(UnknownNameError, match="Did you mean 'v2'"):
        read_structures(labels_with(tmp_path, 5), "v22")


def test_table_beside_the_file_goes_first(tmp_path):
    (tmp_path / "structures.csv").write_text("group,structure,id\nribs,costal_cartilages,118\norgans,liver,5\n")
    found = read_structures(labels_with(tmp_path, 118, 5))
    assert found.names == {118: "costal_cartilages", 5: "liver"}
    (tmp_path / "structures.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InvalidInputError, match="columns id and structure"):
        read_structures(labels_with(tmp_path, 5))


def test_folder_of_masks_names_structures_by_file(tmp_path):
    mask = np.zeros((5, 5, 5), np.uint8)
    for i, name in enumerate(("liver", "kidney_left")):
        one = mask.copy()
        one[i + 1, 2, 2] = 1
        trunk.save(tmp_path / f"{name}.nii.gz", one)
    found = read_structures(tmp_path)
    assert sorted(found.names.values()) == ["kidney_left", "liver"]
    assert found.names[int(found.ids.voxels[0, 1, 2, 2])] == "liver"
    trunk.save(tmp_path / "spleeen.nii.gz", mask)
    with pytest.raises(UnknownNameError, match="Did you mean 'spleen'"):
        read_structures(tmp_path)


def test_table_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "structures.csv").write_bytes(b"id,structure\n5,\xff\xfe\n")
    with pytest.raises(InvalidInputError, match="no CSV text in UTF-8"):
        read_structures(labels_with(tmp_path, 5))


def test_series_of_a_file_is_refused(tmp_path, numbers):
    with pytest.raises(InvalidInputError, match="leave --series out"):
        read_ct(trunk.save(tmp_path / "ct.nii", numbers, np.eye(4)), "1.2")


def test_empty_folder_and_unlike_masks_are_refused(tmp_path):
    with pytest.raises(MissingFileError, match="no mask"):
        read_structures(tmp_path)
    trunk.save(tmp_path / "liver.nii.gz", np.ones((5, 5, 5), np.uint8))
    trunk.save(tmp_path / "spleen.nii.gz", np.ones((5, 5, 6), np.uint8))
    with pytest.raises(InvalidInputError, match="not on one grid"):
        read_structures(tmp_path)


def test_linear_resampling_keeps_a_ramp_and_labels_keep_their_share():
    matrix = torch.from_numpy(oblique())
    matrix[:3] *= 1e-3
    index = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float64) for n in (40, 36, 14)), indexing="ij"), -1)
    points = index @ matrix[:3, :3].numpy().T + matrix[:3, 3].numpy()
    volume = Volume(torch.from_numpy(1e4 * points[..., 0])[None], matrix)
    grid = grid_over(volume, 1.2e-3)
    middle = Grid(shape=(6, 6, 6), spacing=1.2e-3, origin=tuple(points[20, 18, 7] - 3e-3))
    expected = 1e4 * (middle.origin[0] + 1.2e-3 * np.arange(6))
    assert np.abs(resample_linear(volume, middle, 0.0) - expected[:, None, None]).max() < 0.3
    ball = ((points - points[20, 18, 7]) ** 2).sum(-1) < 9e-3**2
    labels = resample_labels(Volume(torch.from_numpy(5 * ball.astype(np.int16))[None], matrix), grid)
    assert set(np.unique(labels)) == {0, 5}
    assert (labels == 5).sum() * 1.2e-3**3 == pytest.approx(4 / 3 * np.pi * 9e-3**3, rel=0.05)
