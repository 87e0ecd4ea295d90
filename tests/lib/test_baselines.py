"""Each classical method on a bright ball in gray noise, whose every voxel is known."""

import numpy as np
import pytest

from clickseg.baselines.active_contour import ContourSettings, active_contour
from clickseg.baselines.flooding import flooding
from clickseg.baselines.graph_cut import DRAGGED, CutSettings, GraphCut
from clickseg.baselines.random_walker import RandomWalker
from clickseg.baselines.region import region_of
from clickseg.boxes import bounding_box
from clickseg.clicks import Click
from clickseg.drags import drag_mm, drag_range_mm
from clickseg.geometry import Grid
from clickseg.initial import Initial
from clickseg.metrics import dice
from clickseg.study import Study

SHAPE = (61, 53, 23)
SPACING_MM = (0.5, 0.5, 1.5)
CENTER = (28, 25, 11)
GRID = Grid(SHAPE, np.diag([*SPACING_MM, 1.0]))


def ball(center=CENTER, radius_mm=7.0):
    offsets = (np.indices(SHAPE).T - center) * SPACING_MM
    return (radius_mm >= np.linalg.norm(offsets, axis=-1).T).astype(np.uint8)


TUMOR = ball()


@pytest.fixture
def study():
    rng = np.random.default_rng(5)
    image = rng.normal(0, 0.15, (2, *SHAPE)).astype(np.float32)
    image[0] += 3 * TUMOR
    image[1] -= TUMOR
    return Study("ball", image, GRID, None)


def graph_cut(mask=TUMOR, settings=None):
    prob = (0.6 * mask + 0.2).astype(np.float32)  # says little, but no nonsense
    everywhere = tuple(slice(0, n) for n in SHAPE)
    return GraphCut(lambda _: Initial(mask, prob, everywhere, None), "1", settings)


METHODS = {
    "random_walker": RandomWalker,
    "flooding": flooding,
    "active_contour": active_contour,
    "graph_cut": lambda: graph_cut(settings=CutSettings(doubt_mm=4.0)),  # as wide as this tumor
    "graph_cut_drags": lambda: graph_cut(settings=DRAGGED),
}


@pytest.fixture(params=METHODS.values(), ids=METHODS.keys())
def method(request):
    return request.param()


def click(voxel, is_foreground):
    return Click.at(voxel, is_foreground, GRID)


def half():
    start = TUMOR.copy()
    start[28:] = 0
    return start


def with_a_leak():
    return np.maximum(TUMOR, ball((44, 25, 11), 5.0))


@pytest.mark.parametrize(
    ("start", "voxel", "is_foreground"),
    [(half(), (35, 25, 11), True), (with_a_leak(), (47, 25, 11), False)],
    ids=["half is missing", "a leak"],
)
def test_a_click_mends_an_error_that_the_image_shows(study, method, start, voxel, is_foreground):
    drag = drag_mm(TUMOR, start, SPACING_MM, voxel)
    kept = start.copy()
    answer = method.open(study, start).answer((click(voxel, is_foreground),), (drag,))
    assert dice(answer.mask, TUMOR) > dice(start, TUMOR) + 0.03
    assert answer.mask[voxel] == is_foreground
    assert answer.mask.dtype == np.uint8
    assert (start == kept).all()


def test_every_click_is_obeyed_also_where_both_kinds_are_neighbors(study, method):
    session = method.open(study, half())
    clicks, drags = (), ()
    for voxel, kind in (((35, 25, 11), True), ((36, 25, 11), False), ((20, 25, 11), False)):
        clicks, drags = (*clicks, click(voxel, kind)), (*drags, 2.0)
        mask = session.answer(clicks, drags).mask
        assert [mask[c.voxel(GRID)] for c in clicks] == [c.is_foreground for c in clicks]


