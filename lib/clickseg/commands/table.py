"""``clickseg table``: make a table of the publication again."""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer

from clickseg import __version__
from clickseg.atomic import replacing
from clickseg.config import Config, ConfigError, as_values
from clickseg.machine import describe_machine
from clickseg.study import Case, labeled_cases
from clickseg.tables.measure import Values, measure
from clickseg.tables.plan import Table, load_table, recipe_of
from clickseg.tables.report import as_markdown, report
from clickseg.training.loop import Run
from clickseg.training.split import patient_of

logger = logging.getLogger(__name__)


def table(
    file: Annotated[Path, typer.Argument(help="A table in configs/tables/.")],
    studies: Annotated[Path, typer.Option(help="Folder of studies to train on.")],
    test: Annotated[Path, typer.Option(help="Folder of studies of other patients, to measure on.")],
    out: Annotated[Path, typer.Option(help="Folder of the results; a run that stopped goes on.")],
    seeds: Annotated[str, typer.Option(help="One training each, with commas between.")] = "1",
    test_labels: Annotated[
        Path | None, typer.Option(help="Where the labels of --test are, if elsewhere.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 takes all cores.", min=0)] = 0,
) -> None:
    """Train each row with each seed; write table.json and table.md."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if threads:
        torch.set_num_threads(threads)
    plan, numbers = load_table(file), _numbers(seeds)
    cases, tested = labeled_cases(studies), labeled_cases(test, test_labels)
    rows = [row for row in plan.rows if (row.cases or 0) <= len(cases)]
    for row in plan.rows:
        if row not in rows:
            logger.warning(
                "row %s is left out: it needs %d studies, not %d", row.name, row.cases, len(cases)
            )
    measured = {
        row.name: {
            seed: _measure(
                plan, recipe_of(plan, row, file, seed), cases[: row.cases], tested, out, device
            )
            for seed in numbers
        }
        for row in rows
    }
    values = report(plan, measured) | {
        "command": shlex.join(["clickseg", *sys.argv[1:]]),
        "studies": {"training": len(cases), "test": len(tested)},
        "seeds": numbers,
        "clickseg": __version__,
        "machine": describe_machine(),
    }
    for name, text in (
        ("table.json", json.dumps(values, indent=1) + "\n"),
        ("table.md", as_markdown(values)),
    ):
        with replacing(out / name) as part:
            part.write_text(text, encoding="utf-8")
    typer.echo(as_markdown(values))


def _measure(
    plan: Table, config: Config, cases: Sequence[Case], test: Sequence[Case], out: Path, device: str
) -> Values:
    """Measure in a folder named by what is measured: rows that train alike share it."""
    _apart(config, cases, test)
    ids = [[case.case_id for case in side] for side in (cases, test)]
    told = json.dumps([plan.measure, as_values(config), *ids]).encode()
    folder = out / "runs" / f"seed{config.seed}-{hashlib.sha256(told).hexdigest()[:12]}"
    return measure(
        plan.measure, config, cases, test, Run(folder, "correction", config.seed, device)
    )


def _apart(config: Config, cases: Sequence[Case], test: Sequence[Case]) -> None:
    """Refuse to measure on patients that were trained on."""
    known, asked = (
        {patient_of(case.case_id, config.split.patient) for case in side} for side in (cases, test)
    )
    if known & asked:
        both = ", ".join(sorted(known & asked)[:5])
        raise ConfigError(f"--test must hold other patients than --studies; both hold {both}")


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise typer.BadParameter(f"--seeds is like 1,2,3, each once, got {text!r}")
    return numbers
