import pytest

from clickseg.evaluation.curves import area, clicks_to_reach, harmful, iterative_iou_error

DICE = [0.5, 0.7, 0.9, 0.88, 0.96]


@pytest.mark.parametrize(
    ("wanted", "clicks"), [(0.4, 0), (0.7, 1), (0.9, 2), (0.95, 4), (0.97, None)]
)
def test_the_first_time_counts(wanted, clicks):
    assert clicks_to_reach(DICE, wanted) == clicks


def test_the_area_is_that_of_trapezoids():
    assert area([0.5, 0.7, 0.9]) == pytest.approx((0.6 + 0.8) / 2)
    assert area([1, 1, 1]) == 1
    assert area([0.4]) == 0.4


def test_later_iterations_weigh_more():
    # (0.4 * 1.1 + 0.1 * 1.2) / 2.3; what was before the first click does not count.
    assert iterative_iou_error([0, 0.6, 0.9]) == pytest.approx(0.56 / 2.3)
    assert iterative_iou_error([0.3]) == pytest.approx(0.7)


def test_a_small_fall_is_no_harm():
    assert harmful(DICE) == 1
    assert harmful([0.9, 0.896, 0.892]) == 0
    assert harmful([0.9]) == 0
