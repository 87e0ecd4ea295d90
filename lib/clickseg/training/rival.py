"""Train a method that ours is compared with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clickseg.atomic import write_text
from clickseg.baselines.planar import PlanarNetwork
from clickseg.baselines.recipe import DeepEditConfig, RivalConfig
from clickseg.baselines.rivals import NAME
from clickseg.config import ConfigError
from clickseg.metrics import dice
from clickseg.modelfile import Manifest
from clickseg.networks import build_network
from clickseg.study import Case
from clickseg.training.deep_edit import deep_edit_dice, train_deep_edit
from clickseg.training.loop import Run
from clickseg.training.planar import planar_dice, train_planar
from clickseg.training.prepare import Prepared, prepare_cases
from clickseg.training.processes import by_first
from clickseg.training.start import begin, finish, select

SPACING_MM = (0.5, 0.5, 1.5)
"""Of the slices: the native resolution of the public data set, about."""

REGION = (144, 144, 36)

COARSE_MM = (3.0, 3.0, 3.0)
"""Of the whole volumes, which are kept but not looked at here."""


LEAST_OVERLAP = 0.1
"""Of the median mask with its label, as Dice: less is of other studies with the same names."""

GIVEN = "given_errors.json"
"""In a run's folder: the hash of the real errors that it began with."""


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

    ``errors``: real errors that a training of our correction wrote, of the same studies.

    Raises:
        ConfigError: if ``errors`` cannot be read, is of other studies or regions, is not what the
            run began with, or is given to a method or recipe that makes no use of it.
        ImageError: if no case can be read.
    """
    real = {} if errors is None else _read_errors(errors, config)
    given = {"real_errors": {"sha256": _hash(errors), "studies": len(real)}} if errors else {}
    by_first(lambda: _go_on_with(given, out))
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
    if errors is not None:
        _check_errors(errors, real, training)
    network, pixel_mm = PlanarNetwork(recipe), SPACING_MM[:2]
    train_planar(network, training, validation, pixel_mm, recipe, run, real)
    if validation:
        metrics = {
            f"slice_dice_after_{clicks}": planar_dice(network, validation, pixel_mm, recipe, clicks)
            for clicks in (1, 3, 5)
        }
    return finish(NAME, network, config, split, run, metrics, source, given)


def _read_errors(path: Path, config: RivalConfig) -> dict[str, Tensor]:
    recipe = config.rival
    if isinstance(recipe, DeepEditConfig):
        raise ConfigError("deep_edit begins with no mask: it learns from no real errors")
    if recipe.start * recipe.real == 0:
        raise ConfigError(f"{config.name} has rival.start or rival.real 0: no real errors are used")
    try:
        read: Any = torch.load(path, weights_only=True)
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, UnpicklingError) as error:
        raise ConfigError(f"{path} cannot be read as real_errors.pt of a correction") from error
    masks = list(read.values()) if isinstance(read, dict) else []
    if not masks or not all(isinstance(mask, Tensor) for mask in masks):
        raise ConfigError(
            f"{path} was wanted as real_errors.pt of a correction, it is another file"
        )
    shapes = {tuple(mask.shape) for mask in masks}
    if shapes != {(1, *REGION)}:
        raise ConfigError(
            f"{path} must hold masks of shape {(1, *REGION)} at {SPACING_MM} mm, it has "
            f"{', '.join(map(str, sorted(shapes)))}"
        )
    return dict(read)


def _check_errors(path: Path, real: Mapping[str, Tensor], training: Sequence[Prepared]) -> None:
    """Refuse masks of other studies, whose names may be the same."""
    overlaps = [
        dice(real[case.case_id].numpy(), case.region_label.numpy())
        for case in training
        if case.case_id in real and case.has_tumor
    ]
    if not overlaps or np.median(overlaps) < LEAST_OVERLAP:
        raise ConfigError(
            f"{path} must be of the training studies: it holds {len(overlaps)} of {len(training)}, "
            f"with a median Dice of {np.median(overlaps) if overlaps else 0:.2f} to their labels"
        )


def _go_on_with(given: Mapping[str, Any], out: Path) -> None:
    """Note what errors a run begins with, before its recipe; refuse to go on with others."""
    path = out / GIVEN
    if (out / "config.yaml").is_file():
        began = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if given != began:
            raise ConfigError(
                f"{out} began with other real errors; give those, or use another --out"
            )
    out.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(given))


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
