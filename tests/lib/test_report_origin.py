"""Who accepted an outline and when: known if the files say so, else unknown, never an error."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from clickseg.clicks import Click
from clickseg.geometry import Grid
from clickseg.record import NotedClick, as_text
from clickseg.report.origin import INDEX, Origin, origin_of, read_index
from clickseg.volume import Volume, write_volume

FILE_TIME = datetime(2021, 3, 4, 5, 6, tzinfo=UTC)
ACCEPTED = datetime(2022, 7, 8, 9, 10, tzinfo=UTC)


@pytest.fixture
def label(tmp_path):
    path = tmp_path / "labels" / "final" / "a.nii.gz"
    path.parent.mkdir(parents=True)
    path.touch()
    os.utime(path, (FILE_TIME.timestamp(), FILE_TIME.timestamp()))
    return path


def origin(studies, label, info=None):
    if info is not None:
        entry = {"image": {}, "labels": {"final": {"ext": ".nii.gz", "info": info}}}
        (studies / INDEX).write_text(json.dumps({"name": "x", "objects": {"a": entry}}))
    return origin_of(studies, read_index(studies), "a", label)


def test_what_the_server_wrote_is_told(tmp_path, label):
    noted = [
        NotedClick(Click((float(x), 0.0, 0.0), True), "t", "click", "initial", 5, {}, taken_back=t)
        for x, t in ((1, None), (2, "t2"), (3, None))
    ]
    label.with_name("a.clicks.json").write_text(as_text("a", noted))
    folder = tmp_path / "labels" / "history" / "a"
    folder.mkdir(parents=True)
    for name in ("1.nii.gz", "1.clicks.json", "2.nrrd", ".part-3.nii.gz"):
        (folder / name).touch()
    info = {"client_id": " user-1 ", "ts": int(ACCEPTED.timestamp()), "name": "a.nii.gz"}
    assert origin(tmp_path, label, info) == Origin("user-1", ACCEPTED, False, 2, 2)


@pytest.mark.parametrize(
    ("masks", "clicks"),
    [
        ([1, 1], 2),  # saved again
        ([1, 1, 1], 2),
        ([1, 2], 0),  # edited by hand
        ([1, 2, 2], 0),
        ([None, 1], 0),  # no mask
    ],
)
def test_a_label_that_is_only_saved_again_has_the_clicks_of_before(tmp_path, label, masks, clicks):
    noted = [
        NotedClick(Click((x, 0.0, 0.0), True), "t", "click", "label", 5, {}) for x in (1.0, 2.0)
    ]
    folder = tmp_path / "labels" / "history" / "a"
    folder.mkdir(parents=True)
    for number, value in enumerate(masks):
        is_last = number == len(masks) - 1
        mask = label if is_last else folder / f"{number}.nrrd"
        array = np.zeros((3, 5, 2), np.uint8)
        array[0, : value or 0, 0] = 1
        if value is None:
            mask.touch()
        else:
            write_volume(mask, Volume(array, Grid(array.shape, np.eye(4))))
        again = [replace(one, is_repeated=True) for one in noted] if is_last else []
        text = as_text("a", again if number else noted)
        mask.with_name(f"{'a' if is_last else number}.clicks.json").write_text(text)
    assert origin(tmp_path, label).clicks == clicks


@pytest.mark.parametrize(
    ("info", "who"),
    [
        ({"client_id": "one", "user": "two"}, "one"),
        ({"client_id": " ", "user": " two "}, "two"),
        ({"client_id": None, "user": "two"}, "two"),
        ({"user": "admin"}, None),  # so MONAI Label calls everybody without authentication
        ({"user": 7}, None),
    ],
)
def test_who_is_the_client_or_else_the_user(tmp_path, label, info, who):
    assert origin(tmp_path, label, info).who == who


def test_without_a_server_the_time_is_that_of_the_file(tmp_path, label):
    assert origin(tmp_path, label) == Origin(None, FILE_TIME, True, None, 0)


@pytest.mark.parametrize("info", [[], "x", {"client_id": 7, "ts": "soon"}, {"client_id": " "}])
@pytest.mark.parametrize("clicks", ["", "[]", '{"clicks": 3}', '{"clicks": [{}]}', "[" * 100_000])
def test_what_is_in_another_form_is_unknown(tmp_path, label, info, clicks):
    label.with_name("a.clicks.json").write_text(clicks)
    assert origin(tmp_path, label, info) == Origin(None, FILE_TIME, True, None, 0)


@pytest.mark.parametrize("ts", [True, float("nan"), 1e300, -1e300, None])
def test_a_time_that_is_none_is_not_taken(tmp_path, label, ts):
    assert origin(tmp_path, label, {"ts": ts}).when == FILE_TIME


def test_a_label_that_is_gone_has_no_time(tmp_path):
    assert origin(tmp_path, tmp_path / "gone.nii.gz") == Origin()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"objects": []}', "\x00", "[" * 100_000])
def test_a_list_in_another_form_is_as_none(tmp_path, caplog, text):
    (tmp_path / INDEX).write_text(text)
    assert read_index(tmp_path) == {}
    assert INDEX in caplog.text
