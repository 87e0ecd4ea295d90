"""A PACS that is malformed, late, or fails in part: none of it costs a label or stops the rest."""

import copy
import time
from pathlib import Path

import dicomweb
import numpy as np
import pydicom
import pytest
from dicomweb import block, images, seg_by_another
from fastapi import HTTPException
from serving import LABEL, save, until

from clickseg.accepted import history
from clickseg.dicom.mirror import fetch_outline
from clickseg.dicom.mr import headers_of
from clickseg.dicom.web import Pacs, UnreachableError
from clickseg.training.split import told_patients
from clickseg.volume import read_label, read_volume
from clickseg_app import pacs as module
from clickseg_app.pacs import PacsDatastore
from clickseg_app.strategy import make_strategies

T1CE, T2 = (header.series_uid for header in headers_of("a"))
OTHER = headers_of("b")[0].series_uid
ignores_crypt = pytest.mark.filterwarnings("ignore:'crypt' is deprecated")  # of what logs users in


@pytest.fixture
def open_store(remote, tmp_path):
    def open_store():
        return PacsDatastore(Pacs(remote.url), tmp_path / "cache", False, {LABEL: 1})

    return open_store


@pytest.fixture
def accept(tmp_path):
    def accept(store, array):
        grid = read_volume(Path(store.get_image_uri(T1CE))).grid
        path = save(tmp_path / "uploads" / "a.nii.gz", array, grid.affine)
        store.save_label(T1CE, str(path), "final", {"client_id": "me"})

    return accept


def accepted(store):
    return read_label(Path(store.get_label_uri(T1CE, "final"))).array


def test_headers_of_another_series_stop_no_other_study(remote, open_store, tmp_path, monkeypatch):
    remote.add_study(tmp_path / "other", "b", *images())
    real = remote._header

    def header(one):
        told = real(one)
        if one.SeriesInstanceUID == T1CE:
            told["0020000E"] = {"vr": "UI", "Value": ["1.2.3"]}
        return told

    monkeypatch.setattr(remote, "_header", header)
    store = open_store()
    assert store.list_images() == [OTHER]
    with pytest.raises(HTTPException, match=f"series {T1CE} was wanted .*answered with 1.2.3"):
        store.get_image_uri(T1CE)


def no_dicom(file, _one, **_):
    file.write(b"hello")


def of_another_series(file, one, **options):
    one.SeriesInstanceUID = "1.2.3"
    pydicom.dcmwrite(file, one, **options)


def without_pixels(file, one, **options):
    del one.PixelData
    pydicom.dcmwrite(file, one, **options)


@pytest.mark.parametrize(
    ("spoil", "status", "text"),
    [
        (no_dicom, 502, "its answer is no DICOM"),
        (of_another_series, 502, "it answered with 1.2.3"),
        (without_pixels, 422, "has 0 bytes of pixels"),
    ],
)
def test_an_image_that_is_none_stops_no_training(
    remote, open_store, tmp_path, monkeypatch, spoil, status, text
):
    remote.add_study(tmp_path / "other", "b", *images())
    for uid in (T1CE, OTHER):
        seg_by_another(remote, uid, block(4, 9))
    real = pydicom.dcmwrite

    def write(file, one, **options):
        (spoil if one.SeriesInstanceUID == T1CE else real)(file, one, **options)

    with monkeypatch.context() as patched:
        spoiled = type("Spoiled", (), vars(pydicom) | {"dcmwrite": staticmethod(write)})
        patched.setattr(dicomweb, "pydicom", spoiled)
        store = open_store()
        with pytest.raises(HTTPException, match=text) as refusal:
            store.get_image_uri(T1CE)
        assert refusal.value.status_code == status
        (pair,) = store.datalist()
    assert Path(pair["image"]).name == f"{OTHER}.nii.gz"


