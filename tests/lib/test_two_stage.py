from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clickseg.border import cheapest_border
from clickseg.config import load_config
from clickseg.geometry import Grid
from clickseg.initial import TwoStage
from clickseg.initial.two_stage import surest_component, with_edges
from clickseg.metrics import dice
from clickseg.study import Study
from clickseg.training.prepare import Prepared
from clickseg.training.two_stage import region_dice, region_pred

DEFAULT = Path(__file__).parents[2] / "configs" / "default.yaml"
AFFINES = {
    "ras": [[0.5, 0, 0, -7], [0, 0.4, 0, 3], [0, 0, 1.5, 11], [0, 0, 0, 1]],
    "lps": [[-0.5, 0, 0, 7], [0, -0.4, 0, -3], [0, 0, 1.5, 11], [0, 0, 0, 1]],
    "permuted": [[0, 0, 1.5, 11], [-0.5, 0, 0, 7], [0, 0.4, 0, 3], [0, 0, 0, 1]],
}
SHAPE = (83, 71, 29)


class Bright(torch.nn.Module):
    """Takes what is bright on the T1ce for tumor."""

    def forward(self, x):
        return 20 * (x[:, :1] - 2)


class Nothing(torch.nn.Module):
    def forward(self, x):
        return torch.full_like(x[:, :1], -20)


class Pair(torch.nn.Module):
    def __init__(self, locate, segment):
        super().__init__()
        self.locate, self.segment = locate, segment


def config(**changes):
    initial = load_config(DEFAULT).initial
    return replace(
        initial,
        locate=replace(initial.locate, patch=(16, 16, 8)),
        segment=replace(initial.segment, patch=(32, 32, 8), margin_mm=3.0),
        **changes,
    )


def a_study(affine, *balls):
    """A dark study with bright balls: ``(center_ijk, radius_mm)`` on the stored grid."""
    grid = Grid(SHAPE, np.array(affine, float))
    ijk = np.indices(SHAPE).reshape(3, -1).T
    stored = np.zeros(SHAPE, np.float32)
    for center, radius_mm in balls:
        offsets = (ijk - center) * grid.spacing_mm
        stored[(np.linalg.norm(offsets, axis=1) <= radius_mm).reshape(SHAPE)] = 4
    image = np.zeros((2, *grid.canonical.shape), np.float32)
    image[0] = grid.to_canonical(stored)
    return Study("case", image, grid, None), grid.to_canonical(stored > 0)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES.keys())
def test_a_bright_ball_is_outlined_where_it_is(affine):
    study, ball = a_study(affine, ((23, 31, 11), 5.0))
    result = TwoStage(Pair(Bright(), Bright()), config())(study)
    overlap = 2 * (result.mask & ball).sum() / (result.mask.sum() + ball.sum())
    # Voxels of 1.5 mm across the axial plane are interpolated, which rounds the ball off.
    assert overlap > (0.97 if study.grid.canonical.spacing_mm[2] == 1.5 else 0.92)
    outside = np.ones(result.mask.shape, bool)
    outside[result.box] = False
    assert not result.mask[outside].any()
    assert result.prob.shape == tuple(part.stop - part.start for part in result.box)


def test_a_tumor_larger_than_the_patch_is_outlined_whole():
    study, ball = a_study(AFFINES["ras"], ((41, 35, 14), 13.0))
    result = TwoStage(Pair(Bright(), Bright()), config())(study)
    assert (result.mask & ball).sum() / ball.sum() > 0.97


def test_of_two_sure_parts_the_larger_is_kept():
    study, _ = a_study(AFFINES["ras"], ((23, 31, 11), 5.0), ((45, 31, 11), 2.0))
    mask = TwoStage(Pair(Bright(), Bright()), config())(study).mask
    assert mask[23, 31, 11] == 1
    assert mask[45, 31, 11] == 0


class Surer(torch.nn.Module):
    """Is the surer of a tumor the brighter it is: 0.65 at 4.6, at 12 as sure as edges allow."""

    def forward(self, x):
        return x[:, :1] - 4.0


@pytest.mark.parametrize(
    ("sure", "doubtful", "regions"),
    [((23, 31, 11), (45, 31, 11), 1), ((13, 17, 11), (61, 53, 13), 2)],
    ids=["in one region", "each in its own"],
)
def test_a_small_sure_part_is_chosen_before_a_large_doubtful_one(sure, doubtful, regions):
    _, small = a_study(AFFINES["ras"], (sure, 4.0))
    study, large = a_study(AFFINES["ras"], (doubtful, 6.0))
    assert large.sum() * 0.65 > 2 * small.sum()
    study.image[0] = 4.6 * large + 12 * small
    model = TwoStage(Pair(Bright(), Surer()), config())
    found = model._locate(torch.from_numpy(study.image), study.grid.canonical.spacing_mm)
    assert len(found) == regions
    mask = model(study).mask
    assert mask[sure] == 1
    assert mask[doubtful] == 0


