"""``clickseg models``: what is published, how it came to be, and the way back."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from clickseg.commands.train import UPDATED, Part
from clickseg.learning.store import NAMES, ModelStore
from clickseg.modelfile import ModelError
from clickseg.models import WEIGHTS

models = typer.Typer(
    help="Published models of a server: list them, show one, go back to an earlier one.",
    no_args_is_help=True,
)

Store = Annotated[Path, typer.Option(help="Folder of the published models.")]
Base = Annotated[Path, typer.Option(help="The models that all began with.")]
Name = Annotated[str, typer.Argument(help="initial or correction; click is the latter.")]


@models.command("list")
def list_models(store: Store, base: Base = WEIGHTS) -> None:
    """List the versions of both models; the one that counts is marked."""
    table = Table()
    for column in ("model", "version", "counts", "weights", "trained on", "minutes"):
        table.add_column(column, overflow="fold")
    opened = _open(store, base)
    for name in NAMES:
        for one in opened.versions(name):
            row = [name, one.version, "yes" if one.is_current else ""]
            try:
                manifest = one.manifest()
            except ModelError as error:  # the others can still be gone back to
                table.add_row(*row, "damaged", str(error), "")
                continue
            said = (str(manifest.data.get(key, "")) for key in ("source", "minutes"))
            table.add_row(*row, manifest.short_hash, *said)
    Console(markup=False).print(table)


@models.command("show")
def show_model(
    name: Name,
    store: Store,
    version: Annotated[str | None, typer.Argument(help="The one that counts if left out.")] = None,
    base: Base = WEIGHTS,
) -> None:
    """Print the manifest of a version."""
    manifest = _open(store, base).version(_stored(name), version).manifest()
    typer.echo(json.dumps(asdict(manifest), indent=1))


@models.command("rollback")
def rollback_model(
    name: Name,
    store: Store,
    version: Annotated[str | None, typer.Argument(help="The one before, if left out.")] = None,
    base: Base = WEIGHTS,
) -> None:
    """Let an earlier version count again; a running server takes it without a restart."""
    one = _open(store, base).rollback(_stored(name), version)
    typer.echo(f"{one.version} of {one.name} counts now")


def _open(store: Path, base: Path) -> ModelStore:
    opened = ModelStore(store, base)
    opened.check_base()
    return opened


def _stored(name: str) -> str:
    """Return how the store calls a model that viewers and ``clickseg train`` call ``click``."""
    return UPDATED[Part.CLICK] if name == Part.CLICK else name
