"""Train the local correction: simulated and real errors, clicks in the loop, loss at each."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from clickseg.clicking import clicking
from clickseg.clicks import Clicks
from clickseg.config import LocalConfig
from clickseg.correction.fusion import PLATEAU, fuse
from clickseg.correction.local import LocalCorrection, Memo, network_input, visible
from clickseg.correction.passes import make_pass
from clickseg.cuts import Box
from clickseg.geometry import Grid
from clickseg.guidance import draw_clicks
from clickseg.metrics import HARM, dice
from clickseg.reader import next_click
from clickseg.study import Study
from clickseg.training.augment import augmentation
from clickseg.training.items import Item, Recorded, Voxel, draw_item
from clickseg.training.loop import Run, fit
from clickseg.training.prepare import Prepared


def train_local(
    network: nn.Module,
    training: Sequence[Prepared],
    validation: Sequence[Prepared],
    real: Mapping[str, Tensor],
    config: LocalConfig,
    run: Run,
    recorded: Recorded | None = None,
) -> None:
    """Train a correction network in place.

    Args:
        network: what to train.
        training: cases; those without a tumor are left out.
        validation: cases that only watch.
        real: start masks ``(1, I, J, K)`` in the regions of cases, by case.
        config: the recipe.
        run: where to.
        recorded: clicks of readers, to begin with.
    """
    patch = _patch_size(config)
    transform = augmentation(patch, (6, 6, 2), (14, 14, 5))
    tumors = [case for case in training if case.has_tumor]
    made = Recorded() if recorded is None else recorded

    def draw(rng: np.random.Generator) -> list[Item]:
        return [
            draw_item(tumors, real, made, config, transform, patch, rng)
            for _ in range(config.fit.batch)
        ]

    def loss_of(net: nn.Module, items: list[Item]) -> Tensor:
        rng = np.random.default_rng(int(torch.randint(2**31, (1,))))
        losses = [
            loss
            for turn in range(config.clicks)
            if (
                loss := take_turn(
                    net, [item for item in items if turn < item.rounds], config, run, rng
                )
            )
            is not None
        ]
        if not losses:  # every start mask was perfect: nothing to learn from this batch
            return sum(parameter.sum() * 0 for parameter in net.parameters())  # type: ignore[return-value]
        return torch.stack(losses).mean()

    def validate(net: nn.Module) -> float:
        scores = click_scores(LocalCorrection(net, config), validation, real, config, clicks=3)
        return 1 - scores.get("dice_after_3", 0.0)

    fit(network, config.fit, run, draw, loss_of, validate if validation else None)


def click_scores(
    correction: LocalCorrection,
    cases: Sequence[Prepared],
    real: Mapping[str, Tensor],
    config: LocalConfig,
    clicks: int,
) -> dict[str, float]:
    """Return the mean Dice after 0, 1, ... clicks of the central reader, and the harm rate."""
    curves, harms = [], []
    for case in cases:
        if case.case_id not in real or not case.has_tumor:
            continue
        study = region_study(case, config)
        label, start = case.region_label[0].numpy(), real[case.case_id][0].numpy()
        answer = partial(_mended, correction, study, start, {})
        curve = [dice(start, label)]
        for _, mask in itertools.islice(clicking(label, start, study.grid, answer), clicks):
            curve.append(dice(mask, label))
            harms.append(curve[-1] < curve[-2] - HARM)
        curves.append(curve + curve[-1:] * (clicks + 1 - len(curve)))
    if not curves:
        return {}
    means = np.mean(curves, axis=0)
    scores = {f"dice_after_{n}": round(float(value), 4) for n, value in enumerate(means)}
    return scores | {"harm_rate": round(float(np.mean(harms)), 4) if harms else 0.0}


def _mended(
    correction: LocalCorrection, study: Study, start: NDArray[np.uint8], memo: Memo, clicks: Clicks
) -> NDArray[np.uint8]:
    return correction(study, start, clicks, memo).mask


def region_study(case: Prepared, config: LocalConfig) -> Study:
    """Return the prepared region of a case as a study of its own."""
    grid = Grid(tuple(case.region.shape[1:]), np.diag([*config.spacing_mm, 1.0]))  # type: ignore[arg-type]
    return Study(case.case_id, case.region.float().numpy(), grid, None)


def _patch_size(config: LocalConfig) -> Voxel:
    """Return a patch that holds a cut around any click near its center.

    Of a click farther away the cut's far side is filled with the patch's last voxels. Patches with
    room for all within reach train a third longer and came to the same after one to five clicks.
    """
    i, j, k = (
        size + int(2 * np.ceil(config.visible_mm / spacing / 2))
        for size, spacing in zip(config.cut, config.spacing_mm, strict=True)
    )
    return i, j, k


def take_turn(
    net: nn.Module, items: list[Item], config: LocalConfig, run: Run, rng: np.random.Generator
) -> Tensor | None:
    """Let the reader click once in each item, correct, and return the loss."""
    turns = [(item, seen) for item in items if len(seen := _click(item, config, rng))]
    if not turns:
        return None
    cuts, labels, starts, boxes = [], [], [], []
    for item, seen in turns:
        center = seen[-1]
        box = Box(tuple(map(float, center)), (1.0, 1.0, 1.0), config.cut)  # type: ignore[arg-type]
        points = seen - center + np.array(config.cut) // 2
        kinds = np.full(len(seen), item.clicks[-1][1])
        guidance = draw_clicks(points, kinds, config.cut, config.spacing_mm, config.guidance_mm)
        starts.append(box.take(torch.from_numpy(item.start)[None]))
        cuts.append(network_input(box.take(item.image), starts[-1], torch.from_numpy(guidance)))
        labels.append(box.take(torch.from_numpy(item.label)[None].float()))
        boxes.append(box)
    logits = net(torch.stack(cuts).to(run.device)).float()
    loss = ball_loss(
        logits,
        torch.stack(labels).to(logits),
        torch.stack(starts).to(logits),
        torch.tensor([item.clicks[-1][1] for item, _ in turns], device=logits.device),
        _ball(config).to(logits),
    )
    for (item, seen), box, out in zip(turns, boxes, logits.detach().cpu(), strict=True):
        if len(item.clicks) >= item.rounds:
            continue  # its last turn: nobody looks at the mask that comes of it
        where, values = box.put_back(out, item.label.shape)  # type: ignore[arg-type]
        kind = item.clicks[-1][1]
        said, shown = values[0].numpy(), item.image[(slice(None), *where)].numpy()
        item.passes.append(
            make_pass(where, said, shown, item.start, seen, kind, config.spacing_mm, config)
        )
        item.current = item.start.copy()
        for fused, place in fuse(item.start, item.passes):
            item.current[place] = fused > 0
        for voxel, is_foreground in item.clicks:
            item.current[voxel] = is_foreground
    return loss


def _click(item: Item, config: LocalConfig, rng: np.random.Generator) -> NDArray[np.int64]:
    """Add the reader's next click; return the clicks that its pass sees, none without a click."""
    if item.is_given:
        item.is_given = False
    else:
        clicked = [voxel for voxel, _ in item.clicks]
        found = next_click(item.label, item.current, config.spacing_mm, clicked, item.robot, rng)
        if found is None:
            return np.empty((0, 3), dtype=np.int64)
        item.clicks.append(found)
    kind = item.clicks[-1][1]
    made = np.array([voxel for voxel, other in item.clicks if other == kind])
    return made[visible(made, config.spacing_mm, config.visible_mm)[-1]]


