"""Who is held out of all training, and whether a new model may be published."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickseg.learning.gate import MISSED, judge
from clickseg.learning.holdout import HoldOutError, grow_holdout, read_holdout, wanted_number
from clickseg.training.split import quick

PATTERN = "^([A-Z]+-[0-9]+)"
SHARE = 0.25


def test_the_holdout_grows_by_patients(tmp_path):
    path = tmp_path / "holdout.json"
    first = grow_holdout(path, ["A-1"], PATTERN, SHARE)
    assert (first.training, first.validation) == (("A-1",), ())  # one alone trains
    ids = ["A-1", "A-2", "A-2v2", "A-3", "A-4"]
    split = grow_holdout(path, ids, PATTERN, SHARE)
    held = {name.removesuffix("v2") for name in split.validation}
    assert len(held) == 1
    assert "A-1" in split.training
    assert sorted([*split.training, *split.validation]) == ids
    assert grow_holdout(path, ids, PATTERN, SHARE) == split
    assert list(read_holdout(path).values()).count("holdout") == 1


def test_three_are_held_out_as_soon_as_they_are_a_third():
    numbers = [wanted_number(n, 0.2) for n in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 18, 20, 100)]
    assert numbers == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 20]
    assert [wanted_number(n, 0.9) for n in (1, 2, 3, 10)] == [0, 1, 2, 9]


def test_all_studies_of_a_patient_of_a_pacs_are_on_one_side(tmp_path):
    ids = [f"1.2.826.0.{number}" for number in range(12)]
    told = {name: f"patient {number // 2}" for number, name in enumerate(ids)}
    private = tmp_path / ".clickseg"
    private.mkdir()
    (private / "patients.json").write_text(json.dumps(told))
    split = grow_holdout(private / "holdout.json", ids, PATTERN, 0.34)
    assert len(split.validation) == 4  # a third of six patients, two studies each
    assert {told[name] for name in split.training}.isdisjoint(map(told.get, split.validation))


@given(st.lists(st.sets(st.integers(0, 30), min_size=1, max_size=9), min_size=1, max_size=6))
def test_no_patient_ever_changes_sides(tmp_path_factory, additions):
    path = tmp_path_factory.mktemp("h") / "holdout.json"
    known: set[int] = set()
    before: dict[str, str] = {}
    for addition in additions:
        known |= addition
        ids = [f"A-{n}{visit}" for n in known for visit in ("", "v1")]
        split = grow_holdout(path, ids, PATTERN, SHARE)
        sides = read_holdout(path)
        assert before.items() <= sides.items()
        assert set(split.training) | set(split.validation) == set(ids)
        for side, names in (("training", split.training), ("holdout", split.validation)):
            assert all(sides[name.removesuffix("v1")] == side for name in names)
        held = sum(side == "holdout" for side in sides.values())
        assert held == wanted_number(len(known), SHARE)
        before = sides


@pytest.mark.parametrize("text", ["{", "{}", '{"patients": {"A-1": "both"}}', '{"patients": 3}'])
def test_a_damaged_holdout_is_told_and_left(tmp_path, text):
    path = tmp_path / "holdout.json"
    path.write_text(text)
    with pytest.raises(HoldOutError, match=r"holdout\.json"):
        grow_holdout(path, ["A-1"], PATTERN, SHARE)
    assert path.read_text() == text


def test_where_nothing_is_found_nothing_can_be_told():
    verdict = judge({"a": 0.0, "b": 0.0}, {"a": 0.0, "b": 0.0})
    assert not verdict.is_better
    assert verdict.reason.startswith("cannot be told from the old one on 2 held-out studies")
    assert judge({"a": 0.0, "b": 0.0}, {"a": 0.0, "b": 0.1}).is_better
    # An outline beside the tumor that touches it is a miss like any other.
    assert not judge({"a": 0.0, "b": 0.0}, {"a": 0.049, "b": 0.0}).is_better
    assert judge({"a": 0.049, "b": 0.4}, {"a": 0.0, "b": 0.4}).is_better
    assert not judge({"a": 0.05, "b": 0.4}, {"a": 0.0, "b": 0.4}).is_better
    assert not judge({"a": 0.1}, {"a": 0.0}).is_better
    assert judge({"a": 0.5}, {"a": 0.5}).is_better


def test_no_more_outlines_where_there_is_no_tumor():
    before, free = {"a": 0.8, "b": 1.0, "c": 0.0}, {"b", "c"}
    better = judge(before, {"a": 0.9, "b": 0.0, "c": 1.0}, free)
    assert better.is_better
    assert (better.cases, better.false_outlines) == (1, (1, 1))
    assert better.reason.endswith(", outlines in 2 without a tumor 1 -> 1")
    worse = judge(before, {"a": 0.9, "b": 0.0, "c": 0.0}, free)
    assert not worse.is_better
    assert worse.reason == (
        "worse on 1 held-out studies: mean Dice 0.8000 -> 0.9000, worst-decile Dice 0.8000 -> "
        "0.9000, outlines in 2 without a tumor 1 -> 2"
    )
    with pytest.raises(ValueError, match="case with a tumor was wanted"):
        judge({"b": 1.0}, {"b": 1.0}, free)


def test_the_gate_by_hand():
    before = {"a": 0.9, "b": 0.8, "c": 0.4}
    better = judge(before, {"a": 0.9, "b": 0.85, "c": 0.4})
    assert better.is_better
    assert better.before == (pytest.approx(0.7), pytest.approx(0.4))
    assert better.after == (pytest.approx(2.15 / 3), pytest.approx(0.4))
    assert better.p is None
    # The mean rises, but the worst study falls.
    worse = judge(before, {"a": 1.0, "b": 0.9, "c": 0.39})
    assert not worse.is_better
    assert worse.reason == "worse on 3 held-out studies: mean Dice 0.7000 -> 0.7633, " \
        "worst-decile Dice 0.4000 -> 0.3900"  # fmt: skip
    assert not judge(before, {"a": 0.8, "b": 0.8, "c": 0.45}).is_better
    assert judge(before, dict(reversed(before.items()))).is_better


@pytest.mark.parametrize(
    ("worst", "gain", "is_better"),
    [
        (0.395, 0.1, True),  # falls by 0.005, which is no harm
        (0.3949, 0.1, False),
        (0.399, 0.01, True),  # the mean rises by 0.0063
        (0.399, 0.008, False),  # by 0.005: no more than the worst may fall
    ],
)
def test_a_worst_study_may_fall_a_little_where_the_mean_rises(worst, gain, is_better):
    before = {"a": 0.8, "b": 0.8, "c": 0.4}
    after = {"a": 0.8 + gain, "b": 0.8 + gain, "c": worst}
    assert judge(before, after).is_better == is_better


def test_a_worst_decile_of_several_studies_may_not_fall():
    before = {str(n): 0.4 if n < 2 else 0.8 for n in range(11)}  # the lowest two are its decile
    after = {name: 0.398 if score == 0.4 else 0.9 for name, score in before.items()}
    assert not judge(before, after).is_better
    del before["0"], after["0"]
    assert judge(before, after).is_better


def test_the_gate_tests_pairs_where_there_are_enough():
    before = {str(n): 0.5 for n in range(7)}
    after = {str(n): 0.5 + 0.01 * n for n in range(7)}
    assert judge(before, after).p == pytest.approx(2 / 2**6)  # six gains of one sign


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=25))
def test_of_two_models_one_is_not_worse_unless_mean_and_worst_disagree(pairs):
    before = {str(n): a for n, (a, _) in enumerate(pairs)}
    after = {str(n): b for n, (_, b) in enumerate(pairs)}
    there, back = judge(before, after), judge(after, before)
    assert there.before == back.after
    mean, worst = np.subtract(there.after, there.before)
    is_blind = not np.any(np.array(pairs) >= MISSED)
    assert there.is_better or back.is_better or mean * worst < 0 or is_blind
    assert not (is_blind and (there.is_better or back.is_better))


def test_scores_of_other_cases_are_refused():
    for other in ({}, {"b": 1.0}):
        with pytest.raises(ValueError, match="same cases"):
            judge({"a": 0.5}, other)
    with pytest.raises(ValueError, match="case with a tumor was wanted"):
        judge({}, {})


def test_a_holdout_of_an_earlier_recipe_goes_on(tmp_path):
    slow, path = r"^(?:sub-)?((?:[A-Za-z]+[-_]?)*[0-9]+)", tmp_path / "holdout.json"
    ids = [f"A-{n}" for n in range(5)]
    split = grow_holdout(path, ids, slow, SHARE)
    assert grow_holdout(path, ids, quick(slow), SHARE) == split
    with pytest.raises(HoldOutError, match="tells patients apart by"):
        grow_holdout(path, ids, PATTERN, SHARE)
