"""What a correction answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clickseg.boxes import Slices


@dataclass(frozen=True, eq=False)
class Correction:
    """A mended outline.

    ``mask`` is canonical uint8; ``uncertain_ijk`` where a click would tell most; ``radius_mm`` how
    far from a click the mask may differ from what it would be without that click; ``boxes``, which
    do not overlap, hold all that differs from the start mask (None: it may differ anywhere).
    """

    mask: NDArray[np.uint8]
    uncertain_ijk: tuple[int, int, int] | None
    radius_mm: float
    boxes: tuple[Slices, ...] | None = None

    def taken_back(self, start: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Make the mask the start mask again, in place, and return it."""
        if self.boxes is None:
            np.copyto(self.mask, start)
        for box in self.boxes or ():
            self.mask[box] = start[box]
        return self.mask
