"""BIFSeg: what counts when the network learns one image, and that it learns that image alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets import DynUNet

from clickseg.baselines import bifseg
from clickseg.baselines.bifseg import CLICK_WEIGHT, Bifseg, _way_mm, weights, without_left_out
from clickseg.baselines.region import region_of
from clickseg.clicks import Click
from clickseg.config import load_config
from clickseg.geometry import Grid
from clickseg.initial import TwoStage
from clickseg.initial.two_stage import TwoStageNetwork
from clickseg.study import Study

CONFIGS = Path(__file__).parents[2] / "configs"
SHAPE = (59, 53, 19)
GRID = Grid(SHAPE, np.diag([0.5, 0.5, 1.5, 1.0]))


@pytest.fixture
def study():
    image = np.random.default_rng(4).normal(0, 0.1, (2, *SHAPE)).astype(np.float32)
    image[0, 20:40, 18:38, 6:13] += 3
    return Study("block", image, GRID, None)


@pytest.fixture(params=["default", "unfolded"])
def initial(request):
    config = load_config(CONFIGS / f"{request.param}.yaml").initial
    stages = {}
    for name in ("locate", "segment"):
        stage = getattr(config, name)
        levels = len(stage.network.arguments["strides"])
        small = stage.network.arguments | {"filters": [4, 4, 8, 8][-levels:]}
        stages[name] = replace(
            stage, patch=(32, 32, 16), network=replace(stage.network, arguments=small)
        )
    config = replace(config, **stages)
    torch.manual_seed(1)
    return TwoStage(TwoStageNetwork(config), config)


def click(voxel, is_foreground):
    return Click.at(voxel, is_foreground, GRID)


def test_doubt_and_nearby_clicks_of_the_other_kind_do_not_count(study):
    mask = np.zeros(SHAPE, np.uint8)
    mask[20:40, 18:38, 6:13] = 1
    clicks = (click((30, 28, 9), True), click((30, 12, 9), False))
    region = region_of(study, mask, clicks)
    found = region.mask > 0
    prob = np.where(found, 0.9, 0.1).astype(np.float32)
    i, j, k = region.voxels[0]
    prob[i - 8, j, k] = 0.5
    weight = weights(region, found, prob)
    assert weight[i, j, k] == CLICK_WEIGHT
    assert weight[i - 8, j, k] == 0  # in doubt
    assert weight[i + 6, j, k] == 1
    i, j, k = region.voxels[1]
    assert weight[i, j, k] == CLICK_WEIGHT
    assert weight[i - 6, j, k] == 1  # background, 3 mm from a background click
    found[i - 4 : i, j, k] = True  # tumor within 3 mm of it, which nothing separates from it
    assert weights(region, found, prob)[i - 4, j, k] == 0
    found[region.voxels[0][0] + 3, region.voxels[0][1], k] = False  # near a click on tumor
    prob[found] = 0.05  # the cut contradicts the network: that is what there is to learn
    contradicted = weights(region, found, prob)
    assert contradicted[region.voxels[0][0] + 6, region.voxels[0][1], k] == 1


def test_what_the_outline_left_out_stays_out_after_learning(study):
    mask = np.zeros(SHAPE, np.uint8)
    mask[20:30, 18:28, 6:13] = 1
    prob = np.full(SHAPE, 0.1, np.float32)
    outlined, clicked, left_out = (np.s_[i : i + 4, 20:24, 8:11] for i in (24, 36, 46))
    for part in (outlined, clicked, left_out):
        prob[part] = 0.9
    prob[37, 21, 9] = 0.4  # the click lies in a hole of what it means
    region = region_of(study, mask, (click((37, 21, 9), True), click((47, 21, 9), False)))
    kept = np.zeros(SHAPE, np.float32)
    kept[region.where] = without_left_out(prob[region.where], region)
    assert kept[outlined].min() == kept[36, 20, 8] == np.float32(0.9)
    np.testing.assert_allclose(kept[left_out], 0.1, atol=1e-6)


def test_an_edge_lengthens_the_way(study):
    region = region_of(study, np.ones(SHAPE, np.uint8), (click((30, 28, 9), True),))
    way_mm = _way_mm(region, region.voxels)
    i, j, k = region.voxels[0]
    assert way_mm[i, j, k] == 0
    assert 3.0 <= way_mm[i - 6, j, k] < 5.0  # 6 voxels of 0.5 mm in even noise
    assert way_mm[i - 14, j, k] > 7.0 + 2.0  # 14 voxels, and an edge of 3 between
    by_t2 = Study("t2", np.stack([study.image[0] * 0, study.image[0]]), GRID, None)
    t2_region = region_of(by_t2, np.ones(SHAPE, np.uint8), (click((30, 28, 9), True),))
    assert (_way_mm(t2_region, t2_region.voxels) == way_mm).all()
    flat = region_of(
        Study("flat", study.image[:, :, :, :1], Grid((*SHAPE[:2], 1), GRID.affine), None),
        np.ones((*SHAPE[:2], 1), np.uint8),
        (click((30, 28, 0), True),),
    )
    assert np.isfinite(_way_mm(flat, flat.voxels)).all()


def test_what_was_learned_changes_the_answer(study, initial, monkeypatch):
    start = np.zeros(SHAPE, np.uint8)
    start[22:40, 18:30, 6:13] = 1
    clicks = (click((30, 34, 9), True),)
    # In so clear a picture dear borders decide alone, whatever was learned.
    monkeypatch.setattr(bifseg, "CUT", replace(bifseg.CUT, weight=2.0, sigma=0.5))
    with_learning = Bifseg(initial, "1").open(study, start).answer(clicks, (5.0,)).mask
    monkeypatch.setattr(bifseg, "ROUNDS", 0)
    without = Bifseg(initial, "1").open(study, start).answer(clicks, (5.0,)).mask
    least = 50 if isinstance(initial.network.segment, DynUNet) else 10  # folded: 3 levels, not 4
    assert (with_learning != without).sum() > least


def test_what_the_network_says_follows_edges_as_the_initial_outline_does(study, initial):
    start = np.zeros(SHAPE, np.uint8)
    start[20:40, 18:38, 6:13] = 1
    region = region_of(study, start, (click((30, 28, 9), True),))
    before = np.full(region.mask.shape, 0.1, np.float32)
    assert initial.config.edges is not None
    rough = []  # how much the probability of neighbors in the block differs
    for edges in (None, initial.config.edges):
        initial.config = replace(initial.config, edges=edges)
        session = Bifseg(initial, "1").open(study, start)
        with torch.no_grad():
            for weight in session.network.parameters():
                weight *= 4  # of random weights: as wavering as a network can be
        prob = session._prob(session._box(region), region, before)
        i, j, k = (side.start for side in region.where)
        inside = prob[24 - i : 36 - i, 22 - j : 34 - j, 7 - k : 12 - k]
        rough.append(np.abs(np.diff(inside, axis=0)).mean())
    assert 0 < rough[1] < rough[0] / 2


def test_what_the_network_does_not_see_stays(initial):
    shape = (229, 53, 19)  # 114 mm: the network sees 16
    grid = Grid(shape, GRID.affine)
    image = np.random.default_rng(4).normal(0, 0.1, (2, *shape)).astype(np.float32)
    start = np.zeros(shape, np.uint8)
    for i in (20, 190):
        image[0, i : i + 20, 18:38, 6:13] += 3
        start[i : i + 20, 18:38, 6:13] = 1
    clicks = (Click.at((200, 28, 9), False, grid),)
    session = Bifseg(initial, "1").open(Study("two", image, grid, None), start)
    mask = session.answer(clicks, (3.0,)).mask
    assert mask[200, 28, 9] == 0
    assert (mask[:60] != start[:60]).mean() < 0.01


def test_one_image_is_learned_and_the_model_left_alone(study, initial):
    before = {key: value.clone() for key, value in initial.network.state_dict().items()}
    start = np.zeros(SHAPE, np.uint8)
    start[22:40, 18:30, 6:13] = 1
    clicks = (click((30, 34, 9), True), click((10, 10, 9), False))
    session = Bifseg(initial, "1").open(study, start)
    first = session.answer(clicks[:1], (5.0,)).mask
    second = session.answer(clicks, (5.0, 1.0)).mask
    assert first[30, 34, 9] == 1
    assert second[30, 34, 9] == 1
    assert second[10, 10, 9] == 0
    assert start.sum() == 18 * 12 * 7
    for key, value in initial.network.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    learned = session.network.state_dict()
    moved = {key for key in learned if not torch.equal(learned[key], before[f"segment.{key}"])}
    # The last layers alone; MONAI names the second of them twice.
    # So does the network of folded pixels, which has the other one in it.
    moved = {key.removeprefix("body.") for key in moved}
    names = {key.removeprefix("body.") for key in learned}
    highest = max(name for name in names if name.startswith("upsamples.")).split(".")[1]
    last = ("output_block.", f"upsamples.{highest}.", "skip_layers.upsample.")
    assert all(key.startswith(last) for key in moved)
    assert all(any(key.startswith(name) for key in moved) for name in last)
    assert "upsamples.0.transp_conv.conv.weight" in names
    assert highest != "0"
    again = Bifseg(initial, "1").open(study, start).answer(clicks[:1], (5.0,)).mask
    np.testing.assert_array_equal(first, again)
