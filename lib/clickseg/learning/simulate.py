"""The whole loop without a reader: choose studies, mend them by clicks, accept, learn, choose.

What a server does over weeks, by the same functions: the strategy puts the waiting studies in
order, a simulated reader clicks until the outline is good, the mended outline (not the reference)
is accepted with its clicks, and both models are updated. After each round the models that count
are measured on studies that the loop never sees.
"""

from __future__ import annotations

import itertools
import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from clickseg.accepted import keep, read_accepted
from clickseg.atomic import write_text
from clickseg.cache import Fingerprints
from clickseg.choosing.cached import RULES, Entry, content_of, read_entry, write_entry
from clickseg.choosing.order import ORDERS, Pool
from clickseg.choosing.scores import StudyScores, score_study
from clickseg.clicking import clicking
from clickseg.config import ConfigError
from clickseg.correction.local import Memo
from clickseg.journal import Answered, Journals
from clickseg.learning.measure import Measure, measure
from clickseg.learning.replay import replay_cases
from clickseg.learning.settings import UpdateConfig
from clickseg.learning.store import NAMES, ModelStore
from clickseg.learning.update import TooFewError, update_model
from clickseg.metrics import dice
from clickseg.modelfile import read_manifest
from clickseg.models import Models
from clickseg.study import (
    PLACING_FOLDER,
    T2_FOLDER,
    Case,
    find_case,
    read_case_label,
    read_study,
)
from clickseg.training.split import PATIENTS, told_of
from clickseg.volume import Volume, write_volume

logger = logging.getLogger(__name__)

UNSCORED = ("first", "shuffle")
"""Strategies that ask no model."""

ALONE = ("uncertainty", "disagreement")
"""Strategies that look at each waiting study by itself, and at no labeled one."""


@dataclass(frozen=True)
class Reader:
    """A simulated reader: clicks until the Dice is ``good``, at most ``clicks`` times a study."""

    clicks: int
    good: float


@dataclass(frozen=True)
class Step:
    """Where the loop stands: after ``labelled`` studies and ``clicks`` clicks in all.

    ``holdout_dice``: mean Dice of the initial outlines of the studies held out, ``after_clicks``
    with three clicks. ``gate``: what became of each model, the reason where it was not published.
    """

    labelled: int
    clicks: int
    holdout_dice: float
    after_clicks: float
    gate: dict[str, str]


