"""What an initial segmentation answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clickseg.boxes import Slices


@dataclass(frozen=True, eq=False)
class Initial:
    """A first outline. ``mask`` is canonical uint8; ``prob`` fills ``box`` and is 0 outside."""

    mask: NDArray[np.uint8]
    prob: NDArray[np.float32]
    box: Slices
    uncertain_ijk: tuple[int, int, int] | None
