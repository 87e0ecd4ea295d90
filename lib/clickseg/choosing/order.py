"""In which order studies are offered to readers: one pure function for each strategy.

Each takes a pool and yields the ids of its waiting studies, each once, best first. The same pool
gives the same order. A study without the score that a strategy goes by comes after those that have
it. Orders are made one study at a time: whoever wants the first does not pay for the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

from clickseg.choosing.scores import StudyScores

Vectors = NDArray[np.float64]


@dataclass(frozen=True)
class Pool:
    """What an order is made of.

    ``waiting``: ids of studies to put in order. ``labeled``: ids of those that have a label, or
    will soon have one because a reader is at work on them. ``scores``: of either kind, as far as
    they are known. ``seed``: of what is drawn.
    """

    waiting: Sequence[str]
    labeled: Sequence[str] = ()
    scores: Mapping[str, StudyScores] = field(default_factory=dict)
    seed: int = 0


def first(pool: Pool) -> Iterator[str]:
    """Yield studies in the order of their ids."""
    yield from sorted(pool.waiting)


def shuffle(pool: Pool) -> Iterator[str]:
    """Yield studies in an order drawn by the seed.

    The place of a study depends on the seed and its id alone: a study that leaves or joins the
    pool changes nothing about the others.
    """
    yield from sorted(
        pool.waiting,
        key=lambda name: hashlib.blake2b(f"{pool.seed}/{name}".encode()).digest(),
    )


def uncertainty(pool: Pool) -> Iterator[str]:
    """Yield the studies first whose outline the initial network is least sure of."""
    yield from _falling(pool, lambda scores: scores.uncertainty)


def disagreement(pool: Pool) -> Iterator[str]:
    """Yield the studies first whose initial outline the correction network would change most."""
    yield from _falling(pool, lambda scores: scores.disagreement)


def diversity(pool: Pool) -> Iterator[str]:
    """Yield each time the study that is farthest from all that are labeled or came before.

    Greedy k-center selection (Sener and Savarese 2018, arXiv:1708.00489). Where nothing is labeled
    it begins with the most ordinary study, the nearest to the mean of all.
    """
    names, points, labeled = _features(pool)
    distance = _distance(points, labeled) if len(labeled) else None
    left = np.ones(len(names), dtype=bool)
    for _ in names:
        far = -_from_mean(points) if distance is None else distance
        index = int(np.where(left, far, -np.inf).argmax())
        yield names[index]
        left[index] = False
        near = _distance(points, points[index : index + 1])
        distance = near if distance is None else np.minimum(distance, near)
    yield from _rest(pool, names)


def similar(pool: Pool) -> Iterator[str]:
    """Yield the studies first that are most like a labeled one: the opposite of diversity.

    A model adapted to the labels at hand does best on them (IDAL adapts to the labeled studies
    most like a new one). Where nothing is labeled the most ordinary study comes first.
    """
    names, points, labeled = _features(pool)
    distance = _distance(points, labeled) if len(labeled) else _from_mean(points)
    yield from (names[index] for index in np.argsort(distance, kind="stable"))
    yield from _rest(pool, names)


def best(pool: Pool) -> Iterator[str]:
    """Yield uncertain studies first, among equally uncertain ones those unlike the labeled.

    Uncertainty alone offers many studies with the same fault one after the other; diversity alone
    offers what is odd but easy. Each time the study with the largest sum of two ranks is taken:
    by uncertainty, and by the distance to what is labeled or came before. Ranks, since bits and
    distances have no unit in common, and no weight has to be chosen. Without features it is
    uncertainty alone. Studies without scores come last, shuffled; so without any scores it is a
    shuffle. (To choose by uncertainty and then for variety is the way of suggestive annotation,
    Yang et al. 2017, arXiv:1706.04737.)
    """
    names = sorted(name for name in pool.waiting if name in pool.scores)
    doubt = np.array([pool.scores[name].uncertainty for name in names])
    with_feature, points, labeled = _features(pool)
    place = {name: index for index, name in enumerate(with_feature)}
    rows = np.array([place.get(name, -1) for name in names], dtype=int)
    distance = _distance(points, labeled) if len(labeled) else None
    left = np.arange(len(names))
    while len(left):
        value = rankdata(doubt[left])
        if distance is not None and len(distance):
            # Of what has no feature nobody can say that it is unlike the others.
            value += rankdata(np.where(rows[left] < 0, 0.0, distance[rows[left]]))
        index = int(left[value.argmax()])
        yield names[index]
        left = left[left != index]
        if rows[index] >= 0:
            near = _distance(points, points[rows[index]][None])
            distance = near if distance is None else np.minimum(distance, near)
    yield from (name for name in shuffle(pool) if name not in pool.scores)


ORDERS: dict[str, Callable[[Pool], Iterator[str]]] = {
    "random": best,
    "uncertainty": uncertainty,
    "diversity": diversity,
    "similar": similar,
    "disagreement": disagreement,
    "first": first,
    "shuffle": shuffle,
}
"""By the names that viewers see. ``random`` is the one that OHIF asks for, whatever is chosen."""


def _falling(pool: Pool, score: Callable[[StudyScores], float]) -> Iterator[str]:
    names = sorted(name for name in pool.waiting if name in pool.scores)
    yield from sorted(names, key=lambda name: -score(pool.scores[name]))  # ties stay by id
    yield from _rest(pool, names)


def _rest(pool: Pool, names: Sequence[str]) -> list[str]:
    return sorted({*pool.waiting} - {*names})


def _features(pool: Pool) -> tuple[list[str], Vectors, Vectors]:
    """Return the waiting studies with a feature, by id, their features, and the labeled ones'.

    Features are ``(N, C)``; with N 0 where there are none.
    """
    known = {
        name: scores.feature for name, scores in pool.scores.items() if scores.feature is not None
    }
    names = sorted(name for name in pool.waiting if name in known)
    width = len(next(iter(known.values()), ()))
    points, labeled = (
        np.array([known[name] for name in some], dtype=float).reshape(len(some), width)
        for some in (names, [name for name in pool.labeled if name in known])
    )
    return names, points, labeled


def _distance(points: Vectors, chosen: Vectors) -> Vectors:
    """Return how far each point is from the nearest of at least one that is chosen, ``(N,)``."""
    return np.asarray(cdist(points, chosen).min(axis=1)) if len(points) else np.zeros(0)


def _from_mean(points: Vectors) -> Vectors:
    if not len(points):
        return np.zeros(0)
    return np.asarray(np.linalg.norm(points - points.mean(axis=0), axis=1))
