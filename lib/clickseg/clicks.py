"""Clicks as the reader meant them: points in the patient, not indices in an array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clickseg.geometry import Grid, ijk_to_ras, ras_to_ijk

MAX_CLICKS = 1000
"""More clicks than this in one request are refused."""

Voxel = tuple[int, int, int]


class ClickError(ValueError):
    """Clicks are not what was wanted; the text says what was wanted and what came."""


@dataclass(frozen=True, order=True)
class Click:
    """One point of the reader: RAS mm, and what the place should be."""

    point_ras: tuple[float, float, float]
    is_foreground: bool

    @classmethod
    def at(cls, voxel_ijk: Sequence[int], is_foreground: bool, grid: Grid) -> Click:
        """Make a click at the center of a voxel of ``grid``."""
        i, j, k = ijk_to_ras([voxel_ijk], grid.affine)[0].tolist()
        return cls((i, j, k), is_foreground)

    def voxel(self, grid: Grid) -> Voxel:
        """Return the voxel of ``grid`` that holds the click."""
        i, j, k = np.rint(ras_to_ijk([self.point_ras], grid.affine)[0]).astype(int).tolist()
        return i, j, k


Clicks = tuple[Click, ...]


def read_clicks(foreground: Any, background: Any, grid: Grid) -> Clicks:
    """Read two lists of voxel indices of ``grid`` as a viewer sends them.

    Missing lists may be None. Indices may be floats; they are rounded. One voxel outside is
    moved to the border (3D Slicer rounds a point on the border so). A voxel that is named twice
    counts once; one named in both lists is background. Two lists that are the same are
    background: OHIF sends them so when its background row is selected.

    Returns:
        The clicks at voxel centers, foreground first, each kind in the order given.

    Raises:
        ClickError: if a list is no list of three finite numbers each, a point lies outside of the
            grid, or there are more than ``MAX_CLICKS``.
    """
    inside, outside = (
        _voxels(points, name, grid.shape)
        for points, name in ((foreground, "foreground"), (background, "background"))
    )
    if len(inside) + len(outside) > MAX_CLICKS:
        came = len(inside) + len(outside)
        raise ClickError(f"at most {MAX_CLICKS} clicks are taken in one request, {came} came")
    taken = set(outside)
    kinds = [(voxel, True) for voxel in inside if voxel not in taken]
    kinds += [(voxel, False) for voxel in outside]
    return tuple(Click.at(voxel, is_foreground, grid) for voxel, is_foreground in kinds)


def _voxels(points: Any, name: str, shape: Voxel) -> list[Voxel]:
    if points is None:
        return []
    wanted = f"{name} must be a list of [i, j, k]"
    if not isinstance(points, list | tuple):
        raise ClickError(f"{wanted}, got {points!r:.80}")
    if len(points) > 10 * MAX_CLICKS:
        raise ClickError(
            f"at most {MAX_CLICKS} clicks are taken in one request, {len(points)} came"
        )
    voxels = _plain(points, shape)
    if voxels is None:  # one of them is odd: find it, and say why
        voxels = [_voxel(point, wanted, shape) for point in points]
    return list(dict.fromkeys(voxels))


def _plain(points: list[Any] | tuple[Any, ...], shape: Voxel) -> list[Voxel] | None:
    """Read points that are lists of whole numbers in the image, all at once; None if one is not."""
    if not all(
        type(point) is list and len(point) == 3 and all(type(value) is int for value in point)
        for point in points
    ):
        return None
    i, j, k = shape
    if not all(0 <= a < i and 0 <= b < j and 0 <= c < k for a, b, c in points):
        return None
    return [(a, b, c) for a, b, c in points]


def _voxel(point: Any, wanted: str, shape: Voxel) -> Voxel:
    if not isinstance(point, list | tuple) or len(point) != 3:
        raise ClickError(f"{wanted}, got {point!r:.80}")
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in point):
        raise ClickError(f"{wanted} with numbers, got {point!r:.80}")
    try:
        values = np.asarray(point, dtype=float)
    except OverflowError:  # an integer beyond all floats
        values = np.array([np.inf])
    if not np.isfinite(values).all():
        raise ClickError(f"{wanted} with finite numbers, got {point!r:.80}")
    nearest = np.rint(values)
    if (nearest < -1).any() or (nearest > np.array(shape)).any():
        raise ClickError(f"click {list(point)} lies outside of the image, whose shape is {shape}")
    i, j, k = np.clip(nearest, 0, np.array(shape) - 1).astype(int).tolist()
    return i, j, k


def voxels_of(clicks: Clicks, grid: Grid) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the clicks' voxels ``(N, 3)`` on ``grid`` and which are foreground ``(N,)``."""
    points_ras = np.array([click.point_ras for click in clicks], dtype=float).reshape(-1, 3)
    voxels = np.rint(ras_to_ijk(points_ras, grid.affine)).astype(np.int64)
    return voxels, np.array([click.is_foreground for click in clicks], dtype=bool)
