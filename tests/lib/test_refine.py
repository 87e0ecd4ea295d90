"""Waiting studies train by the outlines of the models; what readers said stays as it is."""

import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import SHAPE, short, tiny, write_case

from clickseg.clicks import Click
from clickseg.config import SplitConfig
from clickseg.correction.local import LocalCorrection
from clickseg.correction.result import Correction
from clickseg.geometry import Grid, ijk_to_ras
from clickseg.initial import Initial
from clickseg.journal import Answered, Journals
from clickseg.learning import round as learning_round
from clickseg.learning.holdout import HELD, TRAINING, grow_holdout, may_train, read_holdout
from clickseg.learning.refine import expected_dice, keep_around, refined_cases
from clickseg.learning.settings import RefinedConfig
from clickseg.learning.store import ModelStore
from clickseg.learning.tuning import with_share
from clickseg.learning.update import update_model
from clickseg.modelfile import read_manifest
from clickseg.models import Models
from clickseg.study import find_cases, read_case_label, read_study
from clickseg.volume import ImageError

PATTERN = "^([A-Z]+-[0-9]+)"
WHOLE = tuple(slice(0, n) for n in SHAPE)


def box(*sides):
    mask = np.zeros(SHAPE, np.uint8)
    mask[tuple(slice(*side) for side in sides)] = 1
    return mask


class Echo:
    """Models that answer what a test wants, and remember whom they were asked about."""

    def __init__(self, mask, prob=0.9, radius_mm=4.0):
        self.mask, self.prob, self.radius_mm, self.asked = mask, prob, radius_mm, []

    correction_hash = "c"

    def initial(self, study):
        self.asked.append(study.case_id)
        if self.mask is None:
            raise ImageError("no outline")
        return Initial(self.mask, (self.prob * self.mask).astype(np.float32), WHOLE, None)

    def correction(self, study, start, clicks):
        mask = start.copy()
        for click in clicks:
            i, j, k = click.voxel(study.grid.canonical)
            mask[i - 1 : i + 2, j - 1 : j + 2, k] = click.is_foreground
        return Correction(mask, None, self.radius_mm)

    def models(self, version="a"):
        hashes = {"initial": version, "correction": self.correction_hash}
        return Models(self.initial, self.correction, hashes)


def config(studies=9, sure=0.0):
    return RefinedConfig(studies=studies, share=0.1, sure=sure)


def test_the_dice_that_an_outline_expects_by_hand():
    prob = np.zeros((4, 3, 2), np.float32)
    prob[0, 0, 0], prob[1, 1, 1], prob[2, 2, 0] = 0.9, 0.7, 0.4
    mask = np.zeros((7, 7, 7), np.uint8)
    mask[1:5, 2:5, 3:5] = prob > 0.5
    first = Initial(mask, prob, (slice(1, 5), slice(2, 5), slice(3, 5)), None)
    assert expected_dice(first) == pytest.approx(2 * 1.6 / (2.0 + 2), rel=1e-6)
    # As ``follow_edges`` leaves them: sure is 0.953, and the same Dice is expected.
    low = 1 / (1 + np.exp(3))
    limited = (low + (1 - 2 * low) * prob).astype(np.float32)
    assert expected_dice(Initial(mask, limited, first.box, None)) == pytest.approx(0.8, rel=1e-5)
    nothing = Initial(mask * 0, prob * 0, first.box, None)
    assert expected_dice(nothing) == 0


def test_around_clicks_the_earlier_mask_stays():
    affine = np.array([[0, -0.7, 0, 5], [0.5, 0, 0, -3], [0, 0, 1.5, 11], [0, 0, 0, 1.0]])
    grid = Grid((23, 19, 7), affine)
    rng = np.random.default_rng(3)
    mask, earlier = (rng.integers(0, 2, grid.shape).astype(np.uint8) for _ in range(2))
    clicks = [Click.at((5, 7, 3), True, grid), Click.at((20, 2, 1), False, grid)]
    kept = keep_around(mask, earlier, tuple(clicks), grid, 3.1)
    for place in np.ndindex(*grid.shape):
        point = ijk_to_ras([place], affine)[0]
        apart = min(np.linalg.norm(point - np.array(click.point_ras)) for click in clicks)
        wanted = earlier if apart <= 3.1 else mask
        assert kept[place] == wanted[place]
    assert np.array_equal(keep_around(mask, mask, tuple(clicks), grid, 3.1), mask)


