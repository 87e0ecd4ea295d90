"""The promises of the correction, on random masks, clicks and affines (METHOD: D1 to D5)."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import affines

from clickseg.clicks import Click
from clickseg.config import EdgesConfig, LikenessConfig, PassBorderConfig, load_config
from clickseg.correction import LocalCorrection
from clickseg.geometry import Grid, ijk_to_ras
from clickseg.study import Study

SHAPE = (37, 31, 23)
DEFAULT = Path(__file__).parents[2] / "configs" / "default.yaml"
AFFINES = {
    "ras": [[0.4, 0, 0, -7], [0, 0.5, 0, 3], [0, 0, 1.5, 11], [0, 0, 0, 1]],
    "lps": [[-0.4, 0, 0, 7], [0, -0.5, 0, -3], [0, 0, 1.5, 11], [0, 0, 0, 1]],
    "permuted": [[0, 0, 1.5, 11], [-0.4, 0, 0, 7], [0, 0.5, 0, 3], [0, 0, 0, 1]],
}

SPEAKS = LikenessConfig(below=9.0, weight=20.0, sigma=2.0, reach_mm=3.0)


class Erratic(torch.nn.Module):
    """Answers wildly, and everywhere depends on every voxel of its input."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.near = torch.nn.Conv3d(5, 1, 3, padding=1)

    def forward(self, x):
        far = x.mean((2, 3, 4)) @ torch.tensor([1.0, 2, 300, 40000, -50000])
        return 20 * self.near(x) + torch.sin(far)[:, None, None, None, None] * 20


class EchoForeground(torch.nn.Module):
    """Answers with its own foreground guidance channel, as logits."""

    def forward(self, x):
        return 20 * x[:, 3:4] - 10


def config(**changes):
    # Most networks here draw exactly what is asked for: nothing else is to move it.
    small = {
        "reach_mm": 4.0,
        "visible_mm": 2.0,
        "cut": (24, 20, 7),
        "border": None,
        "likeness": None,
        "thick_mm": None,
    }
    return replace(load_config(DEFAULT).correction, **small | changes)


def a_study(affine, seed=0):
    grid = Grid(SHAPE, np.array(affine, float))
    image = np.random.default_rng(seed).normal(size=(2, *grid.canonical.shape)).astype(np.float32)
    return Study("case", image, grid, None)


