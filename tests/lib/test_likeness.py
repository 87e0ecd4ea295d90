"""A click that the network is not sure of speaks for what is near and looks like it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from told import FINE, MIDDLE_IJK, OURS, answer, ball, overlap, told

from clickseg.clicks import Click
from clickseg.config import LikenessConfig
from clickseg.correction import LocalCorrection
from clickseg.correction.passes import make_pass

LIKENESS = {"likeness": OURS.likeness}


@pytest.mark.parametrize("is_laid", [True, False])
@pytest.mark.parametrize("kind", [True, False])
@pytest.mark.parametrize("sure", [0.1, 4.0])
def test_a_click_speaks_for_what_looks_like_it_where_the_network_does_not_believe_it(
    kind, sure, is_laid
):
    """However the network sees it; what looks otherwise stays."""
    lobe, body = ball(2.5), ball(4.0, (46, 26, 8))
    start = body if kind else body | lobe
    study = told(2.0 * lobe - 2.0 * body, start)
    changes = {} if is_laid else {"border": None}
    found = answer(study, sure, (MIDDLE_IJK, kind), start=start, **LIKENESS, **changes)
    assert overlap(found, body | lobe if kind else body) > 0.97


def test_it_speaks_for_nothing_where_the_network_believes_it():
    tumor, seen = ball(3.0), ball(1.6)
    study = told(2.0 * tumor, seen)
    for changes in ({}, LIKENESS):
        found = answer(study, 2.0, outside=6.0, border=None, **changes)
        np.testing.assert_array_equal(found, seen)


def test_it_speaks_by_every_sequence_that_shows_anything():
    """By hand: 8 at the click, 8 exp(-1/2) one sigma away in one sequence, less in both."""
    recipe = replace(OURS, border=None, merge="all")
    likeness = LikenessConfig(below=1.0, weight=8.0, sigma=0.5, reach_mm=1000.0)
    where, start = tuple(slice(0, n) for n in FINE.shape), np.zeros(FINE.shape, np.uint8)
    said = np.full(FINE.shape, -3.9, dtype=np.float32)
    image = np.ones((2, *FINE.shape), dtype=np.float32)
    image[0, 32], image[1, 33], image[:, 34] = 1.5, 0.5, 1.5
    for shown, added in (
        ([1, 1], {31, 32, 33}),
        ([1, 0], {31, 32, 33, 34}),
        ([0, 0], {31, 32, 33, 34}),
    ):
        made = make_pass(
            where, said, image * np.reshape(shown, (2, 1, 1, 1)).astype(np.float32), start,
            np.array([MIDDLE_IJK]), True, FINE.spacing_mm, replace(recipe, likeness=likeness),
        )  # fmt: skip
        found = {i for i in range(31, 35) if made.may_change[i, 26, 8]}
        assert found == added, shown


def test_it_fades_with_the_distance():
    likeness = replace(LIKENESS["likeness"], weight=8.0, reach_mm=2.0)
    study = told(np.zeros(FINE.shape), np.zeros(FINE.shape))
    found = answer(study, 0.0, outside=5.0, border=None, likeness=likeness)
    far_mm = 2.0 * np.sqrt(2 * np.log(8 / 5))  # where 8 exp(-d^2 / 2 / 2^2) is 5
    assert overlap(found, ball(far_mm)) > 0.9


def test_no_farther_than_where_a_quarter_of_its_weight_is_left():
    """However little the network says: nothing parts the tumor from what is around it here."""
    likeness = replace(OURS.likeness, reach_mm=2.0)
    study = told(np.zeros(FINE.shape), np.zeros(FINE.shape))
    found = answer(study, 0.05, border=None, likeness=likeness)
    assert overlap(found, ball(2.0 * np.sqrt(2 * np.log(4)))) > 0.9


@pytest.mark.parametrize("size", [0.5, 1.5, 4.0])
@pytest.mark.parametrize("kind", [True, False])
@pytest.mark.parametrize("shape", ["tip", "line"])
def test_it_speaks_for_nothing_beyond_a_tip_or_a_line(shape, kind, size):
    """Of the nine voxels around such a click most are of what lies beside it."""
    lobe, click, blob = ball(2.5), (35, 26, 8), ball(6.0, (27, 26, 8))
    if shape == "line":
        lobe, click, blob = np.zeros(FINE.shape, dtype=bool), MIDDLE_IJK, ball(6.0, (36, 26, 8))
        lobe[22:39, 26, 7:10] = True
    start = np.zeros(FINE.shape, dtype=bool) if kind else blob
    study = told(2.0 * lobe, start)
    found = answer(study, size, (click, kind), start=start, border=None, **LIKENESS)
    assert found[click] == kind
    changed, may_change = found ^ start, lobe if kind else lobe & start
    assert not changed[~may_change].any()
    assert changed.sum() > 0.6 * may_change.sum()


def test_a_noisy_voxel_does_not_change_how_a_click_looks():
    tumor = ball(2.5)
    study = told(2.0 * tumor, np.zeros(FINE.shape))
    study.image[0][MIDDLE_IJK] = 2.5
    assert overlap(answer(study, 4.0, border=None, **LIKENESS), tumor) > 0.9


@pytest.mark.parametrize(("own", "speaks"), [(1.9, True), (2.0, False), (-1.9, True)])
@pytest.mark.parametrize("kind", [True, False])
def test_it_speaks_below_the_logit_that_the_recipe_says(own, speaks, kind):
    where, start = tuple(slice(0, n) for n in FINE.shape), np.full(FINE.shape, not kind, np.uint8)
    sign, image = 1 if kind else -1, np.zeros((2, *FINE.shape), np.float32)
    said = np.full(FINE.shape, -sign * 3.0, dtype=np.float32)
    said[MIDDLE_IJK] = sign * own
    recipe = replace(OURS, border=None)
    seen = np.array([MIDDLE_IJK])
    made = make_pass(where, said, image, start, seen, kind, FINE.spacing_mm, recipe)
    assert made.may_change[31, 26, 8] == speaks


class Learned(torch.nn.Module):
    """Is sure of nothing but the second click."""

    def __init__(self):
        super().__init__()
        self.passes = 0

    def forward(self, x):
        self.passes += 1
        logits = torch.full_like(x[:, :1], -4.0)
        if self.passes == 2:
            i, j, k = (n // 2 for n in x.shape[2:])
            logits[:, :, i - 2 : i + 3, j - 2 : j + 3, k] = 4.0
        return logits


def test_earlier_clicks_speak_again_where_a_later_one_is_believed():
    lobe, other = ball(4.0), (MIDDLE_IJK[0] + 6, *MIDDLE_IJK[1:])
    study, start = told(2.0 * lobe, np.zeros(FINE.shape)), np.zeros(FINE.shape, np.uint8)
    clicks = tuple(Click.at(voxel, True, FINE) for voxel in (MIDDLE_IJK, other))
    correction, memo = LocalCorrection(Learned(), OURS), {}
    first = correction(study, start, clicks[:1], memo).mask
    both = correction(study, start, clicks, memo).mask
    assert overlap(first > 0, lobe) > 0.9
    assert (both[first > 0] > 0).mean() > 0.97