def test_random_walker_obeys_a_click_whose_voxel_lies_in_the_ball_of_a_later_one(study):
    """A foreground click in the tumor and a background click one voxel farther out, both orders."""
    start = ball(radius_mm=5.0)
    i, j, k = CENTER
    outer, inner = (i + 12, j, k), (i + 11, j, k)  # 6 mm and 5.5 mm from the middle
    for first, second in (((outer, False), (inner, True)), ((inner, True), (outer, False))):
        session = RandomWalker().open(study, start)
        mask = session.answer((click(*first), click(*second)), (1.0, 1.0)).mask
        assert mask[outer] == 0
        assert mask[inner] == 1


def test_from_nothing_the_first_click_finds_the_tumor(study, method):
    empty = np.zeros(SHAPE, np.uint8)
    drag = drag_mm(TUMOR, empty, SPACING_MM, CENTER)
    mask = method.open(study, empty).answer((click(CENTER, True),), (drag,)).mask
    assert dice(mask, TUMOR) > 0.6


def test_without_a_t1ce_the_t2_is_looked_at(study, method):
    """The same image as the one sequence and as the other, the other missing."""
    nothing, shown = np.zeros_like(study.image[0]), study.image[0]
    drag = drag_mm(TUMOR, half(), SPACING_MM, (35, 25, 11))
    by_t1ce, by_t2 = (
        method.open(Study("ball", np.stack(image), GRID, None), half())
        .answer((click((35, 25, 11), True),), (drag,))
        .mask
        for image in ((shown, nothing), (nothing, shown))
    )
    assert (by_t1ce == by_t2).all()
    assert dice(by_t2, TUMOR) > dice(half(), TUMOR)


@pytest.mark.parametrize("settings", [CutSettings(), DRAGGED], ids=["alone", "drags"])
def test_from_nothing_a_graph_cut_does_not_fall_to_the_seed(study, settings):
    """Its seed has a radius of 1.5 mm, the tumor one of 7: a Dice of 0.02."""
    empty = np.zeros(SHAPE, np.uint8)
    drag = drag_mm(TUMOR, empty, SPACING_MM, CENTER)
    session = GraphCut(lambda _: pytest.fail("no network is asked"), "1", settings)
    mask = session.open(study, empty).answer((click(CENTER, True),), (drag,)).mask
    assert dice(mask, TUMOR) > 0.5


def test_random_walker_changes_nothing_beyond_what_the_reader_dragged(study):
    """The start mask is too small everywhere; a click on its rim, and a drag of 1.5 mm."""
    start, at = ball(radius_mm=5.5), (CENTER[0] + 13, *CENTER[1:])
    mask = RandomWalker().open(study, start).answer((click(at, True),), (1.5,)).mask
    changed = np.argwhere(mask != start)
    assert len(changed)
    assert np.linalg.norm((changed - at) * SPACING_MM, axis=1).max() <= 1.5 * 1.5 + 1


@pytest.mark.parametrize(
    ("initial", "voxel", "is_foreground"),
    [
        (half(), (35, 25, 11), True),
        (with_a_leak(), (47, 25, 11), False),
        (TUMOR * 0, CENTER, True),
    ],
    ids=["half is missing", "a leak", "all is missing"],
)
def test_graph_cut_mends_what_its_own_network_got_wrong(study, initial, voxel, is_foreground):
    drag = drag_mm(TUMOR, initial, SPACING_MM, voxel)
    session = graph_cut(initial, DRAGGED).open(study, None)
    mask = session.answer((click(voxel, is_foreground),), (drag,)).mask
    assert dice(mask, TUMOR) > 0.93


@pytest.mark.parametrize("settings", [None, DRAGGED], ids=["alone", "drags"])
def test_graph_cut_starts_from_the_outline_without_what_that_left_out(study, settings):
    other = ball((28, 25, 2), 2.0)
    study.image[0] += 3 * other
    prob = (0.6 * np.maximum(TUMOR, other) + 0.2).astype(np.float32)
    everywhere = tuple(slice(0, n) for n in SHAPE)
    cut = GraphCut(lambda _: Initial(TUMOR, prob, everywhere, None), "1", settings)
    mask = cut.open(study, None).answer((click(CENTER, True),), (1.0,)).mask
    assert not mask[other > 0].any()
    assert dice(mask, TUMOR) > 0.93


