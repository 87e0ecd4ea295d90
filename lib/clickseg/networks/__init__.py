"""The networks a configuration may name, each with its arguments."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monai.networks.nets import DynUNet
from torch import nn

from clickseg.networks.folded import FoldedDynUNet
from clickseg.networks.planar_conv import by_planes
from clickseg.networks.unet import FEATURES, AttentionGate, SliceTiling, UNet

__all__ = ["NETWORKS", "AttentionGate", "SliceTiling", "UNet", "build_network"]


def _unet3d(in_channels: int = 2, features: Sequence[int] = FEATURES) -> UNet:
    return UNet(3, [in_channels], features, dropout=0.0, attention=False)


def _attention_unet(
    in_channels: int = 3,
    features: Sequence[int] = FEATURES,
    dropout: float = 0.4,
    attention: bool = True,
) -> UNet:
    return UNet(2, [in_channels], features, dropout, attention)


def _multi_encoder_unet(
    image_channels: int = 2, features: Sequence[int] = FEATURES, dropout: float = 0.4
) -> UNet:
    return UNet(2, [image_channels, 1], features, dropout)


def _multi_encoder_unet_3d(
    image_channels: int = 2, features: Sequence[int] = FEATURES, dropout: float = 0.4
) -> UNet:
    return UNet(3, [image_channels, 1], features, dropout)


def _multi_encoder_unet_tiled(
    image_channels: int = 2, features: Sequence[int] = FEATURES, dropout: float = 0.4
) -> SliceTiling:
    return SliceTiling(_multi_encoder_unet(image_channels, features, dropout))


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "attention_unet": _attention_unet,
    "dynunet": DynUNet,
    "folded_dynunet": FoldedDynUNet,
    "multi_encoder_unet": _multi_encoder_unet,
    "multi_encoder_unet_3d": _multi_encoder_unet_3d,
    "multi_encoder_unet_tiled": _multi_encoder_unet_tiled,
    "unet3d": _unet3d,
}
"""Constructors by name. The correction networks take the image's channels, then the mask's."""


def build_network(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Make a network by its name and arguments, as they stand in a configuration or a manifest.

    Raises:
        ValueError: if there is no such network, or it takes no such argument.
    """
    if name not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(sorted(NETWORKS))}, not {name!r}")
    taken = list(inspect.signature(NETWORKS[name]).parameters)
    unknown = sorted(set(arguments) - set(taken))
    if unknown:
        raise ValueError(f"{name} takes {', '.join(taken)}, not {', '.join(unknown)}")
    return by_planes(NETWORKS[name](**arguments))
