"""How long each method of ``clickseg evaluate`` takes for a click: no server, one thread."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from report import Timings
from scipy import ndimage
from untrained import save_untrained_published

from clickseg.baselines.method import Method
from clickseg.baselines.recipe import RivalConfig
from clickseg.baselines.rivals import build_rival, name_of
from clickseg.config import load_recipe
from clickseg.evaluation.methods import BUILDERS, TRAINED, build_method
from clickseg.evaluation.reading import read
from clickseg.precision import one_thread
from clickseg.study import read_study
from clickseg.volume import read_label

RIVALS = Path(__file__).parents[2] / "configs" / "rivals"
RANDOM = ", random weights"


def time_methods(
    image: Path, t2: Path, label: Path, weights: Path, clicks: int, say: Callable[[str], None]
) -> list[Timings]:
    """Let a reader click with each method, all from one outline that is too small."""
    study = read_study(image, t2)
    truth = np.asarray(study.grid.to_canonical(read_label(label).array))
    start = ndimage.binary_erosion(truth, np.ones((3, 3, 1)), iterations=2).astype(np.uint8)
    start.flags.writeable = False
    timings = []
    for name, method in _methods(weights):
        say(f"a click of {name}")
        with one_thread():
            reading, _, _ = read(method, study, truth, start, clicks)
        timings.append(Timings(name, [ms / 1000 for ms in reading.click_ms]))
    return timings


def _methods(weights: Path) -> Iterator[tuple[str, Method]]:
    """Yield all; where trained weights do not come with the package, random ones do as well."""
    for name in BUILDERS:
        if name not in TRAINED:
            yield name, build_method(name, weights)
    for path in sorted(RIVALS.glob("*.yaml")):
        config = load_recipe(path, RivalConfig).rival
        torch.manual_seed(0)
        yield name_of(config) + RANDOM, build_rival(config, "")[0]
    with tempfile.TemporaryDirectory(prefix="clickseg-bench-") as folder:
        published = save_untrained_published(Path(folder))
        yield "published" + RANDOM, build_method("published", published)
