"""``clickseg to-dicom``: studies of a folder as DICOM, for a PACS and its viewers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from clickseg.commands.out import try_to_write_in
from clickseg.dicom.mr import SeriesHeader, headers_of, write_series
from clickseg.study import Case, find_cases
from clickseg.volume import ImageError, read_volume


def to_dicom(
    studies: Annotated[Path, typer.Argument(help="Folder of studies; T2 are found in t2/.")],
    out: Annotated[Path, typer.Argument(help="Where OUT/<id>/t1ce and OUT/<id>/t2 go.")],
    only: Annotated[
        list[str] | None, typer.Option("--id", help="Only this study; repeat it.", metavar="ID")
    ] = None,
    descending: Annotated[
        bool, typer.Option("--descending", help="Number the slices from the other end.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace series that are already there.")
    ] = False,
) -> None:
    """Write studies as DICOM MR series; of the patient they hold the id of the study alone.

    The same id makes the same UIDs. T1ce and T2 share one frame of reference: what NIfTI says.
    """
    try_to_write_in(out, "OUT")
    wanted = [series for case in _chosen(studies, only) for series in _series_of(case, out)]
    there = [str(folder) for _, folder, _ in wanted if folder.exists()]
    if there and not force:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise ImageError(f"{there[0]}{more} is there already; --force replaces it")
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("series", total=len(wanted))
        for path, folder, header in wanted:
            volume = read_volume(path)
            write_series(volume, folder, header, descending=descending, replace=force)
            bar.advance(task)
    console.print(f"wrote {len(wanted)} series to {out}", markup=False, highlight=False)


def _chosen(studies: Path, only: list[str] | None) -> list[Case]:
    cases = {case.case_id: case for case in find_cases(studies)}
    missing = sorted(set(only or []) - set(cases))
    if missing or not cases:
        wanted = f"the study {missing[0]}" if missing else "at least one study"
        raise ImageError(f"{wanted} was wanted, {studies} has {len(cases)} others")
    return [case for name, case in cases.items() if not only or name in only]


def _series_of(case: Case, out: Path) -> list[tuple[Path, Path, SeriesHeader]]:
    """List which image becomes which series, in which folder."""
    t1ce, t2 = headers_of(case.case_id)
    series = [(case.t1ce, out / case.case_id / "t1ce", t1ce)]
    if case.t2 is not None:
        series.append((case.t2, out / case.case_id / "t2", t2))
    return series
