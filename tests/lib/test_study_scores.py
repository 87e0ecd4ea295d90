"""Scores by networks whose answer is known: what is bright is tumor, or nothing is."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from clickseg.choosing.features import tumor_feature
from clickseg.choosing.looks import LOOKS, RIM_MM, Look, Looked, look_again
from clickseg.choosing.scores import disagreement, score_study, uncertainty
from clickseg.clicks import voxels_of
from clickseg.config import load_config
from clickseg.correction import Correction
from clickseg.geometry import Grid
from clickseg.initial import Initial, TwoStage, WholeVolume
from clickseg.models import Models
from clickseg.study import Study

CONFIGS = Path(__file__).parents[2] / "configs"
SHAPE = (53, 47, 19)
AFFINES = {
    "ras": np.diag([0.5, 0.4, 1.5, 1]),
    "permuted": np.array([[0, 0, 1.5, 11], [-0.5, 0, 0, 7], [0, 0.4, 0, 3], [0, 0, 0, 1.0]]),
}
NOWHERE = (slice(0, 0), slice(0, 0), slice(0, 0))


class Bright(torch.nn.Module):
    """Takes what is bright on the first channel for tumor; its deepest layer hands on the input."""

    def __init__(self, above=2.0, sharp=20.0):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(()))
        self.bottleneck = torch.nn.AvgPool3d(2)
        self.above, self.sharp = above, sharp

    def forward(self, x):
        self.bottleneck(x)
        return self.sharp * (x[:, :1] - self.above)


class Half(torch.nn.Module):
    """Says one half wherever T1ce is bright: it does not know."""

    def forward(self, x):
        return torch.where(x[:, :1] > 2, 1e-4, -20.0)


class Pair(torch.nn.Module):
    def __init__(self, locate, segment):
        super().__init__()
        self.locate, self.segment = locate, segment


def two_stage(segment=None, locate=None):
    initial = load_config(CONFIGS / "default.yaml").initial
    config = replace(
        initial,
        locate=replace(initial.locate, patch=(16, 16, 8)),
        segment=replace(initial.segment, patch=(32, 32, 8), margin_mm=4.0),
        edges=None,  # what the network says is the outline
        border=None,
    )
    return TwoStage(Pair(locate or Bright(1.0), segment or Bright()), config)


def whole_volume():
    config = replace(load_config(CONFIGS / "published.yaml").initial, size=(24, 20, 8))
    return WholeVolume(Bright(0.5), config)  # the network sees 0 to 1


def a_study(affine=AFFINES["ras"], center=(25, 20, 9), radius_mm=4.0, t2=1.0):
    grid = Grid(SHAPE, np.array(affine, float))
    offsets_mm = (np.indices(SHAPE).reshape(3, -1).T - center) * grid.spacing_mm
    ball = (np.linalg.norm(offsets_mm, axis=1) <= radius_mm).reshape(SHAPE)
    image = np.zeros((2, *grid.canonical.shape), np.float32)
    image[0] = 4 * grid.to_canonical(ball)
    image[1] = t2
    return Study("case", image, grid, None), np.asarray(grid.to_canonical(ball))


INITIALS = {"two stage": two_stage, "whole volume": whole_volume}


@pytest.fixture(params=AFFINES.values(), ids=AFFINES.keys())
def affine(request):
    return request.param


@pytest.mark.parametrize("make", INITIALS.values(), ids=INITIALS.keys())
def test_every_look_comes_back_to_where_the_tumor_is(make, affine):
    study, ball = a_study(affine)
    initial = make()
    looked = look_again(initial, study, initial(study))
    found = np.zeros(ball.shape)
    found[looked.where] = looked.prob
    inside = ndimage.distance_transform_edt(ball, sampling=study.grid.canonical.spacing_mm)
    outside = ndimage.distance_transform_edt(~ball, sampling=study.grid.canonical.spacing_mm)
    assert found[inside > 2].min() > 0.99
    assert found[outside > 2].max() < 0.01
    if make is two_stage and affine is AFFINES["ras"]:  # hardly anything is resampled
        assert np.mean((found > 0.5) == ball) > 0.999


def test_the_region_is_the_tumor_and_a_rim_around_it(affine):
    study, ball = a_study(affine)
    initial = two_stage()
    looked = look_again(initial, study, initial(study))
    region = looked.region_in(ball.shape)
    spacing_mm = study.grid.canonical.spacing_mm
    distance_mm = ndimage.distance_transform_edt(~ball, sampling=spacing_mm)
    assert region[ball].all()
    # The fine network sees voxels of up to 1.5 mm: the border is where it is to one of them.
    assert region[distance_mm <= RIM_MM - 1.5].all()
    assert not region[distance_mm > RIM_MM + 1.5].any()


def test_no_look_is_made_where_nothing_is_found():
    study, _ = a_study(radius_mm=-1)
    initial = two_stage()
    assert look_again(initial, study, initial(study)) is None


def test_a_model_of_any_kind_is_asked_once_a_look():
    study, ball = a_study()
    seen = []

    def model(study):
        seen.append(study.image)
        mask = (study.image[0] > 2).astype(np.uint8)
        box = tuple(slice(0, n) for n in mask.shape)
        return Initial(mask, mask.astype(np.float32), box, None)

    looked = look_again(model, study, model(study))
    assert len(seen) == 1 + len(LOOKS)
    assert np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[0][:, ::-1], seen[2])
    found = np.zeros(ball.shape)
    found[looked.where] = looked.prob
    assert np.array_equal(found, ball)  # mirror, shifts and contrasts are all undone
    assert tumor_feature(model, study, looked.region_in(ball.shape)) is None


def test_a_shift_is_at_least_one_voxel_and_of_its_sign():
    look = Look(shift_mm=(1.5, -1.5, 1.5))
    assert look.shift(np.array([0.4, 0.5, 4.0])).tolist() == [4, -3, 1]
    assert Look().shift(np.array([0.4, 0.5, 4.0])).tolist() == [0, 0, 0]


def test_entropy_is_counted_in_bits_and_in_the_region_alone():
    prob = np.array([0.5, 0.25, 1.0, 0.0, 0.5]).reshape(5, 1, 1).astype(np.float32)
    region = np.array([1, 1, 1, 1, 0], bool).reshape(5, 1, 1)
    looked = Looked(prob, region, (slice(0, 5), slice(0, 1), slice(0, 1)))
    # 1 bit, 0.25 * 2 + 0.75 * log2(4/3) = 0.811278 bits, nothing, nothing
    assert uncertainty(looked) == pytest.approx((1 + 0.811278) / 4, abs=1e-5)


def test_a_network_that_does_not_know_is_less_sure():
    study, _ = a_study()
    sure, unsure = two_stage(), two_stage(Half())
    scores = [uncertainty(look_again(one, study, one(study))) for one in (sure, unsure)]
    assert scores[0] < 0.1
    assert scores[1] > 0.3
    assert scores[1] <= 1


class Clicked:
    """A correction that answers with one mask for each kind of click, and notes the clicks."""

    def __init__(self, foreground, background):
        self.answers = {True: foreground, False: background}
        self.clicks = []

    def __call__(self, study, start, clicks, memo=None):  # noqa: ARG002
        (voxel,), (kind,) = voxels_of(clicks, study.grid.canonical)
        self.clicks.append((tuple(voxel.tolist()), bool(kind)))
        return Correction(self.answers[bool(kind)], None, 1.0)


def test_disagreement_is_the_expected_change_by_a_click_where_it_is_least_sure():
    study, _ = a_study()
    shape = study.grid.canonical.shape
    mask, more, less = (np.zeros(shape, np.uint8) for _ in range(3))
    mask[10:14], more[10:16], less[10:12] = 1, 1, 1
    prob = np.full((4, 4, 4), 0.25, np.float32)
    first = Initial(mask, prob, (slice(9, 13), slice(2, 6), slice(3, 7)), (10, 3, 5))
    correction = Clicked(more, less)
    models = Models(lambda _: first, correction, {})
    # Foreground: Dice 2 * 4 / (4 + 6) = 0.8; background: 2 * 2 / (4 + 2) = 0.667.
    expected = 0.25 * 0.2 + 0.75 / 3
    assert disagreement(models, study, first) == pytest.approx(expected)
    assert correction.clicks == [((10, 3, 5), True), ((10, 3, 5), False)]


def test_where_all_is_clear_the_click_goes_to_the_middle_of_the_outline():
    study, ball = a_study()
    mask = ball.astype(np.uint8)
    correction = Clicked(mask, 1 - mask)
    first = Initial(mask, np.zeros((0, 0, 0), np.float32), NOWHERE, None)
    assert disagreement(Models(lambda _: first, correction, {}), study, first) == 0
    assert correction.clicks == [((25, 20, 9), True)]


def test_an_outline_that_fills_the_image_has_a_middle():
    study, ball = a_study()
    full = np.ones(ball.shape, np.uint8)
    correction = Clicked(full, full)
    first = Initial(full, np.zeros((0, 0, 0), np.float32), NOWHERE, None)
    disagreement(Models(lambda _: first, correction, {}), study, first)
    assert correction.clicks[0][0][1] == 23  # of 47 voxels of 0.4 mm, the shortest side


def test_a_study_in_which_nothing_is_found_has_no_feature_and_ranks_first():
    study, _ = a_study(radius_mm=-1)
    correction = Clicked(None, None)
    scores = score_study(Models(two_stage(), correction, {}), study)
    assert (scores.uncertainty, scores.disagreement, scores.feature) == (1, 1, None)
    assert correction.clicks == []


def test_where_nothing_is_outlined_doubt_is_no_reason_to_click():
    study, ball = a_study()
    # Less sure than an outline needs, so there is a voxel that a click would tell most about.
    prob = np.full(ball.shape, 0.3, np.float32)
    everything = tuple(slice(0, n) for n in ball.shape)
    first = Initial(np.zeros(ball.shape, np.uint8), prob, everything, (25, 20, 9))
    correction = Clicked(ball.astype(np.uint8), np.zeros(ball.shape, np.uint8))
    scores = score_study(Models(lambda _: first, correction, {}), study)
    assert (scores.uncertainty, scores.disagreement, scores.feature) == (1, 1, None)
    assert correction.clicks == []


def test_a_feature_is_the_mean_of_the_deepest_layer_in_the_region():
    study, ball = a_study(radius_mm=7.0, t2=3.0)
    # Far inside, T1ce is 4 and T2 is 3 wherever the layer looks: (4, 3) / 5.
    inside = ndimage.distance_transform_edt(ball, sampling=study.grid.spacing_mm) > 4
    assert inside.any()
    feature = tumor_feature(two_stage(), study, inside.astype(np.uint8))
    np.testing.assert_allclose(feature, [0.8, 0.6], atol=1e-2)  # where it computes in bfloat16
    # The published network scales sequences to 0 to 1; a T2 that is the same everywhere is 0.
    feature = tumor_feature(whole_volume(), study, inside.astype(np.uint8))
    np.testing.assert_allclose(feature, [1, 0], atol=1e-2)


@pytest.mark.parametrize("make", INITIALS.values(), ids=INITIALS.keys())
def test_scores_are_the_same_each_time_and_of_their_range(make, affine):
    study, ball = a_study(affine)
    mask = ball.astype(np.uint8)
    models = Models(make(), Clicked(mask, mask), {})
    scores = score_study(models, study)
    assert scores == score_study(models, study)
    assert 0 <= scores.uncertainty <= 1
    assert 0 <= scores.disagreement <= 1
    assert math.hypot(*scores.feature) == pytest.approx(1, abs=1e-3)


def test_a_network_without_a_deepest_layer_has_scores_but_no_feature():
    study, ball = a_study()
    mask = ball.astype(np.uint8)
    scores = score_study(Models(two_stage(Half()), Clicked(mask, mask), {}), study)
    assert scores.feature is None
    assert scores.uncertainty > 0


@pytest.mark.parametrize("name", ["default", "unfolded", "published"])
def test_the_networks_of_the_recipes_have_a_deepest_layer(name):
    from clickseg.networks import build_network

    initial = load_config(CONFIGS / f"{name}.yaml").initial
    network = (initial if name == "published" else initial.segment).network
    assert hasattr(build_network(network.name, network.arguments), "bottleneck")
