import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickseg.config import SplitConfig
from clickseg.training.split import (
    Split,
    folds_of,
    patient_of,
    read_split,
    split_cases,
    write_split,
)

CONFIG = SplitConfig(patient=r"^(?:sub-)?([A-Za-z]+-?[0-9]+)", validation=0.25)
names = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["", "v1", "_ses-2"])), min_size=1, unique=True
)


@pytest.mark.parametrize("name", ["VS-012", "VS-012v1", "sub-VS-012_ses-2"])
def test_studies_of_one_patient_are_told_by_their_names(name):
    assert patient_of(name, CONFIG.patient) == "VS-012"


def test_a_name_that_does_not_match_is_a_patient_of_its_own():
    assert patient_of("007", CONFIG.patient) == "007"


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
