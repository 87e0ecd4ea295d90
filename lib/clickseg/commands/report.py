"""``clickseg report``: one page about a folder of studies."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from clickseg.atomic import write_text
from clickseg.commands.device import Device
from clickseg.commands.out import try_to_write
from clickseg.models import WEIGHTS, load_initial, pattern_of
from clickseg.report.origin import dates_of, read_index
from clickseg.report.page import by_patient, render
from clickseg.report.study import Outliner, State, StudyReport, describe, describe_alike
from clickseg.report.visits import visits_of
from clickseg.study import Case, distinct_cases
from clickseg.training.split import told_patients


def report(
    studies: Annotated[Path, typer.Option(help="Folder of studies.")],
    out: Annotated[Path, typer.Option(help="Where the page goes: a .html file.")] = Path(
        "report.html"
    ),
    models: Annotated[
        Path | None,
        typer.Option(help="Folder of an initial model, to outline what waits, for the page alone."),
    ] = None,
    patient: Annotated[
        str | None,
        typer.Option(
            help="Regular expression: its first group, or its match, in the id of a study is the"
            " patient. Without it a PACS tells, or the one in the recipe of the models."
        ),
    ] = None,
    device: Device = "cpu",
) -> None:
    """Write one page, HTML with pictures, of all studies: state, size, clicks and growth."""
    if out.suffix != ".html":
        raise typer.BadParameter(f"--out is a .html file, got {str(out)!r}")
    pattern = patient_pattern(patient, models or WEIGHTS)
    outline, name = (None, None) if models is None else outliner(models, device)
    cases, alike = distinct_cases(studies)
    try_to_write(out)
    index, ids = read_index(studies), [*(case.case_id for case in cases), *alike]
    told = told_patients(studies) if patient is None else None
    dates = dates_of(index)
    visits = visits_of(ids, pattern, told, dates)
    described = _each(cases, alike, studies, index, visits, outline)
    dated = (replace(one, date=dates.get(one.case_id, "")) for one in described)
    patients = by_patient(dated, visits)
    write_text(out, render(patients, str(studies), datetime.now(UTC).astimezone(), name))
    typer.echo(f"wrote {out}: {_told(patients)}")


def patient_pattern(given: str | None, models: Path) -> str:
    """Return the expression that finds the patient in an id: the given one, or the recipe's.

    Raises:
        BadParameter: if the given one is no regular expression.
        ModelError: if there is no manifest with a recipe.
    """
    if given is None:
        return pattern_of(models)
    try:
        re.compile(given)
    except re.error as error:
        raise typer.BadParameter(f"--patient is no regular expression: {error}") from error
    return given


def outliner(models: Path, device: str) -> tuple[Outliner, str]:
    """Return what outlines a study, and how its weights are called."""
    initial, short_hash = load_initial(models, device)
    return lambda study: initial(study).mask, f"model {short_hash}"


def _each(
    cases: Sequence[Case],
    alike: Mapping[str, Sequence[Case]],
    studies: Path,
    index: Mapping[str, Any],
    visits: Mapping[str, Sequence[str]],
    outline: Outliner | None,
) -> Iterator[StudyReport]:
    """Describe one study after the other: only the small pictures of those before are kept."""
    by_id = {case.case_id: case for case in cases}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("studies", total=len(cases) + len(alike))
        for names in visits.values():
            for name in names:
                if name in alike:
                    yield describe_alike(alike[name])
                else:
                    yield describe(by_id[name], studies, index, outline)
                bar.advance(task)


def _told(patients: Mapping[str, Sequence[StudyReport]]) -> str:
    states = [study.state for visits in patients.values() for study in visits]
    counts = (f"{states.count(state)} {state.value}" for state in State if state in states)
    return f"{len(states)} studies" + "".join(f", {count}" for count in counts)
