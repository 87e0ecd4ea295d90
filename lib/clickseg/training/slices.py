"""A slice before a simulated reader, for the training of the 2D click networks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from clickseg.baselines.planar import Plane, Slice
from clickseg.baselines.recipe import PlanarConfig
from clickseg.boxes import bounding_box, center_of
from clickseg.cuts import Box
from clickseg.drags import drag_range_mm
from clickseg.reader import next_click

KIND_SHARES = 0.6, 0.3, 0.1
"""Of random clicks: in the tumor, beside it, anywhere in the background."""

BESIDE_MM = 4.0

WIDER = 0.1
"""Share by which the range of a drag is widened on either side."""


@dataclass
class Item:
    """A slice before a reader, its truth ``(I, J)``, a width of its window (None: as in use)."""

    part: Slice
    label: Plane
    side_mm: float | None

    def window(self, config: PlanarConfig) -> Box:
        """Return the window as in use, or one of the drawn width around tumor and mask."""
        if self.side_mm is None:
            return self.part.window(config)
        held = bounding_box((self.label > 0) | (self.part.mask > 0))
        assert held is not None
        return self.part.box(center_of(held), self.side_mm, config)

    def truth(self, box: Box) -> Tensor:
        """Return the label in a window, ``(1, window, window)``."""
        label = torch.from_numpy(self.label)[None, :, :, None].float()
        return (self.part.take(label, box) > 0.5).float()

    def click_at_error(self, rng: np.random.Generator) -> None:
        """Let the reader click once more, and drag as far as the error goes."""
        label, mask = self.label[:, :, None], self.part.mask[:, :, None]
        spacing_mm = (*self.part.spacing_mm, 1.0)
        clicked = [(i, j, 0) for i, j in self.part.points]
        found = next_click(label, mask, spacing_mm, clicked, "jitter", rng)
        if found is None:
            return
        (i, j, _), is_foreground = found
        tight, enclosing = drag_range_mm(label, mask, spacing_mm, (i, j, 0))
        # Of a single pixel the border is farther than its farthest pixel, itself.
        low, high = sorted((tight * (1 - WIDER), enclosing * (1 + WIDER)))
        drag = rng.uniform(low, high)
        self._add((i, j), is_foreground, float(drag))

    def click_at_random(self, rng: np.random.Generator) -> None:
        """Click in the tumor, just beside it, or now and then anywhere in the background."""
        beside_mm = ndimage.distance_transform_edt(self.label == 0, sampling=self.part.spacing_mm)
        kinds = self.label > 0, (beside_mm > 0) & (beside_mm < BESIDE_MM), self.label == 0
        free = kinds[int(rng.choice(3, p=KIND_SHARES))]
        i, j = rng.choice(np.argwhere(free)).tolist()
        self._add((i, j), bool(self.label[i, j]), 0.0)

    def _add(self, point: tuple[int, int], is_foreground: bool, drag: float) -> None:
        self.part.points.append(point)
        self.part.is_foreground.append(is_foreground)
        self.part.drags_mm.append(drag)
