"""Choose how one head is built."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Build:
    """How one head is built, in mm unless said otherwise."""

    scalp: float
    skull: float
    petrous_front: float
    ridge: float
    atrophy: float
    cpa: float
    pons: float
    arm: float
    give: float
    mastoid_air: float
    apex_marrow: float
    sinus_air: float

    @staticmethod
    def draw(rng: np.random.Generator) -> "Build":
        """Draw a head."""
        return Build(
            scalp=rng.uniform(3, 7.5),
            skull=rng.uniform(4.5, 8),
            petrous_front=rng.uniform(13, 18),
            ridge=rng.uniform(6, 10),
            atrophy=rng.uniform(0.3, 2.8),
            cpa=rng.uniform(0, 7.5),
            pons=rng.uniform(13.5, 18),
            arm=rng.uniform(6, 9),
            give=rng.uniform(0.1, 1),
            mastoid_air=rng.uniform(0.2, 1.0),
            apex_marrow=rng.uniform(0, 1),
            sinus_air=rng.uniform(0.8, 1.1),
        )
