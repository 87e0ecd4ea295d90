"""The errors that the initial network really makes: predictions on cases it was not trained on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from clickseg.config import SplitConfig, TwoStageConfig
from clickseg.networks import build_network
from clickseg.training.loop import Run, save_tensors, seconds_in
from clickseg.training.prepare import Prepared
from clickseg.training.processes import is_first, wait
from clickseg.training.split import folds_of
from clickseg.training.two_stage import region_pred, train_segment

logger = logging.getLogger(__name__)


def real_errors(
    training: Sequence[Prepared],
    validation: Sequence[Prepared],
    config: TwoStageConfig,
    split: SplitConfig,
    run: Run,
    told: Mapping[str, str] | None = None,
) -> dict[str, Tensor]:
    """Return, by case, the mask ``(1, I, J, K)`` in its region by a network that never saw it.

    Fine networks are trained on all folds but one, each shorter than the real one, and outline
    the one left out; the first of them predicts the validation cases too. The result is
    kept in the run folder, so that a resumed run does not train them again. ``told``: as
    ``patient_of``.
    """
    path = run.folder / "real_errors.pt"
    if path.is_file():
        kept: dict[str, Tensor] = torch.load(path, weights_only=True)
        for name in (f"fold{number}" for number in range(config.folds)):
            run.seconds[name] = seconds_in(run.folder / f"{name}.checkpoint.pt")
        return kept
    by_id = {case.case_id: case for case in training}
    fit = replace(config.segment.fit, epochs=config.fold_epochs)
    errors: dict[str, Tensor] = {}
    for number, fold in enumerate(folds_of([*by_id], config.folds, split, run.seed, told)):
        if not fold.training:
            logger.warning("one patient gives no out-of-fold errors: only simulated ones are used")
            break
        torch.manual_seed(run.seed)
        network = build_network(config.segment.network.name, config.segment.network.arguments)
        seen = [by_id[name] for name in fold.training]
        train_segment(network, seen, [], config, run, fit, name=f"fold{number}")
        held = [by_id[name] for name in fold.validation]
        for case in [*held, *(validation if number == 0 else [])]:
            errors[case.case_id] = region_pred(network, case, config, run.device)
    wait()  # until no process asks any more whether the file is there
    if is_first():
        save_tensors(path, errors)
    return errors
