"""Lay outlines where a border costs least: of all that was found, or within a pass of a click."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clickseg.boxes import bounding_box, grown
from clickseg.config import BorderConfig, PassBorderConfig
from clickseg.edges import SURE_LOGIT, first_shown
from clickseg.minimum_cut import between, minimum_cut, nearly_minimum_cut, side_costs

FARTHEST_MM = 6.0
"""The border is looked for so far beyond what was found."""

LEAST_LEFT = 0.5
"""Share of what was found: a border around less would be the shortest one, not that of a tumor."""

DOUBT = 0.01, 1.0
"""Size of the logit of a voxel that changes sides, at least (0 has no sign) and at most."""


def cheapest_border(
    found: NDArray[np.bool_],
    prob: NDArray[np.float32],
    image: NDArray[np.float32],
    spacing_mm: NDArray[np.float64],
    config: BorderConfig,
) -> NDArray[np.bool_]:
    """Return the part that the cheapest border holds; what was found, where that is far less.

    Args:
        found: one connected part ``(i, j, k)``; may be empty.
        prob: of tumor there, evened where the recipe has edges. What is likely tumor beyond
            ``found`` was taken for something else, and is as likely background.
        image: T1ce and T2 there ``(2, i, j, k)``, normalized. The first of them that shows anything
            counts; with none what was found is returned.
        spacing_mm: voxel size.
        config: what a border costs.
    """
    held, shown = bounding_box(found), first_shown(image)
    if held is None or shown is None:
        return found
    box = grown(held, np.ceil(FARTHEST_MM / spacing_mm), found.shape)
    inside, likely = found[box], prob[box]
    costs = side_costs(np.where((likely > 0.5) & ~inside, 1 - likely, likely))
    kept = minimum_cut(costs, between(shown[box], spacing_mm, config.weight, config.sigma))
    parts, _ = ndimage.label(kept, np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel(), minlength=2)[1:]
    part = parts == 1 + int(sizes.argmax())
    if part.sum() < LEAST_LEFT * inside.sum() or not (part & inside).any():
        return found
    laid = np.zeros_like(found)
    laid[box] = part
    return laid


def cheapest_sides(
    logits: NDArray[np.float32],
    image: NDArray[np.float32],
    spacing_mm: NDArray[np.float64],
    config: PassBorderConfig,
) -> NDArray[np.float32]:
    """Return logits ``(i, j, k)`` whose sign says on which side of the cheapest border they are.

    A voxel that changes sides is in doubt from then on, however sure the network was.

    Args:
        logits: of a network; may be empty. What is not a number counts as 0, what is infinite is
            beyond dispute.
        image: T1ce and T2 there ``(2, i, j, k)``, normalized. The first of them that shows anything
            counts; with none the logits are returned.
        spacing_mm: voxel size.
        config: what a border costs, and how near to the cheapest it is to come.
    """
    shown = first_shown(image)
    logits = np.nan_to_num(logits, posinf=np.inf, neginf=-np.inf)
    if shown is None or logits.size == 0:
        return logits
    clipped = np.clip(logits, -SURE_LOGIT, SURE_LOGIT)
    is_foreground = nearly_minimum_cut(
        np.where(np.isinf(logits), logits, clipped),
        shown,
        spacing_mm,
        config.weight,
        config.sigma,
        config.steps,
    )
    doubted = np.clip(np.abs(logits), *DOUBT)
    return np.where(
        is_foreground == (logits > 0), logits, np.where(is_foreground, doubted, -doubted)
    )
