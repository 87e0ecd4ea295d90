"""``clickseg report``: a folder in, one page out."""

import base64
import io
import json
from html import escape

import matplotlib.image
import numpy as np
import pytest
from pages import GRID, box, command, image, row

from clickseg.clicks import Click
from clickseg.commands import report as module
from clickseg.geometry import Grid
from clickseg.initial import Initial
from clickseg.record import NotedClick, as_text
from clickseg.volume import Volume, write_volume

ODD = "a<b>&'\"{{ 7 * 7 }}"


def click(x):
    return NotedClick(Click((float(x), 0.0, 0.0), True), "t", "click", "initial", 5, {})


@pytest.fixture
def report(tmp_path, monkeypatch, capsys):
    return command(tmp_path, monkeypatch, capsys)


@pytest.fixture
def studies(tmp_path, report):  # noqa: ARG001  # makes the folder
    return tmp_path / "in"


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
    assert "0 grown at the last visit, of 1 followed" in top  # since the first, not since P-1v2


def test_visits_of_a_pacs_stand_by_patient_and_date(studies, report):
    objects = {}
    for name, length, date in (("1.2.826.0.9", 3, "20230101"), ("1.2.826.0.1", 4, "20240101")):
        image(studies / f"{name}.nii.gz")
        box(studies / "labels" / "final" / f"{name}.nii.gz", length)
        objects[name] = {"image": {"info": {"StudyDate": date, "StudyTime": None}}}
    (studies / "datastore_v2.json").write_text(json.dumps({"objects": objects}))
    (studies / ".clickseg").mkdir()
    (studies / ".clickseg/patients.json").write_text(json.dumps(dict.fromkeys(objects, "P-1")))
    page = report()
    assert "Patient P-1, 2 visits" in page.parts[2]
    assert "since" not in row(page, "1.2.826.0.9")
    assert "since 1.2.826.0.9" in row(page, "1.2.826.0.1")


def test_a_visit_without_a_date_is_not_compared_with_those_that_have_one(studies, report):
    told = (
        ("1.2.826.0.1", 5, None),
        ("1.2.826.0.2", 3, "20230102"),
        ("1.2.826.0.3", 4, "20240304"),
    )
    objects = {}
    for name, length, date in told:
        image(studies / f"{name}.nii.gz")
        box(studies / "labels" / "final" / f"{name}.nii.gz", length)
        objects[name] = {"image": {"info": {"StudyDate": date}}}
    (studies / "datastore_v2.json").write_text(json.dumps({"objects": objects}))
    (studies / ".clickseg").mkdir()
    (studies / ".clickseg/patients.json").write_text(json.dumps(dict.fromkeys(objects, "P-1")))
    page = report()
    unknown, first, second = (row(page, name) for name, _, _ in told)
    assert list(page.number_of) == ["1.2.826.0.2", "1.2.826.0.3", "1.2.826.0.1"]
    assert "3 visits in their order; those without a date stand last and are not" in page.parts[2]
    assert "no date: not compared" in unknown
    assert "since" not in unknown + first
    assert "visit of 2023-01-02" in first
    assert "visit of 2024-03-04" in second
    assert "grown +0.02 ml" in second
    assert "since 1.2.826.0.2" in second
    assert "1 grown at the last visit, of 1 followed" in page.parts[0]


def test_growth_at_the_last_visit_is_counted(studies, report):
    for name, length in (("P-1", 4), ("P-1v2", 3), ("P-1v3", 4), ("P-2", 3), ("P-2v2", 3)):
        image(studies / f"{name}.nii.gz")
        box(studies / "labels" / "final" / f"{name}.nii.gz", length)
    assert "1 grown at the last visit, of 2 followed" in report().parts[0]


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
