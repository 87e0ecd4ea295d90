"""Active contours: a ball around the click moves to the edges of the T1ce.

A morphological geodesic active contour (Marquez-Neila 2014,
doi 10.1109/TPAMI.2013.106, by scikit-image), in 3D and within a dynamic disk: it grows from the
middle of a ball whose radius the reader gave by dragging, and leaves that ball by little.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import inverse_gaussian_gradient, morphological_geodesic_active_contour

from clickseg.baselines.region import Region
from clickseg.baselines.strokes import StrokeMethod

STEPS = 20
"""How often the contour moves; each time by a voxel at most."""

FIRST, WIDEST = 0.5, 1.2
"""It begins at this many radii of the click, and ends within so many."""

CLICK_MM = 1.0
"""A click sets at least the ball of this radius."""


def active_contour() -> StrokeMethod:
    """Make the method."""
    return StrokeMethod(f"{STEPS} steps", contour)


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
