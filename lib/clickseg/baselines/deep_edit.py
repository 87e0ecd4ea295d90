"""DeepEdit: one network that segments anew at each click, by itself where there is none.

Diaz-Pinto 2022 (arXiv:2203.10655), on MONAI's transforms: clicks are Gaussians in channels of their
own, beside T1ce and T2. The network sees no previous mask.

Mended: MONAI's ``Interaction`` blanks the second sequence where it means to blank the clicks, and
the clicks of the first item of a batch only (see ``clickseg.training.deep_edit``). And it is
helped: in place of the whole head, shrunk, it sees the surroundings of the start mask, or of the
first click, in full resolution; what lies beyond stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.apps.deepedit.transforms import AddGuidanceSignalDeepEditd
from numpy.typing import NDArray
from torch import Tensor, nn

from clickseg.baselines.method import Answer, Mask, Session
from clickseg.baselines.recipe import DeepEditConfig
from clickseg.baselines.strokes import FromNothing
from clickseg.boxes import bounding_box, center_of
from clickseg.clicks import Clicks, voxels_of
from clickseg.cuts import Box
from clickseg.precision import answering
from clickseg.study import Study

SEQUENCES = 2

LABELS = {"tumor": 1, "background": 0}
"""Channels of clicks, in their order, and what they say."""

Points = dict[str, list[list[int]]]


def guided(image: Tensor, points: Points) -> Tensor:
    """Add the channels of the clicks to ``(2, I, J, K)``; ``points`` are voxels by label."""
    add = AddGuidanceSignalDeepEditd("image", number_intensity_ch=SEQUENCES)
    with torch.autocast("cpu", enabled=False):  # a training step's bfloat16 is too much for MONAI
        channels = add({"image": image.numpy(), "guidance": points})["image"]
    return torch.from_numpy(np.asarray(channels, dtype=np.float32))


def points_by_label(
    voxels: NDArray[np.float64] | NDArray[np.int64], is_foreground: Sequence[bool]
) -> Points:
    """Divide clicks ``(N, 3)`` by what they say."""
    kinds = np.asarray(is_foreground, dtype=bool)
    rounded = np.rint(np.asarray(voxels).reshape(-1, 3)).astype(int)
    return {name: rounded[kinds == bool(value)].tolist() for name, value in LABELS.items()}


class DeepEdit(FromNothing):
    """A trained network; start from any mask, or from nothing."""

    def __init__(self, network: nn.Module, config: DeepEditConfig, version: str) -> None:
        self.version = version
        self._network = network.eval()
        self._config = config

    def open(self, study: Study, start: Mask | None) -> Session:
        """Begin with a study and a start mask."""
        mask = (self.initial(study) if start is None else start).copy()
        held = bounding_box(mask)
        center = None if held is None else center_of(held)
        return _Edit(self._network, self._config, study, mask, center)


@dataclass
class _Edit:
    network: nn.Module
    config: DeepEditConfig
    study: Study
    mask: Mask
    center: NDArray[np.float64] | None

    @torch.inference_mode()
    def answer(self, clicks: Clicks, drags_mm: tuple[float, ...]) -> Answer:  # noqa: ARG002
        """Segment the surroundings anew."""
        voxels, is_foreground = voxels_of(clicks, self.study.grid.canonical)
        box = self._box(voxels[-1])
        inside = (voxels - box.center_ijk) / box.step + np.array(box.size) // 2
        is_seen = ((inside > -0.5) & (inside < np.array(box.size) - 0.5)).all(axis=1)
        points = points_by_label(inside[is_seen], is_foreground[is_seen].tolist())
        seen = guided(box.take(torch.from_numpy(self.study.image)), points)
        with answering("cpu"):
            logits = self.network(seen[None])[0].float()
        where, values = box.put_back(logits, self.mask.shape)  # type: ignore[arg-type]
        self.mask[where] = values[0].numpy() > 0
        return Answer(self.mask.copy(), None)

    def _box(self, last_ijk: NDArray[np.int64]) -> Box:
        """Return what the network sees: moved no farther than to see well around the last click."""
        spacing_mm = self.study.grid.canonical.spacing_mm
        if self.center is None:
            self.center = last_ijk.astype(float)
        room = np.array(self.config.patch) * self.config.spacing_mm / spacing_mm / 4
        self.center = np.rint(np.clip(self.center, last_ijk - room, last_ijk + room))
        return Box.around(self.center, spacing_mm, self.config.spacing_mm, self.config.patch)
