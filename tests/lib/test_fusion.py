import numpy as np

from clickseg.correction.fusion import (
    Pass,
    brought,
    clicked_part,
    fuse,
    pin,
    touching,
    without_lobes,
)

SHAPE = (13, 11, 7)
WHOLE = tuple(slice(0, n) for n in SHAPE)


def fused(start, passes):
    mask = start.copy()
    for logits, box in fuse(start, passes):
        mask[box] = logits > 0
    return mask


def distance_mm(center, spacing=(1.0, 1.0, 1.0)):
    offsets = [(np.arange(n) - c) * s for n, c, s in zip(SHAPE, center, spacing, strict=True)]
    i, j, k = np.meshgrid(*offsets, indexing="ij")
    return np.sqrt(i**2 + j**2 + k**2).astype(np.float32)


def a_pass(logit, center, reach_mm, may_change=True):
    logits, may = np.full(SHAPE, logit, np.float32), np.full(SHAPE, may_change)
    return Pass.of(WHOLE, logits, distance_mm(center), reach_mm, may)


def test_one_sure_pass_fills_its_ball_up_to_where_the_start_mask_takes_over():
    mask = fused(np.zeros(SHAPE, np.uint8), [a_pass(9.0, (6, 5, 3), 4.0)])
    # Both logits are clipped to 4, so the pass wins where its trust is above one half:
    # (1 - d / 4) / (1 - 0.85) > 0.5, that is d < 3.7.
    expected = distance_mm((6, 5, 3)) < 3.7
    assert (mask == expected).all()


def test_the_nearer_click_weighs_more():
    passes = [a_pass(3.0, (3, 5, 3), 8.0), a_pass(-3.0, (9, 5, 3), 8.0)]
    mask = fused(np.zeros(SHAPE, np.uint8), passes)
    assert mask[4, 5, 3] == 1
    assert mask[8, 5, 3] == 0


def test_an_earlier_click_halfway_to_its_reach_holds_back_little():
    sure, doubtful = a_pass(-4.0, (3, 5, 3), 8.0, may_change=False), a_pass(1.0, (9, 5, 3), 8.0)
    mask = fused(np.zeros(SHAPE, np.uint8), [sure, doubtful])
    # 1 (1 - (2 / 8)^2)^16 = 0.36 for it, 4 (1 - (4 / 8)^2)^16 = 0.04 against it
    assert mask[7, 5, 3] == 1
    # 1 (1 - (4 / 8)^2)^16 = 0.01 for it, 4 (1 - (2 / 8)^2)^16 = 1.42 against it
    assert mask[5, 5, 3] == 0


def test_no_passes_change_nothing():
    assert fuse(np.zeros(SHAPE, np.uint8), []) == []


def test_what_no_pass_brought_is_taken_back_though_it_counts():
    empty = np.zeros(SHAPE, np.uint8)
    sure = a_pass(9.0, (3, 5, 3), 8.0, may_change=False)
    mask = fused(empty, [sure])
    assert not mask.any()
    # A pass that says background nearby, but brings nothing, holds back one that adds.
    adds, holds = a_pass(1.0, (3, 5, 3), 8.0), a_pass(-4.0, (9, 5, 3), 8.0, False)
    alone = fused(empty, [adds])
    both = fused(empty, [adds, holds])
    assert both.any()
    assert both.sum() < alone.sum()
    assert (both <= alone).all()


def test_an_addition_that_touches_no_click_is_left_out():
    change = np.zeros(SHAPE, bool)
    change[1:3, 1:3, 1:3] = True  # hangs together with the click at (3, 3, 3): one beside it
    change[8:10, 8:10, 4:6] = True  # does not
    kept = touching(change, [np.array([3, 3, 3])])
    assert kept.sum() == 8
    assert kept[1:3, 1:3, 1:3].all()


SPACING_MM = np.array([0.5, 0.5, 1.5])
RIM, LOBE = (slice(2, 3), slice(2, 16), slice(3, 4)), (slice(2, 9), slice(16, 23), slice(2, 5))


