"""Train a method that ours is compared with."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from clickseg.baselines.planar import PlanarNetwork
from clickseg.baselines.rivals import NAME
from clickseg.config import ConfigError, DeepEditConfig, RivalConfig
from clickseg.modelfile import Manifest
from clickseg.networks import build_network
from clickseg.study import Case
from clickseg.training.deep_edit import deep_edit_dice, train_deep_edit
from clickseg.training.loop import Run
from clickseg.training.planar import planar_dice, train_planar
from clickseg.training.prepare import prepare_cases
from clickseg.training.start import begin, finish, select

SPACING_MM = (0.5, 0.5, 1.5)
"""Of the slices: the native resolution of the public data set, about."""

REGION = (144, 144, 36)

COARSE_MM = (3.0, 3.0, 3.0)
"""Of the whole volumes, which are kept but not looked at here."""


def train_rival(
    cases: Sequence[Case],
    config: RivalConfig,
    out: Path,
    device: str,
    source: str = "",
    workers: int = 0,
    errors: Path | None = None,
) -> Manifest:
    """Train, validate and write a model.

    ``errors``: real errors that a training of our correction wrote; of other cases none are taken.

    Raises:
        ConfigError: if ``errors`` cannot be read, is of masks that do not fit, or is given to a
            method that begins with no mask.
        ImageError: if no case can be read.
    """
    real = {} if errors is None else _read_errors(errors, config)
    split = begin(cases, config, out)
    run = Run(out, NAME, config.seed, device, workers=workers)
    recipe = config.rival
    metrics: dict[str, float] = {}
    spacing_mm = recipe.spacing_mm if isinstance(recipe, DeepEditConfig) else SPACING_MM
    training, validation = (
        prepare_cases(select(cases, ids), spacing_mm, REGION, COARSE_MM, config.seed) if ids else []
        for ids in (split.training, split.validation)
    )
    torch.manual_seed(run.seed)
    if isinstance(recipe, DeepEditConfig):
        editor = build_network(recipe.network.name, recipe.network.arguments)
        train_deep_edit(editor, training, validation, recipe, run)
        if validation:
            metrics = {
                f"region_dice_after_{clicks}": deep_edit_dice(
                    editor, validation, recipe, device, clicks
                )
                for clicks in (0, 1, 3)
            }
        return finish(NAME, editor, config, split, run, metrics, source)
    network, pixel_mm = PlanarNetwork(recipe), SPACING_MM[:2]
    train_planar(network, training, validation, pixel_mm, recipe, run, real)
    metrics["real_errors"] = float(sum(case.case_id in real for case in training))
    if validation:
        metrics |= {
            f"slice_dice_after_{clicks}": planar_dice(network, validation, pixel_mm, recipe, clicks)
            for clicks in (1, 3, 5)
        }
    return finish(NAME, network, config, split, run, metrics, source)


def _read_errors(path: Path, config: RivalConfig) -> dict[str, Tensor]:
    if isinstance(config.rival, DeepEditConfig):
        raise ConfigError("deep_edit begins with no mask: it learns from no real errors")
    try:
        real: dict[str, Tensor] = torch.load(path, weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise ConfigError(f"{path} cannot be read as real_errors.pt of a correction") from error
    shapes = {tuple(mask.shape) for mask in real.values()}
    if shapes != {(1, *REGION)}:
        raise ConfigError(
            f"{path} must hold masks of shape {(1, *REGION)} at {SPACING_MM} mm, it has "
            f"{', '.join(map(str, sorted(shapes))) or 'none'}"
        )
    return real
