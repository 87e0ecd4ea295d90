"""A click counts against what the reader saw when it was made, not against the start mask."""

import gc
import weakref

import numpy as np
import pytest

from clickseg.baselines.graph_cut import CutSettings, GraphCut
from clickseg.baselines.random_walker import CLICK_MM, RandomWalker, WalkerSettings, seeds
from clickseg.baselines.region import region_of
from clickseg.baselines.seen import Seen
from clickseg.clicks import Click
from clickseg.geometry import Grid
from clickseg.metrics import dice
from clickseg.study import Study

SHAPE = (61, 53, 23)
SPACING_MM = (0.5, 0.5, 1.5)
GRID = Grid(SHAPE, np.diag([*SPACING_MM, 1.0]))
EMPTY = np.zeros(SHAPE, np.uint8)


def ball(center, radius_mm):
    offsets = (np.indices(SHAPE).T - center) * SPACING_MM
    return (radius_mm >= np.linalg.norm(offsets, axis=-1).T).astype(np.uint8)


def click(voxel, is_foreground):
    return Click.at(voxel, is_foreground, GRID)


TUMOR, VESSEL = ball((24, 25, 11), 5.0), ball((40, 25, 11), 3.0)
FOUND = (click((24, 25, 11), True),)
CLICKS = (*FOUND, click((40, 25, 11), False))
DRAGS_MM = (9.0, 3.0)


@pytest.fixture
def study():
    """A tumor and a vessel that touches it and is as bright."""
    image = np.random.default_rng(5).normal(0, 0.15, (2, *SHAPE)).astype(np.float32)
    image[0] += 3 * (TUMOR | VESSEL)
    return Study("leak", image, GRID, None)


@pytest.fixture(params=["walker", "cut"])
def method(request):
    if request.param == "walker":
        return RandomWalker(WalkerSettings(beta=30.0))
    return GraphCut(None, "1", CutSettings(alone_mm=None, alone=0.5))


def test_a_study_that_was_read_is_given_back_at_once(study, method):
    session = method.open(study, EMPTY)
    session.answer(CLICKS, DRAGS_MM)
    alive = weakref.ref(session)
    gc.disable()
    try:
        del session
        assert alive() is None
    finally:
        gc.enable()


def test_from_nothing_a_background_click_takes_away_what_the_first_click_added(study, method):
    session = method.open(study, EMPTY)
    first = session.answer(FOUND, DRAGS_MM[:1]).mask
    leaked = np.count_nonzero(first & VESSEL & ~TUMOR & 1)
    assert leaked > 50
    second = session.answer(CLICKS, DRAGS_MM).mask
    assert np.count_nonzero(second & VESSEL & ~TUMOR & 1) < leaked / 4
    assert dice(second, TUMOR) > max(0.9, dice(first, TUMOR))


def test_a_seed_is_a_ball_where_its_click_contradicts_what_was_seen(study):
    region = region_of(study, EMPTY, CLICKS)
    nothing, leaked = np.zeros(region.mask.shape, bool), ((TUMOR | VESSEL) > 0)[region.where]
    for second, wanted in ((leaked, 2), (nothing, 0)):
        labels = seeds(WalkerSettings(), region, DRAGS_MM, [nothing, second])
        near = region.ball(region.voxels[1], CLICK_MM)
        assert near.sum() > 10
        assert labels[tuple(region.voxels[1])] == 2
        assert np.median(labels[near]) == wanted
        assert (labels[region.ball(region.voxels[0], CLICK_MM)] == 1).all()


def test_an_answer_depends_on_its_clicks_alone(study, method):
    session = method.open(study, EMPTY)
    whole = session.answer(CLICKS, DRAGS_MM).mask
    other = session.answer(CLICKS[1:], DRAGS_MM[1:]).mask
    wide = session.answer(CLICKS, (9.0, 6.0)).mask
    assert (session.answer(CLICKS, DRAGS_MM).mask == whole).all()
    assert (method.open(study, EMPTY).answer(CLICKS[1:], DRAGS_MM[1:]).mask == other).all()
    assert (method.open(study, EMPTY).answer(CLICKS, (9.0, 6.0)).mask == wide).all()
    stepwise = method.open(study, EMPTY)
    stepwise.answer(FOUND, DRAGS_MM[:1])
    assert (stepwise.answer(CLICKS, DRAGS_MM).mask == whole).all()


def test_each_answer_is_made_once_and_knows_what_was_seen():
    asked = []

    def answer(clicks, drags_mm, seen):
        asked.append((len(clicks), drags_mm, [int(mask.sum()) for mask in seen]))
        mask = seen[-1].copy()
        mask[len(clicks)] = 1
        return mask

    answers = Seen(np.zeros(9, np.uint8))
    clicks = tuple(click((n, 0, 0), True) for n in range(3))
    mask = answers.after(clicks, (1.0, 2.0, 3.0), answer)
    assert mask.sum() == 3
    mask[:] = 0  # is the caller's own
    assert answers.after(clicks, (1.0, 2.0, 3.0), answer).sum() == 3
    assert asked == [(1, (1.0,), [0]), (2, (1.0, 2.0), [0, 1]), (3, (1.0, 2.0, 3.0), [0, 1, 2])]