@given(few=st.integers(1, 40), many=st.integers(1, 200), share=st.floats(0.02, 0.6))
def test_refined_labels_have_about_their_share(few, many, share):
    mixed = with_share(["a"] * many, ["b"] * few, share)
    counts = mixed.count("a"), mixed.count("b")
    assert counts[0] % many == 0
    assert counts[1] % few == 0
    odds = counts[1] / counts[0] / (share / (1 - share))
    assert 0.66 < odds < 1.51  # whole repetitions alone are possible
    assert with_share(["a"] * many, [], share) == ["a"] * many


@pytest.fixture
def studies(tmp_path):
    folder = tmp_path / "studies"
    for number in range(1, 6):
        write_case(folder, f"VS-{number}", (30, 26, 9), 4.0, label=False)
    return folder


def note(studies, case_id, *clicks):
    case = next(case for case in find_cases(studies) if case.case_id == case_id)
    grid = read_study(case.t1ce).grid.canonical
    made = tuple(Click.at(voxel, kind, grid) for voxel, kind in clicks)
    Journals(studies).note(case_id, Answered("click", "initial", made, {"initial": "a"}, 1))


def test_clicked_regions_stay_over_rounds(studies, tmp_path):
    note(studies, "VS-3", ((20, 20, 9), True))
    waiting, folder = find_cases(studies), tmp_path / "refined"
    echo = Echo(box((25, 35), (21, 31), (7, 12)))
    found = refined_cases(studies, waiting, echo.models(), folder, config(studies=2))
    assert [case.case_id for case in found] == ["VS-3", "VS-1"]  # with clicks first
    grid = read_study(found[0].t1ce).grid
    first = read_case_label(found[0], grid)
    wanted = echo.mask.copy()
    wanted[19:22, 19:22, 9] = 1
    assert np.array_equal(first, wanted)
    assert np.array_equal(read_case_label(found[1], grid), echo.mask)
    # Nothing is new: nothing is made.
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    echo.asked.clear()
    echo.correction_hash = "d"  # as when the correction was published meanwhile
    assert refined_cases(studies, waiting, echo.models(), folder, config(studies=2)) == found
    assert echo.asked == []
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    # Other models say that all is tumor: not around the click, where the reader was content.
    other = Echo(np.ones(SHAPE, np.uint8))
    refined_cases(studies, waiting, other.models("b"), folder, config(studies=2))
    second = read_case_label(found[0], grid)
    offsets_mm = (np.indices(SHAPE).reshape(3, -1).T - [20, 20, 9]) * grid.canonical.spacing_mm
    near = (np.linalg.norm(offsets_mm, axis=1) <= 4.0).reshape(SHAPE)
    assert np.array_equal(second[near], first[near])
    assert (second[~near] == 1).all()
    # The reader takes the click back: the outline is that of the models again.
    note(studies, "VS-3", ((2, 2, 2), False))
    refined_cases(studies, waiting, other.models("b"), folder, config(studies=2))
    third = read_case_label(found[0], grid)
    assert third[2, 2, 2] == 0
    assert third[near].all()


def test_doubted_and_empty_outlines_teach_nothing(studies, tmp_path):
    waiting = find_cases(studies)
    doubted = Echo(box((25, 35), (21, 31), (7, 12)), prob=0.6)  # expects 2 * 0.6 / 1.6
    for sure, count in ((0.74, 5), (0.76, 0)):
        folder = tmp_path / f"{sure}"
        found = refined_cases(studies, waiting, doubted.models(), folder, config(sure=sure))
        assert len(found) == count
    empty = Echo(np.zeros(SHAPE, np.uint8))
    folder = tmp_path / "empty"
    assert refined_cases(studies, waiting, empty.models(), folder, config(sure=0.01)) == []
    assert refined_cases(studies, waiting, empty.models(), folder, config(sure=0)) == []
    few = Echo(doubted.mask, prob=0.6)
    wanted = config(studies=1, sure=0.9)
    assert refined_cases(studies, waiting, few.models(), tmp_path / "few", wanted) == []
    assert few.asked == ["VS-1", "VS-2", "VS-3"]  # not all are looked at for one


def test_a_study_that_cannot_be_read_is_left_out(studies, tmp_path, caplog):
    (studies / "VS-2.nii.gz").write_bytes(b"nothing")
    echo = Echo(box((25, 35), (21, 31), (7, 12)))
    found = refined_cases(studies, find_cases(studies), echo.models(), tmp_path / "r", config())
    assert [case.case_id for case in found] == ["VS-1", "VS-3", "VS-4", "VS-5"]
    assert any("VS-2 is left out" in record.message for record in caplog.records)


