import numpy as np
import pytest

from clickseg.metrics import dice, iou, max_axial_diameter_mm, volume_ml

SHAPE = (37, 31, 23)
RAS = np.diag([0.4, 0.5, 1.5, 1.0])


def mask_of(*voxels):
    mask = np.zeros(SHAPE, dtype=np.uint8)
    for voxel in voxels:
        mask[voxel] = 1
    return mask


EMPTY = mask_of()


def test_overlap_of_two_and_three_voxels_that_share_one():
    pred, label = mask_of((1, 2, 3), (1, 2, 4)), mask_of((1, 2, 4), (1, 2, 5), (1, 2, 6))
    assert dice(pred, label) == pytest.approx(2 * 1 / (2 + 3))
    assert iou(pred, label) == pytest.approx(1 / 4)


@pytest.mark.parametrize("measure", [dice, iou])
def test_overlap_of_empty_perfect_and_wrong_masks(measure):
    one = mask_of((1, 2, 3))
    assert measure(EMPTY, EMPTY) == 1
    assert measure(one, EMPTY) == measure(EMPTY, one) == 0
    assert measure(one, one) == 1
    assert measure(one, mask_of((3, 2, 1))) == 0


@pytest.mark.parametrize("measure", [dice, iou])
def test_overlap_of_other_shapes_is_refused(measure):
    with pytest.raises(ValueError, match=r"one shape .* \(37, 31, 23\) and \(37, 31, 22\)"):
        measure(EMPTY, EMPTY[:, :, :-1])


def test_volume_is_voxels_times_their_size():
    mask = mask_of((1, 2, 3), (4, 5, 6))
    assert volume_ml(mask, RAS) == pytest.approx(2 * 0.4 * 0.5 * 1.5 / 1000)
    assert volume_ml(EMPTY, RAS) == 0


def test_volume_of_a_flipped_grid_is_positive():
    assert volume_ml(mask_of((1, 2, 3)), np.diag([-0.4, -0.5, 1.5, 1])) == pytest.approx(0.0003)


def test_the_diameter_of_one_voxel_is_its_diagonal():
    assert max_axial_diameter_mm(mask_of((5, 7, 11)), np.diag([3.0, 4, 9, 1])) == pytest.approx(5)


def test_the_diameter_runs_from_outer_corner_to_outer_corner():
    # 11 voxels of 0.4 mm by 7 voxels of 0.5 mm: sqrt(4.4**2 + 3.5**2) = 5.622
    mask = mask_of((10, 10, 4), (20, 16, 4))
    assert max_axial_diameter_mm(mask, RAS) == pytest.approx(np.hypot(4.4, 3.5))


def test_the_diameter_stays_in_one_axial_plane():
    mask = mask_of((10, 10, 4), (20, 16, 5), (12, 10, 4))
    assert max_axial_diameter_mm(mask, RAS) == pytest.approx(np.hypot(3 * 0.4, 0.5))


def test_the_diameter_does_not_change_when_the_grid_is_turned():
    angle = np.deg2rad(23)
    turn = np.eye(4)
    turn[:3, :3] = [
        [np.cos(angle), 0, np.sin(angle)],
        [0, 1, 0],
        [-np.sin(angle), 0, np.cos(angle)],
    ]
    mask = mask_of((10, 10, 4), (20, 16, 4))
    assert max_axial_diameter_mm(mask, turn @ RAS) == pytest.approx(np.hypot(4.4, 3.5))


def test_the_diameter_of_a_sheared_plane_follows_the_shear():
    # Two voxels along J, whose step is (0.3, 0.4): the far corners lie (1 + 0.6, 0.8) apart.
    sheared = np.eye(4)
    sheared[:2, 1] = [0.3, 0.4]
    mask = mask_of((5, 5, 5), (5, 6, 5))
    assert max_axial_diameter_mm(mask, sheared) == pytest.approx(np.hypot(1.6, 0.8))


def test_an_empty_mask_has_no_diameter():
    assert max_axial_diameter_mm(EMPTY, RAS) == 0


def test_a_concave_mask_is_measured_between_its_ends():
    corner = [(i, 3, 9) for i in range(3, 30)] + [(3, j, 9) for j in range(3, 20)]
    expected = np.hypot(27 * 0.4, 17 * 0.5)
    assert max_axial_diameter_mm(mask_of(*corner), RAS) == pytest.approx(expected)
