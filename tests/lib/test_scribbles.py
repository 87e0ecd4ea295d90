import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickseg.clicks import MAX_CLICKS, Click, ClickError, voxels_of
from clickseg.geometry import Grid
from clickseg.scribbles import APART_MM, Scribbles, read_edit, thin
from clickseg.volume import ImageError, Volume, write_volume

SHAPE = (37, 31, 23)
SPACING = np.array([0.4, 0.5, 1.5])
AFFINES = {
    "ras": [[0.4, 0, 0, -7], [0, 0.5, 0, 3], [0, 0, 1.5, 11], [0, 0, 0, 1]],
    "lps": [[-0.4, 0, 0, 7], [0, -0.5, 0, -3], [0, 0, 1.5, 11], [0, 0, 0, 1]],
    "permuted": [[0, 0, 1.5, 11], [-0.4, 0, 0, 7], [0, 0.5, 0, 3], [0, 0, 0, 1]],
}
NAMES = [
    {"name": "tumor", "id": 1},
    {"name": "cyst", "id": 2},
    {"name": "background_scribbles", "id": 3},
    {"name": "foreground_scribbles", "id": 4},
]


@pytest.fixture(params=AFFINES.values(), ids=AFFINES.keys())
def grid(request):
    return Grid(SHAPE, np.array(request.param))


def nothing():
    return np.zeros(SHAPE, dtype=bool)


def test_a_scribble_without_voxels_has_no_points():
    assert thin(nothing(), SPACING).shape == (0, 3)


def test_a_dot_is_one_point():
    painted = nothing()
    painted[5, 7, 11] = True
    assert thin(painted, SPACING).tolist() == [[5, 7, 11]]


def test_a_line_of_12_mm_is_its_middle_and_both_ends():
    painted = nothing()
    painted[3:34, 7, 11] = True  # 31 voxels of 0.4 mm; the ends are 6 mm from the middle, 18
    middle, *ends = thin(painted, SPACING).tolist()
    assert middle == [18, 7, 11]
    assert sorted(ends) == [[3, 7, 11], [33, 7, 11]]


def test_parts_that_do_not_touch_have_their_own_points():
    painted = nothing()
    painted[5, 7, 11] = painted[7, 7, 11] = True
    painted[6, 20, 3] = painted[7, 21, 4] = True  # touch by a corner
    assert len(thin(painted, SPACING)) == 3


@given(st.integers(0, 2**32 - 1), st.floats(0.001, 0.3))
def test_points_lie_on_the_scribble_and_no_voxel_is_far_from_one(seed, share):
    painted = np.random.default_rng(seed).random((13, 11, 7)) < share
    points = thin(painted, SPACING)
    assert painted[tuple(points.T)].all()
    if painted.any():
        voxels = np.argwhere(painted)
        away_mm = np.linalg.norm((voxels[:, None] - points) * SPACING, axis=2).min(axis=1)
        assert away_mm.max() <= APART_MM


def test_too_many_dots_are_refused():
    grid = Grid((64, 64, 9), np.eye(4))
    painted = np.zeros(grid.shape, dtype=bool)
    painted[::2, ::2, 4] = True  # 32 x 32 = 1024 dots that do not touch
    scribbles = Scribbles(painted, np.zeros_like(painted))
    with pytest.raises(ClickError, match=f"stand for more than {MAX_CLICKS} clicks"):
        scribbles.clicks(grid)


def test_a_filled_volume_is_no_scribble():
    grid = Grid((100, 100, 21), np.eye(4))
    painted = np.ones(grid.shape, dtype=bool)
    scribbles = Scribbles(~painted, painted)
    with pytest.raises(ClickError, match="210000 voxels are scribbled, at most 200000 are taken"):
        scribbles.clicks(grid)


def test_a_click_on_a_scribble_moves_none_of_its_points(grid):
    painted = np.zeros(grid.canonical.shape, dtype=bool)
    painted[5, 3:30, 4] = True
    scribbles = Scribbles(painted, np.zeros_like(painted))
    points = scribbles.clicks(grid)
    assert len(points) > 2
    assert scribbles.clicks(grid, points[:1]) == points[1:]
    beside = Click.at((5, 4, 4), False, grid.canonical)
    assert scribbles.clicks(grid, (beside,)) == points


@pytest.mark.parametrize("value", [0.4, 0.6, 3e9, -3e9])
def test_values_that_no_segment_has_are_refused(tmp_path, value):
    grid = Grid(SHAPE, np.array(AFFINES["ras"]))
    array = np.zeros(SHAPE, np.float32)
    array[5, 7, 11] = value
    path = write_volume(tmp_path / "a.nrrd", Volume(array, grid))
    with pytest.raises(ImageError, match="has one whole number up to 16777216 a segment"):
        read_edit(path, grid, NAMES, "tumor")


