"""Studies of a PACS are used as those of a folder are; each test has a PACS of its own."""

import copy
import threading
from pathlib import Path

import numpy as np
import pytest
from dicomweb import SHAPE, block, images, seg_by_another
from fastapi import HTTPException
from serving import LABEL, save

from clickseg.accepted import history
from clickseg.clicks import Click
from clickseg.dicom.mr import headers_of
from clickseg.dicom.seg import read_seg
from clickseg.dicom.web import Pacs, PacsError
from clickseg.journal import Answered, Journals
from clickseg.record import read_record
from clickseg.training.split import told_patients
from clickseg.volume import read_label, read_volume
from clickseg_app import pacs
from clickseg_app.pacs import PacsDatastore


@pytest.fixture
def t1ce():
    """The UID of the T1ce of the one study there is."""
    return headers_of("a")[0].series_uid


@pytest.fixture
def store(remote, tmp_path):
    return PacsDatastore(Pacs(remote.url), tmp_path / "cache", False, {LABEL: 1})


def upload(store, folder, array, image_id):
    grid = read_volume(Path(store.get_image_uri(image_id))).grid
    return str(save(folder / "uploads" / "a.nii.gz", array, grid.affine))


def test_the_t1ce_alone_is_listed_and_nothing_is_fetched(store, remote, t1ce):
    assert store.list_images() == store.get_unlabeled_images() == [t1ce]
    assert store.status() == {"total": 1, "completed": 0, "label_tags": {}}
    info = store.get_image_info(t1ce)
    header = headers_of("a")[0]
    assert info["StudyInstanceUID"] == header.study_uid
    assert info["SeriesInstanceUID"] == t1ce
    assert (info["PatientID"], info["Modality"]) == ("a", "MR")
    assert not any(path.endswith(t1ce) for path in remote.asked)


@pytest.mark.usefixtures("store")
def test_whose_study_it_is_is_told_to_the_hold_out(tmp_path, t1ce):
    assert told_patients(tmp_path / "cache") == {t1ce: "a"}


def test_an_image_comes_with_its_t2_as_it_was_and_once(store, remote, t1ce):
    path = Path(store.get_image_uri(t1ce))
    assert path.name == f"{t1ce}.nii.gz"
    for file, volume in zip((path, path.parent / "t2" / path.name), images(), strict=True):
        came = read_volume(file)
        assert came.grid == volume.grid
        np.testing.assert_array_equal(came.array, volume.array)
    asked = remote.asked.copy()
    store.get_image_uri(t1ce)
    assert {key for key in remote.asked if remote.asked[key] > asked[key]} == {"/studies"}


def test_where_nothing_is_new_looking_costs_one_request(store, remote):
    store.list_images()
    before = sum(remote.asked.values())
    for _ in range(5):
        store.list_images()
    assert sum(remote.asked.values()) == before + 5


def test_a_pacs_that_does_not_count_is_understood(remote, tmp_path, t1ce):
    remote.counts = False
    store = PacsDatastore(Pacs(remote.url), tmp_path / "cache", False, {LABEL: 1})
    assert store.list_images() == [t1ce]
    assert read_volume(Path(store.get_image_uri(t1ce))).grid == images()[0].grid


def test_more_studies_than_a_page_holds_are_all_listed(remote, t1ce):
    for number in range(130):  # a page has 60
        one = copy.deepcopy(remote.of(t1ce)[0])
        one.StudyInstanceUID = one.SOPInstanceUID = f"1.2.{number}"
        remote.instances[one.SOPInstanceUID] = one
    assert len({study.uid for study in Pacs(remote.url).studies()}) == 131


def test_a_study_that_comes_later_is_listed_and_one_that_goes_is_not(store, remote, tmp_path, t1ce):
    store.get_image_uri(t1ce)
    other = remote.add_study(tmp_path / "other", "b", *images())[0].series_uid
    assert set(store.list_images()) == {t1ce, other}
    for uid in [one.SOPInstanceUID for one in remote.of(t1ce)]:
        del remote.instances[uid]
    assert store.list_images() == [other]


def test_instances_that_come_later_are_fetched(remote, tmp_path, t1ce):
    held = [remote.instances.pop(one.SOPInstanceUID) for one in remote.of(t1ce)[-2:]]
    store = PacsDatastore(Pacs(remote.url), tmp_path / "cache", False, {LABEL: 1})
    assert read_volume(Path(store.get_image_uri(t1ce))).grid.shape == (17, 13, 9)
    remote.add(*held)
    assert read_volume(Path(store.get_image_uri(t1ce))).grid.shape == SHAPE


