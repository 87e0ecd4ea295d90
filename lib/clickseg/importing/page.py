"""The page about an import: one HTML file that needs nothing but itself."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from clickseg.importing.run import Outcome, State
from clickseg.report.page import filled

TEMPLATE = "import.html"


def summarize(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the figures at the top of the page; ``median_ml`` is None without any label."""
    volumes_ml = [one.volume_ml for one in outcomes if one.volume_ml is not None]
    return {
        "studies": len(outcomes),
        "states": {state: sum(one.state is state for one in outcomes) for state in State},
        "doubtful": sum(bool(one.warnings) for one in outcomes),
        "median_ml": statistics.median(volumes_ml) if volumes_ml else None,
    }


def render(
    outcomes: Sequence[Outcome],
    name: str,
    sides: Mapping[str, str],
    notes: Sequence[str],
    made: datetime,
) -> str:
    """Return the page as HTML that UTF-8 can hold.

    Args:
        outcomes: the studies in their order.
        name: how the data set is called.
        sides: training, validation or test, by id, where a split says so.
        notes: what is to be told of the whole import.
        made: when the page was made, with its zone.
    """
    return filled(
        Path(__file__).with_name(TEMPLATE),
        outcomes=outcomes,
        summary=summarize(outcomes),
        name=name,
        sides=sides,
        notes=notes,
        made=made,
        State=State,
    )
