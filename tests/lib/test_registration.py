"""A T2 that lies elsewhere than its header says is found; one that lies well stays, bit for bit."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its documented name

from clickseg.correction import Correction
from clickseg.engine import Engine
from clickseg.geometry import Grid
from clickseg.initial import Initial
from clickseg.models import Models
from clickseg.placement import Placing, tell_frames
from clickseg.registration import MODES, register
from clickseg.study import PLACING_FOLDER, read_study
from clickseg.volume import ImageError, Volume, read_volume, write_volume

SAMPLE = Path(__file__).parents[2] / "sample-data"
WITH_T2 = sorted(path.name for path in (SAMPLE / "t2").iterdir())
NAME = "phantom-0003.nii.gz"


def motion(shift_mm, turn_deg, center):
    """Return the 4x4 that turns about a center, axis by axis, and then shifts."""
    matrix = np.eye(4)
    for axis, degrees in enumerate(turn_deg):
        a, b = (i for i in range(3) if i != axis)
        turn, angle = np.eye(4), np.deg2rad(degrees)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    there, back = np.eye(4), np.eye(4)
    there[:3, 3], back[:3, 3] = np.add(center, shift_mm), np.negative(center)
    return there @ matrix @ back


def center_of(grid):
    return (grid.affine @ [*((np.array(grid.shape) - 1) / 2), 1])[:3]


def moved(volume, shift_mm, turn_deg):
    matrix = motion(shift_mm, turn_deg, center_of(volume.grid))
    return Volume(volume.array, Grid(volume.grid.shape, matrix @ volume.grid.affine)), matrix


def farthest_mm(matrix, grid):
    """Return how far a matrix moves the corners of the middle of an image."""
    offsets = np.array(np.meshgrid([-40, 40], [-40, 40], [-15, 15])).reshape(3, -1).T
    points = np.c_[center_of(grid) + offsets, np.ones(8)]
    return np.linalg.norm((points @ matrix.T - points)[:, :3], axis=1).max()


@pytest.fixture(scope="module")
def pair():
    return read_volume(SAMPLE / "t2" / NAME), read_volume(SAMPLE / NAME)


@pytest.mark.parametrize(
    ("shift_mm", "turn_deg", "frames_differ"),
    [
        ((2.5, -1, 1), (0, 0, 1), False),
        ((4, -3, 5), (3, -2, 5), False),
        ((20, 10, -15), (0, 8, 5), True),
        ((90, -30, 60), (2, 4, -5), True),  # hardly any overlap by the headers
    ],
)
def test_a_known_motion_is_recovered_within_a_voxel(pair, shift_mm, turn_deg, frames_differ):
    t2, t1ce = pair
    away, matrix = moved(t2, shift_mm, turn_deg)
    found = register(away, t1ce, frames_differ)
    assert found.accepted
    assert farthest_mm(found.matrix @ matrix, t2.grid) < t1ce.grid.spacing_mm.max()
    assert found.shift_mm == pytest.approx(np.linalg.norm(shift_mm), abs=1)
    assert found.mutual_information_after > 1.1 * found.mutual_information_before
    back = found.moved(away)
    assert back.array is away.array
    np.testing.assert_allclose(back.grid.affine, found.matrix @ matrix @ t2.grid.affine)


def test_one_turn_about_one_axis_is_told_in_degrees(pair):
    t2, t1ce = pair
    away, _ = moved(t2, (0, 0, 0), (0, 0, 6))
    assert register(away, t1ce).rotation_deg == pytest.approx(6, abs=0.5)


def test_a_thin_t1ce_within_a_whole_t2_is_found_too(pair):
    t2, t1ce = pair
    away, matrix = moved(t1ce, (5, -4, 3), (0, 0, 3))  # now the whole head moves
    array, grid = t2.array[:, :, 4:-4], t2.grid
    thin = Volume(array, Grid(array.shape, grid.affine @ motion((0, 0, 4), (0, 0, 0), (0, 0, 0))))
    found = register(away, thin)
    assert found.accepted
    assert farthest_mm(found.matrix @ matrix, t2.grid) < t1ce.grid.spacing_mm.max()


@pytest.mark.parametrize("name", WITH_T2)
def test_headers_that_agree_are_left_bit_for_bit(name):
    files = SAMPLE / name, SAMPLE / "t2" / name
    by_header, auto = read_study(*files), read_study(*files, Placing("auto"))
    assert by_header.registration is None
    assert not auto.registration.accepted
    np.testing.assert_array_equal(auto.image, by_header.image)


def test_the_same_images_give_the_same_bits_however_many_threads(pair):
    t2, t1ce = pair
    away, _ = moved(t2, (4, -3, 5), (3, -2, 5))
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    found = []
    try:
        for count in (1, 3):
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
            found.append(register(away, t1ce))
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    np.testing.assert_array_equal(found[0].matrix, found[1].matrix)
    assert found[0].as_result() == found[1].as_result()


@pytest.mark.parametrize("frames_differ", [False, True])
def test_images_that_never_meet_or_show_nothing_are_no_success(pair, frames_differ):
    _, t1ce = pair
    small = Grid((3, 5, 4), np.diag([1.0, 1, 1, 1]))
    flat = Volume(
        np.full((37, 31, 23), 7.0, np.float32), Grid((37, 31, 23), np.diag([2.0, 2, 2, 1]))
    )
    empty = Volume(np.zeros(small.shape, np.float32), small)
    for volume in (flat, empty):
        found = register(volume, t1ce, frames_differ)
        assert not found.accepted
        assert found.moved(volume) is volume
        assert np.isfinite(list(found.as_result().values())).all()


@pytest.fixture
def away(tmp_path, pair):
    """Return the files of a study whose T2 lies 6 mm off."""
    t2, t1ce = pair
    volume, _ = moved(t2, (4, -2, 4), (0, 0, 4))
    files = tmp_path / "a.nii.gz", tmp_path / "t2" / "a.nii.gz"
    return write_volume(files[0], t1ce), write_volume(files[1], volume)


def test_auto_brings_a_t2_back_and_header_does_not(away):
    in_place = read_study(SAMPLE / NAME, SAMPLE / "t2" / NAME).image[1]
    by_header, auto = read_study(*away), read_study(*away, Placing("auto"))
    assert auto.registration.accepted
    np.testing.assert_array_equal(auto.image[0], by_header.image[0])

    def likeness(study):
        return np.corrcoef(study.image[1].ravel(), in_place.ravel())[0, 1]

    assert likeness(auto) > 0.95
    assert likeness(by_header) < 0.9


def test_a_t2_of_another_frame_is_left_out_where_registration_is_off(away):
    off = read_study(*away, Placing("off", frames_differ=True))
    assert off.t2_path is None
    assert not off.image[1].any()
    same_frame = read_study(*away, Placing("off"))
    np.testing.assert_array_equal(same_frame.image, read_study(*away).image)
    trusted = read_study(*away, Placing("header", frames_differ=True))
    np.testing.assert_array_equal(trusted.image, read_study(*away).image)


def test_a_t2_far_away_by_its_header_is_refused_or_found(tmp_path, pair):
    t2, t1ce = pair
    far, _ = moved(t2, (0, 0, 120), (0, 0, 0))
    files = write_volume(tmp_path / "a.nii.gz", t1ce), write_volume(tmp_path / "b.nii.gz", far)
    with pytest.raises(ImageError, match="overlaps the T1ce by 0%"):
        read_study(*files)
    assert read_study(*files, Placing("auto", frames_differ=True)).registration.accepted


def engine_of(mode):
    def initial(study):
        shape = study.grid.canonical.shape
        nothing = (slice(0, 0), slice(0, 0), slice(0, 0))
        return Initial(np.zeros(shape, np.uint8), np.zeros((0, 0, 0), np.float32), nothing, None)

    def correction(_study, start, _clicks, _memo=None, _spent=None):
        return Correction(start.copy(), None, 3.0)

    return Engine(Models(initial, correction, {}), registration=mode)


@pytest.mark.parametrize("mode", MODES)
def test_the_engine_keeps_a_registered_study_and_tells_its_quality(away, mode):
    engine = engine_of(mode)
    study = engine.study(*away)
    assert engine.study(*away) is study
    told = engine.initial(study).result["registration"]
    if mode == "auto":
        assert told["accepted"]
        assert told["shift_mm"] == pytest.approx(6, abs=1)
        assert told["rotation_deg"] == pytest.approx(4, abs=0.5)
    else:
        assert told is None


def test_the_engine_leaves_a_t2_of_another_frame_out_where_registration_is_off(away, tmp_path):
    engine = engine_of("off")
    assert engine.study(*away).t2_path == away[1]
    tell_frames(tmp_path / PLACING_FOLDER, "a", True)
    assert engine.study(*away).t2_path is None
    copy = tmp_path / "copy.nii.gz"
    copy.write_bytes(away[1].read_bytes())
    again = engine.study(away[0], copy)
    assert engine.initial(again).result["t2"] is None
