"""Active contours: a ball around the click moves to the edges of the T1ce.

A morphological geodesic active contour (Marquez-Neila 2014,
doi 10.1109/TPAMI.2013.106, by scikit-image), in 3D and within a dynamic disk: it grows from the
middle of a ball whose radius the reader gave by dragging, and leaves that ball by little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import inverse_gaussian_gradient, morphological_geodesic_active_contour

from clickseg.baselines.method import Answer, Mask, Session
from clickseg.baselines.region import Region, region_of
from clickseg.clicks import Clicks
from clickseg.study import Study

STEPS = 20
"""How often the contour moves; each time by a voxel at most."""

FIRST, WIDEST = 0.5, 1.2
"""It begins at this many radii of the click, and ends within so many."""

CLICK_MM = 1.0
"""A click sets at least the ball of this radius."""


@dataclass(frozen=True)
class ActiveContour:
    """Start from any mask; one without a start begins with nothing."""

    version: str = f"{STEPS} steps"

    def initial(self, study: Study) -> Mask:
        """Return an empty mask."""
        return np.zeros(study.grid.canonical.shape, dtype=np.uint8)

    def open(self, study: Study, start: Mask | None) -> Session:
        """Begin with a study and a start mask."""
        return _Contour(study, (self.initial(study) if start is None else start).copy())


@dataclass
class _Contour:
    study: Study
    mask: Mask

    def answer(self, clicks: Clicks, drags_mm: tuple[float, ...]) -> Answer:
        region = region_of(self.study, self.mask, clicks)
        found = contour(region, len(clicks) - 1, drags_mm[-1])
        self.mask[region.where][found] = clicks[-1].is_foreground
        for voxel, kind in zip(region.voxels, region.is_foreground, strict=True):
            self.mask[region.where][tuple(voxel)] = kind
        return Answer(self.mask.copy(), None)


def contour(region: Region, number: int, drag_mm: float) -> NDArray[np.bool_]:
    """Return the inside of the contour that the click of that number began."""
    center = region.voxels[number]
    ball = region.ball(center, max(FIRST * drag_mm, CLICK_MM))
    edges = inverse_gaussian_gradient(region.image[0].astype(np.float64), alpha=5, sigma=1)
    inside = morphological_geodesic_active_contour(
        edges, STEPS, init_level_set=ball, smoothing=1, threshold="auto", balloon=1
    )
    widest = region.ball(center, WIDEST * max(drag_mm, CLICK_MM))
    return np.asarray(((inside > 0) & widest) | region.ball(center, CLICK_MM))
