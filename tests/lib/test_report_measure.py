"""How large an outline is, and the error of half a layer of voxels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clickseg.geometry import Grid
from clickseg.report.measure import half_layer_ml, measure

GRID = Grid((23, 37, 31), np.diag([0.5, 0.4, 1.5, 1.0]))


def test_a_box_by_hand():
    mask = np.zeros(GRID.shape, np.uint8)
    mask[5:8, 10:15, 7:14] = 1  # 3 x 5 x 7 voxels of 0.3 mm3
    found = measure(mask, GRID)
    assert found.volume_ml == pytest.approx(105 * 0.3e-3)
    assert found.diameter_mm == pytest.approx(np.hypot(3 * 0.5, 5 * 0.4))
    # Outside touch 2 (15 + 21 + 35) = 142, outermost are 105 - 1 * 3 * 5 = 90; half of the mean.
    assert found.volume_error_ml == pytest.approx((142 + 90) / 4 * 0.3e-3)
    assert found.diameter_error_mm == pytest.approx(0.5)


def test_one_voxel_by_hand():
    mask = np.zeros((2, 3, 5), np.uint8)
    mask[0, 0, 0] = 1
    assert half_layer_ml(mask, 0.001) == pytest.approx((6 + 1) / 4 * 0.001)


def test_nothing_has_no_size_and_no_error():
    found = measure(np.zeros(GRID.shape, np.uint8), GRID)
    assert (found.volume_ml, found.diameter_mm) == (0, 0)
    assert (found.volume_error_ml, found.diameter_error_mm) == (0, 0)


def test_the_error_of_a_ball_is_near_that_of_its_surface():
    ijk = np.indices((61, 61, 61)) - 30
    ball = (ijk**2).sum(axis=0) <= 20**2
    # 4 pi r2 times half a voxel is 2513. Across a corner a layer is 1 / sqrt(3) as thick as
    # across a face, 0.83 as thick in the mean of all directions.
    assert half_layer_ml(ball, 1.0) == pytest.approx(0.83 * 2513, rel=0.01)


@given(arrays(np.uint8, (3, 5, 7), elements=st.integers(0, 1)))
def test_the_error_is_the_same_at_the_border_and_mirrored(mask):
    inside = np.pad(mask, 2)
    assert half_layer_ml(mask, 1.0) == half_layer_ml(inside, 1.0)
    assert half_layer_ml(mask[::-1].transpose(2, 0, 1), 1.0) == half_layer_ml(mask, 1.0)
