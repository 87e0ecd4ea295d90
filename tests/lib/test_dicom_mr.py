"""DICOM series: what is written is valid, and is read back voxel by voxel where it was."""

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813  # its documented name
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import RLELossless
from strategies import affines

from clickseg.dicom.mr import headers_of, uid_of, write_series
from clickseg.dicom.read import read_headers, read_series
from clickseg.geometry import LPS_FROM_RAS, Grid, ijk_to_ras, ras_to_ijk
from clickseg.volume import ImageError, Volume

SHAPE = (13, 11, 7)
COS, SIN = np.cos(0.3), np.sin(0.3)
LPS_AXES = {  # columns: where I, J and K go, in LPS, each a right-handed frame as scanners write
    "axial": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "coronal": [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
    "sagittal": [[0, 0, -1], [1, 0, 0], [0, -1, 0]],
    "oblique": [[1, 0, 0], [0, COS, -SIN], [0, SIN, COS]],
}
AXIAL = LPS_AXES["axial"]


def grid_of(axes, shape=SHAPE, spacing_mm=(0.4, 0.5, 1.5)):
    lps = np.eye(4)
    lps[:3, :3] = np.array(axes) * spacing_mm
    lps[:3, 3] = [-20.25, 31.123456, 7.5]
    return Grid(shape, LPS_FROM_RAS @ lps)


def volume_of(axes=AXIAL, dtype=np.int16, shape=SHAPE):
    array = np.random.default_rng(3).integers(0, 4000, shape).astype(dtype)
    return Volume(array, grid_of(axes, shape))


T1CE, T2 = headers_of("VS-007")


def edit(path, **values):
    dataset = pydicom.dcmread(path)
    for name, value in values.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    dataset.save_as(path)


@pytest.mark.parametrize("axes", LPS_AXES.values(), ids=LPS_AXES)
@pytest.mark.parametrize("descending", [False, True])
def test_a_series_comes_back_as_it_was_in_the_order_of_monai_label(tmp_path, axes, descending):
    volume = volume_of(axes)
    files = write_series(volume, tmp_path / "s", T1CE, descending=descending)
    shuffled = np.random.default_rng(1).permutation(np.array(files))
    back = read_series(list(shuffled))
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.grid == volume.grid
    assert back.array.dtype == np.float32
    # MONAI Label's dicom_to_nifti, whose voxels OHIF's clicks are
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "s")))
    theirs = reader.Execute()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(theirs).transpose(), back.array)
    lps = (LPS_FROM_RAS @ back.grid.affine)[:3]
    np.testing.assert_allclose(theirs.GetOrigin(), lps[:, 3], atol=1e-4)
    np.testing.assert_allclose(theirs.GetSpacing(), back.grid.spacing_mm, atol=1e-5)
    direction = np.array(theirs.GetDirection()).reshape(3, 3)
    np.testing.assert_allclose(direction, lps[:, :3] / back.grid.spacing_mm, atol=1e-5)


def test_instance_numbers_rise_or_fall_with_k(tmp_path):
    volume = volume_of()
    for descending, numbers in ((False, [1, 2, 3, 4, 5, 6, 7]), (True, [7, 6, 5, 4, 3, 2, 1])):
        files = write_series(volume, tmp_path / str(descending), T1CE, descending=descending)
        headers = read_headers(files)
        assert [int(header.InstanceNumber) for header in headers] == numbers
        heights = [float(header.ImagePositionPatient[2]) for header in headers]
        np.testing.assert_allclose(heights, 7.5 + 1.5 * np.arange(7))


@settings(max_examples=15)
@given(affine=affines(), numbers=st.integers(0, 9))
def test_each_voxel_stays_at_its_place_for_any_affine(tmp_path_factory, affine, numbers):
    array = np.random.default_rng(numbers).integers(-500, 500, (5, 3, 2)).astype(np.float32)
    volume = Volume(array, Grid(array.shape, affine))
    folder = tmp_path_factory.mktemp("dicom") / "s"
    back = read_series(write_series(volume, folder, T1CE))
    ijk = np.argwhere(np.ones(array.shape))
    there = np.rint(ras_to_ijk(ijk_to_ras(ijk, volume.grid.affine), back.grid.affine)).astype(int)
    np.testing.assert_array_equal(back.array[tuple(there.T)], array[tuple(ijk.T)])
    corners = ijk_to_ras(there, back.grid.affine)
    np.testing.assert_allclose(corners, ijk_to_ras(ijk, volume.grid.affine), atol=1e-3)


