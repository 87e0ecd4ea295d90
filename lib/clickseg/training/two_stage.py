"""Train the two networks of the initial segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from monai.losses import DiceCELoss
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from clickseg.boxes import Slices
from clickseg.config import FitConfig, TwoStageConfig
from clickseg.initial.two_stage import (
    TwoStageNetwork,
    locate_prob,
    segment_prob,
    surest_component,
    with_border,
    with_edges,
)
from clickseg.training.augment import augment, augmentation, drop_sequences
from clickseg.training.loop import Run, fit
from clickseg.training.prepare import Prepared

Pair = tuple[Tensor, Tensor]

REGION_MARGIN = (48, 48, 12)
"""How much larger than the patch a prepared region is, in voxels: room to shift and turn."""


def region_size(config: TwoStageConfig) -> tuple[int, int, int]:
    """Return the size of the regions to prepare, in fine voxels."""
    i, j, k = (a + b for a, b in zip(config.segment.patch, REGION_MARGIN, strict=True))
    return i, j, k


def train_two_stage(
    training: Sequence[Prepared], validation: Sequence[Prepared], config: TwoStageConfig, run: Run
) -> TwoStageNetwork:
    """Train both networks, one after the other, and return them."""
    torch.manual_seed(run.seed)
    network = TwoStageNetwork(config)
    train_locate(network.locate, training, validation, config, run)
    train_segment(network.segment, training, validation, config, run, config.segment.fit)
    return network


def train_locate(
    network: nn.Module,
    training: Sequence[Prepared],
    validation: Sequence[Prepared],
    config: TwoStageConfig,
    run: Run,
) -> None:
    """Train the coarse network on random boxes of whole volumes, nine of ten with tumor."""
    patch = config.locate.patch
    transform = augmentation(patch, (4, 4, 3), (3, 3, 3))
    tumors = [case for case in validation if case.coarse_label.any()]
    loss = DiceCELoss(sigmoid=True, batch=True)

    def draw(rng: np.random.Generator) -> Pair:
        return _batch(
            _coarse_item(training, patch, config, transform, rng)
            for _ in range(config.locate.fit.batch)
        )

    def loss_of(net: nn.Module, batch: Pair) -> Tensor:
        return _deep_loss(loss, net(batch[0].to(run.device)), batch[1].to(run.device))

    def validate(net: nn.Module) -> float:
        """Share of validation tumors that the network's maximum misses."""
        missed = 0
        for case in tumors:
            with torch.inference_mode():
                prob = locate_prob(net, case.coarse.float().to(run.device), patch)
            near = functional.max_pool3d(case.coarse_label[None].float(), 3, 1, 1)[0, 0]
            missed += int(near.flatten()[int(prob.argmax())] == 0)
        return missed / len(tumors)

    _fit(network, config.locate.fit, run, "locate", draw, loss_of, validate if tumors else None)


def train_segment(
    network: nn.Module,
    training: Sequence[Prepared],
    validation: Sequence[Prepared],
    config: TwoStageConfig,
    run: Run,
    fit_config: FitConfig,
    name: str = "segment",
) -> None:
    """Train the fine network on regions around tumors, a sixth of them without one."""
    small = config.segment.small
    whole, part = (
        augmentation(patch, (20, 20, 5), (14, 14, 5))
        for patch in (config.segment.patch, config.segment.patch if small is None else small.patch)
    )
    loss = DiceCELoss(sigmoid=True, batch=True)

    def draw(rng: np.random.Generator) -> Pair:
        transform = whole if small is None or rng.random() >= small.share else part
        return _batch(_fine_item(training, config, transform, rng) for _ in range(fit_config.batch))

    def loss_of(net: nn.Module, batch: Pair) -> Tensor:
        return _deep_loss(loss, net(batch[0].to(run.device)), batch[1].to(run.device))

    def validate(net: nn.Module) -> float:
        """1 - mean Dice on validation tumors, placed by the label."""
        scores = [region_dice(net, case, config, run.device) for case in validation]
        return 1 - float(np.mean(scores))

    _fit(network, fit_config, run, name, draw, loss_of, validate if validation else None)


