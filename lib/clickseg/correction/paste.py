"""Correction as published: a 2D cut around each click, each pasted over what was there.

Every cut is taken from the images and the start mask, corrected by the network, and overwrites its
window in the order of the clicks. The faults its authors name are part of the rule and are kept:
a window may overwrite what was right, a later one undoes an earlier one, the kind of a click is
not seen by the network, and a clicked voxel need not become what the click says. `LocalCorrection`
has none of them.

Windows are measured in voxels, so their size in mm depends on the study.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clickseg.boxes import Slices
from clickseg.clicks import Clicks, voxels_of
from clickseg.config import PasteConfig
from clickseg.correction.result import Correction
from clickseg.doubt import most_uncertain
from clickseg.intensity import intensity_range, to_unit_range
from clickseg.study import Study

BATCH = 16
"""Cuts in one pass of the network."""

Size3 = tuple[int, int, int]


class PasteCorrection:
    """Mend masks with a trained network."""

    def __init__(self, network: nn.Module, config: PasteConfig) -> None:
        self.network = network.eval()
        self.config = config

    def radius_mm(self, spacing_mm: NDArray[np.float64]) -> float:
        """Return how far from a click a voxel may change: the far corner of its window."""
        reach = (
            np.array(cut_size(self.config)) // 2
        )  # the side of the lower indices is the longer one
        return float(np.linalg.norm(reach * spacing_mm))

    @torch.inference_mode()
    def __call__(
        self,
        study: Study,
        start: NDArray[np.uint8],
        clicks: Clicks,
        memo: MutableMapping[Any, Any] | None = None,  # noqa: ARG002  # passes are not kept
        spent: Correction | None = None,  # noqa: ARG002
    ) -> Correction:
        """Return the start mask with the window of every click overwritten, in their order.

        Args:
            study: the images.
            start: canonical uint8 ``(I, J, K)``; left alone.
            clicks: all clicks so far, in the order they were made.
            memo: not used.
            spent: not used.

        Raises:
            ValueError: if the start mask has another shape, or a click lies outside.
        """
        grid = study.grid.canonical
        if start.shape != grid.shape:
            raise ValueError(f"start mask is {start.shape}, the image {grid.shape}")
        voxels, _ = voxels_of(clicks, grid)
        if (voxels < 0).any() or (voxels >= np.array(grid.shape)).any():
            raise ValueError(f"clicks must lie inside of an image of shape {grid.shape}")
        mask, radius_mm = start.copy(), self.radius_mm(grid.spacing_mm)
        if not len(voxels):
            return Correction(mask, None, radius_mm, ())
        prob, box = self._paste(study, start, voxels)
        mask[box] = prob > 0.5
        uncertain_ijk = most_uncertain([(prob, box)], grid.spacing_mm)
        return Correction(mask, uncertain_ijk, radius_mm, (box,))

    def _paste(
        self, study: Study, start: NDArray[np.uint8], voxels: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], Slices]:
        """Return probabilities in a box around all windows; 0 or 1, as at the start, between."""
        image, limits = torch.from_numpy(study.image), intensity_range(study.image)
        size = cut_size(self.config)
        cuts = torch.stack([take_cut(image, limits, start, voxel, size) for voxel in voxels])
        device = next(self.network.parameters()).device
        probs = [
            torch.sigmoid(cut_logits(self.network, part.to(device)).float()).cpu().numpy()[:, 0]
            for part in torch.split(cuts, BATCH)
        ]
        windows = [_window(voxel, (*size[:2], probs[0].shape[-1])) for voxel in voxels]
        low = np.clip(np.min([first for first, _ in windows], axis=0), 0, None)
        high = np.minimum(np.max([last for _, last in windows], axis=0), start.shape)
        box = _slices(low, high)
        pasted = start[box].astype(np.float32)
        for prob, (first, last) in zip(np.concatenate(probs), windows, strict=True):
            inside, stop = np.maximum(first, low), np.minimum(last, high)
            pasted[_slices(inside - low, stop - low)] = prob[_slices(inside - first, stop - first)]
        return pasted, box


def cut_size(config: PasteConfig) -> Size3:
    """Return the size of a cut along I, J and K."""
    return (*config.cut, config.depth)


def take_cut(
    image: Tensor, limits: Tensor, mask: NDArray[np.uint8], voxel: NDArray[np.int64], size: Size3
) -> Tensor:
    """Return T1ce, T2 and mask, ``(3, *size)``, with the voxel at ``size // 2``.

    Sequences are scaled to 0 to 1; what lies beyond the image is 0.

    Args:
        image: ``(2, I, J, K)``.
        limits: its `intensity_range`.
        mask: ``(I, J, K)`` of 0 and 1.
        voxel: the click.
        size: along I, J and K.
    """
    first, last = _window(voxel, size)
    low, high = np.maximum(first, 0), np.minimum(last, mask.shape)
    there, here = _slices(low, high), _slices(low - first, high - first)
    cut = torch.zeros((len(image) + 1, *size))
    cut[(slice(0, -1), *here)] = to_unit_range(image[(slice(None), *there)], limits)
    cut[(-1, *here)] = torch.from_numpy(np.ascontiguousarray(mask[there])).float()
    return cut


def cut_logits(network: nn.Module, cuts: Tensor) -> Tensor:
    """Return logits ``(B, 1, H, W, D)`` of cuts ``(B, 3, H, W, K)``.

    D is K, or 1 where the network is 2D (K is 1) or answers for the middle slice alone.
    """
    if cuts.shape[-1] == 1:
        cuts = cuts[..., 0]
    logits: Tensor = network(cuts)
    return logits[..., None] if logits.ndim == 4 else logits


def _window(voxel: NDArray[np.int64], size: Size3) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first voxel of the window of a click, and the one after its last."""
    first = voxel - np.array(size) // 2
    return first, first + np.array(size)


def _slices(first: NDArray[np.int64], last: NDArray[np.int64]) -> Slices:
    i, j, k = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return i, j, k
