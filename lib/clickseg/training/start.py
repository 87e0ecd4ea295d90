"""From a folder of labeled studies to a model file: what ``clickseg train`` does."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clickseg.atomic import write_text
from clickseg.config import (
    ConfigError,
    RecipeConfig,
    as_values,
    load_recipe,
    save_config,
)
from clickseg.machine import describe_machine
from clickseg.metrics import dice
from clickseg.modelfile import Manifest, save_model
from clickseg.study import Case, read_case_label, read_study
from clickseg.training.loop import Run
from clickseg.training.prepare import contents_of
from clickseg.training.processes import by_first, is_first
from clickseg.training.split import (
    SPLIT_NAME,
    Split,
    only,
    patient_of,
    quick,
    read_split,
    split_cases,
    told_of,
    write_split,
)
from clickseg.volume import ImageError

logger = logging.getLogger(__name__)

CONTENTS = "contents.json"
"""In a run's folder: a hash for each case of what its files hold and how its T2 is placed."""


def begin(cases: Sequence[Case], config: RecipeConfig, out: Path) -> Split:
    """Make the run folder: recipe and split are on disk before anything else happens.

    A split that is there already is kept, so that a resumed run never mixes its sides.

    Raises:
        ConfigError: if the folder holds a run of another recipe, of other cases, or of other
            images or labels by the same names.
    """
    return by_first(lambda: _begin(cases, config, out))


def adopt_split(cases: Sequence[Case], given: Split, config: RecipeConfig, out: Path) -> None:
    """Let a run divide its cases as a given split does, in place of drawing one.

    Raises:
        ConfigError: if the split puts a patient on two sides, or the run began with another one.
    """
    pattern, told = config.split.patient, told_of(cases)
    where: dict[str, str] = {}
    for name, side in given.sides().items():
        if where.setdefault(patient_of(name, pattern, told), side) != side:
            raise ConfigError(f"a split puts the patient of {name} on several sides")
    if not is_first():
        return
    split, path = only(given, cases), out / SPLIT_NAME
    if path.is_file() and read_split(path) != split:
        raise ConfigError(f"{path} is another split than the one given; use another --out")
    write_split(split, path)


def _begin(cases: Sequence[Case], config: RecipeConfig, out: Path) -> Split:
    out.mkdir(parents=True, exist_ok=True)
    recipe = out / "config.yaml"
    if recipe.is_file() and _quick(load_recipe(recipe, type(config))) != _quick(config):
        raise ConfigError(f"{recipe} is another recipe than the one given; use another --out")
    save_config(config, recipe)
    _check_contents(cases, out / CONTENTS)
    path = out / SPLIT_NAME
    ids = [case.case_id for case in cases]
    if path.is_file():
        split = read_split(path)
        if {*split.training, *split.validation} != set(ids):
            raise ConfigError(f"{path} divides other cases than those given; use another --out")
        return split
    split = split_cases(ids, config.split, config.seed, told_of(cases))
    write_split(split, path)
    logger.info("%d cases train, %d validate", len(split.training), len(split.validation))
    return split


def _quick(config: RecipeConfig) -> RecipeConfig:
    """Return a recipe by which patients are told as by an earlier pattern, for comparing."""
    return replace(config, split=replace(config.split, patient=quick(config.split.patient)))


def _check_contents(cases: Sequence[Case], path: Path) -> None:
    """Note what the files of a run hold; refuse to go on with others."""
    now = {}
    for case in cases:
        try:
            now[case.case_id] = hashlib.sha256(repr(contents_of(case)).encode()).hexdigest()[:16]
        except ImageError:  # it is told, and left out, where it is read
            now[case.case_id] = ""
    began = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    others = [name for name in now if began.get(name, now[name]) != now[name]]
    if missing := [name for name in others if not now[name]]:
        raise ConfigError(
            f"{', '.join(missing[:5])} cannot be read; {path.parent} began with what it was"
        )
    if others:
        raise ConfigError(
            f"{path.parent} began without {', '.join(others[:5])}, or with other images or labels "
            "of it; use another --out"
        )
    write_text(path, json.dumps(began | now, indent=1) + "\n")


def select(cases: Sequence[Case], ids: Sequence[str]) -> list[Case]:
    """Return the cases with the given ids."""
    wanted = set(ids)
    return [case for case in cases if case.case_id in wanted]


def finish(
    name: str,
    network: torch.nn.Module,
    config: RecipeConfig,
    split: Split,
    run: Run,
    metrics: dict[str, float],
    source: str,
    given: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write the model, with a manifest that says how it came to be.

    ``source`` says in words what the studies are, ``given`` what it was trained on besides.
    """
    data: dict[str, Any] = {
        "source": source,
        "training": list(split.training),
        "validation": list(split.validation),
        "seed": config.seed,
        "minutes": round(sum(run.seconds.values()) / 60, 1),
        "machine": describe_machine(),
        "torch": torch.__version__,
    } | dict(given or {})
    manifest = Manifest(name, as_values(config), data, metrics)
    if not is_first():
        return manifest
    manifest = save_model(run.folder, network, manifest)
    logger.info("%s is written to %s: %s", name, run.folder, metrics)
    return manifest


def initial_metrics(initial: Any, cases: Sequence[Case]) -> dict[str, float]:
    """Return the Dice of an initial model on whole studies, and its latency."""
    scores, seconds = [], []
    for case in cases:
        study = read_study(case.t1ce, case.t2)
        begun = time.perf_counter()
        mask = initial(study).mask
        seconds.append(time.perf_counter() - begun)
        scores.append(dice(mask, read_case_label(case, study.grid)))
    if not scores:
        return {}
    return {
        "validation_dice": round(float(np.mean(scores)), 4),
        "validation_dice_lowest": round(float(np.min(scores)), 4),
        "validation_studies": float(len(scores)),
        "seconds_a_study": round(float(np.mean(seconds)), 2),
    }
