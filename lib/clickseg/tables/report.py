"""What came of a table: figures beside the published ones, and which orderings hold."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clickseg.tables.measure import Values
from clickseg.tables.plan import Row, Table

Measured = Mapping[str, Mapping[int, Values]]
"""By the name of the row and the seed."""


def report(table: Table, measured: Measured) -> dict[str, Any]:
    """Return plain values: rows with mean and spread, and each published ordering.

    A row that was not measured is left out. ``spread`` is the standard deviation over seeds, None
    of one seed. ``orderings`` has a pair for any two rows whose published figures differ; it holds
    if the means are ordered likewise.
    """
    rows = [_row(row, measured[row.name]) for row in table.rows if row.name in measured]
    return {"title": table.title, "rows": rows, "orderings": _orderings(rows)}


def _row(row: Row, by_seed: Mapping[int, Values]) -> dict[str, Any]:
    dices = [values[row.stage] for values in by_seed.values()]
    return {
        "name": row.name,
        "published": row.published,
        "dice": round(float(np.mean(dices)), 4),
        "spread": round(float(np.std(dices, ddof=1)), 4) if len(dices) > 1 else None,
        "by_seed": {str(seed): values[row.stage] for seed, values in by_seed.items()},
        "minutes": round(float(np.mean([values["minutes"] for values in by_seed.values()])), 1),
    }


def _orderings(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    known = [row for row in rows if row["published"] is not None]
    pairs = []
    for one, other in itertools.combinations(known, 2):
        if one["published"] == other["published"]:
            continue
        high, low = sorted((one, other), key=lambda row: -row["published"])
        gap = round(high["dice"] - low["dice"], 4)
        pairs.append({
            "higher": high["name"],
            "lower": low["name"],
            "published": round(high["published"] - low["published"], 4),
            "here": gap,
            "holds": gap > 0,
        })  # fmt: skip
    return pairs


def as_markdown(values: Mapping[str, Any]) -> str:
    """Return a report as Markdown: a table, and the orderings that do not hold."""
    lines = [
        f"**{values['title']}**",
        "",
        "| | published | here | minutes |",
        "| --- | ---: | ---: | ---: |",
    ]
    for row in values["rows"]:
        published = "" if row["published"] is None else f"{row['published']:.4f}"
        spread = "" if row["spread"] is None else f" ± {row['spread']:.3f}"
        lines.append(
            f"| {row['name']} | {published} | {row['dice']:.3f}{spread} | {row['minutes']:.0f} |"
        )
    pairs = values["orderings"]
    held = sum(pair["holds"] for pair in pairs)
    lines += ["", f"{held} of {len(pairs)} published orderings hold."]
    turned = [pair for pair in pairs if not pair["holds"]]
    if turned:
        lines += ["Those that do not, with the differences, published and here:", ""]
        lines += [
            f"* {pair['higher']} above {pair['lower']}: "
            f"{pair['published']:+.3f}, {pair['here']:+.3f}"
            for pair in turned
        ]
    return "\n".join(lines) + "\n"
