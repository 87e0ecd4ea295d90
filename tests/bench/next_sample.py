"""How long a reader waits for Next Sample with many studies, all of them scored."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import requests
from report import Timings
from server import Server

from clickseg.choosing.cached import RULES, Entry, hashes_of, write_entry
from clickseg.choosing.order import ORDERS
from clickseg.choosing.scores import StudyScores
from clickseg.geometry import Grid
from clickseg.volume import Volume, write_volume

SCORES = ".clickseg/scores"
"""Where a server on a folder of studies looks for them."""

FEATURES = 128
"""As many as the bottleneck of the fine network has channels."""


def make_scored(folder: Path, count: int, weights: Path, seed: int) -> None:
    """Make small images, and scores by the models as the server would have computed them."""
    rng, models = np.random.default_rng(seed), hashes_of(weights, weights)
    folder.mkdir()
    image = Volume(rng.random((16, 16, 8), dtype=np.float32), Grid((16, 16, 8), np.eye(4)))
    first = write_volume(folder / "VS-000.nii.gz", image)
    for number in range(count):
        name = f"VS-{number:03d}"
        if number:
            os.link(first, folder / f"{name}.nii.gz")
        scores = StudyScores(rng.random(), rng.random(), tuple(rng.normal(size=FEATURES)))
        write_entry(folder / SCORES, name, Entry(RULES, "as scored", models, scores))


def time_next_sample(
    app: Path, work: Path, weights: Path, count: int, asked: int, seed: int
) -> list[Timings]:
    """Ask for the next of ``count`` studies by each strategy, ``asked`` times.

    Each request is of another reader, so that there are ever more studies that others are at. The
    first of all is not counted: it reads the scores.
    """
    make_scored(work / "many", count, weights, seed)
    settings = {"pretrained_path": str(weights), "skip_scoring": "true", "preload": "false"}
    with Server("many_studies", [app], work / "many", work, settings) as server:
        _ask(server, "random", "nobody")
        return [
            Timings(
                f"Next Sample of {count}, {strategy}",
                [_ask(server, strategy, f"{strategy} {number}") for number in range(asked)],
            )
            for strategy in ORDERS
        ]


def _ask(server: Server, strategy: str, reader: str) -> float:
    answer = requests.post(
        f"{server.url}/activelearning/{strategy}", json={"client_id": reader}, timeout=60
    )
    answer.raise_for_status()
    assert answer.json()["id"]
    return answer.elapsed.total_seconds()
