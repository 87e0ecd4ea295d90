"""The index of the studies folder: never cut, never undone, never of what cannot be read back."""

import json
import os
import shutil
from pathlib import Path

import pytest
import requests
from fastapi import HTTPException
from kept import block, files_of, put
from serving import AFFINES, LABEL, save, until
from watchdog.events import FileMovedEvent

from clickseg import atomic
from clickseg.study import find_case
from clickseg_app.datastore import StudiesDatastore
from clickseg_app.requests import Folders, find_source

INDEX = "datastore_v2.json"
RAS = AFFINES["ras"]


@pytest.fixture
def folder(studies, tmp_path):
    (tmp_path / "studies").mkdir()
    for name in ("a.nii.gz", "b.nii.gz"):
        shutil.copy(studies / "ras.nii.gz", tmp_path / "studies" / name)
    return tmp_path / "studies"


def opened(folder, auto_reload=False, read_only=False):
    return StudiesDatastore(str(folder), auto_reload, read_only, {LABEL: 1})


def labeled(store, folder, image_id, tag="final", name="upload.nii.gz", info=None):
    path = save(folder.parent / name, block(2, 5), RAS)
    store.save_label(image_id, str(path), tag, info or {})


def on_disk(folder):
    return json.loads((folder / INDEX).read_text())["objects"]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fail(*_):
    raise OSError(28, "No space left on device")


def test_an_image_that_another_process_put_there_is_not_replaced(folder):
    store = opened(folder)
    content = shutil.copy(folder / "a.nii.gz", folder / "c.nii.gz").read_bytes()
    upload = save(folder.parent / "upload.nrrd", block(2, 5), RAS)
    with pytest.raises(HTTPException) as refused:
        store.add_image("c", str(upload), {})
    assert refused.value.status_code == 409
    assert [path.read_bytes() for path in folder.glob("c.*")] == [content]


def test_an_id_as_long_as_file_names_allow_is_labeled(folder):
    name = "n" * 240
    shutil.copy(folder / "a.nii.gz", folder / f"{name}.nii.gz")
    store = opened(folder)
    labeled(store, folder, name)
    assert store.get_label_uri(name, "final") == str(folder / f"labels/final/{name}.nii.gz")


@pytest.mark.parametrize("tag", ["final", "original"])
def test_a_label_that_is_not_there_cannot_be_removed(folder, tag):
    store = opened(folder)
    for image_id in ("a", "nobody"):
        with pytest.raises(HTTPException) as refused:
            store.remove_label(image_id, tag)
        assert refused.value.status_code == 404


@pytest.mark.parametrize("is_watched", [False, True])
def test_an_image_is_removed_whole_though_a_folder_of_labels_has_an_odd_name(folder, is_watched):
    store = opened(folder, auto_reload=is_watched)
    labeled(store, folder, "a")
    odd = folder / "labels" / "reader 1" / "a.nii.gz"
    odd.parent.mkdir()
    shutil.copy(folder / "labels/final/a.nii.gz", odd)
    store.refresh()
    assert set(on_disk(folder)["a"]["labels"]) == {"final", "reader 1"}
    store.remove_image("a")
    assert store.list_images() == ["b"]
    assert not [path for path in folder.rglob("a.nii.gz") if "b" not in path.name]
    with pytest.raises(HTTPException, match="a label tag is"):
        store.remove_label("b", "reader 1")


def test_a_label_that_is_found_is_as_old_as_its_file(folder):
    labeled(opened(folder), folder, "a")
    os.utime(folder / "labels/final/a.nii.gz", (1000, 1000))
    (folder / INDEX).unlink()
    assert opened(folder).get_label_info("a", "final")["ts"] == 1000


@pytest.mark.parametrize("text", ["", '{"name": "x", "obj', "[]", "\x00", '{"a": "\\ud800"}'])
def test_an_index_that_cannot_be_read_is_moved_aside_and_made_anew(folder, caplog, text):
    labeled(opened(folder), folder, "a")
    (folder / INDEX).write_text(text)
    store = opened(folder)
    assert set(store.list_images()) == {"a", "b"}
    assert store.get_labeled_images() == ["a"]
    assert set(on_disk(folder)) == {"a", "b"}
    (aside,) = folder.glob(f"{INDEX}.damaged-*")
    assert aside.read_text() == text
    assert "cannot be read" in caplog.text


def test_a_server_that_may_not_write_moves_nothing(folder):
    (folder / INDEX).write_text("{")
    with pytest.raises(ValueError, match="no index of a studies folder"):
        opened(folder, read_only=True)
    assert (folder / INDEX).read_text() == "{"


def test_a_full_disk_leaves_the_index_as_it_was(folder, monkeypatch):
    store = opened(folder)
    before = (folder / INDEX).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "flush", fail)
        with pytest.raises(OSError, match="No space left"):
            store.update_image_info("a", {"note": 1})
    assert (folder / INDEX).read_bytes() == before
    store.update_image_info("a", {"other": 2})
    assert "note" not in store.get_image_info("a")
    assert on_disk(folder)["a"]["image"]["info"]["other"] == 2


def nested(depth):
    return {"x": nested(depth - 1)} if depth else {}


BAD = {
    "surrogate": {"x": "\ud800"},
    "key": {"\udfff": 1},
    "deep": nested(400),
    "NaN": {"x": float("nan")},
}


