import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickseg import record
from clickseg.clicks import Click
from clickseg.geometry import Grid
from clickseg.record import (
    JOURNAL_FOLDER,
    Answered,
    Journals,
    RecordError,
    as_text,
    clicks_made,
    read_record,
    repeated,
)

MODELS = {"initial": "35ab6e71b975", "correction": "e2e80ebd98b3"}
GRID = Grid(
    (37, 31, 23),
    np.array([[0, 0, 1.5, 11], [-0.4, 0, 0, 7], [0, 0.5, 0, 3], [0, 0, 0, 1.0]]),
)
HERE = Click((3.0, -4.0, 20.0), True)
THERE = Click((5.5, -4.0, 18.5), False)
ELSEWHERE = Click((1.0, 2.0, 3.0), True)


def answered(*clicks, model="click", start="initial", changed=7, scribbled=0):
    return Answered(model, start, clicks, MODELS, changed, scribbled)


@pytest.fixture
def journals(tmp_path):
    return Journals(tmp_path)


def test_a_click_is_noted_with_its_answer(journals):
    journals.note("a", answered(HERE, changed=12))
    (noted,) = journals.read("a")
    assert noted.click == HERE
    assert (noted.model, noted.start, noted.changed_voxels) == ("click", "initial", 12)
    assert noted.models == MODELS
    assert noted.time.endswith("+00:00")
    assert noted.taken_back is None
    assert not noted.is_scribble


def test_clicks_stand_in_the_order_in_which_they_came_first(journals):
    """Viewers send foreground first: the order of a request is not that of the reader."""
    journals.note("a", answered(THERE))
    journals.note("a", answered(HERE, THERE))
    journals.note("a", answered(ELSEWHERE, HERE, THERE))
    assert [noted.click for noted in journals.read("a")] == [THERE, HERE, ELSEWHERE]


def test_a_click_that_is_gone_was_taken_back(journals):
    journals.note("a", answered(HERE, THERE))
    journals.note("a", answered(THERE))
    journals.note("a", answered(THERE, HERE))
    first, second, again = journals.read("a")
    assert (first.click, second.click, again.click) == (HERE, THERE, HERE)
    assert first.taken_back is not None
    assert second.taken_back is again.taken_back is None
    assert clicks_made(journals.read("a")) == 2


def test_the_same_request_again_writes_nothing(journals, tmp_path):
    journals.note("a", answered(HERE, THERE))
    path = tmp_path / JOURNAL_FOLDER / "a.jsonl"
    before = path.read_bytes()
    journals.note("a", answered(THERE, HERE, changed=9))
    assert path.read_bytes() == before


def test_without_clicks_nothing_is_made(journals, tmp_path):
    journals.note("a", answered())
    assert not list(tmp_path.iterdir())
    assert journals.read("a") == ()


def test_an_uploaded_mask_may_hold_all_clicks_before(journals):
    journals.note("a", answered(HERE))
    journals.note("a", answered(THERE, ELSEWHERE, model="edit", start="upload", scribbled=1))
    noted = journals.read("a")
    assert [one.taken_back for one in noted] == [None, None, None]
    assert [one.is_scribble for one in noted] == [False, True, False]
    journals.note("a", answered(HERE))  # begins from the initial outline: the edits are not in it
    assert [one.taken_back is None for one in journals.read("a")] == [True, False, False]


def test_studies_and_rounds_are_apart(journals):
    journals.note("a", answered(HERE))
    journals.note("b", answered(THERE))
    journals.end("a")
    journals.end("nobody")
    assert journals.read("a") == ()
    assert [noted.click for noted in journals.read("b")] == [THERE]


@pytest.mark.parametrize(
    "damage",
    [b"\n{", b"\nnull", b"\n[1]", b'\n{"gone": [[[]]]}', b"\n\xff\xff", b"\n" + b"[" * 9999],
)
def test_a_line_that_was_cut_off_costs_no_other(journals, tmp_path, damage):
    journals.note("a", answered(HERE))
    with (tmp_path / JOURNAL_FOLDER / "a.jsonl").open("ab") as file:
        file.write(damage)
    journals.note("a", answered(HERE, THERE))
    assert [noted.click for noted in journals.read("a")] == [HERE, THERE]


voxels = st.tuples(st.integers(0, 2), st.integers(0, 1), st.just(0), st.booleans())
clicked = st.lists(voxels, max_size=4, unique_by=lambda voxel: voxel[:3])
requests = st.tuples(clicked, st.booleans(), st.booleans())


@settings(max_examples=50, deadline=None)
@given(sent=st.lists(requests, max_size=6))
def test_what_counts_is_what_the_last_answer_obeys(tmp_path_factory, sent):
    folder = tmp_path_factory.mktemp("studies")
    wanted, journals = [], Journals(folder)
    for places, is_upload, is_restarted in sent:
        journals = Journals(folder) if is_restarted else journals
        clicks = [Click.at(place[:3], place[3], GRID) for place in places]
        journals.note("a", answered(*clicks, start="upload" if is_upload else "label"))
        wanted = [click for click in wanted if is_upload or click in clicks]
        wanted += [click for click in clicks if click not in wanted]
    noted = journals.read("a")
    assert noted == Journals(folder).read("a")
    counting = [one.click for one in noted if one.taken_back is None]
    np.testing.assert_allclose(
        np.array([click.point_ras for click in counting]).reshape(-1, 3),
        np.array([click.point_ras for click in wanted]).reshape(-1, 3),
        atol=1e-4,
    )
    assert [click.is_foreground for click in counting] == [click.is_foreground for click in wanted]
    assert clicks_made(noted) == len(wanted)
    (folder / "a.clicks.json").write_text(as_text("a", noted))
    assert read_record(folder / "a.clicks.json") == noted


def test_a_click_keeps_its_kind_and_each_kind_its_click(journals):
    other = Click(HERE.point_ras, is_foreground=False)
    journals.note("a", answered(HERE))
    journals.note("a", answered(other))
    kinds = Counter(one.click.is_foreground for one in journals.read("a") if not one.taken_back)
    assert kinds == {False: 1}


def test_a_record_is_in_mm_and_has_a_line_a_click(journals, monkeypatch):
    times = iter(["2026-03-01T08:00:00.000+00:00", "2026-03-01T08:00:05.000+00:00"])

    class Clock:
        def isoformat(self, **_):
            return next(times)

    monkeypatch.setattr(record, "utc_now", Clock)
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
