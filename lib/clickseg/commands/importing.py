"""``clickseg import-vs-seg`` and ``import-nifti``: data sets of others as a folder of studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from clickseg.atomic import write_text
from clickseg.importing.bids import find_in_bids
from clickseg.importing.nifti import find_by_patterns
from clickseg.importing.page import render
from clickseg.importing.place import Place, check_room
from clickseg.importing.run import Job, Outcome, State, run_jobs
from clickseg.importing.source import ImportingError, Source, Wishes
from clickseg.importing.vs_seg import official_split, scan
from clickseg.importing.vs_study import VsSegStudy
from clickseg.training.split import SPLIT_NAME, Split, read_split, write_split

REPORT = "import.html"


class T2Grid(StrEnum):
    """On which voxels the T2 is written."""

    RESAMPLED = "resampled"
    NATIVE = "native"


OutFolder = Annotated[Path, typer.Argument(help="Folder of studies to make or to add to.")]
T2Option = Annotated[
    T2Grid,
    typer.Option(help="T2 on the voxels of the T1ce, or on its own, moved to where it lies."),
]
Jobs = Annotated[int, typer.Option(help="Studies at once, about 0.7 GB each.", min=1)]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Import again what is there; accepted labels go to labels/history."
    ),
]


def import_vs_seg(
    src: Annotated[
        Path, typer.Argument(help="The download: DICOM, outlines and registrations, ZIP or not.")
    ],
    out: OutFolder,
    t2_grid: T2Option = T2Grid.RESAMPLED,
    all_structures: Annotated[
        bool,
        typer.Option(
            "--all-structures", help="Cochleae and follow-up volumes too, in structures/."
        ),
    ] = False,
    jobs: Jobs = 1,
    force: Force = False,
) -> None:
    """Import the public VS-SEG data set (TCIA, doi 10.7937/TCIA.9YTJ-5Q73) with its official split.

    A study that is there is left as it is: an import that stopped goes on. What cannot be imported
    is told in OUT/import.html, and the exit status is 1 then.
    """
    split = official_split()
    _check_split(out, split, force)
    with _bar() as bar:
        task = bar.add_task("files", total=None)
        found = scan(src, lambda: bar.advance(task))
    notes = [f"a file is left out: {reason}" for reason in found.broken]
    if found.others:
        notes.append(
            f"{found.others} DICOM files are left out: of patients not called VS-SEG-001, ..."
        )
    sources = [VsSegStudy(one) for one in found.found.values()]
    wishes = Wishes(t2_grid is T2Grid.RESAMPLED, all_structures)
    outcomes = _import(sources, out, wishes, jobs, force, split)
    _report(outcomes, out, "VS-SEG", split.sides(), notes)


def import_nifti(
    src: Annotated[Path, typer.Argument(help="Folder of images, or of a BIDS data set.")],
    out: OutFolder,
    t1ce: Annotated[
        str | None, typer.Option(help="Where T1ce are below SRC, as in '{id}/{id}_t1.nii.gz'.")
    ] = None,
    t2: Annotated[str | None, typer.Option(help="Where T2 are, likewise.")] = None,
    label: Annotated[str | None, typer.Option(help="Where labels are, likewise.")] = None,
    bids: Annotated[
        bool, typer.Option("--bids", help="Find sub-*/anat/*_T1w (ce-gad) and *_T2w instead.")
    ] = False,
    label_value: Annotated[
        int | None,
        typer.Option(
            help="Which value is the tumor, where labels hold several.", metavar="N", min=1
        ),
    ] = None,
    t2_grid: T2Option = T2Grid.RESAMPLED,
    jobs: Jobs = 1,
    force: Force = False,
) -> None:
    """Import studies that are NIfTI or NRRD: T1ce with T2 and label, checked and reported.

    T1ce and T2 must lie in one frame; a label lies on the voxels of its T1ce.
    """
    patterns = {"t1ce": t1ce, "t2": t2, "label": label}
    given = {part: pattern for part, pattern in patterns.items() if pattern is not None}
    if bids == bool(given) or (given and "t1ce" not in given):
        raise typer.BadParameter("either --bids or --t1ce with a pattern was wanted")
    sources = find_in_bids(src) if bids else find_by_patterns(src, given)
    wishes = Wishes(t2_grid is T2Grid.RESAMPLED, label_value=label_value)
    outcomes = _import(sources, out, wishes, jobs, force)
    _report(outcomes, out, src.absolute().name, {}, [])


def _check_split(out: Path, split: Split, is_forced: bool) -> None:
    """Refuse to replace another split, or a file that is none.

    Raises:
        ImportingError: if there is one.
    """
    path = out / SPLIT_NAME
    if is_forced or not path.is_file():
        return
    try:
        is_other = read_split(path) != split
    except (ValueError, TypeError) as error:
        raise ImportingError(f"{path} is no split ({error}); --force replaces it") from error
    if is_other:
        raise ImportingError(f"{path} is another split; --force replaces it")


def _import(
    sources: Sequence[Source],
    out: Path,
    wishes: Wishes,
    processes: int,
    is_forced: bool,
    split: Split | None = None,
) -> list[Outcome]:
    if out.is_file():
        raise ImportingError(f"a folder of studies was wanted, {out} is a file")
    new = [s for s in sources if is_forced or not Place(out, s.case_id).is_imported()]
    check_room(out, new)
    if split is not None:
        # Before the first study: training on what a stopped import left must not see the test side.
        write_split(split, out / SPLIT_NAME)
    work = [Job(source, out, wishes, is_forced) for source in sources]
    with _bar() as bar:
        task = bar.add_task("studies", total=len(work))

        def advance(outcome: Outcome) -> None:
            if outcome.state is State.FAILED:
                told = f"{outcome.case_id}: {outcome.reason}"
                bar.console.log(told, markup=False, highlight=False)
            bar.advance(task)

        return run_jobs(work, processes, advance)


def _report(
    outcomes: Sequence[Outcome],
    out: Path,
    name: str,
    sides: Mapping[str, str],
    notes: Sequence[str],
) -> None:
    """Write the page, and say in one line what became of the studies.

    Raises:
        Exit: with status 1 if one was not imported.
    """
    path = out / REPORT
    write_text(path, render(outcomes, name, sides, notes, datetime.now(UTC).astimezone()))
    states = [outcome.state for outcome in outcomes]
    counts = (f"{states.count(state)} {state.value}" for state in State if state in states)
    doubtful = sum(bool(outcome.warnings) for outcome in outcomes)
    typer.echo(f"{', '.join(counts)}; {doubtful} with warnings: see {path}")
    if State.FAILED in states:
        raise typer.Exit(1)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
