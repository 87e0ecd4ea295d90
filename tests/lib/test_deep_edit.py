"""DeepEdit: what its network sees, what it may change, and that training moves it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clickseg.baselines.deep_edit import DeepEdit, guided, points_by_label
from clickseg.baselines.recipe import RivalConfig
from clickseg.clicks import Click
from clickseg.config import load_recipe
from clickseg.geometry import Grid
from clickseg.networks import build_network
from clickseg.study import Study
from clickseg.training.deep_edit import Item, deep_edit_dice, train_deep_edit
from clickseg.training.loop import Run
from clickseg.training.prepare import Prepared

RECIPE = Path(__file__).parents[2] / "configs" / "rivals" / "deep_edit.yaml"
SHAPE = (71, 67, 29)
GRID = Grid(SHAPE, np.diag([0.5, 0.5, 1.5, 1.0]))


@pytest.fixture
def config():
    rival = load_recipe(RECIPE, RivalConfig).rival
    arguments = rival.network.arguments | {"filters": [4, 4, 8, 8]}
    length = {"epochs": 2, "steps_per_epoch": 20, "rate": 0.02, "bfloat16": False, "average": 0}
    return replace(
        rival,
        patch=(32, 32, 16),
        network=replace(rival.network, arguments=arguments),
        fit=replace(rival.fit, **length),
    )


class Says(torch.nn.Module):
    """Answers with one of the channels it sees."""

    def __init__(self, channel):
        super().__init__()
        self.channel = channel

    def forward(self, seen):
        return seen[:, self.channel : self.channel + 1] - 0.5


def test_both_sequences_stay_and_clicks_have_channels_of_their_own():
    image = torch.arange(2 * 13 * 11 * 7, dtype=torch.float32).reshape(2, 13, 11, 7)
    points = points_by_label(np.array([[3.2, 4.0, 5.0], [9.0, 8.6, 1.0]]), [True, False])
    assert points == {"tumor": [[3, 4, 5]], "background": [[9, 9, 1]]}
    seen = guided(image, points)
    assert seen.shape == (4, 13, 11, 7)
    torch.testing.assert_close(seen[:2], image)
    assert seen[2, 3, 4, 5] == seen[2].max() == 1
    assert seen[3, 9, 9, 1] == seen[3].max() == 1
    assert guided(image, points_by_label(np.zeros((0, 3)), []))[2:].abs().sum() == 0
    with torch.autocast("cpu", torch.bfloat16):  # as in a training step
        torch.testing.assert_close(guided(image, points), seen, rtol=0, atol=0)


def test_it_segments_around_the_start_mask_anew_and_leaves_the_rest(config):
    start = np.zeros(SHAPE, np.uint8)
    start[30:40, 30:38, 10:16] = 1
    image = np.zeros((2, *SHAPE), np.float32)
    image[0, 20:30, 30:38, 10:16] = 1
    study = Study("block", image, GRID, None)
    clicks = (Click.at((25, 34, 12), True, GRID), Click.at((35, 34, 12), False, GRID))
    method = DeepEdit(Says(0), config, "1")
    mask = method.open(study, start).answer(clicks, (0.0, 0.0)).mask
    np.testing.assert_array_equal(mask, image[0])  # what the network says, not what was there
    assert start[35, 34, 12] == 1
    clicked = DeepEdit(Says(2), config, "1").open(study, start).answer(clicks, (0.0, 0.0)).mask
    assert clicked[25, 34, 12] == 1  # the channel of tumor clicks shows the click there
    assert clicked[35, 34, 12] == 0
    assert method.initial(study).sum() == 0
    small = Study("block", image[:, :19, :23, :5], Grid((19, 23, 5), GRID.affine), None)
    near_edge = (Click.at((1, 2, 3), True, GRID),)
    assert method.open(small, None).answer(near_edge, (0.0,)).mask.shape == (19, 23, 5)


def test_it_looks_where_the_last_click_is_and_keeps_what_it_did_elsewhere(config):
    image = np.zeros((2, *SHAPE), np.float32)
    image[0, 5:12, 10:18, 5:9] = image[0, 58:66, 10:18, 5:9] = 1
    study = Study("two", image, GRID, None)
    session = DeepEdit(Says(0), config, "1").open(study, None)
    clicks = (Click.at((8, 14, 7), True, GRID), Click.at((62, 14, 7), True, GRID))
    first = session.answer(clicks[:1], (0.0,)).mask
    assert first[5:12].sum() == image[0, 5:12].sum()
    assert not first[58:].any()  # not seen
    np.testing.assert_array_equal(session.answer(clicks, (0.0, 0.0)).mask, image[0])
    # A click that is out of sight says nothing: MONAI would draw it at the edge.
    seen = DeepEdit(Says(2), config, "1").open(study, None)
    seen.answer(clicks[:1], (0.0,))
    both = seen.answer(clicks, (0.0, 0.0)).mask
    assert both[62, 14, 7] == 1
    assert not both[45:52].any()


def prepared(name, rows):
    label = np.zeros((1, 56, 52, 22), np.uint8)
    label[0, rows, 20:32, 8:15] = 1
    image = np.random.default_rng(len(name)).normal(0, 0.3, (2, 56, 52, 22)).astype(np.float32)
    image[0] += 3 * label[0]
    nothing = torch.zeros(1, 1, 1, 1)
    region, truth = torch.from_numpy(image).half(), torch.from_numpy(label)
    return Prepared(name, region, truth, (), nothing, nothing, True, np.eye(4))


def test_the_reader_clicks_in_what_is_missed_and_in_what_is_spurious():
    label = torch.zeros(1, 32, 32, 16)
    label[0, 5:15, 5:15, 4:10] = 1
    pred = torch.zeros(1, 32, 32, 16)
    pred[0, 20:28, 20:28, 4:10] = 1
    clicks = {"tumor": [], "background": []}
    for seed in range(6):  # it keeps one kind only, now and then
        item = Item(torch.zeros(2, 32, 32, 16), label, {"tumor": [], "background": []})
        item.click(pred, 1.0, np.random.default_rng(seed))
        for name, points in item.points.items():
            clicks[name] += points
    assert clicks["tumor"]
    assert all(label[(0, *point)] for point in clicks["tumor"])
    assert all(not label[(0, *point)] for point in clicks["background"])
    before = item.points
    item.click(pred, 0.0, np.random.default_rng(1))  # with probability 0 nothing is added
    assert item.points == before


def contrast(network, case):
    """How much higher logits are in the tumor than elsewhere, without clicks."""
    seen = guided(case.region[:, 12:44, 10:42, 3:19].float(), {"tumor": [], "background": []})
    inside = case.region_label[0, 12:44, 10:42, 3:19] > 0
    with torch.no_grad():
        logits = network.eval()(seen[None])[0, 0]
    return float(logits[inside].mean() - logits[~inside].mean())


def test_training_learns_a_bright_block(tmp_path, config):
    cases = [prepared("one", slice(20, 34)), prepared("three", slice(22, 36))]
    torch.manual_seed(3)
    network = build_network(config.network.name, config.network.arguments)
    before = contrast(network, cases[1])
    train_deep_edit(network, cases, cases[1:], config, Run(tmp_path, "rival", 2))
    assert contrast(network, cases[1]) > before + 1
    assert 0 <= deep_edit_dice(network, cases, config, "cpu", clicks=1) <= 1
