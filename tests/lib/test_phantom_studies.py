"""Whole phantom studies: what the images show, on which grids, and that they repeat."""

import numpy as np
import pytest
from scipy import ndimage as ndi

from clickseg.phantom import Outlines, make_phantom
from clickseg.phantom.contours import outline_lattice
from clickseg.phantom.make import _label, _place_tumor
from clickseg.phantom.scanner import MIXED, axial_grid, choose_grid
from clickseg.resampling import resample

SMALL = "101x89x23"


@pytest.fixture(scope="module")
def study():
    return make_phantom(0, 1, SMALL, t2_kind="same")


def middle_of(phantom):
    return phantom.label.array.astype(bool)


def test_the_same_arguments_make_the_same_voxels(study):
    again = make_phantom(0, 1, SMALL, t2_kind="same")
    for name in ("t1ce", "t2", "label"):
        first, second = getattr(study, name), getattr(again, name)
        np.testing.assert_array_equal(first.array, second.array)
        np.testing.assert_array_equal(first.grid.affine, second.grid.affine)


def test_another_seed_or_index_makes_another_study():
    first = make_phantom(0, 1, "48x40x8").t1ce.array
    assert (make_phantom(1, 1, "48x40x8").t1ce.array != first).any()
    assert (make_phantom(0, 2, "48x40x8").t1ce.array != first).any()


def test_a_study_has_the_types_shapes_and_orientation_of_a_scan(study):
    assert study.case_id == "phantom-0001"
    assert study.t1ce.array.shape == (101, 89, 23)
    assert study.t1ce.array.dtype == study.t2.array.dtype == np.int16
    assert study.label.array.dtype == np.uint8
    assert set(np.unique(study.label.array)) == {0, 1}
    assert study.label.grid == study.t1ce.grid == study.t2.grid
    # LPS: the first two axes run to the left and to the back.
    assert (np.sign(np.diag(study.t1ce.grid.affine)[:3]) == [-1, -1, 1]).all()
    assert study.t1ce.array.min() >= 0
    assert study.t1ce.array.max() <= 4095


def test_the_tumor_is_inside_the_image_about_the_middle_in_depth(study):
    where = np.argwhere(middle_of(study))
    assert (where.min(0) > 0).all()
    assert (where.max(0) < np.array(study.label.array.shape) - 1).all()
    assert 0.3 < where[:, 2].mean() / 23 < 0.7


def test_tumors_are_brighter_than_what_is_around_on_t1ce_and_darker_than_fluid_on_t2():
    ratios, shares = [], []
    for index in range(1, 6):
        phantom = make_phantom(3, index, "64x64x20", t2_kind="same")
        label = middle_of(phantom)
        near = ndi.binary_dilation(label, iterations=8) & ~ndi.binary_dilation(label, iterations=2)
        t1ce, t2 = phantom.t1ce.array, phantom.t2.array
        ratios.append(np.median(t1ce[label]) / np.median(t1ce[near]))
        shares.append(np.median(t2[label]) / np.percentile(t2, 99.5))
    assert np.median(ratios) > 1.3
    assert max(shares) < 0.95  # a cyst may fill most of one
    assert np.median(shares) < 0.75


def test_both_sides_occur_and_the_label_lies_on_the_stated_one():
    placed = [_place_tumor((5, index), None) for index in range(8)]
    sides = [side for *_, side in placed]
    assert {1.0, -1.0} == set(sides)
    for pose, _, lattice, side in placed:
        inside = lattice.origin_ras + lattice.spacing_mm * np.argwhere(lattice.values < 0)
        assert np.sign(pose.to_head(inside)[:, 0].mean()) == side