def ball_loss(
    logits: Tensor, label: Tensor, start: Tensor, is_foreground: Tensor, weight: Tensor
) -> Tensor:
    """Return weighted cross-entropy plus a soft Dice of what passes change.

    Most of a ball is right before the click, and its Dice high whatever a network does: that of
    what the click's pass may add, or remove, is high only if the error is mended.

    Args:
        logits: ``(B, 1, I, J, K)``.
        label: 0/1, same shape.
        start: 0/1, same shape: the mask that is mended.
        is_foreground: kind ``(B,)`` of each click.
        weight: how much each voxel counts, same shape or one that broadcasts to it.
    """
    weight = weight.expand_as(logits)
    entropy = functional.binary_cross_entropy_with_logits(logits, label, weight, reduction="sum")
    adds = is_foreground.view(-1, 1, 1, 1, 1)
    prob = torch.sigmoid(torch.where(adds, logits, -logits))
    wanted = torch.where(adds, label, 1 - label)
    weight_of_change = weight * torch.where(adds, 1 - start, start)
    axes = (1, 2, 3, 4)
    both = (prob * wanted * weight_of_change).sum(axes)
    total = ((prob + wanted) * weight_of_change).sum(axes)
    return entropy / weight.sum() + (1 - (2 * both + 1) / (total + 1)).mean()


def _ball(config: LocalConfig) -> Tensor:
    """Return ``(1, *cut)``: 1 near the center, falling to 0 at the reach, as the fusion trusts."""
    offsets: Any = np.indices(config.cut) - np.array(config.cut)[:, None, None, None] // 2
    distance_mm = np.sqrt(
        sum((o * s) ** 2 for o, s in zip(offsets, config.spacing_mm, strict=True))
    )
    trust = np.clip((1 - distance_mm / config.reach_mm) / (1 - PLATEAU), 0, 1)
    return torch.from_numpy(trust).float()[None]
