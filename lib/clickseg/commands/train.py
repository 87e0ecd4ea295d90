"""``clickseg train``: from labeled studies to model files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import torch
import typer

from clickseg.config import RivalConfig, load_config, load_recipe
from clickseg.study import labeled_cases
from clickseg.training.correction import train_correction
from clickseg.training.initial import train_initial
from clickseg.training.rival import train_rival

app = typer.Typer(help="Train the models of a recipe.", no_args_is_help=True)

Studies = Annotated[Path, typer.Option(help="Folder of studies with labels/final.")]
Recipe = Annotated[Path, typer.Option("--config", help="A recipe in configs/.")]
Out = Annotated[Path, typer.Option(help="Run folder; a run that stopped goes on from there.")]
Labels = Annotated[Path | None, typer.Option(help="Where the labels are, if elsewhere.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")]
Source = Annotated[str, typer.Option(help="What the studies are, in words, for the manifest.")]
Threads = Annotated[int, typer.Option(help="CPU threads; 0 takes all cores.", min=0)]


@app.command("initial")
def initial(
    studies: Studies,
    config: Recipe,
    out: Out,
    labels: Labels = None,
    device: Device = "cpu",
    source: Source = "",
    threads: Threads = 0,
) -> None:
    """Train the network(s) of the initial outline."""
    _set_up(threads)
    train_initial(labeled_cases(studies, labels), load_config(config), out, device, source)


@app.command("correction")
def correction(
    studies: Studies,
    config: Recipe,
    out: Out,
    labels: Labels = None,
    device: Device = "cpu",
    source: Source = "",
    threads: Threads = 0,
) -> None:
    """Train the network of the click correction, on simulated and on real errors."""
    _set_up(threads)
    train_correction(labeled_cases(studies, labels), load_config(config), out, device, source)


@app.command("rival")
def rival(
    studies: Studies,
    config: Recipe,
    out: Out,
    labels: Labels = None,
    device: Device = "cpu",
    source: Source = "",
    threads: Threads = 0,
) -> None:
    """Train a method to compare with: a recipe in configs/rivals/."""
    _set_up(threads)
    cases, recipe = labeled_cases(studies, labels), load_recipe(config, RivalConfig)
    train_rival(cases, recipe, out, device, source)


def _set_up(threads: int) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if threads:
        torch.set_num_threads(threads)
