"""Enhanced MR images, all slices in one file: read, told apart, and labeled by a DICOM SEG."""

import shutil
import subprocess
from dataclasses import replace

import highdicom as hd
import numpy as np
import pydicom
import pytest
from enhanced import as_stored, enhanced
from highdicom.legacy import LegacyConvertedEnhancedMRImage
from pydicom.uid import generate_uid

from clickseg.dicom.mr import headers_of, write_series
from clickseg.dicom.read import read_headers, read_series
from clickseg.dicom.rules import load_rules
from clickseg.dicom.seg import Maker, read_seg, write_seg
from clickseg.dicom.series import facts_of, find_pair
from clickseg.geometry import LPS_FROM_RAS, Grid
from clickseg.volume import ImageError, Volume

SHAPE = (13, 11, 7)
COS, SIN = np.cos(0.3), np.sin(0.3)
T1CE, T2 = headers_of("VS-007")
MAKER = Maker(name="clickseg", version="1.2.3")
ORDER = [3, 0, 6, 1, 5, 2, 4]


@pytest.fixture
def volume():
    lps = np.eye(4)
    lps[:3, :3] = np.array([[1, 0, 0], [0, COS, -SIN], [0, SIN, COS]]) * [0.4, 0.5, 1.5]
    lps[:3, 3] = [-20.25, 31.123456, 7.5]
    array = np.random.default_rng(3).integers(0, 4000, SHAPE).astype(np.int16)
    return Volume(array, Grid(SHAPE, LPS_FROM_RAS @ lps))


@pytest.fixture
def slices(volume, tmp_path):
    return [pydicom.dcmread(path) for path in write_series(volume, tmp_path / "s", T1CE)]


def saved(dataset, path):
    dataset.save_as(path, write_like_original=False)
    return path


def mask_on(grid):
    array = np.zeros(grid.shape, np.uint8)
    array[3:6, 2:9, 2:6] = 1
    array[7, 10, 3] = 1
    return Volume(array, grid)


@pytest.mark.parametrize("order", [None, ORDER])
@pytest.mark.parametrize("measures", ["SharedFunctionalGroupsSequence", "each frame"])
def test_its_voxels_come_where_they_were_in_the_order_of_k(
    volume, slices, tmp_path, order, measures
):
    dataset = enhanced(slices, order=order, measures=measures, scales=[(2, -7)] * 7)
    back = read_series([saved(dataset, tmp_path / "enhanced.dcm")])
    np.testing.assert_array_equal(back.array, 2.0 * volume.array - 7)
    assert back.grid == volume.grid


def test_frames_that_are_scaled_differently_are_refused(slices, tmp_path):
    uneven = enhanced(slices, scales=[(k + 1, 0) for k in range(7)])
    with pytest.raises(ImageError, match="scales its frames in 7 ways"):
        read_series([saved(uneven, tmp_path / "uneven.dcm")])


@pytest.mark.parametrize("measures", ["SharedFunctionalGroupsSequence", "each frame"])
def test_it_says_of_itself_what_its_slices_would(slices, measures):
    classic, facts = facts_of(slices), facts_of([enhanced(slices, measures=measures)])
    assert facts == classic
    assert (facts.slices, facts.echo_time_ms, facts.contrast_agent) == (7, 4.1, "Gadolinium")
    np.testing.assert_allclose(facts.spacing_mm, [0.4, 0.5, 1.5], atol=1e-3)


def test_a_pair_of_them_is_found_by_contrast_and_times(volume, tmp_path):
    made = []
    for header in (T1CE, T2):
        files = write_series(volume, tmp_path / header.series_uid, header)
        dataset = enhanced([pydicom.dcmread(path) for path in files])
        dataset.SeriesDescription = "T1" if header is T1CE else "T2"
        made.append(facts_of([dataset]))
    rules = replace(load_rules(), smallest_slices=7)
    pair = find_pair(made[::-1], rules)
    assert (pair.t1ce.uid, pair.t2.uid) == (T1CE.series_uid, T2.series_uid)


@pytest.mark.parametrize("order", [None, ORDER])
@pytest.mark.parametrize("measures", ["SharedFunctionalGroupsSequence", "each frame"])
def test_a_mask_of_it_comes_back_exactly_and_refers_to_its_frames(
    volume, slices, tmp_path, order, measures
):
    dataset = enhanced(slices, order=order, measures=measures)
    header = pydicom.dcmread(saved(dataset, tmp_path / "enhanced.dcm"), stop_before_pixels=True)
    mask = mask_on(volume.grid)
    seg = pydicom.dcmread(saved(write_seg(mask, [header], MAKER), tmp_path / "seg.dcm"))
    np.testing.assert_array_equal(read_seg(seg, volume.grid).array, mask.array)
    assert seg.NumberOfFrames == 4
    (referred,) = seg.ReferencedSeriesSequence
    assert referred.SeriesInstanceUID == T1CE.series_uid
    again = hd.seg.Segmentation.from_dataset(seg)
    frames = again.get_pixels_by_source_frame(
        dataset.SOPInstanceUID, list(range(1, 8)), assert_missing_frames_are_empty=True
    )
    order = order or range(7)[::-1]
    np.testing.assert_array_equal(frames[..., 0].transpose(2, 1, 0), mask.array[:, :, order])


def test_an_empty_mask_of_it_is_stored_as_empty_slices(volume, slices):
    empty = Volume(np.zeros(SHAPE, np.uint8), volume.grid)
    seg = write_seg(empty, [enhanced(slices)], MAKER)
    assert seg.NumberOfFrames == 7
    assert not read_seg(seg, volume.grid).array.any()


def test_one_that_was_converted_from_slices_is_as_good(volume, slices, tmp_path):
    uids = generate_uid(), generate_uid()
    converted = LegacyConvertedEnhancedMRImage(slices, uids[0], 9, uids[1], 1)
    path = saved(converted, tmp_path / "converted.dcm")
    back = read_series([path])
    np.testing.assert_array_equal(back.array, volume.array)
    mask = mask_on(volume.grid)
    seg = write_seg(mask, read_headers([path]), MAKER)
    np.testing.assert_array_equal(read_seg(seg, volume.grid).array, mask.array)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is missing")
def test_dciodvfy_finds_no_error_in_its_mask(volume, slices, tmp_path):
    path = saved(write_seg(mask_on(volume.grid), [enhanced(slices)], MAKER), tmp_path / "seg.dcm")
    told = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    assert "Segmentation" in told.stderr
    assert "Error" not in told.stderr + told.stdout


def test_several_files_of_many_slices_are_read_but_not_labeled(volume, slices, tmp_path):
    parts = [enhanced(slices[:3]), enhanced(slices[3:])]
    files = [saved(one, tmp_path / f"{number}.dcm") for number, one in enumerate(parts)]
    np.testing.assert_array_equal(read_series(files).array, volume.array)
    headers = read_headers(files)
    assert facts_of(headers).is_parted
    assert not facts_of(headers[:1]).is_parted
    with pytest.raises(ImageError, match=r"2 files of many slices; one slice a file was wanted"):
        write_seg(mask_on(volume.grid), headers, MAKER)


def test_a_file_that_lacks_what_a_seg_repeats_is_refused(volume, slices):
    dataset = enhanced(slices)
    (shared,) = dataset.SharedFunctionalGroupsSequence
    dataset.ImageOrientationPatient = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    del shared.PlaneOrientationSequence
    with pytest.raises(ImageError, match="has no PlaneOrientationSequence"):
        write_seg(mask_on(volume.grid), [as_stored(dataset, dataset.file_meta)], MAKER)
