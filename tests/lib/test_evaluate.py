import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from clickseg.baselines.method import Answer
from clickseg.cli import app
from clickseg.clicks import Click
from clickseg.commands.trained import count_trained_on
from clickseg.evaluation import methods, run
from clickseg.evaluation.methods import MethodError, manifests_of, parse_method
from clickseg.evaluation.reading import COMMON_RADIUS_MM, _changed_outside
from clickseg.evaluation.run import leave_out
from clickseg.geometry import Grid
from clickseg.modelfile import Manifest, ModelError, save_model
from clickseg.study import Study, find_case
from clickseg.volume import ImageError, Volume, write_volume

SAMPLE_DATA = Path(__file__).parents[2] / "sample-data"
BESIDE = Path(__file__).parents[3] / "shared"
STUDY_MAKER = Path(
    os.environ.get("STUDY_MAKER") or next(BESIDE.glob("*/make_studies.py"), BESIDE / "none")
)
"""Makes studies of real outlines; it lies beside the repository where there is one."""

SHAPE = (41, 37, 13)
GRID = Grid(SHAPE, np.array([[-0.5, 0, 0, 7], [0, 0.5, 0, 3], [0, 0, 1.5, 11], [0, 0, 0, 1]]))


class Painter:
    """Sets the 3x3x3 voxels around each click; starts from nothing."""

    version = "1"
    opened = 0
    seen = None
    stray = False

    def initial(self, study):
        return np.zeros(study.grid.canonical.shape, np.uint8)

    def open(self, study, start):
        Painter.opened += 1
        Painter.seen = study
        return _Painting(study, self.initial(study) if start is None else start, self.stray)


class _Painting:
    def __init__(self, study, start, stray):
        self.study, self.start, self.stray = study, start, stray

    def answer(self, clicks, drags_mm):  # noqa: ARG002
        mask = self.start.copy()
        for click in clicks:
            i, j, k = click.voxel(self.study.grid.canonical)
            near = tuple(slice(max(0, n - 1), n + 2) for n in (i, j, k))
            mask[near] = click.is_foreground
        if self.stray:
            mask[-1, -1, -1] = 1  # far away
            mask[clicks[0].voxel(self.study.grid.canonical)] = 1 - clicks[0].is_foreground
        return Answer(mask, 5.0)


@pytest.fixture(autouse=True)
def painter(monkeypatch):
    monkeypatch.setitem(methods.BUILDERS, "ours", lambda _: Painter())
    monkeypatch.setattr(run, "_METHODS", {})  # what a test loads is for it alone
    monkeypatch.setattr(run, "_OPENED", {})
    Painter.opened = 0


@pytest.fixture
def studies(tmp_path):
    rng = np.random.default_rng(0)
    for number, center in enumerate([(15, 17, 5), (22, 11, 7), None], start=1):
        label = np.zeros(SHAPE, np.uint8)
        if center is not None:
            label[tuple(slice(c - 2, c + 3) for c in center)] = 1
        image = rng.normal(100, 20, SHAPE).astype(np.float32)
        name = f"case-{number}.nii.gz"
        write_volume(tmp_path / "studies" / name, Volume(image, GRID))
        write_volume(tmp_path / "studies" / "t2" / name, Volume(image, GRID))
        write_volume(tmp_path / "studies" / "labels" / "final" / name, Volume(label, GRID))
    return tmp_path / "studies"


def evaluate(studies, out, *more):
    arguments = ["evaluate", "--studies", str(studies), "--out", str(out), "--clicks", "4", *more]
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_every_file_is_written_and_says_the_same(studies, tmp_path):
    out = tmp_path / "out"
    assert evaluate(studies, out).exit_code == 0
    summary = json.loads((out / "summary.json").read_text())
    ours = summary["methods"]["ours"]
    assert summary["studies"] == 3
    assert ours["tumor_studies"] == 2
    assert ours["dice"][0] == 0
    assert ours["dice"] == sorted(ours["dice"])
    assert ours["changed_outside"] == ours["disobeyed"] == 0
    assert ours["tumor_free"] == {"studies": 1, "with_false_positive": 0, "false_positive_ml": 0}
    results = json.loads((out / "results.json").read_text())
    assert [len(result["scores"]) for result in results] == [5, 5, 1]
    assert f"{ours['dice'][1]:.3f}" in (out / "summary.md").read_text()
    for name in (
        "dice.png",
        "volumes.png",
        "pictures/ours-worst.png",
        "masks/ours/case-1-last.nii.gz",
    ):
        assert (out / name).stat().st_size > 100


