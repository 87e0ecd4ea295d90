"""Configuration: YAML into frozen dataclasses; unknown, missing and wrong keys are errors.

One file describes one recipe (``configs/*.yaml``). ``method`` chooses between the recipes of a
part. There are no defaults here: what a run does stands in its file, and the file travels with
the weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from clickseg.atomic import write_text

STRICT = ConfigDict(extra="forbid")

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Size3 = tuple[Count, Count, Count]
Spacing = tuple[Positive, Positive, Positive]


class ConfigError(ValueError):
    """A configuration is not what was wanted; the text names key, value and expectation."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NetworkConfig:
    """A network by its name in ``networks.build_network``, with its arguments."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LossConfig:
    """A loss by its name in ``losses.build_loss``, with its arguments."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FitConfig:
    """How long and how fast one network is trained.

    ``schedule``: ``poly`` falls to 0 as (1 - progress)^0.9, ``plateau`` halves on a plateau of
    the validation loss. ``bfloat16``: to compute in it where the device does, else in float32.
    """

    epochs: Count
    steps_per_epoch: Count
    batch: Count
    optimizer: Literal["adam", "adamw", "sgd"]
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    schedule: Literal["poly", "plateau"]
    bfloat16: bool
    average: Annotated[float, Field(ge=0, lt=1)]  # decay of the running mean that is kept; 0: none


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SplitConfig:
    """How cases are divided; all studies of one patient fall on one side.

    ``patient`` is a regular expression whose first group, or whole match, is the patient.
    """

    patient: str
    validation: Share


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DropConfig:
    """How often a sequence is left out in training, so that the network does without it."""

    t1ce: Share
    t2: Share


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LocateConfig:
    """The coarse network that finds the tumor in the whole volume."""

    spacing_mm: Spacing
    patch: Size3
    network: NetworkConfig
    fit: FitConfig


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SmallPatchConfig:
    """Smaller patches, on which a share of the steps of a training is made: they take less time."""

    patch: Size3
    share: Share


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SegmentConfig:
    """The fine network that outlines it in a small region."""

    spacing_mm: Spacing
    patch: Size3
    small: SmallPatchConfig | None = None
    margin_mm: Positive
    network: NetworkConfig
    fit: FitConfig


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EdgesConfig:
    """How outlines are laid where the image has an edge.

    ``weight``: of neighbors that look alike, where a voxel's own logit counts 1. ``sigma``: the
    difference in the normalized image at which it is 0.6 of that. ``steps``: how far voxels
    reach that have an influence on each other.
    """

    weight: Positive
    sigma: Positive
    steps: Count


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BorderConfig:
    """What a border costs: ``weight`` and ``sigma`` as in ``neighbors.alike``."""

    weight: Positive
    sigma: Positive


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PassBorderConfig(BorderConfig):
    """The same for the pass of a click, which is not to wait: ``steps`` towards the cheapest."""

    steps: Count


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LikenessConfig:
    """How far a click speaks for what looks like it, where the network hardly believes the click.

    ``below``: it hardly does where its logit at the click is smaller than that. ``weight``: of
    the click, as a logit. ``sigma``: the difference in the normalized images, and ``reach_mm``:
    the distance, at which 0.6 of it is left.
    """

    below: Positive
    weight: Positive
    sigma: Positive
    reach_mm: Positive


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TwoStageConfig:
    """Initial segmentation: locate coarsely, then outline finely.

    ``edges``: None leaves outlines as the network draws them. ``border``: None leaves them as
    ``edges`` do.
    """

    method: Literal["two_stage"]
    drop: DropConfig
    locate: LocateConfig
    segment: SegmentConfig
    candidates: Count
    mirror: bool
    edges: EdgesConfig | None = None
    border: BorderConfig | None = None
    folds: Annotated[int, Field(ge=2)]
    fold_epochs: Count


