"""Flooding: the voxels that hang together with the click and look like it.

Flood fill (scikit-image) with a tolerance, in 3D and within a dynamic disk: the flood of a click
stays within a ball whose radius the reader gave by dragging. Without that bound it runs along
vessels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import flood

from clickseg.baselines.method import Answer, Mask, Session
from clickseg.baselines.region import Region, region_of
from clickseg.clicks import Clicks
from clickseg.study import Study

TOLERANCE = 0.8
"""Difference of T1ce to the click, in standard deviations of the tissue of the head."""

WIDER = 1.1
"""The ball is wider than the drag by this factor: readers do not drag exactly."""

CLICK_MM = 1.0
"""A click sets at least the ball of this radius."""


@dataclass(frozen=True)
class Flooding:
    """Start from any mask; one without a start begins with nothing."""

    tolerance: float = TOLERANCE

    @property
    def version(self) -> str:
        """Name the setting."""
        return f"tolerance {self.tolerance:g}"

    def initial(self, study: Study) -> Mask:
        """Return an empty mask."""
        return np.zeros(study.grid.canonical.shape, dtype=np.uint8)

    def open(self, study: Study, start: Mask | None) -> Session:
        """Begin with a study and a start mask."""
        return _Flood(study, (self.initial(study) if start is None else start).copy(), self)


@dataclass
class _Flood:
    study: Study
    mask: Mask
    method: Flooding

    def answer(self, clicks: Clicks, drags_mm: tuple[float, ...]) -> Answer:
        region = region_of(self.study, self.mask, clicks)
        found = spread(region, len(clicks) - 1, drags_mm[-1], self.method.tolerance)
        self.mask[region.where][found] = clicks[-1].is_foreground
        for voxel, kind in zip(region.voxels, region.is_foreground, strict=True):
            self.mask[region.where][tuple(voxel)] = kind  # later floods leave earlier clicks alone
        return Answer(self.mask.copy(), None)


def spread(region: Region, number: int, drag_mm: float, tolerance: float) -> NDArray[np.bool_]:
    """Return what the click of that number floods."""
    center = region.voxels[number]
    ball = region.ball(center, max(WIDER * drag_mm, CLICK_MM))
    shown = np.where(ball, region.image[0], np.float32(1e6))
    found = flood(shown, tuple(int(n) for n in center), tolerance=tolerance)
    return np.asarray((found & ball) | region.ball(center, CLICK_MM))