def test_a_second_run_does_nothing_again_but_what_is_missing_or_asked_otherwise(
    studies, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    evaluate(studies, out)
    assert Painter.opened == 3
    (out / "studies" / "ours" / "case-2.json").unlink()
    first = (out / "summary.json").read_text()
    evaluate(studies, out)
    assert Painter.opened == 4
    again = json.loads((out / "summary.json").read_text())
    assert again["methods"]["ours"]["dice"] == json.loads(first)["methods"]["ours"]["dice"]
    evaluate(studies, out, "--seed", "1", "--robot", "jitter")
    assert Painter.opened == 7
    changes = [(run, "code_version", lambda: "0.1.0+other"), (Painter, "version", "2")]
    changes += [(run, "has_bfloat16", lambda _: "another")]
    for number, change in enumerate(changes, start=1):
        monkeypatch.setattr(*change)
        evaluate(studies, out, "--seed", "1", "--robot", "jitter")
        assert Painter.opened == 7 + 3 * number
    summary = json.loads((out / "summary.json").read_text())
    assert summary["plan"]["code"] == "0.1.0+other"  # of the results, whoever made them


def test_a_study_whose_masks_are_gone_is_read_again(studies, tmp_path):
    out = tmp_path / "out"
    evaluate(studies, out)
    for when in ("start", "last"):
        (out / "masks" / "ours" / f"case-2-{when}.nii.gz").unlink()
        assert evaluate(studies, out).exit_code == 0
    assert Painter.opened == 5
    shutil.rmtree(out / "masks")
    assert evaluate(studies, out).exit_code == 0
    assert Painter.opened == 8
    assert len(list((out / "masks" / "ours").iterdir())) == 6


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b"[]", b"{}"])
def test_a_result_that_is_damaged_is_made_anew(studies, tmp_path, damage):
    evaluate(studies, tmp_path / "out")
    path = tmp_path / "out" / "studies" / "ours" / "case-2.json"
    path.write_bytes(damage)
    assert evaluate(studies, tmp_path / "out").exit_code == 0
    assert Painter.opened == 4
    assert json.loads(path.read_text())["study"] == "case-2"


def test_labels_that_cannot_be_used_are_told_before_any_work(studies, tmp_path):
    labels = studies / "labels" / "final"
    hole = np.full(SHAPE, np.nan, np.float32)
    write_volume(labels / "case-2.nii.gz", Volume(hole, GRID))
    other = Grid((*SHAPE[:2], SHAPE[2] + 1), GRID.affine)
    write_volume(labels / "case-3.nii.gz", Volume(np.zeros(other.shape, np.uint8), other))
    with pytest.raises(
        ImageError, match=r"^2 studies .*: case-2 \(.*NaN.*; case-3 \(.*another grid"
    ):
        evaluate(studies, tmp_path / "out")
    assert Painter.opened == 0


def test_studies_without_a_tumor_alone_have_a_plot(studies, tmp_path):
    for n in (1, 2):
        (studies / f"case-{n}.nii.gz").unlink()
    assert evaluate(studies, tmp_path / "out").exit_code == 0
    assert (tmp_path / "out" / "dice.png").is_file()


def test_what_a_method_breaks_is_found(studies, tmp_path, monkeypatch):
    monkeypatch.setattr(Painter, "stray", True)
    evaluate(studies, tmp_path / "out")
    ours = json.loads((tmp_path / "out" / "summary.json").read_text())["methods"]["ours"]
    assert ours["changed_outside"] == 2  # the far voxel of each study, once
    assert ours["disobeyed"] == 2


def test_starting_from_nothing_and_without_a_sequence(studies, tmp_path, monkeypatch):
    def full(_, study):
        return np.ones(study.grid.canonical.shape, np.uint8)

    monkeypatch.setattr(Painter, "initial", full)
    more = ("--start", "nothing", "--sequences", "t2")
    assert evaluate(studies, tmp_path / "out", *more).exit_code == 0
    assert [bool(part.any()) for part in Painter.seen.image] == [False, True]
    for result in json.loads((tmp_path / "out" / "results.json").read_text()):
        assert result["scores"][0]["dice"] == (0 if result["label_ml"] else 1)
    evaluate(studies, tmp_path / "own")
    assert [bool(part.any()) for part in Painter.seen.image] == [True, True]
    for result in json.loads((tmp_path / "own" / "results.json").read_text()):
        assert result["scores"][0]["recall"] == (1 if result["label_ml"] else None)


