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
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from clickseg.atomic import write_text
from clickseg.config import Config, LocalConfig, SplitConfig, TwoStageConfig, config_from
from clickseg.learning.gate import Verdict, judge, score_correction, score_initial
from clickseg.learning.holdout import grow_holdout
from clickseg.learning.recorded import record_of
from clickseg.learning.replay import replay_cases
from clickseg.learning.settings import UpdateConfig
from clickseg.learning.store import BASE, NAMES, ModelStore
from clickseg.learning.tuning import Progress, Trainer, UpdateError
from clickseg.modelfile import add_metrics, code_version, read_manifest
from clickseg.models import load_correction, load_initial
from clickseg.study import LABEL_FOLDER, PRIVATE_FOLDER, Case, find_cases
from clickseg.training.split import Split, patient_of

__all__ = ["Outcome", "Progress", "UpdateError", "epochs_of", "update_model"]

logger = logging.getLogger(__name__)


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
    seed: int | None = None,
) -> Outcome:
    """Train a model on the accepted labels of a studies folder; publish it if it is not worse.

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

    Raises:
        UpdateError: if there are too few labels, the base cannot be trained on, or something
            cannot be read or written.
        StoreBusyError: if another process trains this model.
        HoldOutError, ModelError: if what is on the disk is damaged.
    """
    started_s = time.monotonic()
    try:
        with store.training(name):
            outcome = _update(name, studies, store, config, device, replay, watch, seed)
            minutes = round((time.monotonic() - started_s) / 60, 1)
            outcome = replace(outcome, minutes=minutes)
            text = json.dumps(asdict(outcome), indent=1) + "\n"
            write_text(store.folder / "rounds" / name / "outcome.json", text)
    except OSError as error:
        raise UpdateError(f"{name} is not trained, something cannot be used: {error}") from error
    logger.info("%s: %s", name, outcome.reason)
    return outcome


def _update(
    name: str,
    studies: Path,
    store: ModelStore,
    config: UpdateConfig,
    device: str,
    replay: Path | None,
    watch: Callable[[Progress], None] | None,
    seed: int | None,
) -> Outcome:
    recipe = _recipe_of(store, name, config)
    recipe = recipe if seed is None else replace(recipe, seed=seed)
    cases = [case for case in find_cases(studies) if case.label is not None]
    split = _split(studies, store, cases, recipe.split, config)
    known = {patient_of(case.case_id, recipe.split.patient) for case in cases}
    scratch = store.folder / "replay"
    others = [
        case
        for case in replay_cases(replay, store.base, scratch, config.replay)
        if patient_of(case.case_id, recipe.split.patient) not in known
    ]
    folder = _run_folder(store, name, [*cases, *others], split, [recipe, config])
    held = [case for case in cases if case.case_id in split.validation]
    trainer = Trainer(store.base, name, recipe, config, device, folder, watch)
    trainer.train([case for case in cases if case.case_id in split.training], others, held)
    outcome = _judge_and_publish(store, name, folder, held, config, device)
    return replace(outcome, training=len(split.training))


def epochs_of(name: str, config: UpdateConfig) -> int:
    """Return how many epochs a round of a model has in all."""
    if name == "initial":
        return config.locate.epochs + config.segment.epochs
    return config.correction.epochs


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
    studies: Path,
    store: ModelStore,
    cases: Sequence[Case],
    config: SplitConfig,
    update: UpdateConfig,
) -> Split:
    patients = {patient_of(case.case_id, config.patient) for case in cases}
    if len(patients) < update.smallest:
        raise UpdateError(
            f"accepted labels of at least {update.smallest} patients are wanted, so that one can "
            f"be held out to judge the new model; {LABEL_FOLDER} has labels of {len(patients)}"
        )
    # At least one: a share of few patients may round to none.
    share = max(update.holdout, 0.5 / len(patients) + 1e-6)
    known = {
        case_id
        for name in NAMES
        for case_id in read_manifest(store.base, name).data.get("training", [])
    }
    path = studies / PRIVATE_FOLDER / "holdout.json"
    ids = [case.case_id for case in cases]
    split = grow_holdout(path, ids, config.patient, share, sorted(known))
    if not split.validation or not split.training:
        side = "is held out" if not split.validation else "trains"
        raise UpdateError(
            f"of the patients with an accepted label none {side}, and no patient changes sides; "
            "accept a label of one more patient"
        )
    return split


def _run_folder(
    store: ModelStore, name: str, cases: Sequence[Case], split: Split, settings: Sequence[Any]
) -> Path:
    """Return the folder of this round, named by all that goes in; others of the model go."""
    digest = hashlib.sha256(code_version().encode())
    for one in NAMES:  # a correction learns the errors of the initial base
        digest.update(read_manifest(store.base, one).sha256.encode())
    for values in settings:
        digest.update(TypeAdapter(type(values)).dump_json(values))
    for case in cases:
        digest.update(
            f"{case.case_id} {case.case_id in split.validation}".encode("utf-8", "replace")
        )
        for path in (case.t1ce, case.t2, case.label, record_of(case)):
            digest.update(_signature(path).encode())
    rounds = store.folder / "rounds" / name
    folder = rounds / digest.hexdigest()[:16]
    for other in rounds.iterdir() if rounds.is_dir() else ():
        if other.is_dir() and other != folder:
            shutil.rmtree(other)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _signature(path: Path | None) -> str:
    """Name a file by size and time; one that cannot be looked at is told when it is read."""
    try:
        status = None if path is None else path.stat()
    except OSError:
        status = None
    return "-" if status is None else f"{status.st_size}/{status.st_mtime_ns}"


def _judge_and_publish(
    store: ModelStore,
    name: str,
    made: Path,
    held: Sequence[Case],
    config: UpdateConfig,
    device: str,
) -> Outcome:
    models = store.load(device)
    if name == "initial":
        first, _ = load_initial(made, device)
        before, after = (score_initial(one, held) for one in (models.initial, first))
    else:
        second, _ = load_correction(made, device)
        before, after = (
            score_correction(one, models.initial, held, config.clicks)
            for one in (models.correction, second)
        )
    if not before or before.keys() != after.keys():
        raise UpdateError("none of the accepted labels held out can be read; the log says why")
    verdict = judge(before, after)
    manifest = add_metrics(
        made,
        name,
        {
            "held_out_studies": float(verdict.cases),
            "held_out_dice": round(verdict.after[0], 4),
            "held_out_dice_worst_decile": round(verdict.after[1], 4),
            "held_out_dice_before": round(verdict.before[0], 4),
        },
    )
    made_before = [
        one.version
        for one in store.versions(name)
        if one.version != BASE and one.manifest().sha256 == manifest.sha256
    ]
    is_published, reason = verdict.is_better and not made_before, verdict.reason
    if made_before:  # it counts, or somebody went back to an earlier one
        reason = f"nothing new was accepted: {made_before[0]} was made of the same labels"
    if is_published:
        store.publish(name, made)
    version = store.version(name).version
    return Outcome(name, is_published, reason, version, verdict, 0, len(held), 0)
