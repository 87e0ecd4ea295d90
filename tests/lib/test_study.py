import os

import numpy as np
import pytest

from clickseg.geometry import Grid
from clickseg.study import (
    check_same_grid,
    distinct_cases,
    find_case,
    find_cases,
    normalize,
    read_case_label,
    read_study,
    remember_studies,
    remembering_studies,
    told_alike,
)
from clickseg.volume import ImageError, Volume, write_volume

SHAPE = (37, 31, 23)
AFFINES = {
    "ras": [[0.4, 0, 0, -7], [0, 0.5, 0, 3], [0, 0, 1.5, 11], [0, 0, 0, 1]],
    "lps": [[-0.4, 0, 0, 7], [0, -0.5, 0, -3], [0, 0, 1.5, 11], [0, 0, 0, 1]],
    "permuted": [[0, 0, 1.5, 11], [-0.4, 0, 0, 7], [0, 0.5, 0, 3], [0, 0, 0, 1]],
}
RAS = np.array(AFFINES["ras"])


@pytest.fixture(params=AFFINES.values(), ids=AFFINES.keys())
def affine(request):
    return np.array(request.param)


def noise(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def save(path, array, affine=RAS):
    return write_volume(path, Volume(array, Grid(array.shape, np.array(affine))))


def test_a_study_is_canonical_normalized_and_two_channels(tmp_path, affine):
    array = noise()
    array[5, 7, 11] = 1000
    t1ce = save(tmp_path / "a.nii.gz", array, affine)
    t2 = save(tmp_path / "t2" / "a.nii.gz", noise(1), affine)
    study = read_study(t1ce, t2)
    assert study.case_id == "a"
    assert study.t2_path == t2
    assert study.image.shape == (2, *study.grid.canonical.shape)
    assert study.image.dtype == np.float32
    assert study.nbytes == 2 * array.size * 4
    hot = study.grid.to_stored(study.image[0])
    assert np.unravel_index(hot.argmax(), SHAPE) == (5, 7, 11)
    assert np.abs(study.image.mean(axis=(1, 2, 3))).max() < 0.05
    assert np.abs(study.image.std(axis=(1, 2, 3)) - 1).max() < 0.05


def test_without_t2_its_channel_is_zero(tmp_path):
    study = read_study(save(tmp_path / "a.nii.gz", noise()))
    assert study.t2_path is None
    assert not study.image[1].any()


def test_a_t2_lands_where_it_lies_in_the_patient(tmp_path):
    """One hot voxel of a T2 with other axes, spacing and shape, at RAS (0.2, 7, 29)."""
    other = np.array([[0, 0, 0.5, -9.8], [0.5, 0, 0, 1.0], [0, 1.5, 0, 11.0], [0, 0, 0, 1]])
    t2 = noise(1, (29, 19, 41))
    t2[12, 12, 20] = 230  # R = -9.8 + 10 = 0.2, A = 1 + 6 = 7, S = 11 + 18 = 29
    study = read_study(save(tmp_path / "a.nii.gz", noise()), save(tmp_path / "b.nii.gz", t2, other))
    # In the T1ce: I = (0.2 + 7) / 0.4 = 18, J = (7 - 3) / 0.5 = 8, K = (29 - 11) / 1.5 = 12.
    assert np.unravel_index(study.image[1].argmax(), SHAPE) == (18, 8, 12)


@pytest.fixture
def remembering():
    with remembering_studies(1 << 30):
        yield


def test_a_study_is_read_again_where_it_is_not_remembered(tmp_path):
    t1ce = save(tmp_path / "a.nii.gz", noise())
    with remembering_studies(1 << 30):
        remembered = read_study(t1ce)
        assert read_study(t1ce).image is remembered.image
    assert read_study(t1ce).image is not remembered.image
    assert read_study(t1ce).image is not read_study(t1ce).image


@pytest.mark.usefixtures("remembering")
def test_a_remembered_study_is_known_by_what_its_files_hold(tmp_path):
    t1ce, t2 = save(tmp_path / "a.nii.gz", noise()), save(tmp_path / "t2" / "a.nii.gz", noise(1))
    study = read_study(t1ce, t2)
    (tmp_path / "linked" / "t2").mkdir(parents=True)
    for path in (t1ce, t2):
        (tmp_path / "linked" / path.relative_to(tmp_path)).symlink_to(path)
    linked = read_study(tmp_path / "linked" / "a.nii.gz", tmp_path / "linked" / "t2" / "a.nii.gz")
    assert linked.image is study.image
    assert linked.t2_path == tmp_path / "linked" / "t2" / "a.nii.gz"
    alone = read_study(t1ce)
    assert alone.t2_path is None
    assert not alone.image[1].any()
    save(t1ce, noise(2))
    assert read_study(t1ce, t2).image is not study.image
    remember_studies(study.nbytes + 100)  # enough for one: the first, and no other in its place
    first = read_study(t1ce, t2)
    assert read_study(t1ce).image is not read_study(t1ce).image
    assert read_study(t1ce, t2).image is first.image


def test_a_t2_of_another_place_is_refused(tmp_path):
    away = RAS.copy()
    away[2, 3] += 30
    t1ce, t2 = save(tmp_path / "a.nii.gz", noise()), save(tmp_path / "b.nii.gz", noise(1), away)
    with pytest.raises(ImageError, match=r"T2 b\.nii\.gz overlaps the T1ce by 1\d%, at least 20%"):
        read_study(t1ce, t2)


def test_an_image_without_contrast_is_refused(tmp_path):
    flat = save(tmp_path / "flat.nii.gz", np.full(SHAPE, 7, np.float32))
    with pytest.raises(ImageError, match=r"flat\.nii\.gz has no contrast: .* about 7"):
        read_study(flat)
    with pytest.raises(ImageError, match=r"T2 flat\.nii\.gz has no contrast"):
        read_study(save(tmp_path / "a.nii.gz", noise()), flat)


def test_normalization_does_not_depend_on_the_scale_and_is_clipped():
    array = noise()
    array[:, :9] = 0  # air
    expected = normalize(array, "a")
    np.testing.assert_allclose(normalize(array * 37, "a"), expected, atol=1e-3)
    assert expected.min() == -3
    tissue = expected[:, 9:]
    assert abs(tissue.mean()) < 0.05
    assert abs(tissue.std() - 1) < 0.05
    array[0, 0, 0] = 1e4
    assert normalize(array, "a").max() == 8


def test_normalization_leaves_its_input_alone():
    array = noise()
    before = array.copy()
    normalize(array, "a")
    np.testing.assert_array_equal(array, before)


def test_companions_are_found_by_id_in_any_format(tmp_path):
    t1ce = save(tmp_path / "a.nii.gz", noise())
    assert find_case(t1ce).t2 is None
    t2 = save(tmp_path / "t2" / "a.nrrd", noise())
    label = save(tmp_path / "labels" / "final" / "a.nii", noise())
    case = find_case(t1ce)
    assert (case.case_id, case.t1ce, case.t2, case.label) == ("a", t1ce, t2, label)
    assert find_case(t1ce, tmp_path / "elsewhere").label is None


def test_cases_are_the_images_of_the_top_folder(tmp_path):
    for name in ("b.nii.gz", "a.nrrd", "t2/a.nii.gz", "labels/final/b.nii.gz"):
        save(tmp_path / name, noise())
    for name in ("notes.txt", ".hidden.nii.gz", "datastore_v2.json"):
        (tmp_path / name).touch()
    assert [case.case_id for case in find_cases(tmp_path)] == ["a", "b"]


def test_two_images_of_one_id_are_refused(tmp_path):
    save(tmp_path / "a.nii.gz", noise())
    save(tmp_path / "a.nrrd", noise())
    with pytest.raises(ImageError, match="the same id: a"):
        find_cases(tmp_path)


def test_images_that_share_an_id_are_apart_from_those_that_do_not(tmp_path):
    for name in ("b.nii.gz", "c.nrrd", "a.nrrd", "a.nii.gz", "t2/a.nii.gz"):
        save(tmp_path / name, noise())
    cases, alike = distinct_cases(tmp_path)
    assert [case.case_id for case in cases] == ["b", "c"]
    assert alike.keys() == {"a"}
    assert [case.t1ce.name for case in alike["a"]] == ["a.nii.gz", "a.nrrd"]
    assert told_alike(alike["a"]) == "several images have this id: a.nii.gz, a.nrrd"


@pytest.mark.parametrize("newest", [".nii.gz", ".nii", ".nrrd"])
def test_of_a_label_in_several_formats_the_newest_counts(tmp_path, newest):
    t1ce = save(tmp_path / "a.nii.gz", noise())
    for seconds, extension in enumerate([".nii.gz", ".nii", ".nrrd"]):
        label = save(tmp_path / f"labels/final/a{extension}", noise())
        when = 1000 if extension == newest else seconds
        os.utime(label, (when, when))
    assert find_case(t1ce).label == tmp_path / f"labels/final/a{newest}"


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ImageError, match="a folder of studies was wanted"):
        find_cases(tmp_path / "gone")


