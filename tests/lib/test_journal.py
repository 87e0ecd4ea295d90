import json
from collections import Counter

import numpy as np
import pytest
from disk import full_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from noted import ELSEWHERE, GRID, HERE, MODELS, THERE, answered

from clickseg.clicks import Click
from clickseg.journal import JOURNAL_FOLDER, Journals
from clickseg.record import as_text, clicks_made, read_record


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


@settings(max_examples=50)
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


def line(**other):
    values = {"time": "t", "model": "click", "start": "initial", "models": {}, "gone": []}
    return values | {"changed_voxels": 1, "new": [[1.0, 2.0, 3.0, True, False]]} | other


@pytest.mark.parametrize(
    "other",
    [
        {"new": [["x", 2.0, 3.0, True, False]]},
        {"new": [[float("nan"), 2.0, 3.0, True, False]]},
        {"new": [[10**400, 2.0, 3.0, True, False]]},
        {"new": [[1.0, 2.0, 3.0, "yes", False]]},
        {"new": [[1.0, 2.0, 3.0, True, None]]},
        {"time": 7},
        {"model": None},
        {"models": [1]},
        {"changed_voxels": "many"},
        {"client_id": 3},
        {"gone": [[3.0, -4.0, 20.0, True], [[], 1, 2, True]]},
    ],
)
def test_a_line_with_values_of_other_types_is_left_out_whole(journals, tmp_path, other):
    journals.note("a", answered(HERE))
    with (tmp_path / JOURNAL_FOLDER / "a.jsonl").open("a") as file:
        file.write(json.dumps(line(**other)))
    journals.note("a", answered(HERE, THERE))
    noted = journals.read("a")
    assert [(one.click, one.taken_back) for one in noted] == [(HERE, None), (THERE, None)]
    (tmp_path / "a.clicks.json").write_text(as_text("a", noted))
    assert read_record(tmp_path / "a.clicks.json") == noted


def test_a_journal_that_cannot_be_read_is_moved_aside(journals, tmp_path, caplog):
    (tmp_path / JOURNAL_FOLDER / "a.jsonl").mkdir(parents=True)
    assert journals.read("a") == ()
    assert "cannot be read" in caplog.text
    journals.note("a", answered(HERE))
    assert [one.click for one in journals.read("a")] == [HERE]
    (aside,) = (tmp_path / JOURNAL_FOLDER).glob("a.jsonl.damaged-*")
    assert aside.is_dir()


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_full_disk_takes_no_half_click(journals, tmp_path, room):
    journals.note("a", answered(HERE))
    path = tmp_path / JOURNAL_FOLDER / "a.jsonl"
    before = path.read_bytes()
    with full_disk(len(before) + room), pytest.raises(OSError, match=r"Errno (27|28)"):
        journals.note("a", answered(HERE, THERE))
    assert path.read_bytes() == before
    journals.note("a", answered(HERE, THERE))
    for same in (journals, Journals(tmp_path)):
        assert [noted.click for noted in same.read("a")] == [HERE, THERE]


def test_a_journal_that_cannot_be_removed_is_told(journals, tmp_path, caplog):
    (tmp_path / JOURNAL_FOLDER / "a.jsonl").mkdir(parents=True)
    journals.end("a")
    assert "cannot be removed" in caplog.text


def test_a_reader_takes_back_no_click_of_another(journals):
    journals.note("a", answered(HERE, THERE, client="one"))
    journals.note("a", answered(ELSEWHERE, HERE, client="two"))
    journals.note("a", answered(ELSEWHERE))
    journals.note("a", answered(THERE, client="one"))
    noted = journals.read("a")
    assert [(one.client_id, one.click) for one in noted if one.taken_back is None] == [
        ("one", THERE),
        ("two", ELSEWHERE),
        ("two", HERE),
        (None, ELSEWHERE),
    ]


def test_lines_of_before_clients_were_noted_are_of_nobody(journals, tmp_path):
    (tmp_path / JOURNAL_FOLDER).mkdir(parents=True)
    (tmp_path / JOURNAL_FOLDER / "a.jsonl").write_text(json.dumps(line()))
    journals.note("a", answered(HERE))
    first, second = journals.read("a")
    assert first.client_id is None
    assert first.taken_back is not None
    assert second.click == HERE
