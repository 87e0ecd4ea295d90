"""Outlines to masks: volumes by hand, planes that are not slices, any grid."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi
from scipy.spatial.transform import Rotation
from tcia import VS_SHAPES, ball, circle, mapped, needs_shapes

from clickseg.geometry import Grid
from clickseg.importing.solid import OutlineError, fill
from clickseg.outlines import planes_of, stack_outlines, stacked_volume_ml

SHAPE, SPACING = (59, 53, 23), (0.4, 0.5, 1.5)


def grid_of(kind="ras", shape=SHAPE, spacing=SPACING, center=(0.0, 0.0, 0.0)):
    """Return a grid around a center: straight, flipped, or with its axes permuted."""
    axes = {
        "ras": np.diag(spacing),
        "lps": np.diag(spacing) @ np.diag([-1, -1, 1]),
        "permuted": np.diag(spacing)[[2, 0, 1]],  # I to A, J to S, K to R
        "oblique": Rotation.from_euler("xyz", [11, 7, 5], degrees=True).as_matrix()
        @ np.diag(spacing),
    }[kind]
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = np.array(center) - axes @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def square(half_mm, height, center=(0.0, 0.0)):
    x, y = center
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    return np.array([[x + half_mm * a, y + half_mm * b, height] for a, b in corners], float)


def volume_ml(solid, grid):
    return solid.mask.sum() * grid.voxel_ml


def test_the_volume_of_a_stack_is_area_times_thickness():
    # Areas 100, 36, 64 at heights 0, 1, 4: the median step is 2, so edges lie at -1, 0.5, 2.5, 5:
    # 100 * 1.5 + 36 * 2 + 64 * 2.5 = 382 mm3.
    stack = [square(4, 4.0), square(5, 0.0), square(3, 1.0)]
    assert stacked_volume_ml(stack) == pytest.approx(0.382)
    # A hole of 4 mm a side takes 16 * 1.5 = 24 from it; one beside it adds 24 instead.
    assert stacked_volume_ml([*stack, square(2, 0.0)]) == pytest.approx(0.358)
    assert stacked_volume_ml([*stack, square(2, 0.0, (20, 0))]) == pytest.approx(0.406)
    # A plane alone is taken to be 1.5 mm thick.
    assert stacked_volume_ml([square(5, 7.0)]) == pytest.approx(0.15)


def test_outlines_of_almost_one_height_lie_in_one_plane():
    # 0.004 below and above where two decimals are rounded.
    planes = planes_of([square(4, 1.505), square(2, -1.0), square(3, 1.5049, (20, 0))])
    assert list(planes) == [-1.0, 1.5]
    assert [len(polygons) for polygons in planes.values()] == [1, 2]


def test_distances_within_and_between_planes():
    stack = stack_outlines([square(4, 0.0), square(6, 2.0)], margin_mm=3.0)
    at = tuple(((np.array([0.0, 0.0]) - stack.low_mm) / stack.fine_mm).round().astype(int))
    assert stack.at(0.0)[at] == pytest.approx(-4, abs=0.3)
    assert stack.at(1.0)[at] == pytest.approx(-5, abs=0.3)
    assert stack.at(9.0)[at] == pytest.approx(-6, abs=0.3)  # beyond the last plane it is that one


@pytest.mark.parametrize("kind", ["ras", "lps", "permuted", "oblique"])
def test_a_cylinder_is_where_it_was_drawn_on_every_grid(kind):
    # Radius 6 mm, 7 planes 1.5 mm apart: pi * 36 * 10.5 = 1187.5 mm3, around (2, -1, 0.7).
    outlines = [circle((2, -1, 0.7 + 1.5 * n), 6, 72) for n in range(-3, 4)]
    shape = (31, 29, 67) if kind == "permuted" else SHAPE
    spacing = (0.9, 1.1, 0.4) if kind == "permuted" else SPACING
    grid = grid_of(kind, shape, spacing)
    solid = fill(outlines, grid)
    assert not solid.is_cut
    assert solid.outlines_ml == pytest.approx(1.1875, rel=0.003)  # the circle is a polygon
    assert volume_ml(solid, grid) == pytest.approx(solid.outlines_ml, abs=grid.voxel_ml)
    points = mapped(grid.affine, np.argwhere(solid.mask))
    # Whole voxels cannot say it better than to half of one.
    np.testing.assert_allclose(points.mean(0), [2, -1, 0.7], atol=max(spacing) / 2)
    np.testing.assert_allclose(points[:, :2].mean(0), [2, -1], atol=0.1)
    from_axis = np.linalg.norm(points[:, :2] - [2, -1], axis=1)
    assert from_axis.max() < 6 + max(spacing) / 2
    assert np.abs(points[:, 2] - 0.7).max() < 5.25 + max(spacing) / 2
    # Every voxel that lies well inside is in it.
    everywhere = mapped(grid.affine, np.indices(shape).reshape(3, -1).T)
    deep = np.linalg.norm(everywhere[:, :2] - [2, -1], axis=1) < 6 - max(spacing)
    deep &= np.abs(everywhere[:, 2] - 0.7) < 5.25 - max(spacing)
    assert solid.mask.reshape(-1)[deep].all()


def test_tilted_planes_give_the_same_solid_turned():
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [25, -10, 40], degrees=True).as_matrix()
    turn[:3, 3] = [3, -5, 7]
    outlines = [circle((0, 0, 1.5 * n), 5) for n in range(-2, 3)]
    grid = grid_of(shape=(61, 67, 41), spacing=(0.5, 0.45, 0.7), center=(3, -5, 7))
    solid = fill([mapped(turn, points) for points in outlines], grid)
    points = mapped(np.linalg.inv(turn), mapped(grid.affine, np.argwhere(solid.mask)))
    assert volume_ml(solid, grid) == pytest.approx(np.pi * 25 * 7.5 / 1000, rel=0.02)
    assert np.linalg.norm(points[:, :2], axis=1).max() < 5.4
    assert np.abs(points[:, 2]).max() < 3.75 + 0.4


def test_a_hole_stays_and_two_parts_of_a_plane_stay_two():
    grid = grid_of(shape=(71, 53, 23))
    heights = [1.5 * n for n in range(-3, 4)]
    ring = fill([o for h in heights for o in (square(6, h), square(2, h))], grid)
    # (144 - 16) * 10.5 = 1344 mm3; the middle is empty.
    assert volume_ml(ring, grid) == pytest.approx(1.344, abs=grid.voxel_ml)
    assert not ring.mask[35, 26, 11]
    assert ring.mask[35 + 10, 26, 11]  # 4 mm to the right
    two = fill([o for h in heights for o in (square(3, h, (-7, 0)), square(3, h, (7, 0)))], grid)
    assert ndi.label(two.mask)[1] == 2
    assert volume_ml(two, grid) == pytest.approx(2 * 0.036 * 10.5, abs=grid.voxel_ml)


def test_a_plane_that_was_left_out_is_filled_from_its_neighbors():
    grid = grid_of()
    whole = [circle((0, 0, 1.5 * n), 6) for n in range(-3, 4)]
    holed = fill(whole[:2] + whole[3:], grid)
    assert (fill(whole, grid).mask != holed.mask).mean() < 1e-4
    assert np.flatnonzero(holed.mask.any((0, 1))).tolist() == list(range(8, 15))


def test_a_cone_shrinks_between_its_planes():
    # Two planes 6 mm apart with radii 6 and 2 mm; in the middle the radius is 4.
    grid = grid_of(spacing=(0.4, 0.4, 0.75), shape=(41, 43, 29))
    solid = fill([circle((0, 0, 3.0), 2, 72), circle((0, 0, -3.0), 6, 72)], grid)
    areas = solid.mask.sum((0, 1)) * 0.16
    heights = (np.arange(29) - 14) * 0.75
    assert areas[heights == 0] == pytest.approx(np.pi * 16, rel=0.15)
    inside = areas[np.abs(heights) <= 5.25]
    assert (np.diff(inside) <= 0).all()
    assert (areas[np.abs(heights) > 6.5] == 0).all()


def test_one_outline_alone_makes_a_slice():
    grid = grid_of()
    solid = fill([circle((0, 0, 0.2), 4)], grid)
    assert np.flatnonzero(solid.mask.any((0, 1))).tolist() == [11]
    assert volume_ml(solid, grid) == pytest.approx(np.pi * 16 * 1.5 / 1000, rel=0.02)


def test_outlines_that_leave_the_image_are_cut_there_and_said_to_be():
    grid = grid_of()
    # Half of it lies beyond the last slice, which ends at 11.5 * 1.5 = 17.25 mm.
    solid = fill([circle((0, 0, 16.5 + 1.5 * n), 4) for n in range(-2, 4)], grid)
    assert solid.is_cut
    assert volume_ml(solid, grid) == pytest.approx(solid.outlines_ml / 2, rel=0.05)


@pytest.mark.parametrize(
    ("outlines", "message"),
    [
        ([], "at least one outline was wanted"),
        ([circle((400, 0, 0), 4)], "outlines within the image were wanted"),
        ([np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])], "enclose an area were wanted"),
        ([circle((0, 0, 0), 4), circle((0, 0, 2), 4)[:, [0, 2, 1]]], "in parallel planes were"),
    ],
)
def test_what_cannot_be_filled_is_refused(outlines, message):
    with pytest.raises(OutlineError, match=message):
        fill(outlines, grid_of())


@settings(max_examples=12)
@given(
    radii=st.lists(st.floats(1.5, 7), min_size=1, max_size=6),
    step_mm=st.floats(0.8, 2.5),
    center=st.tuples(*[st.floats(-1.5, 1.5)] * 3),
    kind=st.sampled_from(["ras", "lps", "oblique"]),
)
def test_a_mask_has_the_volume_of_its_stack_and_holds_its_middle(radii, step_mm, center, kind):
    grid = grid_of(kind, shape=(53, 47, 29))
    heights = step_mm * (np.arange(len(radii)) - (len(radii) - 1) / 2)
    outlines = [
        circle((*center[:2], center[2] + h), radius)
        for h, radius in zip(heights, radii, strict=True)
    ]
    solid = fill(outlines, grid)
    if solid.is_cut:
        assert volume_ml(solid, grid) < solid.outlines_ml
    else:
        assert volume_ml(solid, grid) == pytest.approx(solid.outlines_ml, abs=grid.voxel_ml)
    assert set(np.unique(solid.mask)) == {0, 1}
    assert ndi.label(solid.mask, np.ones((3, 3, 3)))[1] == 1


def published_outlines():
    with gzip.open(VS_SHAPES / "contours.jsonl.gz", "rt") as file:
        for line in file:
            row = json.loads(line)
            yield row["subject"], [np.array(p) * [-1, -1, 1] for p in row["structures"]["tumour"]]


def check_published(outlines, off_mm):
    """Fill on voxels like those of the scans, whose slices lie ``off_mm`` from the planes."""
    points = np.concatenate(outlines)
    affine = np.diag([-0.41, -0.41, 1.5, 1.0])
    affine[:3, 3] = [
        points[:, 0].max() + 4,
        points[:, 1].max() + 4,
        points[:, 2].min() - 6 + off_mm,
    ]
    size_mm = np.ptp(points, axis=0) + np.array([8, 8, 12])
    grid = Grid(tuple(int(n) for n in np.ceil(size_mm / [0.41, 0.41, 1.5]) + 1), affine)
    solid = fill(outlines, grid)
    x_y = [points[:, :2] for points in outlines]
    areas = [abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2 for x, y in (p.T for p in x_y)]
    heights = np.unique([p[:, 2].mean().round(2) for p in outlines])
    # None of the published tumors has a hole, and their planes are evenly spaced.
    assert volume_ml(solid, grid) == pytest.approx(
        sum(areas) * np.median(np.diff(heights)) / 1000, rel=0.02
    )
    assert not solid.is_cut
    assert ndi.label(solid.mask, np.ones((3, 3, 3)))[1] == 1
    np.testing.assert_array_equal(ndi.binary_fill_holes(solid.mask), solid.mask)
    slices = np.flatnonzero(solid.mask.any((0, 1)))
    assert len(slices) == slices[-1] - slices[0] + 1


@needs_shapes
def test_every_tenth_published_tumor_gives_a_closed_mask_of_its_volume():
    for _, outlines in list(published_outlines())[::10]:
        check_published(outlines, 0.0)


@needs_shapes
@pytest.mark.slow
def test_all_published_tumors_give_closed_masks_of_their_volumes_between_their_planes():
    count = 0
    for number, (_, outlines) in enumerate(published_outlines()):
        check_published(outlines, 0.1 * (number % 15))
        count += 1
    assert count == 196


def test_a_ball_keeps_its_shape():
    grid = grid_of(shape=(61, 53, 23))
    solid = fill(ball((0.3, 0.2, 0.4), 6.0), grid)
    points = mapped(grid.affine, np.argwhere(solid.mask)) - [0.3, 0.2, 0.4]
    assert volume_ml(solid, grid) == pytest.approx(4 / 3 * np.pi * 0.216, rel=0.02)
    assert np.linalg.norm(points, axis=1).max() < 6.7
