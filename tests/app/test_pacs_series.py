"""Series that a PACS holds in other ways: in one file, uncounted, growing, in other frames."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicomweb import SHAPE, SmallPacs, block, images, seg_by_another
from enhanced import enhanced
from fastapi import HTTPException
from serving import LABEL, rotation, save

from clickseg.dicom import listing
from clickseg.dicom.mr import headers_of, write_series
from clickseg.dicom.seg import read_seg
from clickseg.dicom.web import Pacs
from clickseg.geometry import Grid
from clickseg.study import placing_of
from clickseg.volume import Volume, read_label, read_volume
from clickseg_app import pacs_index
from clickseg_app.pacs import PacsDatastore

T1CE, T2 = headers_of("a")


@pytest.fixture
def remote():
    with SmallPacs() as pacs:
        yield pacs


@pytest.fixture(autouse=True)
def _looks_at_once(monkeypatch):
    monkeypatch.setattr(pacs_index, "LOOK_AGAIN_S", 0.0)
    monkeypatch.setattr(listing, "COUNT_AGAIN_S", 0.0)


@pytest.fixture
def open_store(remote, tmp_path):
    def open_store(name="cache"):
        return PacsDatastore(Pacs(remote.url), tmp_path / name, False, {LABEL: 1})

    return open_store


@pytest.fixture
def oblique():
    """A T1ce and a T2 of unlike sizes, neither along the axes of the patient."""
    rng = np.random.default_rng(5)
    pair = []
    for shape, spacing in ((SHAPE, (0.4, 0.6, 1.3)), ((19, 11, 13), (0.5, 0.5, 1.1))):
        affine = np.eye(4)
        # A right-handed frame, as scanners write it.
        affine[:3, :3] = (
            rotation(17, 0) @ rotation(-23, 2) @ np.diag([-1, -1, 1]) @ np.diag(spacing)
        )
        affine[:3, 3] = [3.5, -20.25, 11.0]
        array = rng.integers(0, 900, shape).astype(np.float32)
        pair.append(Volume(array, Grid(shape, affine)))
    return pair


def add_enhanced(remote, folder, volumes, parts=(slice(None),)):
    """Put a study in whose series are one file each, or as many as there are parts."""
    for header, volume in zip((T1CE, T2), volumes, strict=True):
        files = write_series(volume, folder / header.series_uid, header)
        slices = [pydicom.dcmread(path) for path in files]
        remote.add(*(enhanced(slices[part]) for part in parts))


def test_a_pair_of_enhanced_images_is_a_study_as_any_other(remote, open_store, oblique, tmp_path):
    add_enhanced(remote, tmp_path / "made", oblique)
    assert len(remote.instances) == 2
    store = open_store()
    assert store.list_images() == [T1CE.series_uid]
    path = Path(store.get_image_uri(T1CE.series_uid))
    for file, volume in zip((path, path.parent / "t2" / path.name), oblique, strict=True):
        came = read_volume(file)
        assert came.grid == volume.grid
        np.testing.assert_array_equal(came.array, volume.array)
    grid = oblique[0].grid
    mask = save(tmp_path / "uploads" / "a.nii.gz", block(3, 6), grid.affine)
    store.save_label(T1CE.series_uid, str(mask), "final", {})
    (seg,) = remote.segs()
    np.testing.assert_array_equal(read_seg(seg, grid).array, block(3, 6))
    (referred,) = seg.ReferencedSeriesSequence
    (instance,) = referred.ReferencedInstanceSequence
    assert referred.SeriesInstanceUID == T1CE.series_uid
    assert instance.ReferencedSOPInstanceUID in remote.instances
    (pair,) = open_store("another").datalist()
    np.testing.assert_array_equal(read_label(Path(pair["label"])).array, block(3, 6))
    assert read_label(Path(pair["label"])).grid == grid


def test_a_t1ce_in_several_enhanced_files_is_left_out_and_says_why(
    remote, open_store, oblique, tmp_path
):
    add_enhanced(remote, tmp_path / "made", oblique, parts=(slice(5), slice(5, None)))
    store = open_store()
    assert store.list_images() == []
    with pytest.raises(HTTPException, match="labels could not be stored; one slice a file") as told:
        store.get_image_uri(T1CE.series_uid)
    assert told.value.status_code == 422
    assert T1CE.series_uid in told.value.detail


def test_a_study_with_a_header_that_is_none_stops_no_other(
    remote, open_store, tmp_path, monkeypatch
):
    bad, _ = remote.add_study(tmp_path / "made", "a", *images())
    good = remote.add_study(tmp_path / "other", "b", *images())[0].series_uid
    real = remote._header

    def header(one):
        told = real(one)
        if one.SeriesInstanceUID == bad.series_uid:
            told["00280008"] = {"vr": "LO", "Value": ["many"]}  # NumberOfFrames
        return told

    monkeypatch.setattr(remote, "_header", header)
    store = open_store()
    assert store.list_images() == [good]
    with pytest.raises(HTTPException, match="many"):
        store.get_image_uri(bad.series_uid)


def test_what_grows_or_changes_is_seen_where_nothing_is_counted(remote, open_store, tmp_path):
    remote.counts = False
    remote.add_study(tmp_path / "made", "a", *images())
    held = [remote.instances.pop(one.SOPInstanceUID) for one in remote.of(T1CE.series_uid)[-2:]]
    store = open_store()
    assert read_volume(Path(store.get_image_uri(T1CE.series_uid))).grid.shape == (17, 13, 9)
    remote.add(*held)
    assert read_volume(Path(store.get_image_uri(T1CE.series_uid))).grid.shape == SHAPE
    before = remote.asked.copy()
    store.get_image_uri(T1CE.series_uid)
    fetched = f"/studies/{T1CE.study_uid}/series/{T1CE.series_uid}"
    assert remote.asked[fetched] == before[fetched]  # nothing changed
    # As many instances as before, but one is another.
    first = remote.instances.pop(remote.of(T1CE.series_uid)[0].SOPInstanceUID)
    first.SOPInstanceUID = first.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    first.PixelData = bytes(len(first.PixelData))
    remote.add(first)
    came = read_volume(Path(store.get_image_uri(T1CE.series_uid)))
    assert not came.array[:, :, 0].any()
    assert came.array[:, :, 1].any()
    seg_by_another(remote, T1CE.series_uid, block(4, 9))
    assert store.get_labeled_images() == [T1CE.series_uid]


def test_where_nothing_is_counted_it_is_not_asked_for_all_the_time(
    remote, open_store, tmp_path, monkeypatch
):
    monkeypatch.setattr(listing, "COUNT_AGAIN_S", 3600.0)
    remote.counts = False
    remote.add_study(tmp_path / "made", "a", *images())
    store = open_store()
    before = sum(remote.asked.values())
    for _ in range(5):
        store.list_images()
    assert sum(remote.asked.values()) == before + 5
    remote.add_study(tmp_path / "other", "b", *images())
    assert len(store.list_images()) == 2


@pytest.mark.parametrize("is_newest_first", [False, True])
def test_of_several_segmentations_in_one_series_the_newest_counts(
    remote, open_store, tmp_path, is_newest_first
):
    remote.add_study(tmp_path / "made", "a", *images())
    days = (1, -1) if is_newest_first else (-1, 1)
    for day in days:
        mask = block(4, 9) if day > 0 else block(2, 5)
        seg_by_another(remote, T1CE.series_uid, mask, day, SeriesInstanceUID="1.2.3")
    (pair,) = open_store().datalist()
    np.testing.assert_array_equal(read_label(Path(pair["label"])).array, block(4, 9))


def test_a_newer_segmentation_in_a_known_series_takes_its_place(remote, open_store, tmp_path):
    remote.add_study(tmp_path / "made", "a", *images())
    store = open_store()
    for day, mask in ((1, block(2, 5)), (2, block(4, 9))):
        seg_by_another(remote, T1CE.series_uid, mask, day, SeriesInstanceUID="1.2.3")
        (pair,) = store.datalist()
        np.testing.assert_array_equal(read_label(Path(pair["label"])).array, mask)


def test_segmentations_made_at_one_time_are_refused_and_a_later_one_is_not(
    remote, open_store, tmp_path, caplog
):
    remote.add_study(tmp_path / "made", "a", *images())
    when = {"ContentDate": "20990101", "ContentTime": "120000", "SeriesInstanceUID": "1.2.3"}
    for start in (2, 4):
        seg_by_another(remote, T1CE.series_uid, block(start, 9), **when)
    store = open_store()
    assert store.datalist() == []
    assert "one newest segmentation was wanted, 2 were made at one time" in caplog.text
    assert store.status()["completed"] == 0
    later = when | {"ContentTime": "120001"}
    seg_by_another(remote, T1CE.series_uid, block(5, 7), **later)
    (pair,) = store.datalist()
    np.testing.assert_array_equal(read_label(Path(pair["label"])).array, block(5, 7))


def test_a_later_segmentation_of_something_else_hides_no_tumor(remote, open_store, tmp_path):
    remote.add_study(tmp_path / "made", "a", *images())
    seg_by_another(remote, T1CE.series_uid, block(4, 9), 1, SeriesInstanceUID="1.2.3")
    other = seg_by_another(remote, T1CE.series_uid, block(2, 5), 2, SeriesInstanceUID="1.2.3")
    (segment,) = remote.instances[other.SOPInstanceUID].SegmentSequence
    segment.SegmentLabel = "Cochlea"
    (kind,) = segment.SegmentedPropertyTypeCodeSequence
    kind.CodeValue = "80169004"
    del kind.SegmentedPropertyTypeModifierCodeSequence
    (pair,) = open_store().datalist()
    np.testing.assert_array_equal(read_label(Path(pair["label"])).array, block(4, 9))


def test_whoever_reads_a_study_is_told_whether_its_frames_differ(remote, open_store, tmp_path):
    remote.add_study(tmp_path / "made", "a", *images())
    for one in remote.of(T2.series_uid):
        one.FrameOfReferenceUID = "1.2.3"
    other = headers_of("b")[0].series_uid
    remote.add_study(tmp_path / "other", "b", *images())
    store = open_store()
    paths = [Path(store.get_image_uri(uid)) for uid in (T1CE.series_uid, other)]
    assert [placing_of(path).frames_differ for path in paths] == [True, False]
    # The T2 comes again, in the frame of the T1ce.
    for one in remote.of(T2.series_uid):
        one.FrameOfReferenceUID = T1CE.frame_of_reference_uid
    remote.instances.pop(remote.of(T2.series_uid)[-1].SOPInstanceUID)
    store.get_image_uri(T1CE.series_uid)
    assert not placing_of(paths[0]).frames_differ
