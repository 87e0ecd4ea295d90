"""What was measured: summed up, compared with what is wanted, printed and saved."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from clickseg import __version__
from clickseg.machine import describe_machine

PACKAGES = ("torch", "monai", "monailabel", "SimpleITK", "numpy")
GB = 1e9


@dataclass
class Timings:
    """Seconds of the same request, one each."""

    name: str
    seconds: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Return a percentile in seconds; 50 is the median."""
        return float(np.percentile(self.seconds, share))


@dataclass(frozen=True)
class Wanted:
    """A value and its bound: at most ``bound`` is wanted."""

    name: str
    value: float
    bound: float
    unit: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the value is what was wanted."""
        return self.value <= self.bound


@dataclass(frozen=True)
class Report:
    """All of a run. ``timings`` are of requests, in the order of the table; memory is in bytes.

    ``methods``: of a click of each method without a server.
    """

    machine: dict[str, Any]
    versions: dict[str, str]
    run: dict[str, Any]
    timings: list[Timings]
    memory: dict[str, int | None]
    wanted: list[Wanted]
    methods: list[Timings]

    def print(self, console: Console) -> None:
        """Print tables."""
        console.print(
            _sentence(self.machine), _sentence(self.versions), _sentence(self.run), sep="\n"
        )
        console.print(_latencies("Latencies (ms)", "request", self.timings))
        title = "Latencies of a click without a server, one thread (ms)"
        console.print(_latencies(title, "method", self.methods))
        memory = {name: f"{size / GB:.2f}" for name, size in self.memory.items() if size}
        console.print("Resident memory of the server (GB):", _sentence(memory))
        table = Table(title="Wanted", title_justify="left")
        for name in ("value", "is", "wanted, at most", "met"):
            table.add_column(name, justify="left" if name in ("value", "met") else "right")
        for row in self.wanted:
            is_met = "[green]yes[/]" if row.is_met else "[red]no[/]"
            value, bound = (f"{number:.3g} {row.unit}".strip() for number in (row.value, row.bound))
            table.add_row(row.name, value, bound, is_met)
        console.print(table)

    def save(self, path: Path) -> None:
        """Write everything, each single request included, as JSON."""
        values = asdict(self)
        for name, timings in (("timings", self.timings), ("methods", self.methods)):
            values[name] = [
                asdict(one) | {"p50": one.percentile(50), "p95": one.percentile(95)}
                for one in timings
            ]
        values["wanted"] = [asdict(row) | {"is_met": row.is_met} for row in self.wanted]
        path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def describe_surroundings() -> dict[str, Any]:
    """Return what the timings depend on; nothing that names the machine."""
    return describe_machine() | {
        "memory": f"{psutil.virtual_memory().total / GB:.0f} GB",
        "load before": round(psutil.getloadavg()[0], 2),
    }


def describe_versions() -> dict[str, str]:
    """Return the versions of what is measured."""
    packages = {name: version(name) for name in PACKAGES}
    return {"clickseg": __version__, "Python": platform.python_version()} | packages


def _latencies(title: str, head: str, rows: list[Timings]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(head, overflow="fold")
    for name in ("p50", "p95", "least", "most", "count"):
        table.add_column(name, justify="right")
    for timings in rows:
        shares = (50, 95, 0, 100) if len(timings.seconds) > 1 else (50,)
        numbers = [f"{1000 * timings.percentile(share):.0f}" for share in shares]
        numbers += [""] * (4 - len(shares))
        table.add_row(timings.name, *numbers, str(len(timings.seconds)))
    return table


def _sentence(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
