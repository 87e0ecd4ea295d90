"""Train a method that ours is compared with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from clickseg.baselines.planar import NAME, PlanarNetwork
from clickseg.config import RivalConfig
from clickseg.modelfile import Manifest
from clickseg.study import Case
from clickseg.training.loop import Run
from clickseg.training.planar import planar_dice, train_planar
from clickseg.training.prepare import prepare_cases
from clickseg.training.start import begin, finish, select

SPACING_MM = (0.5, 0.5, 1.5)
"""Of the regions that are kept: the native resolution of the public data set, about."""

REGION = (144, 144, 36)

COARSE_MM = (3.0, 3.0, 3.0)
"""What lies beyond the region is not looked at."""


def train_rival(
    cases: Sequence[Case], config: RivalConfig, out: Path, device: str, source: str = ""
) -> Manifest:
    """Train, validate and write a model.

    Raises:
        ImageError: if no case can be read.
    """
    started = time.time()
    split = begin(cases, config, out)
    run = Run(out, NAME, config.seed, device)
    training, validation = (
        prepare_cases(select(cases, ids), SPACING_MM, REGION, COARSE_MM, config.seed) if ids else []
        for ids in (split.training, split.validation)
    )
    torch.manual_seed(run.seed)
    network = PlanarNetwork(config.rival)
    pixel_mm = SPACING_MM[:2]
    train_planar(network, training, validation, pixel_mm, config.rival, run)
    metrics = {
        f"slice_dice_after_{clicks}": round(
            planar_dice(network, validation, pixel_mm, config.rival, clicks), 4
        )
        for clicks in (1, 3, 5)
        if validation
    }
    return finish(NAME, network, config, split, out, metrics, started, source)
