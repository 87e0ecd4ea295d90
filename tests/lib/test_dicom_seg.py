"""DICOM SEG: what is written says the right things and is read back voxel by voxel."""

import shutil
import subprocess
from datetime import datetime

import highdicom as hd
import numpy as np
import pydicom
import pydicom_seg
import pytest
import SimpleITK as sitk  # noqa: N813  # its documented name
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixel_data_handlers.numpy_handler import pack_bits
from strategies import affines

from clickseg.dicom.mr import headers_of, write_series
from clickseg.dicom.read import read_headers, read_series
from clickseg.dicom.seg import Maker, read_seg, write_seg
from clickseg.geometry import Grid
from clickseg.volume import ImageError, Volume

SHAPE = (13, 11, 7)
AFFINE = np.array([[-0.4, 0, 0, 20], [0, -0.5, 0, 31], [0, 0, 1.5, 7], [0, 0, 0, 1]])
T1CE, _ = headers_of("VS-007")
MAKER = Maker(name="clickseg", version="1.2.3")


def series_in(folder, affine=AFFINE, shape=SHAPE, **options):
    array = np.random.default_rng(3).integers(0, 4000, shape)
    files = write_series(Volume(array, Grid(shape, affine)), folder, T1CE, **options)
    return files, read_series(files).grid


@pytest.fixture
def series(tmp_path):
    files, grid = series_in(tmp_path / "s")
    return read_headers(files), grid


def blob(grid):
    """Make a mask with nothing in the first two slices and the last."""
    array = np.zeros(grid.shape, np.uint8)
    array[3:6, 2:9, 2:6] = 1
    array[4, 4, 4] = 0
    array[7, 10, 3] = 1
    return Volume(array, grid)


def saved(dataset, folder):
    dataset.save_as(folder / "seg.dcm", write_like_original=False)
    return folder / "seg.dcm"


def test_a_mask_comes_back_exactly_and_only_its_slices_are_stored(series, tmp_path):
    headers, grid = series
    path = saved(write_seg(blob(grid), headers[::-1], MAKER), tmp_path)
    dataset = pydicom.dcmread(path)
    assert dataset.NumberOfFrames == 4
    back = read_seg(dataset, grid)
    np.testing.assert_array_equal(back.array, blob(grid).array)
    assert back.array.dtype == np.uint8
    assert back.grid == grid


@settings(max_examples=15)
@given(affine=affines(), seed=st.integers(0, 99), descending=st.booleans())
def test_any_mask_comes_back_for_any_affine(tmp_path_factory, affine, seed, descending):
    folder = tmp_path_factory.mktemp("seg") / "s"
    files, grid = series_in(folder, affine, (5, 3, 4), descending=descending)
    mask = np.random.default_rng(seed).integers(0, 2, grid.shape).astype(np.uint8)
    mask[:, :, seed % 4] = 0
    dataset = write_seg(Volume(mask, grid), read_headers(files), MAKER)
    np.testing.assert_array_equal(read_seg(dataset, grid).array, mask)


def test_an_empty_mask_is_stored_as_empty_slices(series, tmp_path):
    headers, grid = series
    empty = Volume(np.zeros(SHAPE, np.uint8), grid)
    dataset = pydicom.dcmread(saved(write_seg(empty, headers, MAKER), tmp_path))
    assert dataset.NumberOfFrames == 7
    assert not read_seg(dataset, grid).array.any()


def test_the_segment_says_what_it_is_who_made_it_and_of_which_series(series):
    headers, grid = series
    dataset = write_seg(
        blob(grid),
        headers,
        Maker(name="clickseg", version="1.2.3", kind="AUTOMATIC"),
        name="VS",
        series_description="VS, initial",
        color=(255, 0, 0),
        label_time=datetime(2024, 1, 31, 12, 30),
    )
    assert dataset.SeriesDescription == "VS, initial"
    assert (dataset.ContentDate, dataset.ContentTime) == ("20240131", "123000.000000")
    assert dataset.StudyInstanceUID == T1CE.study_uid
    assert dataset.PatientID == "VS-007"
    assert dataset.FrameOfReferenceUID == T1CE.frame_of_reference_uid
    assert dataset.SeriesInstanceUID != T1CE.series_uid
    (referenced,) = dataset.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == T1CE.series_uid
    instances = [item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence]
    assert instances == [header.SOPInstanceUID for header in headers]
    (segment,) = dataset.SegmentSequence
    assert segment.SegmentLabel == "VS"
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("clickseg", "1.2.3")
    (family,) = algorithm.AlgorithmFamilyCodeSequence
    assert (family.CodeValue, family.CodeMeaning) == ("123110", "Artificial Intelligence")
    (category,) = segment.SegmentedPropertyCategoryCodeSequence
    (kind,) = segment.SegmentedPropertyTypeCodeSequence
    (modifier,) = kind.SegmentedPropertyTypeModifierCodeSequence
    told = [(c.CodeValue, c.CodingSchemeDesignator) for c in (category, kind, modifier)]
    assert told == [("49755003", "SCT"), ("108369006", "SCT"), ("126949007", "SCT")]
    # sRGB red is L* 53.24, a* 80.09, b* 67.20
    want = [53.24 / 100 * 65535, (80.09 + 128) / 255 * 65535, (67.2 + 128) / 255 * 65535]
    np.testing.assert_allclose(segment.RecommendedDisplayCIELabValue, want, atol=10)


