"""Where a mask is least sure: the place to click next."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clickseg.boxes import Slices, bounding_box

UNSURE = 0.35
"""A smoothed doubt below this (0: sure, 1: a toss-up) is not worth a click."""

SURE = 0.1
"""Only the box of what is less sure than this is looked at: most of a part is clear."""

SMOOTHING_MM = 1.0
"""Doubt is smoothed by a Gaussian of this sigma: a thin rim is less than a patch."""


def most_uncertain(
    parts: Iterable[tuple[NDArray[np.float32], Slices]], spacing_mm: NDArray[np.float64]
) -> tuple[int, int, int] | None:
    """Return the voxel where a click would tell most, or None where all is clear.

    Args:
        parts: probabilities ``(i, j, k)``, and which voxels of the volume each covers.
        spacing_mm: voxel size of the volume.
    """
    best, voxel = UNSURE, None
    for prob, box in parts:
        doubt = 1 - np.abs(2 * prob - 1)
        near = bounding_box(doubt > SURE)
        if near is None:
            continue
        doubt = doubt[near]
        # Two sigmas each way: the tails cost as much again and move no maximum far.
        sigma_vox = SMOOTHING_MM / spacing_mm
        smooth = ndimage.gaussian_filter(doubt, sigma_vox, mode="constant", truncate=2.0)
        place = np.unravel_index(int(smooth.argmax()), smooth.shape)
        if smooth[place] > best:
            i, j, k = (
                int(part.start + inner.start + index)
                for part, inner, index in zip(box, near, place, strict=True)
            )
            best, voxel = float(smooth[place]), (i, j, k)
    return voxel
