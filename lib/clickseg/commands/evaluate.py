"""``clickseg evaluate``: methods on labeled studies, before a simulated reader."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import typer

from clickseg.clicks import Click
from clickseg.commands.out import try_to_write_in
from clickseg.commands.trained import count_trained_on
from clickseg.drawing import Outlines, draw_picture
from clickseg.evaluation.methods import manifests_of, parse_method, train_minutes
from clickseg.evaluation.run import (
    OWN,
    Job,
    Plan,
    Sequences,
    check_labels,
    check_start,
    method_of,
    run_jobs,
)
from clickseg.evaluation.written import Evaluation
from clickseg.machine import describe_machine
from clickseg.reader import Robot
from clickseg.study import Case, labeled_cases, read_case_label, read_study
from clickseg.training.split import SIDES, SPLIT_NAME, given_split, of_sides
from clickseg.volume import read_label

ALL = "all"

Result = dict[str, Any]

Start = Annotated[
    str,
    typer.Option(
        help="Start masks: own, nothing, or a folder: of masks as --out has them "
        "(ID-start.nii.gz), or of an initial model that makes them."
    ),
]


def evaluate(
    studies: Annotated[Path, typer.Option(help="Folder of studies with labels/final.")],
    out: Annotated[Path, typer.Option(help="Folder of the results; a run that stopped goes on.")],
    models: Annotated[
        str, typer.Option(help="NAME or NAME=FOLDER of its weights; several with commas.")
    ] = "ours",
    labels: Annotated[Path | None, typer.Option(help="Where the labels are, if elsewhere.")] = None,
    side: Annotated[
        str, typer.Option(help="Which studies: all, or training, validation or test of the split.")
    ] = ALL,
    split: Annotated[
        Path | None, typer.Option(help="The split.", show_default="split.json of --studies")
    ] = None,
    clicks: Annotated[int, typer.Option(help="Clicks a study, at most.", min=0)] = 10,
    robot: Annotated[str, typer.Option(help="How to click: center, jitter or border.")] = "center",
    seed: Annotated[int, typer.Option(help="Of the simulated reader.", min=0)] = 0,
    start: Start = OWN,
    sequences: Annotated[str, typer.Option(help="What is there: both, t1ce or t2.")] = "both",
    jobs: Annotated[int, typer.Option(help="Studies at once, one thread each.", min=1)] = 1,
) -> None:
    """Let a simulated reader click on each study; write results, a summary and plots."""
    try_to_write_in(out)
    _check("robot", robot, ("center", "jitter", "border"))
    _check("sequences", sequences, ("both", "t1ce", "t2"))
    _check("side", side, (ALL, *SIDES))
    given = given_split(studies, split)
    if side != ALL and given is None:
        raise typer.BadParameter(f"--side {side} wants --split, or a {SPLIT_NAME} in {studies}")
    methods = [parse_method(text) for text in models.split(",")]
    names = [name for name, _ in methods]
    if len(set(names)) < len(names):
        raise typer.BadParameter(f"--models names a method twice: {models}")
    # What is missing is told now, not after an hour.
    versions = {name: method_of(name, folder).version for name, folder in methods}
    cases = labeled_cases(studies, labels)
    if side != ALL and given is not None:
        cases = of_sides(cases, given, (side,))
    check_start(start, cases)
    check_labels(cases)
    seen = {one[0]: count_trained_on(manifests_of(*one), cases) for one in methods}
    for name, count in seen.items():
        if count:
            typer.echo(f"{name} was trained on {count} of these {len(cases)} studies", err=True)
    plan = Plan(clicks, cast(Robot, robot), seed, start, cast(Sequences, sequences))
    work = [Job(case, name, folder, plan, out) for name, folder in methods for case in cases]
    results = run_jobs(work, jobs)
    # What a worker computed with, not what lies here by now.
    code = ", ".join(sorted({result["settings"]["code"] for result in results}))
    told = asdict(plan) | {"side": side, "code": code, "trained_on": seen}
    told |= {"versions": versions}
    summed = {
        "plan": told,
        "command": shlex.join(["clickseg", *sys.argv[1:]]),
        "machine": describe_machine(),
    }
    minutes = {name: train_minutes(name, folder) for name, folder in methods}
    table = Evaluation(results, summed, minutes).write(out)
    for name, _ in methods:
        _draw_examples([r for r in results if r["method"] == name], cases, out)
    typer.echo(table)


def _check(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise typer.BadParameter(f"--{option} is one of {', '.join(known)}, got {value!r}")


def _draw_examples(results: Sequence[Result], cases: Sequence[Case], out: Path) -> None:
    """Draw the study that ends worst, the one in the middle and the best, of those with clicks."""
    clicked = [result for result in results if result["clicks"] and result["label_ml"] > 0]
    order = sorted(clicked, key=lambda result: float(result["scores"][-1]["dice"]))
    by_id = {case.case_id: case for case in cases}
    for number, rank in ((0, "worst"), (len(order) // 2, "median"), (-1, "best")):
        if order:
            result = order[number]
            path = out / "pictures" / f"{result['method']}-{rank}.png"
            _draw(result, by_id[result["study"]], out, path)


def _draw(result: Result, case: Case, out: Path, path: Path) -> None:
    study = read_study(case.t1ce, case.t2)
    masks = [
        np.asarray(study.grid.to_canonical(read_label(file).array))
        for file in (
            out / "masks" / result["method"] / f"{case.case_id}-{when}.nii.gz"
            for when in ("start", "last")
        )
    ]
    clicks = tuple(
        Click(tuple(click["point_ras"]), click["is_foreground"]) for click in result["clicks"]
    )
    outlines = Outlines(masks[0], masks[1], read_case_label(case, study.grid))
    draw_picture(path, study, outlines, clicks)
