"""The literal requests of both viewers, against a running server."""

import numpy as np
import pytest
import requests
import SimpleITK as sitk  # noqa: N813  # its documented name
from serving import AFFINES, LABEL, SHAPE, until

EMPTY_RADIUS_MM = 9.0  # reach 6 + visible 3 of the models the tests make


def test_info_lists_the_three_models_as_both_viewers_read_them(server):
    info = requests.get(f"{server.url}/info/", timeout=10).json()
    assert "config" not in info  # its presence makes 3D Slicer refuse the server
    assert info["labels"] == [LABEL]  # a list: OHIF pushes to it
    assert list(info["models"]) == ["initial", "click", "edit"]
    kinds = {name: model["type"] for name, model in info["models"].items()}
    assert kinds == {"initial": "segmentation", "click": "deepgrow", "edit": "scribbles"}
    for model in info["models"].values():
        assert model["labels"] == {LABEL: 1}
        assert model["dimension"] == 3
        assert model["description"]
    starts = ["auto", "initial", "label"]
    assert info["models"]["initial"]["config"] == {"accept": False}  # booleans are check boxes
    assert info["models"]["click"]["config"] == {"start": starts, "accept": False}
    assert info["models"]["edit"]["config"] == {}
    assert next(iter(info["strategies"])) == "random"  # the only one that OHIF asks for
    assert {"first", "shuffle", "uncertainty", "diversity"} < set(info["strategies"])
    assert list(info["trainers"]) == ["initial", "click"]
    assert info["trainers"]["click"]["config"]["max_epochs"] > 0
    assert info["train_stats"] == {"initial": {}, "click": {}}
    assert info["datastore"]["completed"] >= 1


def test_a_missing_image_list_holds_no_t2(server):
    listed = requests.get(f"{server.url}/datastore/?output=all", timeout=10).json()["objects"]
    assert "ras" in listed
    assert not any("t2/" in name for name in listed)
    assert listed["nrrd"]["image"]["ext"] == ".nrrd"


@pytest.mark.parametrize("name", [*AFFINES, "two-forms", "uncompressed", "nrrd", "no-t2"])
def test_the_initial_outline_lies_on_the_grid_of_its_image(server, studies, name):
    answer = server.slicer("initial", name)
    wanted = sitk.ReadImage(str(next(studies.glob(f"{name}.n*"))))
    came = answer.image
    assert came.GetPixelID() == sitk.sitkUInt8
    assert came.GetSize() == wanted.GetSize()
    for key in ("Origin", "Spacing", "Direction"):
        np.testing.assert_allclose(
            getattr(came, f"Get{key}")(), getattr(wanted, f"Get{key}")(), atol=1e-5
        )
    mask = answer.mask
    assert set(np.unique(mask)) == {0, 1}
    bright = sitk.GetArrayFromImage(wanted).transpose() > 300
    overlap = 2 * (mask * bright).sum() / (mask.sum() + bright.sum())
    assert overlap > 0.8


def test_the_result_says_what_it_is(server, studies):
    params = server.slicer("initial", "ras").params
    assert params["label_names"] == {LABEL: 1}
    voxels = server.slicer("initial", "ras").mask.sum()
    assert params["volume_ml"] == pytest.approx(voxels * 0.5 * 0.5 * 1.5 / 1000, abs=1e-4)
    assert 6 < params["max_axial_diameter_mm"] < 8
    assert params["changed_voxels"] == params["changed_ml"] == params["clicks_obeyed"] == 0
    assert params["radius_mm"] == EMPTY_RADIUS_MM
    assert params["t2"] == str(studies / "t2" / "ras.nii.gz")
    assert set(params["models"]) == {"initial", "correction"}
    assert all(len(digest) == 12 for digest in params["models"].values())
    assert set(params["latencies"]) == {"pre", "infer", "post", "write", "total"}
    assert "next_click" in params


def test_a_study_without_t2_works_and_says_so(server):
    answer = server.slicer("initial", "no-t2")
    assert answer.params["t2"] is None
    assert answer.mask.any()


def test_a_t2_on_another_grid_is_brought_onto_the_t1ce(server):
    answer = server.slicer("initial", "other-grid")
    assert answer.params["t2"].endswith("t2/other-grid.nii.gz")
    assert answer.mask.shape == SHAPE