def test_highdicom_reads_it(series, tmp_path):
    headers, grid = series
    seg = hd.seg.segread(saved(write_seg(blob(grid), headers, MAKER), tmp_path))
    uids = [header.SOPInstanceUID for header in headers]
    pixels = seg.get_pixels_by_source_instance(uids, combine_segments=True)
    np.testing.assert_array_equal(pixels.transpose(2, 1, 0), blob(grid).array)
    assert seg.get_segment_description(1).segmented_property_type.value == "108369006"


def test_pydicom_seg_reads_it(series, tmp_path):
    headers, grid = series
    dataset = pydicom.dcmread(saved(write_seg(blob(grid), headers, MAKER), tmp_path))
    result = pydicom_seg.SegmentReader().read(dataset)
    image = result.segment_image(1)
    box = np.zeros(SHAPE, np.uint8)
    at = np.rint((np.array(image.GetOrigin()) - [-20, -31, 7]) / [0.4, 0.5, 1.5]).astype(int)
    data = result.segment_data(1).transpose(2, 1, 0)
    box[tuple(slice(a, a + n) for a, n in zip(at, data.shape, strict=True))] = data
    np.testing.assert_array_equal(box, blob(grid).array)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is missing")
def test_dciodvfy_finds_no_error(series, tmp_path):
    headers, grid = series
    path = saved(write_seg(blob(grid), headers, MAKER), tmp_path)
    told = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    assert "Segmentation" in told.stderr
    assert "Error" not in told.stderr + told.stdout


def template(*segments):
    """Return what MONAI Label hands pydicom-seg; a segment is its name and its type's code."""
    return pydicom_seg.template.from_dcmqi_metainfo(
        {
            "SeriesDescription": "AIName",
            "SeriesNumber": "300",
            "InstanceNumber": "1",
            "ContentLabel": "SEGMENTATION",
            "segmentAttributes": [
                [
                    {
                        "labelID": number,
                        "SegmentLabel": name,
                        "SegmentDescription": name,
                        "SegmentAlgorithmType": "AUTOMATIC",
                        "SegmentAlgorithmName": "MONAILABEL",
                        "SegmentedPropertyCategoryCodeSequence": {
                            "CodeValue": "123037004",
                            "CodingSchemeDesignator": "SCT",
                            "CodeMeaning": "Anatomical Structure",
                        },
                        "SegmentedPropertyTypeCodeSequence": {
                            "CodeValue": code,
                            "CodingSchemeDesignator": "SCT",
                            "CodeMeaning": name,
                        },
                        "recommendedDisplayRGBValue": [255, 0, 0],
                    }
                    for number, (name, code) in enumerate(segments, start=1)
                ]
            ],
        }
    )


SPLEEN = "78961009"


def written_by_pydicom_seg(array, headers, segments, folder, *, crop=True, skip=True):
    writer = pydicom_seg.MultiClassWriter(
        template(*segments),
        inplane_cropping=crop,
        skip_empty_slices=skip,
        skip_missing_segment=True,
    )
    image = sitk.GetImageFromArray(array.transpose())
    image.SetSpacing([0.4, 0.5, 1.5])
    image.SetOrigin([-20, -31, 7])
    return pydicom.dcmread(saved(writer.write(image, headers), folder))


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_a_cropped_seg_of_another_program_is_put_where_it_was(series, tmp_path, crop, skip):
    headers, grid = series
    array = blob(grid).array
    dataset = written_by_pydicom_seg(
        array, headers, [("unknown", SPLEEN)], tmp_path, crop=crop, skip=skip
    )
    assert (dataset.Columns < 13) == crop
    assert (dataset.NumberOfFrames < 7) == skip
    np.testing.assert_array_equal(read_seg(dataset, grid).array, array)
    # on a flipped and permuted grid of the same voxels
    turned = grid.canonical
    np.testing.assert_array_equal(read_seg(dataset, turned).array, grid.to_canonical(array))


def two_segments(series, folder, *segments):
    headers, grid = series
    array = blob(grid).array
    array[10:12, 1:3, 1] = 2
    return written_by_pydicom_seg(array, headers, segments, folder), array, grid


@pytest.mark.parametrize(
    ("segments", "number"),
    [
        ([("left", SPLEEN), ("right", "126949007")], 2),
        ([("tumor", SPLEEN), ("right", "108369006")], 2),
        ([("a tumour", SPLEEN), ("cochlea", SPLEEN)], 1),
        ([("cochlea", SPLEEN), ("VS", SPLEEN)], 2),
        ([("left", "108369006"), ("Vestibular Schwannoma", "108369006")], 2),
    ],
)
def test_the_tumor_among_several_is_found_by_code_then_by_name(series, tmp_path, segments, number):
    dataset, array, grid = two_segments(series, tmp_path, *segments)
    np.testing.assert_array_equal(read_seg(dataset, grid).array, array == number)


