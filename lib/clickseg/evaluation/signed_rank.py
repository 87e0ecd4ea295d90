"""Wilcoxon's signed rank test, exact whatever the pairs are.

SciPy's is exact without ties alone; with them it goes through all 2^n signs, or approximates.
Clicks needed are small whole numbers, so that nearly all pairs tie, and studies are few: where 19
differ, all one way, the approximation is off thirty times.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata


def signed_rank_p(differences: ArrayLike) -> float | None:
    """Return the two-sided p of paired differences; 1 where all are 0, None without any.

    Differences of 0 are left out (Wilcoxon 1945, doi 10.2307/3001968). Equal ones share the mean of
    their ranks, and all signs are as likely.
    """
    given = np.asarray(differences, dtype=float)
    if not len(given):
        return None
    counted = given[given != 0]
    ranks = np.rint(2 * rankdata(np.abs(counted))).astype(int)  # shared ones are halves
    share = np.ones(1)  # of all signs, by the sum of the positive ranks
    for rank in ranks:
        share = (np.pad(share, (0, rank)) + np.pad(share, (rank, 0))) / 2
    less = min(ranks[counted > 0].sum(), ranks[counted < 0].sum())
    return min(1.0, 2 * float(share[: less + 1].sum()))
