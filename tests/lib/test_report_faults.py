"""``clickseg report`` where something is wrong: a row or a sentence says so."""

import os

import numpy as np
import pytest
from pages import box, command, image, row

from clickseg.commands import report as module
from clickseg.geometry import Grid
from clickseg.report import study as study_module
from clickseg.volume import Volume, write_volume


@pytest.fixture
def report(tmp_path, monkeypatch, capsys):
    return command(tmp_path, monkeypatch, capsys)


@pytest.fixture
def studies(tmp_path, report):  # noqa: ARG001  # makes the folder
    return tmp_path / "in"


def test_a_name_that_is_no_text_does_not_stop_the_page(studies, report):
    image(studies / "good.nii.gz")
    os.rename(image(studies / "odd.nii.gz"), os.fsencode(studies) + b"/\xff.nii.gz")  # noqa: PTH104
    page = report()
    assert "2 studies" in page.told
    assert "waiting" in row(page, "good")
    assert "1 cannot be read" in page.told
    assert "a path in UTF-8 was wanted" in page.source


def test_what_cannot_be_read_says_why_and_the_others_are_there(studies, report):
    for name in ("good", "bad", "elsewhere", "t2-bad"):
        image(studies / f"{name}.nii.gz")
    (studies / "bad.nii.gz").write_bytes((studies / "bad.nii.gz").read_bytes()[:2000])
    final = studies / "labels" / "final"
    box(final / "good.nii.gz", 3)
    other = Grid((7, 5, 3), np.eye(4))
    write_volume(final / "elsewhere.nii.gz", Volume(np.ones(other.shape, np.uint8), other))
    box(final / "t2-bad.nii.gz", 3)
    (studies / "t2").mkdir()
    (studies / "t2" / "t2-bad.nii.gz").write_bytes(b"nothing")
    page = report()
    assert "accepted" in row(page, "good")
    assert "cannot be read without T2 bad.nii.gz cannot be read as an image" in row(page, "bad")
    assert "lies on another grid than its image" in row(page, "elsewhere")
    assert "time of the file" in row(page, "elsewhere")
    assert "accepted T2 cannot be used: t2-bad.nii.gz" in row(page, "t2-bad")
    assert "0.07 ml" in row(page, "t2-bad")
    assert "2 cannot be read" in page.told


@pytest.mark.parametrize("error", [RuntimeError("no room for it"), MemoryError("no room for it")])
@pytest.mark.parametrize("reads", ["read_study", "measure", "draw_largest_slice"])
def test_a_study_that_does_not_fit_costs_no_other(studies, report, monkeypatch, error, reads):
    for name in ("good", "large"):
        image(studies / f"{name}.nii.gz")
        box(studies / "labels" / "final" / f"{name}.nii.gz", 3)
    real, calls = getattr(study_module, reads), []

    def first_alone(*args):
        calls.append(args)
        if len(calls) == 2:
            raise error
        return real(*args)

    monkeypatch.setattr(study_module, reads, first_alone)
    page = report()
    assert "accepted without T2 0.07 ml" in row(page, "good")
    assert "cannot be read without T2 no room for it" in row(page, "large")


def test_a_t2_that_does_not_fit_is_left_out(studies, report, monkeypatch):
    for name in ("a.nii.gz", "t2/a.nii.gz"):
        image(studies / name)
    real = study_module.read_study

    def without_t2(t1ce, t2=None):
        if t2 is not None:
            raise MemoryError
        return real(t1ce)

    monkeypatch.setattr(study_module, "read_study", without_t2)
    assert "waiting T2 cannot be used: MemoryError" in row(report(), "a")


def test_two_images_of_one_id_are_a_row_that_says_so(studies, report):
    for name in ("a.nii", "a.nii.gz", "b.nii.gz"):
        image(studies / name)
    page = report()
    assert list(page.number_of) == ["a", "b"]
    told = "cannot be read without T2 several images have this id: a.nii, a.nii.gz"
    assert told in row(page, "a")
    assert "waiting" in row(page, "b")
    assert page.told.endswith("2 studies, 1 waiting, 1 cannot be read\n")


def test_a_place_where_no_page_can_be_is_told_before_studies_are_read(
    studies, report, monkeypatch, tmp_path
):
    image(studies / "a.nii.gz")
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(module, "describe", lambda *_: pytest.fail("a study was read"))
    (tmp_path / "file").touch()
    (tmp_path / "folder.html").mkdir()
    assert "cannot be written" in report("--out", tmp_path / "file" / "page.html", status=2)
    assert "cannot be written" in report("--out", tmp_path / f"{'x' * 300}.html", status=2)
    assert "it is a folder" in report("--out", tmp_path / "folder.html", status=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.html", "in"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--out", "page.pdf"], "is a .html file"),
        (["--patient", "("], "no regular expression"),
        (["--studies", "gone"], "a folder of studies was wanted"),
        (["--models", "gone"], "no model 'initial'"),
    ],
)
def test_a_mistake_is_a_sentence(report, monkeypatch, arguments, text):
    monkeypatch.setenv("COLUMNS", "300")
    assert text in report(*arguments, status=2)
