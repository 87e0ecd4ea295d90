"""Networks of the 2D click methods: what they are told apart by is how clicks get in.

``ClickUNet`` is RITM's way (Sofiiuk 2022, arXiv:2102.06583): click maps and the previous mask pass
a small block of their own, whose result is added to the first features of the image. ``Refiner`` is
FocalClick's second network (Chen 2022, arXiv:2204.02574). The body is MONAI's DynUNet in place of
HRNet or SegFormer pretrained on photographs. As theirs, it works at less than the resolution of the
image, which their stems quarter and this one halves, losing no pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import DynUNet
from torch import Tensor, nn

IMAGE_CHANNELS = 2
CLICK_WIDTH = 16


class ClickUNet(nn.Module):
    """U-Net whose clicks are added to the first features of the image.

    Args:
        click_channels: click maps and previous mask.
        filters: channels of the stages, from half the resolution on.
    """

    def __init__(self, click_channels: int, filters: Sequence[int]) -> None:
        super().__init__()
        width = filters[0]
        self.image = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(4 * IMAGE_CHANNELS, width, 3, padding=1)
        )
        self.clicks = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * click_channels, CLICK_WIDTH, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(CLICK_WIDTH, width, 3, padding=1),
        )
        steps = [1] + [2] * (len(filters) - 1)
        self.body = DynUNet(
            spatial_dims=2,
            in_channels=width,
            out_channels=4,
            kernel_size=[3] * len(filters),
            strides=steps,
            upsample_kernel_size=steps[1:],
            filters=list(filters),
            norm_name="instance",
        )
        self.unfold = nn.PixelShuffle(2)

    def forward(self, image: Tensor, clicks: Tensor) -> Tensor:
        """Return logits ``(B, 1, H, W)``; images are ``(B, 2, H, W)``, clicks ``(B, C, H, W)``."""
        logits: Tensor = self.unfold(self.body(self.image(image) + self.clicks(clicks)))
        return logits


class Refiner(nn.Module):
    """Sharpen a coarse answer in a small window: ``boundary * detail + (1 - boundary) * coarse``.

    Args:
        click_channels: click maps and previous mask.
        width: channels within.
    """

    def __init__(self, click_channels: int, width: int) -> None:
        super().__init__()
        before, layers = IMAGE_CHANNELS + click_channels + 1, []
        for _ in range(3):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.InstanceNorm2d(width)]
            layers += [nn.LeakyReLU(0.01)]
            before = width
        self.features = nn.Sequential(*layers)
        self.heads = nn.Conv2d(width, 2, 1)

    def forward(self, image: Tensor, clicks: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of the mask and of its boundary, ``(B, 1, H, W)`` each.

        ``coarse`` are the logits of the first network in this window.
        """
        heads = self.heads(self.features(torch.cat([image, clicks, coarse], dim=1)))
        detail, boundary = heads[:, :1], heads[:, 1:]
        share = torch.sigmoid(boundary)
        return share * detail + (1 - share) * coarse, boundary
