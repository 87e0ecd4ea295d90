"""Train one row with one seed, and measure it on studies that nothing was chosen by."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from clickseg.atomic import replacing
from clickseg.config import Config, ConfigError, PasteConfig
from clickseg.models import load_initial
from clickseg.study import Case
from clickseg.tables.plan import Measure
from clickseg.training.cuts2d import (
    TEST_SEED,
    cuts_dice,
    train_cuts2d,
    train_on_simulated,
    wrong_cuts,
)
from clickseg.training.initial import train_initial
from clickseg.training.loop import Run
from clickseg.training.start import begin, initial_metrics, select
from clickseg.volume import ImageError

Values = dict[str, float]


def measure(
    kind: Measure, config: Config, cases: Sequence[Case], test: Sequence[Case], run: Run
) -> Values:
    """Return the Dice on the test cases by stage, and the ``minutes`` of training.

    What was measured before in the run's folder is taken as it is.

    Raises:
        ConfigError: if the recipe cannot be measured so.
        ImageError: if no case can be read, or the test cases hold no cut.
    """
    path = run.folder / "measured.json"
    if path.is_file():
        kept: Values = json.loads(path.read_text(encoding="utf-8"))
        return kept
    values = _MEASURES[kind](config, cases, test, run)
    values["minutes"] = round(sum(run.seconds.values()) / 60, 1)
    with replacing(path) as part:
        part.write_text(json.dumps(values, indent=1), encoding="utf-8")
    return values


def _initial(config: Config, cases: Sequence[Case], test: Sequence[Case], run: Run) -> Values:
    manifest = train_initial(cases, config, run.folder, run.device)
    run.seconds["initial"] = 60 * float(manifest.data["minutes"])
    initial, _ = load_initial(run.folder, run.device)
    return {"initial": initial_metrics(initial, test)["validation_dice"]}


def _simulated(config: Config, cases: Sequence[Case], test: Sequence[Case], run: Run) -> Values:
    recipe = _paste(config)
    tested = wrong_cuts(test, recipe, TEST_SEED)
    if not tested:
        raise ImageError("no test case has a tumor to cut around")
    network = train_on_simulated(*_sides(config, cases, run), recipe, run)
    return {
        "uncorrected": cuts_dice(None, tested, run.device),
        "simulated": cuts_dice(network, tested, run.device),
    }


def _real(config: Config, cases: Sequence[Case], test: Sequence[Case], run: Run) -> Values:
    recipe = _paste(config)
    manifest = train_initial(cases, config, run.folder, run.device)
    initial, _ = load_initial(run.folder, run.device)
    _, found = train_cuts2d(*_sides(config, cases, run), initial, recipe, run, test)
    if "cut_dice" not in found:
        raise ImageError("the initial network makes no error on the test cases to cut around")
    run.seconds["initial"] = 60 * float(manifest.data["minutes"])
    return {
        "uncorrected": found["cut_dice_uncorrected"],
        "simulated": found["cut_dice_simulated"],
        "real": found["cut_dice"],
    }


_MEASURES: dict[Measure, Callable[[Config, Sequence[Case], Sequence[Case], Run], Values]] = {
    "initial": _initial,
    "simulated_cuts": _simulated,
    "real_cuts": _real,
}


def _sides(config: Config, cases: Sequence[Case], run: Run) -> tuple[list[Case], list[Case]]:
    split = begin(cases, config, run.folder)
    return select(cases, split.training), select(cases, split.validation)


def _paste(config: Config) -> PasteConfig:
    if not isinstance(config.correction, PasteConfig):
        raise ConfigError("the recipe of a table of cuts has correction.method paste")
    return config.correction
