"""Where a mask is least sure: the place to click next."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clickseg.boxes import Slices, bounding_box
from clickseg.guidance import draw_clicks

UNSURE = 0.35
"""A smoothed doubt below this (0: sure, 1: a toss-up) is not worth a click."""

SURE = 0.1
"""Only the box of what is less sure than this is looked at: most of a part is clear."""

SMOOTHING_MM = 1.0
"""Doubt is smoothed by a Gaussian of this sigma: a thin rim is less than a patch."""

TOLD_MM = 1.0
"""A click tells of its surroundings, too: a voxel beside it is no other place to click."""

NONE_TOLD = np.zeros((0, 3), dtype=np.int64)


def most_uncertain(
    parts: Iterable[tuple[NDArray[np.float32], Slices]],
    spacing_mm: NDArray[np.float64],
    told_ijk: NDArray[np.int64] = NONE_TOLD,
) -> tuple[int, int, int] | None:
    """Return the voxel where a click would tell most, or None where all is clear.

    Args:
        parts: probabilities ``(i, j, k)``, and which voxels of the volume each covers.
        spacing_mm: voxel size of the volume.
        told_ijk: voxels ``(N, 3)`` of which the reader said what they are. Neither they nor those
            within ``TOLD_MM`` are asked for.
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
        smooth: NDArray[np.float32] = ndimage.gaussian_filter(
            doubt, sigma_vox, mode="constant", truncate=2.0
        )
        corner = [part.start + inner.start for part, inner in zip(box, near, strict=True)]
        _leave_out(smooth, told_ijk - corner, spacing_mm)
        place = np.unravel_index(int(smooth.argmax()), smooth.shape)
        if smooth[place] > best:
            i, j, k = (int(first + index) for first, index in zip(corner, place, strict=True))
            best, voxel = float(smooth[place]), (i, j, k)
    return voxel


def _leave_out(
    doubt: NDArray[np.float32], told_ijk: NDArray[np.int64], spacing_mm: NDArray[np.float64]
) -> None:
    """Take the doubt around voxels that the reader told of, in place; some lie outside."""
    reach = np.ceil(TOLD_MM / spacing_mm) + 1
    is_near = ((told_ijk >= -reach) & (told_ijk < doubt.shape + reach)).all(axis=1)
    if is_near.any():
        i, j, k = doubt.shape
        x, y, z = spacing_mm.tolist()
        near, kinds = told_ijk[is_near], np.ones(int(is_near.sum()), dtype=bool)
        doubt[draw_clicks(near, kinds, (i, j, k), (x, y, z), TOLD_MM)[0] > 0] = 0
