"""Which studies are visits of one patient, and in which order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickseg.commands.report import patient_pattern
from clickseg.models import WEIGHTS
from clickseg.report.visits import natural_key, visits_of

PATTERN = patient_pattern(None, WEIGHTS)


@pytest.mark.parametrize(
    "ordered",
    [
        ["VS-012", "VS-012v2", "VS-012v10"],
        ["sub-1_ses-2", "sub-1_ses-10", "sub-2_ses-1", "sub-10_ses-1"],
        ["a-2009-12-31", "a-2010-01-02", "a-2010-11-01"],
        ["1", "2", "10", "a"],
    ],
)
def test_numbers_in_names_count_as_numbers(ordered):
    assert sorted([*ordered[1:], ordered[0]], key=natural_key) == ordered


@given(st.lists(st.text(), unique=True))
def test_any_names_have_an_order_and_only_one(names):
    assert len({natural_key(name) for name in names}) == len(names)
    assert len(sorted(names, key=natural_key)) == len(names)  # any two can be compared


def test_visits_of_a_patient_are_found_by_the_recipe():
    ids = ["VS-2v1", "VS-10", "VS-2v10", "sub-VS-2_ses-2", "VS-2v2"]
    assert visits_of(ids, PATTERN) == {
        "VS-2": ["sub-VS-2_ses-2", "VS-2v1", "VS-2v2", "VS-2v10"],
        "VS-10": ["VS-10"],
    }


def test_a_pacs_tells_patients_and_dates():
    told, dates = (
        {"1.9": "A", "1.2": "A", "1.4": "B", "1.5": "A"},
        {"1.9": "20230101", "1.2": "20240101"},
    )
    assert visits_of(told, PATTERN, told, dates) == {"A": ["1.5", "1.9", "1.2"], "B": ["1.4"]}


@pytest.mark.parametrize("pattern", ["x(y)?", "z*", "(q)"])
def test_an_id_without_a_patient_is_one_of_its_own(pattern):
    assert visits_of(["xb", "xa"], pattern) == {"xa": ["xa"], "xb": ["xb"]}
