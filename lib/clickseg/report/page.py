"""The page: one HTML file that needs nothing but itself, and prints."""

from __future__ import annotations

import statistics
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from clickseg import __version__
from clickseg.report.change import DIAMETER_MM, VOLUME_SHARE, Change, Verdict
from clickseg.report.study import State, StudyReport

TEMPLATE = "page.html"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Against:
    """The change of a study against an earlier accepted one of the same patient."""

    earlier_id: str
    change: Change


def changes_of(visits: Sequence[StudyReport]) -> dict[str, list[Against]]:
    """Compare each accepted study of a patient with the one before, then with the first.

    The second comparison shows growth that is slow: less than the error from visit to visit.
    Where some visits have a date, those without are left out: turned round, growth would look as
    if the tumor had become smaller.

    Args:
        visits: all studies of one patient in their order.

    Returns:
        The comparisons of each accepted study but the first, by its id.
    """
    are_dated = any(visit.date for visit in visits)
    measured = [
        (visit.case_id, visit.measurement)
        for visit in visits
        if visit.state is State.ACCEPTED and visit.measurement is not None
        if visit.date or not are_dated
    ]
    return {
        name: [
            Against(earlier_id, Change(earlier, later))
            for earlier_id, earlier in (measured[n] for n in sorted({before, 0}, reverse=True))
        ]
        for before, (name, later) in enumerate(measured[1:])
    }


def summarize(patients: Mapping[str, Sequence[StudyReport]]) -> dict[str, Any]:
    """Return the figures at the top of the page, of the studies of each patient.

    ``median_ml`` is None where nothing is accepted. ``grown`` counts patients whose last accepted
    study has grown since the one before, of ``followed`` that have two.
    """
    studies = [study for visits in patients.values() for study in visits]
    accepted = [study for study in studies if study.state is State.ACCEPTED]
    known = [
        study.origin.clicks
        for study in accepted
        if study.origin is not None and study.origin.clicks is not None
    ]
    volumes_ml = [study.measurement.volume_ml for study in accepted if study.measurement]
    last = [
        list(changes.values())[-1][0].change.verdict  # the first is against the one before
        for changes in map(changes_of, patients.values())
        if changes
    ]
    return {
        "studies": len(studies),
        "patients": len(patients),
        "states": {state: sum(study.state is state for study in studies) for state in State},
        "clicks": sum(known),
        "clicks_known": len(known),
        "median_ml": statistics.median(volumes_ml) if volumes_ml else None,
        "grown": last.count(Verdict.GROWN),
        "followed": len(last),
    }


def render(
    patients: Mapping[str, Sequence[StudyReport]],
    folder: str,
    made: datetime,
    outlined_by: str | None = None,
) -> str:
    """Return the page as HTML that UTF-8 can hold.

    Args:
        patients: the studies of each patient, both in their order.
        folder: how the folder of studies is called.
        made: when the page was made, with its zone.
        outlined_by: the model that outlined what had no outline, if one did.
    """
    return filled(
        Path(__file__).with_name(TEMPLATE),
        patients=[(name, list(visits), changes_of(visits)) for name, visits in patients.items()],
        summary=summarize(patients),
        folder=folder,
        made=made,
        outlined_by=outlined_by,
        share=round(100 * VOLUME_SHARE),
        step_mm=DIAMETER_MM,
        State=State,
        Verdict=Verdict,
    )


def filled(template: Path, **values: Any) -> str:
    """Return a page as HTML that UTF-8 can hold, from a template on ``layout.html``.

    Args:
        template: its file, anywhere.
        values: what it shows.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"signed": signed, "moment": moment, "data_uri": data_uri, "day": day}
    text = environment.get_template(template.name).render(version=__version__, **values)
    # A file name may be no text, which Python keeps as characters that no encoding knows.
    return text.encode("utf-8", "replace").decode("utf-8")


def signed(value: float, digits: int) -> str:
    """Return a number with its sign, none of what is rounded to 0."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", MINUS) if float(text) else text[1:]


def moment(when: datetime) -> str:
    """Return a day and time to the minute."""
    return when.strftime("%Y-%m-%d %H:%M")


def day(date: str) -> str:
    """Return the day of a date as DICOM writes it."""
    return f"{date[:4]}-{date[4:6]}-{date[6:8]}"


def data_uri(png: bytes) -> str:
    """Return a PNG file as an address that holds it."""
    return "data:image/png;base64," + b64encode(png).decode("ascii")


def by_patient(
    reports: Iterable[StudyReport], visits: Mapping[str, Sequence[str]]
) -> dict[str, list[StudyReport]]:
    """Arrange reports as ``visits_of`` arranged their ids."""
    by_id = {report.case_id: report for report in reports}
    return {patient: [by_id[name] for name in names] for patient, names in visits.items()}
