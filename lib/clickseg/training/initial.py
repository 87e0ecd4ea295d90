"""Train the initial model of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clickseg.config import Config, WholeVolumeConfig
from clickseg.initial import TwoStage, WholeVolume
from clickseg.modelfile import Manifest
from clickseg.study import Case
from clickseg.training.fits import check_networks
from clickseg.training.loop import Run
from clickseg.training.prepare import prepare_cases
from clickseg.training.start import begin, finish, initial_metrics, select
from clickseg.training.two_stage import region_size, train_two_stage
from clickseg.training.whole_volume import train_whole_volume


def train_initial(
    cases: Sequence[Case],
    config: Config,
    out: Path,
    device: str,
    source: str = "",
    workers: int = 0,
) -> Manifest:
    """Train, validate and write the initial model.

    Raises:
        ConfigError: if a network does not fit its input.
        ImageError: if no case can be read.
    """
    check_networks(config)
    split = begin(cases, config, out)
    run = Run(out, "initial", config.seed, device, workers=workers)
    recipe = config.initial
    sides = [select(cases, ids) for ids in (split.training, split.validation)]
    if isinstance(recipe, WholeVolumeConfig):
        whole = train_whole_volume(sides[0], sides[1], recipe, run)
        metrics = initial_metrics(WholeVolume(whole, recipe), sides[1])
        return finish("initial", whole, config, split, run, metrics, source)
    training, validation = (
        prepare_cases(
            side,
            recipe.segment.spacing_mm,
            region_size(recipe),
            recipe.locate.spacing_mm,
            config.seed,
        )
        if side
        else []
        for side in sides
    )
    network = train_two_stage(training, validation, recipe, run)
    metrics = initial_metrics(TwoStage(network, recipe), sides[1])
    return finish("initial", network, config, split, run, metrics, source)
