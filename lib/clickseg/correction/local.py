"""Correction around clicks: one small pass a click, fused; nothing changes far from a click.

The pass of a click sees the images, the start mask, the click and the earlier clicks of its kind
within ``visible_mm``, in a box of fixed size in mm. It may change voxels less than ``reach_mm``
away. So

* a voxel depends only on clicks within ``radius_mm = reach_mm + visible_mm`` of it: adding,
  moving or removing a click changes nothing beyond, compared with the answer without it;
* one more click costs one more pass: those of earlier clicks stay as they are;
* the result does not depend on how foreground and background clicks took turns, which viewers do
  not send: they send one list of each;
* undo is leaving a click out.
"""

from __future__ import annotations

from collections.abc import Hashable, MutableMapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn

from clickseg.clicks import Clicks, voxels_of
from clickseg.config import LocalConfig
from clickseg.correction.fusion import Pass, fuse, pin
from clickseg.correction.passes import make_pass
from clickseg.correction.result import Correction
from clickseg.cuts import Box
from clickseg.doubt import most_uncertain
from clickseg.guidance import draw_clicks
from clickseg.precision import answering, one_thread
from clickseg.study import Study

Memo = MutableMapping[tuple[Hashable, ...], Pass]
"""Passes already made for one study and start mask, by the clicks that they saw."""


class LocalCorrection:
    """Mend masks with a trained network."""

    def __init__(self, network: nn.Module, config: LocalConfig) -> None:
        self.network = network.eval()
        self.config = config
        self.radius_mm = config.reach_mm + config.visible_mm

    @one_thread()
    @torch.inference_mode()
    def __call__(
        self,
        study: Study,
        start: NDArray[np.uint8],
        clicks: Clicks,
        memo: Memo | None = None,
        spent: Correction | None = None,
    ) -> Correction:
        """Return the start mask, mended around the clicks.

        Args:
            study: the images.
            start: canonical uint8 ``(I, J, K)``; left alone.
            clicks: all clicks so far, those of a kind in the order made; on one voxel the last
                kind counts.
            memo: passes of earlier calls with the same study and start mask; added to.
            spent: an earlier answer for the same study and start mask that nobody reads any more:
                its mask becomes that of the new answer. To copy the start mask takes half as long
                as a pass.

        Raises:
            ValueError: if the start mask has another shape, or a click lies outside.
        """
        grid = study.grid.canonical
        if start.shape != grid.shape:
            raise ValueError(f"start mask is {start.shape}, the image {grid.shape}")
        voxels, is_foreground = _distinct(*voxels_of(clicks, grid))
        if (voxels < 0).any() or (voxels >= np.array(grid.shape)).any():
            raise ValueError(f"clicks must lie inside of an image of shape {grid.shape}")
        memo = {} if memo is None else memo
        image = torch.from_numpy(study.image)
        passes = []
        for kind in (True, False):
            made = voxels[is_foreground == kind]
            names = [tuple(voxel) for voxel in made.tolist()]
            seen = visible(made, grid.spacing_mm, self.config.visible_mm)
            for index, near in enumerate(seen):
                key = (kind, names[index], *sorted(names[number] for number in near))
                if key not in memo:
                    memo[key] = self._pass(image, start, grid.spacing_mm, made[near], kind)
                passes.append(memo[key])
        parts = fuse(start, passes)
        mask = study.grid.as_written(start) if spent is None else spent.taken_back(start)
        for logits, box in parts:
            mask[box] = logits > 0
        pin(mask, voxels, is_foreground)
        uncertain_ijk = most_uncertain(
            ((expit(logits), box) for logits, box in parts), grid.spacing_mm, voxels
        )
        boxes = tuple(box for _, box in parts)
        return Correction(mask, uncertain_ijk, self.radius_mm, boxes)

    def _pass(
        self,
        image: Tensor,
        start: NDArray[np.uint8],
        spacing_mm: NDArray[np.float64],
        seen_ijk: NDArray[np.int64],
        is_foreground: bool,
    ) -> Pass:
        """Run the network around the last click seen; all are of one kind."""
        config = self.config
        device = next(self.network.parameters(), torch.empty(0)).device
        center_ijk = seen_ijk[-1]
        box = Box.around(center_ijk.astype(float), spacing_mm, config.spacing_mm, config.cut)
        points = (seen_ijk - center_ijk) / np.array(box.step) + np.array(config.cut) // 2
        guidance = draw_clicks(
            points,
            np.full(len(points), is_foreground),
            config.cut,
            config.spacing_mm,
            config.guidance_mm,
        )
        cut = network_input(box.take(image), take_mask(box, start), torch.from_numpy(guidance))
        with answering(device):
            logits = self.network(cut[None].to(device))[0].float().cpu()
        where, values = box.put_back(logits, start.shape)  # type: ignore[arg-type]
        return make_pass(
            where,
            values[0].numpy(),
            image[(slice(None), *where)].numpy(),
            start,
            seen_ijk,
            is_foreground,
            spacing_mm,
            config,
        )


def visible(
    made: NDArray[np.int64],
    spacing_mm: NDArray[np.float64] | Sequence[float],
    visible_mm: float,
) -> list[list[int]]:
    """Return, for each click of one kind, which ones its pass sees: earlier ones nearby, and it.

    Args:
        made: voxels ``(N, 3)`` in the order made.
        spacing_mm: voxel size.
        visible_mm: largest distance.
    """
    points_mm = made * np.asarray(spacing_mm)
    near = np.linalg.norm(points_mm[:, None] - points_mm, axis=-1) <= visible_mm
    return [np.flatnonzero(row[: index + 1]).tolist() for index, row in enumerate(near)]


def network_input(image: Tensor, start: Tensor, guidance: Tensor) -> Tensor:
    """Stack what the network sees: T1ce, T2, start mask, foreground, background ``(5, ...)``."""
    return torch.cat([image.float(), start.float(), guidance.float()])


def take_mask(box: Box, start: NDArray[np.uint8]) -> Tensor:
    """Take the part of a canonical mask that a box covers, as 0/1 ``(1, *size)``.

    Only what lies near the box is converted to float: a whole mask would cost 16 ms.
    """
    near, corner = [], []
    for center, step, size, n in zip(box.center_ijk, box.step, box.size, start.shape, strict=True):
        half = (size // 2 + 1) * step
        first = int(np.clip(np.floor(center - half), 0, n - 1))
        near.append(slice(first, int(np.clip(np.ceil(center + half) + 1, first + 1, n))))
        corner.append(first)
    part = torch.from_numpy(np.ascontiguousarray(start[tuple(near)])).float()[None]
    i, j, k = (center - first for center, first in zip(box.center_ijk, corner, strict=True))
    return (Box((i, j, k), box.step, box.size).take(part) > 0.5).float()


def _distinct(
    voxels: NDArray[np.int64], is_foreground: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return one click a voxel, of the kind given last, where it was first given."""
    kinds = {tuple(v): bool(f) for v, f in zip(voxels.tolist(), is_foreground, strict=True)}
    places = np.array(list(kinds), dtype=np.int64).reshape(-1, 3)
    return places, np.array(list(kinds.values()), dtype=bool)
