"""``clickseg picture``: an outline before and after clicks, as an image file."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from clickseg.clicking import clicking
from clickseg.clicks import Clicks, read_clicks
from clickseg.commands.device import Device
from clickseg.commands.out import try_to_write
from clickseg.commands.segment import T2, Image, ModelFolder, Points, parse_points
from clickseg.drawing import Outlines, draw_picture
from clickseg.engine import Engine
from clickseg.models import WEIGHTS, load_models
from clickseg.study import Study, check_same_grid, find_case
from clickseg.volume import read_label

Mask = NDArray[np.uint8]


def picture(
    image: Image,
    out: Annotated[Path, typer.Option("--out", help="Where the picture goes: a .png file.")],
    click: Points = None,
    background: Points = None,
    label: Annotated[
        Path | None,
        typer.Option(
            help="The reference outline.", show_default="the one in labels/final beside the T1ce"
        ),
    ] = None,
    clicks: Annotated[
        int, typer.Option(help="Without --click: how often the simulated reader clicks.", min=1)
    ] = 1,
    t2: T2 = None,
    models: ModelFolder = WEIGHTS,
    device: Device = "cpu",
) -> None:
    """Draw the outline before and after clicks on the axial slice of the last click."""
    if out.suffix != ".png":
        raise typer.BadParameter(f"--out is a .png file, got {out.name!r}")
    try_to_write(out)
    case = find_case(image)
    label = label or case.label
    if label is None and not click and not background:
        raise typer.BadParameter("--click is needed, or --label for the simulated reader")
    engine = Engine(load_models(models, device))
    study = engine.study(image, t2 or case.t2)
    reference = None if label is None else _read_reference(label, study)
    before = _canonical(study, engine.initial(study).label)
    if reference is not None and not click and not background:
        made = _click_as_a_reader(engine, study, before, reference, clicks)
    else:
        given = read_clicks(parse_points(click), parse_points(background), study.grid)
        # Their order changes nothing but which one is drawn as the last: a foreground click.
        made = tuple(sorted(given, key=lambda one: one.is_foreground))
    if not made:
        raise typer.BadParameter("the initial outline is the reference: there is nothing to click")
    after = _canonical(study, engine.correct(study, made).label)
    draw_picture(out, study, Outlines(before, after, reference), made)
    typer.echo(f"drew {out}")


def _read_reference(path: Path, study: Study) -> Mask:
    volume = read_label(path)
    check_same_grid(volume, study.grid, path.name)
    return _canonical(study, volume.array)


def _canonical(study: Study, stored: NDArray[Any]) -> Mask:
    return np.ascontiguousarray(study.grid.to_canonical(stored))


def _click_as_a_reader(
    engine: Engine, study: Study, before: Mask, reference: Mask, count: int
) -> Clicks:
    """Click where the current outline is most wrong, again and again."""
    grid = study.grid.canonical

    def answer(made: Clicks) -> Mask:
        return _canonical(study, engine.correct(study, made).label)

    made = [
        clicks for clicks, _ in itertools.islice(clicking(reference, before, grid, answer), count)
    ]
    return made[-1] if made else ()