def test_a_label_is_read_in_canonical_order(tmp_path, affine):
    label = np.zeros(SHAPE, np.uint8)
    label[5, 7, 11] = 3
    t1ce = save(tmp_path / "a.nii.gz", noise(), affine)
    save(tmp_path / "labels" / "final" / "a.nii.gz", label, affine)
    grid = read_study(t1ce).grid
    read = read_case_label(find_case(t1ce), grid)
    assert read.flags.c_contiguous
    assert np.argwhere(grid.to_stored(read)).tolist() == [[5, 7, 11]]


def test_a_missing_label_is_refused(tmp_path):
    t1ce = save(tmp_path / "a.nii.gz", noise())
    with pytest.raises(ImageError, match="case a has no label in labels/final"):
        read_case_label(find_case(t1ce), read_study(t1ce).grid)


def test_a_mask_of_another_grid_is_refused():
    grid, moved = Grid(SHAPE, RAS), RAS.copy()
    moved[1, 3] += 0.2
    check_same_grid(Volume(np.zeros(SHAPE), Grid(SHAPE, RAS + 1e-3)), grid, "mask")
    for shape, affine in ((SHAPE, moved), ((31, 37, 23), RAS)):
        with pytest.raises(ImageError, match="mask lies on another grid than its image"):
            check_same_grid(Volume(np.zeros(shape), Grid(shape, affine)), grid, "mask")


