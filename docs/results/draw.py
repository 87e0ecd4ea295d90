"""Draw the tables of the README from the results beside this file: ``make readme``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from clickseg.evaluation.table import SHOWN, as_markdown, caption_of, line_of
from clickseg.tables.report import as_markdown as table_of

HERE = Path(__file__).parent
README = HERE.parents[1] / "README.md"
BEGIN, END = "<!-- results: drawn by `make readme` -->", "<!-- results: end -->"
LOOP = "<!-- loop: drawn by `make readme` -->", "<!-- loop: end -->"

BEST = 3
"""So many rivals are shown of a variant of an evaluation."""

COMPARED = {**{f"p, Dice {n}": f"dice_after_{n}" for n in (1, 3, 5)}, "p, NoC": "noc_0.95"}
"""Which p of a method with another start, other sequences or another reader are shown."""


def section() -> str:
    """Return the tables of all results, in the order of their names."""
    parts = []
    for path in sorted(HERE.glob("*/summary.json")):
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        about = (path.parent / "about.md").read_text(encoding="utf-8").strip()
        parts.append(f"{about}\n\n{as_markdown(summary, caption_of(summary)).strip()}")
        parts += variants(path.parent)
    return "\n\n".join([*parts, *tables()])


def tables() -> list[str]:
    """Return the published tables that were made again, and how."""
    parts = []
    for path in sorted((HERE / "tables").glob("*.json")):
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        parts += [f"`{values['command']}`", table_of(values).strip()]
    if not parts:
        return []
    return [(HERE / "tables" / "about.md").read_text(encoding="utf-8").strip(), *parts]


def variants(folder: Path) -> list[str]:
    """Return a table of the evaluation with other starts, sequences or readers, a folder each.

    Of the rivals those with the largest area under Dice against clicks; all are in the folder.
    """
    found = {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*/summary.json"))
    }
    if not found:
        return []
    heads = [*(f"Dice {n}" for n in SHOWN), "NoC 0.95", "harm", *COMPARED]
    rows = [line_of(["what is given", "method", *heads])]
    rows += [line_of(["---", "---", *["---:"] * len(heads)])]
    for name, summary in found.items():
        methods: dict[str, Any] = summary["methods"]
        ours, *rivals = methods
        rivals.sort(key=lambda method: -methods[method]["auc"])
        for method in (ours, *rivals[:BEST]):
            values = methods[method]
            cells = [f"{values['dice'][n]:.3f}" for n in SHOWN]
            cells += [f"{values['noc']['0.95']:.2f}", f"{values['harm_rate']:.3f}"]
            p = values.get("p_against_ours", {})
            cells += [f"{p[key]:.2g}" if key in p else "" for key in COMPARED.values()]
            shown = f"[{name}]({path_of(folder, name)})" if method == ours else ""
            rows.append(line_of([shown, method, *cells]))
    told = (
        "With less than that, before another reader, or by more studies: ours, and of what was "
        f"asked there the {BEST} with the largest area under Dice against clicks. All of them, "
        "and the commands, are in the folders named."
    )
    return [told, "\n".join(rows)]


def path_of(folder: Path, name: str) -> str:
    """Return where the README finds the full table of a variant."""
    return (folder / name / "summary.md").relative_to(README.parent).as_posix()


def loop_section() -> str:
    """Return the table of the simulated loop."""
    folder = HERE / "loop"
    result: dict[str, Any] = json.loads((folder / "loop.json").read_text(encoding="utf-8"))
    about = (folder / "about.md").read_text(encoding="utf-8").strip()
    machine, studies = result["machine"], result["studies"]
    told = [
        f"`{result['command']}`",
        f"{studies['to choose from']} studies to choose from, {studies['held out']} held out; base "
        f"{' '.join(result['base'])}; {machine['processor']}, {machine['threads']} thread a run.",
        "Means over seeds: Dice of the studies held out, initial outlines and the mean after one "
        "to three clicks.",
        "![Dice of studies held out against studies labeled](docs/results/loop/loop.png)",
    ]
    strategies = result["strategies"]
    most = max((one["labelled"] for one in strategies.values()), key=len)
    rows = [line_of(["strategy", "seeds", "clicks", *(f"{n:g} labeled" for n in most)])]
    rows += [line_of(["---", *["---:"] * (len(most) + 2)])]
    for name, one in strategies.items():
        pairs = zip(one["holdout_dice"], one["after_clicks"], strict=True)
        told_by = [f"{before:.3f}, {after:.3f}" for before, after in pairs]
        told_by += [""] * (len(most) - len(told_by))
        seeds = ", ".join(one["seeds"])
        rows.append(line_of([name, seeds, f"{one['clicks'][-1]:.0f}", *told_by]))
    return "\n\n".join([about, *told, "\n".join(rows)])


def drawn(text: str) -> str:
    """Return a README with the tables in their places."""
    text = _put(text, BEGIN, END, section())
    return _put(text, *LOOP, loop_section())


def _put(text: str, begin: str, end: str, content: str) -> str:
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise SystemExit(f"{README.name} must hold the lines {begin} and {end}")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


if __name__ == "__main__":
    old = README.read_text(encoding="utf-8")
    if "--check" in sys.argv[1:]:
        sys.exit(0 if drawn(old) == old else "README.md is not as `make readme` draws it")
    README.write_text(drawn(old), encoding="utf-8")