def test_starting_from_the_masks_of_another_evaluation(studies, tmp_path):
    evaluate(studies, tmp_path / "first")
    masks = tmp_path / "first" / "masks" / "ours"
    for path in masks.glob("*-last.nii.gz"):  # begin where the first one ended
        path.rename(path.with_name(path.name.replace("-last", "-start")))
    done = evaluate(studies, tmp_path / "second", "--start", str(masks))
    assert done.exit_code == 0
    first, second = (
        json.loads((tmp_path / name / "summary.json").read_text())["methods"]["ours"]["dice"]
        for name in ("first", "second")
    )
    assert second[0] == first[4] > first[0]
    assert Painter.opened == 6
    evaluate(studies, tmp_path / "second", "--start", str(masks))
    assert Painter.opened == 6
    (masks / "case-1-start.nii.gz").write_bytes((masks / "case-2-start.nii.gz").read_bytes())
    evaluate(studies, tmp_path / "second", "--start", str(masks))
    assert Painter.opened == 7  # the one whose start mask is another now
    for name in ("case-2", "case-3"):
        (masks / f"{name}-start.nii.gz").unlink()
    with pytest.raises(ImageError, match="start masks, but none of case-2, case-3"):
        evaluate(studies, tmp_path / "third", "--start", str(masks))
    with pytest.raises(
        ModelError, match=r"\(ID-start\.nii\.gz\) or of an initial model; .* no such"
    ):
        evaluate(studies, tmp_path / "third", "--start", str(tmp_path / "first"))
    assert not (tmp_path / "third").exists()
    assert Painter.opened == 7


def test_each_study_is_read_once_for_all_methods(studies, tmp_path, monkeypatch):
    monkeypatch.setitem(methods.BUILDERS, "flooding", lambda _: Painter())
    read, counted = [], run.read_study
    monkeypatch.setattr(run, "read_study", lambda *paths: read.append(paths) or counted(*paths))
    evaluate(studies, tmp_path / "out", "--models", "ours,flooding")
    assert len(read) == 3
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [result["method"] for result in results] == 3 * ["ours"] + 3 * ["flooding"]


def test_several_studies_at_once_give_the_same_results(studies, tmp_path, monkeypatch):
    monkeypatch.undo()  # the real network: other processes have that
    arguments = ("--models", "ours,flooding", "--start", "nothing", "--robot", "jitter")
    for jobs in ("1", "2"):
        done = evaluate(studies, tmp_path / jobs, *arguments, "--jobs", jobs)
        assert done.exit_code == 0
    alone, together = (
        json.loads((tmp_path / jobs / "results.json").read_text()) for jobs in ("1", "2")
    )
    for result in (*alone, *together):
        result.pop("click_ms")
    assert alone == together
    assert [len(result["clicks"]) for result in alone] == [4, 4, 0] * 2
    assert alone[0]["scores"][1]["dice"] != alone[3]["scores"][1]["dice"]


def test_studies_alike_but_for_their_names_are_read_by_readers_of_their_own(studies, tmp_path):
    for folder in (studies, studies / "t2", studies / "labels" / "final"):
        (folder / "case-2.nii.gz").write_bytes((folder / "case-1.nii.gz").read_bytes())
    done = evaluate(studies, tmp_path / "out", "--robot", "jitter")
    assert done.exit_code == 0
    first, second, _ = json.loads((tmp_path / "out" / "results.json").read_text())
    assert first["clicks"] != second["clicks"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--robot", "fast"], "--robot is one of"),
        (["--sequences", "flair"], "--sequences is one of"),
    ],
)
def test_a_wrong_option_is_told(studies, tmp_path, arguments, said):
    done = evaluate(studies, tmp_path / "out", *arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.output.replace("│", " ").split())


def test_studies_that_a_method_was_trained_on_are_told(studies, tmp_path, monkeypatch):
    save_model(
        tmp_path / "run",
        torch.nn.Linear(1, 1),
        Manifest(
            "initial", {"split": {"patient": "^(case-[0-9])"}}, {"training": ["case-2v1"]}, {}
        ),
    )
    case = find_case(studies / "case-2.nii.gz")
    (manifest,) = manifests_of("graph_cut", tmp_path / "run")
    assert count_trained_on([manifest], [case]) == 1
    other = find_case(studies / "case-1.nii.gz")
    assert count_trained_on([manifest], [other]) == 0
    assert manifests_of("flooding", tmp_path) == []
    bare = Manifest("initial", {}, {"training": ["case-1"]}, {})
    assert count_trained_on([bare], [case, other]) == 1
    (studies / ".clickseg").mkdir()
    (studies / ".clickseg/patients.json").write_text('{"case-1": "A", "case-2v1": "A"}')
    assert count_trained_on([manifest], [case, other]) == 1  # as a PACS tells it
    (studies / ".clickseg/patients.json").unlink()
    monkeypatch.setitem(methods.BUILDERS, "graph_cut", lambda _: Painter())
    done = evaluate(studies, tmp_path / "out", "--models", f"graph_cut={tmp_path / 'run'}")
    assert "graph_cut was trained on 1 of these 3 studies" in done.output
    table = (tmp_path / "out/summary.md").read_text()
    assert "graph_cut was trained on 1 of these studies." in table