@pytest.mark.parametrize("kind", ["slab", "oblique"])
def test_the_t2_lies_on_another_grid_where_asked_and_shows_the_same_place(kind):
    same = make_phantom(0, 1, SMALL, t2_kind="same")
    other = make_phantom(0, 1, SMALL, t2_kind=kind)
    np.testing.assert_array_equal(other.label.array, same.label.array)
    assert other.t2.grid != other.t1ce.grid
    direction = other.t2.grid.affine[:3, :3] / other.t2.grid.spacing_mm
    is_straight = np.allclose(np.abs(direction), np.eye(3), atol=1e-6)
    assert is_straight == (kind == "slab")
    moved, covered = resample(other.t2, other.t1ce.grid)
    assert covered > 0.4
    seen = moved > 0
    assert np.corrcoef(moved[seen], same.t2.array[seen])[0, 1] > 0.8
    assert seen[middle_of(same)].mean() > 0.9


def box_outlines(side, half_mm=5.0):
    """Return outlines of a box: 2 half by 2 half in plane, 9 planes 1.5 mm apart; RAS."""
    x, y, z = 25.11 * side, -12.07, 70.0
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half_mm
    planes = tuple(
        np.column_stack([corners + np.array([x, y]), np.full(4, z + 1.5 * n)]) for n in range(9)
    )
    return Outlines("sub-box", "training", planes, None)


@pytest.mark.parametrize("side", [1, -1])
def test_outlines_become_a_label_of_their_volume_where_they_were_drawn(side):
    phantom = make_phantom(0, 0, "64x64x24", box_outlines(side))
    assert phantom.case_id == "VS-box"
    assert phantom.is_right == (side > 0)
    # 10 x 10 x 13.5 mm = 1.35 ml; voxels of 0.95 mm hit an edge of 10 mm to about 5 %.
    assert phantom.volume_ml == pytest.approx(1.35, rel=0.12)
    affine = phantom.label.grid.affine
    center = affine[:3, :3] @ np.argwhere(phantom.label.array).mean(0) + affine[:3, 3]
    np.testing.assert_allclose(center, [25.0 * side, -12, 76], atol=0.6)


def test_a_label_on_a_fine_grid_has_the_volume_of_its_outlines():
    grid = axial_grid((97, 89, 61), np.array([0.2, 0.25, 0.4]), np.array([25.0, -12, 76]))
    label = _label(grid, outline_lattice(box_outlines(1).tumor_ras))
    # 10 x 10 mm in 9 planes 1.5 mm apart: 1350 mm3; the ends are rounded off.
    assert label.sum() * grid.voxel_ml * 1000 == pytest.approx(1350, rel=0.06)
    # A plane in the middle: 100 mm2 in pixels of 0.05 mm2.
    assert label[:, :, 30].sum() * 0.05 == pytest.approx(100, rel=0.03)


def test_outlines_do_not_depend_on_the_index():
    outlines = box_outlines(1)
    first, second = (make_phantom(0, index, "48x40x8", outlines) for index in (0, 7))
    np.testing.assert_array_equal(first.t1ce.array, second.t1ce.array)


def test_the_mixture_draws_several_grids_mostly_those_of_the_public_data():
    shapes = [choose_grid(MIXED, np.random.default_rng(n))[0] for n in range(200)]
    assert len(set(shapes)) >= 4
    public = shapes.count((448, 448, 80)) + shapes.count((384, 384, 40))
    assert 0.5 < public / 200 < 0.7
    assert any(shape[2] < 30 for shape in shapes)  # thin slabs, as in sample-data


@pytest.mark.parametrize("grid", ["448", "448x448", "8x448x80", "448x448x2", "2000x448x80", "big"])
def test_a_grid_that_is_none_is_refused(grid):
    with pytest.raises(ValueError, match=f"a grid (is|has) .* got '?{grid}"):
        make_phantom(0, 1, grid)


def test_an_unknown_kind_of_t2_is_refused():
    with pytest.raises(ValueError, match="t2_kind is one of same, slab, oblique; got 'coronal'"):
        make_phantom(0, 1, SMALL, t2_kind="coronal")
