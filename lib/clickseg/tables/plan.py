"""What a table is: a base recipe, and rows that change some of its values.

One YAML file a table (``configs/tables/*.yaml``), with the published figure beside each row.
"""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from clickseg.config import (
    Config,
    ConfigError,
    PasteConfig,
    WholeVolumeConfig,
    config_from,
    load_recipe,
    load_values,
)
from clickseg.losses import build_loss
from clickseg.training.fits import check_networks

_STRICT = ConfigDict(extra="forbid")

Measure = Literal["initial", "simulated_cuts", "real_cuts"]
"""What is trained: the initial network, a correction on simulated errors, or all of a recipe."""

STAGES: dict[Measure, dict[str, tuple[str, ...]]] = {
    "initial": {"slab": ("initial",), "scan": ("initial",)},
    "simulated_cuts": {"uncorrected": (), "simulated": ("simulated",)},
    "real_cuts": {
        "uncorrected": (),
        "simulated": ("simulated",),
        "control": ("simulated", "control"),
        "real": ("simulated", "real", "initial"),
        "outline": ("initial",),
        "outline_corrected": ("initial", "simulated", "real"),
    },
}
"""What a Dice may be of, and which trainings it needs.

``slab``: the shrunken slices around the tumor, as published; ``scan``: the whole scan.
``uncorrected``, ``simulated``, ``control`` and ``real``: cuts as they are, and after training on
simulated errors, on more of these, or on real ones. ``outline``: whole scans, before and after one
click on each slice that is wrong.
"""


OF_SCANS = ("scan", "outline", "outline_corrected")
"""Stages of whole scans; the others are of slabs or cuts, and the two are not compared."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Row:
    """One line of a table.

    ``set`` changes values of the base recipe by their dotted names; ``cases`` is how many training
    studies are used, all without it; ``published`` is the figure of the publication, if any.
    """

    name: str
    published: Annotated[float, Field(ge=0, le=1)] | None
    stage: str
    set: dict[str, Any] = field(default_factory=dict)
    cases: Annotated[int, Field(ge=2)] | None = None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Table:
    """A table; ``base`` is the recipe that its rows change, a path beside the table's own file."""

    title: str
    base: str
    measure: Measure
    rows: Annotated[list[Row], Field(min_length=2)]


def load_table(path: Path) -> Table:
    """Read a table, and check that each of its rows can be trained.

    Raises:
        ConfigError: if a file is missing or no YAML, a key is unknown, missing or wrong, two rows
            have one name, or a row names a network or loss that there is not.
    """
    table = load_recipe(path, Table)
    names = [row.name for row in table.rows]
    if len(set(names)) < len(names):
        raise ConfigError(f"{path.name} has two rows of one name: {', '.join(names)}")
    for row in table.rows:
        where = f"{path.name}, row {row.name}"
        if row.stage not in STAGES[table.measure]:
            wanted = ", ".join(STAGES[table.measure])
            raise ConfigError(
                f"{where}: stage of {table.measure} is one of {wanted}, not {row.stage}"
            )
        _check_parts(recipe_of(table, row, path, seed=0), where)
    return table


def recipe_of(table: Table, row: Row, path: Path, seed: int) -> Config:
    """Return the recipe of a row.

    Raises:
        ConfigError: if a name in ``set`` is none of the recipe's, or a value is wrong.
    """
    where = f"{path.name}, row {row.name}"
    values = load_values(path.parent / table.base)
    if not isinstance(values, dict):
        raise ConfigError(f"{path.name}: {table.base} holds no recipe")
    for name, value in row.set.items():
        *parents, last = name.split(".")
        place: Any = values
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place or name == "seed":
            raise ConfigError(f"{where}: {table.base} has no {name} to set")
        place[last] = value
    try:
        return config_from(values | {"seed": seed})
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _check_parts(config: Config, where: str) -> None:
    initial, correction = config.initial, config.correction
    if not isinstance(initial, WholeVolumeConfig) or not isinstance(correction, PasteConfig):
        raise ConfigError(f"{where}: tables are of initial.method whole_volume and paste")
    try:
        check_networks(config)
        for part in (initial, correction):
            build_loss(part.loss.name, part.loss.arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error
