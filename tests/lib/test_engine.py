import dataclasses
import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest
import torch

from clickseg import engine as engine_module
from clickseg.clicks import Click, voxels_of
from clickseg.config import load_config
from clickseg.correction import Correction, LocalCorrection
from clickseg.correction import local as local_module
from clickseg.engine import Engine
from clickseg.geometry import Grid
from clickseg.initial import Initial
from clickseg.models import Models
from clickseg.scribbles import Scribbles
from clickseg.volume import ImageError, Volume, read_label, write_volume

SHAPE = (37, 31, 23)
AFFINES = {
    "ras": [[0.4, 0, 0, -7], [0, 0.5, 0, 3], [0, 0, 1.5, 11], [0, 0, 0, 1]],
    "lps": [[-0.4, 0, 0, 7], [0, -0.5, 0, -3], [0, 0, 1.5, 11], [0, 0, 0, 1]],
    "permuted": [[0, 0, 1.5, 11], [-0.4, 0, 0, 7], [0, 0.5, 0, 3], [0, 0, 0, 1]],
}
RADIUS_MM = 3.0
DEFAULT = Path(__file__).parents[2] / "configs" / "default.yaml"


class EchoModels:
    """An initial outline of one box; each click sets its own voxel and nothing else."""

    def __init__(self):
        self.initial_calls = self.correction_calls = 0
        self.uncertain_ijk = (2, 3, 5)

    def initial(self, study):
        self.initial_calls += 1
        mask = np.zeros(study.grid.canonical.shape, dtype=np.uint8)
        mask[10:15, 10:15, 10:15] = 1
        nothing = (slice(0, 0), slice(0, 0), slice(0, 0))
        return Initial(mask, np.zeros((0, 0, 0), np.float32), nothing, self.uncertain_ijk)

    def correction(self, study, start, clicks, memo=None, spent=None):  # noqa: ARG002  # echoes no passes
        self.correction_calls += 1
        mask = start.copy()
        voxels, is_foreground = voxels_of(clicks, study.grid.canonical)
        mask[tuple(voxels.T)] = is_foreground
        return Correction(mask, None, RADIUS_MM)

    def models(self):
        return Models(self.initial, self.correction, {"initial": "1", "correction": "2"})


class Doubtful(torch.nn.Module):
    """Answers by the image and the clicks, as a network does."""

    def forward(self, cut):
        return cut[:, :1] + 8 * cut[:, 3:4] - 8 * cut[:, 4:5]


class Torn(torch.nn.Module):
    """Is in doubt everywhere."""

    def forward(self, cut):
        return 0 * cut[:, :1]


def mending(network=Doubtful):
    """Return the initial outline of the echo, and a real correction."""
    config = load_config(DEFAULT).correction
    config = dataclasses.replace(config, reach_mm=4.0, visible_mm=2.0, cut=(24, 20, 7), border=None)
    correction = LocalCorrection(network(), config)
    return Models(EchoModels().initial, correction, {"initial": "1", "correction": "2"})


@pytest.fixture
def echo():
    return EchoModels()


@pytest.fixture
def engine(echo):
    return Engine(echo.models())


@pytest.fixture(params=AFFINES.values(), ids=AFFINES.keys())
def affine(request):
    return np.array(request.param, dtype=float)


def write_image(path, affine=AFFINES["ras"], seed=0):
    rng = np.random.default_rng(seed)
    array = rng.normal(100, 20, SHAPE).astype(np.float32)
    return write_volume(path, Volume(array, Grid(SHAPE, np.array(affine))))


@pytest.fixture
def t1ce(tmp_path):
    return write_image(tmp_path / "a.nii.gz")


@pytest.fixture
def t2(tmp_path):
    return write_image(tmp_path / "t2" / "a.nii.gz", seed=1)


def test_a_click_comes_back_at_its_own_stored_voxel(engine, tmp_path, affine):
    study = engine.study(write_image(tmp_path / "b.nrrd", affine))
    click = Click.at((5, 7, 11), True, study.grid)
    empty = np.zeros(study.grid.canonical.shape, dtype=np.uint8)
    answer = engine.correct(study, (click,), empty)
    assert answer.label.shape == SHAPE
    assert answer.label.dtype == np.uint8
    assert np.argwhere(answer.label).tolist() == [[5, 7, 11]]


