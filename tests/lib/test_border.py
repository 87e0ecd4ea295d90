"""The cheapest border of what was found: it goes to the edge, and never loses the tumor."""

import numpy as np
import pytest

from clickseg.config import BorderConfig
from clickseg.initial.border import cheapest_border

SHAPE = (31, 29, 11)
SPACING_MM = np.array([0.5, 0.5, 1.5])
CONFIG = BorderConfig(weight=8.0, sigma=0.3)
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
