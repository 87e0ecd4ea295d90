"""All studies of a data set: in parallel, each whole or not at all, broken ones skipped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from clickseg import __version__
from clickseg.drawing import draw_largest_slice
from clickseg.importing.place import Place
from clickseg.importing.source import Source, Wishes
from clickseg.metrics import volume_ml
from clickseg.parallel import in_processes
from clickseg.study import Case, find_case, placing_of, read_case_label, read_study


class State(StrEnum):
    """What became of a study."""

    IMPORTED = "imported"
    THERE = "there already"
    FAILED = "not imported"


@dataclass(frozen=True)
class Outcome:
    """One study for the report. ``reason`` says why it was not imported.

    ``facts`` is its provenance, ``pictures`` PNG files by the name of the sequence. ``volume_ml``
    and ``slices`` are of the label as it was read back, None without one.
    """

    case_id: str
    state: State
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    volume_ml: float | None = None
    slices: int | None = None
    pictures: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def warnings(self) -> Sequence[str]:
        """What is doubtful about it."""
        return tuple(self.facts.get("warnings", ()))


@dataclass(frozen=True)
class Job:
    """One study and where it goes."""

    source: Source
    out: Path
    wishes: Wishes
    is_forced: bool


def run_jobs(
    jobs: Sequence[Job], processes: int, advance: Callable[[Outcome], None] = lambda _: None
) -> list[Outcome]:
    """Import studies and return what became of them, in the order of the jobs.

    Each process holds one study at a time: about 0.7 GB for the largest of the public data set.

    Args:
        jobs: what to import.
        processes: how many at once.
        advance: called with each outcome, in the order in which they end.
    """
    outcomes = {}
    for number, outcome in in_processes(do, jobs, processes):
        outcomes[number] = outcome
        advance(outcome)
    return [outcomes[number] for number in range(len(jobs))]


def do(job: Job) -> Outcome:
    """Import one study, unless it is there; whatever is wrong with it is told, not raised."""
    place = Place(job.out, job.source.case_id)
    try:
        place.finish()
        if place.is_imported() and not job.is_forced:
            facts = json.loads(place.provenance.read_text(encoding="utf-8"))
            return _look(place, find_case(place.t1ce), facts, State.THERE)
        if not job.is_forced and (other := place.in_the_way()) is not None:
            where = other.relative_to(job.out)
            return _failed(place, f"{where} is there already; --force replaces it")
        loaded = job.source.load(job.wishes)
        facts = loaded.facts | {"warnings": loaded.warnings, "clickseg": __version__}
        # Before it replaces anything: a study that nobody can read must cost no other.
        outcome = _look(place, place.prepare(loaded, facts), facts, State.IMPORTED)
        place.put()
        return outcome
    except Exception as error:  # of 242 studies one must not end the others, whatever it has
        place.discard()
        return _failed(place, str(error) or type(error).__name__)


def _failed(place: Place, reason: str) -> Outcome:
    return Outcome(place.case_id, State.FAILED, reason)


def _look(place: Place, case: Case, facts: Mapping[str, Any], state: State) -> Outcome:
    """Read a study as every other part of the project will read it there, measure and draw it."""
    study = read_study(case.t1ce, case.t2, placing_of(place.t1ce))
    if case.label is None:
        return Outcome(case.case_id, state, facts=facts)
    label = read_case_label(case, study.grid)
    return Outcome(
        case.case_id,
        state,
        facts=facts,
        volume_ml=volume_ml(label, study.grid.affine),
        slices=int(np.count_nonzero(label.any(axis=(0, 1)))),
        pictures=draw_largest_slice(study, label),
    )
