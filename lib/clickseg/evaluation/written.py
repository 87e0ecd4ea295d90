"""What an evaluation leaves in its folder, and how several of the same studies become one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clickseg.atomic import write_text
from clickseg.evaluation.plots import plot_curves, plot_volumes
from clickseg.evaluation.summary import by_study, summarize
from clickseg.evaluation.table import as_markdown, caption_of

Result = dict[str, Any]

RESULTS, SUMMARY, STUDIES = "results.json", "summary.json", "studies.json"

SAME = ("clicks", "robot", "seed", "sequences", "files")
"""What readings must have in common, study by study, to stand in one table."""


BY_METHOD = ("start", "side", "code", "versions", "trained_on")
"""What a plan tells of the methods that were read by it."""


class MergeError(ValueError):
    """Evaluations that do not fit together; the text says which and why."""


@dataclass(frozen=True)
class Evaluation:
    """All readings, and what stands beside their summary.

    ``told``: ``plan``, ``command`` and ``machine``; ``train_minutes`` by method.
    """

    results: list[Result]
    told: dict[str, Any]
    train_minutes: dict[str, float | None]

    @property
    def clicks(self) -> int:
        """How many clicks a study had at most."""
        return int(self.told["plan"]["clicks"])

    def write(self, out: Path) -> str:
        """Write results, summary and plots; return the table.

        ``studies.json`` is small enough to be kept beside the summary: what p is computed from.
        """
        summary = summarize(self.results, self.clicks) | self.told
        for name, minutes in self.train_minutes.items():
            summary["methods"][name]["train_minutes"] = minutes
        write_text(out / RESULTS, json.dumps(self.results, indent=1))
        write_text(out / SUMMARY, json.dumps(summary, indent=1))
        write_text(out / STUDIES, _studies(by_study(self.results, self.clicks)))
        table = as_markdown(summary, caption_of(summary))
        write_text(out / "summary.md", table)
        plot_curves(self.results, self.clicks, out / "dice.png")
        plot_volumes(self.results, out / "volumes.png")
        return table


def read_evaluation(folder: Path) -> Evaluation:
    """Read what ``Evaluation.write`` wrote.

    Raises:
        MergeError: if the folder holds no evaluation.
    """
    try:
        results, summary = (
            json.loads((folder / name).read_text(encoding="utf-8")) for name in (RESULTS, SUMMARY)
        )
        minutes = {name: one.get("train_minutes") for name, one in summary["methods"].items()}
        told = {key: summary[key] for key in ("plan", "command", "machine")}
        for key in BY_METHOD:
            told["plan"][key]
        for result in results:
            for key in (*SAME, "start", "start_version"):
                result["settings"][key]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MergeError(
            f"{folder} holds no evaluation: {RESULTS} and {SUMMARY} as `clickseg evaluate` writes "
            f"them were wanted; {type(error).__name__}: {error}"
        ) from error
    return Evaluation(results, told, minutes)


def merge(parts: Sequence[Evaluation]) -> Evaluation:
    """Put evaluations of the same studies, by different methods, side by side.

    The plan is the first one's but for what is told with each method where it differs: machine,
    start, side, code, and how many of the studies the method was trained on.

    Raises:
        MergeError: if a method comes twice, or a study was not read alike by all: with other
            clicks, files or sequences, or from a start of one name that was not the same.
    """
    names = [name for part in parts for name in part.train_minutes]
    if len(set(names)) < len(names):
        raise MergeError(f"each method must come once, got {', '.join(names)}")
    results = [result for part in parts for result in part.results]
    _check_alike(results, names)
    plans, machines = ([part.told[key] for part in parts] for key in ("plan", "machine"))
    who = [", ".join(part.train_minutes) for part in parts]
    versions, trained_on = (
        {name: value for plan in plans for name, value in plan[key].items()}
        for key in ("versions", "trained_on")
    )
    told = {
        "plan": plans[0]
        | {key: _by_method(who, [plan[key] for plan in plans]) for key in ("start", "side", "code")}
        | {"versions": versions, "trained_on": trained_on},
        "command": "\n".join(part.told["command"] for part in parts),
        "machine": {
            key: _by_method(who, [machine.get(key) for machine in machines]) for key in machines[0]
        },
    }
    minutes = {name: value for part in parts for name, value in part.train_minutes.items()}
    return Evaluation(results, told, minutes)


def _check_alike(results: Sequence[Result], names: Sequence[str]) -> None:
    """Raise ``MergeError`` unless all methods were asked about the same studies in the same way."""
    studies = {name: {one["study"] for one in results if one["method"] == name} for name in names}
    every = set().union(*studies.values())
    for name, read in studies.items():
        if read != every:
            lacking = ", ".join(sorted(every - read))
            raise MergeError(f"all methods must have read the same studies; {name} lacks {lacking}")
    first: dict[str, Result] = {}
    starts: dict[tuple[str, str], Result] = {}
    for result in results:
        known = first.setdefault(result["study"], result)
        for key in SAME:
            _check_same(key, known, result)
        # The name of a start says little of what it is: the same folder, made anew in between.
        start = starts.setdefault((result["study"], result["settings"]["start"]), result)
        _check_same("start_version", start, result)


def _check_same(key: str, one: Result, other: Result) -> None:
    first, second = (result["settings"][key] for result in (one, other))
    if first != second:
        raise MergeError(
            f"{one['study']} was read by {one['method']} and {other['method']} with "
            f"different {key}: {first}, {second}"
        )


def _studies(rows: dict[str, dict[str, Any]]) -> str:
    """Return rows by method and study as JSON, a line a study."""
    methods = []
    for name, studies in rows.items():
        lines = [f"  {json.dumps(study)}: {json.dumps(row)}" for study, row in studies.items()]
        methods.append(f" {json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(methods) + "\n}\n"


def _by_method(who: Sequence[str], values: Sequence[Any]) -> Any:
    """Return what all have in common, or which methods have what."""
    names_of: dict[str, list[str]] = {}
    for names, value in zip(who, values, strict=True):
        names_of.setdefault(str(value), []).append(names)
    if len(names_of) == 1:
        return values[0]
    return "; ".join(f"{value} ({', '.join(names)})" for value, names in names_of.items())