def test_a_contour_does_not_depend_on_what_was_asked_before(study):
    empty = np.zeros(SHAPE, np.uint8)
    masks = [
        active_contour(ContourSettings(steps=3, widest=3.0))
        .open(study, empty)
        .answer((click(CENTER, True),), (5.0,))
        .mask
        for _ in range(3)
    ]
    assert (masks[0] == masks[1]).all()
    assert (masks[1] == masks[2]).all()


def test_a_contour_moves_as_fast_along_the_slices_as_in_them(study):
    empty, settings = np.zeros(SHAPE, np.uint8), ContourSettings(steps=3, widest=3.0)
    mask = active_contour(settings).open(study, empty).answer((click(CENTER, True),), (5.0,)).mask
    width_mm = [
        (side.stop - side.start) * spacing
        for side, spacing in zip(bounding_box(mask), SPACING_MM, strict=True)
    ]
    assert min(width_mm) > 8  # it began with 5 mm
    assert max(width_mm) - min(width_mm) <= SPACING_MM[2]


def test_graph_cut_without_drags_does_not_look_at_them(study):
    masks = [
        graph_cut(half(), settings).open(study, None).answer((click((35, 25, 11), True),), (drag,))
        for settings in (None, DRAGGED)
        for drag in (1.0, 7.0)
    ]
    assert (masks[0].mask == masks[1].mask).all()
    assert (masks[2].mask != masks[3].mask).any()


def test_the_region_counts_from_its_corner(study):
    region = region_of(study, TUMOR, (click((50, 40, 20), True),), margin_mm=2)
    assert region.mask.sum() == TUMOR.sum()
    corner = [side.start for side in region.where]
    assert (region.voxels[0] + corner).tolist() == [50, 40, 20]
    assert region.image.shape == (2, *region.mask.shape)
    near = region.ball(region.voxels[0], 0.6)
    assert near.sum() == 5  # two neighbors along each of I and J, none along K


def test_a_drag_lies_between_the_tight_and_the_enclosing_radius():
    nothing = np.zeros(SHAPE, np.uint8)
    assert drag_mm(TUMOR, nothing, SPACING_MM, CENTER) == pytest.approx(7.1, abs=0.3)
    # At the border of the ball: next to nothing to the border, nearly a diameter to the other side.
    border = (28 - 13, 25, 11)
    assert drag_mm(TUMOR, nothing, SPACING_MM, border) == pytest.approx((0.7 + 13.5) / 2, abs=0.4)
    assert drag_mm(TUMOR, TUMOR, SPACING_MM, CENTER) == 0


def test_a_drag_keeps_missed_and_spurious_apart():
    pred = ball((28 + 26, 25, 11), 6.0)  # touches the tumor, which is missed
    alone = drag_mm(TUMOR, np.zeros(SHAPE, np.uint8), SPACING_MM, CENTER)
    assert drag_mm(TUMOR, pred, SPACING_MM, CENTER) == pytest.approx(alone, abs=0.2)


def test_a_drag_is_made_in_the_slice_of_the_click():
    label = np.zeros((31, 29, 7), np.uint8)
    label[10:15, 10:15, 3] = 1  # 5 voxels of 2 mm
    label[:, :, 4] = 1  # a wide error in the next slice
    nothing = np.zeros_like(label)
    tight, enclosing = drag_range_mm(label, nothing, (2.0, 2.0, 1.0), (12, 12, 3))
    assert tight == pytest.approx(6.0)  # to the third voxel, which is outside
    assert enclosing == pytest.approx(np.hypot(4, 4))
    assert drag_mm(label, nothing, (2.0, 2.0, 1.0), (12, 12, 3)) == pytest.approx(
        (tight + enclosing) / 2
    )
    assert drag_range_mm(label, label, (2.0, 2.0, 1.0), (12, 12, 3)) == (0.0, 0.0)
