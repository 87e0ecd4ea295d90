"""What a table is: a base recipe, and rows that change some of its values.

One YAML file a table (``configs/tables/*.yaml``), with the published figure beside each row.
"""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from clickseg.config import Config, ConfigError, config_from, load_recipe, load_values

_STRICT = ConfigDict(extra="forbid")

Measure = Literal["initial", "simulated_cuts", "real_cuts"]
"""What is trained and measured: whole studies, or cuts with simulated or with real errors."""

Stage = Literal["initial", "uncorrected", "simulated", "real"]
"""After what a Dice was measured: the initial network, no correction, or one of two trainings."""

STAGES: dict[Measure, tuple[Stage, ...]] = {
    "initial": ("initial",),
    "simulated_cuts": ("uncorrected", "simulated"),
    "real_cuts": ("uncorrected", "simulated", "real"),
}


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Row:
    """One line of a table.

    ``set`` changes values of the base recipe by their dotted names; ``cases`` is how many training
    studies are used, all without it; ``published`` is the figure of the publication, if any.
    """

    name: str
    published: Annotated[float, Field(ge=0, le=1)] | None
    stage: Stage
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
    """Read a table, and check that each of its rows is a recipe.

    Raises:
        ConfigError: if a file is missing or no YAML, a key is unknown, missing or wrong, or two
            rows have one name.
    """
    table = load_recipe(path, Table)
    names = [row.name for row in table.rows]
    if len(set(names)) < len(names):
        raise ConfigError(f"{path.name} has two rows of one name: {', '.join(names)}")
    for row in table.rows:
        if row.stage not in STAGES[table.measure]:
            wanted = ", ".join(STAGES[table.measure])
            raise ConfigError(
                f"{path.name}, row {row.name}: stage of {table.measure} is one of {wanted}, "
                f"not {row.stage}"
            )
        recipe_of(table, row, path, seed=0)
    return table


def recipe_of(table: Table, row: Row, path: Path, seed: int) -> Config:
    """Return the recipe of a row.

    Raises:
        ConfigError: if a name in ``set`` is none of the recipe's, or a value is wrong.
    """
    values = load_values(path.parent / table.base)
    for name, value in row.set.items():
        *parents, last = name.split(".")
        place = values
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place:
            raise ConfigError(f"{path.name}, row {row.name}: {table.base} has no {name}")
        place[last] = value
    try:
        return config_from(values | {"seed": seed})
    except ConfigError as error:
        raise ConfigError(f"{path.name}, row {row.name}: {error}") from error
