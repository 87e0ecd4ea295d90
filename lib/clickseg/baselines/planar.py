"""Click networks on axial slices: RITM and FocalClick, with static, dynamic or both disks.

RITM (Sofiiuk 2022, arXiv:2102.06583) segments a window around mask and clicks anew at each click.
FocalClick (Chen 2022, arXiv:2204.02574) sharpens that answer in a smaller window around what
changed, and takes over only the changed part that holds the click.

Mended here: RITM empties the slice outside of its window, this keeps it; FocalClick looks up the
changed part at the click and, where nothing changed there, takes the whole slice for it, this then
changes nothing. A click mends its own slice and no other: that is these methods' nature.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from clickseg.baselines.method import Answer, Mask, Session
from clickseg.baselines.strokes import FromNothing
from clickseg.clicks import Clicks, voxels_of
from clickseg.config import PlanarConfig, RivalConfig, recipe_from
from clickseg.cuts import Box
from clickseg.guidance import draw_clicks
from clickseg.modelfile import ModelError, load_weights, read_manifest
from clickseg.networks.click_unet import ClickUNet, Refiner
from clickseg.study import Study

NAME = "rival"
"""Name of the model file."""

MAPS = {"static": 2, "dynamic": 2, "joined": 4}
"""How many click maps there are: for each kind of click one of each kind of disk."""

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

    def window(self, config: PlanarConfig, around: NDArray[np.bool_] | None = None) -> Box:
        """Return the window around mask and clicks, or around other pixels and the last click."""
        pixels = np.argwhere(self.mask if around is None else around)
        points = np.array(self.points if around is None else self.points[-1:])
        held = np.concatenate([pixels, points.reshape(-1, 2)])
        low, high = held.min(axis=0), held.max(axis=0)
        spacing = np.array(self.spacing_mm)
        side_mm = max(config.margin * float(((high + 1 - low) * spacing).max()), config.smallest_mm)
        return self.box((low + high) / 2, side_mm, config)

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
        radii = np.maximum(np.array(self.drags_mm) / pixel_mm, config.radius_px)
        static = draw_disks(points, self.is_foreground, [config.radius_px] * len(points), config)
        dynamic = draw_disks(points, self.is_foreground, radii.tolist(), config)
        maps = {
            "static": [static],
            "dynamic": [dynamic],
            "joined": [static, dynamic],
        }[config.disks]
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
    """Return a map of foreground and one of background disks, ``(2, window, window)``."""
    size = (config.window, config.window, 1)
    maps = np.zeros((2, *size), dtype=np.float32)
    for point, kind, radius in zip(points, is_foreground, radii_px, strict=True):
        at = np.array([[*point, 0.0]])
        np.maximum(maps, draw_clicks(at, np.array([kind]), size, (1, 1, 1), radius), out=maps)
    return torch.from_numpy(maps[..., 0])


@torch.inference_mode()
def answer_slice(network: PlanarNetwork, part: Slice, config: PlanarConfig) -> Plane:
    """Return the mask of a slice after its last click."""
    box = part.window(config)
    clicks = part.clicks(box, config)
    logits = network.coarse(part.take(part.image, box)[None], clicks[None])[0].float()
    where, values = part.put(logits, box)
    if network.refine is None:
        after = part.mask.copy()
        after[where] = values > 0
        return after
    whole = np.where(part.mask, 8.0, -8.0).astype(np.float32)  # beyond the window: as it is
    whole[where] = values
    changed = _changed_at_click(part.mask, whole > 0, part.points[-1])
    if changed is None:
        return part.mask.copy()
    focus = part.window(config, changed)
    sharpened, _ = network.refine(
        part.take(part.image, focus)[None],
        part.clicks(focus, config)[None],
        part.take(torch.from_numpy(whole)[None, :, :, None], focus)[None],
    )
    where, values = part.put(sharpened[0].float(), focus)
    whole[where] = values
    merged = _changed_at_click(part.mask, whole > 0, part.points[-1])
    if merged is None:
        return part.mask.copy()
    return np.where(merged, whole > 0, part.mask).astype(np.uint8)


def _changed_at_click(
    before: Plane, after: NDArray[np.bool_], point: tuple[int, int]
) -> NDArray[np.bool_] | None:
    """Return the part of a change that holds a click, or None if nothing changed there."""
    parts, _ = ndimage.label((before > 0) != after, np.ones((3, 3)))
    number = parts[point]
    return None if number == 0 else parts == number


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


def load_planar(folder: Path) -> Planar:
    """Load a trained method of a folder.

    Raises:
        ModelError: if it is missing, damaged, or not of the recipe that its manifest states.
    """
    manifest = read_manifest(folder, NAME)
    config = recipe_from(manifest.recipe, RivalConfig).rival
    if not isinstance(config, PlanarConfig):
        raise ModelError(f"{folder} holds {config.method}, a network on slices was wanted")
    network = PlanarNetwork(config)
    load_weights(folder, manifest, network)
    return Planar(network, config, manifest.short_hash)
