"""Where to click next: the place that is least sure, not the noisiest voxel."""

import numpy as np
import pytest

from clickseg.doubt import most_uncertain

SPACING = np.array([0.5, 0.7, 1.5])
SHAPE = (29, 23, 11)
WHOLE = tuple(slice(0, n) for n in SHAPE)


def hill(center, top):
    """Probability that falls off around a place, over 3 mm."""
    offsets = np.indices(SHAPE).T - np.array(center)
    squared_mm = ((offsets * SPACING) ** 2).sum(-1).T
    return (top * np.exp(-squared_mm / (2 * 3.0**2))).astype(np.float32)


def sure():
    prob = np.zeros(SHAPE, np.float32)
    prob[4:9, 4:9, 3:8] = 1
    return prob


def test_where_all_is_clear_there_is_no_place():
    assert most_uncertain([(sure(), WHOLE)], SPACING) is None
    assert most_uncertain([], SPACING) is None
    assert most_uncertain([(np.zeros((0, 0, 0), np.float32), (slice(0),) * 3)], SPACING) is None


def test_where_tumor_and_background_are_as_likely_is_the_place():
    assert most_uncertain([(hill((16, 12, 5), 0.5), WHOLE)], SPACING) == (16, 12, 5)


def test_above_one_half_doubt_falls_again():
    # 0.95 in the middle is nearly sure; the most uncertain voxels lie around, where 0.5 is.
    place = most_uncertain([(hill((16, 12, 5), 0.95), WHOLE)], SPACING)
    way_mm = np.linalg.norm((np.array(place) - (16, 12, 5)) * SPACING)
    assert 2.5 < way_mm < 5  # 0.5 / 0.95 is reached 3.4 mm away


def test_what_was_told_is_not_asked_for():
    prob = np.maximum(hill((5, 5, 5), 0.4), hill((23, 17, 5), 0.5))
    told = np.array([[23, 17, 5]])
    place = most_uncertain([(prob, WHOLE)], SPACING, told)
    away_mm = np.linalg.norm((np.array(place) - told) * SPACING)
    assert 1 < away_mm < 2  # beside it: there nobody has told
    everywhere = np.indices(SHAPE).reshape(3, -1).T
    assert most_uncertain([(prob, WHOLE)], SPACING, everywhere) is None
    outside = np.array([[-1, 40, 5], [16, -9, 30]])
    assert most_uncertain([(prob, WHOLE)], SPACING, outside) == (23, 17, 5)


def test_a_toss_up_counts_more_than_a_lean():
    prob = np.maximum(hill((5, 5, 5), 0.25), hill((23, 17, 5), 0.5))
    assert most_uncertain([(prob, WHOLE)], SPACING) == (23, 17, 5)


def test_a_single_torn_voxel_is_not_worth_a_click():
    prob = sure()
    prob[20, 15, 5] = 0.5
    assert most_uncertain([(prob, WHOLE)], SPACING) is None


@pytest.mark.parametrize("corner", [(0, 0, 0), (100, 60, 30)])
def test_a_part_is_placed_by_its_box(corner):
    box = tuple(slice(c, c + n) for c, n in zip(corner, SHAPE, strict=True))
    place = most_uncertain([(hill((16, 12, 5), 0.5), box)], SPACING)
    assert place == tuple(np.add((16, 12, 5), corner))


def test_the_least_sure_of_several_parts_is_taken():
    lean, torn = hill((16, 12, 5), 0.3), hill((6, 7, 4), 0.5)
    far = tuple(slice(50, 50 + n) for n in SHAPE)
    for parts in ([(lean, WHOLE), (torn, far)], [(torn, far), (lean, WHOLE)]):
        assert most_uncertain(parts, SPACING) == (56, 57, 54)