def test_left_handed_axes_come_back_with_slices_in_the_order_of_dicom(tmp_path):
    affine = np.diag([-0.4, 0.5, 1.5, 1.0])  # left, anterior, superior
    volume = Volume(volume_of().array, Grid(SHAPE, affine))
    back = read_series(write_series(volume, tmp_path / "s", T1CE))
    np.testing.assert_array_equal(back.array, volume.array[:, :, ::-1])
    np.testing.assert_allclose(back.grid.affine[:3, 2], [0, 0, -1.5])
    np.testing.assert_allclose(back.grid.affine[:3, 3], [0, 0, 9])


@pytest.mark.parametrize(
    ("array", "pixels", "scaled"),
    [
        (np.array([0, 65535], np.float32), 0, False),
        (np.array([-32768, 32767], np.float64), 1, False),
        (np.array([-1, 40000], np.int32), 0, True),
        (np.array([-0.5, 2.25], np.float32), 0, True),
        (np.array([0.25, 0.25], np.float32), 0, True),
        (np.array([1e-7, 3e9], np.float32), 0, True),
        (np.array([False, True]), 0, False),
    ],
)
def test_values_are_kept_or_rounded_to_65536_steps(tmp_path, array, pixels, scaled):
    filled = np.linspace(float(array.min()), float(array.max()), 60).reshape(5, 4, 3)
    if not scaled:
        filled = np.rint(filled)
    volume = Volume(filled.astype(array.dtype), Grid((5, 4, 3), np.eye(4)))
    files = write_series(volume, tmp_path / "s", T1CE)
    header = pydicom.dcmread(files[0])
    assert header.PixelRepresentation == pixels
    assert ("RescaleSlope" in header) == scaled
    want = volume.array.astype(float)
    step = (want.max() - want.min()) / 65535
    np.testing.assert_allclose(read_series(files).array, want, atol=0.51 * step, rtol=1e-6)


def test_a_scale_that_differs_from_slice_to_slice_is_applied_to_each(tmp_path):
    volume = volume_of()
    files = write_series(volume, tmp_path / "s", T1CE)
    edit(files[2], RescaleSlope="0.5", RescaleIntercept="-3")
    want = volume.array.astype(np.float32)
    want[:, :, 2] = want[:, :, 2] * 0.5 - 3
    np.testing.assert_array_equal(read_series(files).array, want)


def test_a_series_says_its_study_and_nothing_of_a_patient(tmp_path):
    t1ce, t2 = (
        pydicom.dcmread(write_series(volume_of(), tmp_path / name, header)[0])
        for name, header in (("t1ce", T1CE), ("t2", T2))
    )
    assert t1ce.PatientID == t2.PatientID == "VS-007"
    assert t1ce.StudyInstanceUID == t2.StudyInstanceUID == uid_of("VS-007")
    assert t1ce.FrameOfReferenceUID == t2.FrameOfReferenceUID
    assert t1ce.SeriesInstanceUID != t2.SeriesInstanceUID
    assert t1ce.SOPInstanceUID != t2.SOPInstanceUID
    assert t1ce.ContrastBolusAgent == "Gadolinium"
    assert "ContrastBolusAgent" not in t2
    names = ("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "AccessionNumber")
    assert [str(t1ce[name].value or "") for name in names] == [""] * 5
    assert headers_of("VS-007") == (T1CE, T2)
    assert headers_of("VS-008")[0].study_uid != T1CE.study_uid


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is missing")
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_dciodvfy_finds_no_error(tmp_path, dtype):
    volume = volume_of(LPS_AXES["oblique"], dtype)
    if dtype == np.float32:
        volume.array[0, 0, 0] = -0.5
    header = replace(T1CE, study_date="20240131")
    for path in write_series(volume, tmp_path / "s", header):
        told = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        assert "MRImage" in told.stderr
        assert "Error" not in told.stderr + told.stdout


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path):
    write_series(volume_of(), tmp_path / "s", T1CE)
    with pytest.raises(ImageError, match="an empty folder was wanted"):
        write_series(volume_of(), tmp_path / "s", T1CE)
    bad = Volume(np.full((3, 3, 3), np.nan), Grid((3, 3, 3), np.eye(4)))
    with pytest.raises(ImageError, match="not finite"):
        write_series(bad, tmp_path / "bad", T1CE)
    sheared = np.eye(4)
    sheared[0, 2] = 0.2
    with pytest.raises(ImageError, match="right angles"):
        write_series(Volume(np.zeros((3, 3, 3)), Grid((3, 3, 3), sheared)), tmp_path / "bad", T1CE)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


