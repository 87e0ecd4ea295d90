"""Whether networks take what their recipe gives them, told before hours of training."""

from __future__ import annotations

import torch
from torch import nn

from clickseg.config import (
    Config,
    ConfigError,
    NetworkConfig,
    PasteConfig,
    TwoStageConfig,
    WholeVolumeConfig,
)
from clickseg.correction.paste import cut_logits, cut_size
from clickseg.networks import build_network

LOCAL_CHANNELS = 5
"""T1ce, T2, start mask, foreground and background."""


def check_networks(config: Config) -> None:
    """Build all networks of a recipe without weights, and give each an input of its size.

    Raises:
        ConfigError: if a network cannot be built by its arguments, does not take an input of the
            size and channels of the recipe, or does not answer one logit a voxel; or if both
            models of ours are of unlike spacing.
    """
    initial, correction = config.initial, config.correction
    if isinstance(initial, WholeVolumeConfig):
        _check("initial.size", initial.network, (2, *initial.size))
    else:
        for name, stage in (("locate", initial.locate), ("segment", initial.segment)):
            _check(f"initial.{name}.patch", stage.network, (2, *stage.patch))
        if (small := initial.segment.small) is not None:
            patch = initial.segment.patch
            if any(a > b for a, b in zip(small.patch, patch, strict=True)):
                raise ConfigError(
                    f"initial.segment.small.patch must lie in the patch, {patch}, is {small.patch}"
                )
            _check("initial.segment.small.patch", initial.segment.network, (2, *small.patch))
    if isinstance(correction, PasteConfig):
        _check("correction.cut", correction.network, (3, *cut_size(correction)), is_paste=True)
        return
    _check("correction.cut", correction.network, (LOCAL_CHANNELS, *correction.cut))
    if isinstance(initial, TwoStageConfig) and initial.segment.spacing_mm != correction.spacing_mm:
        raise ConfigError(
            f"correction.spacing_mm is {correction.spacing_mm}, initial.segment.spacing_mm "
            f"{initial.segment.spacing_mm}: they must be one, for a correction learns the errors "
            "that the fine network makes there"
        )


def _check(
    where: str, config: NetworkConfig, shape: tuple[int, ...], *, is_paste: bool = False
) -> None:
    told = f"{where}: {config.name} does not take {shape[0]} channels of {shape[1:]} voxels"
    try:
        with torch.device("meta"), torch.inference_mode():  # shapes alone, nothing is computed
            network: nn.Module = build_network(config.name, config.arguments).eval()
            image = torch.empty(1, *shape)
            logits = cut_logits(network, image) if is_paste else network(image)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"{told}: {error}") from error
    sizes = {shape[1:], (*shape[1:3], 1)} if is_paste else {shape[1:]}
    if (*logits.shape[:2],) != (1, 1) or (*logits.shape[2:],) not in sizes:
        raise ConfigError(f"{told}: it answers {(*logits.shape[1:],)}, wanted is a logit a voxel")