def test_methods_are_named_with_their_folder():
    assert parse_method("published=some/where")[1].as_posix() == "some/where"
    with pytest.raises(MethodError, match="there are: ours"):
        parse_method("best")
    with pytest.raises(MethodError, match="published=FOLDER"):
        parse_method("published")


def test_published_is_no_name_for_another_recipe():
    with pytest.raises(MethodError, match=r"pastes.*holds local"):
        methods.build_method("published", methods.WEIGHTS)


def test_changes_count_as_outside_by_mm_from_the_last_click():
    """Voxels of 0.5, 0.75 and 2 mm, turned: 6 mm are 12, 8 and 3 of them."""
    affine = np.array([[0, 0.75, 0, 5], [-0.5, 0, 0, 7], [0, 0, 2, -3], [0, 0, 0, 1.0]])
    grid = Grid((41, 37, 13), affine)
    before, at = np.zeros(grid.shape, np.uint8), (17, 13, 5)
    after = before.copy()
    for steps in ((12, 0, 0), (0, 8, 0), (0, 0, 3)):
        after[tuple(np.add(at, steps))] = 1  # 6 mm away
    click = Click.at(at, True, grid)
    assert _changed_outside(before, after, click, grid, 6.0) == 0
    assert _changed_outside(before, after, click, grid, 5.9) == 3
    for steps in ((13, 0, 0), (0, -9, 0), (0, 0, -4)):
        after[tuple(np.add(at, steps))] = 1  # 6.5, 6.75 and 8 mm
    assert _changed_outside(before, after, click, grid, 6.0) == 3
    assert _changed_outside(after, before, click, grid, 7.0) == 1
    assert COMMON_RADIUS_MM == 16


@pytest.mark.slow
@pytest.mark.parametrize("which", ["samples", "eight"])
def test_the_weights_of_the_package_mend_studies(tmp_path, monkeypatch, which):
    """On the labeled samples, and on eight studies with real outlines where these can be made."""
    monkeypatch.undo()  # the real method
    studies = SAMPLE_DATA
    if which == "eight":
        if not STUDY_MAKER.is_file():
            pytest.skip(f"nothing at {STUDY_MAKER} makes studies of the real outlines")
        studies = tmp_path / "eight"
        words = [sys.executable, str(STUDY_MAKER), str(studies)]
        words += ["--split", "validation", "--count", "8"]
        subprocess.run(words, check=True, capture_output=True)
    assert evaluate(studies, tmp_path / "out", "--clicks", "3").exit_code == 0
    assert Painter.opened == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    ours = summary["methods"]["ours"]
    assert summary["studies"] == (8 if which == "eight" else 2)
    assert ours["changed_outside"] == ours["disobeyed"] == 0
    # Both are of other patients than those that the weights learned from.
    assert ours["dice"][0] > 0.5
    assert ours["dice"][1] > max(0.65, ours["dice"][0])
    assert ours["dice"][3] > max(0.8, ours["dice"][1])


def test_a_sequence_that_is_left_out_is_blank_and_must_be_there_to_be_alone():
    study = Study("a", np.ones((2, *SHAPE), np.float32), GRID, Path("t2/a.nii.gz"))
    first, second = (leave_out(study, sequence) for sequence in ("t1ce", "t2"))
    assert first.image.mean(axis=(1, 2, 3)).tolist() == [1, 0]
    assert first.t2_path is None
    assert second.image.mean(axis=(1, 2, 3)).tolist() == [0, 1]
    assert study.image.all()
    with pytest.raises(ImageError, match="by its T2 alone"):
        leave_out(replace(study, t2_path=None), "t2")


def test_a_method_is_named_once_and_its_weights_are_there(studies, tmp_path):
    twice = evaluate(studies, tmp_path / "out", "--models", "ours,ours")
    assert twice.exit_code == 2
    with pytest.raises(ModelError):
        evaluate(studies, tmp_path / "out", "--models", f"published={tmp_path / 'none'}")
    with pytest.raises(MethodError, match="has no weights"):
        parse_method("flooding=some/where")
    assert not (tmp_path / "out").exists()
