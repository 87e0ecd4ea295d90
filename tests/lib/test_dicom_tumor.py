"""Which segmentation counts, and segmentations that say too little."""

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO

from clickseg.dicom.mr import headers_of, write_series
from clickseg.dicom.read import read_headers, read_series
from clickseg.dicom.seg import Maker, read_seg, write_seg
from clickseg.dicom.tumor import made_last, made_when
from clickseg.geometry import Grid
from clickseg.volume import ImageError, Volume

SHAPE = (13, 11, 7)
AFFINE = np.array([[-0.4, 0, 0, 20], [0, -0.5, 0, 31], [0, 0, 1.5, 7], [0, 0, 0, 1]])


@pytest.fixture
def label():
    array = np.zeros(SHAPE, np.uint8)
    array[3:6, 2:9, 4] = 1
    return Volume(array, Grid(SHAPE, AFFINE))


@pytest.fixture
def seg(label, tmp_path):
    """A segmentation of one frame, as it is read from a file."""
    image = Volume(np.arange(label.array.size).reshape(SHAPE), label.grid)
    files = write_series(image, tmp_path / "s", headers_of("VS-007")[0])
    assert read_series(files).grid == label.grid
    made = write_seg(label, read_headers(files), Maker(name="a", version="1"))
    with DicomBytesIO() as file:
        made.save_as(file, write_like_original=False)
        file.seek(0)
        came = pydicom.dcmread(file)
    assert came.NumberOfFrames == 1
    return came


def test_one_frame_may_say_all_of_itself_as_what_frames_share(seg, label):
    (frame,) = seg.PerFrameFunctionalGroupsSequence
    seg.SharedFunctionalGroupsSequence[0].update(frame)
    del seg.PerFrameFunctionalGroupsSequence
    np.testing.assert_array_equal(read_seg(seg, label.grid).array, label.array)


def no_groups(seg):
    del seg.PerFrameFunctionalGroupsSequence


def no_place(seg):
    del seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence


def no_segment(seg):
    seg.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence = []


def no_number(seg):
    (frame,) = seg.PerFrameFunctionalGroupsSequence
    del frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber


def no_number_of_the_segment(seg):
    del seg.SegmentSequence[0].SegmentNumber


def more_frames_than_pixels(seg):
    seg.NumberOfFrames = 2
    seg.PerFrameFunctionalGroupsSequence.append(seg.PerFrameFunctionalGroupsSequence[0])


def more_groups_than_frames(seg):
    seg.PerFrameFunctionalGroupsSequence.append(seg.PerFrameFunctionalGroupsSequence[0])


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (no_groups, "does not say which frame is of which segment"),
        (no_place, "no usable ImagePositionPatient"),
        (no_segment, "does not say which frame is of which segment"),
        (no_number, "not as DICOM has one: .*ReferencedSegmentNumber"),
        (no_number_of_the_segment, "not as DICOM has one: .*SegmentNumber"),
        (more_frames_than_pixels, "the pixels of the SEG cannot be read"),
        (more_groups_than_frames, "1 frames were wanted, the file describes 2"),
    ],
)
def test_what_says_too_little_is_refused_by_a_sentence(seg, label, spoil, text):
    spoil(seg)
    with pytest.raises(ImageError, match=text):
        read_seg(seg, label.grid)


def said(name="VS", **values):
    dataset, segment = Dataset(), Dataset()
    segment.SegmentLabel = name
    dataset.SegmentSequence = [segment]
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def test_when_one_was_made_is_told_by_its_content_then_by_what_else_there_is():
    study = {"StudyDate": "20200101", "StudyTime": "08"}
    created = {"InstanceCreationDate": "20200104", "InstanceCreationTime": "101112"}
    series = {"SeriesDate": "20200103"}
    content = {"ContentDate": "20200102", "ContentTime": "235959.5"}
    assert made_when(said()) == ""
    assert made_when(said(**study)) == "2020010108"
    assert made_when(said(**study, **created)) == "20200104101112"
    assert made_when(said(**study, **created, **series)) == "20200103"
    assert made_when(said(**study, **created, **series, **content)) == "20200102235959.5"


def test_the_last_one_that_says_tumor_counts():
    early, late = said(ContentDate="20200102"), said(ContentDate="20200102", ContentTime="01")
    other = said("Cochlea", ContentDate="20210101")
    same = said(ContentDate="20200102", ContentTime="01")
    assert made_last([late, early, other]) == [late]
    assert made_last([early, other]) == [early]
    assert made_last([other]) == [other]
    assert len(made_last([late, early, same])) == 2
