"""Random changes of training images, by MONAI's transforms."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import set_track_meta
from monai.transforms import (
    Compose,
    MapTransform,
    RandAdjustContrastd,
    RandAffined,
    RandBiasFieldd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandomizableTransform,
    RandScaleIntensityd,
    RandShiftIntensityd,
)
from torch import Tensor
from torch.nn import functional

from clickseg.config import DropConfig

IMAGE, LABEL = "image", "label"

FAINT_SHARE, FAINT_RANGE = 0.5, (0.0, 1.2)
"""How often the T1ce fades in places, and to what share of its contrast."""


class FaintSpotsd(RandomizableTransform, MapTransform):  # type: ignore[misc]
    """Multiply the T1ce by a smooth field, half of the time: what is bright fades in places.

    MONAI's smooth fields come out a voxel short for some sizes, 59 from 3 nodes for one.

    Args:
        spots: nodes of the field along each axis.
    """

    def __init__(self, spots: Sequence[int]) -> None:
        RandomizableTransform.__init__(self, FAINT_SHARE)
        MapTransform.__init__(self, IMAGE)
        self.spots = tuple(spots)

    def __call__(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """Change channel 0 of the image; intensities are about 0 where there is plain tissue."""
        self.randomize(None)
        if not self._do_transform:
            return dict(data)
        image = data[IMAGE].clone()
        nodes = torch.from_numpy(self.R.uniform(*FAINT_RANGE, self.spots)).float()
        field = functional.interpolate(
            nodes[None, None], tuple(image.shape[1:]), mode="trilinear", align_corners=True
        )
        image[:1] *= field[0]
        return dict(data) | {IMAGE: image}


def augmentation(
    patch: tuple[int, int, int],
    shift_vox: tuple[int, int, int],
    spot_vox: tuple[int, int, int],
) -> Compose:
    """Return the transform from a region with its label to a patch of it.

    Rotation is in the axial plane, whose voxels are square; the head is mirrored half of the time.
    Parts of a tumor, of large ones above all, hardly enhance: spots in which the T1ce shows less
    make more of them, so that the T2 is looked at, too.

    Args:
        patch: size of the patch, in voxels.
        shift_vox: how far its center may lie from the region's, in voxels.
        spot_vox: how far such spots lie apart, in voxels.
    """
    set_track_meta(False)
    spots = [-(-size // apart) + 1 for size, apart in zip(patch, spot_vox, strict=True)]
    return Compose(
        [
            RandAffined(
                (IMAGE, LABEL),
                prob=1.0,
                rotate_range=(0.0, 0.0, 0.3),
                scale_range=((-0.15, 0.15), (-0.15, 0.15), (-0.1, 0.1)),
                shear_range=(0.05, 0.05, 0.0),
                translate_range=shift_vox,
                spatial_size=patch,
                mode=("bilinear", "nearest"),
                padding_mode="border",
            ),
            RandFlipd((IMAGE, LABEL), prob=0.5, spatial_axis=0),
            FaintSpotsd(spots),
            RandScaleIntensityd(IMAGE, factors=0.25, prob=0.7, channel_wise=True),
            RandShiftIntensityd(IMAGE, offsets=0.3, prob=0.7, channel_wise=True),
            RandAdjustContrastd(IMAGE, prob=0.3, gamma=(0.7, 1.5)),
            RandBiasFieldd(IMAGE, degree=2, coeff_range=(0.0, 0.15), prob=0.2),
            RandGaussianNoised(IMAGE, prob=0.4, std=0.2),
            RandGaussianSmoothd(
                IMAGE, sigma_x=(0.3, 1.0), sigma_y=(0.3, 1.0), sigma_z=(0.1, 0.4), prob=0.2
            ),
        ]
    )


def augment(
    transform: Compose, image: Tensor, label: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Apply a transform with a state of its own: same generator, same result.

    A sequence that a study lacks is zeros in use, and stays zeros.
    """
    transform.set_random_state(int(rng.integers(2**31)))
    out: Any = transform({IMAGE: image.float(), LABEL: label.float()})
    changed = torch.as_tensor(out[IMAGE])
    changed[~_shown(image)] = 0
    return changed, torch.as_tensor(out[LABEL])


def drop_sequences(image: Tensor, config: DropConfig, rng: np.random.Generator) -> Tensor:
    """Blank the T1ce, the T2 or none of a ``(2, I, J, K)`` image, as a study without it is.

    The only sequence of a study is never blanked.
    """
    draw = rng.random()
    if not _shown(image).all():
        return image
    if draw < config.t1ce:
        image[0] = 0
    elif draw < config.t1ce + config.t2:
        image[1] = 0
    return image


def _shown(image: Tensor) -> Tensor:
    """Tell which channels of a ``(C, I, J, K)`` image hold a sequence."""
    return image.flatten(1).any(1)
