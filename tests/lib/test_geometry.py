import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import aff2axcodes
from strategies import affines

from clickseg.geometry import Grid, ijk_to_ras, ras_to_ijk, spacing_mm, voxel_ml

SHAPE = (37, 31, 23)
PERMUTED = np.array([[0, 0, 1.5, 11], [-0.4, 0, 0, 7], [0, 0.5, 0, 3], [0, 0, 0, 1]])


def test_a_voxel_is_mapped_by_hand():
    # I runs along -A by 0.4, J along S by 0.5, K along R by 1.5.
    point = ijk_to_ras([[5, 7, 11]], PERMUTED)
    np.testing.assert_allclose(point, [[11 + 16.5, 7 - 2.0, 3 + 3.5]])
    np.testing.assert_allclose(ras_to_ijk(point, PERMUTED), [[5, 7, 11]])


def test_spacing_and_volume_follow_the_axes_of_the_array():
    np.testing.assert_allclose(spacing_mm(PERMUTED), [0.4, 0.5, 1.5])
    assert voxel_ml(PERMUTED) == pytest.approx(0.4 * 0.5 * 1.5 / 1000)


def test_no_points_are_mapped_to_none():
    assert ijk_to_ras(np.zeros((0, 3)), PERMUTED).shape == (0, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_points_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="must be finite"):
        ijk_to_ras([[1, 2, value]], PERMUTED)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5, 6), (3, 0, 5), ()])
def test_a_shape_that_is_none_is_refused(shape):
    with pytest.raises(ValueError, match="three axes"):
        Grid(shape, PERMUTED)


def test_an_affine_that_is_none_is_refused():
    with pytest.raises(ValueError, match="4x4 and finite"):
        Grid(SHAPE, np.eye(3))
    with pytest.raises(ValueError, match="4x4 and finite"):
        Grid(SHAPE, np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match="invertible"):
        Grid(SHAPE, np.diag([1.0, 0, 1, 1]))


def test_a_grid_keeps_its_own_affine():
    affine = PERMUTED.copy()
    grid = Grid(SHAPE, affine)
    affine[0, 3] = 99
    assert grid.affine[0, 3] == 11
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 3] = 5


def test_grids_are_equal_up_to_rounding():
    near, far = PERMUTED.copy(), PERMUTED.copy()
    near[0, 3] += 1e-6
    far[0, 3] += 1e-2
    assert Grid(SHAPE, PERMUTED) == Grid(SHAPE, near)
    assert Grid(SHAPE, PERMUTED) != Grid(SHAPE, far)
    assert Grid(SHAPE, PERMUTED) != Grid((37, 31, 24), PERMUTED)
    assert Grid(SHAPE, PERMUTED) != "grid"


@given(affines())
def test_canonical_axes_run_to_right_anterior_superior(affine):
    canonical = Grid(SHAPE, affine).canonical
    assert aff2axcodes(canonical.affine) == ("R", "A", "S")
    assert sorted(canonical.shape) == sorted(SHAPE)
    assert canonical.voxel_ml == pytest.approx(voxel_ml(affine))


@given(affines())
def test_stored_and_canonical_are_one_another_undone(affine):
    grid = Grid(SHAPE, affine)
    array = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    canonical = grid.to_canonical(array)
    np.testing.assert_array_equal(grid.to_stored(canonical), array)
    assert np.shares_memory(grid.to_stored(canonical), array)


@given(affines(), st.tuples(st.integers(0, 36), st.integers(0, 30), st.integers(0, 22)))
def test_a_voxel_stays_where_it_is_in_the_patient(affine, voxel):
    grid = Grid(SHAPE, affine)
    array = np.zeros(SHAPE)
    array[voxel] = 1
    there = np.argwhere(grid.to_canonical(array))
    np.testing.assert_allclose(
        ijk_to_ras(there, grid.canonical.affine), ijk_to_ras([voxel], affine), atol=1e-6
    )


def test_an_array_of_another_shape_is_refused():
    grid = Grid(SHAPE, PERMUTED)
    with pytest.raises(ValueError, match=r"shape \(37, 31, 23\) was wanted"):
        grid.to_canonical(np.zeros((23, 31, 37)))
    with pytest.raises(ValueError, match=r"shape \(23, 37, 31\) was wanted"):
        grid.to_stored(np.zeros(SHAPE))
