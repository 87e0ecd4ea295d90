"""Studies like those that the base was trained on, so that what it knows is not forgotten.

The base that comes with the package was trained on phantoms: some are made on the spot, always
the same. For another base, a folder of labeled studies is named.
"""

from __future__ import annotations

import logging
from pathlib import Path

from clickseg.models import WEIGHTS, pattern_of
from clickseg.phantom.write import Order, write_phantom
from clickseg.study import Case, labeled_cases
from clickseg.training.split import without_tested

logger = logging.getLogger(__name__)

SEED, FIRST = 4099, 9001
"""Seed and first number of the phantoms; no study that comes with the project has either."""


def replay_cases(folder: Path | None, base: Path, scratch: Path, count: int) -> list[Case]:
    """Return labeled cases that look like those of the base.

    Args:
        folder: studies with labels, for a base of one's own; those kept for tests are left out.
            None makes phantoms for the base that comes with the package, and returns none for
            another.
        base: folder of the base models.
        scratch: where phantoms are kept for the next time.
        count: how many at most.

    Raises:
        ImageError: if ``folder`` has no labeled study.
        ConfigError: if its split is damaged.
        ModelError: if the base is.
    """
    if folder is not None:
        return without_tested(labeled_cases(folder), folder, pattern_of(base))[:count]
    if base.resolve() != WEIGHTS.resolve():
        logger.warning("no studies of the base are at hand (replay): it may forget what it knew")
        return []
    if count == 0:
        return []
    labels = scratch / "labels" / "final"
    for index in range(FIRST, FIRST + count):
        order = Order(scratch, labels, SEED, index)
        if not order.is_complete():
            logger.info("making %s, a study like those of the base", order.case_id)
            write_phantom(order)
    return labeled_cases(scratch)[:count]
