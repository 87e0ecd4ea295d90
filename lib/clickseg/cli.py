"""The command ``clickseg``: which subcommands there are, and how their errors are told."""

from __future__ import annotations

import sys

import typer

from clickseg.clicks import ClickError
from clickseg.commands.evaluate import evaluate
from clickseg.commands.importing import import_nifti, import_vs_seg
from clickseg.commands.models import models
from clickseg.commands.phantom import phantom
from clickseg.commands.picture import picture
from clickseg.commands.report import report
from clickseg.commands.score import score
from clickseg.commands.search import search
from clickseg.commands.segment import correct, segment
from clickseg.commands.simulate_loop import simulate_loop
from clickseg.commands.summarize import summarize
from clickseg.commands.table import table
from clickseg.commands.to_dicom import to_dicom
from clickseg.commands.train import train
from clickseg.config import ConfigError
from clickseg.evaluation.methods import MethodError
from clickseg.evaluation.written import MergeError
from clickseg.importing.source import ImportingError
from clickseg.learning.holdout import HoldOutError
from clickseg.learning.store import StoreBusyError
from clickseg.learning.update import UpdateError
from clickseg.modelfile import ModelError
from clickseg.parallel import WorkerError
from clickseg.process import keep_freed_memory
from clickseg.volume import ImageError

EXPECTED = (
    ClickError,
    ConfigError,
    HoldOutError,
    ImageError,
    ImportingError,
    MergeError,
    MethodError,
    ModelError,
    OSError,
    StoreBusyError,
    UpdateError,
    WorkerError,
)
"""What a user can mend: told in one sentence, without a traceback."""

app = typer.Typer(
    help="Outline vestibular schwannomas on T1ce + T2 MRI and mend the outline by clicks.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.command("phantom")(phantom)
app.command("import-vs-seg")(import_vs_seg)
app.command("import-nifti")(import_nifti)
app.command("segment")(segment)
app.command("correct")(correct)
app.command("evaluate")(evaluate)
app.command("summarize")(summarize)
app.command("score")(score)
app.command("search")(search)
app.command("picture")(picture)
app.command("train")(train)
app.command("table")(table)
app.command("simulate-loop")(simulate_loop)
app.command("report")(report)
app.command("to-dicom")(to_dicom)
app.add_typer(models, name="models")


def main() -> None:
    """Run the command line; an error of the user's is one sentence and exit status 2."""
    keep_freed_memory()
    try:
        app()
    except EXPECTED as error:
        typer.secho(f"clickseg: {error}", err=True, fg="red")
        sys.exit(2)
