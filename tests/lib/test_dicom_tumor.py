"""Which segmentation counts, and segmentations that say too little."""

import time
from datetime import datetime

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


def test_when_one_was_made_is_told_by_its_content_then_by_what_else_there_is(zone):
    zone("UTC")
    study = {"StudyDate": "20200101", "StudyTime": "08"}
    created = {"InstanceCreationDate": "20200104", "InstanceCreationTime": "101112"}
    series = {"SeriesDate": "20200103"}
    content = {"ContentDate": "20200102", "ContentTime": "235959.5"}
    assert made_when(said()) == ""
    assert made_when(said(**study)) == "20200101080000.000000"
    assert made_when(said(**study, **created)) == "20200104101112.000000"
    assert made_when(said(**study, **created, **series)) == "20200103000000.000000"
    assert made_when(said(**study, **created, **series, **content)) == "20200102235959.500000"


@pytest.fixture
def zone(monkeypatch):
    """Set the zone of this machine."""

    def set_zone(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("here", "offset", "wanted"),
    [
        ("UTC", "-0500", "20200102150000.000000"),
        ("UTC", "+0930", "20200102003000.000000"),
        ("EST5", "-0500", "20200102150000.000000"),
        ("EST5", "+0000", "20200102100000.000000"),
        ("EST5", None, "20200102150000.000000"),
        ("EST5", "anything", "20200102150000.000000"),
    ],
)
def test_when_one_was_made_is_told_in_one_zone(zone, here, offset, wanted):
    zone(here)
    seg = said(ContentDate="20200102", ContentTime="100000")
    if offset is not None:
        seg.TimezoneOffsetFromUTC = offset
    assert made_when(seg) == wanted


def test_the_last_hour_of_summer_comes_before_the_first_of_winter(zone):
    zone("CET-1CEST,M3.5.0,M10.5.0/3")
    summer, winter = (
        said(ContentDate="20241027", ContentTime=f"02{minutes}00", TimezoneOffsetFromUTC=offset)
        for minutes, offset in ((30, "+0200"), (10, "+0100"))
    )
    assert made_last([summer, winter]) == [winter]


def test_what_was_made_at_one_time_is_as_new_whether_it_says_its_zone(zone):
    zone("EST5")
    at = {"ContentDate": "20200102", "ContentTime": "100000"}
    both = [said(**at), said(**at, TimezoneOffsetFromUTC="-0500")]
    assert made_last(both) == both


def test_a_date_that_is_none_stays_as_it_is(zone):
    zone("UTC")
    seg = said(ContentDate="20200230", TimezoneOffsetFromUTC="-0500")
    assert made_when(seg) == "20200230"


@pytest.mark.parametrize(("of_image", "wanted"), [(None, "14+0000"), ("+0200", "16+0200")])
def test_a_correction_elsewhere_is_newer_than_what_it_corrects(
    label, tmp_path, zone, of_image, wanted
):
    """This server is at UTC; the one who corrects is five hours behind, and an hour later."""
    zone("UTC")
    headers = read_headers(write_series(label, tmp_path / "s", headers_of("VS-007")[0]))
    if of_image is not None:
        for header in headers:
            header.TimezoneOffsetFromUTC = of_image
    now = datetime(2020, 1, 2, 14)
    ours = write_seg(label, headers, Maker(name="a", version="1"), label_time=now)
    theirs = said(ContentDate="20200102", ContentTime="100000", TimezoneOffsetFromUTC="-0500")
    assert ours.ContentTime[:2] + ours.TimezoneOffsetFromUTC == wanted
    assert made_when(ours) == "20200102140000.000000"
    assert made_last([ours, theirs]) == [theirs]


def test_a_seg_states_its_times_in_the_zone_that_its_image_was_made_in(label, tmp_path, zone):
    """What is copied of a study in winter is not an hour early because it is outlined in summer."""
    zone("CET-1CEST,M3.5.0,M10.5.0/3")
    headers = read_headers(write_series(label, tmp_path / "s", headers_of("VS-007")[0]))
    for header in headers:
        header.StudyDate, header.StudyTime = "20200115", "100000"
    ours = write_seg(
        label, headers, Maker(name="a", version="1"), label_time=datetime(2020, 7, 1, 14)
    )
    assert (ours.StudyTime, ours.TimezoneOffsetFromUTC) == ("100000", "+0100")
    assert (ours.ContentDate, ours.ContentTime[:2]) == ("20200701", "13")
    assert made_when(ours) == "20200701120000.000000"


def test_the_last_one_that_says_tumor_counts():
    early, late = said(ContentDate="20200102"), said(ContentDate="20200102", ContentTime="01")
    other = said("Cochlea", ContentDate="20210101")
    same = said(ContentDate="20200102", ContentTime="01")
    assert made_last([late, early, other]) == [late]
    assert made_last([early, other]) == [early]
    assert made_last([other]) == [other]
    assert len(made_last([late, early, same])) == 2
