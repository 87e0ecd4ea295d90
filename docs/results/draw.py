"""Draw the tables of the README from the results beside this file: ``make readme``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from clickseg.evaluation.table import as_markdown, caption_of

HERE = Path(__file__).parent
README = HERE.parents[1] / "README.md"
BEGIN, END = "<!-- results: drawn by `make readme` -->", "<!-- results: end -->"


def section() -> str:
    """Return the tables of all results, in the order of their names."""
    parts = []
    for path in sorted(HERE.glob("*/summary.json")):
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        about = (path.parent / "about.md").read_text(encoding="utf-8").strip()
        parts.append(f"{about}\n\n{as_markdown(summary, caption_of(summary)).strip()}")
    return "\n\n".join(parts)


def drawn(text: str) -> str:
    """Return a README with the tables in their place."""
    before, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise SystemExit(f"{README.name} must hold the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{section()}\n\n{END}{after}"


if __name__ == "__main__":
    old = README.read_text(encoding="utf-8")
    if "--check" in sys.argv[1:]:
        sys.exit(0 if drawn(old) == old else "README.md is not as `make readme` draws it")
    README.write_text(drawn(old), encoding="utf-8")
