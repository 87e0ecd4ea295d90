"""The gate's numbers: each study is read once, and what is known is not computed again."""

import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from tiny import short, write_case

from clickseg.clicking import clicking
from clickseg.learning import measure as measuring
from clickseg.learning.measure import Measure, measure
from clickseg.learning.store import ModelStore
from clickseg.learning.update import update_model
from clickseg.metrics import dice
from clickseg.models import load_models
from clickseg.study import find_cases, labeled_cases, read_case_label, read_study


class Counted:
    """A model that counts how often it is asked."""

    def __init__(self, model):
        self.model, self.asked = model, 0

    def __call__(self, *given):
        self.asked += 1
        return self.model(*given)


@pytest.fixture
def models(base):
    found = load_models(base)
    return replace(found, initial=Counted(found.initial), correction=Counted(found.correction))


def by_hand(models, case, clicks):
    """The score of a case, as the gate computed it when it kept nothing."""
    study = read_study(case.t1ce, case.t2)
    label, start = read_case_label(case, study.grid), models.initial.model(study).mask
    answers = clicking(
        label, start, study.grid.canonical,
        lambda made: models.correction.model(study, start, made).mask,
    )  # fmt: skip
    curve = [dice(mask, label) for _, mask in itertools.islice(answers, clicks)]
    curve = curve or [dice(start, label)]
    return float(np.mean(curve + curve[-1:] * (clicks - len(curve)))) if clicks else curve[0]


def test_scores_are_kept_by_weights_and_by_files(small_studies, models, tmp_path, monkeypatch):
    shutil.copytree(small_studies, tmp_path / "studies")
    cases, kept = labeled_cases(tmp_path / "studies"), tmp_path / "kept" / "scores.json"
    reads = Counted(read_study)
    monkeypatch.setattr(measuring, "read_study", reads)
    wanted = [Measure(models), Measure(models, 2)]
    first = measure(wanted, cases, kept)
    assert reads.asked == models.initial.asked == 4  # once for both
    for scores, clicks in zip(first, (0, 2), strict=True):
        for case in cases:
            known = dice_of_start(models, case) if clicks == 0 else by_hand(models, case, clicks)
            assert scores[case.case_id] == known
    assert measure(wanted, cases, kept) == first  # bit for bit, from the file
    assert reads.asked == 4
    # Other weights: the known ones are not asked again.
    other = replace(models, initial=Counted(models.initial.model))
    other = replace(other, hashes=models.hashes | {"initial": "ab" * 6})
    both = measure([Measure(models), Measure(other)], cases, kept)
    assert both[0] == both[1] == first[0]
    assert (models.initial.asked, other.initial.asked) == (4, 4)
    # Another label of one study: it alone is measured anew.
    write_case(tmp_path / "studies", "VS-2", (30, 26, 9), 5.5, t2=False)
    again = measure([Measure(other)], labeled_cases(tmp_path / "studies"), kept)[0]
    assert other.initial.asked == 5
    assert {name: again[name] for name in again if name != "VS-2"} == {
        name: both[1][name] for name in again if name != "VS-2"
    }


def dice_of_start(models, case):
    study = read_study(case.t1ce, case.t2)
    return dice(models.initial.model(study).mask, read_case_label(case, study.grid))


@pytest.mark.parametrize("text", ["{", "[]", '{"a": '])
def test_a_damaged_file_counts_as_none(small_studies, models, tmp_path, text):
    cases = labeled_cases(small_studies)[:1]
    (tmp_path / "kept.json").write_text(text)
    (scores,) = measure([Measure(models)], cases, tmp_path / "kept.json")
    assert scores == {"VS-1": dice_of_start(models, cases[0])}
    assert list(json.loads((tmp_path / "kept.json").read_text()).values()) == [*scores.values()]


def test_a_case_that_cannot_be_read_is_left_out(small_studies, models, tmp_path, caplog):
    shutil.copytree(small_studies, tmp_path / "studies")
    (tmp_path / "studies/VS-3.nii.gz").write_bytes(b"nothing")
    (tmp_path / "studies/labels/final/VS-4.nii.gz").unlink()  # no label any more
    (scores,) = measure([Measure(models)], find_cases(tmp_path / "studies"), tmp_path / "kept.json")
    assert [*scores] == ["VS-1", "VS-2"]
    assert sum("is left out" in record.message for record in caplog.records) == 2


def test_the_gate_reads_old_scores_and_is_not_asked_about_known_weights(
    small_studies, base, tmp_path, monkeypatch
):
    shutil.copytree(small_studies, tmp_path / "studies")
    store = ModelStore(tmp_path / "store", base)
    first = update_model("initial", tmp_path / "studies", store, short())
    kept = json.loads((tmp_path / "store/rounds/initial/scores.json").read_text())
    (held,) = (one for one in [first.holdout])
    assert len(kept) == 2 * held
    assert {*first.verdict.before, *first.verdict.after} <= {*kept.values()}  # one study is held
    if not first.is_published:
        store.publish("initial", next((tmp_path / "store/rounds/initial").glob("*/")))

    def never(*_):
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr(measuring, "read_study", never)
        second = update_model("initial", tmp_path / "studies", store, short())
    assert second.verdict is None
    assert not second.is_published
    assert second.reason == f"nothing new was accepted: {second.version} has the same weights"
    assert (
        json.loads((tmp_path / "store/rounds/initial/outcome.json").read_text())["verdict"] is None
    )