def test_ohif_gets_the_bare_buffer_of_the_mask(server):
    answer = server.ohif("initial", "lps")
    assert answer.response.headers["content-type"] == "application/octet-stream"
    assert answer.response.headers["access-control-allow-origin"]
    raw = answer.content.partition(b"\n\n")[2]
    assert len(raw) == np.prod(SHAPE)  # uint8, not compressed
    pixels = np.frombuffer(raw, np.uint8).reshape(SHAPE, order="F")
    np.testing.assert_array_equal(pixels, server.slicer("initial", "lps").mask)


@pytest.mark.parametrize("name", AFFINES)
def test_a_click_comes_back_where_it_was_made(server, name):
    """The echo network draws the click's own ball; nothing but that is in the answer."""
    before = server.slicer("initial", name).mask
    answer = server.click(name, foreground=[[5, 7, 9]])
    added = np.argwhere(answer.mask > before)
    assert [5, 7, 9] in added.tolist()
    np.testing.assert_allclose(added.mean(axis=0), [5, 7, 9], atol=0.5)
    offsets_mm = (added - [5, 7, 9]) @ AFFINES[name][:3, :3].T
    assert np.linalg.norm(offsets_mm, axis=1).max() < 2.0
    assert not (answer.mask < before).any()
    assert answer.params["clicks_obeyed"] == 1
    assert answer.params["changed_voxels"] == len(added)


@pytest.mark.parametrize("name", ["ras", "permuted"])
def test_a_background_click_takes_away_where_it_was_made(server, name):
    before = server.slicer("initial", name).mask
    answer = server.click(name, background=[[18, 15, 11]])
    removed = np.argwhere(before > answer.mask)
    assert [18, 15, 11] in removed.tolist()
    assert not (answer.mask > before).any()


def test_ohif_clicks_without_a_background_row_or_without_foreground(server):
    by_slicer = server.click("lps", foreground=[[5, 7, 9]])
    by_ohif = server.ohif("click", "lps", {"foreground": [[5, 7, 9]]})
    np.testing.assert_array_equal(by_slicer.mask, by_ohif.mask)
    by_slicer = server.click("lps", background=[[18, 15, 11]])
    by_ohif = server.ohif("click", "lps", {"background": [[18, 15, 11]]})
    np.testing.assert_array_equal(by_slicer.mask, by_ohif.mask)


def test_equal_lists_are_background_clicks(server):
    """OHIF sends its background points as both, when its background row is selected."""
    both = {"foreground": [[18, 15, 11]], "background": [[18, 15, 11]]}
    expected = server.click("ras", background=[[18, 15, 11]])
    np.testing.assert_array_equal(server.ohif("click", "ras", both).mask, expected.mask)


def test_clicks_under_the_name_of_the_label_are_foreground(server):
    named = server.slicer("click", "ras", {LABEL: [[5, 7, 9]], "background": []})
    np.testing.assert_array_equal(named.mask, server.click("ras", [[5, 7, 9]]).mask)


LOOSE = {
    "no keys at all": {},
    "null": {"foreground": None, "background": None},
    "empty": {"foreground": [], "background": []},
    "options as lists": {"start": ["auto", "initial", "label"], "foreground": []},
    "left-over keys": {"slice": 3, "roi": [0, 1, 2, 3, 4, 5], "reset_state": True, "points": []},
    "another model's keys": {"liver": [[1, 2, 3]], "logging": "INFO", "device": "cuda"},
}


@pytest.mark.parametrize("params", LOOSE.values(), ids=LOOSE.keys())
def test_no_click_is_the_start_mask(server, params):
    expected = server.slicer("initial", "ras").mask
    for viewer in (server.slicer, server.ohif):
        np.testing.assert_array_equal(viewer("click", "ras", params).mask, expected)


SAME = {
    "floats": [[5.2, 6.9, 9.0]],
    "duplicates": [[5, 7, 9], [5, 7, 9], [5, 7, 9]],
}