def test_the_t2_and_what_is_not_there_are_refused_by_a_sentence(store, t1ce):
    t2 = headers_of("a")[1].series_uid
    for uid, status, text in (
        (t2, 422, f"is the T2 of its study; the T1ce was wanted, which is .*{t1ce}"),
        ("1.2.3", 404, "there is no series '1.2.3' in the PACS"),
        ("../../etc", 404, "the UID of a T1ce series was wanted"),
    ):
        with pytest.raises(HTTPException) as refusal:
            store.get_image_uri(uid)
        assert refusal.value.status_code == status
        assert refusal.match(text)


def test_a_study_whose_series_are_ambiguous_is_left_out_and_says_why(store, remote, tmp_path):
    first, second = remote.add_study(tmp_path / "other", "b", *images())
    for one in remote.of(second.series_uid):
        one.SeriesDescription, one.SequenceName = first.series_description, first.sequence_name
        one.ContrastBolusAgent = first.contrast_agent
    assert len(store.list_images()) == 1
    for uid in (first.series_uid, second.series_uid):
        with pytest.raises(HTTPException) as refusal:
            store.get_image_uri(uid)
        assert refusal.value.status_code == 422
        assert first.series_uid in refusal.value.detail
        assert second.series_uid in refusal.value.detail


def test_a_study_that_the_pacs_fails_at_is_tried_again(store, remote, tmp_path, t1ce):
    remote.is_confused = True
    other = remote.add_study(tmp_path / "other", "b", *images())[0].series_uid
    assert store.list_images() == [t1ce]
    with pytest.raises(HTTPException, match="it answered with 500"):
        store.get_image_uri(other)
    remote.is_confused = False
    assert store.list_images() == [t1ce, other]


def test_a_t2_that_cannot_be_used_is_left_out(store, remote, t1ce):
    for one in remote.of(headers_of("a")[1].series_uid)[5:7]:
        del remote.instances[one.SOPInstanceUID]
    path = Path(store.get_image_uri(t1ce))
    assert path.is_file()
    assert not (path.parent / "t2" / path.name).exists()


def test_an_accepted_label_is_in_the_pacs_and_here(store, remote, t1ce, tmp_path):
    path = upload(store, tmp_path, block(3, 6), t1ce)
    assert store.save_label(t1ce, path, "final", {"client_id": "me"}) == t1ce
    (seg,) = remote.segs()
    grid = images()[0].grid
    np.testing.assert_array_equal(read_seg(seg, grid).array, block(3, 6))
    here = Path(store.get_label_uri(t1ce, "final"))
    np.testing.assert_array_equal(read_label(here).array, block(3, 6))
    assert store.last_saved["dicom_seg"] == seg.SeriesInstanceUID
    assert store.last_saved["volume_ml"] == round(27 * 0.4 * 0.6 * 1.3 / 1000, 4)
    assert store.get_label_info(t1ce, "final")["client_id"] == "me"
    assert store.status()["completed"] == 1
    store.save_label(t1ce, upload(store, tmp_path, block(3, 7), t1ce), "final", {})
    assert len(remote.segs()) == 2
    assert store.status()["completed"] == 1  # images, not segmentations
    np.testing.assert_array_equal(read_label(here).array, block(3, 7))
    (kept,) = history(here.parents[2], t1ce)
    np.testing.assert_array_equal(read_label(kept).array, block(3, 6))


def test_that_there_is_no_tumor_is_stored_too(store, remote, t1ce, tmp_path):
    store.save_label(t1ce, upload(store, tmp_path, block(0, 0), t1ce), "final", {})
    (seg,) = remote.segs()
    assert not read_seg(seg, images()[0].grid).array.any()


@pytest.mark.parametrize("knob", ["is_full", "refuses"])
def test_what_the_pacs_refuses_is_accepted_nowhere(store, remote, t1ce, tmp_path, knob):
    store.save_label(t1ce, upload(store, tmp_path, block(3, 6), t1ce), "final", {})
    setattr(remote, knob, True)
    path = upload(store, tmp_path, block(3, 7), t1ce)
    with pytest.raises(HTTPException) as refusal:
        store.save_label(t1ce, path, "final", {})
    assert refusal.value.status_code == 502
    assert "PACS" in refusal.value.detail or "refused" in refusal.value.detail
    here = Path(store.get_label_uri(t1ce, "final"))
    np.testing.assert_array_equal(read_label(here).array, block(3, 6))
    assert history(here.parents[2], t1ce) == []
    assert len(remote.segs()) == 1


