"""What a curve of scores against clicks says in one number.

A curve has a value after 0, 1, ... clicks. The number of clicks (NoC) is as in the literature on
clicks, but to reach a Dice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.integrate import trapezoid

from clickseg.metrics import HARM


def clicks_to_reach(dice: Sequence[float], wanted: float) -> int | None:
    """Return after how many clicks a Dice was reached first; None if never."""
    reached = np.flatnonzero(np.asarray(dice) >= wanted)
    return int(reached[0]) if len(reached) else None


def area(dice: Sequence[float]) -> float:
    """Return the area under a curve by trapezoids, as a share of the largest possible."""
    if len(dice) < 2:
        return float(dice[0])
    return float(trapezoid(dice)) / (len(dice) - 1)


def iterative_iou_error(iou: Sequence[float]) -> float:
    """Return the mean of 1 - IoU after 1, 2, ... clicks, later ones weighing more: 1 + 0.1 i.

    The mask before the first click is not counted. With no click it is 1 - IoU of that mask.
    """
    if len(iou) < 2:
        return 1 - float(iou[0])
    weights = 1 + 0.1 * np.arange(1, len(iou))
    return float(((1 - np.asarray(iou[1:])) * weights).sum() / weights.sum())


def harmful(dice: Sequence[float]) -> int:
    """Return how many clicks made Dice fall by more than ``HARM``."""
    return int(np.count_nonzero(np.diff(dice) < -HARM))
