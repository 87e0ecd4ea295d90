"""Search the settings of a classical method: all of its grid, on studies that train."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from clickseg.atomic import write_text
from clickseg.baselines import active_contour, flooding, graph_cut, random_walker
from clickseg.baselines.method import Method
from clickseg.evaluation.curves import area, harmful
from clickseg.evaluation.methods import MethodError
from clickseg.evaluation.reading import read
from clickseg.evaluation.run import (
    OWN,
    fingerprints,
    initial_of,
    kept_in,
    start_mask,
    start_version,
)
from clickseg.initial import Initial
from clickseg.modelfile import code_version
from clickseg.precision import has_bfloat16, one_thread
from clickseg.study import Case, Study, read_case_label, read_study


@dataclass(frozen=True)
class Searched:
    """A method with settings: what may be tried, what it has now, and how it is made."""

    grid: Sequence[Any]
    now: Any
    make: Callable[[Any, Callable[[Study], Initial], str], Method]


METHODS = {
    "graph_cut": Searched(
        graph_cut.GRID,
        graph_cut.CutSettings(),
        lambda settings, initial, version: graph_cut.GraphCut(initial, version, settings),
    ),
    "graph_cut_drags": Searched(
        graph_cut.DRAGGED_GRID,
        graph_cut.DRAGGED,
        lambda settings, initial, version: graph_cut.GraphCut(initial, version, settings),
    ),
    "random_walker": Searched(
        random_walker.GRID,
        random_walker.WalkerSettings(),
        lambda settings, *_: random_walker.RandomWalker(settings),
    ),
    "flooding": Searched(
        flooding.GRID,
        flooding.FloodSettings(),
        lambda settings, *_: flooding.flooding(settings),
    ),
    "active_contour": Searched(
        active_contour.GRID,
        active_contour.ContourSettings(),
        lambda settings, *_: active_contour.active_contour(settings),
    ),
}
"""By name."""


def search(
    name: str, cases: Sequence[Case], folder: Path, clicks: int, out: Path, start: str = OWN
) -> list[dict[str, Any]]:
    """Return, for each settings of the grid, mean Dice after 0, 1, ... clicks; the best first.

    All begin with the same masks: ``start`` is as in ``Plan``, was seen by ``check_start``, and
    ``own`` is the outline of the initial model in ``folder``. Which is best the area under Dice
    against clicks says. A study that was read before is not read again, unless the weights, the
    start or the code changed.

    Raises:
        ImageError: if a study cannot be read.
        MethodError: if the method has no settings to search.
        ModelError: if there is no initial model.
    """
    if name not in METHODS:
        raise MethodError(f"{name} has no settings; those with some: {', '.join(METHODS)}")
    initial, version = initial_of(str(folder))
    curves = [
        _curves(METHODS[name], case, initial, version, clicks, out / name, start)
        for case in tqdm(cases, desc=name, unit="study")
    ]
    rows = []
    for index, settings in enumerate(METHODS[name].grid):
        found = [study[index] for study in curves]
        made, harm = sum(len(row) - 1 for row in found), sum(map(harmful, found))
        dices = np.array([row + row[-1:] * (clicks + 1 - len(row)) for row in found])
        rows.append(
            {
                "settings": asdict(settings),
                "is_used": settings == METHODS[name].now,
                "dice": [round(float(value), 4) for value in dices.mean(axis=0)],
                "auc": round(float(np.mean([area(row) for row in dices])), 4),
                "harm_rate": round(harm / max(made, 1), 4),
            }
        )
    return sorted(rows, key=lambda row: -row["auc"])


def _curves(
    searched: Searched,
    case: Case,
    initial: Callable[[Study], Initial],
    version: str,
    clicks: int,
    out: Path,
    start: str,
) -> list[list[float]]:
    """Return Dice after 0, 1, ... clicks of one study, as many as were made, for all settings."""
    grid = [asdict(settings) for settings in searched.grid]
    begun = [start, start_version(start, case)]
    plan = [version, clicks, code_version(), has_bfloat16("cpu"), *begun]
    asked = {"plan": plan, "grid": grid, "files": fingerprints(case)}
    path = out / f"{case.case_id}.json"
    kept = kept_in(path)
    if kept.get("asked") == asked:
        found: list[list[float]] = kept["dice"]
        return found
    study = read_study(case.t1ce, case.t2)
    label = read_case_label(case, study.grid)
    curves = []
    with one_thread():
        given = own = start_mask(study, start)
        if given is None:
            outline = initial(study)
            own = outline.mask
            own.flags.writeable = False
            initial = partial(_same, outline)
        for settings in searched.grid:
            method = searched.make(settings, initial, version)
            # A method that looks at the initial network's probabilities has them without a start.
            mask = given if isinstance(method, graph_cut.GraphCut) else own
            reading, _, _ = read(method, study, label, mask, clicks)
            curves.append([scores.dice for scores in reading.scores])
    write_text(path, json.dumps({"asked": asked, "dice": curves}))
    return curves


def _same(initial: Initial, _: Study) -> Initial:
    return initial
