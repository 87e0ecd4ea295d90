"""Wilcoxon's signed rank test against counts by hand and SciPy, with ties and without."""

import numpy as np
import pytest
from scipy.stats import PermutationMethod, wilcoxon

from clickseg.evaluation.signed_rank import signed_rank_p


@pytest.mark.parametrize("differing", [1, 4, 5, 6, 19])
@pytest.mark.parametrize("sizes", [lambda n: np.arange(1, n + 1), np.ones], ids=["apart", "tied"])
def test_where_all_that_differ_do_so_one_way_it_is_one_of_all_signs_and_its_opposite(
    differing, sizes
):
    differences = np.concatenate([np.zeros(20 - differing), sizes(differing)])
    assert signed_rank_p(differences) == 2 / 2**differing
    assert signed_rank_p(-differences) == 2 / 2**differing


def test_without_ties_it_is_that_of_scipy():
    rng = np.random.default_rng(0)
    for count in (2, 7, 46):
        differences = rng.normal(0.3, 1, count)
        wanted = wilcoxon(differences, method="exact").pvalue
        assert signed_rank_p(differences) == pytest.approx(wanted, rel=1e-9)


def test_with_ties_it_is_that_of_all_signs():
    rng = np.random.default_rng(1)
    for _ in range(5):
        differences = rng.integers(-3, 5, 10)
        counted = differences[differences != 0]
        every = PermutationMethod(n_resamples=2**10)
        wanted = wilcoxon(counted, method=every).pvalue
        assert signed_rank_p(differences) == pytest.approx(wanted, rel=1e-9)
    # Ranks 1.5, 1.5, 3 and 4: of 16 signs 3 have at most 1.5 on one side.
    assert signed_rank_p([1, -1, 2, 3]) == 6 / 16


def test_equal_pairs_and_none():
    assert signed_rank_p([0, 0, 0]) == 1
    assert signed_rank_p([]) is None
    assert signed_rank_p([1, -1]) == 1
