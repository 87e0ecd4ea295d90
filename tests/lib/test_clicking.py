"""The one loop of simulated clicks gives what each of its users wrote out before."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import tiny

from clickseg.baselines.method import Answer
from clickseg.clicking import clicking
from clickseg.clicks import Click
from clickseg.correction.local import LocalCorrection
from clickseg.evaluation.reading import read
from clickseg.geometry import Grid
from clickseg.metrics import HARM, dice
from clickseg.reader import next_click
from clickseg.study import Study
from clickseg.training.local import click_scores, region_study
from clickseg.training.prepare import Prepared

SHAPE = (31, 29, 13)
GRID = Grid(SHAPE, np.diag([-0.5, 0.7, 1.5, 1.0])[[1, 0, 2, 3]])  # permuted and flipped
IMAGE = np.zeros((2, *GRID.canonical.shape), np.float32)
STUDY = Study("VS-3", IMAGE, GRID, None)


def blob(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros(GRID.canonical.shape, np.uint8)
    for _ in range(4):
        i, j, k = (int(rng.integers(4, n - 6)) for n in mask.shape)
        mask[i : i + 5, j : j + 6, k : k + 3] = 1
    return mask


def mended(label, start, clicks):
    """The start with the truth around each click, and a little harm beside it."""
    mask, grid = start.copy(), GRID.canonical
    for click in clicks:
        i, j, k = (slice(max(0, v - 2), v + 3) for v in click.voxel(grid))
        mask[i, j, k] = label[i, j, k]
        mask[i.start, j.start, k.start] ^= 1
    return mask


def written_out(label, start, count, robot="center", rng=None):
    """The loop as it stood in each place."""
    grid, mask, made, answers = GRID.canonical, start, (), []
    for _ in range(count):
        seen = [click.voxel(grid) for click in made]
        found = next_click(label, mask, grid.spacing_mm.tolist(), seen, robot, rng)
        if found is None:
            break
        made = (*made, Click.at(found[0], found[1], grid))
        mask = mended(label, start, made)
        answers.append((made, mask))
    return answers


@pytest.mark.parametrize("robot", ["center", "jitter", "border"])
@pytest.mark.parametrize("seed", [1, 2])
def test_clicks_and_masks_are_those_of_the_loop_written_out(robot, seed):
    label, start = blob(seed), blob(seed + 10)
    wanted = written_out(label, start, 9, robot, np.random.default_rng(seed))
    answers = clicking(
        label, start, GRID.canonical, lambda made: mended(label, start, made),
        robot, np.random.default_rng(seed),
    )  # fmt: skip
    got = list(itertools.islice(answers, 9))
    assert len(got) == len(wanted) == 9
    for (clicks, mask), (clicks_there, mask_there) in zip(got, wanted, strict=True):
        assert clicks == clicks_there
        assert np.array_equal(mask, mask_there)


def test_the_reader_stops_where_nothing_is_wrong():
    label = blob(3)
    assert list(clicking(label, label, GRID.canonical, lambda _: label)) == []
    # Clicks change nothing: each wrong voxel is clicked once, and no more are left.
    start = label.copy()
    start[3, 3, 3:5] ^= 1
    answers = list(clicking(label, start, GRID.canonical, lambda _: start))
    assert len(answers) == 2
    assert {click.voxel(GRID.canonical) for click in answers[-1][0]} == {(3, 3, 3), (3, 3, 4)}


@pytest.mark.parametrize("robot", ["center", "jitter"])
def test_a_reading_has_the_numbers_of_the_loop_written_out(robot):
    label, start = blob(5), blob(15)

    class Mender:
        def open(self, _study, start):
            self.start, self.drags = start, []
            return self

        def answer(self, clicks, drags_mm):
            self.drags.append(drags_mm)
            return Answer(mended(label, self.start, clicks), None)

    method = Mender()
    reading, first, last = read(method, STUDY, label, start, 6, robot, seed=4)
    rng = np.random.default_rng([4, *b"VS-3"])
    wanted = written_out(label, start, 6, robot, rng)
    assert first is start
    assert np.array_equal(last, wanted[-1][1])
    masks = [start, *(mask for _, mask in wanted)]
    assert [one.dice for one in reading.scores] == [dice(mask, label) for mask in masks]
    points = [{"point_ras": list(c.point_ras), "is_foreground": c.is_foreground}
              for c in wanted[-1][0]]  # fmt: skip
    assert list(reading.clicks) == points
    assert [len(drags) for drags in method.drags] == [1, 2, 3, 4, 5, 6]
    assert method.drags[-1][:5] == method.drags[-2]  # a drag is of the mask that was seen then


class Noise(torch.nn.Module):
    """Answers by the images alone, always the same."""

    def forward(self, x):
        return 3 * x[:, :1] - x[:, 1:2]


def test_click_scores_are_those_of_the_loop_written_out():
    shape, config = (32, 32, 12), replace(tiny().correction, spacing_mm=(0.5, 0.7, 1.5))
    rng = np.random.default_rng(2)
    region = torch.from_numpy(rng.normal(size=(2, *shape))).half()
    label, start = (torch.zeros(1, *shape, dtype=torch.uint8) for _ in range(2))
    label[:, 10:22, 10:22, 4:8] = 1
    start[:, 12:25, 8:20, 3:7] = 1
    case = Prepared("a", region, label, (), label, label, True, np.eye(4))
    correction = LocalCorrection(Noise(), config)
    got = click_scores(correction, [case], {"a": start}, config, clicks=4)

    study, truth, mask = region_study(case, config), label[0].numpy(), start[0].numpy()
    curve, made, harms = [dice(mask, truth)], [], []
    for _ in range(4):
        seen = [click.voxel(study.grid) for click in made]
        found = next_click(truth, mask, config.spacing_mm, seen)
        made.append(Click.at(found[0], found[1], study.grid))
        mask = correction(study, start[0].numpy(), tuple(made)).mask  # all passes anew
        harms.append(dice(mask, truth) < curve[-1] - HARM)
        curve.append(dice(mask, truth))
    wanted = {f"dice_after_{n}": round(float(value), 4) for n, value in enumerate(curve)}
    assert got == wanted | {"harm_rate": round(float(np.mean(harms)), 4)}
    assert len({*curve}) > 3
