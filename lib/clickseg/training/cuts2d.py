"""Train the published correction network, on cuts around clicks.

First on cuts at the true outline with simulated errors, then on cuts at simulated clicks with the
real errors of the initial network, which the publication took from its own training studies.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from clickseg.config import FitConfig, PasteConfig
from clickseg.correction.paste import cut_logits, cut_size, take_cut
from clickseg.initial.result import Initial
from clickseg.intensity import intensity_range
from clickseg.losses import build_loss
from clickseg.mistakes import deformed_mistake, morphological_mistake
from clickseg.networks import build_network
from clickseg.reader import Index, border_clicks, simulate_clicks
from clickseg.study import Case, Study, read_case_label, read_study
from clickseg.training.loop import Run, fit
from clickseg.volume import ImageError

logger = logging.getLogger(__name__)

Segment = Callable[[Study], Initial]


@dataclass(frozen=True, eq=False)
class Cut:
    """One cut: images and what the mask says, float16 ``(3, H, W, K)``, and the truth of it.

    ``label`` is uint8 ``(1, H, W, K)``. With simulated errors the third channel is the truth, and
    an error is drawn each time the cut is used.
    """

    image: Tensor
    label: Tensor


def train_cuts2d(
    training: Sequence[Case],
    validation: Sequence[Case],
    initial: Segment,
    config: PasteConfig,
    run: Run,
) -> tuple[nn.Module, dict[str, float]]:
    """Train the network on simulated errors, then on real ones.

    Returns:
        The network, and the mean Dice of validation cuts with real errors: before correction,
        after the first and after the second training.

    Raises:
        ImageError: if no cut is left to train on.
    """
    network = train_on_simulated(training, validation, config, run)
    real, watched = (
        error_cuts(cases, initial, config, run.seed) for cases in (training, validation)
    )
    logger.info("%d cuts with real errors, %d to validate", len(real), len(watched))
    metrics = {"validation_cuts": float(len(watched))}
    if watched:
        metrics["cut_dice_uncorrected"] = cuts_dice(None, watched, run.device)
        metrics["cut_dice_simulated"] = cuts_dice(network, watched, run.device)
    if real:
        tuned = replace(run, name=f"{run.name}_real")
        fit_cuts(network, real, watched, config, config.fine_tune, tuned, is_simulated=False)
    if watched:
        metrics["cut_dice"] = cuts_dice(network, watched, run.device)
    return network, metrics


def train_on_simulated(
    training: Sequence[Case], validation: Sequence[Case], config: PasteConfig, run: Run
) -> nn.Module:
    """Train a new network on cuts at the true outline, with simulated errors.

    Raises:
        ImageError: if no cut is left to train on.
    """
    cuts, watched = (border_cuts(cases, config, run.seed) for cases in (training, validation))
    if not cuts:
        raise ImageError("no case with a tumor is left to train on")
    logger.info("%d cuts with simulated errors, %d to validate", len(cuts), len(watched))
    torch.manual_seed(run.seed)
    network = build_network(config.network.name, config.network.arguments)
    simulated = replace(run, name=f"{run.name}_simulated")
    fit_cuts(network, cuts, watched, config, config.fit, simulated, is_simulated=True)
    return network


def fit_cuts(
    network: nn.Module,
    training: Sequence[Cut],
    validation: Sequence[Cut],
    config: PasteConfig,
    fit_config: FitConfig,
    run: Run,
    is_simulated: bool,
) -> None:
    """Train on some cuts; validation is their mean loss, always with the same errors."""
    loss = build_loss(config.loss.name, config.loss.arguments)

    def faulty(cut: Cut, rng: np.random.Generator) -> Tensor:
        return with_error(cut, config, rng) if is_simulated else cut.image.float()

    def draw(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        count = fit_config.batch
        chosen = [training[n] for n in rng.choice(len(training), count, count > len(training))]
        images = torch.stack([faulty(cut, rng) for cut in chosen])
        return images, torch.stack([cut.label for cut in chosen]).float()

    def loss_of(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits = cut_logits(network, batch[0].to(run.device))
        label = _answered(batch[1], logits.shape[-1]).to(run.device)
        value: Tensor = loss(logits, label)
        return value

    @torch.inference_mode()
    def validate(network: nn.Module) -> float:
        losses = []
        for index, cut in enumerate(validation):
            image = faulty(cut, np.random.default_rng([run.seed, index]))
            losses.append(float(loss_of(network, (image[None], cut.label[None].float()))))
        return float(np.mean(losses))

    fit(network, fit_config, run, draw, loss_of, validate if validation else None)


def border_cuts(cases: Sequence[Case], config: PasteConfig, seed: int) -> list[Cut]:
    """Cut around voxels at the true outline, some mm from each other on each slice."""
    cuts: list[Cut] = []
    for study, label in _read(cases):
        rng = np.random.default_rng([seed, *study.case_id.encode()])
        spacing_mm = study.grid.canonical.spacing_mm.tolist()
        voxels = border_clicks(label, spacing_mm, config.border_distance_mm, rng)
        cuts.extend(_cuts(study, label, label, voxels, config))
    return cuts


def error_cuts(
    cases: Sequence[Case], initial: Segment, config: PasteConfig, seed: int
) -> list[Cut]:
    """Cut around simulated clicks on what the initial network got wrong."""
    cuts: list[Cut] = []
    for study, label in _read(cases):
        rng = np.random.default_rng([seed, *study.case_id.encode()])
        pred = initial(study).mask
        spacing_mm = study.grid.canonical.spacing_mm.tolist()
        voxels = simulate_clicks(label, pred, spacing_mm, rng)
        cuts.extend(_cuts(study, label, pred, voxels, config))
    return cuts


def with_error(cut: Cut, config: PasteConfig, rng: np.random.Generator) -> Tensor:
    """Return the image of a cut with an error in its mask, of the same kind on all slices."""
    mistake = morphological_mistake if config.errors == "morphology" else deformed_mistake
    image = cut.image.float()
    seed = int(rng.integers(2**32))
    for k in range(image.shape[-1]):
        label = cut.label[0, :, :, k].numpy()
        pred = mistake(label, np.random.default_rng(seed), config.unchanged)
        image[2, :, :, k] = torch.from_numpy(pred)
    return image


def wrong_cuts(cases: Sequence[Case], config: PasteConfig, seed: int) -> list[Cut]:
    """Return cuts at the true outline with one simulated error each, always the same."""
    return [
        replace(cut, image=with_error(cut, config, np.random.default_rng([seed, index])).half())
        for index, cut in enumerate(border_cuts(cases, config, seed))
    ]


@torch.inference_mode()
def cuts_dice(network: nn.Module | None, cuts: Sequence[Cut], device: str) -> float:
    """Return the mean Dice in the middle slice of cuts: as a network corrects them, or as they are.

    In that slice networks of all depths can be compared: all see it, and some answer for it alone.
    """
    scores = []
    for cut in cuts:
        label = _answered(cut.label, 1)
        if network is None:
            scores.append(cut_dice(_answered(cut.image[2:], 1), label))
            continue
        logits = cut_logits(network.eval(), cut.image[None].float().to(device)).cpu()
        scores.append(cut_dice(_answered(logits[0], 1) > 0, label))
    return round(float(np.mean(scores)), 4)


def cut_dice(pred: Tensor, label: Tensor) -> float:
    """Return the Dice of two 0/1 tensors of one shape; 1 where both are empty."""
    total = int(pred.sum()) + int(label.sum())
    return 2 * int((pred.bool() & label.bool()).sum()) / total if total else 1.0


def _answered(label: Tensor, depth: int) -> Tensor:
    """Return the slices of a cut that the network answers for: all, or the middle one."""
    if depth == label.shape[-1]:
        return label
    middle = label.shape[-1] // 2
    return label[..., middle : middle + 1]


def _read(cases: Sequence[Case]) -> Iterator[tuple[Study, NDArray[np.uint8]]]:
    """Read cases one after the other; one that cannot be read is reported and left out."""
    for case in tqdm(cases, desc="cutting", unit="study"):
        try:
            study = read_study(case.t1ce, case.t2)
            yield study, read_case_label(case, study.grid)
        except ImageError as error:
            logger.warning("case %s is left out: %s", case.case_id, error)


def _cuts(
    study: Study,
    label: NDArray[np.uint8],
    pred: NDArray[np.uint8],
    voxels: Sequence[Index],
    config: PasteConfig,
) -> Iterator[Cut]:
    image, limits = torch.from_numpy(study.image), intensity_range(study.image)
    size = cut_size(config)
    for voxel in voxels:
        place = np.array(voxel)
        truth = take_cut(image[:0], limits[:, :0], label, place, size)
        yield Cut(take_cut(image, limits, pred, place, size).half(), truth.byte())