@pytest.fixture
def files(tmp_path):
    return write_series(volume_of(), tmp_path / "s", T1CE)


def test_no_file_and_no_dicom_are_refused(tmp_path, files):
    with pytest.raises(ImageError, match="at least one file"):
        read_series([])
    (tmp_path / "text.dcm").write_text("no DICOM")
    with pytest.raises(ImageError, match=r"text.dcm cannot be read as DICOM"):
        read_series([*files, tmp_path / "text.dcm"])
    with pytest.raises(ImageError, match=r"gone.dcm cannot be read as DICOM"):
        read_series([tmp_path / "gone.dcm"])


def test_a_file_cut_short_is_refused(files):
    content = files[3].read_bytes()
    files[3].write_bytes(content[: len(content) - 100])
    with pytest.raises(ImageError, match=r"0004.dcm cannot be read as DICOM"):
        read_series(files)


@pytest.mark.parametrize("count", [0, 10])
def test_a_file_with_fewer_pixels_than_it_says_is_refused(files, count):
    one = pydicom.dcmread(files[3])
    one.PixelData = one.PixelData[:count]
    one.save_as(files[3])
    with pytest.raises(ImageError, match=rf"{files[3].name} has {count} bytes of pixels, \d+ were"):
        read_series(files)


def test_two_series_are_refused(tmp_path, files):
    others = write_series(volume_of(), tmp_path / "t2", T2)
    with pytest.raises(ImageError, match="files of one series were wanted, got 2"):
        read_series([*files, *others])


def test_a_missing_or_repeated_slice_is_refused(tmp_path, files):
    with pytest.raises(ImageError, match="1 of them are missing"):
        read_series(files[:3] + files[4:])
    copy = tmp_path / "copy.dcm"
    shutil.copy(files[3], copy)
    with pytest.raises(ImageError, match="1 of 8 lie on another"):
        read_series([*files, copy])
    edit(files[3], ImagePositionPatient=[-20.25, 31.123456, 7.5 + 4.5 + 0.2])
    with pytest.raises(ImageError, match=r"even gaps .* got 1\.300 to 1\.700"):
        read_series(files)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "one orientation"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "not at right angles"),
        ({"PixelSpacing": [0.5, 0.41]}, "one pixel spacing"),
        ({"PixelSpacing": [0, 0.4]}, "positive size"),
        ({"ImagePositionPatient": None}, "no usable ImagePositionPatient"),
        ({"NumberOfFrames": 2}, "does not say where they lie"),
        ({"SamplesPerPixel": 3}, "has colors"),
        ({"Rows": 5}, "slices of one size"),
        ({"Rows": None}, "how many pixels it has"),
    ],
)
def test_what_is_no_even_stack_is_refused(files, values, text):
    edit(files[3], **values)
    with pytest.raises(ImageError, match=text):
        read_series(files)


def test_sheared_slices_are_refused(files):
    for k, path in enumerate(files):
        edit(path, ImagePositionPatient=[-20.25 + 0.1 * k, 31, 7.5 + 1.5 * k])
    with pytest.raises(ImageError, match="sheared"):
        read_series(files)


def test_one_slice_takes_its_depth_from_the_file(files):
    volume = read_series([files[2]])
    assert volume.array.shape == (13, 11, 1)
    np.testing.assert_allclose(volume.grid.spacing_mm, [0.4, 0.5, 1.5])


def test_compressed_files_are_read(files):
    for path in files:
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(path)
    np.testing.assert_array_equal(read_series(files).array, volume_of().array)
