"""The methods that can be evaluated, by name.

A method is named on the command line as ``NAME`` or ``NAME=FOLDER``; the folder holds its weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from clickseg.baselines.active_contour import active_contour
from clickseg.baselines.bifseg import Bifseg
from clickseg.baselines.flooding import flooding
from clickseg.baselines.graph_cut import DRAGGED, GraphCut
from clickseg.baselines.method import Answer, Mask, Method, Session, version_of
from clickseg.baselines.random_walker import RandomWalker
from clickseg.baselines.rivals import NAME, load_rival
from clickseg.clicks import Clicks
from clickseg.config import PasteConfig, config_from
from clickseg.engine import Engine
from clickseg.initial import Initial, TwoStage
from clickseg.modelfile import Manifest, read_manifest
from clickseg.models import WEIGHTS, Models, load_initial, load_models
from clickseg.study import Study

CACHE_BYTES = 256 << 20
"""Room for what one study needs: each is looked at once."""


class MethodError(ValueError):
    """A method is not known, or its weights are not there; the text says what there is."""


class EngineMethod:
    """What the server does, by the same calls: ours and the published recipe, by their weights."""

    def __init__(self, models: Models, version: str) -> None:
        self.version = version
        self._engine = Engine(models, CACHE_BYTES)

    def initial(self, study: Study) -> Mask:
        """Return the initial outline."""
        return np.asarray(study.grid.to_canonical(self._engine.initial(study).label))

    def open(self, study: Study, start: Mask | None) -> Session:
        """Begin with a study and a start mask."""
        return _EngineSession(self._engine, study, start)


@dataclass
class _EngineSession:
    engine: Engine
    study: Study
    start: Mask | None

    def answer(self, clicks: Clicks, drags_mm: tuple[float, ...]) -> Answer:  # noqa: ARG002
        answer = self.engine.correct(self.study, clicks, self.start)
        mask = np.asarray(self.study.grid.to_canonical(answer.label))
        return Answer(mask, answer.result["radius_mm"])


def _by_engine(folder: Path) -> Method:
    manifests = [read_manifest(folder, name) for name in ("initial", "correction")]
    return EngineMethod(load_models(folder), " ".join(map(version_of, manifests)))


def _published(folder: Path) -> Method:
    config = config_from(read_manifest(folder, "correction").recipe).correction
    if not isinstance(config, PasteConfig):
        raise MethodError(f"published pastes cuts (paste); {folder} holds {config.method}")
    return _by_engine(folder)


def load_start(folder: Path) -> tuple[Callable[[Study], Initial], str]:
    """Load the initial model of a folder, and name its weights and their recipe.

    Raises:
        ModelError: if it is missing, damaged, or not of the recipe that its manifest states.
    """
    version = version_of(read_manifest(folder, "initial"))
    return load_initial(folder)[0], version


def _bifseg(folder: Path) -> Method:
    initial, version = load_start(folder)
    if not isinstance(initial, TwoStage):
        raise MethodError(f"bifseg goes on from a two_stage initial model; {folder} holds another")
    return Bifseg(initial, version)


RIVALS = (
    "ritm_static",
    "ritm_dynamic",
    "ritm_joined",
    "focal_click_static",
    "focal_click_dynamic",
    "focal_click_joined",
    "deep_edit",
)
"""Trained by ``clickseg train rival``."""

BUILDERS: dict[str, Callable[[Path], Method]] = {
    "ours": _by_engine,
    "published": _published,
    "graph_cut": lambda folder: GraphCut(*load_start(folder)),
    "graph_cut_drags": lambda folder: GraphCut(*load_start(folder), DRAGGED),
    "bifseg": _bifseg,
    **{name: partial(load_rival, name=name) for name in RIVALS},
    "random_walker": lambda _: RandomWalker(),
    "flooding": lambda _: flooding(),
    "active_contour": lambda _: active_contour(),
}
"""By name: how a method is made of the folder of its weights."""


TRAINED = ("published", *RIVALS)
"""These need weights that do not come with the package."""

ON_INITIAL = ("graph_cut", "graph_cut_drags", "bifseg")
"""These go on from our initial model."""

WITHOUT = ("random_walker", "flooding", "active_contour")
"""These have no weights."""


def parse_method(text: str) -> tuple[str, Path]:
    """Read ``NAME`` or ``NAME=FOLDER``; without a folder the weights of the package are taken.

    Raises:
        MethodError: if there is no method of that name.
    """
    name, _, folder = text.partition("=")
    if name not in BUILDERS:
        raise MethodError(f"there is no method {name!r}; there are: {', '.join(BUILDERS)}")
    if not folder and name in TRAINED:
        raise MethodError(f"{name} comes without weights; wanted is {name}=FOLDER")
    if folder and name in WITHOUT:
        raise MethodError(f"{name} has no weights, but {folder} was named for them")
    return name, Path(folder) if folder else WEIGHTS


def build_method(name: str, folder: Path) -> Method:
    """Make a method.

    Raises:
        MethodError: if there is no method of that name.
        ModelError: if its weights cannot be loaded.
    """
    if name not in BUILDERS:
        raise MethodError(f"there is no method {name!r}; there are: {', '.join(BUILDERS)}")
    return BUILDERS[name](folder)


def train_minutes(name: str, folder: Path) -> float | None:
    """Return how long the networks of a method were trained; None if it has none, or none says."""
    data = [manifest.data for manifest in manifests_of(name, folder)]
    if not data or not all("minutes" in values for values in data):
        return None
    return round(sum(float(values["minutes"]) for values in data), 1)


def manifests_of(name: str, folder: Path) -> list[Manifest]:
    """Return the manifests of all networks of a method; none if it has no weights."""
    if name in WITHOUT:
        return []
    models = [NAME] if name in RIVALS else ["initial", "correction"]
    return [
        read_manifest(folder, model) for model in (["initial"] if name in ON_INITIAL else models)
    ]