def a_mask(study, seed):
    rng = np.random.default_rng(seed)
    coarse = rng.random([n // 4 + 1 for n in study.grid.canonical.shape]) > 0.6
    mask = np.kron(coarse, np.ones((4, 4, 4)))[
        tuple(slice(0, n) for n in study.grid.canonical.shape)
    ]
    return mask.astype(np.uint8)


voxels = st.tuples(*(st.integers(0, n - 1) for n in SHAPE))
click_lists = st.lists(
    st.tuples(voxels, st.booleans()), min_size=1, max_size=5, unique_by=lambda c: c[0]
)
worlds = {
    "affine": st.one_of(st.sampled_from(list(AFFINES.values())), affines()),
    "changes": st.fixed_dictionaries(
        {
            "merge": st.sampled_from(["component", "all"]),
            "thick_mm": st.sampled_from([None, 1.0]),
            "edges": st.sampled_from([None, EdgesConfig(weight=5.0, sigma=0.3, steps=3)]),
            "likeness": st.sampled_from([None, SPEAKS]),
            "border": st.sampled_from([None, PassBorderConfig(weight=1.0, sigma=0.3, steps=9)]),
        }
    ),
    "places": click_lists,
    "seed": st.integers(0, 99),
}


def replay(affine, changes, places, seed):
    study = a_study(affine)
    correction = LocalCorrection(Erratic(), config(**changes))
    start = a_mask(study, seed)
    clicks = tuple(Click.at(voxel, kind, study.grid) for voxel, kind in places)
    return study, correction, start, clicks


def distance_mm(study, click):
    grid = study.grid.canonical
    ijk = np.indices(grid.shape).reshape(3, -1).T
    return np.linalg.norm(ijk_to_ras(ijk, grid.affine) - click.point_ras, axis=1).reshape(
        grid.shape
    )


@given(**worlds)
@settings(max_examples=25)
def test_a_click_changes_nothing_beyond_its_radius(affine, changes, places, seed):
    study, correction, start, clicks = replay(affine, changes, places, seed)
    before = correction(study, start, clicks[:-1]).mask
    after = correction(study, start, clicks).mask
    far = distance_mm(study, clicks[-1]) > correction.radius_mm
    assert (before == after)[far].all()


@given(**worlds)
@settings(max_examples=25)
def test_what_differs_from_the_start_lies_within_reach_of_a_click(affine, changes, places, seed):
    study, correction, start, clicks = replay(affine, changes, places, seed)
    after = correction(study, start, clicks).mask
    near = np.min([distance_mm(study, click) for click in clicks], axis=0)
    assert (after == start)[near >= correction.config.reach_mm].all()


@given(**worlds)
@settings(max_examples=25)
def test_every_click_is_obeyed_also_after_later_ones(affine, changes, places, seed):
    study, correction, start, clicks = replay(affine, changes, places, seed)
    mask = correction(study, start, clicks).mask
    for click in clicks:
        assert mask[click.voxel(study.grid.canonical)] == click.is_foreground
    assert set(np.unique(mask)) <= {0, 1}


@given(**worlds, order=st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_the_answer_depends_on_neither_turns_nor_history(affine, changes, places, seed, order):
    study, correction, start, clicks = replay(affine, changes, places, seed)
    memo, kept = {}, start.copy()
    answers = [correction(study, start, clicks[: n + 1], memo).mask for n in range(len(clicks))]
    kinds = [click.is_foreground for click in clicks]
    order.shuffle(kinds)
    of_kind = {kind: iter([c for c in clicks if c.is_foreground == kind]) for kind in (True, False)}
    other_turns = tuple(next(of_kind[kind]) for kind in kinds)
    assert (correction(study, start, other_turns).mask == answers[-1]).all()
    undone = correction(study, start, clicks[:-1], memo).mask
    assert (undone == (answers[-2] if len(answers) > 1 else start)).all()
    assert (start == kept).all()


@given(**worlds)
@settings(max_examples=25)
def test_one_more_click_costs_one_more_pass(affine, changes, places, seed):
    study, correction, start, clicks = replay(affine, changes, places, seed)
    memo = {}
    for n in range(1, len(clicks) + 1):
        correction(study, start, clicks[:n], memo)
        assert len(memo) == n


@given(**worlds)
@settings(max_examples=25)
def test_a_spent_answer_gives_its_mask_and_nothing_of_what_it_said(affine, changes, places, seed):
    study, correction, start, clicks = replay(affine, changes, places, seed)
    memo = {}
    spent = correction(study, start, clicks, memo)
    for made in (clicks[:1], clicks[1:], clicks[::-1], ()):
        answer = correction(study, start, made, memo, spent)
        assert answer.mask is spent.mask
        assert (answer.mask == correction(study, start, made).mask).all()
        spent = answer


@given(**worlds)
@settings(max_examples=25)
def test_foreground_clicks_only_add_and_background_clicks_only_remove(
    affine, changes, places, seed
):
    study, correction, start, clicks = replay(affine, changes, places, seed)
    for kind in (True, False):
        mask = correction(study, start, tuple(c for c in clicks if c.is_foreground == kind)).mask
        assert (mask >= start).all() if kind else (mask <= start).all()


@given(affine=st.sampled_from(list(AFFINES.values())), voxel=voxels)
@settings(max_examples=25)
def test_a_click_anywhere_reaches_the_neighboring_slices(affine, voxel):
    study = a_study(affine)
    correction = LocalCorrection(EchoForeground(), config())
    start = np.zeros(study.grid.canonical.shape, np.uint8)
    click = Click.at(voxel, True, study.grid)
    filled = correction(study, start, (click,)).mask.any(axis=(0, 1))
    k = click.voxel(study.grid.canonical)[2]
    assert filled[max(k - 1, 0) : k + 2].all()


def test_one_click_reaches_the_neighboring_slices():
    study = a_study(AFFINES["ras"])
    correction = LocalCorrection(EchoForeground(), config())
    start = np.zeros(study.grid.canonical.shape, np.uint8)
    mask = correction(study, start, (Click.at((18, 15, 11), True, study.grid),)).mask
    assert mask.any(axis=(0, 1)).nonzero()[0].tolist() == [10, 11, 12]


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES.keys())
def test_a_click_comes_back_where_it_was_made(affine):
    study = a_study(affine)
    correction = LocalCorrection(EchoForeground(), config())
    start = np.zeros(study.grid.canonical.shape, np.uint8)
    mask = correction(study, start, (Click.at((18, 15, 11), True, study.grid),)).mask
    stored = study.grid.to_stored(mask)
    np.testing.assert_allclose(np.argwhere(stored).mean(axis=0), [18, 15, 11])


def test_no_clicks_give_the_start_mask():
    study, correction, start, _ = replay(AFFINES["lps"], {"merge": "all"}, [], 3)
    assert (correction(study, start, ()).mask == start).all()


def test_a_start_mask_of_another_shape_is_refused():
    study, correction, _, clicks = replay(AFFINES["ras"], {"merge": "all"}, [((1, 2, 3), True)], 3)
    with pytest.raises(ValueError, match="start mask is"):
        correction(study, np.zeros((3, 5, 7), np.uint8), clicks)


def test_a_click_outside_is_refused():
    study, correction, start, _ = replay(AFFINES["ras"], {"merge": "all"}, [], 3)
    with pytest.raises(ValueError, match="inside"):
        correction(study, start, (Click((500.0, 0.0, 0.0), True),))
