"""BIFSeg: a graph cut on the network's probabilities, and a network that learns from the cut.

Wang 2018 (doi 10.1109/TMI.2018.2791721). After each click the cut of ``graph_cut`` is taken for the
truth of this one image, and the last layers of our fine network learn it: a voxel counts more on a
click, and nothing where the network is in doubt or where a click of the other kind is near, along
a way without edges. The cut is made again from what the network says then, for a few rounds.

Where the start mask is not the network's own, its probabilities are used from the second cut on.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.graph import MCP_Geometric
from torch import Tensor, nn
from torch.nn import functional

from clickseg.baselines.graph_cut import contradict, cut, softened
from clickseg.baselines.method import Answer, Mask, Session
from clickseg.baselines.region import Region, region_of
from clickseg.boxes import bounding_box
from clickseg.clicks import Clicks
from clickseg.config import SegmentConfig
from clickseg.cuts import Box
from clickseg.initial import TwoStage
from clickseg.precision import answering
from clickseg.study import Study

ROUNDS = 2
"""How often the network learns the cut and is cut again, after each click."""

STEPS, RATE = 8, 1e-3
"""How long and how fast it learns in a round."""

CLICK_WEIGHT = 5.0
"""A voxel of a click counts so much, others 1."""

IN_DOUBT = 0.2, 0.7
"""A background voxel of a higher probability, a foreground voxel of a lower one do not count."""

CLICK_MM = 0.8
"""Radius of a click here: less than that of a seed of the cut, which only has to be safe."""

NEAR_MM = 3.0
"""Voxels do not count so near to a click of the other kind, where the way is without edges."""

EDGE = 1.0
"""How much longer a way is that crosses a difference of 1 in T1ce."""


class Bifseg:
    """Start from our initial outline, or from any mask."""

    def __init__(self, initial: TwoStage, version: str) -> None:
        self.version = f"{version} rounds {ROUNDS} steps {STEPS} rate {RATE:g}"
        self._initial = initial

    def initial(self, study: Study) -> Mask:
        """Return the initial outline."""
        return self._initial(study).mask

    def open(self, study: Study, start: Mask | None) -> Session:
        """Begin with a study and a start mask; the network learns from this study alone."""
        network = copy.deepcopy(self._initial.network.segment)
        mask = self.initial(study) if start is None else start
        return _Learning(study, mask, network, self._initial.config.segment, start is None)


@dataclass
class _Learning:
    study: Study
    start: Mask
    network: nn.Module
    config: SegmentConfig
    is_own: bool
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.network.requires_grad_(False)
        body: Any = self.network
        last = nn.ModuleList([body.output_block, body.upsamples[-1]]).requires_grad_(True)
        learned = last.parameters()
        self.optimizer = torch.optim.Adam(learned, RATE)

    def answer(self, clicks: Clicks, drags_mm: tuple[float, ...]) -> Answer:
        """Cut, then learn and cut again."""
        region = region_of(self.study, self.start, clicks)
        box = self._box(region)
        prob = self._prob(box, region) if self.is_own else softened(region)
        contradict(prob, region, drags_mm)
        found = cut(region, prob)
        for _ in range(ROUNDS):
            self._learn(box, region, found, prob)
            self.is_own = True
            prob = self._prob(box, region)
            contradict(prob, region, drags_mm)
            found = cut(region, prob)
        mask = self.start.copy()
        mask[region.where] = found
        return Answer(mask, None)

    def _box(self, region: Region) -> Box:
        """Return what the network sees: one patch around the mask and the clicks."""
        held = region.mask.copy()
        held[tuple(region.voxels.T)] = 1
        around = bounding_box(held)
        assert around is not None
        center = [
            (side.start + side.stop - 1) / 2 + whole.start
            for side, whole in zip(around, region.where, strict=True)
        ]
        config = self.config
        return Box.around(np.rint(center), region.spacing_mm, config.spacing_mm, config.patch)

    @torch.inference_mode()
    def _prob(self, box: Box, region: Region) -> NDArray[np.float32]:
        """Return what the network says, in the region; 0 beyond what it sees."""
        shape = self.start.shape
        with answering("cpu"):
            logits = self.network.eval()(self._image(box)).float()
        where, values = box.put_back(torch.sigmoid(logits)[0], shape)  # type: ignore[arg-type]
        whole = np.zeros(shape, dtype=np.float32)
        whole[where] = values[0].numpy()
        return whole[region.where].copy()

    def _learn(
        self, box: Box, region: Region, found: NDArray[np.bool_], prob: NDArray[np.float32]
    ) -> None:
        truth = self._seen(box, region, found.astype(np.float32)) > 0.5
        weight = self._seen(box, region, weights(region, found, prob))
        image = self._image(box)
        with _training(self.network):
            for _ in range(STEPS):
                logits = self.network(image)
                loss = functional.binary_cross_entropy_with_logits(
                    logits, truth.float(), weight, reduction="sum"
                ) / weight.sum().clamp_min(1)
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                self.optimizer.step()

    def _image(self, box: Box) -> Tensor:
        return box.take(torch.from_numpy(self.study.image))[None]

    def _seen(self, box: Box, region: Region, values: NDArray[np.float32]) -> Tensor:
        """Bring values of the region to what the network sees; beyond the region they are 0."""
        whole = torch.zeros(1, *self.start.shape)
        whole[(0, *region.where)] = torch.from_numpy(values)
        return box.take(whole, "nearest")[None]


def weights(
    region: Region, found: NDArray[np.bool_], prob: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return how much each voxel of a region counts when the network learns a cut."""
    low, high = IN_DOUBT
    weight = np.where(found, prob >= high, prob <= low).astype(np.float32)
    for kind in (True, False):
        voxels = region.voxels[region.is_foreground == kind]
        if len(voxels):
            weight[(found != kind) & (_way_mm(region, voxels) < NEAR_MM)] = 0
    for voxel in region.voxels:
        weight[region.ball(voxel, CLICK_MM)] = CLICK_WEIGHT
    return weight


def _way_mm(region: Region, voxels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the length of the way to the nearest click, longer across edges of the T1ce."""
    t1ce = region.image[0].astype(float)
    steps = np.gradient(t1ce, axis=(0, 1, 2))
    cost = 1 + EDGE * np.sqrt(sum(step**2 for step in steps))
    ways = MCP_Geometric(cost, sampling=tuple(region.spacing_mm))
    lengths, _ = ways.find_costs([tuple(voxel) for voxel in voxels])
    return np.asarray(lengths)


@contextmanager
def _training(network: nn.Module) -> Iterator[None]:
    network.train()
    try:
        yield
    finally:
        network.eval()
