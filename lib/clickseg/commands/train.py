"""``clickseg train``: from labeled studies to model files."""

from __future__ import annotations

import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer

from clickseg.baselines.recipe import RivalConfig
from clickseg.commands.device import Device
from clickseg.config import Config, load_config, load_recipe
from clickseg.learning.settings import UPDATE, load_update
from clickseg.learning.store import ModelStore
from clickseg.learning.update import update_model
from clickseg.models import WEIGHTS
from clickseg.study import labeled_cases
from clickseg.training.correction import train_correction
from clickseg.training.initial import train_initial
from clickseg.training.processes import is_first, join_processes, leave_processes
from clickseg.training.rival import train_rival
from clickseg.training.split import given_split, of_sides
from clickseg.training.start import adopt_split
from clickseg.training.tracking import Tracking, tracked


class Part(StrEnum):
    """What can be trained."""

    INITIAL = "initial"
    CORRECTION = "correction"
    CLICK = "click"
    RIVAL = "rival"


class Trackers(StrEnum):
    """What can be told of a training besides TensorBoard."""

    MLFLOW = "mlflow"


UPDATED = {Part.INITIAL: "initial", Part.CLICK: "correction"}
"""What an update trains, by the names that a server's models have."""


def train(
    part: Annotated[
        Part,
        typer.Argument(
            help="The initial outline, its correction, or a method to compare with. With --store: "
            "initial or click, as a server's models are called."
        ),
    ],
    studies: Annotated[Path, typer.Option(help="Folder of studies with labels/final.")],
    config: Annotated[
        Path | None, typer.Option(help="A recipe in configs/; of a rival, in its rivals/.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; a run that stopped goes on from there.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Where the labels are, if elsewhere.")] = None,
    split: Annotated[
        Path | None,
        typer.Option(
            help="Which studies train and validate.", show_default="split.json of --studies"
        ),
    ] = None,
    device: Device = "cpu",
    source: Annotated[
        str, typer.Option(help="What the studies are, in words, for the manifest.")
    ] = "",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 takes all cores.", min=0)] = 0,
    workers: Annotated[
        int,
        typer.Option(help="More processes, which draw batches ahead of a GPU.", min=0),
    ] = 0,
    errors: Annotated[
        Path | None,
        typer.Option(help="real_errors.pt of our correction's run, for a rival to learn from."),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(help="Update the published models there, as a server does, by --studies."),
    ] = None,
    base: Annotated[Path, typer.Option(help="The models that an update begins with.")] = WEIGHTS,
    replay: Annotated[
        Path | None, typer.Option(help="Labeled studies like those of the base, for an update.")
    ] = None,
    update: Annotated[Path, typer.Option(help="Settings of an update.")] = UPDATE,
    tracking: Annotated[
        Trackers | None, typer.Option(help="Tell MLflow of each epoch, too; it must be installed.")
    ] = None,
    tracking_uri: Annotated[
        str,
        typer.Option(help="Server or folder of MLflow.", show_default="mlruns in --out or --store"),
    ] = "",
    tracking_experiment_name: Annotated[
        str, typer.Option(help="What MLflow calls the experiment.")
    ] = "clickseg",
) -> None:
    """Train a part of a recipe and write its model, or update a published model."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if threads:
        torch.set_num_threads(threads)
    if store is not None:
        from_scratch = (config, out, labels, split, errors, workers or None)
        if part not in UPDATED or any(option is not None for option in from_scratch):
            wanted = " or ".join(UPDATED)
            raise typer.BadParameter(
                f"--store updates {wanted} by the labels of --studies; --config, --out, --labels, "
                "--split, --workers and --errors are for a training from scratch"
            )
        models, settings = ModelStore(store, base), load_update(update)
        device = join_processes(device)
        outcome = update_model(
            UPDATED[part], studies, models, settings, device, replay,
            tracking=_tracking(tracking, tracking_uri, tracking_experiment_name, store),
        )  # fmt: skip
        if is_first():
            is_new = "published" if outcome.is_published else "not published"
            typer.echo(f"{is_new}: {outcome.reason}; {outcome.version} counts")
        leave_processes()
        return
    if part is Part.CLICK or config is None or out is None:
        raise typer.BadParameter("a training from scratch wants --config and --out, and a part "
                                 "other than click; an update wants --store")  # fmt: skip
    if errors is not None and part is not Part.RIVAL:
        raise typer.BadParameter("--errors is for a rival; our correction makes its own")
    where = _tracking(tracking, tracking_uri, tracking_experiment_name, out)
    cases = labeled_cases(studies, labels)
    device = join_processes(device)
    recipe: RivalConfig | Config = (
        load_recipe(config, RivalConfig) if part is Part.RIVAL else load_config(config)
    )
    given = given_split(studies, split)
    if given is not None:
        cases = of_sides(cases, given, ("training", "validation"))
        adopt_split(cases, given, recipe, out)
    with tracked(where, f"train-{part}", part=str(part), config=config.name):
        if isinstance(recipe, RivalConfig):
            train_rival(cases, recipe, out, device, source, workers, errors)
        elif part is Part.CORRECTION:
            train_correction(cases, recipe, out, device, source, workers)
        else:
            train_initial(cases, recipe, out, device, source, workers)
    leave_processes()


def _tracking(by: Trackers | None, uri: str, experiment: str, folder: Path) -> Tracking | None:
    """Return where MLflow is told, if it is; a missing one is an error before any work."""
    if by is None:
        return None
    tracking = Tracking(uri or (folder / "mlruns").resolve().as_uri(), experiment)
    tracking.check()
    return tracking
