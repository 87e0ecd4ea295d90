"""Train one row with one seed, and measure it on studies that nothing was chosen by."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from clickseg.atomic import write_text
from clickseg.clicks import Click
from clickseg.config import Config, PasteConfig, WholeVolumeConfig
from clickseg.correction import PasteCorrection
from clickseg.evaluation.run import kept_in
from clickseg.initial.whole_volume import whole_prob
from clickseg.machine import describe_machine
from clickseg.metrics import dice
from clickseg.modelfile import code_version
from clickseg.models import load_initial
from clickseg.reader import simulate_clicks
from clickseg.study import Case, read_case_label, read_study
from clickseg.tables.plan import Measure
from clickseg.training.cuts2d import (
    Segment,
    border_cuts,
    cuts_dice,
    error_cuts,
    fit_cuts,
    train_on_simulated,
    wrong_cuts,
)
from clickseg.training.initial import train_initial
from clickseg.training.loop import Run
from clickseg.training.split import Split, write_split
from clickseg.training.whole_volume import shrink_cases
from clickseg.volume import ImageError

TEST_SEED = 0
"""Of clicks and errors on test cases: the same for all rows and seeds."""

INITIAL_SHARE = 64 / 170
"""Of the training cases: so many train the initial network whose errors are learned, as published.

Most errors are thus real ones, made on studies that the network has not seen.
"""

Dices = dict[str, float]


@dataclass(frozen=True)
class Sides:
    """Cases that train, that watch the training, and that are measured on."""

    training: Sequence[Case]
    validation: Sequence[Case]
    test: Sequence[Case]


def measure(kind: Measure, config: Config, sides: Sides, run: Run) -> dict[str, Any]:
    """Return the ``dice`` on the test cases by stage, and the ``seconds`` of each training.

    With them stand code and machine that they were measured by. What was measured before in the
    run's folder is taken as it is.

    Raises:
        ImageError: if no case can be read, or the test cases hold no cut.
    """
    path = run.folder / "measured.json"
    if kept := kept_in(path):
        return kept
    dices = _MEASURES[kind](config, sides, run)
    values = {
        "dice": {stage: round(value, 4) for stage, value in dices.items()},
        "seconds": {name.removeprefix(f"{run.name}_"): s for name, s in run.seconds.items()},
        "code": code_version(),
        "machine": describe_machine(),
    }
    write_text(path, json.dumps(values, indent=1))
    return values


def _initial(config: Config, sides: Sides, run: Run) -> Dices:
    recipe = config.initial
    assert isinstance(recipe, WholeVolumeConfig)
    segment, network = _train_initial(config, sides.training, sides.validation, run)
    slabs = []
    for item in shrink_cases(sides.test, recipe.size):
        with torch.inference_mode():
            prob = whole_prob(network, item.image.float().to(run.device), recipe.size)
        slabs.append(dice((prob > 0.5).cpu().numpy(), item.label.numpy()))
    return {"slab": float(np.mean(slabs)), "scan": _outlines(segment, None, sides.test)[0]}


def _simulated(config: Config, sides: Sides, run: Run) -> Dices:
    recipe = _paste(config)
    tested = _needed(wrong_cuts(sides.test, recipe, TEST_SEED))
    network = train_on_simulated(sides.training, sides.validation, recipe, run)
    return {
        "uncorrected": cuts_dice(None, tested, run.device),
        "simulated": cuts_dice(network, tested, run.device),
    }


def _real(config: Config, sides: Sides, run: Run) -> Dices:
    recipe = _paste(config)
    first = sides.training[: max(1, round(INITIAL_SHARE * len(sides.training)))]
    segment, _ = _train_initial(config, first, sides.validation, run)
    tested = _needed(error_cuts(sides.test, segment, recipe, TEST_SEED))
    network = train_on_simulated(sides.training, sides.validation, recipe, run)
    dices = {
        "uncorrected": cuts_dice(None, tested, run.device),
        "simulated": cuts_dice(network, tested, run.device),
    }
    makers: dict[str, Callable[[Sequence[Case]], Any]] = {
        "control": lambda cases: border_cuts(cases, recipe, run.seed),
        "real": lambda cases: error_cuts(cases, segment, recipe, run.seed),
    }
    for name, cut in makers.items():
        tuned = copy.deepcopy(network)
        cuts, watched = cut(sides.training), cut(sides.validation)
        fit_cuts(
            tuned, _needed(cuts), watched, recipe, recipe.fine_tune,
            replace(run, name=f"{run.name}_{name}"), is_simulated=name == "control",
        )  # fmt: skip
        dices[name] = cuts_dice(tuned, tested, run.device)
    before, after = _outlines(segment, PasteCorrection(tuned, recipe), sides.test)
    return dices | {"outline": before, "outline_corrected": after}


_MEASURES: dict[Measure, Callable[[Config, Sides, Run], Dices]] = {
    "initial": _initial,
    "simulated_cuts": _simulated,
    "real_cuts": _real,
}


def _train_initial(
    config: Config, training: Sequence[Case], validation: Sequence[Case], run: Run
) -> tuple[Segment, nn.Module]:
    """Train in a folder of its own, with the split that was given."""
    folder, ids = run.folder / "initial", [[c.case_id for c in s] for s in (training, validation)]
    folder.mkdir(parents=True, exist_ok=True)
    write_split(Split(tuple(ids[0]), tuple(ids[1])), folder / "split.json")
    manifest = train_initial(
        [*training, *validation], config, folder, run.device, workers=run.workers
    )
    run.seconds["initial"] = 60 * float(manifest.data["minutes"])
    segment, _ = load_initial(folder, run.device)
    return segment, segment.network  # type: ignore[attr-defined]


def _outlines(
    segment: Segment, correction: PasteCorrection | None, cases: Sequence[Case]
) -> tuple[float, float]:
    """Return the mean Dice of whole scans before and after a click on each slice that is wrong."""
    scores = []
    for case in cases:
        study = read_study(case.t1ce, case.t2)
        label = read_case_label(case, study.grid)
        grid, before = study.grid.canonical, segment(study).mask
        after = before
        if correction is not None:
            rng = np.random.default_rng([TEST_SEED, *case.case_id.encode()])
            voxels = simulate_clicks(label, before, grid.spacing_mm.tolist(), rng)
            clicks = tuple(Click.at(voxel, True, grid) for voxel in voxels)
            after = correction(study, before, clicks).mask if clicks else before
        scores.append((dice(before, label), dice(after, label)))
    before_mean, after_mean = np.mean(scores, axis=0)
    return float(before_mean), float(after_mean)


def check_readable(cases: Sequence[Case]) -> None:
    """Read each case, so that none fails after hours; raises ``ImageError``."""
    for case in cases:
        study = read_study(case.t1ce, case.t2)
        if not read_case_label(case, study.grid).any():
            raise ImageError(f"{case.case_id} has no tumor to measure by")


def _paste(config: Config) -> PasteConfig:
    assert isinstance(config.correction, PasteConfig)
    return config.correction


def _needed(cuts: list[Any]) -> list[Any]:
    if not cuts:
        raise ImageError("no tumor, or no error, is there to cut around")
    return cuts
