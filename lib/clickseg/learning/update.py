"""One round of learning: accepted labels train a copy of the base, and the gate decides.

Each round starts from the base, never from the last round: what one round got wrong is not
inherited. Everything happens in a folder of its own, named by what goes in; a round that was
killed goes on where it stopped, one with other labels starts anew. The published model is touched
by the last step alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from pydantic import TypeAdapter

from clickseg.atomic import write_text
from clickseg.config import Config, LocalConfig, SplitConfig, TwoStageConfig, config_from
from clickseg.correction import LocalCorrection
from clickseg.initial import TwoStage
from clickseg.initial.two_stage import TwoStageNetwork
from clickseg.learning.gate import Verdict, judge, score_correction, score_initial
from clickseg.learning.holdout import grow_holdout
from clickseg.learning.recorded import recorded_clicks
from clickseg.learning.replay import replay_cases
from clickseg.learning.settings import UpdateConfig
from clickseg.learning.store import BASE, ModelStore
from clickseg.modelfile import load_weights, read_manifest
from clickseg.networks import build_network
from clickseg.study import LABEL_FOLDER, Case, find_cases
from clickseg.training.items import Recorded
from clickseg.training.local import train_local
from clickseg.training.loop import Epoch, Run
from clickseg.training.prepare import Prepared, prepare_cases
from clickseg.training.split import Split, patient_of
from clickseg.training.start import finish
from clickseg.training.two_stage import region_pred, region_size, train_locate, train_segment
from clickseg.volume import ImageError

logger = logging.getLogger(__name__)

PRIVATE = ".clickseg"
"""Folder within the studies folder for what goes with the studies and is no image."""


class UpdateError(ValueError):
    """A model cannot be updated; the text says what was wanted and what came."""


@dataclass(frozen=True)
class Progress:
    """Where a round is. ``dice``: on the regions of held-out tumors, None before it is known."""

    epoch: int
    epochs: int
    dice: float | None


@dataclass(frozen=True)
class Outcome:
    """How a round ended. ``version`` counts now: the new one, or the old if that was better."""

    name: str
    is_published: bool
    reason: str
    version: str
    verdict: Verdict
    training: int
    holdout: int
    minutes: float


def update_model(
    name: str,
    studies: Path,
    store: ModelStore,
    config: UpdateConfig,
    device: str = "cpu",
    replay: Path | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> Outcome:
    """Train a model on the accepted labels of a studies folder; publish it if it is not worse.

    Args:
        name: ``initial`` or ``correction``.
        studies: folder of the studies.
        store: the published models.
        config: how long, and with what besides.
        device: where to train.
        replay: labeled studies like those of the base; None takes phantoms.
        watch: told of each epoch.

    Raises:
        UpdateError: if there are too few labels, or the base cannot be trained on.
        StoreBusyError: if another process trains this model.
        HoldOutError, ModelError: if what is on the disk is damaged.
    """
    started_s = time.monotonic()
    with store.training(name):
        recipe = _recipe_of(store, name, config)
        cases = [case for case in find_cases(studies) if case.label is not None]
        split = _split(studies, cases, recipe.split, config)
        base = read_manifest(store.base, name).sha256
        run_folder = _run_folder(store, name, base, cases, split, config)
        trainer = _Trainer(store, name, recipe, config, device, replay, run_folder, watch)
        held = [case for case in cases if case.case_id in split.validation]
        trainer.train([case for case in cases if case.case_id in split.training], held)
        outcome = _judge_and_publish(store, name, run_folder, held, config, device)
    minutes = round((time.monotonic() - started_s) / 60, 1)
    outcome = replace(outcome, training=len(split.training), minutes=minutes)
    text = json.dumps(asdict(outcome), indent=1) + "\n"
    write_text(store.folder / "rounds" / name / "outcome.json", text)
    logger.info("%s: %s", name, outcome.reason)
    return outcome


def last_outcome(store: ModelStore, name: str) -> dict[str, object] | None:
    """Return how the last round of a model ended, None if there was none."""
    path = store.folder / "rounds" / name / "outcome.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def _recipe_of(store: ModelStore, name: str, config: UpdateConfig) -> Config:
    """Return the recipe of the base, trained as long as an update is."""
    recipe = config_from(read_manifest(store.base, name).recipe)
    initial, correction = recipe.initial, recipe.correction
    if not isinstance(initial, TwoStageConfig) or not isinstance(correction, LocalConfig):
        raise UpdateError(
            "models are updated where initial.method is two_stage and correction.method local; "
            f"the base has {initial.method} and {correction.method}"
        )
    locate = replace(initial.locate, fit=config.locate)
    segment = replace(initial.segment, fit=config.segment)
    return replace(
        recipe,
        initial=replace(initial, locate=locate, segment=segment),
        correction=replace(correction, fit=config.correction),
    )


def _split(
    studies: Path, cases: Sequence[Case], config: SplitConfig, update: UpdateConfig
) -> Split:
    patients = {patient_of(case.case_id, config.patient) for case in cases}
    if len(patients) < update.smallest:
        raise UpdateError(
            f"accepted labels of at least {update.smallest} patients are wanted, so that one can "
            f"be held out to judge the new model; {LABEL_FOLDER} has labels of {len(patients)}"
        )
    # At least one: a share of few patients may round to none.
    share = max(update.holdout, 0.5 / len(patients) + 1e-6)
    path = studies / PRIVATE / "holdout.json"
    return grow_holdout(path, [case.case_id for case in cases], config.patient, share)


def _run_folder(
    store: ModelStore,
    name: str,
    base: str,
    cases: Sequence[Case],
    split: Split,
    config: UpdateConfig,
) -> Path:
    """Return the folder of this round, named by all that goes in; others of the model go."""
    digest = hashlib.sha256(base.encode())
    digest.update(TypeAdapter(UpdateConfig).dump_json(config))
    for case in cases:
        if case.label is not None:
            digest.update(f"{case.case_id} {case.case_id in split.validation}".encode())
            digest.update(case.label.read_bytes())
    rounds = store.folder / "rounds" / name
    folder = rounds / digest.hexdigest()[:16]
    for other in rounds.iterdir() if rounds.is_dir() else ():
        if other.is_dir() and other != folder:
            shutil.rmtree(other)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass(frozen=True)
class _Trainer:
    """Trains one model in its run folder."""

    store: ModelStore
    name: str
    recipe: Config
    config: UpdateConfig
    device: str
    replay: Path | None
    folder: Path
    watch: Callable[[Progress], None] | None

    def train(self, accepted: Sequence[Case], held: Sequence[Case]) -> None:
        """Train and write weights and manifest into the folder."""
        initial = self.recipe.initial
        assert isinstance(initial, TwoStageConfig)
        mine, watched = self._prepared(accepted, initial), self._prepared(held, initial)
        if not mine or not watched:
            side = "to train on" if not mine else "held out"
            raise UpdateError(f"none of the accepted labels {side} can be read; the log says why")
        scratch = self.store.folder / "replay"
        replay = self._prepared(
            replay_cases(self.replay, self.store.base, scratch, self.config.replay), initial
        )
        training = [*_weighted(mine, replay, self.config.accepted), *replay]
        torch.manual_seed(self.recipe.seed)
        if self.name == "initial":
            network: torch.nn.Module = self._train_initial(training, watched, initial)
        else:
            network = self._train_correction(training, watched, initial, accepted)
        source = (
            f"{len(mine)} accepted studies and {len(replay)} like those of the base, from "
            f"{self.name} {read_manifest(self.store.base, self.name).short_hash}"
        )
        ids = Split(
            tuple(case.case_id for case in (*mine, *replay)),
            tuple(case.case_id for case in watched),
        )
        finish(self.name, network, self.recipe, ids, self._run(), {}, source)

    def _train_initial(
        self, training: list[Prepared], watched: list[Prepared], initial: TwoStageConfig
    ) -> TwoStageNetwork:
        network = TwoStageNetwork(initial)
        load_weights(self.store.base, read_manifest(self.store.base, "initial"), network)
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
        base = self.store.base
        network = build_network(recipe.network.name, recipe.network.arguments)
        load_weights(base, read_manifest(base, "correction"), network)
        # The base never saw these labels, so its errors are those of use; a published initial
        # model was trained on them.
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

        return Run(self.folder, self.name, self.recipe.seed, self.device, watch=watch)


def _weighted(mine: list[Prepared], replay: list[Prepared], share: float) -> list[Prepared]:
    """Repeat accepted cases until they are about the given share of all."""
    if not replay:
        return mine
    times = max(1, math.ceil(share / (1 - share) * len(replay) / len(mine)))
    return mine * times


def _judge_and_publish(
    store: ModelStore,
    name: str,
    made: Path,
    held: Sequence[Case],
    config: UpdateConfig,
    device: str,
) -> Outcome:
    models = store.load(device)
    manifest = read_manifest(made, name)
    recipe = config_from(manifest.recipe)
    if name == "initial":
        assert isinstance(recipe.initial, TwoStageConfig)
        pair = TwoStageNetwork(recipe.initial)
        load_weights(made, manifest, pair)
        before = score_initial(models.initial, held)
        after = score_initial(TwoStage(pair.to(device), recipe.initial), held)
    else:
        assert isinstance(recipe.correction, LocalConfig)
        network = build_network(recipe.correction.network.name, recipe.correction.network.arguments)
        load_weights(made, manifest, network)
        new = LocalCorrection(network.to(device), recipe.correction)
        before = score_correction(models.correction, models.initial, held, config.clicks)
        after = score_correction(new, models.initial, held, config.clicks)
    verdict = judge(before, after)
    counts = store.version(name)
    if counts.version != BASE and counts.manifest().sha256 == manifest.sha256:
        reason = f"nothing new was accepted: {counts.version} was made of the same labels"
        return Outcome(name, False, reason, counts.version, verdict, 0, len(held), 0)
    if not verdict.is_better:
        return Outcome(name, False, verdict.reason, counts.version, verdict, 0, len(held), 0)
    version = store.publish(name, made).version
    return Outcome(name, True, verdict.reason, version, verdict, 0, len(held), 0)
