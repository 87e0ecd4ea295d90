"""Click networks on axial slices: RITM and FocalClick, with static, dynamic or both disks.

RITM (Sofiiuk 2022, arXiv:2102.06583) segments a window around mask and clicks anew at each click.
FocalClick (Chen 2022, arXiv:2204.02574) sharpens that answer in a smaller window around what
changed, and takes over only the changed part that holds the click.

Mended here: RITM empties the slice outside of its window, this keeps it; FocalClick looks up the
changed part at the click and, where nothing changed there, takes the whole slice for it, this looks
a few pixels around and then changes nothing. A click mends its own slice and no other: that is
these methods' nature.

As in their public code, RITM's answer is the mean of the logits of a window and of its mirror image
from left to right; FocalClick looks once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from clickseg.baselines.method import Answer, Mask, Session
from clickseg.baselines.recipe import PlanarConfig
from clickseg.baselines.strokes import FromNothing
from clickseg.clicks import Clicks, voxels_of
from clickseg.cuts import Box
from clickseg.networks.click_unet import ClickUNet, Refiner
from clickseg.precision import answering
from clickseg.study import Study

MAPS = {"static": 2, "dynamic": 2, "joined": 4}
"""How many click maps there are: for each kind of click one of each kind of disk."""

SURE_LOGIT = 8.0
"""A mask counts as logits of this size."""

NEAR_PX = 3
"""What changed belongs to a click up to this distance."""

Plane = NDArray[np.uint8]


class PlanarNetwork(nn.Module):
    """The network of a recipe; ``refine`` is there for FocalClick only."""

    def __init__(self, config: PlanarConfig) -> None:
        super().__init__()
        channels = MAPS[config.disks] + 1
        self.coarse = ClickUNet(channels, config.filters)
        self.refine = (
            Refiner(channels, config.filters[0]) if config.method == "focal_click" else None
        )


@dataclass
class Slice:
    """One axial slice before a reader: images ``(2, I, J, 1)``, mask ``(I, J)``, clicks so far."""

    image: Tensor
    mask: Plane
    spacing_mm: tuple[float, float]
    points: list[tuple[int, int]]
    is_foreground: list[bool]
    drags_mm: list[float]

    def window(self, config: PlanarConfig) -> Box:
        """Return the window around mask and clicks, with what was dragged where that is seen."""
        drags_mm = [0.0 if config.disks == "static" else drag for drag in self.drags_mm]
        reach = np.array(drags_mm)[:, None] / self.spacing_mm
        points = np.array(self.points).reshape(-1, 2)
        held = np.concatenate([np.argwhere(self.mask), points - reach, points + reach])
        return self._around(held, config.smallest_mm, config)

    def focus(self, changed: NDArray[np.bool_], config: PlanarConfig) -> Box:
        """Return the smaller window around what changed and the last click."""
        held = np.concatenate([np.argwhere(changed), np.array(self.points[-1:])])
        return self._around(held, config.focus_mm, config)

    def _around(self, held: NDArray[Any], smallest_mm: float, config: PlanarConfig) -> Box:
        low, high = held.min(axis=0), held.max(axis=0)
        extent_mm = float(((high + 1 - low) * self.spacing_mm).max())
        return self.box((low + high) / 2, max(config.margin * extent_mm, smallest_mm), config)

    def box(self, center: NDArray[np.float64], side_mm: float, config: PlanarConfig) -> Box:
        """Return a window of some width."""
        pixel_mm = side_mm / config.window
        return Box.around(
            (*center, 0.0),
            (*self.spacing_mm, 1.0),
            (pixel_mm, pixel_mm, 1.0),
            (config.window, config.window, 1),
        )

    def take(self, values: Tensor, box: Box) -> Tensor:
        """Return ``(C, window, window)`` of ``(C, I, J, 1)``."""
        return box.take(values)[..., 0]

    def clicks(self, box: Box, config: PlanarConfig) -> Tensor:
        """Return click maps and mask in a window, ``(maps + 1, window, window)``."""
        points = (np.array(self.points).reshape(-1, 2) - box.center_ijk[:2]) / box.step[:2]
        points = points + config.window // 2
        pixel_mm = box.step[0] * self.spacing_mm[0]
        radii = []  # of each kind of disk that is seen
        if config.disks in ("static", "joined"):
            radii.append([config.radius_px] * len(points))
        if config.disks in ("dynamic", "joined"):
            dragged = np.array(self.drags_mm) / pixel_mm
            radii.append(np.maximum(dragged, config.radius_px).tolist())
        maps = [draw_disks(points, self.is_foreground, kind, config) for kind in radii]
        before = self.take(torch.from_numpy(self.mask)[None, :, :, None].float(), box)
        return torch.cat([*maps, (before > 0.5).float()])

    def put(self, logits: Tensor, box: Box) -> tuple[tuple[slice, slice], NDArray[np.float32]]:
        """Bring ``(1, window, window)`` back onto the pixels of the slice that lie in it."""
        where, values = box.put_back(logits[..., None], (self.mask.shape[0], self.mask.shape[1], 1))
        return where[:2], values[0, :, :, 0].numpy()


def draw_disks(
    points: NDArray[np.float64],
    is_foreground: list[bool],
    radii_px: list[float],
    config: PlanarConfig,
) -> Tensor:
    """Return a map of foreground and one of background disks, ``(2, window, window)``.

    The pixel nearest to a point ``(i, j)`` is always drawn, if it lies in the window.
    """
    maps = np.zeros((2, config.window, config.window), dtype=np.float32)
    i, j = np.ogrid[: config.window, : config.window]
    for (x, y), kind, radius in zip(points.tolist(), is_foreground, radii_px, strict=True):
        drawn = (i - x) ** 2 + (j - y) ** 2 <= radius**2
        drawn |= (i == round(x)) & (j == round(y))
        maps[0 if kind else 1][drawn] = 1
    return torch.from_numpy(maps)


@torch.inference_mode()
def answer_slice(network: PlanarNetwork, part: Slice, config: PlanarConfig) -> Plane:
    """Return the mask of a slice after its last click."""
    device = next(network.parameters(), torch.empty(0)).device
    box = part.window(config)
    image = part.take(part.image, box)[None].to(device)
    clicks = part.clicks(box, config)[None].to(device)
    with answering(device):
        logits = network.coarse(image, clicks).float()
        if network.refine is None:
            mirrored = network.coarse(image.flip(2), clicks.flip(2)).float()
            logits = (logits + mirrored.flip(2)) / 2
    where, values = part.put(logits[0].cpu(), box)
    if network.refine is None:
        after = part.mask.copy()
        after[where] = values > 0
        return after
    coarse = whole_logits(part.mask, where, values)
    changed = changed_near(part.mask, coarse > 0, part.points[-1])
    if changed is None:
        return part.mask.copy()
    focus = part.focus(changed, config)
    with answering(device):
        sharpened, _ = network.refine(
            part.take(part.image, focus)[None].to(device),
            part.clicks(focus, config)[None].to(device),
            part.take(torch.from_numpy(coarse)[None, :, :, None], focus)[None].to(device),
        )
    where, values = part.put(sharpened[0].float().cpu(), focus)
    fine = coarse.copy()
    fine[where] = values
    merged, logits = changed_near(part.mask, fine > 0, part.points[-1]), fine
    if merged is None:  # the second network undid what the first had done at the click
        merged, logits = changed, coarse
    return np.where(merged, logits > 0, part.mask).astype(np.uint8)


def whole_logits(
    mask: Plane, where: tuple[slice, slice], values: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return logits of a slice: those of a window, and beyond it what the mask says."""
    whole = np.where(mask, SURE_LOGIT, -SURE_LOGIT).astype(np.float32)
    whole[where] = values
    return whole