@pytest.mark.parametrize("info", BAD.values(), ids=BAD.keys())
def test_what_no_index_can_hold_is_refused_before_anything_is_stored(folder, info):
    store = opened(folder)
    labeled(store, folder, "a")
    before = contents(folder)
    image = str(save(folder.parent / "c.nii.gz", block(2, 5), RAS))
    for change in (
        lambda: labeled(store, folder, "a", info=info),
        lambda: labeled(store, folder, "b", "original", info=info),
        lambda: store.add_image("c", image, info),
        lambda: store.update_image_info("a", info),
        lambda: store.update_label_info("a", "final", info),
    ):
        with pytest.raises(HTTPException) as error:
            change()
        assert error.value.status_code == 422
        assert "cannot be stored in the index" in error.value.detail
    assert contents(folder) == before
    store.update_image_info("a", {"note": 1})
    assert opened(folder).get_image_info("a")["note"] == 1


def test_a_viewer_is_told_that_its_params_cannot_be_stored(keeping, study):
    before = files_of(keeping, study)
    for params in ({"x": "\ud800"}, nested(400)):
        response = put(keeping, study, block(2, 5), params=params)
        assert response.status_code == 422
        assert "cannot be stored in the index" in response.json()["detail"]
    assert files_of(keeping, study) == before
    assert requests.get(f"{keeping.url}/datastore/?output=all", timeout=10).status_code == 200


def test_a_file_whose_name_is_no_text_is_not_listed(folder):
    shutil.copy(folder / "a.nii.gz", os.fsencode(folder) + b"/\xff.nii.gz")
    for _ in range(2):
        assert set(opened(folder).list_images()) == {"a", "b"}


def test_what_another_process_wrote_is_not_undone(folder):
    here, there = opened(folder), opened(folder)
    labeled(there, folder, "b", "original")
    here.update_image_info("a", {"note": 1})
    there.update_image_info("b", {"note": 2})
    labeled(here, folder, "a", "second")
    there.update_label_info("a", "second", {"note": 3})
    labeled(there, folder, "a")
    here.update_label_info("a", "final", {"note": 4})
    entries = on_disk(folder)
    assert set(entries["a"]["labels"]) == {"second", "final"}
    assert set(entries["b"]["labels"]) == {"original"}
    assert [entries[name]["image"]["info"]["note"] for name in "ab"] == [1, 2]
    assert entries["a"]["labels"]["second"]["info"]["note"] == 3
    assert entries["a"]["labels"]["final"]["info"]["note"] == 4
    added = save(folder.parent / "c.nii.gz", block(2, 5), RAS)
    here.add_image("c", str(added), {})
    labeled(there, folder, "b")
    assert set(on_disk(folder)) == {"a", "b", "c"}


def test_an_index_that_another_process_moves_in_is_read(folder):
    store = opened(folder, auto_reload=True)
    store._observer.stop()  # its events come when they come
    store._observer.join()
    store.update_image_info("a", {"note": 1})
    opened(folder).update_image_info("a", {"note": 2})
    assert store.get_image_info("a")["note"] == 1
    store._handler.dispatch(FileMovedEvent(str(folder / ".part"), str(folder / INDEX)))
    assert store.get_image_info("a")["note"] == 2


def test_images_and_labels_are_watched_and_nothing_else_wakes_the_server(folder, monkeypatch):
    store = opened(folder, auto_reload=True)
    seen, dispatch = [], store._handler.dispatch
    monkeypatch.setattr(
        store._handler, "dispatch", lambda event: (seen.append(event.src_path), dispatch(event))
    )
    for hidden in (".clickseg/clicks/a.jsonl", "t2/c.nii.gz"):
        (folder / hidden).parent.mkdir(parents=True, exist_ok=True)
        (folder / hidden).write_text("{}")
    shutil.copy(folder / "a.nii.gz", folder / "c.nii.gz")
    save(folder / "labels/second/c.nii.gz", block(2, 5), RAS)
    path = save(folder / "labels/final/c.nii.gz", block(2, 5), RAS)
    until(lambda: "c" in store.list_images() and store.get_labeled_images() == ["c"])
    for other, labels in (("c.part", []), ("c.nii.gz", ["c"])):  # as a copier of files does
        path = path.rename(path.with_name(other))
        until(lambda labels=labels: store.get_labeled_images() == labels)
    assert not [path for path in seen if Path(path).parent.name in ("clicks", "t2")]
    store._observer.stop()
    store._observer.join()


def test_another_tag_is_saved_in_one_format_and_whole(folder, monkeypatch):
    store = opened(folder)
    for name in ("x.nrrd", "x.nii.gz", "x.nii"):
        labeled(store, folder, "a", "second", name)
    assert [path.name for path in (folder / "labels/second").iterdir()] == ["a.nii"]
    before = contents(folder)
    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(HTTPException, match="No space left"):
        labeled(store, folder, "a", "second", "x.nii")
    assert contents(folder) == before


@pytest.mark.parametrize("newest", [".nii.gz", ".nrrd"])
def test_of_two_formats_all_take_the_newest(folder, newest):
    """So a server leaves them that is stopped between the new label and the old one."""
    other = ".nrrd" if newest == ".nii.gz" else ".nii.gz"
    labeled(opened(folder), folder, "a", name=f"upload{other}")
    path = save(folder / f"labels/final/a{newest}", block(3, 7), RAS)
    os.utime(folder / f"labels/final/a{other}", (1, 1))
    store = opened(folder)
    assert store.get_label_uri("a", "final") == str(path)
    source = find_source({"image": "a"}, store, Folders(folder, folder.parent, folder.parent))
    assert source.accepted == find_case(folder / "a.nii.gz").label == path
