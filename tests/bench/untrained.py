"""Models with random weights, for trying the benchmark where there are no trained ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from clickseg.config import (
    Config,
    NetworkConfig,
    TwoStageConfig,
    WholeVolumeConfig,
    config_from,
)
from clickseg.initial.two_stage import TwoStageNetwork
from clickseg.modelfile import Manifest, save_model
from clickseg.networks import build_network

CONFIGS = Path(__file__).parents[2] / "configs"


def save_untrained(folder: Path) -> Path:
    """Write both models of our recipe; the initial one finds no tumor anywhere."""
    recipe, config = _recipe("default.yaml")
    assert isinstance(config.initial, TwoStageConfig)
    torch.manual_seed(0)
    initial = TwoStageNetwork(config.initial)
    for last in (_last_bias(initial.locate), _last_bias(initial.segment)):
        nn.init.constant_(last, -10.0)  # random logits would find tumor all over the head
    return _save(folder, recipe, initial, _built(config.correction.network))


def save_untrained_published(folder: Path) -> Path:
    """Write both models of the published recipe, at its full size."""
    recipe, config = _recipe("published.yaml")
    assert isinstance(config.initial, WholeVolumeConfig)
    torch.manual_seed(0)
    return _save(folder, recipe, _built(config.initial.network), _built(config.correction.network))


def _recipe(name: str) -> tuple[dict[str, Any], Config]:
    recipe = yaml.safe_load((CONFIGS / name).read_text(encoding="utf-8"))
    return recipe, config_from(recipe)


def _built(network: NetworkConfig) -> nn.Module:
    return build_network(network.name, network.arguments)


def _save(folder: Path, recipe: dict[str, Any], initial: nn.Module, correction: nn.Module) -> Path:
    for name, model in (("initial", initial), ("correction", correction)):
        save_model(folder, model, Manifest(name, recipe, {"studies": "none"}, {}))
    return folder


def _last_bias(network: nn.Module) -> nn.Parameter:
    found: nn.Parameter = network.output_block.conv.conv.bias  # type: ignore[union-attr,assignment]
    return found
