"""From outlines in parallel planes to a mask on the voxels of an image.

The planes need not be those of the slices, nor parallel to them. Within a plane the signed distance
to its outlines counts, between planes it is interpolated, and half a step beyond the last plane the
solid ends. A voxel belongs to the mask where most of it is inside; how much "most" is, is set so
that the mask has the volume of the stacked outlines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from clickseg.geometry import Grid, ijk_to_ras, ras_to_ijk
from clickseg.outlines import Points, Stack, stack_outlines, stacked_volume_ml

FLAT_MM = 0.2
"""An outline whose points lie farther from its plane is refused."""

SAMPLE_MM = 0.5
"""A voxel is looked at in places that are at most this far apart."""

MARGIN_MM = 2.0
"""How far around the outlines voxels are looked at."""


class OutlineError(ValueError):
    """Outlines cannot be filled; the text says what was wanted and what came."""


@dataclass(frozen=True, eq=False)
class Solid:
    """Outlines turned into voxels: ``mask`` is uint8 0/1 in the stored order of the grid.

    ``outlines_ml`` is the volume of the stacked outlines. ``is_cut``: they leave the image, so that
    the mask is smaller.
    """

    mask: NDArray[np.uint8]
    outlines_ml: float
    is_cut: bool


def fill(outlines_ras: Sequence[Points], grid: Grid) -> Solid:
    """Fill closed outlines ``(N, 3)`` in RAS mm on a grid.

    Raises:
        OutlineError: if there is none, one is not flat, they are not parallel, or nothing of them
            lies in the image.
    """
    if not outlines_ras:
        raise OutlineError("at least one outline was wanted, there is none")
    frame = _frame_of(outlines_ras, grid)
    outlines = [points @ frame for points in outlines_ras]
    _refuse_uneven(outlines)
    stack = stack_outlines(outlines, margin_mm=MARGIN_MM + float(grid.spacing_mm.max()))
    volume_ml = stacked_volume_ml(outlines)
    box, is_cut = _box(outlines_ras, stack, grid)
    share, depth_mm = _inside(stack, frame, grid, box)
    if is_cut:
        inside = share >= 0.5
    else:
        count = max(1, round(volume_ml / grid.voxel_ml))
        # Depth decides between voxels that are covered alike, as those half within the last plane.
        order = np.lexsort((-depth_mm.ravel(), -share.ravel()))
        inside = np.zeros(share.size, bool)
        inside[order[:count]] = True
        inside = inside.reshape(share.shape)
    if not inside.any():
        raise OutlineError("outlines within the image were wanted, these lie outside of it")
    mask = np.zeros(grid.shape, np.uint8)
    mask[box] = inside
    return Solid(mask, volume_ml, is_cut)


def _frame_of(outlines_ras: Sequence[Points], grid: Grid) -> NDArray[np.float64]:
    """Return the axes ``(3, 3)`` of the planes as columns; the last is at right angles to them."""
    spread = np.concatenate([points - points.mean(0) for points in outlines_ras])
    _, extents, axes = np.linalg.svd(spread, full_matrices=False)
    if len(extents) < 3 or extents[1] < 1e-6 * max(extents[0], 1e-9):
        raise OutlineError("outlines that enclose an area were wanted, these are lines or points")
    normal = axes[2]
    if normal @ grid.affine[:3, 2] < 0:
        normal = -normal
    # The first axis close to that of the image: rounding in a plane is then the same everywhere.
    first = grid.affine[:3, 0] - (grid.affine[:3, 0] @ normal) * normal
    if np.linalg.norm(first) < 1e-3 * grid.spacing_mm[0]:
        first = grid.affine[:3, 1] - (grid.affine[:3, 1] @ normal) * normal
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(normal, first), normal], axis=1)


def _refuse_uneven(outlines: Sequence[Points]) -> None:
    uneven_mm = max(float(np.abs(points[:, 2] - points[:, 2].mean()).max()) for points in outlines)
    if uneven_mm > FLAT_MM:
        raise OutlineError(
            f"outlines in parallel planes were wanted, a point lies {uneven_mm:.2f} mm off its own"
        )


def _box(
    outlines_ras: Sequence[Points], stack: Stack, grid: Grid
) -> tuple[tuple[slice, slice, slice], bool]:
    """Return the voxels around the outlines, and whether some of the outlines is beyond them."""
    corners = ras_to_ijk(np.concatenate(outlines_ras), grid.affine)
    low, high = corners.min(0), corners.max(0)
    reach = (MARGIN_MM + stack.step_mm) / grid.spacing_mm
    shape = np.array(grid.shape)
    start = np.clip(np.floor(low - reach), 0, shape).astype(int)
    stop = np.clip(np.ceil(high + reach) + 1, 0, shape).astype(int)
    if (start >= stop).any():
        raise OutlineError("outlines within the image were wanted, these lie outside of it")
    is_cut = bool((low < -0.5).any() or (high > shape - 0.5).any())
    i, j, k = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return (i, j, k), is_cut


def _inside(
    stack: Stack,
    frame: NDArray[np.float64],
    grid: Grid,
    box: tuple[slice, slice, slice],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return which share of each voxel of a box is inside, and how deep it lies in mm (mean)."""
    ijk = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in box), indexing="ij"), -1)
    shape = ijk.shape[:3]
    counts = np.ceil(grid.spacing_mm / SAMPLE_MM).astype(int)
    edge_mm = float(np.sort(grid.spacing_mm)[:2].mean())
    share, depth_mm = np.zeros(shape), np.zeros(shape)
    for part in product(*(range(n) for n in counts)):
        offset = (np.array(part) + 0.5) / counts - 0.5
        distance_mm = _distance_mm(stack, ijk_to_ras(ijk + offset, grid.affine) @ frame)
        distance_mm = distance_mm.reshape(shape)
        share += np.clip(0.5 - distance_mm / edge_mm, 0, 1)
        depth_mm -= distance_mm
    return share / np.prod(counts), depth_mm / np.prod(counts)


def _distance_mm(stack: Stack, points: Points) -> NDArray[np.float64]:
    """Return the signed distance at points ``(N, 3)`` in the frame of the planes."""
    heights = stack.heights_mm
    places = np.empty((3, len(points)))
    places[0] = np.interp(points[:, 2], heights, np.arange(len(heights)))
    places[1:] = ((points[:, :2] - stack.low_mm) / stack.fine_mm).T
    within = ndi.map_coordinates(stack.maps_mm, places, order=1, mode="nearest")
    beyond = np.maximum(heights[0] - points[:, 2], points[:, 2] - heights[-1])
    return np.asarray(np.maximum(within, beyond - stack.step_mm / 2))
