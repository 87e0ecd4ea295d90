"""Train the 2D click networks that ours is compared with.

The recipe that the RITM and FocalClick family shares: binary cross-entropy and Dice in equal parts,
a simulated reader in the loop, the loss at its last click. Static disks: some random clicks, then
up to three at errors. Dynamic disks, and both: clicks at errors only, their number drawn from a
decaying exponential, their radius between the tight and the enclosing one, widened by a tenth. The
width of the window is drawn anew for most items (optimal crop).

Differs from the publications: the rate falls by a polynomial over a fixed number of steps, as ours
does, in place of a plateau and an early stop, so that all methods have a stated budget; half of
the items begin with a faulty mask, since a start mask is what they are compared on. Given the real
errors that our correction learns from, a share of those masks is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.losses import DiceCELoss
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from clickseg.baselines.planar import (
    PlanarNetwork,
    Plane,
    Slice,
    answer_slice,
    changed_near,
    whole_logits,
)
from clickseg.baselines.recipe import PlanarConfig
from clickseg.cuts import Box
from clickseg.metrics import dice
from clickseg.mistakes import deformed_mistake
from clickseg.training.augment import augment, augmentation, drop_sequences
from clickseg.training.loop import Run, fit
from clickseg.training.prepare import Prepared
from clickseg.training.slices import Item

RANDOM_CLICKS = 0.8
"""One more random click with this probability."""

ERROR_CLICKS = 3
"""At most, after the random ones."""

FEWER = 0.3
"""Rate of the exponential by which the number of clicks with dynamic disks decays."""

MOST_CLICKS = 24

FREE_WINDOW = 0.8
"""Share of items whose window is of a random width."""

BOUNDARY_PX = 2
"""Pixels so near to the outline are its boundary."""


def train_planar(
    network: PlanarNetwork,
    training: Sequence[Prepared],
    validation: Sequence[Prepared],
    spacing_mm: tuple[float, float],
    config: PlanarConfig,
    run: Run,
    real: Mapping[str, Tensor] | None = None,
) -> None:
    """Train a network in place; ``real``: masks ``(1, I, J, K)`` in the regions of some cases."""
    tumors = [case for case in training if case.has_tumor]
    size = tumors[0].region.shape[1:]
    transform = augmentation((size[0], size[1], 3), (6, 6, 0), (14, 14, 3))
    masks = real or {}

    def draw(rng: np.random.Generator) -> list[Item]:
        chosen = [tumors[rng.integers(len(tumors))] for _ in range(config.fit.batch)]
        return [
            draw_item(case, masks.get(case.case_id), transform, spacing_mm, config, rng)
            for case in chosen
        ]

    def loss_of(net: PlanarNetwork, items: list[Item]) -> Tensor:
        rng = np.random.default_rng(int(torch.randint(2**31, (1,))))
        read_along(net, items, config, run, rng)
        return last_loss(net, items, config, run)

    def validate(net: PlanarNetwork) -> float:
        return 1 - planar_dice(net, validation, spacing_mm, config, clicks=3)

    fit(network, config.fit, run, draw, loss_of, validate if validation else None)


def draw_item(
    case: Prepared,
    real: Tensor | None,
    transform: Any,
    spacing_mm: tuple[float, float],
    config: PlanarConfig,
    rng: np.random.Generator,
) -> Item:
    """Draw a slice of a tumor, changed at random, with nothing or a faulty mask to start from.

    ``real``: the mask of the initial network in the region of the case, if there is one.
    """
    filled = np.flatnonzero(case.region_label[0, :, :, 1:-1].numpy().any(axis=(0, 1))) + 1
    masks = case.region_label if real is None else torch.cat([case.region_label, real])
    truth = np.zeros((0, 0), dtype=np.uint8)
    while not truth.any():  # what is turned and moved may leave the slice
        k = int(rng.choice(filled))
        around = (..., slice(k - 1, k + 2))
        image, turned = augment(transform, case.region[around], masks[around], rng)
        truth = turned[0, :, :, 1].numpy().astype(np.uint8)
    image = drop_sequences(image, config.drop, rng)
    mask = np.zeros_like(truth)
    if rng.random() < config.start:
        is_real = real is not None and rng.random() < config.real
        mask = turned[-1, :, :, 1].numpy().astype(np.uint8) if is_real else truth
        if np.array_equal(mask, truth):
            mask = deformed_mistake(truth, rng, unchanged=0.0)
        if np.array_equal(mask, truth):  # of a few pixels: nothing would be left to click
            mask = np.zeros_like(truth)
    return Item(
        Slice(image[..., 1:2].contiguous(), mask, spacing_mm, [], [], []),
        truth,
        _free_side_mm(truth, spacing_mm, config, rng),
    )


def _free_side_mm(
    truth: Plane, spacing_mm: tuple[float, float], config: PlanarConfig, rng: np.random.Generator
) -> float | None:
    """Draw the width of a window: one to three times height and width of the tumor together."""
    if rng.random() >= FREE_WINDOW:
        return None
    pixels = np.argwhere(truth)
    sides_mm = (pixels.max(axis=0) + 1 - pixels.min(axis=0)) * spacing_mm
    return max(float(sides_mm.sum() * rng.uniform(1, 3)), config.focus_mm)


def read_along(
    network: PlanarNetwork,
    items: Sequence[Item],
    config: PlanarConfig,
    run: Run,
    rng: np.random.Generator,
) -> None:
    """Let the reader click, up to the click whose answer counts."""
    turns = []
    for item in items:
        if config.disks == "static":
            while rng.random() < RANDOM_CLICKS and len(item.part.points) < MOST_CLICKS:
                item.click_at_random(rng)
            turns.append(int(rng.integers(ERROR_CLICKS + 1)))
        else:
            turns.append(min(int(rng.exponential(1 / FEWER)), MOST_CLICKS))
        if not item.part.points:
            item.click_at_error(rng)
    network.eval()
    for turn in range(max(turns)):
        asked = [item for item, count in zip(items, turns, strict=True) if turn < count]
        with torch.no_grad():
            boxes, logits = _coarse(network, asked, config, run)
        for item, box, values in zip(asked, boxes, logits.float().cpu(), strict=True):
            where, prob = item.part.put(values, box)
            item.part.mask[where] = prob > 0
            item.click_at_error(rng)
    network.train()


def last_loss(
    network: PlanarNetwork, items: Sequence[Item], config: PlanarConfig, run: Run
) -> Tensor:
    """Return the loss of the answers to all clicks so far."""
    loss = DiceCELoss(sigmoid=True)
    boxes, logits = _coarse(network, items, config, run)
    truth = torch.stack([item.truth(box) for item, box in zip(items, boxes, strict=True)])
    value: Tensor = loss(logits.float(), truth.to(run.device))
    if network.refine is None:
        return value
    images, clicks, coarse, truths = [], [], [], []
    for item, box, values in zip(items, boxes, logits.detach().float().cpu(), strict=True):
        whole = whole_logits(item.part.mask, *item.part.put(values, box))
        changed = changed_near(item.part.mask, whole > 0, item.part.points[-1])
        if changed is None:
            changed = _error_at_last_click(item)
        focus = item.part.focus(changed, config)
        images.append(item.part.take(item.part.image, focus))
        clicks.append(item.part.clicks(focus, config))
        coarse.append(item.part.take(torch.from_numpy(whole)[None, :, :, None], focus))
        truths.append(item.truth(focus))
    sharp, boundary = network.refine(
        *(torch.stack(parts).to(run.device) for parts in (images, clicks, coarse))
    )
    wanted = torch.stack(truths).to(run.device)
    edge = functional.binary_cross_entropy_with_logits(boundary.float(), boundary_of(wanted))
    return value + torch.as_tensor(loss(sharp.float(), wanted)) + edge


def planar_dice(
    network: PlanarNetwork,
    cases: Sequence[Prepared],
    spacing_mm: tuple[float, float],
    config: PlanarConfig,
    clicks: int,
) -> float:
    """Return the mean Dice of the middle slices of tumors after some clicks, from nothing."""
    scores = []
    for case in cases:
        if not case.has_tumor:
            continue
        label = case.region_label[0].numpy()
        k = int(np.argmax(label.sum(axis=(0, 1))))
        truth = np.ascontiguousarray(label[:, :, k])
        image = case.region[..., k : k + 1].float()
        part = Slice(image, np.zeros_like(truth), spacing_mm, [], [], [])
        item = Item(part, truth, None)
        for number in range(clicks):
            before = len(part.points)
            item.click_at_error(np.random.default_rng(number))
            if len(part.points) > before:
                part.mask = answer_slice(network, part, config)
        scores.append(dice(part.mask, truth))
    return float(np.mean(scores)) if scores else 0.0


def _coarse(
    network: PlanarNetwork, items: Sequence[Item], config: PlanarConfig, run: Run
) -> tuple[list[Box], Tensor]:
    """Return the windows of items and the logits in them, ``(B, 1, window, window)``."""
    boxes = [item.window(config) for item in items]
    images = [item.part.take(item.part.image, box) for item, box in zip(items, boxes, strict=True)]
    clicks = [item.part.clicks(box, config) for item, box in zip(items, boxes, strict=True)]
    logits = network.coarse(torch.stack(images).to(run.device), torch.stack(clicks).to(run.device))
    return boxes, logits


def _error_at_last_click(item: Item) -> NDArray[np.bool_]:
    """Return the pixels of the error that holds the last click, or the click alone."""
    wrong = item.label != item.part.mask
    parts, _ = ndimage.label(wrong, np.ones((3, 3)))
    number = parts[item.part.points[-1]]
    return np.asarray(parts == number) if number else np.zeros(wrong.shape, dtype=bool)


def boundary_of(truth: Tensor) -> Tensor:
    """Return the pixels near the outline of a 0/1 mask ``(B, 1, H, W)``."""
    size = 2 * BOUNDARY_PX + 1
    grown = functional.max_pool2d(truth, size, 1, BOUNDARY_PX)
    shrunk = -functional.max_pool2d(-truth, size, 1, BOUNDARY_PX)
    return grown - shrunk
