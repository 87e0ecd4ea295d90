"""Graph cut on a network's probabilities, with clicks as seeds that cannot be cut off.

The first half of BIFSeg (Wang 2018, doi 10.1109/TMI.2018.2791721): a voxel costs what the network
thinks of it, a cut between two costs less where the T1ce has an edge. By SciPy's maximum flow:
numpymaxflow, which MONAI Label uses for scribbles, cuts off seeds where cuts are dear and returns
memory that the next call overwrites. Probabilities are those of our initial network; where the
start mask is another one they follow the distance to its outline instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clickseg.baselines.method import Answer, Mask, Session
from clickseg.baselines.region import Region, region_of
from clickseg.baselines.seen import Seen
from clickseg.clicks import Clicks
from clickseg.initial import Initial
from clickseg.minimum_cut import between, minimum_cut, side_costs
from clickseg.study import Study

NEVER = 1e4
"""What it costs to give a seed to the other side: more than all cuts around it."""

CLICK_MM = 1.5
"""Radius of the seed of a click."""

SOFT_MM = 2.0
"""Over this distance the probability of a mask without a network goes from sure to sure."""


@dataclass(frozen=True)
class CutSettings:
    """What a cut costs between equal voxels, and the difference of T1ce at which it costs less.

    ``doubt_mm``: so far around a click the mask that it contradicts is not believed; None leaves
    that to the reader, who drags to the end of the error. ``likeness``: there a voxel is of the
    click's kind by how far its T1ce is from the click's, with this deviation; None is undecided.
    Without drags undecided voxels would fall to the smaller outline, which is the click's own seed.
    ``alone_mm``, ``alone``: the same where there is no outline to begin with: from nothing all of a
    tumor is undecided, and falls to the seed however it looks.
    """

    weight: float = 8.0
    sigma: float = 0.3
    doubt_mm: float | None = 2.0
    likeness: float | None = 1.0
    alone_mm: float | None = 6.0
    alone: float | None = 0.5


DRAGGED = CutSettings(weight=4.0, doubt_mm=None, likeness=None, alone_mm=None, alone=0.3)

GRID = [
    CutSettings(weight, sigma, doubt_mm, likeness)
    for weight in (2.0, 4.0, 8.0, 16.0)
    for sigma in (0.2, 0.3, 0.5)
    for doubt_mm in (0.0, 2.0, 4.0)
    for likeness in (0.5, 1.0)
]
DRAGGED_GRID = [
    CutSettings(weight, sigma, None, likeness, None, DRAGGED.alone)
    for weight in (1.0, 2.0, 4.0, 8.0, 16.0)
    for sigma in (0.2, 0.3, 0.5)
    for likeness in (None, 0.5, 1.0)
]


class GraphCut:
    """Start from our initial outline, or from any mask."""

    def __init__(
        self,
        initial: Callable[[Study], Initial],
        version: str,
        settings: CutSettings | None = None,
    ) -> None:
        self._settings = settings or CutSettings()
        self.version = f"{version} {self._settings}"
        self._initial = initial

    def initial(self, study: Study) -> Mask:
        """Return the initial outline."""
        return self._initial(study).mask

    def open(self, study: Study, start: Mask | None) -> Session:
        """Begin with a study and a start mask."""
        if start is not None:
            return _Cut(study, start, None, self._settings)
        initial = self._initial(study)
        return _Cut(study, initial.mask, initial, self._settings)


@dataclass
class _Cut:
    study: Study
    start: Mask
    initial: Initial | None
    settings: CutSettings
    seen: Seen = field(init=False)

    def __post_init__(self) -> None:
        self.seen = Seen(self.start)

    def answer(self, clicks: Clicks, drags_mm: tuple[float, ...]) -> Answer:
        return Answer(self.seen.after(clicks, drags_mm, self._answer), None)

    def _answer(self, clicks: Clicks, drags_mm: tuple[float, ...], seen: Sequence[Mask]) -> Mask:
        region = region_of(self.study, self.start, clicks)
        prob = softened(region) if self.initial is None else self._network(region)
        doubt_mm, likeness = self.settings.doubt_mm, self.settings.likeness
        if not self.start.any():
            doubt_mm, likeness = self.settings.alone_mm, self.settings.alone
        reach_mm = drags_mm if doubt_mm is None else (doubt_mm,) * len(clicks)
        shown = [before[region.where] > 0 for before in seen]
        contradict(prob, region, reach_mm, shown, likeness)
        mask = self.start.copy()
        mask[region.where] = cut(self.settings, region, prob)
        return mask

    def _network(self, region: Region) -> NDArray[np.float32]:
        assert self.initial is not None
        whole = np.zeros(self.start.shape, dtype=np.float32)
        whole[self.initial.box] = kept_prob(self.initial)
        return whole[region.where].copy()


def kept_prob(initial: Initial) -> NDArray[np.float32]:
    """Return the network's probability in the box of an outline that left parts of it out.

    The outline is one component. What else is more likely tumor than not was taken for something
    else, and is as likely background here: a cut of it as it is would bring all of that back.
    """
    is_left_out = (initial.prob > 0.5) & (initial.mask[initial.box] == 0)
    return np.where(is_left_out, 1 - initial.prob, initial.prob)


def contradict(
    prob: NDArray[np.float32],
    region: Region,
    reach_mm: tuple[float, ...],
    seen: Sequence[NDArray[np.bool_]],
    likeness: float | None = None,
) -> None:
    """Let the image decide, in place, where a click says that what the reader saw is wrong.

    As far as is given for each click: there the probability is 1/2, or follows the difference of
    T1ce to the click's. ``seen``: what was seen in the region at each click.
    """
    clicked = zip(region.voxels, region.is_foreground, reach_mm, seen, strict=True)
    for voxel, kind, radius_mm, shown in clicked:
        where = region.ball(voxel, radius_mm + CLICK_MM) & (shown != kind)
        if likeness is None:
            prob[where] = 0.5
        else:
            difference = (region.shown[where] - region.shown[tuple(voxel)]) / likeness
            alike = np.exp(-(difference**2) / 2)
            prob[where] = alike if kind else 1 - alike


def softened(region: Region) -> NDArray[np.float32]:
    """Return a probability that is 1/2 at the outline of a mask and grows to 1 inside of it."""
    before = region.mask > 0
    prob = np.zeros(before.shape)
    if before.any():
        inside_mm, outside_mm = (
            ndimage.distance_transform_edt(side, sampling=region.spacing_mm)
            for side in (before, ~before)
        )
        prob = np.clip(0.5 + (inside_mm - outside_mm) / (2 * SOFT_MM), 0, 1)
    return prob.astype(np.float32)


def cut(settings: CutSettings, region: Region, prob: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the foreground of a region; each click, and the ball around it, is on its side."""
    costs = side_costs(prob)  # no voxel but a click is beyond dispute
    for kind in (False, True):
        for voxel in region.voxels[region.is_foreground == kind]:
            _seed(costs, region.ball(voxel, CLICK_MM), kind)
    for voxel, kind in zip(region.voxels, region.is_foreground, strict=True):
        _seed(costs, tuple(voxel), bool(kind))  # no ball of the other kind covers a click
    borders = between(region.shown, region.spacing_mm, settings.weight, settings.sigma)
    return minimum_cut(costs, borders)


def _seed(costs: NDArray[Any], where: Any, is_foreground: bool) -> None:
    costs[(int(is_foreground), *np.index_exp[where])] = 0
    costs[(int(not is_foreground), *np.index_exp[where])] = NEVER
