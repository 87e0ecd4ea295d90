"""Measure how long a reader waits: the program of ``make bench``.

Two servers run on this machine, started as ``make serve`` does: the app, and one with what it is
compared with (``bench_app``). A simulated reader clicks on phantom studies; each of its requests
holds all clicks so far, as both viewers send them. Beside each click the echo task is asked the
same, before and after it in turns: what is asked first finds cold caches, since the reader looked
at a whole mask to find the next click. Nothing is asserted: the last table says
which wanted values were met, and the exit status is 0 either way.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from methods import time_methods
from next_sample import time_next_sample
from report import GB, Report, Timings, Wanted, describe_surroundings, describe_versions
from rich.console import Console
from server import Server
from untrained import save_untrained
from viewers import Ohif, Reply, Slicer, Viewer, points_of

from clickseg.clicks import Click, Voxel
from clickseg.geometry import Grid
from clickseg.modelfile import ModelError, read_manifest
from clickseg.models import WEIGHTS
from clickseg.phantom.write import Order, write_phantom
from clickseg.reader import next_click
from clickseg.volume import read_label

HERE = Path(__file__).parent
APP = HERE.parents[1] / "apps" / "vs_clickseg"
SEED = 2026


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    grid: str
    studies: int
    clicks: int
    whole_volume: int
    side: int
    method_clicks: int
    waiting: int
    next_samples: int


FULL = Size("448x448x80", 5, 30, 3, 128, 5, 200, 10)
QUICK = Size("96x80x24", 3, 3, 1, 32, 2, 20, 2)


class Reader:
    """A simulated reader before one study, with one viewer."""

    def __init__(self, server: Server, viewer: Viewer, label: Path, work: Path) -> None:
        self.server, self.viewer = server, viewer
        self.case_id = label.name.removesuffix(".nii.gz")
        volume = read_label(label)
        self.grid: Grid = volume.grid
        self._label = self.grid.to_canonical(volume.array)
        self._pred = np.zeros_like(self._label)
        self._work = work
        self._rng = np.random.default_rng(SEED)
        self.clicks: list[Click] = []

    def segment(self) -> Reply:
        """Ask for the initial outline."""
        return self._look(self.viewer.ask(self.server.url, "initial", self.case_id, {}))

    def click(self) -> Reply:
        """Click where the outline is most wrong, and ask for a better one."""
        self.find()
        return self.ask()

    def find(self) -> None:
        """Add the next click."""
        self.clicks.append(self._next())

    def ask(self) -> Reply:
        """Ask for the outline with all clicks so far."""
        points = points_of(self.clicks, self.grid)
        return self._look(self.viewer.ask(self.server.url, "click", self.case_id, points))

    def ask_other(self, server: Server, model: str) -> Reply:
        """Ask another server the same."""
        points = points_of(self.clicks, self.grid)
        return self.viewer.ask(server.url, model, self.case_id, points)

    def _look(self, reply: Reply) -> Reply:
        self._pred = self.grid.to_canonical(reply.read_mask(self._work).array)
        return reply

    def _next(self) -> Click:
        canonical = self.grid.canonical
        clicked = [click.voxel(canonical) for click in self.clicks]
        spacing_mm = canonical.spacing_mm.tolist()
        found = next_click(self._label, self._pred, spacing_mm, clicked)
        if found is not None:
            return Click.at(found[0], found[1], canonical)
        return Click.at(self._any_free(clicked), True, canonical)

    def _any_free(self, clicked: list[Voxel]) -> Voxel:
        """Return any voxel of the tumor, for a reader who has nothing left to mend."""
        free = self._label != 0
        for voxel in clicked:
            free[voxel] = False
        i, j, k = self._rng.choice(np.argwhere(free)).tolist()
        return i, j, k


@dataclass
class Measured:
    """What is timed, in the order of the table."""

    start: Timings = field(default_factory=lambda: Timings("start of the server, until it answers"))
    initial: Timings = field(default_factory=lambda: Timings("initial, cold: first request of all"))
    initial_server: Timings = field(default_factory=lambda: Timings("  of it in the server"))
    later: Timings = field(default_factory=lambda: Timings("initial, further studies"))
    first: Timings = field(default_factory=lambda: Timings("first click of a study"))
    click: Timings = field(default_factory=lambda: Timings("warm click, 3D Slicer"))
    click_server: Timings = field(default_factory=lambda: Timings("  of it in the server"))
    click_infer: Timings = field(default_factory=lambda: Timings("    networks and fusion"))
    click_write: Timings = field(default_factory=lambda: Timings("    writing the mask"))
    echo: Timings = field(default_factory=lambda: Timings("echo, 3D Slicer"))
    echo_server: Timings = field(default_factory=lambda: Timings("  of it in the server"))
    click_ohif: Timings = field(default_factory=lambda: Timings("warm click, OHIF"))
    echo_ohif: Timings = field(default_factory=lambda: Timings("echo, OHIF"))
    whole: Timings = field(default_factory=lambda: Timings("whole-volume network, 3D Slicer"))
    again: Timings = field(
        default_factory=lambda: Timings("first study again, after all the others")
    )

    def all(self) -> list[Timings]:
        """Return all of them."""
        return list(vars(self).values())


def bench(
    quick: Annotated[
        bool, typer.Option("--quick", help="A small study and few clicks: a test of the benchmark.")
    ] = False,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="Random weights in place of trained ones.")
    ] = False,
    models: Annotated[Path, typer.Option(help="Folder of both models.")] = WEIGHTS,
    clicks: Annotated[int | None, typer.Option(help="Warm clicks a viewer.", min=1)] = None,
    json: Annotated[Path | None, typer.Option(help="Save all numbers in this file.")] = None,
) -> None:
    """Measure the latencies and the memory of the server on this machine."""
    size = QUICK if quick else FULL
    count = clicks or size.clicks
    console = Console(width=None if sys.stdout.isatty() else 100)
    with tempfile.TemporaryDirectory(prefix="clickseg-bench-") as folder:
        work = Path(folder)
        # torch makes this folder when an optimizer is made, and would leave it behind.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(work / "compiled")
        weights = save_untrained(work / "models") if untrained else models.resolve()
        hashes = _hashes(weights)
        machine = describe_surroundings()
        with console.status("making studies") as status:
            labels = make_studies(work, size)
            measured, memory = measure(work, labels, weights, size, count, status.update)
            label = labels[0]
            images = [work / "studies" / folder / label.name for folder in ("", "t2")]
            status.update("Next Sample")
            more = time_next_sample(APP, work, weights, size.waiting, size.next_samples, SEED)
            methods = time_methods(*images, label, weights, size.method_clicks, status.update)
    run = {
        "study": size.grid,
        "warm clicks a viewer": count,
        "models": hashes + (", random weights" if untrained else ""),
        "whole-volume network": f"DynUNet on {size.side}x{size.side}x{size.side}, random weights",
    }
    wanted = compare(measured, memory, size, more)
    timings = [*measured.all(), *more]
    report = Report(machine, describe_versions(), run, timings, memory, wanted, methods)
    report.print(console)
    if json is not None:
        report.save(json)


def make_studies(work: Path, size: Size) -> list[Path]:
    """Make phantom studies; return their reference outlines, which the server must not see."""
    orders = [
        Order(work / "studies", work / "labels", SEED, index, None, size.grid)
        for index in range(1, size.studies + 1)
    ]
    for order in orders:
        write_phantom(order)
    return [path for order in orders if (path := order.paths()[2]) is not None]


def measure(
    work: Path, labels: list[Path], weights: Path, size: Size, count: int, say: Any
) -> tuple[Measured, dict[str, int | None]]:
    """Run both servers and the readers."""
    measured = Measured()
    # A server that has no new studies scores none; here it would all the time.
    settings = {"pretrained_path": str(weights), "skip_scoring": "true"}
    studies = work / "studies"
    say("starting the app")
    with Server("app", [APP], studies, work, settings) as app:
        measured.start.seconds.append(app.start_s)
        memory: dict[str, int | None] = {"at rest": app.resident_bytes()}
        say("initial outline")
        slicer = Reader(app, Slicer(), labels[0], work)
        reply = slicer.segment()
        measured.initial.seconds.append(reply.seconds)
        measured.initial_server.seconds.append(reply.server_s)
        measured.first.seconds.append(slicer.click().seconds)
        say("starting what it is compared with")
        settings |= {"spatial_size": str(size.side), "preload": "false"}
        with Server("other", [APP, HERE / "bench_app"], studies, work, settings) as other:
            ohif = Reader(app, Ohif(), labels[1], work)
            measured.later.seconds.append(_initial_as_slicer(ohif, labels[1], work))
            measured.first.seconds.append(ohif.click().seconds)
            _click_in_turn(slicer, ohif, other, measured, size, count, say)
        for label in labels[2:]:
            say(f"{label.name.removesuffix('.nii.gz')}, to fill the cache")
            reader = Reader(app, Slicer(), label, work)
            measured.later.seconds.append(reader.segment().seconds)
            measured.first.seconds.append(reader.click().seconds)
        memory[f"with {len(labels)} studies"] = app.resident_bytes()
        memory["highest"] = app.highest_resident_bytes()
        measured.again.seconds.append(slicer.click().seconds)
    return measured, memory


def _initial_as_slicer(reader: Reader, label: Path, work: Path) -> float:
    """Fetch the initial outline for a reader whose viewer is another."""
    return Reader(reader.server, Slicer(), label, work).segment().seconds


def _click_in_turn(
    slicer: Reader,
    ohif: Reader,
    other: Server,
    measured: Measured,
    size: Size,
    count: int,
    say: Any,
) -> None:
    for reader in (slicer, ohif):  # the other server reads its studies
        reader.ask_other(other, "echo")
    slicer.ask_other(other, "whole_volume")
    with_whole_volume = set(np.linspace(0, count - 1, size.whole_volume).round().astype(int))
    for index in range(count):
        say(f"warm click {index + 1} of {count}")
        reply, echo = _beside_echo(slicer, other, index % 2 == 0)
        measured.click.seconds.append(reply.seconds)
        measured.click_server.seconds.append(reply.server_s)
        measured.click_infer.seconds.append(reply.result["latencies"]["infer"])
        measured.click_write.seconds.append(reply.result["latencies"]["write"])
        measured.echo.seconds.append(echo.seconds)
        measured.echo_server.seconds.append(echo.server_s)
        reply, echo = _beside_echo(ohif, other, index % 2 == 0)
        measured.click_ohif.seconds.append(reply.seconds)
        measured.echo_ohif.seconds.append(echo.seconds)
        if index in with_whole_volume:
            measured.whole.seconds.append(slicer.ask_other(other, "whole_volume").seconds)


def _beside_echo(reader: Reader, other: Server, click_first: bool) -> tuple[Reply, Reply]:
    """Return the answers to a new click and to the same request to the echo task."""
    reader.find()
    if click_first:
        reply = reader.ask()
        return reply, reader.ask_other(other, "echo")
    echo = reader.ask_other(other, "echo")
    return reader.ask(), echo


def compare(
    measured: Measured, memory: dict[str, int | None], size: Size, more: list[Timings]
) -> list[Wanted]:
    """Return the wanted values beside the measured ones; ratios are of medians."""
    click, ohif = measured.click.percentile(50), measured.click_ohif.percentile(50)
    resident = memory[f"with {size.studies} studies"] or 0
    whole = measured.whole.percentile(50)
    slowest = max(one.percentile(50) for one in more)
    return [
        Wanted("warm click / echo, 3D Slicer", click / measured.echo.percentile(50), 1.5),
        Wanted("warm click / echo, OHIF", ohif / measured.echo_ohif.percentile(50), 1.5),
        Wanted("warm click / whole-volume network, 3D Slicer", click / whole, 0.1),
        Wanted("initial, cold", measured.initial.percentile(50), 6.0, "s"),
        Wanted(f"Next Sample of {size.waiting}, slowest strategy", slowest, 0.2, "s"),
        Wanted(f"resident memory with {size.studies} studies cached", resident / GB, 2.0, "GB"),
    ]


def _hashes(weights: Path) -> str:
    try:
        found = [read_manifest(weights, name) for name in ("initial", "correction")]
    except ModelError as error:
        raise typer.BadParameter(str(error)) from error
    return " and ".join(manifest.short_hash for manifest in found)


def _leave(*_: object) -> None:
    raise SystemExit(143)  # ends the servers and removes the files on the way out


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _leave)
    typer.run(bench)
