"""The clicks of readers that a training begins with: of all accepted labels of a study."""

import pytest

from clickseg.clicks import Click
from clickseg.learning.recorded import recorded_clicks
from clickseg.record import NotedClick, as_text
from clickseg.study import Case

HERE = Click((3.0, -4.0, 20.0), True)
THERE = Click((5.5, -4.0, 18.5), False)
ELSEWHERE = Click((1.0, 2.0, 3.0), True)
HISTORY = "labels/history/a"


def noted(click, **more):
    return NotedClick(click, "t", "click", "initial", 5, {}, **more)


@pytest.fixture
def case(tmp_path):
    return Case("a", tmp_path / "a.nii.gz", None, tmp_path / "labels/final/a.nii.gz")


def write(case, name, *clicks):
    path = case.t1ce.parent / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_text("a", clicks))


def test_a_label_that_is_saved_again_costs_no_click(case):
    write(case, f"{HISTORY}/1.clicks.json", noted(HERE), noted(ELSEWHERE, is_scribble=True))
    write(case, f"{HISTORY}/2.clicks.json", noted(HERE, is_repeated=True), noted(THERE))
    write(case, f"{HISTORY}/.part-3.clicks.json", noted(ELSEWHERE))
    write(case, "labels/final/a.clicks.json")
    assert recorded_clicks([case]) == {"a": (HERE, THERE)}


def test_of_a_place_the_newest_record_decides(case):
    write(case, f"{HISTORY}/1.clicks.json", noted(HERE), noted(THERE), noted(ELSEWHERE))
    again = noted(THERE, taken_back="t"), noted(THERE)
    other = Click(ELSEWHERE.point_ras, False)
    write(case, "labels/final/a.clicks.json", noted(HERE, taken_back="t"), *again, noted(other))
    assert recorded_clicks([case]) == {"a": (THERE, other)}


def test_a_record_that_cannot_be_read_costs_no_other(case, caplog):
    write(case, f"{HISTORY}/1.clicks.json", noted(HERE))
    write(case, "labels/final/a.clicks.json", noted(THERE))
    (case.label.parent / "a.clicks.json").write_text("{")
    assert recorded_clicks([case]) == {"a": (HERE,)}
    assert "clicks of a are left out" in caplog.text


def test_labels_elsewhere_have_no_history(case, tmp_path):
    write(case, f"{HISTORY}/1.clicks.json", noted(HERE))
    write(case, "masks/a.clicks.json", noted(THERE))
    elsewhere = Case("a", case.t1ce, None, tmp_path / "masks/a.nii.gz")
    assert recorded_clicks([elsewhere, Case("b", case.t1ce, None, None)]) == {"a": (THERE,)}
