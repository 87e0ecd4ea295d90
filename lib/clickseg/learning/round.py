"""What a round of learning is made of: recipe, sides and folder, before anything is trained."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from clickseg.config import Config, LocalConfig, SplitConfig, TwoStageConfig, config_from
from clickseg.learning.holdout import HELD, grow_holdout, may_train, read_holdout
from clickseg.learning.recorded import record_of
from clickseg.learning.refine import refined_cases
from clickseg.learning.replay import replay_cases
from clickseg.learning.settings import UpdateConfig
from clickseg.learning.store import NAMES, ModelStore
from clickseg.learning.tuning import TooFewError, UpdateError
from clickseg.modelfile import code_version, read_manifest
from clickseg.models import trained_on
from clickseg.study import LABEL_FOLDER, PRIVATE_FOLDER, Case, find_cases, placing_of
from clickseg.training.split import Split, patient_of, rank_of, told_patients, without_tested
from clickseg.volume import ImageError, read_label

logger = logging.getLogger(__name__)

HOLDOUT = f"{PRIVATE_FOLDER}/holdout.json"
"""In the studies folder: who is held out."""


NONE_JUDGES = (
    "no accepted label that is held out can be read and has a tumor, and without one nobody can "
    "tell whether a new model is better: accept a label of one more patient"
)


@dataclass(frozen=True)
class Round:
    """The cases of a round by what they are for, and the folder in which it is trained.

    ``tumor_free``: ids of those held out whose label is empty.
    """

    recipe: Config
    training: Sequence[Case]
    refined: Sequence[Case]
    replay: Sequence[Case]
    held: Sequence[Case]
    tumor_free: Collection[str]
    folder: Path


def begin_round(
    name: str,
    studies: Path,
    store: ModelStore,
    config: UpdateConfig,
    replay: Path | None,
    seed: int | None,
    device: str,
) -> Round:
    """Decide what a round is made of; the arguments are those of ``update_model``.

    Patients that a ``split.json`` beside the studies keeps for tests take no part.

    Raises:
        TooFewError: if there are too few labels, or none that can judge.
        UpdateError: if the base cannot be trained on.
        ConfigError, HoldOutError, ModelError: if what is on the disk is damaged.
    """
    recipe = _recipe_of(store, name)
    recipe = recipe if seed is None else replace(recipe, seed=seed)
    there = without_tested(find_cases(studies), studies, recipe.split.patient)
    cases = [case for case in there if case.label is not None]
    split = _split(studies, store, cases, recipe.split, config)
    training, held = (
        [case for case in cases if case.case_id in side]
        for side in (split.training, split.validation)
    )
    tumor_free = [case.case_id for case in held if _is_tumor_free(case)]
    if len(tumor_free) == len(held):
        raise TooFewError(NONE_JUDGES)
    recipe = _as_long(recipe, config, len(split.training))
    waiting = [case for case in there if case.label is None]
    refined = _refined(studies, store, waiting, recipe.split, config, device, name)
    others = replay_cases(replay, store.base, store.folder / "replay", config.replay)
    others = of_others(others, studies, cases, recipe.split.patient, replay)
    folder = _run_folder(store, name, [*cases, *others, *refined], split, [recipe, config])
    return Round(recipe, training, refined, others, held, tumor_free, folder)


def _is_tumor_free(case: Case) -> bool:
    """Tell whether a label is empty. One that cannot be read is told where it is measured."""
    assert case.label is not None
    try:
        return not read_label(case.label).array.any()
    except ImageError:
        return False


def _refined(
    studies: Path,
    store: ModelStore,
    waiting: Sequence[Case],
    config: SplitConfig,
    update: UpdateConfig,
    device: str,
    name: str,
) -> list[Case]:
    """Return waiting studies with labels of the models that count; the initial model learns them.

    Their patients are never held out from now on.
    """
    if name != "initial" or not update.refined.studies:
        return []
    path = studies / HOLDOUT
    some = [case for case in waiting if may_train(case.case_id, path, config.patient)]
    if not some:
        return []
    some.sort(key=lambda case: rank_of(case.case_id))
    models, folder = store.load(device), store.folder / "refined"
    found = refined_cases(studies, some, models, folder, update.refined)
    bound = [case.case_id for case in found]
    grow_holdout(path, [], config.patient, update.holdout, bound=bound)
    # The update of the other model may have held one out meanwhile.
    found = [case for case in found if may_train(case.case_id, path, config.patient)]
    logger.info("%d of %d waiting studies train by refined labels", len(found), len(waiting))
    return found


def of_others(
    cases: Sequence[Case],
    studies: Path,
    accepted: Sequence[Case],
    pattern: str,
    folder: Path | None,
) -> list[Case]:
    """Leave out the replay of patients with an accepted label, and of those who are held out.

    ``folder`` is that of the replay, None for phantoms.
    """
    told = ({} if folder is None else told_patients(folder)) | told_patients(studies)
    sides = read_holdout(studies / HOLDOUT, pattern)
    mine = {patient_of(case.case_id, pattern, told) for case in accepted}
    mine |= {patient for patient, side in sides.items() if side == HELD}
    return [case for case in cases if patient_of(case.case_id, pattern, told) not in mine]


def _recipe_of(store: ModelStore, name: str) -> Config:
    """Return the recipe of the base."""
    recipe = config_from(read_manifest(store.base, name).recipe)
    initial, correction = recipe.initial, recipe.correction
    if not isinstance(initial, TwoStageConfig) or not isinstance(correction, LocalConfig):
        raise UpdateError(
            "models are updated where initial.method is two_stage and correction.method local; "
            f"the base has {initial.method} and {correction.method}"
        )
    return recipe


def _as_long(recipe: Config, config: UpdateConfig, studies: int) -> Config:
    """Return the recipe of the base, trained as long as an update by so many studies is.

    It is one that ``_recipe_of`` returned.
    """
    initial, correction = recipe.initial, recipe.correction
    assert isinstance(initial, TwoStageConfig)
    assert isinstance(correction, LocalConfig)
    locate, segment, mending = (
        config.lengthened(fit, studies)
        for fit in (config.locate, config.segment, config.correction)
    )
    return replace(
        recipe,
        initial=replace(
            initial,
            locate=replace(initial.locate, fit=locate),
            segment=replace(initial.segment, fit=segment),
        ),
        correction=replace(correction, fit=mending),
    )


def _split(
    studies: Path,
    store: ModelStore,
    cases: Sequence[Case],
    config: SplitConfig,
    update: UpdateConfig,
) -> Split:
    told = told_patients(studies)
    patients = {patient_of(case.case_id, config.patient, told) for case in cases}
    if len(patients) < update.smallest:
        raise TooFewError(
            f"accepted labels of at least {update.smallest} patients are wanted, so that one can "
            f"be held out to judge the new model; {LABEL_FOLDER} has labels of {len(patients)}"
        )
    path = studies / HOLDOUT
    ids = [case.case_id for case in cases]
    logger.info(
        "%d accepted labels, of %d patients by %s", len(cases), len(patients), config.patient
    )
    known = sorted(trained_on(store.base))
    split = grow_holdout(path, ids, config.patient, update.holdout, known)
    if not split.validation or not split.training:
        side = "is held out" if not split.validation else "trains"
        raise TooFewError(
            f"of the patients with an accepted label none {side}, and no patient changes sides; "
            "accept a label of one more patient"
        )
    return split


def _run_folder(
    store: ModelStore, name: str, cases: Sequence[Case], split: Split, settings: Sequence[Any]
) -> Path:
    """Return the folder of this round, named by all that goes in; of others the curves stay."""
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
        digest.update(placing_of(case.t1ce).key.encode())
    rounds = store.folder / "rounds" / name
    folder = rounds / digest.hexdigest()[:16]
    for file in rounds.glob("*/*"):  # curves lie deeper
        if file.parent != folder and file.is_file():
            file.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _signature(path: Path | None) -> str:
    """Name a file by size and time; one that cannot be looked at is told when it is read."""
    try:
        status = None if path is None else path.stat()
    except OSError:
        status = None
    return "-" if status is None else f"{status.st_size}/{status.st_mtime_ns}"