def test_a_click_outside_of_an_image_that_was_replaced_ends_no_round(studies, tmp_path, caplog):
    note(studies, "VS-2", ((40, 30, 10), True))
    image = nib.load(studies / "VS-2.nii.gz")
    nib.save(image.slicer[:9, :9, :5], studies / "VS-2.nii.gz")
    echo = Echo(box((25, 35), (21, 31), (7, 12)))
    models = replace(
        echo.models(), correction=LocalCorrection(torch.nn.Identity(), tiny().correction)
    )
    models = replace(models, initial=lambda study: cut_to(echo.initial(study), study))
    found = refined_cases(studies, find_cases(studies), models, tmp_path / "r", config())
    assert [case.case_id for case in found] == ["VS-1", "VS-3", "VS-4", "VS-5"]
    assert any("VS-2 is left out: clicks must lie" in one.message for one in caplog.records)


def cut_to(first, study):
    i, j, k = study.grid.canonical.shape
    return replace(first, mask=first.mask[:i, :j, :k])


def test_who_is_held_out_meanwhile_does_not_train(studies, base, tmp_path, monkeypatch):
    for number in range(6, 13):  # of some patients every second may train
        write_case(studies, f"VS-{number}", (30, 26, 9), 4.0, label=False)
    path = studies / ".clickseg/holdout.json"

    def refined(_studies, waiting, *_):
        """As long as that takes, the update of the other model decides, too."""
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"patients": {waiting[0].case_id: HELD}}))
        return waiting

    monkeypatch.setattr(learning_round, "refined_cases", refined)
    store = ModelStore(tmp_path / "store", base)
    update = short(refined=RefinedConfig(studies=9, share=0.2, sure=0.0))
    recipe = SplitConfig(validation=0.2, patient=PATTERN)
    found = learning_round._refined(
        studies, store, find_cases(studies), recipe, update, "cpu", "initial"
    )
    sides = read_holdout(path)
    assert sorted(sides.values()) == [HELD, *[TRAINING] * len(found)]
    assert len(found) > 0
    assert {sides[case.case_id] for case in found} == {TRAINING}


def test_patients_that_train_are_never_held_out(tmp_path):
    path = tmp_path / "holdout.json"
    names = [f"A-{n}" for n in range(40)]
    some = [name for name in names if may_train(name, path, PATTERN)]
    assert 10 < len(some) < 30
    first = grow_holdout(path, names[:3], PATTERN, 0.34, bound=[*some, *names[:3]])
    sides = read_holdout(path)
    assert sum(side == HELD for side in sides.values()) == len(first.validation) == 1
    assert {sides[name] for name in some if name not in first.validation} == {TRAINING}
    last = grow_holdout(path, names, PATTERN, 0.34)
    assert len(last.validation) == round(0.34 * 40)
    assert set(last.validation).isdisjoint(set(some) - set(first.validation))
    for name in names:
        assert may_train(name, path, PATTERN) == (name in last.training)


def test_an_update_trains_on_waiting_studies_and_no_held_one(small_studies, base, tmp_path):
    shutil.copytree(small_studies, tmp_path / "studies")
    for number in range(5, 11):
        write_case(tmp_path / "studies", f"VS-{number}", (30, 26, 9), 4.0, label=False)
    write_case(tmp_path / "studies", "VS-4v2", (30, 26, 9), 4.0, label=False)
    sides = {f"VS-{n}": TRAINING for n in (1, 2, 3)} | {"VS-4": HELD}
    (tmp_path / "studies/.clickseg").mkdir()
    (tmp_path / "studies/.clickseg/holdout.json").write_text(json.dumps({"patients": sides}))
    store = ModelStore(tmp_path / "store", base)
    refined = RefinedConfig(studies=9, share=0.2, sure=0.0)
    outcome = update_model("initial", tmp_path / "studies", store, short(refined=refined))
    assert (outcome.training, outcome.holdout) == (3, 1)
    data = read_manifest(next((tmp_path / "store/rounds/initial").glob("*/")), "initial").data
    more = {*data["training"]} - {"VS-1", "VS-2", "VS-3"}
    assert more
    assert f"{len(more)} with labels of the models" in data["source"]
    assert more <= {f"VS-{n}" for n in range(5, 11)}  # not the second study of one held out
    now = read_holdout(tmp_path / "studies/.clickseg/holdout.json")
    assert {now[name] for name in more} == {TRAINING}
    update_model("correction", tmp_path / "studies", store, short(refined=refined))
    data = read_manifest(next((tmp_path / "store/rounds/correction").glob("*/")), "correction").data
    assert {*data["training"]} == {"VS-1", "VS-2", "VS-3"}  # the correction learns from readers
