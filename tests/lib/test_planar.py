"""The 2D click networks: what gets in, what is taken over, and that training moves them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clickseg.baselines.planar import (
    MAPS,
    Planar,
    PlanarNetwork,
    Slice,
    answer_slice,
    changed_near,
    draw_disks,
)
from clickseg.baselines.recipe import RivalConfig
from clickseg.clicks import Click
from clickseg.config import ConfigError, checked, load_recipe
from clickseg.geometry import Grid
from clickseg.networks.click_unet import Refiner
from clickseg.study import Study
from clickseg.training.augment import augmentation
from clickseg.training.loop import Run
from clickseg.training.planar import boundary_of, draw_item, planar_dice, train_planar
from clickseg.training.prepare import Prepared

RIVALS = Path(__file__).parents[2] / "configs" / "rivals"
RECIPES = [RIVALS / f"{m}_{d}.yaml" for m in ("ritm", "focal_click") for d in MAPS]


@pytest.fixture(params=RECIPES, ids=[path.stem for path in RECIPES])
def config(request):
    return load_recipe(request.param, RivalConfig).rival


def small(method="ritm", disks="static"):
    config = load_recipe(RIVALS / f"{method}_{disks}.yaml", RivalConfig).rival
    return replace(config, window=32, filters=(4, 4, 8, 8))


class Says(torch.nn.Module):
    """Answers with one of the channels it sees, as logits: an echo network."""

    def __init__(self, channel):
        super().__init__()
        self.channel = channel

    def forward(self, image, clicks):
        return torch.cat([image, clicks], 1)[:, self.channel : self.channel + 1] * 20 - 10


def network_that_says(config, channel):
    network = PlanarNetwork(config)
    network.coarse = Says(channel)
    return network


def test_disks_hold_what_is_near_and_the_nearest_pixel():
    points = np.array([[3.0, 5.0], [20.4, 7.6], [-2.0, 30.0]])
    drawn = draw_disks(points, [True, False, True], [2.0, 0.3, 3.0], small()).numpy()
    i, j = np.indices((32, 32))
    disk = (i - 3) ** 2 + (j - 5) ** 2 <= 4
    beyond = (i == 0) & (abs(j - 30) <= 2) | (i == 1) & (j == 30)  # of 3 pixels, 2 lie outside
    assert (drawn[0] == (disk | beyond)).all()
    assert np.argwhere(drawn[1]).tolist() == [[20, 8]]  # within 0.3 of no pixel


def test_a_disk_may_be_much_larger_than_the_window():
    """In balls of that many voxels the memory of a machine would not hold."""
    drawn = draw_disks(np.array([[500.0, 500.0]]), [True], [700.0], small()).numpy()
    i, j = np.indices((32, 32))
    assert (drawn[0] == ((i - 500) ** 2 + (j - 500) ** 2 <= 490_000)).all()
    assert 0 < drawn[0].sum() < 32 * 32
    assert not drawn[1].any()


def part_of(mask, points=(), kinds=(), drags=(), image=None):
    if image is None:
        image = torch.zeros(2, *mask.shape, 1)
    return Slice(image, mask, (0.5, 0.7), list(points), list(kinds), list(drags))


def block(shape=(83, 61), rows=slice(30, 50), columns=slice(20, 34)):
    mask = np.zeros(shape, np.uint8)
    mask[rows, columns] = 1
    return mask


def test_the_window_holds_mask_and_clicks_and_the_margin():
    part = part_of(block(), [(60, 25)], [True], [0.0])
    box = part.window(small())
    # Rows 30 to 60: 31 of 0.5 mm, columns 20 to 33: 14 of 0.7 mm. 1.4 times the longer, but 48 mm.
    assert box.step[0] * 0.5 == pytest.approx(48.0 / 32)
    assert box.step[1] * 0.7 == pytest.approx(48.0 / 32)
    assert box.center_ijk[:2] == (45.0, 26.5)
    wide = part_of(block(rows=slice(2, 80)), [(60, 25)], [True], [0.0]).window(small())
    assert wide.step[0] * 0.5 == pytest.approx(1.4 * 78 * 0.5 / 32)


def test_the_window_holds_what_was_dragged_where_that_is_seen():
    nothing = np.zeros((83, 61), np.uint8)
    part = part_of(nothing, [(40, 30)], [True], [20.0])
    assert part.window(small(disks="static")).step[0] * 0.5 == pytest.approx(48.0 / 32)
    for disks in ("dynamic", "joined"):
        side_mm = 1.4 * (40.0 + 0.7)  # a pixel of 0.7 mm and 20 mm to either side
        assert part.window(small(disks=disks)).step[0] * 0.5 == pytest.approx(side_mm / 32)


def test_what_changed_is_looked_at_in_a_smaller_window():
    changed = block(rows=slice(30, 40), columns=slice(20, 24)) > 0
    part = part_of(block(), [(32, 22)], [True], [0.0])
    config = small("focal_click")
    focus = part.focus(changed, config)
    assert focus.step[0] * 0.5 == pytest.approx(16.0 / 32)
    assert focus.center_ijk[:2] == (34.5, 21.5)
    assert focus.step[0] < part.window(config).step[0] / 2


def test_a_change_near_the_click_is_taken_and_one_far_away_is_not():
    before = np.zeros((31, 29), np.uint8)
    after = np.zeros((31, 29), bool)
    after[10:14, 10:14] = True
    after[20:22, 20:22] = True
    assert changed_near(before, after, (11, 11)).sum() == 16
    assert changed_near(before, after, (16, 13)).sum() == 16  # three pixels below
    assert (
        changed_near(before, after, (17, 17)).sum() == 4
    )  # three from this one, four from the other
    assert changed_near(before, after, (0, 28)) is None
    assert changed_near(before, before > 0, (0, 0)) is None


def test_the_second_network_decides_at_the_boundary_only():
    refiner = Refiner(3, 4)
    torch.nn.init.zeros_(refiner.heads.weight)
    image, clicks, coarse = torch.zeros(1, 2, 8, 8), torch.zeros(1, 3, 8, 8), torch.ones(1, 1, 8, 8)
    for boundary, wanted in ((30.0, 5.0), (-30.0, 1.0), (0.0, 3.0)):
        refiner.heads.bias.data = torch.tensor([5.0, boundary])
        logits, edge = refiner(image, clicks, coarse)
        torch.testing.assert_close(logits, torch.full((1, 1, 8, 8), wanted))
        assert edge.unique().item() == boundary


def test_the_boundary_lies_on_both_sides_of_the_outline():
    truth = torch.zeros(1, 1, 13, 11)
    truth[..., 4:, :] = 1
    edge = boundary_of(truth)[0, 0, :, 5]
    assert edge.tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]


def test_clicks_and_mask_reach_the_network(config):
    part = part_of(block(), [(60, 25), (35, 25)], [True, False], [6.0, 0.0])
    box = part.window(config)
    maps = part.clicks(box, config)
    assert maps.shape == (MAPS[config.disks] + 1, 96, 96)
    pixel_mm = box.step[0] * 0.5
    foreground, background, mask = maps[0], maps[1], maps[-1]
    at = (np.array((60, 25)) - box.center_ijk[:2]) / box.step[:2] + 48
    assert foreground[tuple(np.rint(at).astype(int))] == 1
    radius_px = 3.0 if config.disks in ("static", "joined") else 6.0 / pixel_mm
    distance_px = np.hypot(*(np.indices((96, 96)).T - at).T)
    assert int(foreground.sum()) == pytest.approx(int((distance_px <= radius_px).sum()), abs=2)
    assert background.sum() > 0  # a drag of nothing is still a disk
    assert mask.sum() * pixel_mm**2 == pytest.approx(20 * 14 * 0.35, rel=0.1)
    if config.disks == "joined":
        assert maps[2].sum() > 3 * foreground.sum()


def test_the_slice_beyond_the_window_is_kept():
    mask = block()
    mask[80:, 58:] = 1  # far from the click, but in the mask: the window would hold it
    part = part_of(np.zeros_like(mask), [(40, 27)], [True], [0.0])
    config = replace(small(), smallest_mm=16.0)
    box = part.window(config)
    nothing = network_that_says(config, 0)  # the image is empty: it says background everywhere
    part.mask = mask.copy()
    part.window = lambda *_: box
    after = answer_slice(nothing, part, config)
    assert after[80:, 58:].all()
    assert not after[38:43, 25:30].any()


class Leans(torch.nn.Module):
    """Says tumor at a foreground click, and the more of it the farther to one side."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, _image, clicks):
        self.seen.append(clicks)
        return clicks[:, :1] * 20 - 10 + torch.linspace(-18, 18, clicks.shape[2])[:, None]


