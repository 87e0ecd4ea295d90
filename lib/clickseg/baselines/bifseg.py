"""BIFSeg: a graph cut on the network's probabilities, and a network that learns from the cut.

Wang 2018 (doi 10.1109/TMI.2018.2791721). After each click the cut of ``graph_cut`` is taken for the
truth of this one image, and the last layers of our fine network learn it: a voxel counts more on a
click, and nothing where the network is in doubt or where a click of the other kind is near, along
a way without edges. The cut is made again from what the network says then, for a few rounds.

The network sees one patch; beyond it, and before the first learning, the probability is that of
the start mask, as in ``graph_cut``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.graph import MCP_Geometric
from torch import Tensor, nn
from torch.nn import functional

from clickseg.baselines.graph_cut import DRAGGED, contradict, cut, kept_prob, softened
from clickseg.baselines.method import Answer, Mask, Session
from clickseg.baselines.region import Region, region_of
from clickseg.baselines.seen import Seen
from clickseg.boxes import Slices, bounding_box, center_of
from clickseg.clicks import Clicks
from clickseg.config import TwoStageConfig
from clickseg.cuts import Box
from clickseg.initial import Initial, TwoStage
from clickseg.initial.two_stage import segment_prob, with_edges
from clickseg.study import Study

ROUNDS = 2
"""How often the network learns the cut and is cut again, after each click."""

STEPS, RATE = 8, 1e-3
"""How long and how fast it learns in a round."""

CUT = DRAGGED
"""As in ``graph_cut_drags``."""

CLICK_WEIGHT = 5.0
"""A voxel of a click counts so much, others 1."""

IN_DOUBT = 0.2, 0.7
"""Voxels whose probability lies between do not count."""

CLICK_MM = 0.8
"""Radius of a click here: less than that of a seed of the cut, which only has to be safe."""

NEAR_MM = 3.0
"""Voxels do not count so near to a click of the other kind, where the way is without edges."""

EDGE = 1.0
"""How many mm longer a way is that crosses a difference of 1 in T1ce."""


class Bifseg:
    """Start from our initial outline, or from any mask."""

    def __init__(self, initial: TwoStage, version: str) -> None:
        settings = (ROUNDS, STEPS, RATE, CLICK_WEIGHT, *IN_DOUBT, CLICK_MM, NEAR_MM, EDGE)
        numbers = (f"{value:g}" for value in settings)
        self.version = " ".join([version, *numbers, str(CUT)])
        self._initial = initial

    def initial(self, study: Study) -> Mask:
        """Return the initial outline."""
        return self._initial(study).mask

    def open(self, study: Study, start: Mask | None) -> Session:
        """Begin with a study and a start mask; the network learns from this study alone."""
        network = copy.deepcopy(self._initial.network.segment)
        initial = self._initial(study) if start is None else None
        mask = start if initial is None else initial.mask
        assert mask is not None
        return _Learning(study, mask, initial, network, self._initial.config)


@dataclass
class _Learning:
    study: Study
    start: Mask
    initial: Initial | None
    network: nn.Module
    config: TwoStageConfig
    optimizer: torch.optim.Optimizer = field(init=False)
    seen: Seen = field(init=False)
    has_learned: bool = False

    def __post_init__(self) -> None:
        self.seen = Seen(self.start)
        # As in use: its instance norms keep no statistics, and training mode would answer by depth.
        self.network.eval().requires_grad_(False)
        body: Any = self.network
        last = nn.ModuleList([body.output_block, body.upsamples[-1]]).requires_grad_(True)
        self.optimizer = torch.optim.Adam(last.parameters(), RATE)

    def answer(self, clicks: Clicks, drags_mm: tuple[float, ...]) -> Answer:
        """Cut, then learn and cut again; what earlier calls learned stays."""
        return Answer(self.seen.after(clicks, drags_mm, self._answer), None)

    def _answer(self, clicks: Clicks, drags_mm: tuple[float, ...], seen: Sequence[Mask]) -> Mask:
        region = region_of(self.study, self.start, clicks)
        before = self._before(region)
        box = self._box(region)
        prob = self._prob(box, region, before) if self.has_learned else before
        first = prob.copy()
        shown = [mask[region.where] > 0 for mask in seen]
        contradict(first, region, drags_mm, shown)
        found = cut(CUT, region, first)
        for _ in range(ROUNDS):
            self._learn(box, region, found, prob)
            prob = self._prob(box, region, before)
            found = cut(CUT, region, prob)
        mask = self.start.copy()
        mask[region.where] = found
        return mask

    def _before(self, region: Region) -> NDArray[np.float32]:
        """Return the probability that the start mask stands for."""
        if self.initial is None:
            return softened(region)
        prob = np.zeros(region.mask.shape, dtype=np.float32)
        _lay(kept_prob(self.initial), self.initial.box, prob, region.where)
        return prob

    def _box(self, region: Region) -> Box:
        """Return what the network sees: one patch around mask and clicks, or the last click."""
        config = self.config.segment
        held = region.mask.copy()
        held[tuple(region.voxels.T)] = 1
        around = bounding_box(held)
        assert around is not None
        extent_mm = [side.stop - side.start for side in around] * region.spacing_mm
        fits = (extent_mm <= np.array(config.patch) * config.spacing_mm).all()
        corner = [side.start for side in region.where]
        center = (center_of(around) if fits else region.voxels[-1]) + corner
        return Box.around(np.rint(center), region.spacing_mm, config.spacing_mm, config.patch)

    def _prob(self, box: Box, region: Region, before: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the network says, in the region; beyond what it sees, what was before.

        It follows edges as in the initial outline, so that learning alone makes the difference.
        """
        patch = self.config.segment.patch
        with torch.inference_mode():
            said = segment_prob(self.network, self._image(box), patch, self.config.mirror)
        where, values = box.put_back(said, self.start.shape)  # type: ignore[arg-type]
        image = self.study.image[(slice(None), *where)]
        laid = with_edges(values[0].numpy(), image, region.spacing_mm, self.config)
        prob = before.copy()
        _lay(laid, where, prob, region.where)
        return without_left_out(prob, region)

    def _learn(
        self, box: Box, region: Region, found: NDArray[np.bool_], prob: NDArray[np.float32]
    ) -> None:
        truth = self._seen(box, region, found.astype(np.float32)) > 0.5
        weight = self._seen(box, region, weights(region, found, prob))
        image = self._image(box)[None]
        for _ in range(STEPS):
            loss = functional.binary_cross_entropy_with_logits(
                self.network(image), truth.float(), weight, reduction="sum"
            ) / weight.sum().clamp_min(1)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        self.has_learned = True

    def _image(self, box: Box) -> Tensor:
        return box.take(torch.from_numpy(self.study.image))

    def _seen(self, box: Box, region: Region, values: NDArray[np.float32]) -> Tensor:
        """Bring values of the region to what the network sees; beyond the region they are 0."""
        whole = torch.zeros(1, *self.start.shape)
        whole[(0, *region.where)] = torch.from_numpy(values)
        return box.take(whole, "nearest")[None]


