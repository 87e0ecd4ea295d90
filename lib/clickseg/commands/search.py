"""``clickseg search``: the settings of a classical method, on studies that train."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from clickseg.atomic import write_text
from clickseg.commands.evaluate import Start
from clickseg.commands.out import try_to_write_in
from clickseg.commands.trained import count_trained_on
from clickseg.evaluation.run import NOTHING, OWN, check_labels, check_start, holds_masks
from clickseg.evaluation.search import METHODS
from clickseg.evaluation.search import search as search_settings
from clickseg.evaluation.table import SHOWN, line_of
from clickseg.machine import describe_machine
from clickseg.modelfile import Manifest, read_manifest
from clickseg.models import WEIGHTS
from clickseg.study import labeled_cases


def search(
    method: Annotated[str, typer.Argument(help=f"One of {', '.join(METHODS)}.")],
    studies: Annotated[Path, typer.Option(help="Labeled studies; none that are reported on.")],
    out: Annotated[Path, typer.Option(help="Folder of the results; a run that stopped goes on.")],
    models: Annotated[Path, typer.Option(help="Whose initial outlines to mend.")] = WEIGHTS,
    labels: Annotated[Path | None, typer.Option(help="Where the labels are, if elsewhere.")] = None,
    clicks: Annotated[int, typer.Option(help="Clicks a study, at most.", min=1)] = 5,
    start: Start = OWN,
) -> None:
    """Try all settings of a method; write NAME.json and NAME.md, the best first."""
    try_to_write_in(out)
    cases = labeled_cases(studies, labels)
    check_start(start, cases)
    check_labels(cases)
    seen = count_trained_on(_makers(start, models), cases)
    if seen:
        typer.echo(
            f"the initial model was trained on {seen} of these {len(cases)} studies: its outlines "
            "of them have fewer errors than those of others",
            err=True,
        )
    rows = search_settings(method, cases, models, clicks, out, start)
    values = {
        "method": method,
        "studies": [case.case_id for case in cases],
        "trained_on": seen,
        "clicks": clicks,
        "start": start,
        "rows": rows,
        "command": shlex.join(["clickseg", *sys.argv[1:]]),
        "machine": describe_machine(),
    }
    text = as_markdown(rows, clicks)
    for name, content in (("json", json.dumps(values, indent=1) + "\n"), ("md", text)):
        write_text(out / f"{method}.{name}", content)
    typer.echo(text)


def _makers(start: str, models: Path) -> list[Manifest]:
    """Return the manifest of the model that makes the start masks, if one does."""
    if start == NOTHING or holds_masks(start):
        return []
    return [read_manifest(models if start == OWN else Path(start), "initial")]


def as_markdown(rows: list[dict[str, Any]], clicks: int) -> str:
    """Return the rows as a table."""
    shown = [count for count in SHOWN if count <= clicks]
    names = list(rows[0]["settings"])
    heads = [*names, *(f"Dice {count}" for count in shown), "AUC", "harm", "used"]
    lines = [line_of(heads), line_of(["---:"] * len(heads))]
    for row in rows:
        cells = ["" if value is None else f"{value:g}" for value in row["settings"].values()]
        cells += [f"{row['dice'][count]:.3f}" for count in shown]
        cells += [f"{row['auc']:.4f}", f"{row['harm_rate']:.3f}", "yes" if row["is_used"] else ""]
        lines.append(line_of(cells))
    return "\n".join(lines) + "\n"
