"""Methods in which each click paints on the mask as it is, as with a brush that sees the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clickseg.baselines.method import Answer, Mask, Session
from clickseg.baselines.region import Region, region_of
from clickseg.clicks import Clicks
from clickseg.study import Study

Brush = Callable[[Any, Region, int, float], NDArray[np.bool_]]
"""From settings, a region, the number of a click in it and its drag: what the click paints."""


@dataclass(frozen=True)
class FromNothing:
    """The part of a method that makes no start mask."""

    def initial(self, study: Study) -> Mask:
        """Return an empty mask."""
        return np.zeros(study.grid.canonical.shape, dtype=np.uint8)


@dataclass
class Strokes:
    """A session that paints once a click; clicked voxels stay as their clicks say."""

    study: Study
    mask: Mask
    settings: Any
    brush: Brush

    def answer(self, clicks: Clicks, drags_mm: tuple[float, ...]) -> Answer:
        """Paint with the last click."""
        region = region_of(self.study, self.mask, clicks)
        found = self.brush(self.settings, region, len(clicks) - 1, drags_mm[-1])
        self.mask[region.where][found] = clicks[-1].is_foreground
        for voxel, kind in zip(region.voxels, region.is_foreground, strict=True):
            self.mask[region.where][tuple(voxel)] = kind  # later strokes leave earlier clicks alone
        return Answer(self.mask.copy(), None)


@dataclass(frozen=True)
class StrokeMethod(FromNothing):
    """Start from any mask; one without a start begins with nothing."""

    settings: Any
    brush: Brush

    @property
    def version(self) -> str:
        """Name the settings."""
        return str(self.settings)

    def open(self, study: Study, start: Mask | None) -> Session:
        """Begin with a study and a start mask, which is left alone."""
        mask = (self.initial(study) if start is None else start).copy()
        return Strokes(study, mask, self.settings, self.brush)
