"""The page about an import: one HTML file that needs nothing but itself."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from clickseg import __version__, report
from clickseg.importing.run import Outcome, State
from clickseg.report.page import data_uri, moment

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
    folders = [Path(__file__).parent, Path(report.__file__).parent]
    environment = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"moment": moment, "data_uri": data_uri}
    text = environment.get_template(TEMPLATE).render(
        outcomes=outcomes,
        summary=summarize(outcomes),
        name=name,
        sides=sides,
        notes=notes,
        made=made,
        version=__version__,
        State=State,
    )
    return text.encode("utf-8", "replace").decode("utf-8")
