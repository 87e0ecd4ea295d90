"""Train the initial model of a recipe."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from clickseg.config import Config, TwoStageConfig
from clickseg.initial import TwoStage
from clickseg.modelfile import Manifest
from clickseg.study import Case
from clickseg.training.loop import Run
from clickseg.training.prepare import prepare_cases
from clickseg.training.start import begin, finish, initial_metrics, select
from clickseg.training.two_stage import region_size, train_two_stage


def train_initial(cases: Sequence[Case], config: Config, out: Path, device: str) -> Manifest:
    """Train, validate and write the initial model.

    Raises:
        ImageError: if no case can be read.
    """
    started = time.time()
    split = begin(cases, config, out)
    recipe = config.initial
    if not isinstance(recipe, TwoStageConfig):
        raise NotImplementedError
    training, validation = (
        prepare_cases(
            select(cases, ids),
            recipe.segment.spacing_mm,
            region_size(recipe),
            recipe.locate.spacing_mm,
            config.seed,
        )
        if ids
        else []
        for ids in (split.training, split.validation)
    )
    run = Run(out, "initial", config.seed, device)
    network = train_two_stage(training, validation, recipe, run)
    metrics = initial_metrics(TwoStage(network, recipe), select(cases, split.validation))
    return finish("initial", network, config, split, out, metrics, started)
