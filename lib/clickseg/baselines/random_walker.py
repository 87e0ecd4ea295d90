"""Random walker: each voxel goes to the seeds that a walker from it meets first.

Grady 2006, doi 10.1109/TPAMI.2006.233, by scikit-image. With clicks alone as seeds a right outline
would be lost at the first one. So seeds are the clicks and the start mask; around a click, as far
as the reader says the error reaches, what it contradicts is no seed, nor what is near the outline:
it may be wrong there. Were the outline in doubt everywhere, the first click would draw it anew also
where nobody clicked. A click that contradicts what the reader saw is a seed with all of its ball,
one that confirms it with its voxel alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import random_walker

from clickseg.baselines.method import Answer, Mask, Session
from clickseg.baselines.region import Region, region_of
from clickseg.baselines.seen import Seen
from clickseg.baselines.strokes import FromNothing
from clickseg.clicks import Clicks
from clickseg.study import Study

CLICK_MM = 1.0
"""Radius of the seed of a click."""

REACH = 1.5
"""Around a click the mask is in doubt up to so many times what the reader dragged."""


@dataclass(frozen=True)
class WalkerSettings:
    """How much a step across an edge costs: 130 is the library's own value.

    ``inside_mm``, ``outside_mm``: so far from its outline the start mask is believed near clicks.
    """

    beta: float = 130.0
    inside_mm: float = 0.8
    outside_mm: float = 1.5


GRID = [
    WalkerSettings(beta, inside_mm, outside_mm)
    for beta in (30.0, 130.0, 500.0)
    for inside_mm in (0.4, 0.8, 1.5)
    for outside_mm in (0.8, 1.5, 4.0)
]


@dataclass(frozen=True)
class RandomWalker(FromNothing):
    """Start from any mask; one without a start begins with nothing."""

    settings: WalkerSettings = WalkerSettings()

    @property
    def version(self) -> str:
        """Name the settings."""
        return str(self.settings)

    def open(self, study: Study, start: Mask | None) -> Session:
        """Begin with a study and a start mask."""
        return _Walk(study, self.initial(study) if start is None else start, self.settings)


@dataclass
class _Walk:
    study: Study
    start: Mask
    settings: WalkerSettings
    seen: Seen = field(init=False)

    def __post_init__(self) -> None:
        self.seen = Seen(self.start)

    def answer(self, clicks: Clicks, drags_mm: tuple[float, ...]) -> Answer:
        return Answer(self.seen.after(clicks, drags_mm, self._answer), None)

    def _answer(self, clicks: Clicks, drags_mm: tuple[float, ...], seen: Sequence[Mask]) -> Mask:
        region = region_of(self.study, self.start, clicks)
        mask = self.start.copy()
        shown = [before[region.where] > 0 for before in seen]
        mask[region.where] = walk(self.settings, region, drags_mm, shown)
        return mask


def walk(
    settings: WalkerSettings,
    region: Region,
    drags_mm: tuple[float, ...],
    seen: Sequence[NDArray[np.bool_]],
) -> NDArray[np.bool_]:
    """Return the foreground of a region; ``seen``: what the reader saw there at each click."""
    labels = seeds(settings, region, drags_mm, seen)
    if not (labels == 0).any() or len(np.unique(labels[labels > 0])) < 2:
        return np.where(labels == 1, True, np.where(labels == 2, False, region.mask > 0))
    image = np.moveaxis(region.image, 0, -1)
    with warnings.catch_warnings():
        # Faster solvers are recommended; unknown voxels that no seed reaches are background.
        warnings.simplefilter("ignore", UserWarning)
        found = random_walker(
            image, labels, settings.beta, mode="cg_j", spacing=region.spacing_mm, channel_axis=-1
        )
    return np.asarray(found == 1)


def seeds(
    settings: WalkerSettings,
    region: Region,
    drags_mm: tuple[float, ...],
    seen: Sequence[NDArray[np.bool_]],
) -> NDArray[np.int32]:
    """Return 1 where a region is foreground for sure, 2 where background, else 0."""
    before = region.mask > 0
    outside_mm = ndimage.distance_transform_edt(~before, sampling=region.spacing_mm)
    inside_mm = ndimage.distance_transform_edt(before, sampling=region.spacing_mm)
    if not before.any():
        outside_mm = np.full(before.shape, np.inf)
    labels = np.where(before, 1, 2)
    is_near_outline = np.where(
        before, inside_mm <= settings.inside_mm, outside_mm <= settings.outside_mm
    )
    for voxel, kind, drag_mm in zip(region.voxels, region.is_foreground, drags_mm, strict=True):
        in_doubt = (before != kind) | is_near_outline
        labels[in_doubt & region.ball(voxel, REACH * drag_mm + CLICK_MM)] = 0
    for voxel, kind, shown in zip(region.voxels, region.is_foreground, seen, strict=True):
        near = region.ball(voxel, CLICK_MM)
        labels[near & (shown != kind)] = 1 if kind else 2
    # After all the balls: one click must not take the voxel of another.
    for voxel, kind in zip(region.voxels, region.is_foreground, strict=True):
        labels[tuple(voxel)] = 1 if kind else 2
    return labels.astype(np.int32)
