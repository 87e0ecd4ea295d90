"""The cheapest division: by hand on a row, and against all divisions of a small block."""

import itertools

import numpy as np
import pytest
from scipy.special import expit

from clickseg.minimum_cut import between, minimum_cut, nearly_minimum_cut, side_costs

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


def block(seed):
    """A bright block in noise, and logits that waver about it."""
    rng = np.random.default_rng(seed)
    inside = np.zeros((13, 11, 7), dtype=bool)
    inside[3:9, 2:8, 1:5] = True
    image = (2 * inside + rng.normal(0, 0.3, inside.shape)).astype(np.float32)
    logits = (3 * np.roll(inside, 1, 0) - 1.5 + rng.normal(0, 1, inside.shape)).astype(np.float32)
    return inside, image, logits


@pytest.mark.parametrize("seed", range(4))
def test_steps_come_to_the_least_cost(seed):
    _, image, logits = block(seed)
    pairs, costs = between(image, SPACING_MM, 2.0, 0.5), side_costs(expit(logits))

    def price(sides):
        flat = sides.ravel()
        parted = sum(cost[flat[first] != flat[second]].sum() for first, second, cost in pairs)
        return parted + costs[0][~sides].sum() + costs[1][sides].sum()

    logits = costs[0] - costs[1]  # none of them sure
    least, drawn = price(minimum_cut(costs, pairs)), price(logits > 0)
    by_steps = [
        price(nearly_minimum_cut(logits, image, SPACING_MM, 2.0, 0.5, steps))
        for steps in (40, 1000)
    ]
    assert by_steps[0] - least < 0.01 * (drawn - least)
    assert by_steps[1] == pytest.approx(least, rel=1e-3)


def test_steps_do_not_depend_on_the_order_of_axes():
    inside, image, logits = block(5)
    near = nearly_minimum_cut(logits, image, SPACING_MM, 2.0, 0.5, 40)
    assert (near != inside).mean() < 0.02 < (np.asarray(logits > 0) != inside).mean()
    for order in itertools.permutations(range(3)):
        turned = nearly_minimum_cut(
            logits.transpose(order), image.transpose(order), SPACING_MM[[*order]], 2.0, 0.5, 40
        )
        assert (turned != near.transpose(order)).mean() < 1e-3  # sums in another order


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_end_of_a_line_is_no_neighbor_of_the_start_of_the_next(axis):
    """Tumor at one face, whose logits say so: at the opposite face nothing speaks for it."""
    logits = np.full((7, 5, 11), -0.3, dtype=np.float32)
    logits[(*[slice(None)] * axis, slice(-2, None))] = 2.0
    image = np.zeros_like(logits)
    near = nearly_minimum_cut(logits, image, np.ones(3), 0.25, 0.3, 400)
    np.testing.assert_array_equal(near, logits > 0)


def test_what_is_not_a_number_has_no_say():
    logits = np.full((7, 5, 3), 2.0, dtype=np.float32)
    logits[3, 2, 1] = np.nan
    near = nearly_minimum_cut(logits, np.zeros_like(logits), SPACING_MM, 2.0, 0.3, 40)
    assert near.sum() >= near.size - 1


@pytest.mark.parametrize("shape", [(0, 5, 7), (1, 1, 1), (1, 7, 5), (5, 1, 7), (5, 7, 1)])
def test_steps_in_blocks_that_are_flat_or_empty(shape):
    rng = np.random.default_rng(0)
    logits, image = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    exact = minimum_cut(side_costs(expit(logits)), between(image, SPACING_MM, 0.5, 0.5))
    near = nearly_minimum_cut(logits, image, SPACING_MM, 0.5, 0.5, 2000)
    assert (near != exact).sum() <= 1  # costs of the exact one are rounded