def test_the_next_click_is_told_in_the_order_of_the_file(engine, tmp_path, affine, echo):
    study = engine.study(write_image(tmp_path / "b.nrrd", affine))
    wanted = np.zeros(study.grid.canonical.shape)
    wanted[echo.uncertain_ijk] = 1
    expected = np.argwhere(study.grid.to_stored(wanted))[0].tolist()
    assert engine.initial(study).result["next_click"] == expected


def test_the_initial_answer_measures_the_outline(engine, t1ce, t2):
    result = engine.initial(engine.study(t1ce, t2)).result
    latencies = result.pop("latencies")
    assert set(latencies) == {"infer", "post"}
    assert result == {
        "volume_ml": 0.0375,  # 125 voxels of 0.4 x 0.5 x 1.5 mm
        "max_axial_diameter_mm": 3.2,  # 5 voxels of 0.4 by 5 of 0.5: hypot(2, 2.5) = 3.2016
        "changed_voxels": 0,
        "changed_ml": 0,
        "radius_mm": RADIUS_MM,
        "clicks": 0,
        "clicks_obeyed": 0,
        "next_click": [2, 3, 5],
        "t2": str(t2),
        "registration": None,
        "models": {"initial": "1", "correction": "2"},
    }


def test_a_correction_says_what_changed(engine, t1ce):
    study = engine.study(t1ce)
    inside = [Click.at((10, 10, 10), False, study.grid), Click.at((11, 10, 10), False, study.grid)]
    outside = [Click.at((30, 20, 20), True, study.grid)]
    result = engine.correct(study, (*inside, *outside)).result
    assert result["changed_voxels"] == 3
    assert result["changed_ml"] == 0.0009
    assert result["clicks"] == result["clicks_obeyed"] == 3
    assert result["t2"] is None


def test_the_next_click_of_the_outline_stays_while_no_click_is_near(engine, t1ce):
    study = engine.study(t1ce)
    far = (Click.at((30, 20, 20), True, study.grid),)
    near = (Click.at((2, 3, 6), True, study.grid),)
    assert engine.correct(study, far).result["next_click"] == [2, 3, 5]
    assert engine.correct(study, near).result["next_click"] is None


def test_the_second_click_reads_no_image_and_segments_nothing(engine, t1ce, t2, echo, monkeypatch):
    engine.correct(engine.study(t1ce, t2), ())
    monkeypatch.setattr(engine_module, "read_study", None)
    engine.correct(engine.study(t1ce, t2), ())
    assert echo.initial_calls == 1


def test_a_click_under_way_ends_with_the_models_it_began_with(t1ce):
    """Another model is published while the initial outline of the click is made."""
    old, new = EchoModels(), EchoModels()
    is_asked, may_answer = threading.Event(), threading.Event()

    def slow(study):
        is_asked.set()
        assert may_answer.wait(60)
        return old.initial(study)

    engine = Engine(Models(slow, old.correction, {"initial": "1", "correction": "2"}))
    study = engine.study(t1ce)
    clicks = (Click.at((5, 7, 11), True, study.grid),)
    with ThreadPoolExecutor(2) as pool:
        click = pool.submit(engine.correct, study, clicks)
        assert is_asked.wait(60)
        others = Models(new.initial, new.correction, {"initial": "3", "correction": "4"})
        published = pool.submit(engine.use, others)
        done, _ = wait([published], timeout=1)
        assert not done  # it waits for the click
        may_answer.set()
        assert click.result().result["models"] == {"initial": "1", "correction": "2"}
        published.result()
    assert (old.correction_calls, new.correction_calls) == (1, 0)
    assert engine.correct(study, clicks).result["models"] == {"initial": "3", "correction": "4"}
    assert (old.correction_calls, new.correction_calls) == (1, 1)


