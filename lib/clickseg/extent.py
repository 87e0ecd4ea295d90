"""How much of a volume a mask fills, and where: kept up to date without another look at it all.

A look at a whole mask of 448x448x80 takes longer than the network needs for a click.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clickseg.boxes import Slices, bounding_box, hull

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Extent:
    """How many voxels of a mask are set, and a box that holds them (None: there are none)."""

    voxels: int
    box: Slices | None

    @classmethod
    def of(cls, mask: Mask) -> Extent:
        """Look at all of a mask ``(I, J, K)``."""
        box = bounding_box(mask)
        if box is None:
            return cls(0, None)
        i, j, k = box
        return cls(int(np.count_nonzero(mask[i, j, k])), (i, j, k))

    def after(self, before: Mask, mask: Mask, boxes: Sequence[Slices] | None) -> tuple[Extent, int]:
        """Return the extent of a changed mask, and how many voxels changed.

        Args:
            before: the mask whose extent this is.
            mask: what it became.
            boxes: hold all that changed and do not overlap; None: it may be anywhere. The box
                returned may be larger than the smallest.
        """
        if boxes is None:
            return Extent.of(mask), int(np.count_nonzero(mask != before))
        voxels, changed = self.voxels, 0
        for box in boxes:
            voxels += int(np.count_nonzero(mask[box])) - int(np.count_nonzero(before[box]))
            changed += int(np.count_nonzero(mask[box] != before[box]))
        held = [*([] if self.box is None else [self.box]), *boxes]
        return Extent(voxels, hull(held) if voxels else None), changed
