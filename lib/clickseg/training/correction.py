"""Train the correction model of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from clickseg.config import Config, ConfigError, PasteConfig, TwoStageConfig
from clickseg.correction import LocalCorrection
from clickseg.modelfile import Manifest
from clickseg.models import load_initial
from clickseg.networks import build_network
from clickseg.study import Case
from clickseg.training.cuts2d import train_cuts2d
from clickseg.training.fits import check_networks
from clickseg.training.local import click_scores, train_local
from clickseg.training.loop import Run
from clickseg.training.prepare import prepare_cases
from clickseg.training.real_errors import real_errors
from clickseg.training.split import told_of
from clickseg.training.start import begin, finish, select
from clickseg.training.two_stage import region_size


def train_correction(
    cases: Sequence[Case],
    config: Config,
    out: Path,
    device: str,
    source: str = "",
    workers: int = 0,
) -> Manifest:
    """Train, validate and write the correction model.

    A ``paste`` recipe learns the errors of the initial model in ``out``, which must be there.

    Raises:
        ConfigError: if a network does not fit its input, or a ``local`` correction is of another
            than a ``two_stage`` initial model.
        ImageError: if no case can be read.
        ModelError: if there is no initial model where one is needed.
    """
    check_networks(config)
    split = begin(cases, config, out)
    run = Run(out, "correction", config.seed, device, workers=workers)
    initial, recipe = config.initial, config.correction
    sides = [select(cases, ids) for ids in (split.training, split.validation)]
    if isinstance(recipe, PasteConfig):
        segment, _ = load_initial(out, device)
        pasting, metrics = train_cuts2d(sides[0], sides[1], segment, recipe, run)
        return finish("correction", pasting, config, split, run, metrics, source)
    if not isinstance(initial, TwoStageConfig):
        raise ConfigError("correction.method local is trained with initial.method two_stage only")
    training, validation = (
        prepare_cases(
            side,
            recipe.spacing_mm,
            region_size(initial),
            initial.locate.spacing_mm,
            config.seed,
        )
        if side
        else []
        for side in sides
    )
    real = real_errors(training, validation, initial, config.split, run, told_of(cases))
    torch.manual_seed(run.seed)
    network = build_network(recipe.network.name, recipe.network.arguments)
    train_local(network, training, validation, real, recipe, run)
    metrics = click_scores(LocalCorrection(network, recipe), validation, real, recipe, clicks=5)
    return finish("correction", network, config, split, run, metrics, source)