def region_pred(network: nn.Module, case: Prepared, config: TwoStageConfig, device: str) -> Tensor:
    """Return the 0/1 outline ``(1, I, J, K)`` in the prepared region of a case, laid as in use."""
    where, said = _said(network, case, config, device, config.mirror)
    image = case.region[(slice(None), *where)].float().numpy()
    spacing_mm = np.linalg.norm(case.affine[:3, :3], axis=0)
    prob = with_edges(said, image, spacing_mm, config)
    border = with_border(surest_component(prob)[0], prob, image, spacing_mm, config)
    pred = torch.zeros_like(case.region_label)
    pred[(0, *where)] = torch.from_numpy(border.astype(np.uint8))
    return pred


def region_dice(network: nn.Module, case: Prepared, config: TwoStageConfig, device: str) -> float:
    """Return the Dice of what the network alone says; 1 where label and prediction are empty."""
    where, said = _said(network, case, config, device, mirror=False)
    pred = np.zeros(case.region_label.shape[1:], dtype=bool)
    pred[where] = said > 0.5
    label = case.region_label[0].numpy() > 0
    total = int(pred.sum() + label.sum())
    return 2 * int((pred & label).sum()) / total if total else 1.0


@torch.inference_mode()
def _said(
    network: nn.Module, case: Prepared, config: TwoStageConfig, device: str, mirror: bool
) -> tuple[Slices, NDArray[np.float32]]:
    """Return where a patch in the middle of a region lies, and the probability there.

    As in use around what was located.
    """
    box = case.middle(config.segment.patch)
    patch = box.take(case.region).float().to(device)
    prob = segment_prob(network, patch, config.segment.patch, mirror)
    where, values = box.put_back(prob, case.region.shape[1:])  # type: ignore[arg-type]
    return where, values[0].numpy()


def _fit(network: nn.Module, fit_config: FitConfig, run: Run, name: str, *functions: Any) -> None:
    fit(network, fit_config, replace(run, name=name), *functions)


def _batch(items: Any) -> Pair:
    images, labels = zip(*items, strict=True)
    return torch.stack(images), torch.stack(labels)


def _fine_item(
    cases: Sequence[Prepared], config: TwoStageConfig, transform: Any, rng: np.random.Generator
) -> Pair:
    case = cases[rng.integers(len(cases))]
    region, label = case.region, case.region_label
    if case.empty and rng.random() < 1 / 6:
        region = case.empty[rng.integers(len(case.empty))]
        label = torch.zeros((1, *region.shape[1:]), dtype=torch.uint8)
    image, label_patch = augment(transform, region, label, rng)
    return drop_sequences(image, config.drop, rng), label_patch


def _coarse_item(
    cases: Sequence[Prepared],
    patch: tuple[int, int, int],
    config: TwoStageConfig,
    transform: Any,
    rng: np.random.Generator,
) -> Pair:
    case = cases[rng.integers(len(cases))]
    shape = np.array(case.coarse.shape[1:])
    tumor = torch.nonzero(case.coarse_label[0]).numpy()
    size = np.array([n + n // 4 for n in patch])
    if len(tumor) and rng.random() < 0.9:
        center = tumor[rng.integers(len(tumor))] + rng.integers(-size // 4, size // 4 + 1)
    else:
        center = rng.integers(0, shape)
    start = np.clip(center - size // 2, 0, np.maximum(shape - size, 0))
    where = (slice(None), *(slice(a, a + n) for a, n in zip(start, size, strict=True)))
    # One voxel more all around: where a tumor is matters here, not how it ends, and the smallest
    # would be too few voxels to learn from.
    wide = functional.max_pool3d(case.coarse_label[None].float(), 3, 1, 1)[0]
    image, label = augment(transform, case.coarse[where], wide[where], rng)
    return drop_sequences(image, config.drop, rng), label


def _deep_loss(loss: nn.Module, logits: Tensor, label: Tensor) -> Tensor:
    """Return the loss; with deep supervision (``(B, H, C, ...)``) heads weigh 1, 1/2, 1/4, ..."""
    if logits.ndim == label.ndim:
        value: Tensor = loss(logits.float(), label)
        return value
    heads = logits.unbind(1)
    weights = [0.5**index for index in range(len(heads))]
    terms = [w * loss(head.float(), label) for w, head in zip(weights, heads, strict=True)]
    return torch.stack(terms).sum() / sum(weights)
