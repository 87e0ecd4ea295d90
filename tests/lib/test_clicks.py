import numpy as np
import pytest

from clickseg.clicks import MAX_CLICKS, Click, ClickError, read_clicks, voxels_of
from clickseg.geometry import Grid

SHAPE = (37, 31, 23)
AFFINES = {
    "ras": [[0.4, 0, 0, -7], [0, 0.5, 0, 3], [0, 0, 1.5, 11], [0, 0, 0, 1]],
    "lps": [[-0.4, 0, 0, 7], [0, -0.5, 0, -3], [0, 0, 1.5, 11], [0, 0, 0, 1]],
    "permuted": [[0, 0, 1.5, 11], [-0.4, 0, 0, 7], [0, 0.5, 0, 3], [0, 0, 0, 1]],
}
GRID = Grid(SHAPE, np.array(AFFINES["ras"]))


@pytest.fixture(params=AFFINES.values(), ids=AFFINES.keys())
def grid(request):
    return Grid(SHAPE, np.array(request.param))


def read(foreground=None, background=None, grid=GRID):
    voxels, is_foreground = voxels_of(read_clicks(foreground, background, grid), grid)
    return voxels.tolist(), is_foreground.tolist()


def test_a_click_is_a_point_in_the_patient(grid):
    (click,) = read_clicks([[5, 7, 11]], None, grid)
    assert click.is_foreground
    assert click.voxel(grid) == (5, 7, 11)
    canonical = np.zeros(grid.canonical.shape)
    canonical[click.voxel(grid.canonical)] = 1
    assert np.argwhere(grid.to_stored(canonical)).tolist() == [[5, 7, 11]]


def test_a_click_is_placed_by_hand():
    click = Click.at((5, 7, 11), False, GRID)
    np.testing.assert_allclose(click.point_ras, (-7 + 2.0, 3 + 3.5, 11 + 16.5))


def test_foreground_comes_first_and_each_kind_in_its_order():
    assert read([[3, 2, 1], [1, 2, 3]], [[0, 0, 0]]) == (
        [[3, 2, 1], [1, 2, 3], [0, 0, 0]],
        [True, True, False],
    )


@pytest.mark.parametrize("nothing", [None, [], ()])
def test_missing_lists_are_no_clicks(nothing):
    assert read_clicks(nothing, nothing, GRID) == ()
    assert voxels_of((), GRID)[0].shape == (0, 3)


def test_floats_are_rounded_and_one_voxel_outside_is_moved_to_the_border():
    assert read([[5.4, 6.6, 11.0], [-1, 31, 23], [-1.4, 0, 0]])[0] == [
        [5, 7, 11],
        [0, 30, 22],
        [0, 0, 0],
    ]


def test_a_voxel_counts_once_and_background_wins():
    assert read([[1, 2, 3], [1, 2, 3], [4, 5, 6]], [[4, 5, 6]]) == (
        [[1, 2, 3], [4, 5, 6]],
        [True, False],
    )


def test_two_equal_lists_are_background():
    points = [[1, 2, 3], [4, 5, 6]]
    assert read(points, points) == (points, [False, False])


@pytest.mark.parametrize(
    ("points", "text"),
    [
        ([[1, 2, 25]], "lies outside of the image, whose shape is"),
        ([[-2, 2, 3]], "lies outside"),
        ([[1, 2]], r"foreground must be a list of \[i, j, k\], got \[1, 2\]"),
        ([1, 2, 3], "got 1"),
        ("123", "got '123'"),
        ({"a": 1}, "must be a list"),
        ([[1, 2, "3"]], "with numbers"),
        ([[1, 2, None]], "with numbers"),
        ([[True, 2, 3]], "with numbers"),
        ([[1, 2, float("nan")]], "with finite numbers"),
        ([[1, 2, float("inf")]], "with finite numbers"),
        ([[1, 2, 1e300]], "lies outside"),
    ],
)
def test_what_is_no_click_is_refused(points, text):
    with pytest.raises(ClickError, match=text):
        read_clicks(points, None, GRID)


def test_a_huge_integer_is_refused():
    with pytest.raises(ClickError, match="with finite numbers"):
        read_clicks([[1, 2, 10**400]], None, GRID)


def test_clicks_are_capped():
    points = [[i, j, k] for i in range(11) for j in range(11) for k in range(11)]
    assert len(read_clicks(points[:MAX_CLICKS], [], GRID)) == MAX_CLICKS
    with pytest.raises(ClickError, match="1001 came"):
        read_clicks(points[:600], points[600:1001], GRID)
    with pytest.raises(ClickError, match="10001 came"):
        read_clicks([[1, 2, 3]] * 10_001, [], GRID)
