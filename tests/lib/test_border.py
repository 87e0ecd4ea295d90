"""The cheapest border of what was found: it goes to the edge, and never loses the tumor."""

import numpy as np
import pytest

from clickseg.border import cheapest_border, cheapest_sides
from clickseg.config import BorderConfig, PassBorderConfig

SHAPE = (31, 29, 11)
SPACING_MM = np.array([0.5, 0.5, 1.5])
CONFIG = BorderConfig(weight=8.0, sigma=0.3)
PASS = PassBorderConfig(weight=8.0, sigma=0.3, steps=40)
TUMOR = np.s_[8:22, 9:21, 3:8]


@pytest.fixture
def image():
    image = np.random.default_rng(3).normal(0, 0.05, (2, *SHAPE)).astype(np.float32)
    image[(0, *TUMOR)] += 2
    return image


def said_of(found):
    return np.where(found, 0.8, 0.2).astype(np.float32)


def block(where):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[where] = True
    return mask


@pytest.mark.parametrize("sequence", [0, 1])
def test_an_outline_beside_the_edge_is_laid_on_it(image, sequence):
    seen = image if sequence == 0 else image[::-1] * np.array([0, 1]).reshape(2, 1, 1, 1)
    found = block(np.s_[9:23, 10:22, 3:8])
    laid = cheapest_border(found, said_of(found), seen, SPACING_MM, CONFIG)
    np.testing.assert_array_equal(laid, block(TUMOR))


def test_what_was_taken_for_something_else_stays_out(image):
    vessel = np.s_[24:27, 12:18, 4:7]
    image[(0, *vessel)] += 2
    found = block(TUMOR)
    prob = said_of(found | block(vessel))
    laid = cheapest_border(found, prob, image, SPACING_MM, CONFIG)
    np.testing.assert_array_equal(laid, found)


def test_a_tumor_whose_cheapest_border_is_none_is_kept(image):
    found = block(np.s_[14:16, 14:16, 5:6])
    image[0] = 0.1
    laid = cheapest_border(found, said_of(found), image, SPACING_MM, CONFIG)
    np.testing.assert_array_equal(laid, found)


def test_nothing_found_and_nothing_shown_are_left_alone(image):
    nothing = np.zeros(SHAPE, dtype=bool)
    assert not cheapest_border(nothing, said_of(nothing), image, SPACING_MM, CONFIG).any()
    found = block(TUMOR)
    laid = cheapest_border(found, said_of(found), np.zeros_like(image), SPACING_MM, CONFIG)
    np.testing.assert_array_equal(laid, found)


def test_a_pass_is_laid_on_the_edge_and_in_doubt_where_it_was_not(image):
    drawn = np.where(block(np.s_[9:23, 10:22, 3:8]), 1.5, -2.5).astype(np.float32)
    laid = cheapest_sides(drawn, image, SPACING_MM, PASS)
    np.testing.assert_array_equal(laid > 0, block(TUMOR))
    turned = (laid > 0) != (drawn > 0)
    np.testing.assert_array_equal(laid[~turned], drawn[~turned])
    assert np.abs(laid[turned]).max() == 1


def test_a_voxel_without_a_side_gets_one_that_lasts(image):
    drawn = np.where(block(TUMOR), 2.0, -2.0).astype(np.float32)
    drawn[14, 14, 5] = 0
    laid = cheapest_sides(drawn, image, SPACING_MM, PASS)
    assert laid[14, 14, 5] + np.float32(4) - np.float32(4) > 0  # so passes are fused


@pytest.mark.parametrize(
    ("weight", "clicked", "expected"),
    [
        (0.4, [0, 0, 0], [True, False, False]),
        (6.0, [0, 0, 0], [False, False, False]),
        (6.0, [np.inf, 0, 0], [True, True, True]),
        (6.0, [np.inf, 0, -np.inf], [True, False, False]),
        (0.4, [-np.inf, 0, 0], [False, False, False]),
        (0.4, [0, 0, np.inf], [True, False, True]),
        (1e6, [-np.inf, np.inf, -np.inf], [False, True, False]),
    ],
)
def test_the_cheapest_sides_by_hand(weight, clicked, expected):
    """To turn a voxel costs the size of its logit, at most 3 (20 to 1); to part a pair, weight.

    At 0.4 the border stays between the first and the second voxel: 0.4 for it, any turn costs 1 or
    more. At 6 there is none: to turn the first voxel costs 3, the others 1.1 + 2. A click on the
    first voxel turns these. What is beyond dispute is parted whatever that costs.
    """
    logits = np.array([4.0, -1.1, -2.0], dtype=np.float32) + np.float32(clicked)
    alike = np.ones((2, 3, 1, 1), dtype=np.float32)
    config = PassBorderConfig(weight=weight, sigma=0.3, steps=400)
    laid = cheapest_sides(logits.reshape(3, 1, 1), alike, np.ones(3), config).ravel()
    np.testing.assert_array_equal(laid > 0, expected)
    assert np.abs(laid[(laid > 0) != (logits > 0)]).max(initial=0) <= 1
    np.testing.assert_array_equal(np.isinf(laid), np.isinf(logits))


def test_sides_of_nothing_and_of_an_image_that_shows_nothing_are_left_alone(image):
    nothing = np.zeros((0, 4, 4), dtype=np.float32)
    laid = cheapest_sides(nothing, image[:, :0, :4, :4], SPACING_MM, PASS)
    assert laid.size == 0
    drawn = np.where(block(TUMOR), 1.0, -1.0).astype(np.float32)
    left = cheapest_sides(drawn, np.zeros_like(image), SPACING_MM, PASS)
    np.testing.assert_array_equal(left, drawn)


def test_what_is_not_a_number_does_not_get_through(image):
    drawn = np.where(block(TUMOR), 2.0, -2.0).astype(np.float32)
    drawn[14, 14, 5] = np.nan
    laid = cheapest_sides(drawn, image, SPACING_MM, PASS)
    np.testing.assert_array_equal(laid > 0, block(TUMOR))
    assert np.isfinite(laid).all()