@pytest.mark.parametrize("points", SAME.values(), ids=SAME.keys())
def test_points_are_read_as_they_were_meant(server, points):
    expected = server.click("ras", [[5, 7, 9]]).mask
    np.testing.assert_array_equal(server.click("ras", points).mask, expected)


def test_points_one_off_at_the_border_count_as_on_it(server):
    outside = server.click("ras", [[-1, 31, 23]])
    inside = server.click("ras", [[0, 30, 22]])
    assert inside.mask[0, 30, 22] == 1
    np.testing.assert_array_equal(outside.mask, inside.mask)


def test_the_start_mask_can_be_chosen(server):
    initial = server.slicer("initial", "accepted").mask
    assert server.click("accepted").mask.sum() == 4**3  # the accepted label
    assert server.click("accepted", start="label").mask.sum() == 4**3
    np.testing.assert_array_equal(server.click("accepted", start="initial").mask, initial)
    assert server.click("accepted", start=["initial", "label"]).mask.sum() == initial.sum()


def test_undo_is_a_shorter_list_bit_for_bit(server):
    clicks = [[5, 7, 9], [30, 20, 4], [7, 8, 9]]
    answers = [server.click("undo", clicks[:count]).content for count in range(4)]
    again = [server.click("undo", clicks[:count]).content for count in (3, 1, 2, 0)]
    assert [answers[count] for count in (3, 1, 2, 0)] == again
    assert len(set(answers)) == 4


def test_the_order_of_clicks_does_not_matter(server):
    clicks = [[5, 7, 9], [7, 8, 9], [20, 17, 12]]
    assert server.click("undo", clicks).content == server.click("undo", clicks[::-1]).content


def test_nothing_changes_farther_than_the_radius(server):
    before = server.slicer("initial", "oblique").mask
    answer = server.click("oblique", [[18, 19, 11]], [[18, 15, 11]])
    changed = np.argwhere(answer.mask != before)
    away_mm = np.linalg.norm(
        (changed[:, None] - [[18, 19, 11], [18, 15, 11]]) @ AFFINES["oblique"][:3, :3].T, axis=2
    )
    assert len(changed)
    assert away_mm.min(axis=1).max() <= answer.params["radius_mm"]


@pytest.mark.parametrize("extension", [".nrrd", ".nii.gz", ".nii", ".seg.nrrd"])
def test_the_file_comes_in_the_format_asked_for(server, extension):
    response = requests.post(
        f"{server.url}/infer/initial",
        params={"image": "oblique", "output": "image"},
        data={"params": f'{{"result_extension": "{extension}"}}'},
        timeout=60,
    )
    assert response.status_code == 200
    assert response.headers["content-disposition"].endswith(f'{extension}"')
    path = server.folder / f"asked{extension}"
    path.write_bytes(response.content)
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).transpose()
    np.testing.assert_array_equal(mask, server.slicer("initial", "oblique").mask)


def test_an_answer_is_a_fresh_file_that_is_deleted(server):
    names = {server.slicer("initial", "ras").file_name for _ in range(3)}
    assert len(names) == 3
    # The server deletes a file once it is sent, which is just after the viewer has it.
    until(lambda: not list((server.folder / "tmp").glob("vs-clickseg-*/*.n*")))


def test_params_alone_can_be_asked_for(server):
    response = requests.post(
        f"{server.url}/infer/click",
        params={"image": "ras", "output": "json"},
        data={"params": '{"foreground": [[5, 7, 9]]}'},
        timeout=60,
    )
    assert response.json()["clicks_obeyed"] == 1


@pytest.mark.parametrize("strategy", ["first", "random"])
def test_next_sample_never_offers_a_labeled_image(server, strategy):
    offered = set()
    for _ in range(12):  # also several within one second
        sample = requests.post(f"{server.url}/activelearning/{strategy}", json={}, timeout=10)
        offered.add(sample.json()["id"])
        assert sample.json()["path"] == str(server.studies / sample.json()["name"])
    assert "accepted" not in offered
    assert len(offered) == 1 if strategy == "first" else len(offered) > 1


def test_nothing_is_trained_before_it_is_asked_for(server):
    assert requests.get(f"{server.url}/train/", timeout=10).status_code == 404
    assert requests.delete(f"{server.url}/train/", timeout=10).status_code == 200
