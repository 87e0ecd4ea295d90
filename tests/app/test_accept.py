"""The option `accept`: an answer is stored as the accepted label."""

import numpy as np
import requests
from kept import block, files_of, label_info, put, record
from serving import LABEL, SHAPE

from clickseg.accepted import history
from clickseg.journal import JOURNAL_FOLDER
from clickseg.volume import read_label


def test_an_answer_is_accepted_in_both_viewers(keeping, study):
    params = {"foreground": [[5, 7, 9]], "background": []}
    answer = keeping.ohif("click", study, params | {"accept": True})
    path = keeping.studies / f"labels/final/{study}.nii.gz"
    np.testing.assert_array_equal(read_label(path).array, answer.mask)
    assert [one.click.is_foreground for one in record(keeping, study)] == [True]
    info = label_info(keeping, study)
    assert info["label_names"] == {LABEL: 1}
    assert (info["model"], info["clicks"]) == ("click", 1)
    mended = keeping.slicer("click", study, params | {"start": "label", "accept": True})
    assert mended.params["accepted"] is True
    assert mended.params["accepted_label"] == f"labels/final/{study}.nii.gz"
    np.testing.assert_array_equal(read_label(path).array, mended.mask)
    assert len(history(keeping.studies, study)) == 1
    assert label_info(keeping, study)["clicks"] == 0  # the one click came with the label before
    assert not list((keeping.folder / "tmp").glob("vs-clickseg-*/*.nii.gz"))


def test_accepting_holds_for_one_request(keeping, study):
    keeping.slicer("click", study, {"foreground": [[5, 7, 9]], "accept": True})
    before = files_of(keeping, study)
    for option in ({}, {"accept": False}, {"accept": [False]}, {"accept": "false"}):
        answer = keeping.slicer("click", study, {"foreground": [[5, 7, 9]]} | option)
        assert "accepted" not in answer.params
        keeping.slicer("initial", study, option)
    after = files_of(keeping, study)
    after.pop(f"{JOURNAL_FOLDER}/{study}.jsonl")
    assert after == before
    models = requests.get(f"{keeping.url}/info/", timeout=10).json()["models"]
    assert models["click"]["config"]["accept"] is False


def test_an_accepted_initial_outline_holds_no_click(keeping, study):
    keeping.click(study, [[5, 7, 9]])
    answer = keeping.slicer("initial", study, {"accept": True})
    assert answer.params["accepted"] is True
    np.testing.assert_array_equal(
        read_label(keeping.studies / f"labels/final/{study}.nii.gz").array, answer.mask
    )
    (taken_back,) = record(keeping, study)
    assert taken_back.taken_back is not None
    assert label_info(keeping, study)["clicks"] == 0


def test_an_answer_without_tumor_is_not_accepted(keeping, study):
    put(keeping, study, np.zeros(SHAPE, np.uint8))
    before = files_of(keeping, study)
    answer = keeping.slicer("click", study, {"start": "label", "accept": True})
    assert answer.status == 422
    assert "has no tumor and was not accepted" in answer.detail
    assert files_of(keeping, study) == before
    assert not list((keeping.folder / "tmp").glob("vs-clickseg-*/*.n*"))


def test_an_image_of_a_session_is_not_accepted_nor_are_its_clicks_kept(keeping, server):
    with (server.studies / "lps.nii.gz").open("rb") as file:
        sent = {"files": ("lps.nii.gz", file)}
        opened = requests.put(f"{keeping.url}/session/", files=sent, timeout=10).json()
    before = sorted(keeping.studies.rglob("*"))
    session = opened["session_id"]
    params = {"foreground": [[5, 7, 9]]}
    answer = keeping.slicer("click", "my volume", params | {"accept": True}, session_id=session)
    assert answer.status == 422
    assert "images of the studies folder" in answer.detail
    assert keeping.slicer("click", "my volume", params, session_id=session).status == 200
    assert sorted(keeping.studies.rglob("*")) == before


def test_a_batch_accepts_nothing(keeping, study):
    requests.post(
        f"{keeping.url}/batch/infer/initial",
        params={"run_sync": True},
        json={"accept": True, "images": [study]},
        timeout=60,
    )
    assert not (keeping.studies / f"labels/final/{study}.nii.gz").exists()
    assert (keeping.studies / f"labels/original/{study}.nii.gz").exists()


def test_an_answer_is_not_saved_as_final_without_being_accepted(keeping, study):
    put(keeping, study, block(2, 5))
    before = files_of(keeping, study)
    for tag in ("final", "Final"):
        for model in ("initial", "click", "edit"):
            answer = keeping.slicer(model, study, {"save_label": True, "label_tag": tag})
            assert answer.status == 403
            assert "accept" in answer.detail
    assert files_of(keeping, study) == before


def test_a_batch_replaces_no_label_of_a_reader(keeping, study):
    put(keeping, study, block(2, 5))
    keeping.click(study, [[5, 7, 9]])
    before = files_of(keeping, study)
    sent = {"images": [study], "label_tag": "final"}
    url = f"{keeping.url}/batch/infer/initial"
    reply = requests.post(url, params={"run_sync": True}, json=sent, timeout=60)
    assert "accept" in reply.json()[study]["error"]
    assert files_of(keeping, study) == before
