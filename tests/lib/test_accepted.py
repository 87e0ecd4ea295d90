import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its documented name
from disk import full_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clickseg import accepted
from clickseg.accepted import forget, history, keep, read_accepted, records, retract
from clickseg.clicks import Click
from clickseg.geometry import Grid
from clickseg.journal import JOURNAL_FOLDER, Answered, Journals
from clickseg.record import read_record
from clickseg.volume import ImageError, Volume, read_label, read_volume, write_volume

SHAPE = (7, 11, 5)
AFFINES = {
    "ras": [[0.4, 0, 0, -7], [0, 0.5, 0, 3], [0, 0, 1.5, 11], [0, 0, 0, 1]],
    "lps": [[-0.4, 0, 0, 7], [0, -0.5, 0, -3], [0, 0, 1.5, 11], [0, 0, 0, 1]],
    "permuted": [[0, 0, 1.5, 11], [-0.4, 0, 0, 7], [0, 0.5, 0, 3], [0, 0, 0, 1]],
}
RAS = np.array(AFFINES["ras"])
HERE = Click((3.0, -4.0, 20.0), True)
THERE = Click((5.5, -4.0, 18.5), False)


def save(path, array, affine=RAS):
    return write_volume(path, Volume(array, Grid(array.shape, np.array(affine))))


def block(side, value=1):
    mask = np.zeros(SHAPE, np.uint8)
    mask[1 : 1 + side, 1 : 1 + side, 1] = value
    return mask


@pytest.fixture
def studies(tmp_path):
    folder = tmp_path / "studies"
    save(folder / "a.nii.gz", np.random.default_rng(0).normal(size=SHAPE).astype(np.float32))
    return folder


def click(studies, *clicks):
    Journals(studies).note("a", Answered("click", "initial", clicks, {"initial": "0"}, 3))


def accept(studies, mask, name="upload.nii.gz"):
    upload = save(studies.parent / name, mask)
    return keep(studies, "a", read_accepted(upload, studies / "a.nii.gz"))


def final(studies):
    """The accepted mask, whatever its format."""
    (path,) = [path for path in (studies / "labels/final").glob("a.n*") if path.is_file()]
    return read_label(path).array


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES.keys())
def test_a_mask_is_measured_by_hand(tmp_path, affine):
    image = save(tmp_path / "a.nii.gz", np.ones(SHAPE, np.float32), affine)
    grid = Grid(SHAPE, np.array(affine))
    canonical = np.zeros(grid.canonical.shape, np.uint8)
    canonical[1:4, 1:3, 2] = 1  # 3 x 2 voxels of 0.4 x 0.5 x 1.5 mm; permuted: of 1.5 x 0.4 x 0.5
    path = save(tmp_path / "label.nii.gz", np.array(grid.to_stored(canonical)), affine)
    mask = read_accepted(path, image)
    assert mask.volume_ml == 0.0018  # 6 * 0.3 mm3
    sides = (4.5, 0.8) if affine == AFFINES["permuted"] else (1.2, 1.0)
    assert mask.max_axial_diameter_mm == round(float(np.hypot(*sides)), 2)


def test_an_empty_mask_has_neither_volume_nor_diameter(studies):
    path = save(studies.parent / "empty.nii.gz", np.zeros(SHAPE, np.uint8))
    mask = read_accepted(path, studies / "a.nii.gz")
    assert (mask.volume_ml, mask.max_axial_diameter_mm, mask.is_as_read) == (0, 0, True)


@settings(max_examples=40)
@given(
    values=hnp.arrays(np.int16, (3, 2, 2), elements=st.integers(-300, 300)),
    extension=st.sampled_from([".nii.gz", ".nii", ".nrrd"]),
)
def test_whatever_is_not_zero_is_tumor(tmp_path_factory, values, extension):
    studies = tmp_path_factory.mktemp("studies")
    image = save(studies / "a.nii.gz", np.ones((3, 2, 2), np.float32))
    upload = save(studies.parent / f"upload{extension}", values)
    keep(studies, "a", read_accepted(upload, image))
    label = read_volume(studies / f"labels/final/a{extension}")
    np.testing.assert_array_equal(label.array, values != 0)


@pytest.mark.parametrize("value", [0.5, 1.5, -0.25, 1e-30])
def test_a_value_that_is_no_whole_number_is_refused(studies, value):
    mask = block(2).astype(np.float32)
    mask[2, 2, 3] = value
    with pytest.raises(ImageError, match=f"holds 1 values like {value:g}; whole numbers"):
        accept(studies, mask)


def test_values_that_are_not_finite_are_refused(studies):
    mask = block(2).astype(np.float32)
    mask[2, 2, 3] = np.nan
    with pytest.raises(ImageError, match="not finite"):
        accept(studies, mask)


def test_another_grid_is_refused(studies):
    path = save(studies.parent / "label.nii.gz", block(2), AFFINES["lps"])
    with pytest.raises(ImageError, match="the label lies on another grid"):
        read_accepted(path, studies / "a.nii.gz")


