"""Convolutions of small volumes on a CPU, plane by plane.

torch leaves a 3D convolution of float32 to oneDNN where a batch holds several volumes, or where
channels x I x J are more than 20480 (``ConvParams::use_mkldnn`` in aten/native/Convolution.cpp);
nearly all else goes through loops of its own, which take several times as long. The pass of a click
is such a volume, and so are the lower levels of every network. As a batch of planes they are 2D
convolutions, which are oneDNN's: a plane comes in with its neighbors as further channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

ENOUGH = 20480
"""Channels x I x J of one volume above which torch takes oneDNN."""


class PlanarConv3d(nn.Conv3d):
    """A ``Conv3d`` of the same weights and answers, up to rounding, quick on small input, too."""

    def _conv_forward(self, image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not self._is_left_to_loops(image):
            torchs: Tensor = super()._conv_forward(image, weight, bias)
            return torchs
        i, j, k = self.kernel_size
        (*stride, step), (*padding, border) = self.stride, map(int, self.padding)
        planes = functional.pad(image[0].permute(3, 0, 1, 2), (0, 0) * 3 + (border, border))
        last = len(planes) - k + 1
        beside = torch.cat([planes[first : first + last : step] for first in range(k)], dim=1)
        flat = weight.permute(0, 4, 1, 2, 3).reshape(self.out_channels, -1, i, j)
        out = functional.conv2d(beside, flat, bias, tuple(stride), tuple(padding))
        return out.permute(1, 2, 3, 0)[None]

    def _is_left_to_loops(self, image: Tensor) -> bool:
        """Tell whether torch would not take oneDNN, and planes are worth it."""
        return (
            image.ndim == 5
            and len(image) == 1
            and image.device.type == "cpu"
            and image.dtype == self.weight.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and image.shape[1:4].numel() <= ENOUGH
            and image.shape[4] + 2 * int(self.padding[2]) >= self.kernel_size[2]
        )


def by_planes(network: nn.Module) -> nn.Module:
    """Let the 3D convolutions of a network be planar where that helps; return the network.

    Weights, names and hooks are left as they are.
    """
    for layer in network.modules():
        if type(layer) is nn.Conv3d and _gains(layer):
            layer.__class__ = PlanarConv3d
    return network


def _gains(layer: nn.Conv3d) -> bool:
    """Tell whether a layer is plain, and as wide as 3 x 3 in the plane: less is slower by planes.

    torch takes oneDNN for any that is wider than 3 along both J and K.
    """
    i, j, k = layer.kernel_size
    is_plain = not isinstance(layer.padding, str) and layer.padding_mode == "zeros"
    is_plain = is_plain and layer.groups == 1 and set(layer.dilation) == {1}
    return is_plain and min(i, j) >= 3 and min(j, k) <= 3
