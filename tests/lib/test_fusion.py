import numpy as np
import pytest

from clickseg.correction.fusion import START_LOGIT, Pass, fuse, keep_touching, pin

SHAPE = (13, 11, 7)
WHOLE = tuple(slice(0, n) for n in SHAPE)


def a_pass(logit, center, spacing=(1.0, 1.0, 1.0)):
    offsets = [(np.arange(n) - c) * s for n, c, s in zip(SHAPE, center, spacing, strict=True)]
    i, j, k = np.meshgrid(*offsets, indexing="ij")
    distance = np.sqrt(i**2 + j**2 + k**2).astype(np.float32)
    return Pass(WHOLE, np.full(SHAPE, logit, np.float32), distance)


def test_one_sure_pass_fills_its_ball_up_to_where_the_start_mask_takes_over():
    mask, _ = fuse(np.zeros(SHAPE, np.uint8), [a_pass(9.0, (6, 5, 3))], reach_mm=4.0)
    # Both logits are clipped to 4, so the pass wins where its trust is above one half:
    # (1 - d / 4) / (1 - 0.75) > 0.5, that is d < 3.5.
    expected = a_pass(0, (6, 5, 3)).distance_mm < 3.5
    assert (mask == expected).all()


def test_the_nearer_click_weighs_more():
    passes = [a_pass(3.0, (3, 5, 3)), a_pass(-3.0, (9, 5, 3))]
    mask, _ = fuse(np.zeros(SHAPE, np.uint8), passes, reach_mm=8.0)
    assert mask[4, 5, 3] == 1
    assert mask[8, 5, 3] == 0


def test_no_passes_change_nothing():
    start = (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 2).astype(np.uint8)
    mask, parts = fuse(start, [], reach_mm=8.0)
    assert (mask == start).all()
    assert mask is not start
    assert parts == []


def test_an_addition_that_touches_no_foreground_click_is_taken_back():
    start = np.zeros(SHAPE, np.uint8)
    logits = np.full(SHAPE, -9.0, np.float32)
    logits[1:3, 1:3, 1:3] = 9  # hangs together with the click at (3, 3, 3): one beside it
    logits[8:10, 8:10, 4:6] = 9  # does not
    kept = keep_touching(logits, start, [np.array([3, 3, 3])], [])
    assert (kept[1:3, 1:3, 1:3] == 9).all()
    assert (kept[8:10, 8:10, 4:6] == -START_LOGIT).all()


@pytest.mark.parametrize("kind", [0, 1])
def test_an_unanswered_click_changes_nothing(kind):
    """The published merge takes 'unchanged' for a component and floods the image."""
    start = np.zeros(SHAPE, np.uint8)
    start[4:9, 3:8, 2:5] = 1
    logits = np.where(start, 5.0, -5.0).astype(np.float32)
    clicks = [np.array([6, 5, 3])]
    kept = keep_touching(logits, start, clicks if kind else [], [] if kind else clicks)
    assert ((kept > 0) == start).all()


def test_a_background_click_adds_nothing_and_a_foreground_click_removes_nothing():
    start = np.zeros(SHAPE, np.uint8)
    start[4:9, 3:8, 2:5] = 1
    click = [np.array([3, 5, 3])]  # beside the mask, touching both what is added and removed
    logits = np.full(SHAPE, 9.0, np.float32)
    logits[4:9, 3:8, 2:5] = -9
    added = keep_touching(logits, start, click, []) > 0
    removed = keep_touching(logits, start, [], click) > 0
    assert (added >= start.astype(bool)).all()
    assert (removed <= start.astype(bool)).all()


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
        passes.append(Pass(where, logits, np.zeros(shape, np.float32)))
    mask, parts = fuse(np.zeros(SHAPE, np.uint8), passes, reach_mm=4.0)
    assert sorted((box[0].start, box[0].stop) for _, box in parts) == [(0, 6), (8, 10), (10, 13)]
    assert mask[:, 0, 0].tolist() == [1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1]
