"""Test-time augmentation: ask an initial model about a tumor again, slightly changed each time.

Where its answers differ, or are all near one half, the model does not know (Wang et al. 2019,
arXiv:1807.07356). The network needs no dropout, and no second network is trained.

A two-stage model is asked in the region of the first outline alone, by its fine network: what
the coarse one found is taken as given. Any other model is asked about the whole study again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from clickseg.boxes import Slices, bounding_box, center_of, grown
from clickseg.initial import Initial, TwoStage
from clickseg.initial.two_stage import segment_prob
from clickseg.study import Study

InitialModel = Callable[[Study], Initial]

MARGIN_MM = 8.0
"""A model that is asked about whole studies is listened to up to here around its first outline."""

RIM_MM = 2.0
"""The tumor region goes this far beyond what any look takes for tumor."""


@dataclass(frozen=True)
class Look:
    """What is changed before the model is asked once more.

    ``is_mirrored``: along I, left and right change places. ``shift_mm``: how far the image moves
    along I, J and K, to the nearest whole voxel, but by at least one. ``factors``: by which T1ce
    and T2 are multiplied. Normalized images have mean 0, so that is contrast; a model that scales
    each sequence to its range does not see it.
    """

    is_mirrored: bool = False
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    factors: tuple[float, float] = (1.0, 1.0)

    def shift(self, spacing_mm: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the shift in voxels ``(3,)``."""
        wanted = np.array(self.shift_mm)
        voxels = np.maximum(np.rint(np.abs(wanted) / spacing_mm), 1)
        return np.asarray(np.sign(wanted) * voxels, dtype=np.int64)


LOOKS = (
    Look(),
    Look(is_mirrored=True),
    Look(shift_mm=(1.5, 1.5, 1.5)),
    Look(shift_mm=(-1.5, -1.5, -1.5), is_mirrored=True),
    Look(factors=(1.1, 0.9)),
    Look(factors=(0.9, 1.1)),
)
"""Each change small enough that a reader would draw the same outline."""


@dataclass(frozen=True, eq=False)
class Looked:
    """What all looks said.

    ``prob``: mean probability of tumor, float32 ``(i, j, k)`` in the voxels ``where`` of the
    canonical volume. ``region``: bool of the same shape, what any look takes for tumor and a rim
    of ``RIM_MM`` around it.
    """

    prob: NDArray[np.float32]
    region: NDArray[np.bool_]
    where: Slices

    def region_in(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return the region as a mask of a whole volume."""
        mask = np.zeros(shape, dtype=np.uint8)
        mask[self.where] = self.region
        return mask


@torch.inference_mode()
def look_again(initial: InitialModel, study: Study, first: Initial) -> Looked | None:
    """Ask a model about a study in several ways; None where it found no tumor at first.

    Args:
        initial: the model.
        study: the study.
        first: what the model answered for the study as it is.
    """
    found = bounding_box(first.mask)
    if found is None:
        return None
    place = (found[0], found[1], found[2])
    spacing_mm = study.grid.canonical.spacing_mm
    if isinstance(initial, TwoStage):
        answers = [_ask_fine(initial, study, place, look) for look in LOOKS]
    else:
        i, j, k = grown(place, np.ceil(MARGIN_MM / spacing_mm), first.mask.shape)
        answers = [((i, j, k), _ask_whole(initial, study, look)[i, j, k]) for look in LOOKS]
    where = _shared([box for box, _ in answers])
    probs = np.stack([prob[_within(where, box)] for box, prob in answers])
    union = (probs > 0.5).any(axis=0) | (first.mask[where] > 0)
    distance_mm = ndimage.distance_transform_edt(~union, sampling=spacing_mm)
    return Looked(probs.mean(axis=0), np.asarray(distance_mm <= RIM_MM), where)


def _ask_fine(
    initial: TwoStage, study: Study, place: Slices, look: Look
) -> tuple[Slices, NDArray[np.float32]]:
    """Return probabilities of the fine network in a region that is not the same for all looks."""
    network = initial.network.segment
    device = next(network.parameters(), torch.empty(0)).device
    spacing_mm = study.grid.canonical.spacing_mm
    extent_mm = np.array([side.stop - side.start for side in place]) * spacing_mm
    # The image moves one way where the region moves the other.
    box = initial.region(spacing_mm, center_of(place) - look.shift(spacing_mm), extent_mm)
    region = box.take(torch.from_numpy(study.image))
    region = region * torch.tensor(look.factors).view(2, 1, 1, 1)
    region = (region.flip(1) if look.is_mirrored else region).to(device)
    prob = segment_prob(network, region, initial.config.segment.patch, mirror=False)
    prob = prob.flip(1) if look.is_mirrored else prob
    where, values = box.put_back(prob, study.grid.canonical.shape)
    return where, values[0].numpy()


def _ask_whole(initial: InitialModel, study: Study, look: Look) -> NDArray[np.float32]:
    """Return probabilities ``(I, J, K)`` of a model that is asked about the changed study.

    What a shift moves over one face comes in at the opposite one: there is air.
    """
    shift, axes = look.shift(study.grid.canonical.spacing_mm), (0, 1, 2)
    image = study.image * np.array(look.factors, dtype=np.float32)[:, None, None, None]
    image = np.roll(image, shift, axis=(1, 2, 3))
    image = np.ascontiguousarray(image[:, ::-1]) if look.is_mirrored else image
    answer = initial(replace(study, image=image))
    prob = np.zeros(study.grid.canonical.shape, dtype=np.float32)
    prob[answer.box] = answer.prob
    prob = prob[::-1] if look.is_mirrored else prob
    return np.roll(prob, -shift, axis=axes)


def _shared(boxes: list[Slices]) -> Slices:
    """Return the voxels that lie in all boxes."""
    i, j, k = (
        slice(max(side.start for side in sides), min(side.stop for side in sides))
        for sides in zip(*boxes, strict=True)
    )
    return i, j, k


def _within(inner: Slices, outer: Slices) -> Slices:
    """Return which voxels of the outer box the inner one is."""
    i, j, k = (
        slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, outer, strict=True)
    )
    return i, j, k
