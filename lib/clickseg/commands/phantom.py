"""Make phantom studies: the command ``clickseg phantom``."""

from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from clickseg.accepted import retract
from clickseg.phantom.contours import read_outlines
from clickseg.phantom.scanner import MIXED, check_grid
from clickseg.phantom.write import T2_KINDS, Order, write_phantom
from clickseg.record import RECORD_ENDING
from clickseg.study import LABEL_FOLDER, newest_label


def phantom(
    out: Annotated[Path, typer.Argument(help="Folder of studies to make or to add to.")],
    count: Annotated[
        int | None, typer.Option(help="How many studies.", show_default="1, or all outlines")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed makes other heads and tumors.")] = 0,
    start: Annotated[
        int, typer.Option(help="First study: skip as many of the series or of the outlines.")
    ] = 0,
    contours: Annotated[
        Path | None,
        typer.Option(help="Outlines of real tumors as (gzipped) JSON lines, for procedural ones."),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Which outlines: training, validation, test or all.")
    ] = "training",
    grid: Annotated[str, typer.Option(help="Voxels of the T1ce, as 448x448x80, or mixed.")] = MIXED,
    t2_grid: Annotated[
        str, typer.Option(help="Grid of the T2: same, slab, oblique or mixed.")
    ] = MIXED,
    without_t2: Annotated[
        float, typer.Option(help="Share of studies without T2, 0 to 1.", metavar="SHARE")
    ] = 0.0,
    tumor_free: Annotated[
        float, typer.Option(help="Share of studies without a tumor, 0 to 1.", metavar="SHARE")
    ] = 0.0,
    labels_dir: Annotated[
        Path | None, typer.Option(help="Folder for outlines.", show_default="OUT/labels/final")
    ] = None,
    unlabeled: Annotated[bool, typer.Option("--unlabeled", help="Write no outlines.")] = False,
    jobs: Annotated[int, typer.Option(help="Studies to make at once.")] = 1,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Make again what is there; accepted labels go to labels/history."
        ),
    ] = False,
) -> None:
    """Make phantom studies: T1ce, T2 and outline of heads with a vestibular schwannoma.

    The same arguments make the same voxels. Studies that are complete are left as they are.
    """
    try:
        orders = list_orders(
            out, count, seed, start, contours, split, grid, t2_grid, without_t2,
            None if unlabeled else labels_dir or out / LABEL_FOLDER, tumor_free,
        )  # fmt: skip
        if jobs < 1:
            raise ValueError(f"--jobs is 1 or more, got {jobs}")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    wanted = [order for order in orders if force or not order.is_complete()]
    console = Console(stderr=True)
    if count is not None and len(orders) < count:
        console.print(f"{count} studies were wanted; there are but {len(orders)} outlines")
    volumes = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar, _workers(jobs) as pool:
        task = bar.add_task("studies", total=len(wanted))
        for order, volume_ml in _each(wanted, pool, force):
            volumes.append(volume_ml)
            told = f"{order.case_id}: tumor {volume_ml:.2f} ml"
            bar.console.log(told, markup=False, highlight=False)
            bar.advance(task)
    left = len(orders) - len(wanted)
    told = f"made {len(volumes)} studies in {out}, {left} were there already"
    console.print(told, markup=False, highlight=False)


def list_orders(
    out: Path,
    count: int | None,
    seed: int,
    start: int,
    contours: Path | None,
    split: str,
    grid: str,
    t2_grid: str,
    without_t2: float,
    labels: Path | None,
    tumor_free: float = 0.0,
) -> list[Order]:
    """Return what is to be made.

    Raises:
        ValueError: if an argument is not what was wanted.
    """
    if out.is_file():
        raise ValueError(f"OUT is a folder of studies, but {out} is a file")
    if count is not None and count < 1:
        raise ValueError(f"--count is 1 or more, got {count}")
    if start < 0:
        raise ValueError(f"--start is 0 or more, got {start}")
    for option, share in (("--without-t2", without_t2), ("--tumor-free", tumor_free)):
        if not 0 <= share <= 1:
            raise ValueError(f"{option} is a share from 0 to 1, got {share}")
    if t2_grid != MIXED and t2_grid not in T2_KINDS:
        raise ValueError(f"--t2-grid is one of {', '.join(T2_KINDS)} or {MIXED}, got {t2_grid!r}")
    check_grid(grid)
    kind = None if t2_grid == MIXED else t2_grid
    if contours is None:
        numbers = range(start + 1, start + 1 + (count or 1))
        return [
            Order(out, labels, seed, n, None, grid, kind, without_t2, tumor_free) for n in numbers
        ]
    found = read_outlines(contours, split)
    chosen = found[start:] if count is None else found[start : start + count]
    if not chosen:
        raise ValueError(f"--start {start} is beyond the {len(found)} outlines of split {split!r}")
    return [Order(out, labels, seed, 0, o, grid, kind, without_t2, tumor_free) for o in chosen]


@contextmanager
def _workers(jobs: int) -> Iterator[Executor | None]:
    if jobs == 1:
        yield None
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        yield pool


def _each(
    orders: list[Order], pool: Executor | None, is_forced: bool
) -> Iterator[tuple[Order, float]]:
    make = partial(_make, is_forced=is_forced)
    if pool is None:
        for order in orders:
            yield order, make(order)
        return
    futures: dict[Future[float], Order] = {pool.submit(make, o): o for o in orders}
    for future in as_completed(futures):
        yield futures[future], future.result()


def _make(order: Order, is_forced: bool) -> float:
    """Make a study; a reader's label in its way, or of the image before, goes to the history."""
    return write_phantom(order, partial(_make_room, order, is_forced))


def _make_room(order: Order, is_forced: bool) -> None:
    folder = order.out / LABEL_FOLDER
    label = newest_label(folder, order.case_id)
    if label is None or not (is_forced or order.labels == folder):
        return
    has_record = (folder / f"{order.case_id}{RECORD_ENDING}").is_file()
    # Without a record it is the outline that one of the same arguments got.
    if has_record or label != order.paths()[2]:
        retract(order.out, order.case_id)
