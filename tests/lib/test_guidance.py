import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clickseg.guidance import _around, draw_clicks

SIZE, SPACING = (17, 13, 7), (0.4, 0.5, 1.5)


def draw(points, kinds, radius_mm):
    return draw_clicks(
        np.array(points, float).reshape(-1, 3), np.array(kinds, bool), SIZE, SPACING, radius_mm
    )


def test_a_click_lights_its_own_voxel_in_the_channel_of_its_kind():
    maps = draw([[3, 5, 2], [11, 7, 4]], [True, False], 0.0)
    assert np.argwhere(maps).tolist() == [[0, 3, 5, 2], [1, 11, 7, 4]]


def test_the_ball_is_round_in_millimeters():
    lit = np.argwhere(draw([[8, 6, 3]], [True], 2.0)[0])
    assert (lit.max(0) - lit.min(0)).tolist() == [10, 8, 2]  # 2 * floor(2 mm / spacing)


def test_a_click_outside_draws_what_of_its_ball_lies_inside():
    assert draw([[-1, 6, 3]], [False], 1.0)[1, 0, 6, 3] == 1
    assert not draw([[-9, 6, 3]], [False], 1.0).any()


def test_no_clicks_give_empty_maps():
    assert not draw([], [], 2.0).any()


def directly(points, kinds, radius_mm):
    """Compare every voxel of the box with every click."""
    maps = np.zeros((2, *SIZE), dtype=np.float32)
    axes = np.meshgrid(*map(np.arange, SIZE), indexing="ij")
    for point, foreground in zip(points, kinds, strict=True):
        x, y, z = ((a - p) * s for a, p, s in zip(axes, point, SPACING, strict=True))
        lit = x**2 + y**2 + z**2 <= radius_mm**2
        nearest = tuple(np.rint(point).astype(int))
        if all(0 <= i < n for i, n in zip(nearest, SIZE, strict=True)):
            lit[nearest] = True
        maps[0 if foreground else 1][lit] = 1
    return maps


PLACE = st.tuples(*[st.floats(-30, 40) | st.integers(-30, 40)] * 3)


@given(st.lists(st.tuples(PLACE, st.booleans()), max_size=5), st.floats(0, 12))
def test_balls_are_those_of_the_formula_bit_for_bit(clicks, radius_mm):
    points, kinds = [place for place, _ in clicks], [kind for _, kind in clicks]
    expected = directly(points, kinds, radius_mm)
    np.testing.assert_array_equal(draw(points, kinds, radius_mm), expected)


def test_a_click_looks_at_the_surroundings_of_its_ball_alone():
    # 2 mm are four voxels, and the click lies up to half a voxel from the nearest one; the box,
    # whatever its size, is not looked at.
    assert _around((0.5, 0.5, 1.0), 2.0).shape == (11 * 11 * 7, 3)
