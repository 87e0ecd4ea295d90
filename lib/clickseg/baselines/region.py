"""The surroundings of a mask and of the clicks on it: what the classical methods look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clickseg.boxes import Slices, bounding_box, grown, hull
from clickseg.clicks import Clicks, voxels_of
from clickseg.edges import first_shown
from clickseg.study import Study

Mask = NDArray[np.uint8]

MARGIN_MM = 15.0
"""A region goes on so far beyond the mask and the clicks."""


@dataclass(frozen=True, eq=False)
class Region:
    """A box of a study.

    Attributes:
        where: the box, in voxels of the study.
        image: T1ce and T2 in it ``(2, i, j, k)``.
        mask: a mask in it ``(i, j, k)``.
        voxels: of the clicks, counted from its corner ``(N, 3)``.
        is_foreground: kinds of the clicks ``(N,)``.
        spacing_mm: voxel size.
    """

    where: Slices
    image: NDArray[np.float32]
    mask: Mask
    voxels: NDArray[np.int64]
    is_foreground: NDArray[np.bool_]
    spacing_mm: NDArray[np.float64]

    @property
    def shown(self) -> NDArray[np.float32]:
        """The sequence ``(i, j, k)`` to look at: the T1ce, without one the T2."""
        shown = first_shown(self.image)
        return self.image[0] if shown is None else shown

    def ball(self, center: NDArray[np.int64], radius_mm: float) -> NDArray[np.bool_]:
        """Return the voxels of the region within a distance of a voxel of it."""
        i, j, k = (
            ((np.arange(n) - c) * s) ** 2
            for n, c, s in zip(self.mask.shape, center, self.spacing_mm, strict=True)
        )
        return np.asarray(i[:, None, None] + j[:, None] + k <= radius_mm**2)


def region_of(study: Study, mask: Mask, clicks: Clicks, margin_mm: float = MARGIN_MM) -> Region:
    """Return the region of a mask and at least one click."""
    grid = study.grid.canonical
    voxels, is_foreground = voxels_of(clicks, grid)
    held = [tuple(slice(int(v), int(v) + 1) for v in voxel) for voxel in voxels]
    box = bounding_box(mask)
    around = hull([*held, *([] if box is None else [box])])  # type: ignore[list-item]
    i, j, k = grown(around, np.ceil(margin_mm / grid.spacing_mm), grid.shape)
    low = np.array([i.start, j.start, k.start])
    return Region(
        (i, j, k), study.image[:, i, j, k], mask[i, j, k], voxels - low, is_foreground,
        grid.spacing_mm,
    )  # fmt: skip