def test_which_segment_is_the_tumor_must_be_clear(series, tmp_path):
    dataset, _, grid = two_segments(series, tmp_path, ("left", SPLEEN), ("right", SPLEEN))
    with pytest.raises(ImageError, match="the SEG has: left, right"):
        read_seg(dataset, grid)
    two_tumors, _, _ = two_segments(series, tmp_path, ("VS", SPLEEN), ("tumor", SPLEEN))
    with pytest.raises(ImageError, match="the SEG has: VS, tumor"):
        read_seg(two_tumors, grid)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (np.diag([0.5, 1, 1, 1]), "of another size|pixel size"),
        (np.diag([2.0, 1, 1, 1]), "axes of the SEG lie 0.50 voxels"),
        (np.array([[1, 0, 0, 0.1], *np.eye(4)[1:]]), "pixels of the SEG lie 0.25 voxels"),
        (np.array([[1, 0, 0, 4.0], *np.eye(4)[1:]]), "reaches out of its image"),
    ],
)
def test_a_seg_beside_the_voxels_of_the_image_is_refused(series, change, text):
    headers, grid = series
    dataset = write_seg(blob(grid), headers, MAKER)
    affine = grid.affine @ change if change[0, 3] == 0 else change @ grid.affine
    with pytest.raises(ImageError, match=text):
        read_seg(dataset, Grid(SHAPE, affine))


def test_a_mask_on_another_grid_is_not_written(series):
    headers, grid = series
    with pytest.raises(ImageError, match="the mask lies on another grid"):
        write_seg(Volume(np.ones((13, 11, 6)), Grid((13, 11, 6), grid.affine)), headers, MAKER)
    with pytest.raises(ImageError, match="at least one file"):
        write_seg(blob(grid), [], MAKER)
    headers[0].PerFrameFunctionalGroupsSequence = [Dataset()]
    with pytest.raises(ImageError, match="one slice a file"):
        write_seg(blob(grid), headers, MAKER)


def test_what_is_no_seg_is_refused(series):
    headers, grid = series
    with pytest.raises(ImageError, match="a binary or fractional SEG was wanted, got MR"):
        read_seg(headers[0], grid)
    dataset = write_seg(blob(grid), headers, MAKER)
    dataset.PixelData = dataset.PixelData[:-4]
    with pytest.raises(ImageError, match="the pixels of the SEG cannot be read"):
        read_seg(pydicom.dcmread(_in_memory(dataset)), grid)


def _in_memory(dataset):
    buffer = pydicom.filebase.DicomBytesIO()
    dataset.save_as(buffer, write_like_original=False)
    buffer.seek(0)
    return buffer


def test_a_series_that_says_little_gets_a_seg_that_says_as_little(series):
    headers, grid = series
    for header in headers:
        for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate"):
            delattr(header, name)
        for name in ("StudyTime", "StudyID", "AccessionNumber", "SliceThickness", "Manufacturer"):
            delattr(header, name)
    dataset = write_seg(blob(grid), headers, MAKER)
    assert (dataset.PatientID, dataset.StudyDate) == ("", "")
    assert "PatientID" not in headers[0]
    np.testing.assert_array_equal(read_seg(dataset, grid).array, blob(grid).array)
    del headers[3].FrameOfReferenceUID
    with pytest.raises(ImageError, match="frame of reference of its image, which has none"):
        write_seg(blob(grid), headers, MAKER)


def test_frames_may_come_in_any_order(series):
    headers, grid = series
    dataset = write_seg(blob(grid), headers, MAKER)
    order = [2, 0, 3, 1]
    dataset.PixelData = pack_bits(dataset.pixel_array[order])
    groups = dataset.PerFrameFunctionalGroupsSequence
    dataset.PerFrameFunctionalGroupsSequence = [groups[index] for index in order]
    back = read_seg(pydicom.dcmread(_in_memory(dataset)), grid)
    np.testing.assert_array_equal(back.array, blob(grid).array)


def test_half_of_a_fractional_seg_is_tumor(series):
    headers, grid = series
    values = np.zeros(SHAPE, np.float32)
    values[3, 4, 2], values[4, 4, 2], values[5, 4, 2] = 0.4, 0.6, 1
    dataset = hd.seg.Segmentation(
        source_images=headers,
        pixel_array=values.transpose().copy(),
        segmentation_type="FRACTIONAL",
        segment_descriptions=write_seg(blob(grid), headers, MAKER).SegmentSequence,
        series_instance_uid="1.2",
        series_number=1,
        sop_instance_uid="1.3",
        instance_number=1,
        manufacturer="a",
        manufacturer_model_name="b",
        software_versions="c",
        device_serial_number="d",
    )
    back = read_seg(pydicom.dcmread(_in_memory(dataset)), grid)
    np.testing.assert_array_equal(back.array, values > 0.5)
