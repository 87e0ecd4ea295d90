"""The summary as a table in Markdown."""

from __future__ import annotations

from typing import Any

SHOWN = (0, 1, 3, 5, 10)
"""Columns of Dice: after so many clicks."""


def as_markdown(summary: dict[str, Any], caption: str = "") -> str:
    """Return a caption, one row a method, and p against ours; what tumor-free studies got."""
    counts = [n for n in SHOWN if n <= summary["clicks"]]
    heads = ["method", *(f"Dice {n}" for n in counts), f"worst 10 %, {counts[-1]}"]
    heads += ["NoC 0.85", "NoC 0.90", "NoC 0.95", "never 0.95", "AUC", "harm", "outside"]
    heads += ["disobeyed", "ms", "training, min"]
    rows = []
    for name, values in summary["methods"].items():
        if "dice" not in values:
            continue
        cells = [name, *(f"{values['dice'][n]:.3f}" for n in counts)]
        cells += [f"{values['worst_decile'][counts[-1]]:.3f}"]
        cells += [f"{values['noc'][key]:.2f}" for key in ("0.85", "0.90", "0.95")]
        cells += [str(values["nof"]["0.95"]), f"{values['auc']:.3f}", f"{values['harm_rate']:.3f}"]
        cells += [str(values["changed_outside"]), str(values["disobeyed"])]
        cells += ["" if values["click_ms"] is None else f"{values['click_ms']:.0f}"]
        minutes = values.get("train_minutes")
        cells += ["" if minutes is None else f"{minutes:.0f}"]
        rows.append(line_of(cells))
    lines = [caption, ""] if caption else []
    if rows:
        lines += [line_of(heads), line_of(["---", *["---:"] * (len(heads) - 1)]), *rows]
    return "\n".join([*lines, *_p_values(summary), *_tumor_free(summary)]) + "\n"


def caption_of(summary: dict[str, Any]) -> str:
    """Return by which commands a summary was made, with what weights and where."""
    plan, machine = dict(summary["plan"]), summary["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in plan.pop("versions").items())
    seen = {name: count for name, count in plan.pop("trained_on", {}).items() if count}
    told = "".join(
        f" {name} was trained on {count} of these studies." for name, count in seen.items()
    )
    where = ", ".join(f"{key}: {value}" for key, value in machine.items())
    settings = ", ".join(f"{key}: {value}" for key, value in plan.items())
    commands = "\n\n".join(f"`{line}`" for line in summary["command"].splitlines())
    return f"{commands}\n\n{settings}. Weights and settings: {versions}.{told} {where}."


def _p_values(summary: dict[str, Any]) -> list[str]:
    rows = [
        (name, values["p_against_ours"])
        for name, values in summary["methods"].items()
        if values.get("p_against_ours", {}).get("pairs")
    ]
    if not rows:
        return []
    heads = [key.replace("_", " ") for key in rows[0][1]]
    lines = ["", "Paired Wilcoxon tests against ours, two-sided p, not corrected:", ""]
    lines += [line_of(["method", *heads]), line_of(["---", *["---:"] * len(heads)])]
    return lines + [line_of([name, *map(_cell, values.values())]) for name, values in rows]


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else f"{value:.2g}" if isinstance(value, float) else str(value)


def _tumor_free(summary: dict[str, Any]) -> list[str]:
    lines = [
        f"{name}: {values['tumor_free']['with_false_positive']} of "
        f"{values['tumor_free']['studies']} studies without tumor get an outline, "
        f"{values['tumor_free']['false_positive_ml']:.2f} ml on average."
        for name, values in summary["methods"].items()
        if "tumor_free" in values
    ]
    return ["", *lines] if lines else []


def line_of(cells: list[str]) -> str:
    """Return a line of a table."""
    return "| " + " | ".join(cells) + " |"
