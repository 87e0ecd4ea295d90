"""Train the correction model of a recipe."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from clickseg.config import Config, LocalConfig, TwoStageConfig
from clickseg.correction import LocalCorrection
from clickseg.modelfile import Manifest
from clickseg.networks import build_network
from clickseg.study import Case
from clickseg.training.local import click_scores, train_local
from clickseg.training.loop import Run
from clickseg.training.prepare import prepare_cases
from clickseg.training.real_errors import real_errors
from clickseg.training.start import begin, finish, select
from clickseg.training.two_stage import region_size


def train_correction(cases: Sequence[Case], config: Config, out: Path, device: str) -> Manifest:
    """Train, validate and write the correction model.

    Raises:
        ImageError: if no case can be read.
    """
    started = time.time()
    split = begin(cases, config, out)
    initial, recipe = config.initial, config.correction
    if not isinstance(initial, TwoStageConfig) or not isinstance(recipe, LocalConfig):
        raise NotImplementedError
    training, validation = (
        prepare_cases(
            select(cases, ids),
            recipe.spacing_mm,
            region_size(initial),
            initial.locate.spacing_mm,
            config.seed,
        )
        if ids
        else []
        for ids in (split.training, split.validation)
    )
    run = Run(out, "correction", config.seed, device)
    real = real_errors(training, validation, initial, config.split, run)
    network = build_network(recipe.network.name, recipe.network.arguments)
    train_local(network, training, validation, real, recipe, run)
    metrics = click_scores(LocalCorrection(network, recipe), validation, real, recipe, clicks=5)
    return finish("correction", network, config, split, out, metrics, started)
