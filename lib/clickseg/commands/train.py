"""``clickseg train``: from labeled studies to model files."""

from __future__ import annotations

import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer

from clickseg.config import RivalConfig, load_config, load_recipe
from clickseg.study import labeled_cases
from clickseg.training.correction import train_correction
from clickseg.training.initial import train_initial
from clickseg.training.rival import train_rival


class Part(StrEnum):
    """What can be trained."""

    INITIAL = "initial"
    CORRECTION = "correction"
    RIVAL = "rival"


def train(
    part: Annotated[
        Part,
        typer.Argument(help="The initial outline, its correction, or a method to compare with."),
    ],
    studies: Annotated[Path, typer.Option(help="Folder of studies with labels/final.")],
    config: Annotated[Path, typer.Option(help="A recipe in configs/; of a rival, in its rivals/.")],
    out: Annotated[Path, typer.Option(help="Run folder; a run that stopped goes on from there.")],
    labels: Annotated[Path | None, typer.Option(help="Where the labels are, if elsewhere.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    source: Annotated[
        str, typer.Option(help="What the studies are, in words, for the manifest.")
    ] = "",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 takes all cores.", min=0)] = 0,
) -> None:
    """Train a part of a recipe and write its model."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if threads:
        torch.set_num_threads(threads)
    cases = labeled_cases(studies, labels)
    if part is Part.RIVAL:
        train_rival(cases, load_recipe(config, RivalConfig), out, device, source)
    elif part is Part.CORRECTION:
        train_correction(cases, load_config(config), out, device, source)
    else:
        train_initial(cases, load_config(config), out, device, source)
