"""What came of a table: figures beside the published ones, and which orderings hold."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from clickseg.tables.plan import OF_SCANS, STAGES, Row, Table

Measured = Mapping[str, Mapping[int, Mapping[str, Any]]]
"""What ``measure`` returned, by the name of the row and the seed."""

Verdict = Literal["holds", "turned", "undecided"]


def report(table: Table, measured: Measured) -> dict[str, Any]:
    """Return plain values: rows with mean and spread, and each published ordering.

    ``spread`` is the standard deviation over seeds, None of one seed; a row that was not measured
    has no ``dice``. ``orderings`` has a pair for any two rows whose published figures differ, both
    of scans or both of parts of them: it holds, or is turned, if it is so with every seed that both
    were measured with.
    """
    rows = [_row(table, row, measured.get(row.name, {})) for row in table.rows]
    runs = [values for by_seed in measured.values() for values in by_seed.values()]
    return {
        "title": table.title,
        "rows": rows,
        "orderings": _orderings(rows),
        "code": sorted({values["code"] for values in runs}),
        "machines": [dict(items) for items in sorted({tuple(v["machine"].items()) for v in runs})],
    }


def _row(table: Table, row: Row, by_seed: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    dices = [values["dice"][row.stage] for values in by_seed.values()]
    parts = STAGES[table.measure][row.stage]
    seconds = [sum(values["seconds"][part] for part in parts) for values in by_seed.values()]
    others = sorted({stage for values in by_seed.values() for stage in values["dice"]})
    return {
        "name": row.name,
        "stage": row.stage,
        "published": row.published,
        "dice": _mean(dices),
        "spread": round(float(np.std(dices, ddof=1)), 4) if len(dices) > 1 else None,
        "by_seed": {str(seed): values["dice"][row.stage] for seed, values in by_seed.items()},
        "minutes": round(float(np.mean(seconds)) / 60, 1) if seconds else None,
        "stages": {
            stage: _mean([values["dice"][stage] for values in by_seed.values()]) for stage in others
        },
    }


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def _orderings(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    known = [row for row in rows if row["published"] is not None and row["by_seed"]]
    pairs = []
    for one, other in itertools.combinations(known, 2):
        is_one_kind = (one["stage"] in OF_SCANS) == (other["stage"] in OF_SCANS)
        if one["published"] == other["published"] or not is_one_kind:
            continue
        high, low = sorted((one, other), key=lambda row: -row["published"])
        gaps = [
            high["by_seed"][s] - low["by_seed"][s] for s in high["by_seed"] if s in low["by_seed"]
        ]
        pairs.append({
            "higher": high["name"],
            "lower": low["name"],
            "published": round(high["published"] - low["published"], 4),
            "here": [round(gap, 4) for gap in gaps],
            "verdict": _verdict(gaps),
        })  # fmt: skip
    return pairs


def _verdict(gaps: Sequence[float]) -> Verdict:
    if gaps and min(gaps) > 0:
        return "holds"
    return "turned" if gaps and max(gaps) < 0 else "undecided"


def as_markdown(values: Mapping[str, Any]) -> str:
    """Return a report as Markdown: a table, and the published orderings."""
    lines = [
        f"**{values['title']}**",
        "",
        "| | published | here | training, min |",
        "| --- | ---: | ---: | ---: |",
        *map(_line, values["rows"]),
    ]
    pairs = values["orderings"]
    if pairs:
        count = dict.fromkeys(("holds", "turned", "undecided"), 0)
        for pair in pairs:
            count[pair["verdict"]] += 1
        seeds = max(len(pair["here"]) for pair in pairs)
        every = "the one seed" if seeds == 1 else f"each of {seeds} seeds"
        lines += [
            "",
            f"Of {len(pairs)} published orderings {count['holds']} hold with {every}, "
            f"{count['turned']} are turned with {every}, {count['undecided']} are undecided.",
            "",
            "| higher in the publication | lower | published | here, by seed | |",
            "| --- | --- | ---: | ---: | --- |",
        ]
    for pair in pairs:
        gaps = ", ".join(f"{gap:+.3f}" for gap in pair["here"])
        lines.append(
            f"| {pair['higher']} | {pair['lower']} | {pair['published']:+.3f} | {gaps} "
            f"| {pair['verdict']} |"
        )
    return "\n".join(lines) + "\n"


def _line(row: Mapping[str, Any]) -> str:
    published = "" if row["published"] is None else f"{row['published']:.4f}"
    if row["dice"] is None:
        return f"| {row['name']} | {published} | not measured | |"
    spread = "" if row["spread"] is None else f" ± {row['spread']:.3f}"
    return f"| {row['name']} | {published} | {row['dice']:.3f}{spread} | {row['minutes']:.1f} |"
