import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickseg.config import ConfigError, load_config
from clickseg.study import Case
from clickseg.training.split import (
    PATIENTS,
    Split,
    folds_of,
    given_split,
    of_sides,
    only,
    patient_of,
    quick,
    read_split,
    split_cases,
    told_of,
    told_patients,
    write_split,
)
from clickseg.training.start import adopt_split, begin

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
        ('{"training": ["a"], "validation": [], "test": ["a"]}', "on both sides: a"),
        ('{"training": ["a"], "validation": [], "tests": []}', "must hold the lists"),
        ('{"training": null, "validation": []}', "a list of ids as training, got None"),
        ('{"training": [["a"]], "validation": []}', "a list of ids as training"),
        ('{"training": ["a"], "validation": "VS-001"}', "a list of ids as validation"),
        ('{"training": ["a"], "validation": [], "test": [1]}', "a list of ids as test"),
    ],
)
def test_a_bad_split_file_is_refused(tmp_path, text, message):
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_split(tmp_path / "split.json")


def cases_of(*names):
    return [Case(name, Path(f"{name}.nii"), None, None) for name in names]


GIVEN = Split(("VS-1", "VS-2"), ("VS-3",), ("VS-4",))


def test_a_split_may_have_a_test_side(tmp_path):
    write_split(GIVEN, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json") == GIVEN
    assert GIVEN.sides()["VS-4"] == "test"


def test_the_split_beside_the_studies_is_taken_unless_another_is_named(tmp_path):
    assert given_split(tmp_path, None) is None
    write_split(GIVEN, tmp_path / "split.json")
    assert given_split(tmp_path, None) == GIVEN
    other = Split(("VS-9",), ())
    write_split(other, tmp_path / "other.json")
    assert given_split(tmp_path, tmp_path / "other.json") == other
    with pytest.raises(ConfigError, match=r"none.json is no split that can be used"):
        given_split(tmp_path, tmp_path / "none.json")


def test_cases_are_chosen_by_the_sides_of_a_split(caplog):
    cases = cases_of("VS-2", "VS-3", "VS-4", "VS-7")
    assert [case.case_id for case in of_sides(cases, GIVEN, ("test",))] == ["VS-4"]
    assert "1 studies are on no side of the split: VS-7" in caplog.text
    chosen = of_sides(cases, GIVEN, ("training", "validation"))
    assert only(GIVEN, chosen) == Split(("VS-2",), ("VS-3",))
    with pytest.raises(ConfigError, match="studies for test were wanted, the split has none"):
        of_sides(cases[:2], GIVEN, ("test",))


def test_a_run_divides_its_cases_as_the_given_split_does(tmp_path):
    config = load_config(DEFAULT)
    cases = cases_of("VS-1", "VS-2", "VS-3")
    adopt_split(cases, GIVEN, config, tmp_path)
    adopt_split(cases, GIVEN, config, tmp_path)  # as a run that goes on
    assert begin(cases, config, tmp_path) == Split(("VS-1", "VS-2"), ("VS-3",))
    with pytest.raises(ConfigError, match="another split than the one given"):
        adopt_split(cases, Split(("VS-1",), ("VS-2", "VS-3")), config, tmp_path)


def test_a_given_split_with_a_patient_on_two_sides_is_refused(tmp_path):
    split = Split(("VS-1", "VS-2"), (), ("VS-1v2",))
    with pytest.raises(ConfigError, match="puts the patient of VS-1v2 on several sides"):
        adopt_split(cases_of("VS-1"), split, load_config(DEFAULT), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_numbers_of_a_uid_are_no_patient_but_what_is_told_of_it_is():
    pattern = "^([0-9]+)"
    assert patient_of("1.2.826.0.7", pattern) == "1.2.826.0.7"
    assert patient_of("1.2.826.0.7", pattern, {"1.2.826.0.7": "A"}) == "A"
    assert patient_of("1.2", pattern) == "1"


def test_patients_that_are_told_count_in_splits_and_folds(tmp_path):
    told = {f"1.2.826.0.{n}": "AB"[n % 2] for n in range(6)}
    (tmp_path / PATIENTS).parent.mkdir()
    (tmp_path / PATIENTS).write_text(json.dumps(told))
    cases = [Case(name, tmp_path / f"{name}.nii.gz", None, None) for name in told]
    assert told_of([*cases, Case("x", tmp_path / "other" / "x.nii.gz", None, None)]) == told
    half = replace(CONFIG, validation=0.5)
    for split in (split_cases([*told], half, 1, told), *folds_of([*told], 2, CONFIG, 1, told)):
        assert {len(split.training), len(split.validation)} == {3}
        assert len({told[name] for name in split.validation}) == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 3}', '{"a": null}'])
def test_a_damaged_file_of_patients_is_told(tmp_path, text):
    assert told_patients(tmp_path) == {}
    (tmp_path / PATIENTS).parent.mkdir()
    (tmp_path / PATIENTS).write_text(text)
    with pytest.raises(ConfigError, match=r"patients\.json"):
        told_patients(tmp_path)


SLOW = r"^(?:sub-)?((?:[A-Za-z]+[-_]?)*[0-9]+)"


@given(st.text("aZ-_19 ", max_size=9), st.booleans())
def test_a_pattern_of_earlier_recipes_is_asked_in_its_quick_form(rest, is_sub):
    assert CONFIG.patient == quick(SLOW) != SLOW
    name = "sub-" * is_sub + rest
    slow, found = (re.search(pattern, name) for pattern in (SLOW, CONFIG.patient))
    assert (slow and slow.groups()) == (found and found.groups())


def test_a_long_name_without_a_number_is_a_patient_like_any_other():
    name = "Kleinhirnbrueckenwinkel-links_praeoperativ"
    assert patient_of(name, SLOW) == name  # by that pattern alone it would take years
