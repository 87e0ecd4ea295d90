"""Trained methods as loaded from a folder: which of them, its recipe says."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from clickseg.baselines.deep_edit import DeepEdit
from clickseg.baselines.method import Method, version_of
from clickseg.baselines.planar import Planar, PlanarNetwork
from clickseg.baselines.recipe import DeepEditConfig, PlanarConfig, RivalConfig
from clickseg.config import checked
from clickseg.modelfile import ModelError, load_weights, read_manifest
from clickseg.networks import build_network

NAME = "rival"
"""Name of the model file."""


def name_of(config: PlanarConfig | DeepEditConfig) -> str:
    """Return the name by which a trained method is evaluated."""
    return "deep_edit" if isinstance(config, DeepEditConfig) else f"{config.method}_{config.disks}"


def load_rival(folder: Path, name: str) -> Method:
    """Load a trained method of a folder.

    Raises:
        ModelError: if it is missing or damaged, not of the recipe that its manifest states, or
            another method than ``name``.
    """
    manifest = read_manifest(folder, NAME)
    config = checked(manifest.recipe, RivalConfig).rival
    if name_of(config) != name:
        raise ModelError(f"{folder} holds {name_of(config)}, {name} was wanted")
    method, network = build_rival(config, version_of(manifest))
    load_weights(folder, manifest, network)
    return method


def build_rival(config: PlanarConfig | DeepEditConfig, version: str) -> tuple[Method, nn.Module]:
    """Return a method with random weights, and its network to load others into."""
    if isinstance(config, DeepEditConfig):
        editor = build_network(config.network.name, config.network.arguments)
        return DeepEdit(editor, config, version), editor
    network = PlanarNetwork(config)
    return Planar(network, config, version), network
