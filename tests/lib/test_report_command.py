"""``clickseg report``: a folder in, one page out, whatever lies in the folder."""

import base64
import io
import json
import os
import sys
from html import escape
from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pytest

from clickseg import cli
from clickseg.clicks import Click
from clickseg.commands import report as module
from clickseg.geometry import Grid
from clickseg.initial import Initial
from clickseg.record import NotedClick, as_text
from clickseg.volume import Volume, write_volume

PERMUTED = [[0, 0, 1.5, 11], [-0.4, 0, 0, 7], [0, 0.5, 0, 3], [0, 0, 0, 1]]
GRID = Grid((37, 31, 23), np.array(PERMUTED))  # canonical: 23, 37, 31 of 1.5, 0.4, 0.5 mm
ODD = "a<b>&'\"{{ 7 * 7 }}"


class Text(HTMLParser):
    """The text of what is above the table, of each row, and below; which row is which study."""

    def __init__(self):
        super().__init__()
        self.parts, self.number_of, self.elements, self.sources = [""], {}, [], []
        self.is_id = False

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        if tag in ("tr", "section"):
            self.parts.append("")
        self.is_id = ("class", "id") in attrs
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        if self.is_id:
            self.number_of[data] = len(self.parts) - 1
            self.is_id = False
        if data.strip() and self.elements[-1] != "style":
            self.parts[-1] += f" {data.strip()}"


def write(path, array):
    return write_volume(path, Volume(array.astype(np.float32), GRID))


def image(path):
    return write(path, np.random.default_rng(0).normal(100, 20, GRID.shape))


def box(path, length):
    """Outline (7, 11, length) stored, (length, 7, 11) canonical voxels of 0.3 mm3."""
    mask = np.zeros(GRID.shape)
    mask[5:12, 9:20, 3 : 3 + length] = 1
    return write(path, mask)


def click(x):
    return NotedClick(Click((float(x), 0.0, 0.0), True), "t", "click", "initial", 5, {})


@pytest.fixture
def report(tmp_path, monkeypatch, capsys):
    def run(*arguments, status=0):
        out = tmp_path / "out" / "page.html"
        command = ["clickseg", "report", "--studies", str(tmp_path / "in"), "--out", str(out)]
        monkeypatch.setattr(sys, "argv", [*command, *map(str, arguments)])
        left = 0
        try:
            cli.main()
        except SystemExit as error:
            left = error.code or 0
        told = capsys.readouterr()
        assert left == status, told.err
        if status:
            return told.err
        text = Text()
        text.source = out.read_text(encoding="utf-8")
        text.feed(text.source)
        text.told = told.out
        return text

    (tmp_path / "in").mkdir()
    return run


@pytest.fixture
def studies(tmp_path, report):  # noqa: ARG001  # makes the folder
    return tmp_path / "in"


def row(page, name):
    return page.parts[page.number_of[name]]


def test_a_patient_with_three_visits(studies, report):
    for name, length in (("P-1", 3), ("P-1v2", 4), ("P-1v10", 4)):
        image(studies / f"{name}.nii.gz")
        box(studies / "labels" / "final" / f"{name}.nii.gz", length)
    image(studies / "t2" / "P-1.nii.gz")
    (studies / "labels" / "final" / "P-1.clicks.json").write_text(
        as_text("P-1", [click(1), click(2)])
    )
    info = {"client_id": "Dr. <Who>", "ts": 1646384760}
    (studies / "datastore_v2.json").write_text(
        json.dumps({"objects": {"P-1v2": {"labels": {"final": {"info": info}}}}})
    )
    page = report()
    # 3 * 7 * 11 voxels of 0.3 mm3 are 0.0693 ml, 4 * 77 are 0.0924 ml.
    first, second, third = row(page, "P-1"), row(page, "P-1v2"), row(page, "P-1v10")
    assert list(page.number_of) == ["P-1", "P-1v2", "P-1v10"]
    assert "accepted with T2 0.07 ml" in first
    assert " 2 by unknown" in first
    assert "since" not in first
    assert "without T2 0.09 ml" in second
    assert "unknown Dr. <Who> 2022-03-0" in second
    assert "time of the file" not in second
    assert "grown +0.02 ml" in second
    assert "+33 %" in second  # 4 / 3
    assert "since P-1" in second
    assert "since the first" not in second
    assert "no change beyond measurement error 0.00 ml" in third
    assert "since P-1v2" in third
    assert "since the first, P-1" in third
    assert "Patient P-1, 3 visits" in page.parts[2]
    top = page.parts[0]
    assert "3 studies of 1 patient" in top
    assert "3 accepted" in top
    assert "2 clicks in all, known of 1 of 3 accepted" in top
    assert "0.09 ml median volume" in top
    assert "1 grown at the last visit, of 1 followed" in top


