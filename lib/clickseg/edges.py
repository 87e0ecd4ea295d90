"""Lay outlines where the image has an edge: what a network draws wavers by a voxel or two.

Logits are evened out between neighbors that look alike and kept apart across edges: ``x`` that
makes ``sum (x - logit)^2 + weight sum alike (x - x')^2`` least, the random walker with priors
(Grady 2005, doi 10.1109/CVPR.2005.239), as far as some steps of Jacobi's method bring it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clickseg.config import EdgesConfig
from clickseg.neighbors import alike

SURE_LOGIT = 3.0
"""Logits are clipped to it (0.95 and 0.05): an edge may overrule a network that is sure."""


def follow_edges(
    logits: NDArray[np.float32],
    image: NDArray[np.float32],
    spacing_mm: NDArray[np.float64],
    config: EdgesConfig,
) -> NDArray[np.float32]:
    """Return logits ``(i, j, k)`` whose sign changes where the image does.

    Args:
        logits: of a network, ``(i, j, k)``; may be empty.
        image: T1ce and T2 there ``(2, i, j, k)``, normalized. The first of them that shows
            anything counts; with none the logits are returned, clipped.
        spacing_mm: voxel size.
        config: how strongly, and by how many steps.
    """
    # In this memory order whole rows are added at once, also where there are few slices.
    logits = np.clip(np.asfortranarray(logits, dtype=np.float32), -SURE_LOGIT, SURE_LOGIT)
    shown = first_shown(image)
    if shown is None or logits.size == 0:
        return logits
    pairs, total = [], np.ones_like(logits)
    for axis in range(3):
        one, other = _neighbors(axis)
        counts = alike(np.asfortranarray(shown), axis, spacing_mm, config.weight, config.sigma)
        total[one] += counts
        total[other] += counts
        pairs.append((one, other, counts))
    total = 1 / total
    even = logits
    for _ in range(config.steps):
        summed = logits.copy(order="F")
        for one, other, counts in pairs:
            summed[one] += counts * even[other]
            summed[other] += counts * even[one]
        summed *= total
        even = summed
    return even


def first_shown(image: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Return the first sequence of ``(C, i, j, k)`` that shows anything; None where none does."""
    return next((part for part in image if part.any()), None)


def _neighbors(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return where the first and the second voxels of all pairs along an axis lie."""
    one, other = [slice(None)] * 3, [slice(None)] * 3
    one[axis], other[axis] = slice(0, -1), slice(1, None)
    return tuple(one), tuple(other)