def test_ritm_answers_from_both_sides():
    config = small()
    network = PlanarNetwork(config)
    network.coarse = leans = Leans()
    part = part_of(block(), [(60, 25), (35, 12)], [True, True], [0.0, 0.0])
    after = answer_slice(network, part, config)
    once, mirrored = leans.seen
    assert torch.equal(mirrored, once.flip(2))
    where, disks = part.put(once[0, :1] * 20 - 10, part.window(config))  # what does not lean
    assert (after[where] == (disks > 0)).all()
    assert (disks > 0).any()


def test_focal_click_looks_once():
    config = small("focal_click")
    network = PlanarNetwork(config)
    network.coarse = leans = Leans()
    answer_slice(network, part_of(block(), [(60, 25)], [True], [0.0]), config)
    assert len(leans.seen) == 1


@pytest.mark.parametrize("point", [(40, 27), (10, 10)])
def test_a_click_that_is_ignored_changes_nothing_with_focal_click(point):
    config = small("focal_click")
    echo = network_that_says(config, 2 + MAPS["static"])  # the previous mask
    part = part_of(block(), [point], [point == (10, 10)], [0.0])
    np.testing.assert_array_equal(answer_slice(echo, part, config), part.mask)


def test_focal_click_takes_over_the_part_that_holds_the_click_and_no_other():
    config = small("focal_click")

    class Coarse(torch.nn.Module):
        def forward(self, _image, _clicks, coarse):
            return coarse, coarse

    network = network_that_says(config, 0)  # what the T1ce shows
    network.refine = Coarse()
    image = torch.zeros(2, 83, 61, 1)
    image[0, 30:50, 20:34] = 1  # the tumor, as it is segmented,
    image[0, 55:65, 20:30] = 1  # a missed part with the click,
    image[0, 34:40, 40:46] = 1  # and another without
    part = part_of(block(), [(60, 25)], [True], [0.0], image)
    after = answer_slice(network, part, config)
    assert after[57:63, 22:28].all()
    assert not after[34:40, 41:45].any()
    assert after[32:48, 22:32].all()


