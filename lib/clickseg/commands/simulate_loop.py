"""``clickseg simulate-loop``: is the loop worth it, and which strategy is best?"""

from __future__ import annotations

import json
import logging
import shlex
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import typer
from pydantic import TypeAdapter

from clickseg.atomic import replacing, write_text
from clickseg.choosing.order import ORDERS
from clickseg.commands.device import Device
from clickseg.commands.out import try_to_write_in
from clickseg.commands.seeds import read_seeds
from clickseg.config import ConfigError, SplitConfig
from clickseg.learning.settings import UPDATE, UpdateConfig, load_update
from clickseg.learning.simulate import Loop, Reader, Step, summarize_loops
from clickseg.learning.store import NAMES
from clickseg.machine import describe_machine, memory_bytes
from clickseg.modelfile import read_manifest
from clickseg.models import WEIGHTS, pattern_of, trained_on
from clickseg.parallel import in_processes
from clickseg.process import keep_freed_memory
from clickseg.study import Case, labeled_cases, remember_studies, remembering_studies
from clickseg.training.split import patient_of, split_cases, told_of, without_tested
from clickseg.training.start import select

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HELD_SEED = 0
"""Decides who is held out of the loop: the same patients for every strategy and seed."""


def simulate_loop(
    studies: Annotated[Path, typer.Option(help="Folder of studies with labels/final.")],
    out: Annotated[Path, typer.Option(help="Folder of the results; a run that stopped goes on.")],
    strategy: Annotated[str, typer.Option(help="Strategies with commas, or all.")] = "random",
    rounds: Annotated[int, typer.Option(help="How often the models are updated.", min=1)] = 4,
    per_round: Annotated[int, typer.Option(help="Studies that are read in a round.", min=1)] = 5,
    seeds: Annotated[str, typer.Option(help="One run each, with commas between.")] = "1,2,3",
    held: Annotated[
        float, typer.Option(help="Share of patients that is only measured.", min=0, max=1)
    ] = 0.25,
    clicks: Annotated[int, typer.Option(help="Clicks of the reader a study, at most.", min=0)] = 10,
    good: Annotated[float, typer.Option(help="Dice at which the reader accepts.")] = 0.95,
    base: Annotated[Path, typer.Option(help="The models that the loop begins with.")] = WEIGHTS,
    replay: Annotated[
        Path | None, typer.Option(help="Labeled studies like those of the base, for its trainings.")
    ] = None,
    update: Annotated[Path, typer.Option(help="Settings of an update.")] = UPDATE,
    device: Device = "cpu",
    threads: Annotated[
        int, typer.Option(help="CPU threads of a run; 0 shares the cores among --jobs.", min=0)
    ] = 0,
    jobs: Annotated[int, typer.Option(help="Runs at once, each in a process.", min=1)] = 1,
) -> None:
    """Run the whole loop with a simulated reader; write loop.json and loop.png."""
    try_to_write_in(out)
    names = list(ORDERS) if strategy == "all" else strategy.split(",")
    unknown = [name for name in names if name not in ORDERS]
    if unknown:
        raise ConfigError(f"no strategy {', '.join(unknown)}; there are: {', '.join(ORDERS)}")
    if len(set(names)) < len(names):
        raise ConfigError(f"--strategy names one twice: {strategy}")
    threads = threads or max(1, torch.get_num_threads() // jobs)
    _prepare_process(threads)
    settings, numbers = load_update(update), read_seeds(seeds)
    pattern = pattern_of(base)
    cases = without_tested(labeled_cases(studies), studies, pattern)
    ids = [case.case_id for case in cases]
    of_patient = SplitConfig(patient=pattern, validation=held)
    split = split_cases(ids, of_patient, HELD_SEED, told_of(cases))
    if not split.validation:
        raise ConfigError(f"--held {held} of {len(ids)} studies leaves none to measure on")
    _check_apart(cases, split.validation, base, replay, pattern)
    told = {
        "command": shlex.join(["clickseg", *sys.argv[1:]]),
        "update": TypeAdapter(UpdateConfig).dump_python(settings, mode="json"),
        "studies": {"to choose from": len(split.training), "held out": len(split.validation)},
        "base": [read_manifest(base, name).short_hash for name in NAMES],
        "machine": describe_machine() | {"jobs": jobs},
    }
    runs: dict[str, dict[int, list[Step]]] = {name: {} for name in names}
    # Seed by seed, so that a stop leaves all strategies with fewer seeds.
    loops = [
        Loop(
            cases=select(cases, split.training),
            held=select(cases, split.validation),
            strategy=name,
            seed=seed,
            folder=out / f"{name}-{seed}",
            base=base,
            update=settings,
            reader=Reader(clicks, good),
            device=device,
            replay=replay,
        )
        for seed in numbers
        for name in names
    ]
    for loop, steps in _run_all(loops, rounds, per_round, threads, jobs):
        runs[loop.strategy][loop.seed] = steps
        ordered = {name: dict(sorted(one.items())) for name, one in runs.items() if one}
        _write(out, told | summarize_loops(ordered))


def _check_apart(
    cases: Sequence[Case], held: Sequence[str], base: Path, replay: Path | None, pattern: str
) -> None:
    """Refuse a base that knows who is held out, and a replay that knows who is chosen from.

    Raises:
        ConfigError: with a patient that is on both sides.
    """
    there = [] if replay is None else labeled_cases(replay)
    others, told = [case.case_id for case in there], told_of([*cases, *there])
    for where, theirs, mine in (
        ("--base was trained on", trained_on(base), held),
        ("--replay holds", others, [case.case_id for case in cases]),
    ):
        both = {patient_of(name, pattern, told) for name in theirs}
        both &= {patient_of(name, pattern, told) for name in mine}
        if both:
            raise ConfigError(
                f"{where} {min(both)} and {len(both) - 1} more patients of --studies, which the "
                "loop must not know yet: name other studies"
            )


def _run_all(
    loops: Sequence[Loop], rounds: int, per_round: int, threads: int, jobs: int
) -> Iterator[tuple[Loop, list[Step]]]:
    """Run loops, some at a time; hand on each with its steps when it is through."""
    run, room_bytes = partial(Loop.run, rounds=rounds, per_round=per_round), memory_bytes() // 4
    if jobs == 1:
        with remembering_studies(room_bytes):
            yield from ((loop, run(loop)) for loop in loops)
        return
    # What all runs have in common is made once, before several want it: phantoms, and how the
    # base does on the studies that are held out.
    loops[0].make_replay()
    loops[0].run(0, per_round)
    prepared = (threads, room_bytes // jobs)
    for number, steps in in_processes(run, loops, jobs, _prepare_process, prepared):
        yield loops[number], steps


def _prepare_process(threads: int, remembered_bytes: int = 0) -> None:
    """Set up a process that runs loops: each round asks about the same studies again."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(threads)
    keep_freed_memory()
    remember_studies(remembered_bytes)


def _write(out: Path, result: dict[str, Any]) -> None:
    write_text(out / "loop.json", json.dumps(result, indent=1) + "\n")
    with replacing(out / "loop.png", ".png") as part:
        plot_loops(result).savefig(part)


def plot_loops(result: dict[str, Any]) -> Figure:
    """Draw the Dice of held-out studies against studies labeled and clicks spent."""
    from matplotlib.figure import Figure

    figure = Figure((9.6, 7.2), dpi=110, layout="constrained")
    rows = figure.subplots(2, 2, sharey="row", sharex="col")
    measures = ("holdout_dice", "initial outline"), ("after_clicks", "mean of three clicks")
    against = ("labelled", "studies labeled"), ("clicks", "clicks spent")
    for row, (measure, title) in zip(rows, measures, strict=True):
        for ax, (key, _) in zip(row, against, strict=True):
            for number, (name, one) in enumerate(result["strategies"].items()):
                marker = "os^vDPX"[number % 7]
                ax.plot(one[key], one[measure], f"{marker}-", label=name, markersize=4)
            ax.grid(alpha=0.3)
        row[0].set_ylabel(f"Dice held out, {title}")
    for ax, (_, title) in zip(rows[1], against, strict=True):
        ax.set_xlabel(title)
    longest = max((one["labelled"] for one in result["strategies"].values()), key=len)
    rows[1][0].set_xticks(longest)
    rows[0][0].legend(loc="lower right", fontsize=8)
    return figure
