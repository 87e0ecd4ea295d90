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
from pathlib import Path

import numpy as np
import torch
from monai.apps.deepedit.transforms import AddGuidanceSignalDeepEditd
from numpy.typing import NDArray
from torch import Tensor, nn

from clickseg.baselines.method import Answer, Mask, Session
from clickseg.baselines.strokes import FromNothing
from clickseg.boxes import bounding_box
from clickseg.clicks import Clicks, voxels_of
from clickseg.config import DeepEditConfig, RivalConfig, recipe_from
from clickseg.cuts import Box
from clickseg.modelfile import ModelError, load_weights, read_manifest
from clickseg.networks import build_network
from clickseg.precision import answering
from clickseg.study import Study

NAME = "rival"
"""Name of the model file."""

SEQUENCES = 2

LABELS = {"tumor": 1, "background": 0}
"""Channels of clicks, in their order, and what they say."""

Points = dict[str, list[list[int]]]


def guided(image: Tensor, points: Points) -> Tensor:
    """Add the channels of the clicks to ``(2, I, J, K)``; ``points`` are voxels by label."""
    add = AddGuidanceSignalDeepEditd("image", number_intensity_ch=SEQUENCES)
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
        mask = self.initial(study) if start is None else start
        return _Edit(self._network, self._config, study, mask)


@dataclass
class _Edit:
    network: nn.Module
    config: DeepEditConfig
    study: Study
    start: Mask

    @torch.inference_mode()
    def answer(self, clicks: Clicks, drags_mm: tuple[float, ...]) -> Answer:  # noqa: ARG002
        """Segment the surroundings anew."""
        voxels, is_foreground = voxels_of(clicks, self.study.grid.canonical)
        box = self._box(voxels[0])
        inside = (voxels - box.center_ijk) / box.step + np.array(box.size) // 2
        points = points_by_label(inside, is_foreground.tolist())
        seen = guided(box.take(torch.from_numpy(self.study.image)), points)
        with answering("cpu"):
            logits = self.network(seen[None])[0].float()
        where, values = box.put_back(logits, self.start.shape)  # type: ignore[arg-type]
        mask = self.start.copy()
        mask[where] = values[0].numpy() > 0
        return Answer(mask, None)

    def _box(self, first_ijk: NDArray[np.int64]) -> Box:
        """Return what the network sees: the same for all clicks of a session."""
        held = bounding_box(self.start)
        center = (
            first_ijk.astype(float)
            if held is None
            else np.rint([(side.start + side.stop - 1) / 2 for side in held])
        )
        spacing_mm = self.study.grid.canonical.spacing_mm
        return Box.around(center, spacing_mm, self.config.spacing_mm, self.config.patch)


def load_deep_edit(folder: Path) -> DeepEdit:
    """Load a trained network of a folder.

    Raises:
        ModelError: if it is missing, damaged, or not of the recipe that its manifest states.
    """
    manifest = read_manifest(folder, NAME)
    config = recipe_from(manifest.recipe, RivalConfig).rival
    if not isinstance(config, DeepEditConfig):
        raise ModelError(f"{folder} holds {config.method}, deep_edit was wanted")
    network = build_network(config.network.name, config.network.arguments)
    load_weights(folder, manifest, network)
    return DeepEdit(network, config, manifest.short_hash)
