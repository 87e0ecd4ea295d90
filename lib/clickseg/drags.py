"""How far a reader would drag from a click to say how large the error is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_ANY_NEIGHBOR = np.ones((3, 3, 3), dtype=bool)


def drag_mm(
    label: NDArray[Any],
    pred: NDArray[Any],
    spacing_mm: Sequence[float],
    click_ijk: tuple[int, int, int],
) -> float:
    """Return the radius of a dynamic disk: the mean of the tight and the enclosing one.

    Tight: from the click to the border of its error. Enclosing: to the error's farthest voxel.

    Args:
        label: reference ``(I, J, K)``.
        pred: what the reader sees, same shape.
        spacing_mm: voxel size.
        click_ijk: voxel of the click; 0 is returned where nothing is wrong there.
    """
    wrong = (label != 0) != (pred != 0)
    kind = wrong & ((label != 0) == bool(label[click_ijk]))  # missed and spurious apart
    parts, _ = ndimage.label(kind, _ANY_NEIGHBOR)
    number = parts[click_ijk]
    if number == 0:
        return 0.0
    error = np.argwhere(parts == number)
    spacing = np.asarray(spacing_mm, dtype=float)
    low, high = error.min(axis=0), error.max(axis=0) + 1
    inside = np.zeros(high - low + 2, dtype=bool)
    inside[tuple((error - low + 1).T)] = True
    depth_mm = ndimage.distance_transform_edt(inside, sampling=spacing)
    tight_mm = float(depth_mm[tuple(np.array(click_ijk) - low + 1)])
    enclosing_mm = float(np.linalg.norm((error - click_ijk) * spacing, axis=1).max())
    return (tight_mm + enclosing_mm) / 2
