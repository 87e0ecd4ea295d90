"""Fine-tune a copy of a base model on accepted labels, besides studies like those of the base."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from clickseg.config import Config, LocalConfig, TwoStageConfig
from clickseg.initial.two_stage import TwoStageNetwork
from clickseg.learning.recorded import recorded_clicks
from clickseg.learning.settings import UpdateConfig
from clickseg.modelfile import load_weights, read_manifest
from clickseg.networks import build_network
from clickseg.study import Case
from clickseg.training.items import Recorded
from clickseg.training.local import train_local
from clickseg.training.loop import Epoch, Run
from clickseg.training.prepare import Prepared, prepare_cases
from clickseg.training.split import Split
from clickseg.training.start import finish
from clickseg.training.two_stage import region_pred, region_size, train_locate, train_segment
from clickseg.volume import ImageError

logger = logging.getLogger(__name__)


class UpdateError(ValueError):
    """A model cannot be updated; the text says what was wanted and what came."""


class TooFewError(UpdateError):
    """There are too few labels yet; all else is well."""


@dataclass(frozen=True)
class Progress:
    """Where a round is. ``dice``: on the regions of held-out tumors, None before it is known."""

    epoch: int
    epochs: int
    dice: float | None


@dataclass(frozen=True)
class Trainer:
    """Trains one model in its run folder."""

    base: Path
    name: str
    recipe: Config
    config: UpdateConfig
    device: str
    folder: Path
    watch: Callable[[Progress], None] | None
    seconds: dict[str, float] = field(default_factory=dict)

    def train(
        self,
        accepted: Sequence[Case],
        others: Sequence[Case],
        held: Sequence[Case],
        refined: Sequence[Case] = (),
    ) -> None:
        """Train and write weights and manifest into the folder."""
        initial = self.recipe.initial
        assert isinstance(initial, TwoStageConfig)
        mine, watched = self._prepared(accepted, initial), self._prepared(held, initial)
        if not mine or not watched:
            side = "to train on" if not mine else "held out"
            raise UpdateError(f"none of the accepted labels {side} can be read; the log says why")
        replay = self._prepared(others, initial) if others else []
        training = [*_weighted(mine, replay, self.config.accepted), *replay]
        guessed = self._prepared(refined, initial) if refined else []
        training = with_share(training, guessed, self.config.refined.share)
        torch.manual_seed(self.recipe.seed)
        if self.name == "initial":
            network: torch.nn.Module = self._train_initial(training, watched, initial)
        else:
            network = self._train_correction(training, watched, initial, accepted)
        source = (
            f"{len(mine)} accepted studies, {len(guessed)} with labels of the models and "
            f"{len(replay)} like those of the base, from "
            f"{self.name} {read_manifest(self.base, self.name).short_hash}"
        )
        ids = Split(
            tuple(case.case_id for case in (*mine, *guessed, *replay)),
            tuple(case.case_id for case in watched),
        )
        finish(self.name, network, self.recipe, ids, self._run(), {}, source)

    def _train_initial(
        self, training: list[Prepared], watched: list[Prepared], initial: TwoStageConfig
    ) -> TwoStageNetwork:
        network = TwoStageNetwork(initial)
        load_weights(self.base, read_manifest(self.base, "initial"), network)
        first, second = initial.locate.fit, initial.segment.fit
        total = first.epochs + second.epochs
        train_locate(network.locate, training, [], initial, self._run(0, total))
        run = self._run(first.epochs, total)
        train_segment(network.segment, training, watched, initial, run, second)
        return network

    def _train_correction(
        self,
        training: list[Prepared],
        watched: list[Prepared],
        initial: TwoStageConfig,
        accepted: Sequence[Case],
    ) -> torch.nn.Module:
        recipe = self.recipe.correction
        assert isinstance(recipe, LocalConfig)
        if not any(case.has_tumor for case in training):
            raise TooFewError("a tumor in some accepted label that trains is wanted; all are empty")
        base = self.base
        network = build_network(recipe.network.name, recipe.network.arguments)
        load_weights(base, read_manifest(base, "correction"), network)
        # The errors of the base, not of the published initial model, which was trained on these
        # labels and would make none.
        pair = TwoStageNetwork(initial)
        load_weights(base, read_manifest(base, "initial"), pair)
        segment = pair.segment.to(self.device).eval()
        real = {
            case.case_id: region_pred(segment, case, initial, self.device)
            for case in {case.case_id: case for case in (*training, *watched)}.values()
        }
        run = self._run(0, recipe.fit.epochs)
        recorded = Recorded(recorded_clicks(accepted), self.config.recorded)
        train_local(network, training, watched, real, recipe, run, recorded)
        return network

    def _prepared(self, cases: Sequence[Case], initial: TwoStageConfig) -> list[Prepared]:
        fine, coarse = initial.segment.spacing_mm, initial.locate.spacing_mm
        try:
            return prepare_cases(cases, fine, region_size(initial), coarse, self.recipe.seed)
        except ImageError as error:
            logger.warning("%s", error)
            return []

    def _run(self, before: int = 0, total: int = 1) -> Run:
        def watch(epoch: Epoch) -> None:
            is_scored = epoch.name != "locate"
            score = 1 - epoch.validation if is_scored else None
            if self.watch is not None:
                self.watch(Progress(before + epoch.number, total, score))

        return Run(self.folder, self.name, self.recipe.seed, self.device, self.seconds, watch)


def with_share(cases: list[Prepared], few: list[Prepared], share: float) -> list[Prepared]:
    """Return both lists, either repeated so that the second is about the given share of all."""
    if not few:
        return cases
    times = share / (1 - share) * len(cases) / len(few)
    if times >= 1:
        return [*cases, *few * round(times)]
    return [*cases * round(1 / times), *few]


def _weighted(mine: list[Prepared], replay: list[Prepared], share: float) -> list[Prepared]:
    """Repeat accepted cases until they are about the given share of all."""
    if not replay:
        return mine
    times = max(1, math.ceil(share / (1 - share) * len(replay) / len(mine)))
    return mine * times
