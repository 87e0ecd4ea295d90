"""``clickseg table``: make a table of the publication again."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from clickseg.atomic import write_text
from clickseg.commands.device import Device
from clickseg.commands.out import try_to_write_in
from clickseg.commands.seeds import read_seeds
from clickseg.config import Config, ConfigError, as_values
from clickseg.evaluation.run import fingerprints
from clickseg.machine import memory_bytes
from clickseg.study import Case, labeled_cases, remembering_studies
from clickseg.tables.measure import Sides, check_readable, measure
from clickseg.tables.plan import Row, Table, load_table, recipe_of
from clickseg.tables.report import as_markdown, report
from clickseg.training.loop import Run
from clickseg.training.split import patient_of, split_cases, told_of
from clickseg.training.start import select

logger = logging.getLogger(__name__)


def table(
    file: Annotated[Path, typer.Argument(help="A table in configs/tables/.")],
    studies: Annotated[Path, typer.Option(help="Folder of studies to train on.")],
    test: Annotated[Path, typer.Option(help="Folder of studies of other patients, to measure on.")],
    out: Annotated[Path, typer.Option(help="Folder of the results; a run that stopped goes on.")],
    seeds: Annotated[str, typer.Option(help="One training each, with commas between.")] = "1,2,3",
    test_labels: Annotated[
        Path | None, typer.Option(help="Where the labels of --test are, if elsewhere.")
    ] = None,
    device: Device = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 takes all cores.", min=0)] = 0,
    workers: Annotated[
        int, typer.Option(help="More processes, which draw batches ahead of a GPU.", min=0)
    ] = 0,
) -> None:
    """Train each row with each seed; write a table named as the file, .json and .md."""
    try_to_write_in(out)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if threads:
        torch.set_num_threads(threads)
    plan, numbers = load_table(file), read_seeds(seeds)
    cases, tested = labeled_cases(studies), labeled_cases(test, test_labels)
    check_apart(recipe_of(plan, plan.rows[0], file, 0), cases, tested)
    check_readable(tested)
    rows = _with_enough(plan, file, cases)
    measured: dict[str, dict[int, dict[str, Any]]] = {row.name: {} for row in rows}
    told = {
        "command": shlex.join(["clickseg", *sys.argv[1:]]),
        "studies": {"given": len(cases), "test": len(tested)},
        "seeds": numbers,
    }
    # Seed by seed, so that a stop leaves whole tables of fewer seeds.
    with remembering_studies(memory_bytes() // 2):  # each row cuts out of all of them
        for seed, row in itertools.product(numbers, rows):
            config = recipe_of(plan, row, file, seed)
            sides = sides_of(config, row, cases, tested)
            run = Run(
                out / "runs" / _name(plan, config, sides), "cuts", seed, device, workers=workers
            )
            measured[row.name][seed] = measure(plan.measure, config, sides, run)
            values = report(plan, measured) | told
            write_text(out / f"{file.stem}.json", json.dumps(values, indent=1) + "\n")
            write_text(out / f"{file.stem}.md", as_markdown(values))
    typer.echo(as_markdown(values))


def _with_enough(plan: Table, file: Path, cases: Sequence[Case]) -> list[Row]:
    """Return the rows for which there are studies enough; the others stay empty in the table."""
    config = recipe_of(plan, plan.rows[0], file, 0)
    ids = [case.case_id for case in cases]
    count = len(split_cases(ids, config.split, 0, told_of(cases)).training)
    for row in plan.rows:
        if (row.cases or 0) > count:
            logger.warning(
                "row %s is not measured: it trains on %d studies, there are %d and %d that watch",
                *(row.name, row.cases, count, len(cases) - count),
            )
    rows = [row for row in plan.rows if (row.cases or 0) <= count]
    if len(rows) < 2:
        raise ConfigError(f"{file.name} has fewer than two rows for {count} training studies")
    return rows


def sides_of(config: Config, row: Row, cases: Sequence[Case], test: Sequence[Case]) -> Sides:
    """Divide by patient; of the training cases take as many as the row says, drawn by the seed."""
    told = told_of(cases)
    split = split_cases([case.case_id for case in cases], config.split, config.seed, told)
    patient = {name: patient_of(name, config.split.patient, told) for name in split.training}
    patients = sorted({*patient.values()})
    order = np.random.default_rng(config.seed).permutation(len(patients))
    rank = {patients[index]: place for place, index in enumerate(order)}
    drawn = sorted(split.training, key=lambda name: (rank[patient[name]], name))
    by_id = {case.case_id: case for case in cases}
    return Sides(
        [by_id[name] for name in drawn[: row.cases]], select(cases, split.validation), test
    )


def check_apart(config: Config, cases: Sequence[Case], test: Sequence[Case]) -> None:
    """Refuse to measure on patients that are trained on; raises ``ConfigError``."""
    pattern, told = config.split.patient, told_of([*cases, *test])
    known, asked = (
        {patient_of(case.case_id, pattern, told) for case in side} for side in (cases, test)
    )
    if known & asked:
        both = ", ".join(sorted(known & asked)[:5])
        raise ConfigError(f"--test must hold other patients than --studies; both hold {both}")


def _name(plan: Table, config: Config, sides: Sides) -> str:
    """Name a run by all that its figures depend on: rows that train alike share it."""
    cases = [*sides.training, *sides.validation, *sides.test]
    files = [fingerprints(case) for case in cases]
    told = json.dumps([plan.measure, as_values(config), len(sides.training), files]).encode()
    return f"seed{config.seed}-{hashlib.sha256(told).hexdigest()[:12]}"
