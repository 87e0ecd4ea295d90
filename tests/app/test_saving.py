"""Accepted labels, edits by hand, sessions, restarts: what outlives one request."""

import shutil

import numpy as np
import pytest
import requests
from serving import AFFINES, LABEL, SHAPE, save, tumor_image

from clickseg.volume import read_label

RAS = AFFINES["ras"]


def save_final(server, image, array, name="label.nii.gz", tag=None, affine=RAS):
    path = save(server.folder / name, array, affine)
    return requests.put(
        f"{server.url}/datastore/label",
        params={"image": image} | ({"tag": tag} if tag else {}),
        data={"params": '{"label_info": [{"name": "Vestibular Schwannoma", "idx": 1}]}'},
        files={"label": (name, path.read_bytes(), "application/octet-stream")},
        timeout=10,
    )


def block(start, stop, value=1):
    mask = np.zeros(SHAPE, np.uint8)
    mask[start:stop, start:stop, start:stop] = value
    return mask


def test_a_saved_label_is_the_start_of_the_next_click(server):
    for name, mask in (
        ("a.nii.gz", block(3, 6, value=2)),
        ("a.nrrd", block(4, 9)),
        ("a.nii.gz", block(5, 7)),
    ):
        assert save_final(server, "saved", mask, name).status_code == 200
        np.testing.assert_array_equal(server.click("saved").mask, mask > 0)
    final = server.studies / "labels" / "final"
    there = sorted(path.name for path in final.glob("saved*"))
    assert there == ["saved.clicks.json", "saved.nii.gz"]


def test_a_label_on_another_grid_is_not_saved(server):
    response = save_final(server, "no-t2", block(3, 6), affine=AFFINES["lps"])
    assert response.status_code == 422
    assert "the label lies on another grid" in response.json()["detail"]
    assert not list((server.studies / "labels" / "final").glob("no-t2*"))


def test_a_label_of_an_unknown_image_is_not_saved(server):
    response = save_final(server, "nobody", block(3, 6))
    assert response.status_code == 404


def test_an_answer_can_be_saved_under_a_tag(server):
    answer = server.slicer("initial", "cached", {"save_label": True, "label_tag": "original"})
    saved = read_label(server.studies / "labels" / "original" / "cached.nrrd")
    np.testing.assert_array_equal(saved.array, answer.mask)


def test_a_changed_image_is_read_again(server):
    before = server.slicer("initial", "cached").mask
    assert before.any()
    image = tumor_image(RAS, np.random.default_rng(9))
    moved = np.roll(image, 5, axis=0)
    save(server.studies / "cached.nii.gz", moved, RAS)
    after = server.slicer("initial", "cached").mask
    overlap = 2 * (np.roll(before, 5, axis=0) * after).sum() / (before.sum() + after.sum())
    assert overlap > 0.9
    assert not np.array_equal(before, after)