def study_of(mask3d):
    rng = np.random.default_rng(3)
    grid = Grid(mask3d.shape, np.diag([0.5, 0.5, 1.5, 1.0]))
    image = rng.normal(0, 0.2, (2, *mask3d.shape)).astype(np.float32)
    image[0] += 2 * mask3d
    return Study("block", image, grid, None)


def test_a_click_mends_its_slice_and_leaves_the_start_mask_alone(config):
    mask = np.zeros((83, 61, 7), np.uint8)
    mask[30:50, 20:34, 2:6] = 1
    study, start = study_of(mask), np.zeros_like(mask)
    torch.manual_seed(0)
    method = Planar(PlanarNetwork(config), config, "1")
    session = method.open(study, start)
    clicks = tuple(Click.at(v, True, study.grid) for v in ((40, 27, 3), (41, 28, 3), (40, 27, 5)))
    for count in (1, 2, 3):
        answer = session.answer(clicks[:count], (4.0,) * count)
    changed = np.flatnonzero(answer.mask.any(axis=(0, 1)))
    assert set(changed) <= {3, 5}
    assert not start.any()
    assert method.initial(study).sum() == 0


def test_an_unknown_key_is_an_error():
    values = {"name": "x", "seed": 1, "split": {"patient": ".", "validation": 0.1}, "rival": {}}
    with pytest.raises(ConfigError, match="method"):
        checked(values, RivalConfig)


def prepared(name, rows):
    """A case whose T1ce shows a bright block in 5 of 11 slices."""
    label = np.zeros((1, 72, 64, 11), np.uint8)
    label[0, rows, 22:40, 3:8] = 1
    rng = np.random.default_rng(len(name))
    image = rng.normal(0, 0.3, (2, 72, 64, 11)).astype(np.float32)
    image[0] += 3 * label[0]
    nothing = torch.zeros(1, 1, 1, 1)
    region, truth = torch.from_numpy(image).half(), torch.from_numpy(label)
    return Prepared(name, region, truth, (), nothing, nothing, True, np.eye(4))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_faulty_mask_is_the_real_one_where_there_is_one(share):
    config = replace(small(), start=1.0, real=share)
    case = prepared("one", slice(24, 44))
    real = torch.zeros_like(case.region_label)
    real[:, 40:56, 4:18] = 1  # far from what a deformed outline could be
    for seed in range(12):
        rng = np.random.default_rng(seed)
        transform = augmentation((72, 64, 3), (0, 0, 0), (14, 14, 3))
        item = draw_item(case, real, transform, (0.5, 0.5), config, rng)
        overlap = (item.part.mask & item.label).sum() / item.part.mask.sum()
        assert (overlap < 0.5) == (share == 1.0)


def test_where_the_real_mask_is_right_an_error_is_simulated():
    config = replace(small(), start=1.0, real=1.0)
    case = prepared("one", slice(24, 44))
    transform = augmentation((72, 64, 3), (0, 0, 0), (14, 14, 3))
    for seed in range(12):
        rng = np.random.default_rng(seed)
        item = draw_item(case, case.region_label, transform, (0.5, 0.5), config, rng)
        assert (item.part.mask != item.label).any()


@pytest.mark.parametrize("method", ["ritm", "focal_click"])
@pytest.mark.parametrize("disks", ["static", "dynamic"])
def test_training_learns_a_bright_block(tmp_path, method, disks):
    config = small(method, disks)
    length = {"epochs": 2, "steps_per_epoch": 12, "batch": 4, "rate": 0.01}
    fit = replace(config.fit, **length, bfloat16=False, average=0)
    config = replace(config, fit=fit, smallest_mm=24.0)
    cases = [prepared("one", slice(24, 44)), prepared("three", slice(20, 38))]
    torch.manual_seed(2)
    network = PlanarNetwork(config)
    before = planar_dice(network.eval(), cases[1:], (0.5, 0.5), config, clicks=2)
    train_planar(network, cases, [], (0.5, 0.5), config, Run(tmp_path, "rival", 2))
    after = planar_dice(network.eval(), cases[1:], (0.5, 0.5), config, clicks=2)
    assert after > before + 0.25