def test_a_thin_slab_within_a_whole_head_is_a_good_t2(tmp_path):
    """High-resolution T2 covers 4 cm of the head: little of the T1ce, but all of itself."""
    rng = np.random.default_rng(0)
    head = Grid((61, 53, 47), np.diag([4.0, 4.0, 4.0, 1]))
    slab_affine = np.diag([4.0, 4.0, 1.0, 1])
    slab_affine[2, 3] = 80
    slab = Grid((61, 53, 23), slab_affine)
    for name, grid in (("a", head), ("t2/a", slab)):
        image = rng.normal(100, 20, grid.shape).astype(np.float32)
        write_volume(tmp_path / f"{name}.nii.gz", Volume(image, grid))
    study = read_study(tmp_path / "a.nii.gz", tmp_path / "t2/a.nii.gz")
    covered = np.flatnonzero(study.image[1].std(axis=(0, 1)) > 0.1)
    assert covered.tolist() == [20, 21, 22, 23, 24, 25]  # 80 to 102 mm, 4 mm a slice


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        (np.diag([1.0, 1.0, 1.0, 1.0]), True),
        (np.diag([1.0001, 1.0, 1.0, 1.0]), True),  # 0.015 mm at the far end
        (np.diag([1.018, 1.0, 1.0, 1.0]), False),  # 0.509 mm in place of 0.5: 2.7 mm there
        (np.array([[1, -0.0175, 0, 0], [0.0175, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), False),
        (np.array([[1, 0, 0, 0.05], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), True),
        (np.array([[1, 0, 0, 0.2], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), False),
    ],
    ids=["same", "rounded", "spacing", "turned", "shifted a little", "shifted"],
)
def test_two_grids_are_the_same_where_their_corners_are(change, is_same):
    shape = (301, 283, 17)
    grid = Grid(shape, np.diag([0.5, 0.5, 1.5, 1.0]))
    label = Volume(np.zeros(shape, np.uint8), Grid(shape, change @ grid.affine))
    if is_same:
        check_same_grid(label, grid, "mask")
    else:
        with pytest.raises(ImageError, match="mask lies on another grid"):
            check_same_grid(label, grid, "mask")


def test_voxels_that_are_no_mri_are_refused():
    array = np.random.default_rng(0).normal(100, 9, (7, 11, 5)).astype(np.float32)
    array[3, 4, 2] = 1e30
    with pytest.raises(ImageError, match=r"voxels as large as 1e\+30"):
        normalize(array, "a.nii")
