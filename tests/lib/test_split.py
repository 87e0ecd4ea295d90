from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickseg.config import load_config
from clickseg.training.split import (
    Split,
    folds_of,
    patient_of,
    read_split,
    split_cases,
    write_split,
)

DEFAULT = Path(__file__).parents[2] / "configs" / "default.yaml"
CONFIG = replace(load_config(DEFAULT).split, validation=0.25)
names = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["", "v1", "_ses-2"])), min_size=1, unique=True
)


@pytest.mark.parametrize(
    ("patient", "names"),
    [
        ("VS-012", ["VS-012", "VS-012v1", "sub-VS-012_ses-2"]),
        ("VS-SEG-001", ["VS-SEG-001", "VS-SEG-001_v1", "sub-VS-SEG-001_ses-2"]),
        ("vs_gk_12", ["vs_gk_12_2019", "vs_gk_12"]),
        ("12345", ["12345", "12345_2019"]),
    ],
)
def test_studies_of_one_patient_are_told_by_their_names(patient, names):
    assert {patient_of(name, CONFIG.patient) for name in names} == {patient}


def test_a_name_that_does_not_match_is_a_patient_of_its_own_and_said_to_be(caplog):
    assert patient_of("miller", CONFIG.patient) == "miller"
    assert "'miller' does not match" in caplog.text


@given(names, st.integers(0, 9))
def test_no_patient_is_on_both_sides(parts, seed):
    cases = [f"VS-{number:03d}{suffix}" for number, suffix in parts]
    split = split_cases(cases, CONFIG, seed)
    sides = [
        {patient_of(n, CONFIG.patient) for n in side} for side in (split.training, split.validation)
    ]
    assert sorted([*split.training, *split.validation]) == sorted(cases)
    assert not sides[0] & sides[1]
    assert len(sides[1]) == min(
        round(0.25 * len(sides[0] | sides[1])), len(sides[0] | sides[1]) - 1
    )


@given(names, st.integers(2, 4))
def test_every_case_is_held_out_in_exactly_one_fold(parts, count):
    cases = [f"VS-{number:03d}{suffix}" for number, suffix in parts]
    folds = folds_of(cases, count, CONFIG, seed=1)
    assert sorted(name for fold in folds for name in fold.validation) == sorted(cases)
    for fold in folds:
        held = {patient_of(name, CONFIG.patient) for name in fold.validation}
        assert not held & {patient_of(name, CONFIG.patient) for name in fold.training}


def test_the_split_depends_on_the_seed_and_not_on_the_order():
    cases = [f"VS-{n:03d}" for n in range(40)]
    assert split_cases(cases, CONFIG, 1) == split_cases(cases[::-1], CONFIG, 1)
    assert split_cases(cases, CONFIG, 1) != split_cases(cases, CONFIG, 2)


def test_a_split_survives_its_file(tmp_path):
    split = Split(("a", "b"), ("c",))
    write_split(split, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json") == split
    assert [path.name for path in tmp_path.iterdir()] == ["split.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"training": ["a"]}', "must hold the lists"),
        ('{"training": ["a"], "validation": ["a"]}', "on both sides: a"),
    ],
)
def test_a_bad_split_file_is_refused(tmp_path, text, message):
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_split(tmp_path / "split.json")
