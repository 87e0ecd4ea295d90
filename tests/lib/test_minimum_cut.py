"""The cheapest division: by hand on a row, and against all divisions of a small block."""

import itertools

import numpy as np
import pytest

from clickseg.minimum_cut import between, minimum_cut

SPACING_MM = np.array([0.5, 1.0, 2.0])


def test_equal_neighbors_cost_the_weight_and_unlike_ones_less():
    image = np.array([0.0, 0.0, 0.6]).reshape(3, 1, 1)
    first, second, cost = between(image, SPACING_MM, 8.0, 0.3)[0]
    assert (first.tolist(), second.tolist()) == ([0, 1], [1, 2])
    np.testing.assert_allclose(cost, [8.0, 8.0 * np.exp(-2)])


def test_across_a_coarse_axis_neighbors_count_less():
    costs = [cost[0] for _, _, cost in between(np.zeros((2, 2, 2)), SPACING_MM, 8.0, 0.3)]
    np.testing.assert_allclose(costs, [8.0, 4.0, 2.0])


@pytest.mark.parametrize("seed", range(6))
def test_no_division_costs_less(seed):
    rng = np.random.default_rng(seed)
    image, costs = rng.normal(size=(2, 3, 2)), rng.integers(0, 300, (2, 2, 3, 2)) / 100
    pairs = [
        (first, second, np.rint(100 * cost) / 100)
        for first, second, cost in between(image, SPACING_MM, 1.0, 0.8)
    ]

    def price(sides):
        parted = sum(cost[sides[first] != sides[second]].sum() for first, second, cost in pairs)
        return parted + costs[0].ravel()[~sides].sum() + costs[1].ravel()[sides].sum()

    found = minimum_cut(costs, pairs)
    assert found.shape == image.shape
    least = min(price(np.array(sides)) for sides in itertools.product([False, True], repeat=12))
    assert price(found.ravel()) == pytest.approx(least, abs=1e-9)