def without_left_out(prob: NDArray[np.float32], region: Region) -> NDArray[np.float32]:
    """Return a probability without parts that neither the start mask nor a click on tumor holds.

    What the network takes for tumor there is not in the outline, which is one component: as in
    ``kept_prob`` it is as likely background, for the cut and for what is learned of it.
    """
    parts, _ = ndimage.label(prob > 0.5, np.ones((3, 3, 3)))
    held = region.mask > 0
    for voxel in region.voxels[region.is_foreground]:
        held |= region.ball(voxel, CLICK_MM)
    is_left_out = (parts > 0) & ~np.isin(parts, parts[held])
    return np.where(is_left_out, 1 - prob, prob)


def weights(
    region: Region, found: NDArray[np.bool_], prob: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return how much each voxel of a region counts when the network learns a cut.

    Args:
        region: with the clicks.
        found: the cut.
        prob: what the network says, before any click contradicts it.
    """
    low, high = IN_DOUBT
    weight = ((prob <= low) | (prob >= high)).astype(np.float32)
    for kind in (True, False):
        voxels = region.voxels[region.is_foreground == kind]
        if len(voxels):
            weight[(found != kind) & (_way_mm(region, voxels) < NEAR_MM)] = 0
    for voxel in region.voxels:
        weight[region.ball(voxel, CLICK_MM)] = CLICK_WEIGHT
    return weight


def _way_mm(region: Region, voxels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the length of the way to the nearest click, longer across edges of the image."""
    image = region.shown.astype(float)
    steep = np.zeros(image.shape)  # change a mm
    for axis, spacing in enumerate(region.spacing_mm):
        if image.shape[axis] > 1:
            steep += np.gradient(image, spacing, axis=axis) ** 2
    ways = MCP_Geometric(1 + EDGE * np.sqrt(steep), sampling=tuple(region.spacing_mm))
    lengths, _ = ways.find_costs([tuple(voxel) for voxel in voxels])
    return np.asarray(lengths)


def _lay(
    values: NDArray[np.float32], where: Slices, target: NDArray[np.float32], place: Slices
) -> None:
    """Copy what two boxes have in common from the first to the second, in place."""
    both = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(where, place, strict=True)]
    if any(start >= stop for start, stop in both):
        return
    source, goal = (
        tuple(slice(a - side.start, b - side.start) for (a, b), side in zip(both, box, strict=True))
        for box in (where, place)
    )
    target[goal] = values[source]
