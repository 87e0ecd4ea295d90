import json
import os
import time

import pytest

from clickseg.cache import SETTLED_NS, Fingerprints
from clickseg.choosing import cached
from clickseg.choosing.cached import (
    RULES,
    Entry,
    HeldScores,
    content_of,
    drop_others,
    hashes_of,
    read_entry,
    write_entry,
)
from clickseg.choosing.scores import StudyScores
from clickseg.modelfile import ModelError
from clickseg.models import WEIGHTS, load_models
from clickseg.study import Case

MODELS = {"initial": "aa", "correction": "bb"}
SCORES = StudyScores(0.25, 0.5, (0.6, 0.8))


def entry(scores=SCORES, models=MODELS, rules=RULES, content="c0"):
    return Entry(rules, content, models, scores)


def test_what_was_written_is_read(tmp_path):
    write_entry(tmp_path / "scores", "a", entry())
    found = read_entry(tmp_path / "scores", "a")
    assert found == entry()
    assert found.is_by(dict(MODELS))
    assert [path.name for path in (tmp_path / "scores").iterdir()] == ["a.json"]


def test_scores_without_a_feature_are_scores(tmp_path):
    write_entry(tmp_path, "a", entry(StudyScores(1.0, 1.0, None)))
    assert HeldScores(tmp_path).by(MODELS) == {"a": StudyScores(1.0, 1.0, None)}


@pytest.mark.parametrize("stale", [{"models": MODELS | {"correction": "cc"}}, {"rules": RULES + 1}])
def test_scores_of_other_models_or_rules_do_not_count(tmp_path, stale):
    write_entry(tmp_path, "a", entry())
    write_entry(tmp_path, "b", entry(**stale))
    assert HeldScores(tmp_path).by(MODELS) == {"a": SCORES}
    assert not read_entry(tmp_path, "b").is_by(MODELS)


def test_studies_that_are_gone_are_forgotten(tmp_path):
    drop_others(tmp_path / "none", ())
    for name in "ab":
        write_entry(tmp_path, name, entry())
    (tmp_path / "notes.json").write_text("{}")
    drop_others(tmp_path, {"a"})
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "notes.json"}


def test_until_a_new_model_has_scored_as_many_the_one_before_counts(tmp_path):
    held, new = HeldScores(tmp_path), StudyScores(0.75, 0.5, None)
    assert held.to_choose_by(MODELS) == {}
    for name in "abc":
        write_entry(tmp_path, name, entry())
    write_entry(tmp_path, "d", entry(new, models={"initial": "x", "correction": "y"}))
    write_entry(tmp_path, "e", entry(rules=RULES - 1))
    after = MODELS | {"correction": "cc"}
    assert held.by(after) == {}
    assert held.to_choose_by(after) == dict.fromkeys("abc", SCORES)
    write_entry(tmp_path, "a", entry(new, models=after))
    assert held.to_choose_by(after) == dict.fromkeys("bc", SCORES)  # never of both
    write_entry(tmp_path, "b", entry(new, models=after))
    assert held.to_choose_by(after) == dict.fromkeys("ab", new)
    write_entry(tmp_path, "b", entry(models=MODELS))
    write_entry(tmp_path, "d", entry(new, models=after))
    assert held.to_choose_by(after) == dict.fromkeys("ad", new)  # as many are enough


GOOD = json.dumps(
    {
        "rules": RULES,
        "content": "c0",
        "models": MODELS,
        "scores": {"uncertainty": 0.25, "disagreement": 0.5, "feature": [0.6, 0.8]},
    }
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        GOOD[:-9],
        GOOD.replace("0.25", "NaN"),
        GOOD.replace("0.25", '"much"'),
        GOOD.replace("0.6", "Infinity"),
        GOOD.replace('"content"', '"contents"'),
        GOOD + "}",
    ],
)
def test_a_damaged_file_counts_as_missing(tmp_path, text):
    (tmp_path / "good.json").write_text(GOOD)
    (tmp_path / "bad.json").write_text(text)
    assert read_entry(tmp_path, "bad") is None
    assert HeldScores(tmp_path).by(MODELS) == {"good": SCORES}


def test_a_file_that_is_no_text_counts_as_missing(tmp_path):
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder.json").mkdir()
    assert HeldScores(tmp_path).by(MODELS) == {}


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    write_entry(tmp_path, "a", entry())

    def broken(_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="no space"):
        write_entry(tmp_path, "a", entry(StudyScores(1.0, 1.0, None)))
    assert read_entry(tmp_path, "a") == entry()
    assert len(list(tmp_path.iterdir())) == 1


def test_held_scores_follow_the_folder(tmp_path):
    held = HeldScores(tmp_path / "scores")
    assert held.by(MODELS) == {}  # no folder yet
    write_entry(held.folder, "a", entry())
    assert held.by(MODELS) == {"a": SCORES}
    other = StudyScores(0.75, 0.5, None)
    write_entry(held.folder, "a", entry(other))
    write_entry(held.folder, "b", entry())
    assert held.by(MODELS) == {"a": other, "b": SCORES}
    (held.folder / "b.json").unlink()
    assert held.by(MODELS) == {"a": other}
    (held.folder / ".part-a.json-x").touch()
    (held.folder / "notes.txt").touch()
    assert held.by(MODELS) == {"a": other}


def test_a_folder_that_did_not_change_is_not_read_again(tmp_path, monkeypatch):
    write_entry(tmp_path, "a", entry())
    long_ago = time.time_ns() - 2 * SETTLED_NS
    os.utime(tmp_path, ns=(long_ago, long_ago))
    reads = []
    read = cached._read
    monkeypatch.setattr(cached, "_read", lambda path: reads.append(path.name) or read(path))
    held = HeldScores(tmp_path)
    assert [held.by(MODELS) for _ in range(3)] == [{"a": SCORES}] * 3
    assert reads == ["a.json"]
    write_entry(tmp_path, "b", entry())
    held.by(MODELS)
    assert reads == ["a.json", "b.json"]


def test_the_content_of_a_study_is_that_of_both_files(tmp_path):
    t1ce, t2, copy = tmp_path / "a.nii.gz", tmp_path / "t2.nii", tmp_path / "b.nii.gz"
    t1ce.write_bytes(b"one")
    copy.write_bytes(b"one")
    t2.write_bytes(b"two")
    name = Fingerprints()
    alone = content_of(Case("a", t1ce, None, None), name)
    both = content_of(Case("a", t1ce, t2, None), name)
    assert len({alone, both}) == 2
    assert content_of(Case("b", copy, t2, t1ce), name) == both
    t2.write_bytes(b"too")
    assert content_of(Case("a", t1ce, t2, None), name) != both


def test_hashes_are_those_of_the_loaded_models(tmp_path):
    assert hashes_of(WEIGHTS, WEIGHTS) == load_models().hashes
    with pytest.raises(ModelError, match="no model 'correction'"):
        hashes_of(WEIGHTS, tmp_path)