def test_what_was_there_before_does_not_undo_a_label_though_its_clock_was_ahead(
    remote, open_store, accept
):
    seg_by_another(remote, T1CE, block(4, 9), days=0.01)
    store = open_store()
    accept(store, block(3, 6))
    np.testing.assert_array_equal(accepted(store), block(3, 6))
    seg_by_another(remote, T1CE, block(5, 8), days=0.02)  # this one came later
    np.testing.assert_array_equal(accepted(store), block(5, 8))


def test_a_label_that_is_accepted_while_another_is_fetched_stays(
    remote, open_store, accept, monkeypatch
):
    store = open_store()
    accept(store, block(2, 5))
    seg_by_another(remote, T1CE, block(4, 9), days=1e-5)

    def fetch(*arguments):
        monkeypatch.setattr(module, "fetch_outline", fetch_outline)
        accept(open_store(), block(3, 6))  # as another process does
        return fetch_outline(*arguments)

    monkeypatch.setattr(module, "fetch_outline", fetch)
    store.get_image_uri(T1CE)
    np.testing.assert_array_equal(accepted(store), block(3, 6))
    assert store.get_label_info(T1CE, "final")["client_id"] == "me"


def test_a_newer_label_that_cannot_be_fetched_keeps_nobody_from_the_image(
    remote, open_store, accept, caplog
):
    store = open_store()
    accept(store, block(3, 6))
    seg = seg_by_another(remote, T1CE, block(4, 9))
    remote.lost = {str(seg.SeriesInstanceUID)}
    studies = Path(store.get_image_uri(T1CE)).parent
    label = studies / "labels/final" / f"{T1CE}.nii.gz"
    np.testing.assert_array_equal(read_label(label).array, block(3, 6))
    assert "a newer label of" in caplog.text
    with pytest.raises(HTTPException, match="answered with 404"):
        store.get_label_uri(T1CE, "final")
    remote.lost = set()
    np.testing.assert_array_equal(accepted(store), block(4, 9))


def test_an_outline_that_was_made_since_counts_though_the_index_was_lost(
    remote, open_store, accept
):
    store = open_store()
    accept(store, block(3, 6))
    studies = Path(store.get_image_uri(T1CE)).parent
    seg_by_another(remote, T1CE, block(4, 9), days=1e-5)  # a second from now
    time.sleep(2.5)
    (studies / "datastore_v2.json").unlink()
    np.testing.assert_array_equal(accepted(open_store()), block(4, 9))


def slow(calls, seconds):
    def answer(*_, **__):
        calls.append(1)
        time.sleep(seconds)
        raise UnreachableError("the PACS does not answer")

    return answer


def test_nobody_waits_again_at_once_for_a_pacs_that_was_silent(open_store, accept, monkeypatch):
    store = open_store()
    accept(store, block(3, 6))
    looks, fetches = [], []
    monkeypatch.setattr(store._listing, "look", slow(looks, 0.5))
    monkeypatch.setattr(store, "_fetch_label", slow(fetches, 0.5))
    for _ in range(5):
        assert store.list_images() == [T1CE]
        assert Path(store.get_image_uri(T1CE)).is_file()
    assert (len(looks), len(fetches)) == (1, 1)
    until(lambda: store.list_images() and store.get_image_uri(T1CE) and len(fetches) > 1)
    assert len(looks) > 1


def app_of(store):
    """An app without the server around it."""
    from clickseg_app.app import ClickSegApp

    app = object.__new__(ClickSegApp)
    app._datastore, app._auto_update_scoring = store, False
    app._strategies = make_strategies(dict)
    return app


