import numpy as np

from clickseg.boxes import bounding_box, center_of, grown, hull

SHAPE = (13, 11, 29)
BOX = (slice(5, 7), slice(3, 8), slice(11, 23))


def test_the_bounding_box_is_tight():
    mask = np.zeros(SHAPE, np.uint8)
    assert bounding_box(mask) is None
    mask[5, 7, 11] = mask[6, 3, 22] = 1
    assert bounding_box(mask) == BOX
    assert bounding_box(mask[5]) == (slice(7, 8), slice(11, 12))


def test_a_grown_box_stays_within_the_shape():
    assert grown(BOX, 4, SHAPE) == (slice(1, 11), slice(0, 11), slice(7, 27))
    assert grown(BOX, (0, 1, 7), SHAPE) == (slice(5, 7), slice(2, 9), slice(4, 29))


def test_a_hull_holds_all_boxes():
    other = (slice(0, 6), slice(4, 5), slice(20, 25))
    assert hull([BOX]) == BOX
    assert hull([BOX, other]) == (slice(0, 7), slice(3, 8), slice(11, 25))


def test_the_center_lies_between_voxels_where_a_side_is_even():
    assert center_of(BOX).tolist() == [5.5, 5.0, 16.5]
