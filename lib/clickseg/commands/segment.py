"""``clickseg segment`` and ``correct``: on files what the server does, by the same calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from clickseg.clicks import ClickError, read_clicks
from clickseg.commands.device import Device
from clickseg.commands.out import try_to_write
from clickseg.engine import Engine, Segmentation
from clickseg.geometry import Grid
from clickseg.models import WEIGHTS, load_models
from clickseg.registration import MODES, Mode
from clickseg.study import LABEL_FOLDER, Case, find_case
from clickseg.volume import ImageError, Volume, stem_of, write_volume

Image = Annotated[Path, typer.Argument(help="The T1ce; its T2 is found in t2/ beside it.")]
T2 = Annotated[Path | None, typer.Option(help="The T2, if it is elsewhere.")]
Out = Annotated[Path, typer.Option("--out", help="Where the mask goes: .nii.gz, .nii or .nrrd.")]
ModelFolder = Annotated[Path, typer.Option("--models", help="Folder of both models.")]
Registration = Annotated[
    str | None,
    typer.Option(
        help="auto looks for the place of the T2 that fits best; header and off trust its file."
        " Without it, as the server of the folder was told, else header."
    ),
]
Points = Annotated[list[str] | None, typer.Option(help="Voxel i,j,k of the T1ce; repeat it.")]


def segment(
    image: Image,
    out: Out,
    t2: T2 = None,
    registration: Registration = None,
    models: ModelFolder = WEIGHTS,
    device: Device = "cpu",
) -> None:
    """Outline the tumor of one study; print the measurements as JSON."""
    _check_out(out)
    engine = Engine(load_models(models, device), registration=parse_mode(registration))
    study = engine.study(image, t2 or find_case(image).t2)
    _write(engine.initial(study), study.grid, out)


def correct(
    image: Image,
    out: Out,
    click: Points = None,
    background: Points = None,
    start: Annotated[
        str,
        typer.Option(
            help="The mask to mend: a file, initial, label (the accepted one, in labels/final"
            " beside the image), or auto: the accepted one if there is one, else the initial."
        ),
    ] = "auto",
    t2: T2 = None,
    registration: Registration = None,
    models: ModelFolder = WEIGHTS,
    device: Device = "cpu",
) -> None:
    """Mend an outline around clicks; print the measurements as JSON."""
    _check_out(out)
    engine = Engine(load_models(models, device), registration=parse_mode(registration))
    case = find_case(image)
    study = engine.study(image, t2 or case.t2)
    clicks = read_clicks(parse_points(click), parse_points(background), study.grid)
    path = start_file(start, case)
    mask = None if path is None else engine.label(study, path)
    _write(engine.correct(study, clicks, mask), study.grid, out)


def start_file(start: str, case: Case) -> Path | None:
    """Return the file that ``--start`` means, None for the initial outline.

    Raises:
        ImageError: if the accepted mask is wanted, and there is none.
    """
    if start == "label" and case.label is None:
        raise ImageError(f"--start is label, but {case.case_id} has none in {LABEL_FOLDER}")
    if start in ("auto", "label"):
        return case.label
    return None if start == "initial" else Path(start)


def parse_mode(text: str | None) -> Mode | None:
    """Read ``--registration``; None is not given.

    Raises:
        ImageError: if there is no such mode.
    """
    if text is None:
        return None
    for mode in MODES:
        if text == mode:
            return mode
    raise ImageError(f"--registration is one of {', '.join(MODES)}, got {text!r}")


def parse_points(points: list[str] | None) -> list[list[float]]:
    """Read points of the command line, ``i,j,k`` each.

    Raises:
        ClickError: if one is no list of numbers.
    """
    try:
        return [[float(part) for part in point.split(",")] for point in points or []]
    except ValueError as error:
        raise ClickError(f"a click is i,j,k in voxels, got {points}") from error


def _check_out(out: Path) -> None:
    """Refuse a place that no mask can be written to, before the models run.

    Raises:
        ImageError: if it does not end as an image does.
        BadParameter: if no file can be made there.
    """
    stem_of(out)
    try_to_write(out)


def _write(segmentation: Segmentation, grid: Grid, out: Path) -> None:
    write_volume(out, Volume(segmentation.label, grid))
    typer.echo(json.dumps(segmentation.result, indent=1))