def rim_and_lobe():
    """A rim of a voxel, and a lobe of 3.5 x 3.5 x 4.5 mm at its end: depth 2 mm in the middle."""
    change = np.zeros((13, 29, 7), bool)
    change[RIM] = change[LOBE] = True
    return change


def test_what_is_thick_where_nobody_clicked_stays_as_it_was():
    change, at_rim = rim_and_lobe(), [np.array([2, 5, 3])]
    kept = clicked_part(change, at_rim, SPACING_MM, 1.0)
    assert not kept[LOBE].any()
    assert kept[RIM].all()
    np.testing.assert_array_equal(clicked_part(change, at_rim, SPACING_MM, None), change)
    # No ball of 2.5 mm fits into it.
    np.testing.assert_array_equal(clicked_part(change, at_rim, SPACING_MM, 2.5), change)
    elsewhere = [np.array([11, 27, 6])]
    assert not clicked_part(change, elsewhere, SPACING_MM, 1.0).any()


def test_a_click_in_the_thick_or_at_its_surface_keeps_it():
    change = rim_and_lobe()
    for click in ([5, 19, 3], [2, 19, 3], [8, 22, 2], [5, 19, 4]):
        clicks = [np.array([2, 5, 3]), np.array(click)]
        kept = without_lobes(change, clicks, SPACING_MM, 1.0)
        np.testing.assert_array_equal(kept, change, err_msg=str(click))


def test_one_of_two_lobes_goes():
    change = rim_and_lobe()
    change[2:9, :6, 2:5] = True
    kept = without_lobes(change, [np.array([5, 3, 3])], SPACING_MM, 1.0)
    assert kept[2:9, :6, 2:5].all()
    assert not kept[LOBE].any()
    # Of a box that ends in a lobe, its end is the lobe's.
    assert not without_lobes(change[:, 6:], [np.array([2, 0, 3])], SPACING_MM, 1.0)[3:9, 10:].any()


def test_next_to_nothing_has_no_lobes():
    nothing = np.zeros(SHAPE, bool)
    assert without_lobes(nothing, [], SPACING_MM, 1.0) is nothing
    assert not clicked_part(nothing, [np.array([1, 1, 1])], SPACING_MM, 1.0).any()


def test_an_unanswered_click_changes_nothing():
    """The published merge takes 'unchanged' for a component and floods the image."""
    start = np.zeros(SHAPE, np.uint8)
    start[4:9, 3:8, 2:5] = 1
    logits = np.where(start, 5.0, -5.0).astype(np.float32)
    for kind in (True, False):
        change = brought(logits, start, kind)
        assert not touching(change, [np.array([6, 5, 3])]).any()


def test_a_background_click_adds_nothing_and_a_foreground_click_removes_nothing():
    start = np.zeros(SHAPE, np.uint8)
    start[4:9, 3:8, 2:5] = 1
    logits = np.full(SHAPE, 9.0, np.float32)
    logits[4:9, 3:8, 2:5] = -9
    assert (brought(logits, start, True) == (start == 0)).all()
    assert (brought(logits, start, False) == (start > 0)).all()


def test_a_pinned_voxel_is_what_the_click_says():
    mask = np.zeros(SHAPE, np.uint8)
    mask[1, 1, 1] = 1
    pin(mask, np.array([[1, 1, 1], [2, 3, 5]]), np.array([False, True]))
    assert np.argwhere(mask).tolist() == [[2, 3, 5]]


def test_passes_far_apart_are_fused_apart_and_those_that_meet_together():
    boxes = [(0, 3), (8, 10), (2, 5), (10, 13), (4, 6)]
    passes = []
    for first, stop in boxes:
        where = (slice(first, stop), slice(0, 4), slice(0, 4))
        shape = (stop - first, 4, 4)
        logits = np.full(shape, 9.0, np.float32)
        near = np.zeros(shape, np.float32)
        passes.append(Pass.of(where, logits, near, 4.0, np.ones(shape, bool)))
    empty = np.zeros(SHAPE, np.uint8)
    parts = fuse(empty, passes)
    mask = fused(empty, passes)
    assert sorted((box[0].start, box[0].stop) for _, box in parts) == [(0, 6), (8, 10), (10, 13)]
    assert mask[:, 0, 0].tolist() == [1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1]