@ignores_crypt
def test_next_sample_passes_over_a_study_that_cannot_be_read(
    remote, open_store, tmp_path, monkeypatch
):
    remote.add_study(tmp_path / "other", "b", *images())
    real = pydicom.dcmwrite

    def write(file, one, **options):
        if one.SeriesInstanceUID == first:
            one = copy.deepcopy(one)
            del one.PixelData
        real(file, one, **options)

    first, second = sorted([T1CE, OTHER])
    monkeypatch.setattr(
        dicomweb,
        "pydicom",
        type("Spoiled", (), vars(pydicom) | {"dcmwrite": staticmethod(write)}),
    )
    app = app_of(open_store())
    for _ in range(2):
        assert app.next_sample({"strategy": "first", "client_id": "me"})["id"] == second
    assert app.datastore().get_unlabeled_images() == [second]
    with pytest.raises(HTTPException, match="has 0 bytes of pixels"):
        app.datastore().get_image_uri(first)  # whoever asks for it is told
    monkeypatch.undo()
    app.datastore().get_image_uri(first)  # it was mended
    assert set(app.datastore().get_unlabeled_images()) == {first, second}


@ignores_crypt
def test_next_sample_tells_of_the_last_study_that_it_cannot_be_read(open_store, remote):
    for one in remote.of(T1CE):
        del one.PixelData
    app = app_of(open_store())
    for _ in range(2):
        with pytest.raises(HTTPException, match="has 0 bytes of pixels"):
            app.next_sample({"strategy": "random"})


@ignores_crypt
def test_no_study_is_passed_over_for_a_fault_of_the_pacs(open_store, remote):
    store = open_store()
    store.list_images()
    remote.lost = {T1CE}  # it answers with 404
    with pytest.raises(HTTPException, match="answered with 404"):
        store.get_image_uri(T1CE)
    assert store.left_out() == set()


@ignores_crypt
def test_next_sample_tells_of_a_pacs_that_is_silent(remote, open_store):
    app = app_of(open_store())
    remote.stop()
    with pytest.raises(HTTPException, match="does not answer"):
        app.next_sample({"strategy": "first"})
    assert app.datastore().left_out() == set()


def test_after_a_restart_without_the_pacs_what_is_here_can_be_worked_on(
    remote, open_store, accept, tmp_path
):
    remote.add_study(tmp_path / "other", "b", *images())
    store = open_store()
    accept(store, block(3, 6))
    remote.stop()
    again = open_store()
    assert set(again.list_images()) == {T1CE, OTHER}
    (pair,) = again.datalist()  # as a training asks
    np.testing.assert_array_equal(read_label(Path(pair["label"])).array, block(3, 6))
    assert Path(again.get_image_uri(T1CE)).is_file()
    with pytest.raises(HTTPException, match="does not answer") as refusal:
        again.get_image_uri(OTHER)
    assert refusal.value.status_code == 502


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_study_that_the_pacs_fails_at_keeps_what_is_known_of_its_label(
    remote, open_store, accept, is_restarted
):
    store = open_store()
    accept(store, block(3, 6))
    before = store.get_label_info(T1CE, "final")
    remote.is_confused = True
    one = remote.of(T2)[-1]
    remote.instances.pop(one.SOPInstanceUID)  # so that it looks at the study again
    failing = open_store() if is_restarted else store
    assert failing.list_images() == [T1CE]
    if not is_restarted:
        assert read_volume(Path(store.get_image_uri(T1CE))).grid == images()[0].grid
    remote.is_confused = False
    assert failing.get_label_info(T1CE, "final") == before
    (studies,) = {Path(failing.get_image_uri(T1CE)).parent}
    assert history(studies, T1CE) == []


def test_whose_a_study_is_stays_told_when_it_is_gone_from_the_pacs(remote, open_store, tmp_path):
    store = open_store()
    studies = Path(store.get_image_uri(T1CE)).parent  # a copy stays, and is trained on
    for uid in (T1CE, T2):
        for one in remote.of(uid):
            del remote.instances[one.SOPInstanceUID]
    remote.add_study(tmp_path / "other", "b", *images())
    assert store.list_images() == [OTHER]
    assert told_patients(studies) == {T1CE: "a", OTHER: "b"}