def test_the_same_request_is_answered_from_the_cache(engine, t1ce, echo):
    study = engine.study(t1ce)
    clicks = (Click.at((5, 7, 11), True, study.grid),)
    first, second = engine.correct(study, clicks), engine.correct(study, clicks)
    assert echo.correction_calls == 1
    np.testing.assert_array_equal(first.label, second.label)


def test_undo_gives_the_earlier_answer(engine, t1ce):
    study = engine.study(t1ce)
    first = (Click.at((5, 7, 11), True, study.grid),)
    before = engine.correct(study, first)
    engine.correct(study, (*first, Click.at((12, 12, 12), False, study.grid)))
    after = engine.correct(study, first)
    np.testing.assert_array_equal(before.label, after.label)
    assert before.result["volume_ml"] == after.result["volume_ml"]


@pytest.mark.parametrize("hold", [lambda label: label, lambda label: label[::-1].T[3:]])
def test_an_answer_that_somebody_holds_stays_as_it_is(affine, tmp_path, hold):
    study = Engine(mending()).study(write_image(tmp_path / "b.nrrd", affine))
    engine, held = Engine(mending()), []
    places = [(12, 12, 12), (14, 10, 11), (30, 20, 20), (11, 14, 13)]
    clicks = [Click.at(place, n % 2 == 0, study.grid) for n, place in enumerate(places)]
    for made in ([0], [0, 1], [0, 1, 2], [0, 2], [3], [3, 1], [0]):
        asked = tuple(clicks[n] for n in made)
        answer = hold(engine.correct(study, asked).label)
        assert (answer == hold(Engine(mending()).correct(study, asked).label)).all()
        if len(made) > 1:  # the others are dropped, and their memory is used again
            held.append((answer, answer.copy()))
    assert all((answer == copy).all() for answer, copy in held)
    assert len({label.tobytes() for label, _ in held}) == len(held)


def test_an_answer_that_nobody_holds_gives_its_memory_to_the_next(t1ce):
    engine = Engine(mending())
    study = engine.study(t1ce)
    one, other = (Click.at((12, n, 12), False, study.grid) for n in (11, 12))
    address = engine.correct(study, (one,)).label.ctypes.data
    assert engine.correct(study, (one, other)).label.ctypes.data == address
    kept = engine.correct(study, (other,)).label
    assert engine.correct(study, (one, other)).label.ctypes.data != kept.ctypes.data


def test_a_correction_that_fails_leaves_no_half_mended_answer(t1ce, monkeypatch):
    engine = Engine(mending())
    study = engine.study(t1ce)
    one, other = (Click.at((12, n, 12), False, study.grid) for n in (11, 12))
    expected = engine.correct(study, (one,)).label.copy()

    def fail(*_):
        raise RuntimeError("no")

    with monkeypatch.context() as patched:  # the last step: the spent mask is mended by then
        patched.setattr(local_module, "most_uncertain", fail)
        with pytest.raises(RuntimeError, match="no"):
            engine.correct(study, (one, other))
    assert (engine.correct(study, (one,)).label == expected).all()


def test_a_touched_file_is_a_hit_and_a_changed_one_is_not(engine, t1ce):
    first = engine.study(t1ce)
    os.utime(t1ce, ns=(1, 1))
    assert engine.study(t1ce) is first
    write_image(t1ce, seed=7)
    assert not np.array_equal(engine.study(t1ce).image, first.image)


def test_a_changed_t2_is_another_study(engine, t1ce, t2, echo):
    engine.initial(engine.study(t1ce, t2))
    write_image(t2, seed=7)
    engine.initial(engine.study(t1ce, t2))
    engine.initial(engine.study(t1ce))
    assert echo.initial_calls == 3


def test_a_copy_of_a_file_shares_the_pixels_but_keeps_its_name(engine, t1ce, tmp_path):
    copy = tmp_path / "other.nii.gz"
    copy.write_bytes(t1ce.read_bytes())
    first, second = engine.study(t1ce), engine.study(copy)
    assert (first.case_id, second.case_id) == ("a", "other")
    assert second.image is first.image


