import json

import pytest
from noted import ELSEWHERE, GRID, HERE, MODELS, THERE, answered

from clickseg import journal
from clickseg.clicks import Click
from clickseg.journal import Journals
from clickseg.record import (
    NotedClick,
    RecordError,
    as_text,
    clicks_made,
    read_record,
    repeated,
)


@pytest.fixture
def journals(tmp_path):
    return Journals(tmp_path)


def test_a_record_is_in_mm_and_has_a_line_a_click(journals, monkeypatch):
    times = iter(["2026-03-01T08:00:00.000+00:00", "2026-03-01T08:00:05.000+00:00"])

    class Clock:
        def isoformat(self, **_):
            return next(times)

    monkeypatch.setattr(journal, "utc_now", Clock)
    voxel = Click.at((5, 7, 11), True, GRID)
    journals.note("a", answered(voxel, HERE))
    journals.note("a", answered(HERE, changed=3))
    text = as_text("a", journals.read("a"))
    assert len(text.splitlines()) == 6 + 2
    values = json.loads(text)
    assert (values["format"], values["image"]) == (1, "a")
    # 1.5 * 11 + 11, -0.4 * 5 + 7, 0.5 * 7 + 3
    assert values["clicks"][0] == {
        "point_ras_mm": [27.5, 5.0, 6.5],
        "kind": "foreground",
        "time": "2026-03-01T08:00:00.000+00:00",
        "taken_back": "2026-03-01T08:00:05.000+00:00",
        "is_repeated": False,
        "is_scribble": False,
        "model": "click",
        "start": "initial",
        "changed_voxels": 7,
        "models": MODELS,
        "client_id": None,
    }
    assert values["clicks"][1]["taken_back"] is None


def test_a_record_without_clicks_is_one_too(tmp_path):
    (tmp_path / "a.clicks.json").write_text(as_text("a", ()))
    assert read_record(tmp_path / "a.clicks.json") == ()


def test_clicks_of_the_round_before_are_repeated(journals):
    journals.note("a", answered(HERE, THERE))
    journals.note("a", answered(HERE))
    before = journals.read("a")
    journals.end("a")
    journals.note("a", answered(HERE, THERE, ELSEWHERE, start="label"))
    now = repeated(journals.read("a"), before)
    # THERE was taken back before: now it is a click of this round.
    assert [noted.is_repeated for noted in now] == [True, False, False]
    assert clicks_made(now) == 2


def noted(click=HERE, **more):
    return NotedClick(click, "t", "click", "initial", 5, {}, **more)


def test_points_of_a_scribble_are_no_clicks_that_were_made():
    clicks = [noted(), noted(THERE, is_scribble=True), noted(ELSEWHERE, is_repeated=True)]
    assert clicks_made(clicks) == 1


def test_a_click_that_was_taken_back_since_and_comes_again_is_new():
    before = [noted(), noted(THERE), noted(taken_back="t"), noted(ELSEWHERE, taken_back="t")]
    now = repeated([noted(), noted(THERE), noted(ELSEWHERE)], [*before, noted(ELSEWHERE)])
    assert [one.is_repeated for one in now] == [False, True, True]


def test_a_record_of_before_clients_were_noted_is_read(tmp_path):
    values = json.loads(as_text("a", [noted(client_id="me")]))
    del values["clicks"][0]["client_id"]
    (tmp_path / "a.clicks.json").write_text(json.dumps(values))
    assert read_record(tmp_path / "a.clicks.json") == (noted(),)


@pytest.mark.parametrize(
    "other",
    [
        {"point_ras_mm": [1.0, 2.0, float("inf")]},
        {"point_ras_mm": [1.0, 2.0, 10**400]},
        {"time": 3},
        {"taken_back": 3},
        {"is_repeated": None},
        {"changed_voxels": None},
        {"models": "x"},
        {"client_id": []},
    ],
)
def test_a_record_with_values_of_other_types_is_refused(tmp_path, other):
    values = json.loads(as_text("a", [noted()]))
    values["clicks"][0] |= other
    (tmp_path / "a.clicks.json").write_text(json.dumps(values))
    with pytest.raises(RecordError, match="no record of clicks"):
        read_record(tmp_path / "a.clicks.json")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (None, "no record of clicks"),
        ("", "no record of clicks"),
        ("[]", "no record of clicks"),
        ('{"clicks": []}', "no record of clicks"),
        ('{"format": 2, "clicks": []}', "has format 2, not 1"),
        ('{"format": 1, "clicks": [{}]}', "no record of clicks"),
        (
            '{"format": 1, "clicks": [{"point_ras_mm": [1, 2, 3], "kind": "both"}]}',
            "a click is foreground or background, got 'both'",
        ),
    ],
)
def test_what_is_no_record_is_refused(tmp_path, text, wanted):
    path = tmp_path / "a.clicks.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RecordError, match=wanted):
        read_record(path)
