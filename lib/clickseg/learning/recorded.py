"""The clicks that readers made on accepted studies, as they were written beside the labels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from clickseg.accepted import records
from clickseg.clicks import Click, Clicks
from clickseg.record import RECORD_ENDING, NotedClick, RecordError, read_record
from clickseg.study import LABEL_FOLDER, Case

Point = tuple[float, float, float]
logger = logging.getLogger(__name__)


def record_of(case: Case) -> Path | None:
    """Return where the clicks of a labeled case are, whether or not there are any."""
    return None if case.label is None else case.label.parent / f"{case.case_id}{RECORD_ENDING}"


def recorded_clicks(cases: Sequence[Case]) -> dict[str, Clicks]:
    """Return the clicks of each case that has any; a record that cannot be read counts as none.

    Those of earlier accepted labels count, too, each once: a label that is saved again without a
    click begins a record of its own. Of a place that several records name the newest decides.
    Scribbles are left out: a stroke is many points, and few of them where a reader would click.
    So is what was taken back.
    """
    found: dict[str, Clicks] = {}
    for case in cases:
        decided: set[Point] = set()
        made: list[Click] = []
        for noted in reversed(_records_of(case)):
            here = [one for one in noted if one.click.point_ras not in decided]
            kept = (one.click for one in here if one.taken_back is None and not one.is_scribble)
            made = [*dict.fromkeys(kept), *made]
            decided |= {one.click.point_ras for one in here}
        if made:
            found[case.case_id] = tuple(made)
    return found


def _records_of(case: Case) -> list[tuple[NotedClick, ...]]:
    """Return what is recorded of a case, oldest first; labels elsewhere have no history."""
    path = record_of(case)
    if path is None:
        return []
    if path.parent == case.t1ce.parent / LABEL_FOLDER:
        return records(case.t1ce.parent, case.case_id)
    try:
        return [read_record(path)] if path.is_file() else []
    except RecordError as error:
        logger.warning("clicks of %s are left out: %s", case.case_id, error)
        return []