@dataclass(frozen=True, kw_only=True, config=STRICT)
class WholeVolumeConfig:
    """Initial segmentation as published: one network on the shrunken volume."""

    method: Literal["whole_volume"]
    size: Size3
    network: NetworkConfig
    loss: LossConfig
    fit: FitConfig


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LocalConfig:
    """Correction by fused passes on boxes of fixed size in mm around the clicks.

    ``merge``: ``component`` takes over only what hangs together with a click of its kind, ``all``
    whatever the network changed. ``thick_mm``: of the former, a part that a ball of this radius
    fits into, and no click is in or beside, stays as it was; None keeps none back. ``edges``: None
    leaves outlines as the network draws them. ``likeness``: None leaves clicks to the network.
    ``border``: None leaves outlines as these do; with all of them the cheapest border is that of
    evened logits, to which likeness was added.
    """

    method: Literal["local"]
    drop: DropConfig
    spacing_mm: Spacing
    cut: Size3
    reach_mm: Positive
    visible_mm: NotNegative
    guidance_mm: Positive
    merge: Literal["component", "all"]
    thick_mm: Positive | None = None
    edges: EdgesConfig | None = None
    likeness: LikenessConfig | None = None
    border: PassBorderConfig | None = None
    network: NetworkConfig
    fit: FitConfig
    clicks: Count
    real: Share


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PasteConfig:
    """Correction as published: 2D cuts, each pasted over what was there.

    ``depth`` is 1 for 2D cuts; more slices are for the networks that take them. ``errors``:
    ``morphology`` dilates or erodes (published), ``deformation`` turns, scales, shifts and bends.
    """

    method: Literal["paste"]
    cut: tuple[Count, Count]
    depth: Count
    network: NetworkConfig
    loss: LossConfig
    fit: FitConfig
    fine_tune: FitConfig
    border_distance_mm: Positive
    errors: Literal["morphology", "deformation"]
    unchanged: Share


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RecipeConfig:
    """What every recipe says."""

    name: str
    seed: Annotated[int, Field(ge=0)]
    split: SplitConfig


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config(RecipeConfig):
    """One recipe of ours or the published one, whole."""

    initial: Annotated[TwoStageConfig | WholeVolumeConfig, Field(discriminator="method")]
    correction: Annotated[LocalConfig | PasteConfig, Field(discriminator="method")]


Settings = TypeVar("Settings")


def load_config(path: Path) -> Config:
    """Read a recipe of ours or the published one; see ``load_recipe``."""
    return load_recipe(path, Config)


def load_recipe(path: Path, kind: type[Settings]) -> Settings:
    """Read a file of settings: a recipe, or what else is a frozen dataclass.

    Raises:
        ConfigError: if the file is missing or no YAML, or a key is unknown, missing or wrong.
    """
    values = load_values(path)
    try:
        return checked(values, kind)
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from error


def load_values(path: Path) -> Any:
    """Read YAML as plain values.

    Raises:
        ConfigError: if the file is missing or no YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"no configuration at {path}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path.name}: {error}") from error


def config_from(values: Any) -> Config:
    """Make a recipe of ours or the published one; see ``checked``."""
    return checked(values, Config)


def checked(values: Any, kind: type[Settings]) -> Settings:
    """Make settings of nested dictionaries, as YAML or a manifest holds them.

    Raises:
        ConfigError: with one line for each key that is unknown, missing or wrong.
    """
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in item['loc']) or 'file'}: {item['msg']}"
            + ("" if item["type"] == "missing" else f", got {item['input']!r:.60}")
            for item in error.errors()
        ]
        raise ConfigError("; ".join(lines)) from error


def as_values(config: RecipeConfig) -> dict[str, Any]:
    """Return a recipe as plain values, for a manifest or YAML; ``checked`` undoes it."""
    values: dict[str, Any] = TypeAdapter(type(config)).dump_python(config, mode="json")
    return values


def save_config(config: RecipeConfig, path: Path) -> None:
    """Write a recipe as YAML, so that a run folder says what made it."""
    write_text(path, yaml.safe_dump(as_values(config), sort_keys=False))