def test_an_accepted_label_is_the_start_mask(engine, t1ce, tmp_path):
    study = engine.study(t1ce)
    array = np.zeros(SHAPE, dtype=np.uint8)
    array[3, 5, 7] = 2
    path = write_volume(tmp_path / "labels" / "a.nii.gz", Volume(array, study.grid))
    start = engine.label(study, path)
    assert engine.label(study, path) is start
    answer = engine.correct(study, (), start)
    assert np.argwhere(answer.label).tolist() == [[3, 5, 7]]
    assert set(np.unique(answer.label)) == {0, 1}
    assert engine.correct(study, (), start.copy()).result["changed_voxels"] == 0


def test_a_new_accepted_label_is_taken_at_once(engine, t1ce, tmp_path):
    study = engine.study(t1ce)
    for voxel in ([3, 5, 7], [4, 6, 8]):
        array = np.zeros(SHAPE, dtype=np.uint8)
        array[tuple(voxel)] = 1
        path = write_volume(tmp_path / "label.nrrd", Volume(array, study.grid))
        answer = engine.correct(study, (), engine.label(study, path))
        assert np.argwhere(answer.label).tolist() == [voxel]


def test_a_label_that_changes_while_it_is_read_is_not_kept(engine, t1ce, tmp_path, monkeypatch):
    study, path = engine.study(t1ce), tmp_path / "label.nrrd"

    def write(voxels):
        array = np.zeros(SHAPE, dtype=np.uint8)
        array[:voxels, 0, 0] = 1
        return write_volume(path, Volume(array, study.grid))

    def read(path):
        write(9)
        return read_label(path)

    write(5)
    with monkeypatch.context() as patch:
        patch.setattr(engine_module, "read_label", read)
        with pytest.raises(ImageError, match=r"label\.nrrd changed while it was read"):
            engine.label(study, path)
    write(5)
    assert engine.label(study, path).sum() == 5


def test_a_scribble_is_not_asked_for(t1ce):
    engine = Engine(mending())
    study = engine.study(t1ce)
    click = Click.at((18, 15, 11), True, study.grid)
    asked = engine.correct(study, (click,)).result["next_click"]
    painted = np.zeros(SHAPE, dtype=bool)
    painted[tuple(asked)] = True
    canonical = study.grid.to_canonical(painted)
    scribbles = Scribbles(canonical, np.zeros_like(canonical))
    answer = engine.correct(study, (click,), None, scribbles)
    assert answer.result["next_click"] is None


def test_the_next_click_is_never_where_one_was(t1ce):
    engine, made = Engine(mending(Torn)), [[18, 15, 11]]
    study = engine.study(t1ce)
    for _ in range(12):
        clicks = tuple(Click.at(voxel, True, study.grid) for voxel in made)
        voxel = engine.correct(study, clicks).result["next_click"]
        assert voxel is not None
        assert voxel not in made
        made.append(voxel)


def test_a_label_on_another_grid_is_refused(engine, t1ce, tmp_path):
    study = engine.study(t1ce)
    shifted = study.grid.affine.copy()
    shifted[0, 3] += 1
    label = Volume(np.zeros(SHAPE, dtype=np.uint8), Grid(SHAPE, shifted))
    path = write_volume(tmp_path / "label.nrrd", label)
    with pytest.raises(ImageError, match=r"label\.nrrd lies on another grid"):
        engine.label(study, path)


def test_a_study_made_elsewhere_is_keyed_by_its_pixels(engine, t1ce, echo):
    study = engine.study(t1ce)
    for _ in range(2):
        engine.initial(dataclasses.replace(study))
    engine.initial(dataclasses.replace(study, image=study.image + 1))
    assert echo.initial_calls == 2


def test_the_cache_stays_below_its_limit(echo, tmp_path):
    one = 37 * 31 * 23 * 8
    engine = Engine(echo.models(), cache_bytes=3 * one)
    for seed in range(5):
        engine.correct(engine.study(write_image(tmp_path / f"{seed}.nrrd", seed=seed)), ())
        assert engine.cache.nbytes <= 3 * one


def test_a_missing_file_is_refused(engine, tmp_path):
    with pytest.raises(ImageError, match=r"no image gone\.nii"):
        engine.study(tmp_path / "gone.nii")