def test_another_tag_stays_here(store, remote, t1ce, tmp_path):
    store.save_label(t1ce, upload(store, tmp_path, block(3, 6), t1ce), "original", {})
    assert remote.segs() == []
    assert store.status()["completed"] == 0
    assert Path(store.get_label_uri(t1ce, "original")).is_file()


def test_a_label_of_another_program_counts_and_is_fetched_when_used(store, remote, t1ce):
    seg = seg_by_another(remote, t1ce, block(4, 9))
    assert store.get_labeled_images() == [t1ce]
    assert store.get_unlabeled_images() == []
    assert not any(path.endswith(str(seg.SeriesInstanceUID)) for path in remote.asked)
    (pair,) = store.datalist()
    assert Path(pair["image"]).is_file()
    np.testing.assert_array_equal(read_label(Path(pair["label"])).array, block(4, 9))
    assert store.get_label_info(t1ce, "final")["dicom_seg"] == seg.SeriesInstanceUID


def test_a_newer_label_takes_the_place_of_ours_and_an_older_one_does_not(
    store, remote, t1ce, tmp_path
):
    store.save_label(t1ce, upload(store, tmp_path, block(3, 6), t1ce), "final", {})
    seg_by_another(remote, t1ce, block(4, 9), days=-1)
    here = Path(store.get_label_uri(t1ce, "final"))
    np.testing.assert_array_equal(read_label(here).array, block(3, 6))
    seg_by_another(remote, t1ce, block(5, 8))
    store.get_image_uri(t1ce)
    np.testing.assert_array_equal(read_label(here).array, block(5, 8))
    (kept,) = history(here.parents[2], t1ce)
    np.testing.assert_array_equal(read_label(kept).array, block(3, 6))


def test_clicks_made_here_are_not_those_of_a_label_made_elsewhere(store, remote, t1ce):
    studies = Path(store.get_image_uri(t1ce)).parent
    clicks = (Click((1.0, 2.0, 3.0), True),)
    Journals(studies).note(t1ce, Answered("click", "initial", clicks, {}, 1))
    seg_by_another(remote, t1ce, block(5, 8))
    store.get_image_uri(t1ce)
    assert read_record(studies / f"labels/final/{t1ce}.clicks.json") == ()
    assert len(Journals(studies).read(t1ce)) == 1


def of_something_else(seg):
    (segment,) = seg.SegmentSequence
    segment.SegmentLabel = "Cochlea"
    segment.SegmentedPropertyTypeCodeSequence[0].CodeValue = "80169004"
    del segment.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence


def of_another_kind(seg):
    seg.SegmentationType = "LABELMAP"


@pytest.mark.parametrize("spoil", [of_something_else, of_another_kind])
def test_a_segmentation_that_is_none_of_a_tumor_is_left_out(store, remote, t1ce, spoil):
    seg = seg_by_another(remote, t1ce, block(4, 9))
    spoil(remote.instances[seg.SOPInstanceUID])
    store.get_image_uri(t1ce)
    assert store.status()["completed"] == 0
    assert not (Path(store.get_image_uri(t1ce)).parent / f"labels/final/{t1ce}.nii.gz").exists()


def test_after_a_restart_nothing_is_fetched_again(store, remote, t1ce, tmp_path):
    store.save_label(t1ce, upload(store, tmp_path, block(3, 6), t1ce), "final", {})
    before = remote.asked.copy()
    again = PacsDatastore(Pacs(remote.url), tmp_path / "cache", False, {LABEL: 1})
    assert again.datalist() == store.datalist()
    assert again.get_label_info(t1ce, "final") == store.get_label_info(t1ce, "final")
    fetched = {key for key in remote.asked if remote.asked[key] > before[key]}
    assert not any(key.endswith(t1ce) for key in fetched)


def test_nothing_is_removed_from_the_pacs_or_added_here(store, t1ce, tmp_path):
    path = upload(store, tmp_path, block(3, 6), t1ce)
    store.save_label(t1ce, path, "final", {})
    for forbidden in (
        lambda: store.remove_image(t1ce),
        lambda: store.remove_label(t1ce, "final"),
        lambda: store.add_image("b", path, {}),
    ):
        with pytest.raises(HTTPException) as refusal:
            forbidden()
        assert refusal.value.status_code == 403
    assert store.status()["completed"] == 1


def test_without_the_pacs_what_is_here_can_be_worked_on(store, remote, t1ce, tmp_path):
    other = remote.add_study(tmp_path / "other", "b", *images())[0].series_uid
    path = upload(store, tmp_path, block(3, 6), t1ce)
    remote.stop()
    assert Path(store.get_image_uri(t1ce)).is_file()
    assert store.status()["total"] == 2
    for asked in (
        lambda: store.get_image_uri(other),
        lambda: store.save_label(t1ce, path, "final", {}),
    ):
        with pytest.raises(HTTPException, match="does not answer") as refusal:
            asked()
        assert refusal.value.status_code == 502


