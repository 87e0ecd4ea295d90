"""The published networks: one U-Net whose encoders, skips and axes are chosen.

All return logits ``(B, 1, ...)`` of the input's size. Axes are ``(H, W)`` or ``(I, J, K)``.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn
from torch.nn import functional

FEATURES = (32, 64, 128, 256)
"""Channels of the three down stages and of the bottleneck."""


def conv_pair(axes: int, in_channels: int, out_channels: int, dropout: float) -> nn.Sequential:
    """Make two times 3x3(x3) convolution, batch norm, ReLU and, if any, dropout."""
    return nn.Sequential(
        *(
            Convolution(
                axes,
                channels,
                out_channels,
                kernel_size=3,
                adn_ordering="NAD",
                act="RELU",
                norm="BATCH",
                dropout=dropout or None,
            )
            for channels in (in_channels, out_channels)
        )
    )


class AttentionGate(nn.Module):
    """Additive attention gate (Oktay et al. 2018, arXiv:1804.03999): mute parts of a skip.

    The skip, strided down to the size of the gating signal, and that signal pass a convolution
    to the same width; their sum decides, through ReLU, a convolution to one channel, sigmoid and
    upsampling, how much of the skip passes at each place.
    """

    def __init__(self, axes: int, skip_channels: int, gate_channels: int) -> None:
        super().__init__()
        width = max(skip_channels // 2, 1)
        self.from_skip = Conv[Conv.CONV, axes](skip_channels, width, kernel_size=2, stride=2)
        self.from_gate = Conv[Conv.CONV, axes](gate_channels, width, kernel_size=1)
        self.to_weight = Conv[Conv.CONV, axes](width, 1, kernel_size=1)
        self.mode = {2: "bilinear", 3: "trilinear"}[axes]

    def forward(self, skip: Tensor, gate: Tensor) -> Tensor:
        """Return the skip, weighed; ``gate`` has half its size along every axis."""
        return skip * self.weight(skip, gate)

    def weight(self, skip: Tensor, gate: Tensor) -> Tensor:
        """Return the attention ``(B, 1, ...)`` between 0 and 1, in the size of the skip."""
        joined = functional.relu(self.from_skip(skip) + self.from_gate(gate))
        weight = torch.sigmoid(self.to_weight(joined))
        return functional.interpolate(weight, skip.shape[2:], mode=self.mode, align_corners=False)


class Encoder(nn.Module):
    """The way down: a `conv_pair` a stage, 2x2(x2) max-pooling after each."""

    def __init__(self, axes: int, channels: int, features: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            conv_pair(axes, before, after, dropout)
            for before, after in pairwise([channels, *features])
        )
        self.pool = Pool[Pool.MAX, axes](kernel_size=2)

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the stages' outputs, largest first, and the last of them pooled."""
        skips = []
        for stage in self.stages:
            skips.append(stage(image))
            image = self.pool(skips[-1])
        return skips, image


class Join(nn.Module):
    """The skips of one stage, one from each encoder, made into one of that stage's width."""

    def __init__(self, axes: int, width: int, below: int, encoders: int, attention: bool) -> None:
        super().__init__()
        gates = (AttentionGate(axes, width, below) for _ in range(encoders))
        self.gates = nn.ModuleList(gates if attention else ())
        self.to_width = (
            nn.Identity() if encoders == 1 else Conv[Conv.CONV, axes](encoders * width, width, 1)
        )

    def forward(self, skips: list[Tensor], gate: Tensor) -> Tensor:
        """Return the gated skips, joined."""
        if self.gates:
            skips = [one(skip, gate) for one, skip in zip(self.gates, skips, strict=True)]
        joined: Tensor = self.to_width(torch.cat(skips, dim=1))
        return joined


class UNet(nn.Module):
    """U-Net with one or several encoders and, if wanted, attention gates on the skips.

    Several encoders each see some of the input's channels; what they find is joined before the
    bottleneck and at every skip, where each encoder's skip passes its own gate.

    Args:
        axes: 2 or 3.
        groups: input channels of each encoder, in the order of the input's channels.
        features: channels of the down stages, and last of the bottleneck.
        dropout: share of activations dropped after each ReLU.
        attention: whether skips pass a gate.
    """

    def __init__(
        self,
        axes: int,
        groups: Sequence[int],
        features: Sequence[int] = FEATURES,
        dropout: float = 0.0,
        attention: bool = True,
    ) -> None:
        super().__init__()
        if axes not in (2, 3):
            raise ValueError(f"a network has 2 or 3 axes, not {axes}")
        if len(features) < 2:
            raise ValueError(f"features must name a stage and the bottleneck, not {features}")
        *stages, bottom = features
        self.groups = tuple(groups)
        self.encoders = nn.ModuleList(Encoder(axes, n, stages, dropout) for n in groups)
        self.bottleneck = conv_pair(axes, len(groups) * stages[-1], bottom, dropout)
        self.joins = nn.ModuleList()
        self.ups = nn.ModuleList()
        self.merges = nn.ModuleList()
        for width, below in zip(stages[::-1], features[:0:-1], strict=True):
            self.joins.append(Join(axes, width, below, len(groups), attention))
            self.ups.append(Conv[Conv.CONVTRANS, axes](below, width, kernel_size=2, stride=2))
            self.merges.append(conv_pair(axes, 2 * width, width, dropout))
        self.head = Conv[Conv.CONV, axes](stages[0], 1, kernel_size=1)
        if axes == 3:  # a step of a training takes a CPU a third less time, an answer a sixth
            self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(B, 1, ...)`` for ``(B, C, ...)``."""
        self._check(image)
        skips, bottoms = [], []
        for encoder, part in zip(
            self.encoders, torch.split(image, list(self.groups), dim=1), strict=True
        ):
            from_encoder, bottom = encoder(part)
            skips.append(from_encoder)
            bottoms.append(bottom)
        decoded = self.bottleneck(torch.cat(bottoms, dim=1))
        stages = list(zip(*skips, strict=True))[::-1]
        for stage, join, up, merge in zip(stages, self.joins, self.ups, self.merges, strict=True):
            skip = join(list(stage), decoded)
            decoded = merge(torch.cat([skip, up(decoded)], dim=1))
        logits: Tensor = self.head(decoded)
        return logits

    def _check(self, image: Tensor) -> None:
        step = 2 ** len(self.ups)
        if image.shape[1] != sum(self.groups) or any(size % step for size in image.shape[2:]):
            raise ValueError(
                f"the network takes {sum(self.groups)} channels and sizes that are multiples of "
                f"{step}, got {tuple(image.shape)}"
            )


class SliceTiling(nn.Module):
    """Give a 2D network its neighboring slices as tiles of one image, in rows of three.

    ``network`` sees ``(B, C, 3 H, 3 W)``, the first slice at the top left. Context without 3D
    convolutions.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(B, 1, H, W)`` of the middle slice for ``(B, C, H, W, 9)``."""
        batch, channels, height, width, slices = image.shape
        if slices != 9:
            raise ValueError(f"slice tiling takes 9 slices, got {tuple(image.shape)}")
        rows = image.reshape(batch, channels, height, width, 3, 3).permute(
            0, 1, 4, 2, 5, 3
        )  # (B, C, 3, H, 3, W)
        tiled = rows.reshape(batch, channels, 3 * height, 3 * width)
        logits: Tensor = self.network(tiled)[:, :, height : 2 * height, width : 2 * width]
        return logits