def test_pictures_are_in_the_page_and_show_the_outline(studies, report):
    image(studies / "a.nii.gz")
    image(studies / "t2" / "a.nii.gz")
    box(studies / "labels" / "final" / "a.nii.gz", 5)
    page = report()
    assert len(page.sources) == 2
    for source in page.sources:
        head, content = source.split(",")
        assert head == "data:image/png;base64"
        pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(content)), format="png")
        assert pixels.shape == (240, 240, 4)
        # Green is the outline alone; the images are gray.
        assert (pixels[..., 1] - pixels[..., 0] > 0.3).any()


def test_a_t2_that_ends_before_the_tumor_is_black_there(studies, report):
    image(studies / "a.nii.gz")
    box(studies / "labels" / "final" / "a.nii.gz", 3)  # canonical K 9 to 19 of 31
    affine = GRID.affine.copy()
    affine[:3, 3] += 20 * affine[:3, 1]
    slab = Grid((37, 11, 23), affine)  # canonical K 20 to 30
    noise = np.random.default_rng(1).normal(100, 20, slab.shape).astype(np.float32)
    write_volume(studies / "t2" / "a.nii.gz", Volume(noise, slab))
    page = report()
    assert "accepted with T2" in row(page, "a")
    assert len(page.sources) == 2


def test_the_page_needs_nothing_else(studies, report):
    image(studies / "a.nii.gz")
    page = report()
    assert not set(page.elements) & {"script", "link", "iframe", "object", "a"}
    assert "http://" not in page.source
    assert "https://" not in page.source
    assert "url(" not in page.source


def test_names_are_text_and_never_markup(studies, report):
    image(studies / f"{ODD}.nii.gz")
    box(studies / "labels" / "final" / f"{ODD}.nii.gz", 3)
    page = report("--patient", "a<b>")
    assert ODD in row(page, ODD)
    assert escape("a<b>&") in page.source
    assert "b" in page.elements  # of the page itself
    assert "a<b>" not in page.source


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


def test_a_folder_without_labels(studies, report):
    image(studies / "a.nii.gz")
    page = report()
    assert "waiting without T2 no outline yet" in row(page, "a")
    assert "\N{EN DASH} median volume" in page.parts[0]
    assert "followed" not in page.parts[0]
    assert page.told.endswith("1 studies, 1 waiting\n")


def test_a_folder_without_studies(studies, report):
    assert not list(studies.iterdir())
    assert "There are no studies" in report().source


def test_a_label_without_tumor(studies, report):
    image(studies / "a.nii.gz")
    box(studies / "labels" / "final" / "a.nii.gz", 0)
    page = report()
    assert "no tumor in it a accepted" in row(page, "a")
    assert "0.00 ml" in row(page, "a")
    assert not page.sources


def test_an_outline_of_the_server_is_not_an_accepted_one(studies, report):
    for name, tag in (("p1v1", "original"), ("p1v2", "final")):
        image(studies / f"{name}.nii.gz")
        box(studies / "labels" / tag / f"{name}.nii.gz", 3 if tag == "final" else 9)
    page = report()
    assert "outlined only by the model without T2 0.21 ml" in row(page, "p1v1")
    assert "since" not in row(page, "p1v2")
    assert "0.07 ml median" in page.parts[0]


def test_models_outline_what_waits_for_the_page_alone(studies, report, monkeypatch, tmp_path):
    def initial(study):
        mask = np.zeros(study.grid.canonical.shape, dtype=np.uint8)
        mask[3:5, 7:14, 11:24] = 1  # 2 * 7 * 13 * 0.3 mm3
        return Initial(mask, np.zeros((0, 0, 0), np.float32), (slice(0, 0),) * 3, None)

    monkeypatch.setattr(module, "load_initial", lambda folder, _: (initial, folder.name))
    for name in ("done", "new"):
        image(studies / f"{name}.nii.gz")
    box(studies / "labels" / "final" / "done.nii.gz", 3)
    before = sorted(studies.rglob("*"))
    page = report("--models", tmp_path / "weights7", "--patient", ".*")
    assert "outlined only by the model without T2 0.05 ml" in row(page, "new")
    assert "0.07 ml" in row(page, "done")
    assert "made for this page by model weights7" in page.parts[-1]
    assert sorted(studies.rglob("*")) == before


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