def test_a_batch_saves_originals_and_passes_over_what_fails(another_server, server, tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    for name in ("ras.nii.gz", "corrupt.nii.gz", "lps.nii.gz"):
        shutil.copy(server.studies / name, studies / name)
    other = another_server(studies).wait()
    url = f"{other.url}/batch/infer"
    requests.post(f"{url}/initial", params={"run_sync": True}, json={}, timeout=60)
    saved = {path.name for path in (studies / "labels" / "original").iterdir()}
    assert saved == {"ras.nii.gz", "lps.nii.gz"}
    assert requests.get(f"{other.url}/info/").json()["datastore"]["completed"] == 0


SEGMENTS = [
    {"name": "background", "id": 1},
    {"name": LABEL, "id": 2},
    {"name": "cyst", "id": 3},
    {"name": "background_scribbles", "id": 4},
    {"name": "foreground_scribbles", "id": 5},
]


def edit(server, tmp_path, labelmap, segments=SEGMENTS, chosen=LABEL, **more):
    params = {"roi": [], "label_info": segments, "selected_label_name": chosen} | more
    path = save(tmp_path / "scribbles.nii.gz", labelmap, RAS)
    return server.slicer("edit", "edit", params, path)


def test_edits_by_hand_survive(server, tmp_path):
    labelmap = block(5, 9, value=2) | block(20, 22, value=3)
    answer = edit(server, tmp_path, labelmap)
    np.testing.assert_array_equal(answer.mask, labelmap == 2)
    assert answer.params["changed_voxels"] == 0
    assert answer.params["label_names"] == {LABEL: 1}


def test_every_scribbled_voxel_is_obeyed(server, tmp_path):
    labelmap = block(5, 9, value=2)
    labelmap[3:35, 16, 10] = 5  # 16 mm: a click in the middle and one near each end
    labelmap[5:9, 6, 6] = 4
    answer = edit(server, tmp_path, labelmap)
    assert answer.mask[labelmap == 5].all()
    assert not answer.mask[labelmap == 4].any()
    assert answer.mask[8, 8, 8] == 1  # untouched part of the edited mask
    assert answer.params["clicks"] == answer.params["clicks_obeyed"] == 4


def test_a_scribble_changes_nothing_farther_than_the_radius(server, tmp_path):
    labelmap = block(5, 9, value=2)
    labelmap[28:32, 20, 15] = 5
    answer = edit(server, tmp_path, labelmap)
    changed = np.argwhere(answer.mask != (labelmap == 2))
    scribbled = np.argwhere(labelmap == 5)
    away_mm = np.linalg.norm((changed[:, None] - scribbled) * [0.5, 0.5, 1.5], axis=2)
    assert away_mm.min(axis=1).max() <= answer.params["radius_mm"]


def test_the_mask_under_a_scribble_is_taken_from_beside_it(server, tmp_path):
    """A foreground scribble over the tumor hides it in 3D Slicer's export; it is no error."""
    labelmap = block(5, 15, value=2)
    labelmap[8:11, 9, 9] = 5
    answer = edit(server, tmp_path, labelmap)
    np.testing.assert_array_equal(answer.mask, labelmap > 0)
    assert answer.params["changed_voxels"] == 0


def test_an_edit_without_names_follows_monai_labels_own_values(server, tmp_path):
    labelmap = block(5, 9)
    labelmap[6, 6, 6] = 2
    labelmap[20, 20, 15] = 3
    answer = edit(server, tmp_path, labelmap, segments=None, chosen=None)
    assert answer.mask[6, 6, 6] == 0
    assert answer.mask[20, 20, 15] == 1
    assert answer.mask[8, 8, 8] == 1


def test_clicks_beside_scribbles_count_too(server, tmp_path):
    answer = edit(server, tmp_path, block(5, 9, value=2), foreground=[[25, 20, 15]])
    assert answer.mask[25, 20, 15] == 1


def test_a_click_on_a_scribble_counts_more_than_it(server, tmp_path):
    labelmap = block(5, 9, value=2)
    labelmap[18:22, 16, 10] = 5
    away = [[i, 16, 10] for i in (18, 19, 20)]
    answer = edit(server, tmp_path, labelmap, background=away)
    assert answer.mask[18:22, 16, 10].tolist() == [0, 0, 0, 1]
    # The stroke's one point was clicked; were it to move, the click would reach farther by that.
    assert answer.params["clicks"] == answer.params["clicks_obeyed"] == 3


def test_a_click_on_a_scribble_changes_nothing_farther_than_the_radius(server, tmp_path):
    labelmap = block(5, 9, value=2)
    labelmap[3:35, 16, 10] = 5  # the points that stand for it would move if its end went
    without = edit(server, tmp_path, labelmap)
    beside = edit(server, tmp_path, labelmap, foreground=[[34, 16, 10]])
    changed = np.argwhere(without.mask != beside.mask)
    away_mm = np.linalg.norm((changed - (34, 16, 10)) * [0.5, 0.5, 1.5], axis=1)
    assert away_mm.max(initial=0) <= beside.params["radius_mm"]


def test_clicks_and_those_for_scribbles_are_counted_together(server, tmp_path):
    labelmap = block(5, 9, value=2)
    labelmap[20, 20, 15] = 5
    points = [[i, j, 0] for i in range(37) for j in range(30)][:1000]
    answer = edit(server, tmp_path, labelmap, background=points)
    assert answer.status == 422
    assert "at most 1000 clicks" in answer.detail
    assert "1001 came, 1 of them for scribbles" in answer.detail


def open_session(server, path):
    with path.open("rb") as file:
        response = requests.put(
            f"{server.url}/session/", files={"files": (path.name, file)}, timeout=10
        )
    return response.json()["session_id"]


def test_a_local_volume_of_slicer_works_without_t2(server):
    session = open_session(server, server.studies / "lps.nii.gz")
    answer = server.slicer("initial", "my volume", session_id=session)
    assert answer.params["t2"] is None
    assert answer.mask.any()
    clicked = server.slicer("click", "my volume", {"foreground": [[5, 7, 9]]}, None, session)
    assert clicked.mask[5, 7, 9] == 1


def test_a_session_that_is_gone_is_not_found(server):
    answer = server.slicer("initial", "my volume", session_id="0" * 36)
    assert answer.status == 404


def test_a_session_of_several_files_is_refused(server):
    image = (server.studies / "ras.nii.gz").read_bytes()
    files = [("files", ("a.nii.gz", image)), ("files", ("b.nii.gz", image))]
    session = requests.put(f"{server.url}/session/", files=files, timeout=10).json()["session_id"]
    answer = server.slicer("initial", "two volumes", session_id=session)
    assert answer.status == 422
    assert "one image file was wanted" in answer.detail


def test_a_restart_changes_no_bit(another_server, server, tmp_path):
    studies = tmp_path / "studies"
    for name in ("oblique.nii.gz", "t2/oblique.nii.gz"):
        (studies / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(server.studies / name, studies / name)
    clicks = {"foreground": [[5, 7, 9], [7, 8, 9]], "background": [[18, 15, 11]]}
    other = another_server(studies, ("models", "click,initial"), ("cache_mb", 0)).wait()
    for model, params in (("initial", {}), ("click", clicks)):
        here, there = (
            server.slicer(model, "oblique", params),
            other.slicer(model, "oblique", params),
        )
        assert here.content == there.content
    info = requests.get(f"{other.url}/info/", timeout=10).json()
    assert list(info["models"]) == ["initial", "click"]


def test_an_image_that_is_added_over_http_is_there_at_once(another_server, server, tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    other = another_server(studies, ("preload", "false")).wait()
    assert requests.post(f"{other.url}/activelearning/random", json={}, timeout=10).json() == {}
    content = (server.studies / "ras.nii.gz").read_bytes()
    url = f"{other.url}/datastore/image"
    added = requests.put(url, params={"image": "a.b"}, files={"file": ("x.nii.gz", content)})
    assert added.json() == {"image": "a.b"}
    refused = requests.put(url, params={"image": "c"}, files={"file": ("x.png", content)})
    assert refused.status_code == 422
    for name in ("corrupt", "4d"):
        content = (server.studies / f"{name}.nii.gz").read_bytes()
        refused = requests.put(url, params={"image": "c"}, files={"file": ("x.nii.gz", content)})
        assert refused.status_code == 422
        assert refused.json()["detail"]
    content = (server.studies / "nrrd.nrrd").read_bytes()
    taken = requests.put(url, params={"image": "a.b"}, files={"file": ("x.nrrd", content)})
    assert taken.status_code == 409
    assert "there is an image 'a.b' already" in taken.json()["detail"]
    long = requests.put(url, params={"image": "b" * 201}, files={"file": ("x.nrrd", content)})
    assert long.status_code == 422
    assert "an image id has at most 200 bytes" in long.json()["detail"]
    assert [path.name for path in studies.glob("*.n*")] == ["a.b.nii.gz"]
    assert other.slicer("initial", "a.b").mask.any()
    sample = requests.post(f"{other.url}/activelearning/random", json={}, timeout=10).json()
    assert sample["id"] == "a.b"
    assert requests.delete(f"{other.url}/datastore/", params={"id": "a.b"}).status_code == 200
    assert requests.delete(f"{other.url}/datastore/", params={"id": "a.b"}).status_code == 404


@pytest.mark.parametrize("path", ["info", "label/info"])
def test_notes_on_what_is_not_there_are_refused(server, path):
    target = "image/info" if path == "info" else path
    response = requests.put(
        f"{server.url}/datastore/{target}",
        params={"image": "nobody", "label": "nobody", "tag": "final"},
        data={"info": "{}"},
        timeout=10,
    )
    assert response.status_code == 404
