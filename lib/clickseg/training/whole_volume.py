"""Train the published initial network, on whole shrunken volumes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from clickseg.config import WholeVolumeConfig
from clickseg.initial.whole_volume import resize_in_plane, shrunken
from clickseg.intensity import intensity_range
from clickseg.losses import build_loss
from clickseg.networks import build_network
from clickseg.study import Case, read_case_label, read_study
from clickseg.training.loop import Run, fit
from clickseg.volume import ImageError

logger = logging.getLogger(__name__)

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Shrunken:
    """One case as the network sees it: float16 ``(2, I, J, K)``, label uint8 ``(1, I, J, K)``."""

    case_id: str
    image: Tensor
    label: Tensor


def train_whole_volume(
    training: Sequence[Case], validation: Sequence[Case], config: WholeVolumeConfig, run: Run
) -> nn.Module:
    """Train the network and return it.

    Raises:
        ImageError: if no training case can be read.
    """
    items, watched = (shrink_cases(cases, config.size) for cases in (training, validation))
    if not items:
        raise ImageError("no case with image and label is left to train on")
    loss = build_loss(config.loss.name, config.loss.arguments)

    def draw(rng: np.random.Generator) -> Pair:
        count = config.fit.batch
        chosen = rng.choice(len(items), count, replace=count > len(items))
        return _batch([items[index] for index in chosen])

    def loss_of(network: nn.Module, batch: Pair) -> Tensor:
        value: Tensor = loss(network(batch[0].to(run.device)).float(), batch[1].to(run.device))
        return value

    @torch.inference_mode()
    def validate(network: nn.Module) -> float:
        """Mean loss of the validation cases."""
        return float(np.mean([float(loss_of(network, _batch([item]))) for item in watched]))

    torch.manual_seed(run.seed)
    network = build_network(config.network.name, config.network.arguments)
    return fit(network, config.fit, run, draw, loss_of, validate if watched else None)


def shrink_cases(cases: Sequence[Case], size: tuple[int, int, int]) -> list[Shrunken]:
    """Read and shrink cases; one that cannot be read is reported and left out."""
    items = []
    for case in tqdm(cases, desc="reading", unit="study"):
        try:
            items.append(_shrink(case, size))
        except ImageError as error:
            logger.warning("case %s is left out: %s", case.case_id, error)
    return items


def _shrink(case: Case, size: tuple[int, int, int]) -> Shrunken:
    study = read_study(case.t1ce, case.t2)
    label = read_case_label(case, study.grid)
    depth = tumor_depth(label, size[2])
    limits = intensity_range(study.image)
    image = shrunken(torch.from_numpy(study.image)[..., depth], limits, size[:2])
    mask = resize_in_plane(torch.from_numpy(label[None, :, :, depth]).float(), size[:2]) >= 0.5
    return Shrunken(case.case_id, pad_depth(image, size[2]).half(), pad_depth(mask.byte(), size[2]))


def tumor_depth(label: NDArray[np.uint8], count: int) -> slice:
    """Return at most ``count`` slices with the tumor about in their middle, all in the scan."""
    slices = np.flatnonzero(label.any(axis=(0, 1)))
    total = label.shape[2]
    middle = (slices[0] + slices[-1] + 1) // 2 if slices.size else total // 2
    start = int(np.clip(middle - count // 2, 0, max(total - count, 0)))
    return slice(start, min(start + count, total))


def pad_depth(volume: Tensor, count: int) -> Tensor:
    """Pad ``(C, I, J, K)`` with zeros on both sides to ``count`` slices, as inference does."""
    missing = max(count - volume.shape[-1], 0)
    return functional.pad(volume, (missing // 2, missing - missing // 2))


def _batch(items: Sequence[Shrunken]) -> Pair:
    return (
        torch.stack([item.image for item in items]).float(),
        torch.stack([item.label for item in items]).float(),
    )
