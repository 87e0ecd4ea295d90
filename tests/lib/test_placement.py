"""Where a T2 lies is the studies folder's decision: whoever reads a study reads the same one."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from clickseg import placement
from clickseg.accepted import forget
from clickseg.cache import Fingerprints
from clickseg.choosing.cached import content_of
from clickseg.correction import Correction
from clickseg.engine import Engine
from clickseg.evaluation.run import fingerprints
from clickseg.geometry import Grid
from clickseg.initial import Initial
from clickseg.models import Models
from clickseg.placement import Placing, read_placing, tell_frames, tell_mode
from clickseg.study import PLACING_FOLDER, find_case, read_study
from clickseg.training.prepare import prepare_cases
from clickseg.volume import ImageError, Volume, read_volume, write_volume

SAMPLE = Path(__file__).parents[2] / "sample-data"
NAME = "phantom-0003.nii.gz"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study whose T2 lies 6 mm off, with a label."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copy(SAMPLE / NAME, folder / "a.nii.gz")
    t2, grid = read_volume(SAMPLE / "t2" / NAME), read_volume(SAMPLE / NAME).grid
    label = np.zeros(grid.shape, np.uint8)
    label[tuple(slice(n // 2, n // 2 + 5) for n in grid.shape)] = 1
    write_volume(folder / "labels" / "final" / "a.nii.gz", Volume(label, grid))
    shift = np.eye(4)
    shift[:3, 3] = [4, -2, 4]
    away = Volume(t2.array, Grid(t2.grid.shape, shift @ t2.grid.affine))
    write_volume(folder / "t2" / "a.nii.gz", away)
    return folder


@pytest.fixture
def studies(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "studies"))


@pytest.fixture
def told(studies):
    return studies / PLACING_FOLDER


@pytest.fixture
def registered(monkeypatch):
    """Count how often a T2 is registered."""
    calls = []

    def register(*args):
        calls.append(args)
        return real(*args)

    real = placement.register
    monkeypatch.setattr(placement, "register", register)
    return calls


def read(studies):
    case = find_case(studies / "a.nii.gz")
    return read_study(case.t1ce, case.t2)


def files_in(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".clickseg" not in path.parts
    }


def test_what_the_folder_was_told_counts_for_whoever_reads_it(studies, told, registered):
    before, by_header = files_in(studies), read(studies)
    assert by_header.registration is None
    tell_mode(told, "auto")
    first = read(studies)
    assert first.registration.accepted
    assert first.registration.shift_mm == pytest.approx(6, abs=1)
    assert np.abs(first.image[1] - by_header.image[1]).max() > 1
    np.testing.assert_array_equal(first.image[0], by_header.image[0])
    again = read(studies)
    assert len(registered) == 1
    np.testing.assert_array_equal(again.image, first.image)
    assert again.registration.as_result() == first.registration.as_result()
    assert files_in(studies) == before
    tell_mode(told, "header")
    np.testing.assert_array_equal(read(studies).image, by_header.image)
    tell_mode(told, "auto")
    np.testing.assert_array_equal(read(studies).image, first.image)
    assert len(registered) == 1


@pytest.mark.parametrize("mode", [None, "auto"])
def test_an_answer_is_of_the_study_that_models_are_trained_and_scored_on(
    studies, told, registered, mode
):
    tell_mode(told, "auto")
    case = find_case(studies / "a.nii.gz")
    answered = engine(mode).study(case.t1ce, case.t2)
    np.testing.assert_array_equal(answered.image, read(studies).image)
    assert len(registered) == 1
    tell_mode(told, "header")
    changed = engine(None).study(case.t1ce, case.t2)
    assert changed.registration is None
    np.testing.assert_array_equal(changed.image, read(studies).image)


def engine(mode):
    nothing = (slice(0, 0), slice(0, 0), slice(0, 0))

    def initial(study):
        shape = study.grid.canonical.shape
        return Initial(np.zeros(shape, np.uint8), np.zeros((0, 0, 0), np.float32), nothing, None)

    def correction(_study, start, _clicks, _memo=None):
        return Correction(start.copy(), None, 3.0)

    return Engine(Models(initial, correction, {}), registration=mode)


def test_one_engine_takes_another_decision_when_it_is_told(studies, told):
    case, asked = find_case(studies / "a.nii.gz"), engine(None)
    by_header = asked.study(case.t1ce, case.t2)
    tell_mode(told, "auto")
    auto = asked.study(case.t1ce, case.t2)
    assert auto.registration.accepted
    assert asked.initial(auto).result["registration"] == auto.registration.as_result()
    tell_mode(told, "header")
    assert asked.study(case.t1ce, case.t2) is by_header


def test_what_is_kept_of_a_study_is_told_apart_by_the_decision(studies, told):
    case, name = find_case(studies / "a.nii.gz"), Fingerprints()
    settings = (2.0, 2.0, 2.0), (16, 16, 8), (4.0, 4.0, 4.0), 0
    seen, trained = set(), []
    for mode, differ in (("header", False), ("auto", False), ("auto", True), ("off", True)):
        tell_mode(told, mode)
        tell_frames(told, "a", differ)
        seen.add((content_of(case, name), tuple(fingerprints(case))))
        trained += prepare_cases([case], *settings)
    assert len(seen) == len({content for content, _ in seen}) == 4
    t2 = [one.coarse[1].numpy() for one in trained]
    assert np.abs(t2[0] - t2[1]).max() > 1
    assert not t2[3].any()
    tell_mode(told, "header")  # where headers are trusted, frames change nothing
    assert (content_of(case, name), tuple(fingerprints(case))) in seen
    alone = find_case(studies / "a.nii.gz")
    (studies / "t2" / "a.nii.gz").unlink()
    tell_mode(told, "auto")
    without = content_of(find_case(alone.t1ce), name)
    tell_mode(told, "header")
    assert content_of(find_case(alone.t1ce), name) == without


@pytest.mark.parametrize("change", ["t2", "t1ce", "frames", "damage"])
def test_a_registration_of_something_else_is_not_taken(studies, told, registered, change):
    tell_mode(told, "auto")
    before = read(studies)
    if change == "t2":
        t2 = read_volume(studies / "t2" / "a.nii.gz")
        t2.array[5, 7, 3] += 1
        write_volume(studies / "t2" / "a.nii.gz", t2)
    elif change == "t1ce":
        t1ce = read_volume(studies / "a.nii.gz")
        affine = t1ce.grid.affine.copy()
        affine[0, 3] += 0.25
        write_volume(studies / "a.nii.gz", Volume(t1ce.array, Grid(t1ce.grid.shape, affine)))
    elif change == "frames":
        tell_frames(told, "a", True)
    else:
        (told / "a.found.json").write_text('{"key": 1')
    read(studies)
    assert len(registered) == 2
    if change == "damage":
        np.testing.assert_array_equal(read(studies).image, before.image)
        assert len(registered) == 2


def test_what_cannot_be_kept_is_found_anyway(studies, told, registered, caplog):
    tell_mode(told, "auto")
    (told / "a.found.json").mkdir()
    assert read(studies).registration.accepted
    assert "a registration is not kept" in caplog.text
    assert len(registered) == 1


def test_a_folder_that_was_told_nothing_is_left_as_it_is(studies, told):
    case = find_case(studies / "a.nii.gz")
    assert read_study(case.t1ce, case.t2, Placing("auto")).registration.accepted
    tell_mode(told, "header")
    tell_frames(told, "a", False)
    assert not told.exists()
    assert read_placing(told, "a") == Placing("header", False)


def test_another_mode_counts_in_place_of_the_one_told(told):
    tell_mode(told, "off")
    tell_frames(told, "a", True)
    assert read_placing(told, "a") == Placing("off", True)
    assert read_placing(told, "b") == Placing("off", False)
    assert read_placing(told, "a", "auto") == Placing("auto", True)
    tell_mode(told, "header")
    assert read_placing(told, "a") == Placing("header", True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"registration": "maybe"}', "says 'maybe', one of auto, header, off was wanted"),
        ('{"registration"', "does not say how a T2 is placed"),
        ("[]", "does not say how a T2 is placed"),
        ("{}", "does not say how a T2 is placed"),
    ],
)
def test_a_setting_that_cannot_be_read_is_no_header(studies, told, text, said):
    told.mkdir(parents=True)
    (told / "setting.json").write_text(text)
    with pytest.raises(ImageError, match=said):
        read(studies)
    case = find_case(studies / "a.nii.gz")
    assert read_study(case.t1ce).t2_path is None  # nothing is to be placed


def test_of_a_study_that_was_removed_nothing_is_kept(studies, told):
    tell_mode(told, "auto")
    tell_frames(told, "a", True)
    read(studies)
    assert len(list(told.iterdir())) == 3
    forget(studies, "a")
    assert [path.name for path in told.iterdir()] == ["setting.json"]
