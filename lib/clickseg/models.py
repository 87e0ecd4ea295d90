"""The pair of models that segments and corrects, as loaded from a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from clickseg.clicks import Clicks
from clickseg.config import PasteConfig, TwoStageConfig, config_from
from clickseg.correction import Correction, LocalCorrection, PasteCorrection
from clickseg.correction.local import Memo
from clickseg.initial import Initial, TwoStage, WholeVolume
from clickseg.initial.two_stage import TwoStageNetwork
from clickseg.modelfile import load_weights, read_manifest
from clickseg.networks import build_network
from clickseg.precision import has_bfloat16
from clickseg.study import Study

WEIGHTS = Path(__file__).parent / "weights"
"""The weights that come with the package: a demonstration, not for clinical use."""


class CorrectionModel(Protocol):
    """What mends a mask."""

    def __call__(
        self,
        study: Study,
        start: NDArray[np.uint8],
        clicks: Clicks,
        memo: Memo | None = None,
        spent: Correction | None = None,
    ) -> Correction:
        """Return the start mask, mended around the clicks.

        ``memo`` and ``spent`` are of earlier calls with the same study and start mask, and save
        time; ``spent`` is of no use to anybody afterwards.
        """


@dataclass(frozen=True, eq=False)
class Models:
    """An initial and a correction model. ``hashes`` names the weights of each."""

    initial: Callable[[Study], Initial]
    correction: CorrectionModel
    hashes: dict[str, str]


def pattern_of(folder: Path) -> str:
    """Return the expression that finds the patient in an id, as the models' recipe has it.

    Raises:
        ModelError: if there is no manifest with a recipe.
    """
    return config_from(read_manifest(folder, "initial").recipe).split.patient


def trained_on(folder: Path) -> set[str]:
    """Return the ids of all cases that one of the models of a folder was trained on.

    Raises:
        ModelError: if a manifest is missing or none.
    """
    manifests = [read_manifest(folder, name) for name in ("initial", "correction")]
    return {case_id for one in manifests for case_id in one.data.get("training", [])}


def load_models(folder: Path = WEIGHTS, device: str = "cpu") -> Models:
    """Load both models of a folder.

    Raises:
        ModelError: if one is missing, damaged, or not of the recipe that its manifest states.
    """
    return load_pair(folder, folder, device)


def load_pair(initial: Path, correction: Path, device: str = "cpu") -> Models:
    """Load each model from a folder of its own.

    Raises:
        ModelError: as ``load_models``.
    """
    first, first_hash = load_initial(initial, device)
    second, second_hash = load_correction(correction, device)
    return Models(first, second, {"initial": first_hash, "correction": second_hash})


def load_initial(folder: Path, device: str = "cpu") -> tuple[Callable[[Study], Initial], str]:
    """Load the initial model of a folder, and the short hash of its weights."""
    manifest = read_manifest(folder, "initial")
    config = config_from(manifest.recipe).initial
    if isinstance(config, TwoStageConfig):
        pair = TwoStageNetwork(config)
        load_weights(folder, manifest, pair)
        return TwoStage(pair.to(device), config), manifest.short_hash
    network = build_network(config.network.name, config.network.arguments)
    load_weights(folder, manifest, network)
    return WholeVolume(network.to(device), config), manifest.short_hash


def load_correction(folder: Path, device: str = "cpu") -> tuple[CorrectionModel, str]:
    """Load the correction model of a folder, and the short hash of its weights."""
    manifest = read_manifest(folder, "correction")
    config = config_from(manifest.recipe).correction
    network = build_network(config.network.name, config.network.arguments)
    load_weights(folder, manifest, network)
    if isinstance(config, PasteConfig):
        return PasteCorrection(network.to(device), config), manifest.short_hash
    if has_bfloat16(device):  # weights once and for all, in place of a cast in each pass
        network = network.to(torch.bfloat16)
    return LocalCorrection(network.to(device), config), manifest.short_hash
