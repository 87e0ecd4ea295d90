"""Choose how bright each tissue is in one study.

T1ce is relative to white matter (about 1), T2 to cerebrospinal fluid (about 1).
"""

from dataclasses import dataclass

import numpy as np

Tissue = tuple[float, float]
"""Brightness on T1ce and on T2."""

RANGES: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    # name: T1ce from, to; T2 from, to
    "air": ((0.01, 0.03), (0.01, 0.03)),
    "bone": ((0.06, 0.16), (0.03, 0.09)),
    "marrow": ((0.5, 1.5), (0.14, 0.34)),
    "fat": ((0.7, 1.8), (0.18, 0.42)),
    "skin": ((0.35, 0.9), (0.12, 0.3)),
    "muscle": ((0.5, 0.75), (0.08, 0.2)),
    "mucosa": ((1.0, 1.6), (0.35, 0.65)),
    "vitreous": ((0.15, 0.35), (0.25, 0.8)),
    "csf": ((0.15, 0.34), (0.85, 1.1)),
    "gray": ((0.66, 0.92), (0.2, 0.5)),
    "white": ((0.96, 1.04), (0.1, 0.32)),
    "stem": ((0.86, 1.04), (0.14, 0.44)),
    "nerve": ((0.6, 0.95), (0.15, 0.32)),
    "meninges": ((0.7, 1.35), (0.1, 0.3)),
    "pituitary": ((1.2, 1.8), (0.25, 0.45)),
    "plexus": ((1.15, 1.9), (0.4, 0.75)),
}


@dataclass(frozen=True)
class Contrast:
    """The brightness of every tissue in one study."""

    tissues: dict[str, Tissue]

    def __getitem__(self, name: str) -> Tissue:
        """Return the brightness of a tissue on T1ce and T2."""
        return self.tissues[name]

    @staticmethod
    def draw(rng: np.random.Generator) -> "Contrast":
        """Draw a contrast: each tissue in its range, all of the head scaled together."""
        gain = rng.uniform(0.85, 1.12)
        tissues = {
            name: (float(gain * rng.uniform(*t1)), float(rng.uniform(*t2)))
            for name, (t1, t2) in RANGES.items()
        }
        return Contrast(tissues)

    @staticmethod
    def draw_vessel(rng: np.random.Generator) -> Tissue:
        """Draw an enhancing vessel: bright on T1ce, a flow void on T2 (sometimes not quite)."""
        return float(rng.uniform(1.1, 1.95)), float(rng.uniform(0.03, 0.3))
