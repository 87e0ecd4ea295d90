import numpy as np

from clickseg.guidance import draw_clicks

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
