"""Initial segmentation as published: one 3D U-Net on the whole, shrunken volume.

Each axial slice is resized to one in-plane size whatever its pixels are in mm; slices are not
resampled. Each sequence is scaled to 0 to 1. The network sees as many slices as its recipe says, 40
in the publication: scans with fewer are padded with zeros on both sides.

Differs from the publication where that cannot be done without the answer: it cropped 40 slices
around the tumor. Here a scan with more is covered by windows that overlap by half, and their
probabilities are averaged. In training the network never saw slices far from a tumor, so
it may find spurious ones there.
"""

from __future__ import annotations

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from clickseg.boxes import Slices
from clickseg.config import WholeVolumeConfig
from clickseg.doubt import most_uncertain
from clickseg.initial.result import Initial
from clickseg.intensity import intensity_range, to_unit_range
from clickseg.study import Study

FAINTEST = 0.05
"""Probabilities below this, far from the others, are not kept."""


class WholeVolume:
    """Segment studies with a trained network."""

    def __init__(self, network: nn.Module, config: WholeVolumeConfig) -> None:
        self.network = network.eval()
        self.config = config

    @torch.inference_mode()
    def __call__(self, study: Study) -> Initial:
        """Return the initial outline of a study: all voxels above one half."""
        device = next(self.network.parameters()).device
        limits = intensity_range(study.image)
        image = shrunken(torch.from_numpy(study.image), limits, self.config.size[:2]).to(device)
        prob = whole_prob(self.network, image, self.config.size).cpu()
        grid = study.grid.canonical
        full = resize_in_plane(prob, grid.shape[:2])[0].numpy()
        box = _box_of(full >= FAINTEST)
        inside: NDArray[np.float32] = np.ascontiguousarray(full[box])
        mask = (full > 0.5).astype(np.uint8)
        return Initial(mask, inside, box, most_uncertain([(inside, box)], grid.spacing_mm))


def shrunken(image: Tensor, limits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return ``(C, *size, K)`` in the range 0 to 1 of a ``(C, I, J, K)`` image.

    ``limits`` are those of the whole scan, of which ``image`` may be some slices.
    """
    return to_unit_range(resize_in_plane(image, size), limits).clamp(0, 1)


def whole_prob(network: nn.Module, image: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Return the probability ``(1, I, J, K)`` of a shrunken ``(C, I, J, K)`` image."""
    logits = sliding_window_inference(
        image[None], size, 1, network, overlap=0.5, mode="gaussian", padding_mode="constant"
    )
    prob: Tensor = torch.sigmoid(logits[0].float())
    return prob


def resize_in_plane(volume: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize the I and J axes of ``(C, I, J, K)``; outer faces stay where they are."""
    if tuple(volume.shape[1:3]) == size:
        return volume
    slices = volume.movedim(-1, 1)  # (C, K, I, J)
    resized = functional.interpolate(slices, size, mode="bilinear", antialias=True)
    return resized.movedim(1, -1)


def _box_of(mask: NDArray[np.bool_]) -> Slices:
    """Return the smallest box around a mask, without voxels if it is empty."""
    sides = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        sides.append(slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 0))
    return sides[0], sides[1], sides[2]
