"""The command `clickseg picture`."""

import io

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from typer import Typer
from typer.testing import CliRunner

from clickseg.clicks import Click, voxels_of
from clickseg.commands import picture as module
from clickseg.correction import Correction
from clickseg.drawing import AFTER, draw_largest_slice
from clickseg.geometry import Grid
from clickseg.initial import Initial
from clickseg.models import Models
from clickseg.study import Study
from clickseg.volume import Volume, write_volume

PERMUTED = [[0, 0, 1.5, 11], [-0.4, 0, 0, 7], [0, 0.5, 0, 3], [0, 0, 0, 1]]
GRID = Grid((37, 31, 23), np.array(PERMUTED))  # canonical: 23, 37, 31
START = np.s_[5:10, 10:20, 7:9]

app = Typer()
app.command()(module.picture)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "300"})


def initial(study):
    mask = np.zeros(study.grid.canonical.shape, dtype=np.uint8)
    mask[START] = 1
    nothing = (slice(0, 0), slice(0, 0), slice(0, 0))
    return Initial(mask, np.zeros((0, 0, 0), np.float32), nothing, None)


def correction(study, start, clicks, memo=None, spent=None):  # noqa: ARG001  # echoes no passes
    mask = start.copy()
    voxels, is_foreground = voxels_of(clicks, study.grid.canonical)
    mask[tuple(voxels.T)] = is_foreground
    return Correction(mask, None, 3.0)


@pytest.fixture
def t1ce(tmp_path, monkeypatch):
    models = Models(initial, correction, {})
    monkeypatch.setattr(module, "load_models", lambda folder, device: models)  # noqa: ARG005
    return write(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(100, 20, GRID.shape))


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn, in place of the drawing."""
    calls = []
    monkeypatch.setattr(module, "draw_picture", lambda *arguments: calls.append(arguments))
    return calls


def write(path, array):
    return write_volume(path, Volume(array.astype(np.float32), GRID))


def reference(path, extra=()):
    canonical = np.zeros(GRID.canonical.shape)
    canonical[START] = 1
    for voxel in extra:
        canonical[voxel] = 1
    return write(path, GRID.to_stored(canonical))


def test_a_picture_has_a_row_a_sequence_and_is_as_wide_as_a_readme(t1ce, tmp_path):
    out = tmp_path / "new" / "a.png"
    assert run(t1ce, "--click", "20,14,6", "--out", out).exit_code == 0
    one_row = matplotlib.image.imread(out)
    write(tmp_path / "t2" / "a.nii.gz", np.random.default_rng(1).normal(100, 20, GRID.shape))
    result = run(t1ce, "--click", "20,14,6", "--background", "17,8,6", "--out", out)
    assert result.exit_code == 0, result.output
    two_rows = matplotlib.image.imread(out)
    assert one_row.shape[1] == two_rows.shape[1] == 990
    assert two_rows.shape[0] > 1.7 * one_row.shape[0]


def test_clicks_are_drawn_after_being_obeyed_and_a_foreground_click_is_the_last(
    t1ce, tmp_path, drawn
):
    points = ("--click", "20,14,6", "--click", "21,15,6", "--background", "17,8,6")
    assert run(t1ce, *points, "--out", tmp_path / "a.png").exit_code == 0
    _, _, outlines, clicks = drawn[0]
    assert [click.is_foreground for click in clicks] == [False, True, True]
    assert [click.voxel(GRID) for click in clicks] == [(17, 8, 6), (20, 14, 6), (21, 15, 6)]
    assert GRID.to_stored(outlines.after)[20, 14, 6] == 1
    assert outlines.before.sum() == 5 * 10 * 2
    assert outlines.label is None


def test_the_simulated_reader_clicks_until_nothing_is_wrong(t1ce, tmp_path, drawn):
    label = reference(tmp_path / "reference.nii.gz", extra=[(15, 25, 20), (2, 3, 4)])
    result = run(t1ce, "--label", label, "--clicks", 5, "--out", tmp_path / "a.png")
    assert result.exit_code == 0, result.output
    _, _, outlines, clicks = drawn[0]
    assert {click.voxel(GRID.canonical) for click in clicks} == {(15, 25, 20), (2, 3, 4)}
    np.testing.assert_array_equal(outlines.after, outlines.label)


def test_the_accepted_label_beside_the_study_is_the_reference(t1ce, tmp_path, drawn):
    reference(tmp_path / "labels" / "final" / "a.nii.gz", extra=[(2, 3, 4)])
    assert run(t1ce, "--out", tmp_path / "a.png").exit_code == 0
    assert drawn[0][3][0].voxel(GRID.canonical) == (2, 3, 4)


@pytest.mark.parametrize("is_empty", [True, False])
def test_an_empty_plane_has_no_outline_and_a_full_one_has_it_at_its_edge(t1ce, tmp_path, is_empty):
    empty = np.zeros(GRID.canonical.shape, dtype=np.uint8)
    mask = empty if is_empty else empty + np.uint8(1)
    study = module.Engine(module.load_models(tmp_path, "cpu")).study(t1ce)
    click = Click.at((0, 0, 0), True, GRID.canonical)
    module.draw_picture(tmp_path / "a.png", study, module.Outlines(mask, mask, None), (click,))
    picture = matplotlib.image.imread(tmp_path / "a.png")
    assert picture.shape[1] == 990
    outline = drawn_in(picture[picture.shape[0] // 8 :], AFTER)  # without the title
    assert outline.any() != is_empty


@pytest.mark.parametrize("shape", [(1, 40, 40), (40, 1, 40), (40, 40, 1), (1, 1, 40)])
def test_an_image_of_one_row_is_drawn(shape):
    mask = np.zeros(shape, dtype=np.uint8)
    mask[tuple(slice(0, min(n, 20)) for n in shape)] = 1
    image = np.random.default_rng(0).normal(0, 1, (2, *shape)).astype(np.float32)
    study = Study("a", image, Grid(shape, np.eye(4)), None)
    (png,) = draw_largest_slice(study, mask).values()
    assert drawn_in(matplotlib.image.imread(io.BytesIO(png)), AFTER).any()


def drawn_in(picture, color):
    """Tell which pixels have a color."""
    return np.abs(picture[..., :3] - to_rgb(color)).max(axis=-1) < 0.02


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "a.jpg", "--click", "1,2,3"), "--out is a .png file, got 'a.jpg'"),
        (("--out", "a.png"), "--click is needed, or --label for the simulated reader"),
    ],
)
def test_a_wrong_argument_is_told_in_one_sentence(t1ce, arguments, message):
    result = run(t1ce, *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_a_right_outline_leaves_nothing_to_click(t1ce, tmp_path):
    label = reference(tmp_path / "reference.nii.gz")
    result = run(t1ce, "--label", label, "--out", tmp_path / "a.png")
    assert result.exit_code == 2
    assert "there is nothing to click" in result.output
