"""``clickseg score``: what the models say about each study, for the choice of the next one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from clickseg.cache import Fingerprints
from clickseg.choosing.cached import (
    RULES,
    Entry,
    content_of,
    drop_entry,
    drop_others,
    read_entry,
    write_entry,
)
from clickseg.choosing.scores import score_study
from clickseg.commands.device import Device
from clickseg.commands.out import try_to_write_in
from clickseg.models import WEIGHTS, Models, load_pair
from clickseg.study import Case, distinct_cases, read_study, told_alike
from clickseg.volume import ImageError


def score(
    studies: Annotated[Path, typer.Option(help="Folder of studies; labels are not looked at.")],
    out: Annotated[Path, typer.Option(help="Folder of the scores; what is there is kept.")],
    models: Annotated[Path, typer.Option(help="Folder of both models.")] = WEIGHTS,
    correction: Annotated[
        Path | None, typer.Option(help="Folder of the correction model, if it is elsewhere.")
    ] = None,
    device: Device = "cpu",
) -> None:
    """Score studies: how uncertain, how much in dispute, and what they look like.

    A run that stopped goes on. Scores of other models or of files that changed are made anew; those
    of studies that are gone go, too.
    A study that cannot be scored is told of and skipped.
    """
    try_to_write_in(out)
    pair = load_pair(models, correction or models, device)
    cases, alike = distinct_cases(studies)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    done, fingerprint = {"scored": 0, "there": 0, "skipped": 0}, Fingerprints()
    drop_others(out, {case.case_id for case in cases})
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("studies", total=len(cases) + len(alike))
        for name, several in alike.items():
            bar.console.log(
                f"{name} is skipped: {told_alike(several)}", markup=False, highlight=False
            )
            done["skipped"] += 1
            bar.advance(task)
        for case in cases:
            try:
                is_new = _score_case(case, pair, out, fingerprint)
                done["scored" if is_new else "there"] += 1
            except (ArithmeticError, MemoryError, RuntimeError, ValueError) as error:
                # One study that cannot be read or does not fit must not cost the others.
                bar.console.log(
                    f"{case.case_id} is skipped: {error}", markup=False, highlight=False
                )
                done["skipped"] += 1
            bar.advance(task)
    console.print(
        f"scored {done['scored']} studies, {done['there']} were there already, "
        f"{done['skipped']} were skipped"
    )


def _score_case(case: Case, models: Models, out: Path, fingerprint: Fingerprints) -> bool:
    """Score a case unless that is done; tell whether it was new.

    Raises:
        ImageError: if the study cannot be used, or changes while it is read.
    """
    content = content_of(case, fingerprint)
    entry = read_entry(out, case.case_id)
    if entry is not None and entry.is_by(models.hashes) and entry.content == content:
        return False
    if entry is not None and entry.content != content:
        # It would go on counting if the study as it is now cannot be scored.
        drop_entry(out, case.case_id)
    scores = score_study(models, read_study(case.t1ce, case.t2))
    if content_of(case, fingerprint) != content:
        raise ImageError(f"{case.case_id} changed while it was read; try again")
    write_entry(out, case.case_id, Entry(RULES, content, dict(models.hashes), scores))
    return True