def test_a_plain_mask_is_kept_byte_for_byte_and_another_becomes_uint8(studies):
    accept(studies, block(2), "upload.nrrd")
    there = studies / "labels/final/a.nrrd"
    assert there.read_bytes() == (studies.parent / "upload.nrrd").read_bytes()
    accept(studies, block(2, value=9).astype(np.float32), "upload.nrrd")
    assert sitk.ReadImage(str(there)).GetPixelID() == sitk.sitkUInt8


def test_the_first_label_has_no_history(studies):
    accept(studies, block(2))
    assert history(studies, "a") == []
    assert read_record(studies / "labels/final/a.clicks.json") == ()


def test_an_earlier_label_is_kept_with_its_clicks(studies):
    click(studies, HERE)
    assert [noted.click for noted in accept(studies, block(2))] == [HERE]
    first = (studies / "labels/final/a.clicks.json").read_bytes()
    click(studies, HERE, THERE)
    now = accept(studies, block(3), "upload.nrrd")
    assert [noted.is_repeated for noted in now] == [True, False]
    np.testing.assert_array_equal(final(studies), block(3))
    (earlier,) = history(studies, "a")
    np.testing.assert_array_equal(read_label(earlier).array, block(2))
    stem = earlier.name.removesuffix(".nii.gz")
    assert earlier.with_name(f"{stem}.clicks.json").read_bytes() == first
    assert datetime.strptime(stem, "%Y%m%dT%H%M%S.%fZ").year >= 2024
    assert names(studies / "labels/final") == ["a.clicks.json", "a.nrrd"]
    assert Journals(studies).read("a") == ()


def test_labels_of_one_moment_do_not_collide(studies, monkeypatch):
    moment = datetime(2026, 3, 1, 8, 0, 0, 123456, UTC)
    monkeypatch.setattr(accepted, "utc_now", lambda: moment)
    for side in (1, 2, 3, 4):
        accept(studies, block(side), "upload.nrrd" if side % 2 else "upload.nii.gz")
    kept = names(studies / "labels/history/a")
    first = "20260301T080000.123456Z"
    assert kept == sorted(
        f"{first}{number}{ending}"
        for number, kind in (("", ".nrrd"), ("-1", ".nii.gz"), ("-2", ".nrrd"))
        for ending in (kind, ".clicks.json")
    )
    np.testing.assert_array_equal(final(studies), block(4))


def test_a_label_that_is_a_link_leaves_its_target_alone(studies, tmp_path):
    elsewhere = save(tmp_path / "reference" / "a.nii.gz", block(1))
    (studies / "labels/final").mkdir(parents=True)
    (studies / "labels/final/a.nii.gz").symlink_to("../../../reference/a.nii.gz")
    accept(studies, block(2))
    np.testing.assert_array_equal(read_label(elsewhere).array, block(1))
    (earlier,) = history(studies, "a")
    assert not earlier.is_symlink()
    np.testing.assert_array_equal(read_label(earlier).array, block(1))


def test_a_label_is_copied_where_a_file_has_one_name_only(studies, monkeypatch):
    def refuse(*_):
        raise OSError("no such thing here")

    accept(studies, block(1))
    monkeypatch.setattr(os, "link", refuse)
    accept(studies, block(2))
    (earlier,) = history(studies, "a")
    np.testing.assert_array_equal(read_label(earlier).array, block(1))


def test_a_damaged_record_keeps_no_label_from_being_saved(studies):
    accept(studies, block(1))
    (studies / "labels/final/a.clicks.json").write_text("{")
    accept(studies, block(2))
    np.testing.assert_array_equal(final(studies), block(2))


@pytest.mark.parametrize("name", ["copyfile", "flush", "write_volume", "_to_history"])
def test_a_full_disk_leaves_the_earlier_label(studies, monkeypatch, name):
    click(studies, HERE)
    accept(studies, block(2))
    click(studies, THERE)
    before = {path: path.read_bytes() for path in studies.rglob("*") if path.is_file()}

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(accepted.shutil if name == "copyfile" else accepted, name, fail)
    with pytest.raises(OSError, match="No space left"):
        accept(studies, block(3, value=2 if name == "write_volume" else 1))
    assert {path: path.read_bytes() for path in studies.rglob("*") if path.is_file()} == before


def test_a_disk_that_takes_half_a_mask_leaves_the_earlier_label(studies):
    accept(studies, block(2), "upload.nii")
    upload = save(studies.parent / "upload.nii", block(3, value=255))
    mask = read_accepted(upload, studies / "a.nii.gz")
    before = {path: path.read_bytes() for path in studies.rglob("*") if path.is_file()}
    with full_disk(600), pytest.raises(OSError, match="only a part of it could"):
        keep(studies, "a", mask)
    assert {path: path.read_bytes() for path in studies.rglob("*") if path.is_file()} == before


