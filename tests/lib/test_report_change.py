"""The rule of growth: 20 % of volume or 2 mm of diameter, and the error of voxels."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from clickseg.report.change import DIAMETER_MM, VOLUME_SHARE, Change, Verdict
from clickseg.report.measure import Measurement

BACKWARDS = {
    Verdict.GROWN: Verdict.SMALLER,
    Verdict.SMALLER: Verdict.GROWN,
    Verdict.UNCHANGED: Verdict.UNCHANGED,
    Verdict.OPPOSED: Verdict.OPPOSED,
}
measurements = st.builds(
    Measurement,
    *[st.just(0.0) | st.floats(1e-6, 100)] * 2,
    *[st.floats(0, 5)] * 2,
)


def change(earlier, later, error_ml=0.1, error_mm=0.5):
    """Of (ml, mm) before and after."""
    return Change(*(Measurement(*pair, error_ml, error_mm) for pair in (earlier, later)))


@pytest.mark.parametrize(
    ("earlier", "later", "verdict"),
    [
        ((1.0, 10.0), (1.2, 10.0), Verdict.GROWN),  # 20 % exactly, 0.1999... in floating point
        ((1.0, 10.0), (1.19, 11.9), Verdict.UNCHANGED),
        ((1.2, 10.0), (1.0, 10.0), Verdict.SMALLER),  # 20 % of the smaller one
        ((1.0, 10.0), (0.84, 10.0), Verdict.UNCHANGED),  # 0.16 / 0.84 = 19.0 %
        ((1.0, 10.0), (0.83, 10.0), Verdict.SMALLER),  # 0.17 / 0.83 = 20.5 %
        ((5.0, 20.0), (5.0, 22.0), Verdict.GROWN),
        ((5.0, 20.0), (5.0, 18.0), Verdict.SMALLER),
        ((5.0, 20.0), (5.9, 21.9), Verdict.UNCHANGED),
        ((5.0, 20.0), (7.0, 17.0), Verdict.OPPOSED),
        ((0.0, 0.0), (0.0, 0.0), Verdict.UNCHANGED),
        ((0.0, 0.0), (0.01, 0.5), Verdict.GROWN),  # where there was nothing
        ((0.01, 0.5), (0.0, 0.0), Verdict.SMALLER),
    ],
)
def test_the_rule(earlier, later, verdict):
    assert change(earlier, later).verdict is verdict


def test_figures_of_a_change():
    made = Change(Measurement(2.0, 15.0, 0.3, 0.3), Measurement(1.5, 16.0, 0.4, 0.4))
    assert made.volume_ml == -0.5
    assert made.volume_percent == -25.0
    assert made.diameter_mm == 1.0
    assert made.volume_error_ml == pytest.approx(0.5)  # 3, 4, 5
    assert made.diameter_error_mm == pytest.approx(0.5)


def test_there_is_no_percentage_of_nothing():
    assert change((0.0, 0.0), (1.0, 9.0)).volume_percent is None
    assert change((1.0, 9.0), (0.0, 0.0)).volume_percent == -100


@pytest.mark.parametrize(
    ("earlier", "later", "is_beyond"),
    [
        ((1.0, 10.0), (1.3, 10.0), True),  # 0.3 ml, sqrt(2) * 0.1 = 0.14
        ((0.1, 5.0), (0.2, 5.0), False),  # 100 %, yet 0.1 ml
        ((0.1, 5.0), (0.2, 7.5), True),  # 2.5 mm, sqrt(2) * 0.5 = 0.7
        ((10.0, 30.0), (11.0, 30.0), True),  # 1 ml, though 10 %
        ((10.0, 30.0), (10.1, 31.9), False),  # neither has changed: volume is looked at
    ],
)
def test_what_voxels_can_tell(earlier, later, is_beyond):
    assert change(earlier, later).is_beyond_voxels is is_beyond


@given(measurements, measurements)
def test_backwards_all_is_the_other_way_round(earlier, later):
    there, back = Change(earlier, later), Change(later, earlier)
    assert back.verdict is BACKWARDS[there.verdict]
    assert back.is_beyond_voxels == there.is_beyond_voxels
    assert (back.volume_ml, back.diameter_mm) == (-there.volume_ml, -there.diameter_mm)
    assert back.volume_error_ml == there.volume_error_ml


@given(measurements)
def test_what_is_the_same_has_not_changed(one):
    same = Change(one, one)
    assert same.verdict is Verdict.UNCHANGED
    assert not same.is_beyond_voxels
    assert same.volume_percent in (0, None)


@given(measurements, measurements, st.floats(1, 10))
def test_more_growth_is_still_growth(earlier, later, factor):
    assume(Change(earlier, later).verdict is Verdict.GROWN)
    assume(later.diameter_mm >= earlier.diameter_mm)
    more = Measurement(
        later.volume_ml * factor, later.diameter_mm * factor, later.volume_error_ml, 0.5
    )
    assert Change(earlier, more).verdict is Verdict.GROWN


@given(st.floats(1e-3, 100), st.floats(0, 100), st.floats(-0.999, 0.999), st.floats(-0.999, 0.999))
def test_less_than_either_limit_is_no_change(volume_ml, diameter_mm, share, step):
    later_ml = volume_ml * (1 + VOLUME_SHARE) ** share
    later_mm = max(0.0, diameter_mm + DIAMETER_MM * step)
    assert change((volume_ml, diameter_mm), (later_ml, later_mm)).verdict is Verdict.UNCHANGED


def test_errors_are_never_less_than_the_larger_one():
    made = Change(Measurement(1.0, 10.0, 0.2, 0.0), Measurement(1.0, 10.0, 0.05, 0.7))
    assert made.volume_error_ml == pytest.approx(math.sqrt(0.2**2 + 0.05**2))
    assert made.diameter_error_mm == 0.7
