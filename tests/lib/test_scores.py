import numpy as np
import pytest

from clickseg.evaluation.scores import score
from clickseg.geometry import Grid

SHAPE = (23, 19, 13)
GRID = Grid(SHAPE, np.diag([0.5, 0.75, 2.0, 1.0]))  # a voxel is 0.75 cubic mm


def box(*sides):
    mask = np.zeros(SHAPE, np.uint8)
    mask[tuple(slice(*side) for side in sides)] = 1
    return mask


LABEL = box((5, 15), (5, 11), (3, 8))  # 10 x 6 x 5 voxels: 300, 0.225 ml


def test_a_mask_that_is_its_reference_has_no_error():
    scores = score(LABEL, LABEL, GRID)
    assert (scores.dice, scores.iou, scores.precision, scores.recall) == (1, 1, 1, 1)
    assert (scores.hd95_mm, scores.surface_dice) == (0, 1)
    assert (scores.volume_error_ml, scores.volume_error_share, scores.diameter_error_mm) == (0,) * 3


def test_a_mask_that_misses_two_slices():
    # 180 of 300 voxels: Dice 2 * 180 / 480, IoU 180 / 300.
    scores = score(box((5, 15), (5, 11), (3, 6)), LABEL, GRID)
    assert scores.dice == pytest.approx(0.75)
    assert scores.iou == pytest.approx(0.6)
    assert scores.precision == 1
    assert scores.recall == pytest.approx(0.6)
    assert scores.volume_error_ml == pytest.approx(-120 * 0.75 / 1000)
    assert scores.volume_error_share == pytest.approx(-0.4)
    assert scores.diameter_error_mm == pytest.approx(0)
    assert scores.hd95_mm == pytest.approx(4)  # two slices of 2 mm: more than 5 % of the surface


def test_errors_are_mask_minus_reference():
    scores = score(box((5, 17), (5, 11), (3, 8)), LABEL, GRID)
    assert scores.volume_error_ml == pytest.approx(60 * 0.75 / 1000)
    assert scores.diameter_error_mm == pytest.approx(np.hypot(6, 4.5) - np.hypot(5, 4.5))
    assert scores.precision == pytest.approx(300 / 360)


def test_a_surface_within_a_millimeter_agrees():
    assert score(box((5, 16), (5, 11), (3, 8)), LABEL, GRID).surface_dice == 1  # 0.5 mm larger
    assert score(box((5, 18), (5, 11), (3, 8)), LABEL, GRID).surface_dice < 1  # 1.5 mm


@pytest.mark.parametrize(
    ("shift", "differs_mm2"),
    [
        # One slice of 1.5 mm: of 10 x 10 mm the face that lies outside of the other box, what of
        # the face inside is farther than 1 mm from its sides, and half a mm of the sides.
        ((0, 0, 1), 10 * 10 + 8 * 8 + 0.5 * 4 * 10),
        # Three voxels of 0.5 mm: the same of 10 x 7.5 mm.
        ((3, 0, 0), 10 * 7.5 + 8 * 5.5 + 0.5 * 2 * (10 + 7.5)),
    ],
)
def test_surfaces_are_compared_by_their_area(shift, differs_mm2):
    grid = Grid((30, 30, 13), np.diag([0.5, 0.5, 1.5, 1.0]))
    label = np.zeros((30, 30, 13), np.uint8)
    label[5:25, 5:25, 4:9] = 1  # 10 x 10 x 7.5 mm
    shifted = score(np.roll(label, shift, (0, 1, 2)), label, grid)
    whole_mm2 = 2 * 10 * 10 + 4 * 10 * 7.5
    assert shifted.surface_dice == pytest.approx(1 - differs_mm2 / whole_mm2, abs=0.02)


def test_where_the_image_ends_the_surface_goes_on():
    whole = np.ones((7, 6, 5), np.uint8)
    half = whole.copy()
    half[4:] = 0
    alone = score(half, whole, Grid(whole.shape, GRID.affine))
    pred, label = (np.pad(mask, 3) for mask in (half, whole))
    assert score(pred, label, Grid(label.shape, GRID.affine)) == alone
    assert 0 < alone.surface_dice < 1


def test_spacing_counts_along_its_own_axis():
    along_i = score(box((6, 16), (5, 11), (3, 8)), LABEL, GRID).hd95_mm
    along_k = score(box((5, 15), (5, 11), (4, 9)), LABEL, GRID).hd95_mm
    assert (along_i, along_k) == (pytest.approx(0.5), pytest.approx(2))


@pytest.mark.parametrize(("pred", "label"), [(LABEL * 0, LABEL), (LABEL, LABEL * 0)])
def test_what_has_no_meaning_where_one_is_empty_is_none(pred, label):
    scores = score(pred, label, GRID)
    assert scores.dice == scores.iou == 0
    assert scores.hd95_mm is None
    assert scores.surface_dice == 0
    assert (scores.precision is None) == (not pred.any())
    assert (scores.recall is None) == (not label.any())


def test_two_empty_masks_agree():
    scores = score(LABEL * 0, LABEL * 0, GRID)
    assert scores.dice == scores.iou == scores.surface_dice == 1
    assert scores.volume_error_ml == 0
    assert scores.volume_error_share is None
