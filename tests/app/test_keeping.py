"""What readers do is kept: accepted labels, the clicks they were made with, earlier versions."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import requests
from kept import RAS, block, files_of, label_info, listed, put, record
from serving import AFFINES, LABEL, SHAPE, save

from clickseg.accepted import history
from clickseg.engine import Engine
from clickseg.geometry import ijk_to_ras
from clickseg.journal import JOURNAL_FOLDER, Journals
from clickseg.learning.recorded import recorded_clicks
from clickseg.models import load_models
from clickseg.record import read_record
from clickseg.study import Case
from clickseg.volume import read_label, read_volume
from clickseg_app.datastore import StudiesDatastore
from clickseg_app.infer import ClickTask
from clickseg_app.requests import Folders, Source


def test_a_saved_label_is_measured_and_told(keeping, study):
    keeping.click(study, [[5, 7, 9]])
    mask = block(3, 6, value=2)
    reply = put(keeping, study, mask).json()
    # 27 voxels of 0.5 x 0.5 x 1.5 mm; 3 x 3 voxels in a plane: hypot(1.5, 1.5)
    told = {"volume_ml": 0.0101, "max_axial_diameter_mm": 2.12, "clicks": 1}
    assert reply == told | {"image": study, "label": study}
    info = label_info(keeping, study)
    assert info | told | {"label_names": {LABEL: 1}, "client_id": "user-xyz"} == info
    assert info["label_info"] == [{"name": LABEL, "idx": 1}]  # not the 2 that Slicer counted
    assert info["time"].endswith("+00:00")
    saved = read_volume(keeping.studies / f"labels/final/{study}.nii.gz")
    np.testing.assert_array_equal(saved.array, mask > 0)


def test_clicks_are_written_beside_the_label_and_begin_anew(keeping, new_study):
    study = new_study("oblique")
    answers = [keeping.click(study, [[5, 7, 9]]).params]
    answers.append(keeping.click(study, [[5, 7, 9]], [[18, 15, 11]]).params)
    keeping.click(study, [], [[18, 15, 11]])
    assert put(keeping, study, block(3, 6), affine=AFFINES["oblique"]).json()["clicks"] == 1
    first, second = record(keeping, study)
    points_ras = ijk_to_ras([[5, 7, 9], [18, 15, 11]], AFFINES["oblique"])
    np.testing.assert_allclose(
        [first.click.point_ras, second.click.point_ras], points_ras, atol=1e-3
    )
    assert [one.click.is_foreground for one in (first, second)] == [True, False]
    assert [one.changed_voxels for one in (first, second)] == [
        answer["changed_voxels"] for answer in answers
    ]
    assert first.taken_back is not None
    assert second.taken_back is None
    assert first.start == "initial"
    assert first.models == answers[0]["models"]
    keeping.click(study, [[6, 7, 9]], [[18, 15, 11]])
    assert put(keeping, study, block(3, 7), affine=AFFINES["oblique"]).json()["clicks"] == 1
    assert [one.is_repeated for one in record(keeping, study)] == [False, True]
    assert {one.start for one in record(keeping, study)} == {"label"}


def test_clicks_survive_a_crash_and_a_restart(another_server, server, tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    shutil.copy(server.studies / "ras.nii.gz", studies)
    crashed = another_server(studies, ("preload", "false")).wait()
    crashed.click("ras", [[5, 7, 9]])
    crashed.process.kill()
    crashed.process.wait()
    other = another_server(studies, ("preload", "false")).wait()
    other.click("ras", [[5, 7, 9], [7, 8, 9]])
    assert put(other, "ras", block(3, 6)).json()["clicks"] == 2


def test_scribbles_are_noted_and_stay(keeping, study, tmp_path):
    keeping.click(study, [[30, 20, 9]])
    labelmap = block(5, 9)
    labelmap[20, 20, 15] = 3
    path = save(tmp_path / "scribbles.nii.gz", labelmap, RAS)
    keeping.slicer("edit", study, {"foreground": [[25, 20, 15]]}, path)
    reply = put(keeping, study, block(3, 6)).json()
    assert reply["clicks"] == 2  # how many points stand for a stroke is not the reader's choice
    clicked, scribbled, beside = record(keeping, study)
    assert [one.is_scribble for one in (clicked, scribbled, beside)] == [False, True, False]
    assert [one.start for one in (clicked, scribbled, beside)] == ["initial", "upload", "upload"]
    assert [one.model for one in (clicked, scribbled)] == ["click", "edit"]


def test_earlier_labels_and_clicks_are_kept_and_not_listed(keeping, study, new_study):
    keeping.click(study, [[5, 7, 9]])
    for side, name in ((4, "a.nii.gz"), (5, "a.nrrd"), (6, "a.nrrd"), (7, "a.nii.gz")):
        assert put(keeping, study, block(2, side), name).status_code == 200
    kept = history(keeping.studies, study)
    assert len(kept) == 3
    for side, path in zip((4, 5, 6), kept, strict=True):
        np.testing.assert_array_equal(read_label(path).array, block(2, side))
    first = kept[0].with_name(kept[0].name.removesuffix(".nii.gz") + ".clicks.json")
    assert len(read_record(first)) == 1
    final = keeping.studies / "labels/final"
    there = sorted(path.name for path in final.iterdir() if study in path.name)
    assert there == [f"{study}.clicks.json", f"{study}.nii.gz"]
    put(keeping, new_study(), block(3, 6))  # the index is made anew
    objects = listed(keeping)
    assert objects[study]["labels"]["final"]["ext"] == ".nii.gz"
    assert "history" not in {tag for one in objects.values() for tag in one["labels"]}
    np.testing.assert_array_equal(keeping.click(study).mask, block(2, 7))


def test_a_history_that_looks_like_a_label_is_none(server, tmp_path):
    """An image called x.nii.gz.nii.gz has the id x.nii.gz, and a folder of that name."""
    for name in ("x.nii.gz", "x.nii.gz.nii.gz"):
        shutil.copy(server.studies / "ras.nii.gz", tmp_path / name)
    store = StudiesDatastore(str(tmp_path), False, False, {LABEL: 1})
    for side in (4, 5):
        upload = save(tmp_path / "uploads" / "a.nii.gz", block(2, side), RAS)
        store.save_label("x.nii.gz", str(upload), "final", {})
    assert len(history(tmp_path, "x.nii.gz")) == 1
    store.refresh()
    again = StudiesDatastore(str(tmp_path), False, False, {LABEL: 1})
    for one in (store, again):
        objects = one.json()["objects"]
        assert (list(objects["x.nii.gz"]["labels"]), objects["x"]["labels"]) == (["final"], {})


@pytest.mark.parametrize("tag", ["original", "second-reader"])
def test_another_tag_keeps_no_history(keeping, study, tag):
    keeping.click(study, [[5, 7, 9]])
    for side in (4, 5):
        reply = put(keeping, study, block(2, side), tag=tag).json()
        assert reply == {"image": study, "label": study}
    assert history(keeping.studies, study) == []
    assert [one.taken_back for one in Journals(keeping.studies).read(study)] == [None]


def bad_labels():
    odd = block(3, 6).astype(np.float32)
    odd[4, 4, 4] = 0.5
    hole = block(3, 6).astype(np.float32)
    hole[4, 4, 4] = np.nan
    return {
        "another grid": (block(3, 6), AFFINES["lps"], "another grid"),
        "half": (odd, RAS, "whole numbers were wanted"),
        "NaN": (hole, RAS, "not finite"),
    }


@pytest.mark.parametrize(("mask", "affine", "text"), bad_labels().values(), ids=bad_labels().keys())
def test_a_label_that_is_refused_leaves_all_as_it_was(keeping, study, mask, affine, text):
    assert put(keeping, study, block(3, 7)).status_code == 200
    keeping.click(study, [[5, 7, 9]])
    before = files_of(keeping, study)
    response = put(keeping, study, mask, affine=affine)
    assert response.status_code == 422
    assert text in response.json()["detail"]
    assert files_of(keeping, study) == before


def test_params_that_are_no_object_are_refused(keeping, study):
    response = put(keeping, study, block(3, 7), params=[1])
    assert response.status_code == 422
    assert "params of a label are an object" in response.json()["detail"]


def test_that_there_is_no_tumor_can_be_saved(keeping, study):
    reply = put(keeping, study, np.zeros(SHAPE, np.uint8)).json()
    assert (reply["volume_ml"], reply["max_axial_diameter_mm"], reply["clicks"]) == (0, 0, 0)
    assert not read_label(keeping.studies / f"labels/final/{study}.nii.gz").array.any()


def test_a_removed_label_and_its_clicks_are_kept_and_nothing_of_a_removed_image(keeping, study):
    keeping.click(study, [[5, 7, 9]])
    put(keeping, study, block(2, 5))
    put(keeping, study, block(2, 6))
    query = {"id": study, "tag": "final"}
    requests.delete(f"{keeping.url}/datastore/label", params=query, timeout=10).raise_for_status()
    assert not list((keeping.studies / "labels/final").glob(f"{study}.*"))
    first, second = history(keeping.studies, study)
    np.testing.assert_array_equal(read_label(first).array, block(2, 5))
    np.testing.assert_array_equal(read_label(second).array, block(2, 6))
    (noted,) = read_record(first.with_name(first.name.removesuffix(".nii.gz") + ".clicks.json"))
    assert noted.client_id == "user-xyz"
    assert "final" not in listed(keeping)[study]["labels"]
    keeping.click(study, [[5, 7, 9]])
    query = {"id": study}
    requests.delete(f"{keeping.url}/datastore/image", params=query, timeout=10).raise_for_status()
    assert files_of(keeping, study) == {}


def test_an_initial_outline_begins_a_round_anew(keeping, study):
    keeping.click(study, [[5, 7, 9]])
    keeping.slicer("initial", study)
    keeping.click(study, [[7, 8, 9]])
    assert put(keeping, study, block(3, 6)).json()["clicks"] == 1
    assert [one.taken_back is None for one in record(keeping, study)] == [False, True]
    keeping.click(study, [[5, 7, 9]])
    keeping.slicer("initial", study)
    assert put(keeping, study, block(3, 7)).json()["clicks"] == 0


@pytest.mark.parametrize("model", ["initial", "click"])
def test_a_batch_takes_back_no_click(keeping, study, model):
    keeping.ohif("click", study, {"foreground": [[5, 7, 9]]})
    url, sent = f"{keeping.url}/batch/infer/{model}", {"images": [study]}
    requests.post(url, params={"run_sync": True}, json=sent, timeout=60).raise_for_status()
    assert put(keeping, study, block(3, 6)).json()["clicks"] == 1


def test_two_readers_of_one_study_take_back_no_click_of_each_other(keeping, study):
    keeping.click(study, [[5, 7, 9]])
    keeping.click(study, [[7, 8, 9]], client_id="another")
    keeping.ohif("click", study, {"foreground": [[9, 9, 9]]})
    keeping.click(study, [[5, 7, 9], [11, 9, 9]])
    assert put(keeping, study, block(3, 6)).json()["clicks"] == 4
    clients = [one.client_id for one in record(keeping, study)]
    assert clients == ["user-xyz", "another", None, "user-xyz"]


def test_a_save_without_a_new_click_costs_none(keeping, study):
    keeping.click(study, [[5, 7, 9]])
    counts = [put(keeping, study, block(3, 6)).json()["clicks"] for _ in range(2)]
    keeping.click(study, [[5, 7, 9], [7, 8, 9]])
    assert [*counts, put(keeping, study, block(3, 6)).json()["clicks"]] == [1, 0, 1]
    label = keeping.studies / f"labels/final/{study}.nii.gz"
    case = Case(study, keeping.studies / f"{study}.nii.gz", None, label)
    assert len(recorded_clicks([case])[study]) == 2


def test_a_journal_that_cannot_be_written_keeps_no_reader_waiting(
    weights, studies, tmp_path, caplog
):
    (tmp_path / JOURNAL_FOLDER).parent.mkdir()
    (tmp_path / JOURNAL_FOLDER).write_text("in the way")
    task = ClickTask(
        lambda: Engine(load_models(weights, "cpu")), Folders(tmp_path, tmp_path, tmp_path)
    )
    source = Source(studies / "ras.nii.gz", image_id="ras")
    answer, _ = task({"model": "click", "source": source, "foreground": [[5, 7, 9]]})
    assert read_label(Path(answer)).array[5, 7, 9] == 1
    assert "could not be noted" in caplog.text
