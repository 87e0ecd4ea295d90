"""A U-Net at half the in-plane resolution that loses no pixel: two by two they become channels.

Most of the time of a U-Net goes to its first level, where voxels are many and channels few. Here
that level is left out: what lies in a square of four pixels comes in as four times the channels,
and four times the logits go back to their pixels (sub-pixel convolution, Shi et al. 2016,
arXiv:1609.05158).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.networks.nets import DynUNet
from torch import Tensor, nn


class FoldedDynUNet(nn.Module):
    """MONAI's DynUNet on folded pixels; arguments are those of DynUNet.

    Args:
        in_channels: of the image ``(B, C, I, J, K)``, whose sides I and J are even.
        out_channels: of the logits ``(B, C, I, J, K)``.
        kernel_size, strides, upsample_kernel_size, filters: by level, from the folded one on.
        norm_name: of the normalization.
        deep_supervision, deep_supr_num: whether coarser levels answer, too, in training, and how
            many; the logits then are ``(B, 1 + deep_supr_num, C, I, J, K)``, the finest first.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[Any],
        strides: Sequence[Any],
        upsample_kernel_size: Sequence[Any],
        filters: Sequence[int],
        norm_name: str,
        deep_supervision: bool = False,
        deep_supr_num: int = 1,
    ) -> None:
        super().__init__()
        self.body = DynUNet(
            spatial_dims=3,
            in_channels=4 * in_channels,
            out_channels=4 * out_channels,
            kernel_size=kernel_size,
            strides=strides,
            upsample_kernel_size=upsample_kernel_size,
            filters=filters,
            norm_name=norm_name,
            deep_supervision=deep_supervision,
            deep_supr_num=deep_supr_num,
        )

    @property
    def bottleneck(self) -> nn.Module:
        """The deepest layer, under the name that it has in a DynUNet."""
        layer: nn.Module = self.body.bottleneck
        return layer

    @property
    def upsamples(self) -> nn.ModuleList:
        """The layers that lead up from it, likewise."""
        layer: nn.ModuleList = self.body.upsamples
        return layer

    @property
    def output_block(self) -> nn.Module:
        """The last layer, likewise: four logits a folded pixel."""
        layer: nn.Module = self.body.output_block
        return layer

    def forward(self, image: Tensor) -> Tensor:
        """Return logits on the voxels of the image.

        Raises:
            ValueError: if a side that is folded is odd.
        """
        batch, _, i, j, k = image.shape
        if i % 2 or j % 2:
            raise ValueError(f"folded pixels want even sides, got {i} x {j}")
        squares = image.reshape(batch, -1, i // 2, 2, j // 2, 2, k)
        logits = self.body(squares.permute(0, 1, 3, 5, 2, 4, 6).flatten(1, 3))
        heads = logits.shape[1:-4]  # none but in training with deep supervision
        pixels: Tensor = logits.unflatten(-4, (-1, 2, 2)).movedim((-5, -4), (-4, -2))
        return pixels.reshape(batch, *heads, -1, i, j, k)
