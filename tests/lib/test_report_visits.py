"""Which studies are visits of one patient, and in which order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickseg.commands.report import patient_pattern
from clickseg.models import WEIGHTS
from clickseg.report.origin import dates_of
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


def test_a_pacs_tells_patients_and_dates_and_who_has_none_comes_last():
    told, dates = (
        {"1.9": "A", "1.2": "A", "1.4": "B", "1.5": "A"},
        {"1.9": "20230101", "1.2": "20240101"},
    )
    assert visits_of(told, PATTERN, told, dates) == {"A": ["1.9", "1.2", "1.5"], "B": ["1.4"]}


@pytest.mark.parametrize(
    ("day", "time", "date"),
    [
        ("20230102", "101500.5", "20230102101500.5"),
        ("2023.01.02", "10:15:00", "20230102101500"),
        ("2023-01-02", None, "20230102"),
        ("20231301", "101500", None),
        ("00000000", None, None),
        ("2023", None, None),
        (None, "101500", None),
    ],
)
def test_a_date_is_a_day_of_the_calendar(day, time, date):
    index = {"a": {"image": {"info": {"StudyDate": day, "StudyTime": time}}}}
    assert dates_of(index).get("a") == date


@pytest.mark.parametrize("pattern", ["x(y)?", "z*", "(q)"])
def test_an_id_without_a_patient_is_one_of_its_own(pattern):
    assert visits_of(["xb", "xa"], pattern) == {"xa": ["xa"], "xb": ["xb"]}
