"""The clicks that readers made on accepted studies, as they were written beside the labels."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from clickseg.clicks import Clicks
from clickseg.record import RECORD_ENDING, RecordError, read_record
from clickseg.study import Case

logger = logging.getLogger(__name__)


def recorded_clicks(cases: Sequence[Case]) -> dict[str, Clicks]:
    """Return the clicks of each case that has any; a record that cannot be read counts as none.

    Scribbles are left out: a stroke is many points, and few of them where a reader would click.
    So is what was taken back.
    """
    found: dict[str, Clicks] = {}
    for case in cases:
        if case.label is None:
            continue
        path = case.label.parent / f"{case.case_id}{RECORD_ENDING}"
        if not path.is_file():
            continue
        try:
            noted = read_record(path)
        except RecordError as error:
            logger.warning("the clicks of %s are left out: %s", case.case_id, error)
            continue
        made = [one for one in noted if one.taken_back is None and not one.is_scribble]
        if made:
            found[case.case_id] = tuple(one.click for one in made)
    return found
