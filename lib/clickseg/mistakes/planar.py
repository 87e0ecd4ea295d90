"""Errors of masks in 2D cuts, ``(H, W)``: the published ones and deformations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clickseg.mistakes.whole import draw_deformation


def deformed_mistake(
    label: NDArray[Any], rng: np.random.Generator, unchanged: float = 0.2
) -> NDArray[Any]:
    """Return a 2D mask ``(H, W)`` deformed by up to the limits in pixels, some left as they are."""
    if rng.random() < unchanged:
        return label.copy()
    step = draw_deformation(2, rng)
    return step.apply(label.astype(bool), np.ones(2)).astype(label.dtype)


def morphological_mistake(
    label: NDArray[Any],
    rng: np.random.Generator,
    unchanged: float = 0.2,
    max_iterations: int = 5,
) -> NDArray[Any]:
    """Return a 2D mask ``(H, W)`` dilated or eroded: the published simulation of errors.

    Up to one iteration for every three pixels of the radius is drawn, and an erosion stops before
    nothing is left; a mask too thin for any is dilated. The edge of the cut does not erode. The
    method's text gives no numbers of iterations; these are ours. As much is drawn for a mask of any
    size, so that generators of one state dilate all of them, or erode them.

    Args:
        label: 0/1; an empty one is returned as it is.
        rng: draws all.
        unchanged: share of the masks that are returned as they are.
        max_iterations: of large masks.
    """
    mask = label.astype(bool)
    changes, amount, kind = rng.random(3)
    if changes < unchanged or not mask.any():
        return label.copy()
    radius_px = np.sqrt(mask.sum() / np.pi)
    limit = int(np.clip(radius_px / 3, 1, max_iterations))
    iterations = 1 + int(amount * limit)
    if kind < 0.5:
        for fewer in range(iterations, 0, -1):
            eroded = ndimage.binary_erosion(mask, iterations=fewer, border_value=1)
            if eroded.any():
                return np.asarray(eroded).astype(label.dtype)
        iterations = 1
    dilated = ndimage.binary_dilation(mask, iterations=iterations)
    return np.asarray(dilated).astype(label.dtype)
