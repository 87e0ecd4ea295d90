"""``clickseg summarize``: several evaluations of the same studies as one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clickseg.commands.out import try_to_write_in
from clickseg.evaluation.written import merge, read_evaluation


def summarize(
    evaluations: Annotated[
        list[Path], typer.Argument(help="Folders that `clickseg evaluate` wrote; ours first.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the results, none of those.")],
) -> None:
    """Put methods that were evaluated one by one side by side, and test them against ours."""
    if out.resolve() in [folder.resolve() for folder in evaluations]:
        raise typer.BadParameter(f"--out must be another folder than those given, got {out}")
    try_to_write_in(out)
    typer.echo(merge([read_evaluation(folder) for folder in evaluations]).write(out))
