"""One round of learning: accepted labels train a copy of the base, and the gate decides.

Each round starts from the base, never from the last round: what one round got wrong is not
inherited. Everything happens in a folder of its own, named by what goes in; a round that was
killed goes on where it stopped, one with other labels starts anew. The published model is touched
by the last step alone.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from clickseg.atomic import write_text
from clickseg.learning.gate import Verdict, judge
from clickseg.learning.measure import Measure, measure
from clickseg.learning.round import NONE_JUDGES, Round, begin_round
from clickseg.learning.settings import UpdateConfig
from clickseg.learning.store import ModelStore
from clickseg.learning.tuning import Progress, TooFewError, Trainer, UpdateError
from clickseg.machine import is_out_of_memory
from clickseg.modelfile import add_metrics, read_manifest
from clickseg.models import load_correction, load_initial
from clickseg.training.processes import by_first
from clickseg.training.tracking import Tracking, tracked

__all__ = ["Outcome", "Progress", "TooFewError", "UpdateError", "epochs_of", "update_model"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a round ended. ``version`` counts now: the new one, or the old if that was better.

    ``verdict`` is None where the gate was not asked, for the weights are not new.
    """

    name: str
    is_published: bool
    reason: str
    version: str
    verdict: Verdict | None
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
    seed: int | None = None,
    tracking: Tracking | None = None,
) -> Outcome:
    """Train a model on the accepted labels of a studies folder; publish it if it is not worse.

    Of several processes that train together the first one alone uses the store.

    Args:
        name: ``initial`` or ``correction``.
        studies: folder of the studies.
        store: the published models.
        config: how long, and with what besides.
        device: where to train.
        replay: labeled studies like those of the base; None takes phantoms. Those of patients
            with an accepted label are left out.
        watch: told of each epoch.
        seed: of the training; None takes that of the base's recipe.
        tracking: where MLflow is told of it; None does not.

    Raises:
        TooFewError: an ``UpdateError``: if there are too few labels, or none that can judge.
        UpdateError: if the base cannot be trained on, something cannot
            be read or written, or memory is not enough.
        ConfigError: if MLflow is wanted and cannot be used.
        StoreBusyError: if another process trains this model.
        HoldOutError, ModelError: if what is on the disk is damaged.
    """
    started_s = time.monotonic()
    try:
        with ExitStack() as stack:
            by_first(lambda: stack.enter_context(store.training(name)))
            told = tracked(tracking, f"update-{name}", model=name, studies=studies.name)
            by_first(lambda: stack.enter_context(told))
            made_of = by_first(
                lambda: begin_round(name, studies, store, config, replay, seed, device)
            )
            trainer = Trainer(
                store.base, name, made_of.recipe, config, device, made_of.folder, watch
            )
            trainer.train(made_of.training, made_of.replay, made_of.held, made_of.refined)
            outcome = by_first(
                lambda: _judge_and_publish(store, name, made_of, config, device, started_s)
            )
    except OSError as error:
        raise UpdateError(f"{name} is not trained, something cannot be used: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UpdateError(
            f"{name} is not trained, memory is not enough: a smaller batch and fewer studies of "
            "replay, both in update.yaml, need less"
        ) from error
    logger.info("%s: %s", name, outcome.reason)
    return outcome


def epochs_of(name: str, config: UpdateConfig) -> int:
    """Return how many epochs a round of a model has in all."""
    if name == "initial":
        return config.locate.epochs + config.segment.epochs
    return config.correction.epochs


def _judge_and_publish(
    store: ModelStore,
    name: str,
    made_of: Round,
    config: UpdateConfig,
    device: str,
    started_s: float,
) -> Outcome:
    sha256 = read_manifest(made_of.folder, name).sha256
    alike = [
        one
        for one in store.versions(name)
        if one.manifest().sha256 == sha256 and not store.is_unfinished(one)
    ]
    verdict, is_published = None, False
    if alike:  # it counts, or somebody went back to an earlier one
        reason = f"nothing new was accepted: {alike[0].version} has the same weights"
    else:
        verdict = _compare(store, name, made_of, config, device)
        is_published, reason = verdict.is_better, verdict.reason
    if is_published:
        store.publish(name, made_of.folder)
    minutes = round((time.monotonic() - started_s) / 60, 1)
    version, counts = store.version(name).version, (len(made_of.training), len(made_of.held))
    outcome = Outcome(name, is_published, reason, version, verdict, *counts, minutes)
    text = json.dumps(asdict(outcome), indent=1) + "\n"
    try:
        write_text(store.folder / "rounds" / name / "outcome.json", text)
    except OSError as error:  # what is published is published
        logger.warning("how the round ended is not kept: %s", error)
    return outcome


def _compare(
    store: ModelStore, name: str, made_of: Round, config: UpdateConfig, device: str
) -> Verdict:
    """Let the gate decide between the model that counts and the one that was made.

    Held-out studies without a tumor judge the initial model alone: a correction starts from its
    outline, and is led by clicks.
    """
    now, made, tumor_free = store.load(device), made_of.folder, made_of.tumor_free
    hashes = now.hashes | {name: read_manifest(made, name).short_hash}
    if name == "initial":
        new = replace(now, initial=load_initial(made, device)[0], hashes=hashes)
    else:
        new = replace(now, correction=load_correction(made, device)[0], hashes=hashes)
    held, clicks = made_of.held, 0
    if name == "correction":
        held, clicks = [case for case in held if case.case_id not in tumor_free], config.clicks
    before, after = measure(
        [Measure(models, clicks) for models in (now, new)],
        held,
        store.folder / "rounds" / name / "scores.json",
    )  # fmt: skip
    if not before.keys() - set(tumor_free):
        raise TooFewError(NONE_JUDGES)
    verdict = judge(before, after, tumor_free)
    add_metrics(
        made,
        name,
        {
            "held_out_studies": float(verdict.cases),
            "held_out_dice": round(verdict.after[0], 4),
            "held_out_dice_worst_decile": round(verdict.after[1], 4),
            "held_out_dice_before": round(verdict.before[0], 4),
        },
    )
    return verdict
