"""How far a reader would drag from a click to say how large the error is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_ANY_NEIGHBOR = np.ones((3, 3), dtype=bool)


def drag_mm(
    label: NDArray[Any],
    pred: NDArray[Any],
    spacing_mm: Sequence[float],
    click_ijk: tuple[int, int, int],
) -> float:
    """Return the radius of a dynamic disk: the mean of the tight and the enclosing one.

    0 where nothing is wrong at the click. Arguments are those of ``drag_range_mm``.
    """
    return sum(drag_range_mm(label, pred, spacing_mm, click_ijk)) / 2


def drag_range_mm(
    label: NDArray[Any],
    pred: NDArray[Any],
    spacing_mm: Sequence[float],
    click_ijk: tuple[int, int, int],
) -> tuple[float, float]:
    """Return the tight and the enclosing radius of an error, 0 and 0 where nothing is wrong.

    Tight: from the click to the border of its error. Enclosing: to the error's farthest voxel. Both
    in the axial slice of the click, where the reader drags.

    Args:
        label: reference ``(I, J, K)``.
        pred: what the reader sees, same shape.
        spacing_mm: voxel size.
        click_ijk: voxel of the click.
    """
    i, j, k = click_ijk
    is_missed = bool(label[click_ijk])
    side = label[:, :, k] != 0, pred[:, :, k] != 0
    wrong = side[0] & ~side[1] if is_missed else side[1] & ~side[0]
    parts, _ = ndimage.label(wrong, _ANY_NEIGHBOR)
    number = parts[i, j]
    if number == 0:
        return 0.0, 0.0
    error = np.argwhere(parts == number)
    spacing = np.asarray(spacing_mm, dtype=float)[:2]
    low, high = error.min(axis=0), error.max(axis=0) + 1
    inside = np.zeros(high - low + 2, dtype=bool)
    inside[tuple((error - low + 1).T)] = True
    depth_mm = ndimage.distance_transform_edt(inside, sampling=spacing)
    tight_mm = float(depth_mm[i - low[0] + 1, j - low[1] + 1])
    enclosing_mm = float(np.linalg.norm((error - (i, j)) * spacing, axis=1).max())
    return tight_mm, enclosing_mm