def changed_near(
    before: Plane, after: NDArray[np.bool_], point: tuple[int, int]
) -> NDArray[np.bool_] | None:
    """Return the part of a change that holds a click or comes near; None if nothing does."""
    parts, _ = ndimage.label((before > 0) != after, np.ones((3, 3)))
    pixels = np.argwhere(parts)
    gaps = np.abs(pixels - point).max(axis=1, initial=0)
    if len(pixels) == 0 or gaps.min() > NEAR_PX:
        return None
    return np.asarray(parts == parts[tuple(pixels[gaps.argmin()])])


@dataclass
class PlanarSession:
    """A study before one reader; each click mends its slice."""

    network: PlanarNetwork
    config: PlanarConfig
    study: Study
    mask: Mask

    def answer(self, clicks: Clicks, drags_mm: tuple[float, ...]) -> Answer:
        """Mend the slice of the last click, which sees all clicks in it."""
        grid = self.study.grid.canonical
        voxels, is_foreground = voxels_of(clicks, grid)
        k = int(voxels[-1, 2])
        here = voxels[:, 2] == k
        part = Slice(
            torch.from_numpy(np.ascontiguousarray(self.study.image[:, :, :, k : k + 1])),
            self.mask[:, :, k].copy(),
            (float(grid.spacing_mm[0]), float(grid.spacing_mm[1])),
            [(int(i), int(j)) for i, j, _ in voxels[here]],
            is_foreground[here].tolist(),
            np.array(drags_mm)[here].tolist(),
        )
        self.mask[:, :, k] = answer_slice(self.network, part, self.config)
        return Answer(self.mask.copy(), None)


class Planar(FromNothing):
    """A trained click network; start from any mask, or from nothing."""

    def __init__(self, network: PlanarNetwork, config: PlanarConfig, version: str) -> None:
        self.version = version
        self._network = network.eval()
        self._config = config

    def open(self, study: Study, start: Mask | None) -> Session:
        """Begin with a study and a start mask, which is left alone."""
        mask = (self.initial(study) if start is None else start).copy()
        return PlanarSession(self._network, self._config, study, mask)