def test_a_training_without_the_pacs_goes_on_with_what_is_here(
    store, remote, t1ce, tmp_path, caplog
):
    other = remote.add_study(tmp_path / "other", "b", *images())[0].series_uid
    for uid in (t1ce, other):
        seg_by_another(remote, uid, block(4, 9))
    store.get_image_uri(t1ce)
    remote.stop()
    pairs = {Path(pair["image"]).name: Path(pair["label"]) for pair in store.datalist()}
    np.testing.assert_array_equal(read_label(pairs[f"{t1ce}.nii.gz"]).array, block(4, 9))
    assert "labels that are in the PACS alone are left out" in caplog.text


def test_copies_stay_as_they_were_where_new_ones_cannot_be_fetched(store, remote, t1ce):
    path = Path(store.get_image_uri(t1ce))
    files = path, path.parent / "t2" / path.name
    before = [file.read_bytes() for file in files]
    t2 = headers_of("a")[1].series_uid
    for uid in (t1ce, t2):
        del remote.instances[remote.of(uid)[-1].SOPInstanceUID]
    remote.lost = {t2}
    with pytest.raises(HTTPException, match="answered with 404") as refusal:
        store.get_image_uri(t1ce)
    assert refusal.value.status_code == 502
    assert [file.read_bytes() for file in files] == before
    remote.lost = set()
    assert read_volume(Path(store.get_image_uri(t1ce))).grid.shape == (17, 13, 10)


def test_a_pacs_that_never_answered_is_told(tmp_path):
    store = PacsDatastore(Pacs("http://127.0.0.1:9/dicom-web"), tmp_path, False, {LABEL: 1})
    with pytest.raises(HTTPException, match="does not answer") as refusal:
        store.status()
    assert refusal.value.status_code == 502


def test_the_login_is_sent(remote, tmp_path, t1ce):
    remote.login = "Basic bWU6c2VjcmV0"  # me:secret
    with pytest.raises(HTTPException, match="answered with 401"):
        PacsDatastore(Pacs(remote.url), tmp_path / "a", False, {LABEL: 1}).status()
    let_in = Pacs(remote.url, ("me", "secret"))
    assert PacsDatastore(let_in, tmp_path / "b", False, {LABEL: 1}).list_images() == [t1ce]


def test_studies_are_brought_before_a_reader_asks(remote, tmp_path, monkeypatch):
    for name in "bcd":
        remote.add_study(tmp_path / "made", name, *images())
    store = PacsDatastore(Pacs(remote.url), tmp_path / "cache", False, {LABEL: 1})
    uids = {name: headers_of(name)[0].series_uid for name in "abcd"}
    fetch, answered = pacs.mirror, []

    def fetched(*asked):
        other = threading.Thread(target=lambda: answered.append(store.list_images()))
        other.start()  # as a request does, which would wait for the lock
        other.join(30)
        assert not other.is_alive()
        fetch(*asked)

    monkeypatch.setattr(pacs, "mirror", fetched)
    remote.lost.add(uids["b"])
    refusals = 0
    for _ in range(6):
        try:
            store.bring(4)
        except PacsError:
            refusals += 1
    here = {path.name.removesuffix(".nii.gz") for path in (tmp_path / "cache").glob("*.nii.gz")}
    assert here == {uids[name] for name in "acd"}
    assert (len(answered), refusals) == (4, 1)  # the lost one was asked for once
    remote.lost.clear()
    monkeypatch.setattr(pacs, "TRY_AGAIN_AFTER_S", 0.0)
    assert store.bring(4)
    asked = remote.asked.copy()
    store.get_image_uri(uids["a"])
    assert {key for key in remote.asked if remote.asked[key] > asked[key]} == {"/studies"}


def test_no_more_are_brought_than_wait_for_a_reader(remote, store, tmp_path):
    remote.add_study(tmp_path / "made", "b", *images())
    store.list_images()
    assert not store.bring(0)
    assert store.bring(1)
    assert not store.bring(1)
    (here,) = (path.name.removesuffix(".nii.gz") for path in (tmp_path / "cache").glob("*.nii.gz"))
    store.save_label(here, upload(store, tmp_path, block(2, 5), here), "final", {})
    assert store.bring(1)
    assert not store.bring(1)
    assert len(list((tmp_path / "cache").glob("*.nii.gz"))) == 2