@dataclass(frozen=True)
class Loop:
    """One run of the loop, in a folder of its own. A run that stopped goes on after its last step.

    Beside that folder lies what runs have in common: phantoms, and what models said of studies.

    Args:
        cases: labeled studies that may be chosen.
        held: labeled studies that are only measured.
        strategy: a name of ``ORDERS``.
        seed: of what is drawn, the trainings included.
        folder: studies as a server has them, published models, and the steps.
        base: folder of the models that the loop begins with.
        update: how the models are updated.
        reader: who clicks.
        device: where all of it is computed.
        replay: labeled studies like those of the base; None takes phantoms for the base that
            comes with the package, and nothing for another.
    """

    cases: Sequence[Case]
    held: Sequence[Case]
    strategy: str
    seed: int
    folder: Path
    base: Path
    update: UpdateConfig
    reader: Reader
    device: str = "cpu"
    replay: Path | None = None

    def run(self, rounds: int, per_round: int) -> list[Step]:
        """Go through the rounds; return where the loop stood before them and after each."""
        self._check_settings(per_round)
        steps = self._steps()
        store = ModelStore(self.folder / "models", self.base)
        if not steps:
            self._lay_out()
            self._keep(steps, self._measure(store.load(self.device), 0, 0, {}))
        for _ in range(len(steps), rounds + 1):
            models = store.load(self.device)
            clicks = self._begun(len(steps))[0] or self._choose(models, len(steps), per_round)
            if not clicks:
                logger.info("no study is left to choose")
                break
            for name, made in clicks.items():
                if made is None:
                    clicks[name] = self._read(models, name)
                    self._begin(len(steps), clicks)
            gate = self._learn(store, len(steps))
            spent = steps[-1].clicks + sum(made or 0 for made in clicks.values())
            labeled = len(self._labeled())
            self._keep(steps, self._measure(store.load(self.device), labeled, spent, gate))
        return steps

    @property
    def _round(self) -> Path:
        return self.folder / "round.json"

    def _begun(self, number: int) -> tuple[dict[str, int | None], dict[str, str]]:
        """Return what is known of a round that was stopped.

        That is its studies, with the clicks of those that are read, and what became of the models
        that are trained.
        """
        if not self._round.is_file():
            return {}, {}
        begun = json.loads(self._round.read_text(encoding="utf-8"))
        return (begun["clicks"], begun["gate"]) if begun["number"] == number else ({}, {})

    def _begin(
        self, number: int, clicks: dict[str, int | None], gate: dict[str, str] | None = None
    ) -> None:
        told = {"number": number, "clicks": clicks, "gate": gate or {}}
        write_text(self._round, json.dumps(told) + "\n")

    def _check_settings(self, per_round: int) -> None:
        """Refuse to go on with other settings than those that a run began with."""
        mine = {
            "per_round": per_round,
            "reader": asdict(self.reader),
            "base": [read_manifest(self.base, name).short_hash for name in NAMES],
            "update": TypeAdapter(UpdateConfig).dump_python(self.update, mode="json"),
            "replay": None if self.replay is None else str(self.replay.resolve()),
            "cases": [[case.case_id for case in cases] for cases in (self.cases, self.held)],
        }
        path = self.folder / "settings.json"
        if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != mine:
            raise ConfigError(f"{self.folder} was begun with other settings; use another --out")
        write_text(path, json.dumps(mine, indent=1) + "\n")

    @property
    def _studies(self) -> Path:
        return self.folder / "studies"

    def _lay_out(self) -> None:
        (self._studies / T2_FOLDER).mkdir(parents=True, exist_ok=True)
        for case in self.cases:
            for path, folder in ((case.t1ce, self._studies), (case.t2, self._studies / T2_FOLDER)):
                if path is not None and not (folder / path.name).exists():
                    (folder / path.name).symlink_to(path.resolve())
        placing = self.cases[0].t1ce.parent / PLACING_FOLDER
        if placing.is_dir() and not (self._studies / PLACING_FOLDER).exists():
            # The updates look here: they train on what the reader saw.
            (self._studies / PLACING_FOLDER).parent.mkdir(exist_ok=True)
            (self._studies / PLACING_FOLDER).symlink_to(placing.resolve())
        if told := told_of(self.cases):
            (self._studies / PATIENTS).parent.mkdir(exist_ok=True)
            write_text(self._studies / PATIENTS, json.dumps(told))

    def _labeled(self) -> list[str]:
        return [case.case_id for case in self.cases if self._own(case).label is not None]

    def _own(self, case: Case) -> Case:
        return find_case(self._studies / case.t1ce.name)

    def _choose(self, models: Models, number: int, count: int) -> dict[str, int | None]:
        """Return which studies are read in a round; no clicks are known of them yet."""
        labeled = self._labeled()
        waiting = [case.case_id for case in self.cases if case.case_id not in labeled]
        scores: dict[str, StudyScores] = {}
        if self.strategy not in UNSCORED and waiting:
            cases = [
                case for case in self.cases if self.strategy not in ALONE or case.case_id in waiting
            ]
            scores = {case.case_id: self._score(models, case) for case in cases}
        order = ORDERS[self.strategy](Pool(waiting, labeled, scores, self.seed))
        chosen: dict[str, int | None] = dict.fromkeys(itertools.islice(order, count))
        if chosen:
            self._begin(number, chosen)
        return chosen

    def _score(self, models: Models, case: Case) -> StudyScores:
        """Return the scores of a study, those that another run or round computed if there are."""
        folder, content = self._shared("scores", models), content_of(case, Fingerprints())
        known = read_entry(folder, case.case_id)
        if known is not None and known.content == content and known.is_by(models.hashes):
            return known.scores
        scores = score_study(models, read_study(case.t1ce, case.t2))
        write_entry(folder, case.case_id, Entry(RULES, content, models.hashes, scores))
        return scores

    def _shared(self, what: str, models: Models) -> Path:
        """Return where it is that models said something of studies, whichever run they are of."""
        return self.folder.parent / what / "-".join(models.hashes.values())

    def _read(self, models: Models, name: str) -> int:
        """Let the reader mend and accept a study; return the number of clicks."""
        case = next(case for case in self.cases if case.case_id == name)
        study = read_study(case.t1ce, case.t2)
        label = read_case_label(case, study.grid)
        start = mask = models.initial(study).mask
        journals, clicks = Journals(self._studies), 0
        memo: Memo = {}
        answers = clicking(
            label, start, study.grid.canonical,
            lambda made: models.correction(study, start, made, memo).mask,
        )  # fmt: skip
        while clicks < self.reader.clicks and dice(mask, label) < self.reader.good:
            made, mask = next(answers, ((), mask))
            if not made:
                break
            clicks = len(made)
            changed = int(np.count_nonzero(mask != start))
            journals.note(name, Answered("click", "initial", made, models.hashes, changed))
        self._accept(case, Volume(study.grid.to_stored(mask), study.grid))
        return clicks

    def _accept(self, case: Case, volume: Volume) -> None:
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            path = write_volume(Path(folder) / f"{case.case_id}.nii.gz", volume)
            keep(self._studies, case.case_id, read_accepted(path, case.t1ce))

    def _learn(self, store: ModelStore, number: int) -> dict[str, str]:
        """Update the models; return what became of each. A shortage ends the run, to go on with."""
        clicks, gate = self._begun(number)
        replay = self.make_replay()
        for name in NAMES:
            if name in gate:
                continue
            try:
                outcome = update_model(
                    name, self._studies, store, self.update, self.device, replay, seed=self.seed
                )
            except TooFewError as error:
                gate[name] = str(error)
            else:
                gate[name] = "published" if outcome.is_published else outcome.reason
            self._begin(number, clicks, gate)
        return gate

    def make_replay(self) -> Path | None:
        """Return what trains beside accepted labels, if there is any: the same for all runs."""
        if self.replay is not None:
            return self.replay
        shared = self.folder.parent / "replay"
        return shared if replay_cases(None, self.base, shared, self.update.replay) else None

    def _measure(self, models: Models, labelled: int, clicks: int, gate: dict[str, str]) -> Step:
        wanted = [Measure(models), Measure(models, 3)]
        measured = measure(wanted, self.held, self._shared("measured", models) / "holdout.json")
        before, after = (round(_mean(list(one.values())), 4) for one in measured)
        return Step(labelled, clicks, before, after, gate)

    def _steps(self) -> list[Step]:
        path = self.folder / "steps.json"
        if not path.is_file():
            return []
        return [Step(**values) for values in json.loads(path.read_text(encoding="utf-8"))]

    def _keep(self, steps: list[Step], step: Step) -> None:
        steps.append(step)
        text = json.dumps([asdict(one) for one in steps], indent=1) + "\n"
        write_text(self.folder / "steps.json", text)
        logger.info(
            "%s, seed %d: %d studies, %d clicks, held-out Dice %.4f, %.4f with three clicks",
            *(self.strategy, self.seed, step.labelled, step.clicks),
            *(step.holdout_dice, step.after_clicks),
        )


def summarize_loops(runs: dict[str, dict[int, list[Step]]]) -> dict[str, Any]:
    """Return the means over seeds of each strategy, step by step, and the single runs.

    A step counts as far as all seeds came.
    """
    strategies = {}
    for name, by_seed in runs.items():
        rows = list(zip(*by_seed.values(), strict=False))
        means = {
            key: [round(_mean([getattr(step, key) for step in row]), 4) for row in rows]
            for key in ("labelled", "clicks", "holdout_dice", "after_clicks")
        }
        seeds = {str(seed): [asdict(step) for step in steps] for seed, steps in by_seed.items()}
        strategies[name] = means | {"seeds": seeds}
    return {"strategies": strategies}


def _mean(values: Sequence[float] | NDArray[np.float64]) -> float:
    return float(np.mean(values))
