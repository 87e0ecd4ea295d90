"""Models with random weights, for trying the benchmark where there are no trained ones."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from torch import nn

from clickseg.config import TwoStageConfig, config_from
from clickseg.initial.two_stage import TwoStageNetwork
from clickseg.modelfile import Manifest, save_model
from clickseg.networks import build_network

RECIPE = Path(__file__).parents[2] / "configs" / "default.yaml"


def save_untrained(folder: Path) -> Path:
    """Write both models of our recipe; the initial one finds no tumor anywhere."""
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    config = config_from(recipe)
    assert isinstance(config.initial, TwoStageConfig)
    torch.manual_seed(0)
    initial = TwoStageNetwork(config.initial)
    network = config.correction.network
    correction = build_network(network.name, network.arguments)
    for last in (_last_bias(initial.locate), _last_bias(initial.segment)):
        nn.init.constant_(last, -10.0)  # random logits would find tumor all over the head
    for name, model in (("initial", initial), ("correction", correction)):
        save_model(folder, model, Manifest(name, recipe, {"studies": "none"}, {}))
    return folder


def _last_bias(network: nn.Module) -> nn.Parameter:
    found: nn.Parameter = network.output_block.conv.conv.bias  # type: ignore[union-attr,assignment]
    return found
