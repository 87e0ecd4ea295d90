"""Active contours: a ball around the click moves to the edges of the T1ce.

A morphological geodesic active contour (Marquez-Neila 2014,
doi 10.1109/TPAMI.2013.106, by scikit-image), in 3D and within a dynamic disk: it grows from the
middle of a ball whose radius the reader gave by dragging, and leaves that ball by little. It moves
in cubic voxels of the finest spacing: in those of the image it would run along the slices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import inverse_gaussian_gradient, morphological_geodesic_active_contour

from clickseg.baselines.region import Region
from clickseg.baselines.strokes import StrokeMethod

CLICK_MM = 1.0
"""A click sets at least the ball of this radius."""

MARGIN_MM = 2.0
"""The contour moves in a cube that goes on so far beyond the widest ball."""

FIRST = 0.5
"""The contour begins at this many radii of the click."""


@dataclass(frozen=True)
class ContourSettings:
    """How often the contour moves, and within how many radii of the click it ends.

    ``alpha``: how much an edge slows it down.
    """

    steps: int = 3
    widest: float = 1.2
    alpha: float = 5.0


GRID = [
    ContourSettings(steps, widest, alpha)
    for steps in (1, 3, 10)
    for widest in (1.0, 1.2, 1.5)
    for alpha in (2.0, 5.0, 50.0)
]


def active_contour(settings: ContourSettings | None = None) -> StrokeMethod:
    """Make the method."""
    return StrokeMethod(settings or ContourSettings(), contour)


def contour(
    settings: ContourSettings, region: Region, number: int, drag_mm: float
) -> NDArray[np.bool_]:
    """Return the inside of the contour that the click of that number began."""
    center, cube_mm = region.voxels[number], float(region.spacing_mm.min())
    widest_mm = settings.widest * max(drag_mm, CLICK_MM)
    half = int(np.ceil((widest_mm + MARGIN_MM) / cube_mm))
    offsets_mm = np.mgrid[(slice(-half, half + 1),) * 3] * cube_mm
    at = center[:, None, None, None] + offsets_mm / region.spacing_mm[:, None, None, None]
    image = ndimage.map_coordinates(region.shown.astype(float), at, order=1, mode="nearest")
    edges = inverse_gaussian_gradient(image, alpha=settings.alpha, sigma=1)
    ball = (offsets_mm**2).sum(axis=0) <= max(FIRST * drag_mm, CLICK_MM) ** 2
    inside = morphological_geodesic_active_contour(
        edges, settings.steps, init_level_set=ball, smoothing=1, threshold="auto", balloon=1
    )
    if settings.steps % 2:
        # scikit-image smooths in two ways by turns, and goes on with the other one in the next
        # call: a turn on nothing, so that the answer does not depend on what was asked before.
        nothing = np.zeros((3, 3, 3))
        morphological_geodesic_active_contour(nothing, 1, nothing, smoothing=1, threshold=1.0)
    widest = region.ball(center, widest_mm)
    back = (np.argwhere(widest) - center) * region.spacing_mm / cube_mm + half
    found = np.zeros_like(widest)
    found[widest] = ndimage.map_coordinates(inside.astype(float), back.T, order=1) > 0.5
    return np.asarray(found | region.ball(center, CLICK_MM))
