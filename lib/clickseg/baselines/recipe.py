"""Recipes of the methods to compare with that are trained (``configs/rivals``)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from clickseg.config import (
    STRICT,
    Count,
    DropConfig,
    FitConfig,
    NetworkConfig,
    Positive,
    RecipeConfig,
    Share,
    Size3,
    Spacing,
)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PlanarConfig:
    """A click network on axial slices, to compare with: RITM or FocalClick.

    ``window`` is what the network sees, in pixels a side, a multiple of 16 since it is halved four
    times; it is laid ``margin`` times around mask and clicks, and is at least ``smallest_mm`` wide;
    FocalClick's second one, around what changed, at least ``focus_mm``. ``start``: share of
    training items that begin with a faulty mask, the others begin with nothing. ``real``: share of
    faulty masks that are real errors, where a training is given some; the rest are simulated.
    """

    method: Literal["ritm", "focal_click"]
    disks: Literal["static", "dynamic", "joined"]
    radius_px: Positive
    window: Annotated[int, Field(ge=16, multiple_of=16)]
    smallest_mm: Positive
    focus_mm: Positive
    margin: Annotated[float, Field(ge=1)]
    filters: tuple[Count, Count, Count, Count]
    fit: FitConfig
    start: Share
    real: Share = 0.0
    drop: DropConfig


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DeepEditConfig:
    """DeepEdit, to compare with: one network that segments with clicks or without.

    It sees ``patch`` voxels around the start mask or the first click. ``deepgrow``: share of steps
    with clicks, of which ``interactions`` are made, each with a falling probability.
    """

    method: Literal["deep_edit"]
    spacing_mm: Spacing
    patch: Size3
    network: NetworkConfig
    deepgrow: Share
    interactions: Count
    fit: FitConfig
    drop: DropConfig


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RivalConfig(RecipeConfig):
    """The recipe of a trained method to compare with."""

    rival: Annotated[PlanarConfig | DeepEditConfig, Field(discriminator="method")]