@pytest.mark.parametrize(
    "pair", [(Nothing(), Bright()), (Bright(), Nothing())], ids=["coarse", "fine"]
)
def test_no_tumor_found_is_an_empty_mask(pair):
    study, _ = a_study(AFFINES["lps"], ((23, 31, 11), 5.0))
    result = TwoStage(Pair(*pair), config())(study)
    assert not result.mask.any()
    assert result.uncertain_ijk is None
    assert result.mask.shape == study.grid.canonical.shape


def test_the_same_study_gives_the_same_bits():
    torch.manual_seed(0)
    study, _ = a_study(AFFINES["lps"], ((23, 31, 11), 5.0))
    model = TwoStage(Pair(Bright(), torch.nn.Conv3d(2, 1, 3, padding=1)), config())
    first, second = model(study), model(study)
    assert np.array_equal(first.mask, second.mask)
    assert np.array_equal(first.prob, second.prob)


class Drawn(torch.nn.Module):
    """Draws a voxel beside where the T1ce is bright, and blurred, as networks do."""

    def forward(self, x):
        blurred = torch.nn.functional.avg_pool3d(torch.roll(x[:, :1], 1, 2), 3, 1, 1)
        return 4 * (blurred - 0.4)


def a_region(recipe):
    """A faint tumor, and an island that a network takes for tumor, too."""
    grid = Grid((83, 71, 29), np.diag([*recipe.segment.spacing_mm, 1.0]))
    ijk = np.moveaxis(np.indices(grid.shape), 0, -1)
    ball, island = (
        np.linalg.norm((ijk - center) * grid.spacing_mm, axis=-1) <= radius_mm
        for center, radius_mm in (((41, 35, 14), 4.5), ((51, 45, 14), 1.5))
    )
    noise = np.random.default_rng(2).normal(0, 0.2, grid.shape)
    image = np.stack([1.0 * (ball | island) + noise, 0 * noise]).astype(np.float16)
    return grid, image, ball


@pytest.mark.parametrize(
    ("rest", "off"),
    [  # each part overrules those below it
        ({}, {"border": None}),
        ({"border": None}, {"edges": None}),
        ({"border": None, "edges": None}, {"mirror": False}),
    ],
    ids=["border", "edges", "mirror"],
)
def test_what_a_network_says_of_a_prepared_region_is_laid_as_in_use(rest, off):
    """A correction learns from these: they must be such outlines as readers will be shown."""
    recipe, without = (config(**rest | less) for less in ({}, off))
    grid, image, ball = a_region(recipe)
    model = TwoStage(Pair(Bright(), Drawn()), recipe)
    model._locate = lambda *_: [(np.array([41.0, 35, 14]), np.zeros(3), 1.0)]
    used = model(Study("case", image.astype(np.float32), grid, None)).mask
    region, label = torch.from_numpy(image), torch.from_numpy(ball[None].astype(np.uint8))
    case = Prepared("case", region, label, (), region, label, True, grid.affine)
    pred = region_pred(Drawn(), case, recipe, "cpu")[0].numpy()
    np.testing.assert_array_equal(pred, used)
    assert (region_pred(Drawn(), case, without, "cpu")[0].numpy() != pred).any()


def test_the_border_is_that_of_evened_probabilities():
    recipe = config()
    grid, image, _ = a_region(recipe)
    model = TwoStage(Pair(Bright(), Drawn()), recipe)
    model._locate = lambda *_: [(np.array([41.0, 35, 14]), np.zeros(3), 1.0)]
    shown = image.astype(np.float32)
    found = model(Study("case", shown, grid, None))
    model.config = replace(recipe, edges=None, border=None)
    said, seen = model(Study("case", shown, grid, None)).prob, shown[(slice(None), *found.box)]
    evened = with_edges(said, seen, grid.spacing_mm, recipe)
    component, _ = surest_component(evened)
    laid, other = (
        cheapest_border(component, prob, seen, grid.spacing_mm, recipe.border)
        for prob in (evened, said)
    )
    np.testing.assert_array_equal(found.mask[found.box] > 0, laid)
    assert (other != laid).any()


class Beside(torch.nn.Module):
    """Sure of all that is bright in the T1ce, a voxel beside where it is."""

    def forward(self, x):
        return 20 * torch.roll(x[:, :1], 1, 2) - 10


def test_a_fine_network_is_scored_by_what_it_alone_says():
    """Neither edges nor border mend it, nor does the mirrored region: it is the one in training."""
    recipe = config()
    grid, image, ball = a_region(recipe)
    label = torch.from_numpy(ball[None].astype(np.uint8))
    shown = torch.from_numpy(np.stack([ball, 0 * image[1]]).astype(np.float16))
    case = Prepared("case", shown, label, (), shown, label, True, grid.affine)
    expected = dice(np.roll(ball, 1, 0), ball)
    assert 0.5 < expected < 0.99
    assert region_dice(Beside(), case, recipe, "cpu") == pytest.approx(expected)
    nothing = replace(case, region=0 * shown, region_label=0 * label)
    assert region_dice(Beside(), nothing, recipe, "cpu") == 1
