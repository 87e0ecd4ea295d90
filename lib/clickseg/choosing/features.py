"""What a tumor looks like to the initial network: a vector to tell studies alike or unlike.

The vector is the mean over the tumor region of what the deepest layer of the network answers,
brought to length 1: what counts is which channels speak, not how loud. Distances between such
vectors are the features of core-set selection (Sener and Savarese 2018, arXiv:1708.00489).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from clickseg.boxes import bounding_box, center_of
from clickseg.choosing.looks import InitialModel
from clickseg.correction.local import take_mask
from clickseg.cuts import Box
from clickseg.initial import TwoStage, WholeVolume
from clickseg.initial.whole_volume import resize_in_plane, shrunken
from clickseg.intensity import intensity_range
from clickseg.precision import answering
from clickseg.study import Study

DEEPEST = "bottleneck"
"""What both MONAI's DynUNet and the published U-Net call their deepest layer."""


@torch.inference_mode()
def tumor_feature(
    initial: InitialModel, study: Study, region: NDArray[np.uint8]
) -> NDArray[np.float32] | None:
    """Return the feature vector ``(C,)`` of a tumor, of length 1 (of length 0 if all is silent).

    None where the region is empty, the model is of an unknown kind, or its network has no layer
    that is called ``DEEPEST``: which of its layers is the deepest is then not known.

    Args:
        initial: the model.
        study: the study.
        region: canonical uint8 0/1 ``(I, J, K)``, the tumor region.
    """
    found = bounding_box(region)
    if found is None:
        return None
    if isinstance(initial, TwoStage):
        network = initial.network.segment
        image, mask = _fine_input(initial, study, region, center_of(found))
    elif isinstance(initial, WholeVolume):
        network = initial.network
        image, mask = _whole_input(initial, study, region, found[2])
    else:
        return None
    deepest = _deepest(network, image)
    if deepest is None:
        return None
    i, j, k = deepest.shape[1:]
    weight = functional.adaptive_avg_pool3d(mask[None], (i, j, k))[0]
    feature = (deepest * weight).sum((1, 2, 3)) / weight.sum().clamp_min(1e-6)
    vector: NDArray[np.float32] = functional.normalize(feature, dim=0).numpy()
    return vector


def _fine_input(
    initial: TwoStage, study: Study, region: NDArray[np.uint8], center_ijk: NDArray[np.float64]
) -> tuple[Tensor, Tensor]:
    """Return one patch of the fine network around the tumor, and the region in it.

    Of a tumor that is larger than a patch only the middle is described.
    """
    config = initial.config.segment
    spacing_mm = study.grid.canonical.spacing_mm
    box = Box.around(np.rint(center_ijk), spacing_mm, config.spacing_mm, config.patch)
    return box.take(torch.from_numpy(study.image)), take_mask(box, region)


def _whole_input(
    initial: WholeVolume, study: Study, region: NDArray[np.uint8], slices: slice
) -> tuple[Tensor, Tensor]:
    """Return one window of the network, shrunken, with the tumor in the middle of its depth."""
    *in_plane, depth = initial.config.size
    size = in_plane[0], in_plane[1]
    image = torch.from_numpy(study.image)
    start = (slices.start + slices.stop - depth) // 2
    start = min(max(start, 0), max(image.shape[-1] - depth, 0))
    window = slice(start, start + depth)
    seen = shrunken(image[..., window], intensity_range(study.image), size)
    mask = resize_in_plane(torch.from_numpy(region[None, ..., window]).float(), size)
    missing = depth - seen.shape[-1]
    around = (missing // 2, missing - missing // 2)
    return functional.pad(seen, around), functional.pad(mask, around)


def _deepest(network: nn.Module, image: Tensor) -> Tensor | None:
    """Return what the deepest layer answers, ``(C, i, j, k)`` float32 on the CPU, or None."""
    layer = getattr(network, DEEPEST, None)
    if not isinstance(layer, nn.Module):
        return None
    heard: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _layer, _seen, said: heard.append(said))
    device = next(network.parameters(), torch.empty(0)).device
    try:
        with answering(device):
            network(image[None].to(device))
    finally:
        handle.remove()
    return heard[-1][0].float().cpu()