class Killed(BaseException):
    """The server ends here."""


STEPS = [(os, "link"), (Path, "replace"), (Path, "unlink"), (Path, "mkdir"), (Path, "chmod")]


@pytest.mark.parametrize("step", range(40))
def test_a_stop_at_any_step_loses_nothing(studies, monkeypatch, step):
    click(studies, HERE)
    accept(studies, block(2), "upload.nrrd")
    click(studies, HERE, THERE)
    left = step

    def stopping(original):
        def wrapped(*args, **kwargs):
            nonlocal left
            left -= 1
            if left < 0:  # nor does anything happen afterwards
                raise Killed
            return original(*args, **kwargs)

        return wrapped

    upload = save(studies.parent / "upload.nii.gz", block(3))
    mask = read_accepted(upload, studies / "a.nii.gz")
    with monkeypatch.context() as patch:
        for owner, name in STEPS:
            patch.setattr(owner, name, stopping(getattr(owner, name)))
        try:
            keep(studies, "a", mask)
            is_killed = False
        except Killed:
            is_killed = True
    assert is_killed == (left < 0)
    is_new = (studies / "labels/final/a.nii.gz").is_file()
    newest = studies / f"labels/final/a.{'nii.gz' if is_new else 'nrrd'}"
    np.testing.assert_array_equal(read_label(newest).array, block(3 if is_new else 2))
    there = [newest, *history(studies, "a")]
    assert any(np.array_equal(read_label(path).array, block(2)) for path in there)
    beside = studies / "labels/final/a.clicks.json"
    if beside.is_file():  # never that of the other label
        wanted = {HERE, THERE} if is_new else {HERE}
        assert {noted.click for noted in read_record(beside)} == wanted
    records = [path for path in studies.rglob("*.clicks.json") if path.name[0] != "."]
    clicks = {noted.click for path in records for noted in read_record(path)}
    clicks |= {noted.click for noted in Journals(studies).read("a")}
    assert clicks == {HERE, THERE}
    accept(studies, block(4))  # and the next save works
    np.testing.assert_array_equal(final(studies), block(4))


def test_the_steps_are_all_stopped_at(studies, monkeypatch):
    """Forty is more than there are: else the test above would end too early."""
    accept(studies, block(2), "upload.nrrd")
    done = []
    for owner, name in STEPS:
        original = getattr(owner, name)
        monkeypatch.setattr(
            owner, name, lambda *args, _do=original, **more: (done.append(1), _do(*args, **more))[1]
        )
    accept(studies, block(3))
    assert 8 < len(done) < 40


def test_what_is_kept_of_an_image_can_be_forgotten(studies):
    click(studies, HERE)
    accept(studies, block(2))
    accept(studies, block(3))
    click(studies, THERE)
    for name in ("t2/a.nrrd", "provenance/a.json", "structures/a/02-cochlea.nii.gz"):
        for path in (studies / name, studies / name.replace("a.", "b.").replace("/a/", "/b/")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    forget(studies, "a")
    assert history(studies, "a") == []
    assert Journals(studies).read("a") == ()
    assert names(studies / "labels/final") == ["a.nii.gz"]
    assert [names(studies / folder) for folder in ("t2", "provenance", "structures")] == [
        ["b.nrrd"], ["b.json"], ["b"]
    ]  # fmt: skip
    forget(studies, "nobody")


def test_a_save_without_a_click_makes_no_known_click_a_new_one(studies):
    click(studies, HERE)
    accept(studies, block(2))
    assert accept(studies, block(2)) == ()
    assert accept(studies, block(2)) == ()
    click(studies, HERE, THERE)
    assert [noted.is_repeated for noted in accept(studies, block(3))] == [True, False]
    assert [len(noted) for noted in records(studies, "a")] == [1, 0, 0, 2]


def test_a_journal_that_cannot_be_read_keeps_no_label_from_being_saved(studies):
    (studies / JOURNAL_FOLDER / "a.jsonl").mkdir(parents=True)
    assert accept(studies, block(2)) == ()
    np.testing.assert_array_equal(final(studies), block(2))
    click(studies, HERE)
    assert len(accept(studies, block(3))) == 1


def test_a_label_that_is_retracted_is_an_earlier_one(studies):
    retract(studies, "a")
    click(studies, HERE)
    accept(studies, block(2), "upload.nrrd")
    retract(studies, "a")
    retract(studies, "a")
    assert names(studies / "labels/final") == []
    (earlier,) = history(studies, "a")
    np.testing.assert_array_equal(read_label(earlier).array, block(2))
    assert [[one.click for one in noted] for noted in records(studies, "a")] == [[HERE]]


def test_a_label_that_cannot_be_moved_stays(studies, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    accept(studies, block(2))
    monkeypatch.setattr(accepted, "_link", fail)
    with pytest.raises(OSError, match="No space left"):
        retract(studies, "a")
    np.testing.assert_array_equal(final(studies), block(2))