@pytest.mark.parametrize(("name", "twice"), [("foreground_scribbles", 3), ("x", 4)])
def test_a_value_of_two_kinds_is_refused(tmp_path, grid, name, twice):
    names = [*NAMES, {"name": name, "id": twice}]
    with pytest.raises(ClickError, match=f"several have {twice}"):
        read_edit(labelmap(tmp_path, grid, TUMOR), grid, names, None)


def labelmap(tmp_path, grid, *painted):
    array = np.zeros(SHAPE, np.uint8)
    for box, value in painted:
        array[box] = value
    return write_volume(tmp_path / "a.nii.gz", Volume(array, grid))


TUMOR = (np.s_[5:9, 5:9, 5:9], 1)
CYST = (np.s_[20:22, 20:22, 20:22], 2)
AWAY = (np.s_[18, 7, 11], 3)
ADD = (np.s_[30, 8, 2], 4)


def stored(grid, canonical):
    return np.argwhere(grid.to_stored(canonical)).tolist()


def test_mask_and_scribbles_come_apart_by_name(tmp_path, grid):
    path = labelmap(tmp_path, grid, TUMOR, CYST, AWAY, ADD)
    mask, scribbles = read_edit(path, grid, NAMES, "tumor")
    assert mask.dtype == np.uint8
    assert mask.shape == grid.canonical.shape
    assert mask.sum() == 4**3
    assert stored(grid, scribbles.foreground) == [[30, 8, 2]]
    assert stored(grid, scribbles.background) == [[18, 7, 11]]
    voxels, is_foreground = voxels_of(scribbles.clicks(grid), grid)
    assert voxels.tolist() == [[30, 8, 2], [18, 7, 11]]
    assert is_foreground.tolist() == [True, False]
    scribbles.pin(mask)
    assert grid.to_stored(mask)[30, 8, 2] == 1


def test_without_a_chosen_segment_all_of_them_are_the_mask(tmp_path, grid):
    mask, _ = read_edit(labelmap(tmp_path, grid, TUMOR, CYST), grid, NAMES, None)
    assert mask.sum() == 4**3 + 2**3


def test_a_chosen_segment_that_is_empty_is_an_empty_mask(tmp_path, grid):
    mask, _ = read_edit(labelmap(tmp_path, grid, CYST), grid, NAMES, "tumor")
    assert not mask.any()


def test_places_count_where_there_are_no_numbers(tmp_path, grid):
    names = [{"name": segment["name"]} for segment in NAMES]
    mask, scribbles = read_edit(labelmap(tmp_path, grid, TUMOR, ADD), grid, names, "tumor")
    assert mask.sum() == 4**3
    assert scribbles.foreground.sum() == 1


def test_under_a_scribble_the_mask_goes_on_as_beside_it(tmp_path, grid):
    path = labelmap(
        tmp_path,
        grid,
        (np.s_[5:15, 5:15, 5:15], 1),
        (np.s_[7:9, 7:9, 8:10], 3),  # a background scribble inside of the tumor
        (np.s_[25:27, 20:22, 8:10], 4),  # a foreground scribble outside of it
    )
    mask, _ = read_edit(path, grid, NAMES, "tumor")
    assert grid.to_stored(mask)[5:15, 5:15, 5:15].all()
    assert mask.sum() == 10**3


def test_a_mask_of_nothing_but_scribbles_is_empty(tmp_path, grid):
    mask, _ = read_edit(labelmap(tmp_path, grid, (np.s_[:], 4)), grid, NAMES, "tumor")
    assert not mask.any()


def test_a_mask_on_another_grid_is_refused(tmp_path, grid):
    path = labelmap(tmp_path, Grid(SHAPE, np.diag([1.0, 1, 1, 1])), TUMOR)
    with pytest.raises(ImageError, match="the uploaded mask lies on another grid"):
        read_edit(path, grid, NAMES, "tumor")


@pytest.mark.parametrize("names", ["tumor", {"name": "a"}, [1], [{"id": 1}], [{"name": 2}]])
def test_segments_that_are_none_are_refused(tmp_path, grid, names):
    with pytest.raises(ClickError, match="label_info must be a list"):
        read_edit(labelmap(tmp_path, grid, TUMOR), grid, names, "tumor")


@pytest.mark.parametrize("chosen", ["vs", 5, ["x"], {"a": 1}, "foreground_scribbles"])
def test_a_chosen_segment_that_is_not_there_is_refused(tmp_path, grid, chosen):
    path = labelmap(tmp_path, grid, TUMOR)
    with pytest.raises(ClickError, match=r"selected_label_name must be one of .*'tumor'"):
        read_edit(path, grid, NAMES, chosen)
