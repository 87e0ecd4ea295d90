"""Train DeepEdit by MONAI's transforms, with a loop of its own for the clicks.

A step is made without clicks or with some: the network answers, MONAI's transforms click where it
is wrong, a few times, and the loss counts after the last. MONAI's ``Interaction`` is not used: in
a step without clicks it blanks all channels but the first, the T2 among them.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.apps.deepedit.transforms import (
    AddRandomGuidanceDeepEditd,
    FindDiscrepancyRegionsDeepEditd,
)
from monai.losses import DiceCELoss
from torch import Tensor, nn

from clickseg.baselines.deep_edit import LABELS, Points, guided
from clickseg.baselines.recipe import DeepEditConfig
from clickseg.metrics import dice
from clickseg.reader import next_click
from clickseg.training.augment import augment, augmentation, drop_sequences
from clickseg.training.loop import Run, fit
from clickseg.training.prepare import Prepared

# It tells of every click.
logging.getLogger("monai.apps.deepedit.transforms").setLevel(logging.WARNING)


@dataclass
class Item:
    """Images ``(2, I, J, K)``, their truth ``(1, I, J, K)``, the clicks so far."""

    image: Tensor
    label: Tensor
    points: Points

    def click(self, pred: Tensor, probability: float, rng: np.random.Generator) -> None:
        """Let MONAI's simulated reader click, or not."""
        # A new one each time: it remembers the clicks of the last item it saw.
        reader = AddRandomGuidanceDeepEditd("NA")
        reader.set_random_state(int(rng.integers(2**31)))
        item: dict[str, Any] = {
            "label": self.label.numpy().astype(np.float32),
            "pred": pred.numpy().astype(np.float32),
            "label_names": LABELS,
            "guidance": self.points,
            "probability": probability,
        }
        state = random.getstate()  # it draws from Python's generator, too
        random.seed(int(rng.integers(2**31)))
        found = reader(FindDiscrepancyRegionsDeepEditd("label")(item))["guidance"]
        random.setstate(state)
        if found:
            self.points = {name: [point[-3:] for point in found[name]] for name in LABELS}


def train_deep_edit(
    network: nn.Module,
    training: Sequence[Prepared],
    validation: Sequence[Prepared],
    config: DeepEditConfig,
    run: Run,
) -> None:
    """Train a network in place."""
    tumors = [case for case in training if case.has_tumor]
    transform = augmentation(config.patch, (20, 20, 5), (14, 14, 5))
    loss = DiceCELoss(sigmoid=True)

    def draw(rng: np.random.Generator) -> list[Item]:
        items = []
        for _ in range(config.fit.batch):
            case = tumors[rng.integers(len(tumors))]
            image, label = augment(transform, case.region, case.region_label, rng)
            items.append(Item(drop_sequences(image, config.drop, rng), label, _none()))
        return items

    def loss_of(net: nn.Module, items: list[Item]) -> Tensor:
        rng = np.random.default_rng(int(torch.randint(2**31, (1,))))
        if rng.random() < config.deepgrow:
            net.eval()
            for turn in range(config.interactions):
                probability = 1 - turn / config.interactions
                pred = _predict(net, items, run.device)
                for item, one in zip(items, pred, strict=True):
                    item.click(one, probability, rng)
            net.train()
        logits = net(_batch(items).to(run.device)).float()
        value: Tensor = loss(logits, torch.stack([item.label for item in items]).to(run.device))
        return value

    def validate(net: nn.Module) -> float:
        return 1 - deep_edit_dice(net, validation, config, run.device, clicks=3)

    fit(network, config.fit, run, draw, loss_of, validate if validation else None)


def deep_edit_dice(
    network: nn.Module,
    cases: Sequence[Prepared],
    config: DeepEditConfig,
    device: str,
    clicks: int,
) -> float:
    """Return the mean Dice in regions around tumors after some clicks into the largest error."""
    scores = []
    for case in cases:
        if not case.has_tumor:
            continue
        box = case.middle(config.patch)
        label = box.take(case.region_label)
        item = Item(box.take(case.region).float(), label, _none())
        pred = _predict(network, [item], device)[0]
        for _ in range(clicks):
            clicked = [point for points in item.points.values() for point in points]
            found = next_click(label[0].numpy(), pred[0].numpy(), config.spacing_mm, clicked)
            if found is not None:
                item.points["tumor" if found[1] else "background"].append(list(found[0]))
            pred = _predict(network, [item], device)[0]
        scores.append(dice(pred.numpy(), label.numpy()))
    return float(np.mean(scores)) if scores else 0.0


def _none() -> Points:
    return {name: [] for name in LABELS}


def _batch(items: Sequence[Item]) -> Tensor:
    return torch.stack([guided(item.image, item.points) for item in items])


@torch.no_grad()
def _predict(network: nn.Module, items: Sequence[Item], device: str) -> Tensor:
    return torch.as_tensor(network(_batch(items).to(device)) > 0).byte().cpu()
