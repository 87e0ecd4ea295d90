"""What the pass of a click changes: borders, and blobs (docs/method.md)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from told import FINE, MIDDLE_IJK, OURS, Told, answer, ball, overlap, told

from clickseg.clicks import Click
from clickseg.config import EdgesConfig
from clickseg.correction import LocalCorrection
from clickseg.correction.passes import make_pass
from clickseg.training.items import Item
from clickseg.training.local import take_turn
from clickseg.training.loop import Run

spoken = pytest.mark.parametrize(
    "spoken", [{}, {"likeness": OURS.likeness}], ids=["network alone", "likeness"]
)


def test_the_outline_of_a_click_is_laid_on_the_edge():
    tumor = np.zeros(FINE.shape, dtype=bool)
    tumor[25:36, 21:32, 6:11] = True
    study = told(2.0 * tumor, np.roll(tumor, 1, 0))
    np.testing.assert_array_equal(answer(study, 1.5), tumor)
    np.testing.assert_array_equal(answer(study, 1.5, border=None), np.roll(tumor, 1, 0))


def test_a_vessel_beside_the_tumor_stays_out_of_it():
    """What a rim of a voxel ties to the click is no error that a reader clicks there."""
    rim, vessel = np.zeros((2, *FINE.shape), bool)
    rim[30, 18:33, 8] = True
    vessel[28:34, 32:39, 7:10] = True
    study = told(2.0 * (rim | vessel), rim | vessel)
    for thick_mm, wanted in ((1.0, rim & ~vessel), (None, rim | vessel)):
        found = answer(study, 6.0, ((30, 20, 8), True), border=None, thick_mm=thick_mm)
        assert overlap(found, wanted) > 0.9, thick_mm


def test_a_click_on_what_shows_brings_all_of_it_where_the_network_is_in_doubt():
    tumor = ball(3.0)
    study = told(2.0 * tumor, np.zeros(FINE.shape))
    assert overlap(answer(study, 0.1), tumor) > 0.95
    assert answer(study, 0.1, border=None).sum() == 1


@pytest.mark.parametrize(("radius_mm", "side_ijk"), [(1.0, 2), (1.6, 3), (3.0, 6)])
def test_and_removes_all_of_it(radius_mm, side_ijk):
    """Of a small one at its side, too; in the middle all of it goes without a border as well."""
    wrong, side = ball(radius_mm), (MIDDLE_IJK[0] + side_ijk, *MIDDLE_IJK[1:])
    study = told(2.0 * wrong, wrong)
    for click in (MIDDLE_IJK, *([side] if radius_mm < 2 else [])):
        assert answer(study, 0.1, (click, False), start=wrong).sum() <= 0.05 * wrong.sum()
    left = answer(study, 0.1, (side, False), start=wrong, border=None)
    assert left.sum() == wrong.sum() - 1


def answer_of_one_that_sees_tumor(start, *clicks, says=None, **changes):
    """Of a network that sees tumor in the whole start mask, or in what it says."""
    study = told(2.0 * start, start if says is None else says)
    made = ((voxel, False) for voxel in clicks)
    return answer(study, 6.0, *made, start=start, **({"border": None} | changes))


AS_SHIPPED = {part: getattr(OURS, part) for part in ("border", "likeness")}
APART_IJK = (18, 26, 8)


@pytest.mark.parametrize("changes", [{}, AS_SHIPPED], ids=["no border", "as shipped"])
@pytest.mark.parametrize("radius_mm", [1.2, 2.0, 3.0, 4.5])
def test_a_blob_is_gone_once_a_background_click_is_in_its_middle(radius_mm, changes):
    """Not the one beside it, nor what a foreground click is in."""
    blob, other = ball(radius_mm, (41, 26, 8)), ball(2.5, APART_IJK)
    found = answer_of_one_that_sees_tumor(blob | other, (42, 26, 8), **changes)
    np.testing.assert_array_equal(found, other)
    study = told(np.zeros(FINE.shape), blob | other)
    kept = answer(study, 6.0, ((42, 26, 8), True), start=blob | other, border=None)
    np.testing.assert_array_equal(kept, blob | other)


def test_a_blob_is_gone_for_an_earlier_click_that_a_pass_sees_too():
    blob = ball(3.0)
    found = answer_of_one_that_sees_tumor(blob, MIDDLE_IJK, (34, 26, 8))
    assert not found.any()


@pytest.mark.parametrize("off_ijk", [4, 5, 6])
def test_a_click_at_its_side_takes_no_more_of_a_blob_than_the_network_does(off_ijk):
    blob, click = ball(3.0), (MIDDLE_IJK[0] + off_ijk, *MIDDLE_IJK[1:])
    wanted = blob.copy()
    wanted[click] = False
    np.testing.assert_array_equal(answer_of_one_that_sees_tumor(blob, click), wanted)


@pytest.mark.parametrize(("hole_mm", "radius_mm"), [(1.0, 4.5), (1.2, 3.0), (2.0, 3.0)])
def test_what_the_network_leaves_of_a_blob_stays_where_it_takes_more_than_the_click(
    hole_mm, radius_mm
):
    """A cyst in the middle of a tumor, say: the first has 13 of 995 voxels."""
    blob = ball(radius_mm)
    left = blob & ~ball(hole_mm)
    found = answer_of_one_that_sees_tumor(blob, MIDDLE_IJK, says=left)
    np.testing.assert_array_equal(found, left)


def test_of_two_lobes_one_does_not_go_with_the_other():
    lobes = ball(2.5, (24, 26, 8)) | ball(2.5, (34, 26, 8))
    found = answer_of_one_that_sees_tumor(lobes, (34, 26, 8))
    assert found.sum() == lobes.sum() - 1


def test_what_goes_on_beyond_the_pass_of_a_click_is_not_gone_as_a_whole():
    large = ball(9.0)
    assert answer_of_one_that_sees_tumor(large, MIDDLE_IJK).sum() == large.sum() - 1


@spoken
@pytest.mark.parametrize("kind", [True, False])
@pytest.mark.parametrize("apart_ijk", [2, 4, 8, 11, 13])
def test_what_is_beside_a_click_stays_with_it_when_the_next_one_is_made(kind, apart_ijk, spoken):
    """However sure of the other side the network is: two clicks are two of 13 voxels, or less."""
    other = (MIDDLE_IJK[0] + apart_ijk, *MIDDLE_IJK[1:])
    start = np.zeros(FINE.shape, dtype=bool) if kind else ball(9.0)
    beside = ball(0.85) | ball(0.85, other)
    study = told(np.zeros(FINE.shape), start)
    found = answer(study, 6.0, (MIDDLE_IJK, kind), (other, kind), start=start, **spoken)
    assert beside.sum() > 10
    np.testing.assert_array_equal(found[beside], kind)


@spoken
def test_a_later_click_takes_nothing_of_an_earlier_one(spoken):
    tumor, other = ball(1.6), (MIDDLE_IJK[0] + 8, *MIDDLE_IJK[1:])
    study = told(2.0 * tumor, np.zeros(FINE.shape))
    first = answer(study, 0.5, **spoken)
    both = answer(study, 0.5, (MIDDLE_IJK, True), (other, True), **spoken)
    assert overlap(first, tumor) > 0.9
    assert both[first].all()


def test_a_pass_keeps_what_is_beside_the_clicks_that_it_saw():
    seen, where = np.array([(22, 26, 8), MIDDLE_IJK]), tuple(slice(0, n) for n in FINE.shape)
    recipe = replace(OURS, likeness=None)
    start = np.zeros(FINE.shape, np.uint8)
    image = told(np.zeros(FINE.shape), np.zeros(FINE.shape)).image
    said = np.full(FINE.shape, -6.0, dtype=np.float32)
    made = make_pass(where, said, image, start, seen, True, FINE.spacing_mm, recipe)
    np.testing.assert_array_equal(made.votes > 0, ball(0.85) | ball(0.85, tuple(seen[0])))


def test_what_is_beside_a_click_is_kept_where_the_network_is_believed():
    tumor, (i, j, k) = ball(1.6), MIDDLE_IJK
    holed = tumor.copy()
    holed[i + 1, j, k] = False
    found = answer(told(np.zeros(FINE.shape), holed), 6.0)
    np.testing.assert_array_equal(found, tumor)


@pytest.mark.parametrize(("kind", "beyond"), [(True, 0), (False, 1)])
def test_what_does_not_look_like_a_click_is_left_to_the_border(kind, beyond):
    """At the last voxel before an edge, or the first behind it, nothing changes beyond it."""
    tumor = np.zeros(FINE.shape, dtype=bool)
    tumor[25:36, 21:32, 6:11] = True
    start = np.zeros(FINE.shape, dtype=bool) if kind else tumor
    found = answer(told(2.0 * tumor, tumor), 6.0, ((35 + beyond, 26, 8), kind), start=start)
    np.testing.assert_array_equal(found, tumor)


faint = pytest.mark.parametrize("contrast", [0.0, 0.3, 0.5])
sizes = pytest.mark.parametrize("radius_mm", [1.6, 2.0, 3.0, 4.0, 5.0])


@spoken
@faint
@sizes
def test_a_tumor_that_hardly_shows_is_not_lost_to_the_shortest_border(contrast, radius_mm, spoken):
    tumor = ball(radius_mm)
    assert overlap(answer(told(contrast * tumor, tumor), 6.0, **spoken), tumor) > 0.65


@spoken
@faint
@sizes
def test_nor_is_what_a_background_click_leaves_of_it(contrast, radius_mm, spoken):
    whole, left = ball(radius_mm), ball(radius_mm)
    left[: MIDDLE_IJK[0]] = False
    click = (MIDDLE_IJK[0] - 2, *MIDDLE_IJK[1:])
    found = answer(told(contrast * whole, left), 6.0, (click, False), start=whole, **spoken)
    assert overlap(found, left) > 0.65


@spoken
@pytest.mark.parametrize("contrast", [0.0, 0.3])
def test_nor_is_it_lost_beside_a_change_that_shows(contrast, spoken):
    bright, hardly = ball(3.0, (24, 26, 8)), ball(1.6, (36, 26, 8))
    study = told(2.0 * bright + contrast * hardly, bright | hardly)
    found = answer(study, 6.0, ((24, 26, 8), True), ((36, 26, 8), True), **spoken)
    assert (found & hardly).sum() > 0.65 * hardly.sum()


@spoken
def test_nor_is_a_lobe_of_one_that_shows(spoken):
    body, lobe = ball(4.0, (22, 26, 8)), ball(2.5, (34, 26, 8))
    study = told(2.0 * body, body | lobe)
    found = answer(study, 6.0, ((34, 26, 8), True), start=body, **spoken)
    assert (found & lobe).sum() > 0.65 * lobe.sum()


def test_nor_do_its_surroundings_become_tumor_where_the_network_hardly_tells_them_apart():
    tumor = ball(7.0)
    found = answer(told(np.zeros(FINE.shape), tumor), 6.0, outside=0.05)
    assert overlap(found, tumor) > 0.95


@pytest.mark.parametrize("is_given", [True, False])
def test_the_last_turn_of_an_item_lays_no_pass(tmp_path, is_given):
    tumor, start = ball(9.0).astype(np.uint8), np.zeros(FINE.shape, np.uint8)
    study = told(np.zeros(FINE.shape), ball(2.0))  # of which the network sees but a part
    item = Item(torch.from_numpy(study.image), start, tumor, start, "center", 3)
    if is_given:
        item.clicks, item.is_given = [(MIDDLE_IJK, True)], True
    run, rng = Run(tmp_path, "correction", seed=1), np.random.default_rng(1)
    for laid in (1, 2, 2):
        assert take_turn(Told(1.5), [item], OURS, run, rng) is not None
        assert len(item.passes) == laid


@pytest.mark.parametrize("edges", [None, EdgesConfig(weight=2.0, sigma=0.3, steps=9)])
@pytest.mark.parametrize("is_laid", [True, False])
def test_a_correction_learns_from_the_masks_that_readers_are_shown(tmp_path, is_laid, edges):
    tumor = ball(5.0)
    study, start = told(2.0 * tumor, np.roll(tumor, 1, 0)), ball(3.0, (24, 26, 8)).astype(np.uint8)
    recipe, network = OURS, Told(1.5)
    recipe = replace(recipe, edges=edges, border=recipe.border if is_laid else None)
    image, label = torch.from_numpy(study.image), tumor.astype(np.uint8)
    item = Item(image, start, label, start.copy(), "center", 3)
    run, rng = Run(tmp_path, "correction", seed=1), np.random.default_rng(1)
    for _ in range(2):
        assert take_turn(network, [item], recipe, run, rng) is not None
        made = tuple(Click.at(voxel, kind, FINE) for voxel, kind in item.clicks)
        used = LocalCorrection(network, recipe)(study, start, made).mask
        np.testing.assert_array_equal(item.current, used)
