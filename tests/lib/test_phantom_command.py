"""The command `clickseg phantom`: layout, ids, skipping, errors."""

import json

import numpy as np
import pytest
from disk import full_disk
from typer import Typer
from typer.testing import CliRunner

from clickseg.accepted import history
from clickseg.commands.phantom import list_orders, phantom
from clickseg.phantom import make_phantom
from clickseg.record import RECORD_ENDING
from clickseg.volume import Volume, read_label, read_volume, write_volume

GRID = ("--grid", "48x40x8")

app = Typer()
app.command()(phantom)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "300"})


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def contours(tmp_path):
    outline = [[-20, 0, 0], [-28, 0, 0], [-28, 8, 0], [-20, 8, 0]]
    planes = [[[x, y, 1.5 * k] for x, y, _ in outline] for k in range(5)]
    path = tmp_path / "contours.jsonl"
    rows = [
        {"subject": f"sub-VS{n}", "split": split, "structures": {"tumour": planes}}
        for n, split in ((1, "training"), (2, "training"), (3, "validation"))
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_a_study_is_written_as_the_app_reads_it(tmp_path):
    out = tmp_path / "studies [old]"
    result = run(out, "--seed", 5, "--start", 2, "--t2-grid", "same", *GRID)
    assert result.exit_code == 0, result.output
    assert f"made 1 studies in {out}, 0 were there already" in result.output
    assert files(out) == [
        "labels/final/phantom-0003.nii.gz",
        "phantom-0003.nii.gz",
        "t2/phantom-0003.nii.gz",
    ]
    want = make_phantom(5, 3, "48x40x8", t2_kind="same")
    name = "phantom-0003.nii.gz"
    np.testing.assert_array_equal(read_volume(out / name).array, want.t1ce.array)
    np.testing.assert_array_equal(read_volume(out / "t2" / name).array, want.t2.array)
    label = read_label(out / "labels" / "final" / name)
    np.testing.assert_array_equal(label.array, want.label.array)
    assert label.grid == want.t1ce.grid


def test_labels_and_t2_can_be_left_out_or_put_elsewhere(tmp_path):
    out, labels = tmp_path / "studies", tmp_path / "reference"
    assert run(out, "--unlabeled", "--without-t2", 1, *GRID).exit_code == 0
    assert files(out) == ["phantom-0001.nii.gz"]
    before = (out / "phantom-0001.nii.gz").read_bytes()
    result = run(out, "--labels-dir", labels, "--without-t2", 1, *GRID)
    assert result.exit_code == 0
    assert files(labels) == ["phantom-0001.nii.gz"]
    assert (out / "phantom-0001.nii.gz").read_bytes() == before


def test_complete_studies_are_left_alone_unless_forced(tmp_path):
    out = tmp_path / "studies"
    assert "made 1 studies" in run(out, *GRID).output
    image = out / "phantom-0001.nii.gz"
    good = image.read_bytes()
    image.write_bytes(b"mine")
    assert "made 0 studies" in run(out, *GRID).output
    assert image.read_bytes() == b"mine"
    assert "made 1 studies" in run(out, "--force", *GRID).output
    assert image.read_bytes() == good
    (out / "t2" / "phantom-0001.nii.gz").unlink()
    assert "made 1 studies" in run(out, *GRID).output


def accept(out, ending=".nii.gz"):
    """Replace the label by one of a reader; return where it is and its voxels."""
    path = out / "labels" / "final" / "phantom-0001.nii.gz"
    label = read_label(path)
    path.unlink()
    mended = Volume(np.roll(label.array, 1, axis=0), label.grid)
    path.with_name(f"phantom-0001{RECORD_ENDING}").write_text("clicks")
    return write_volume(path.with_name(f"phantom-0001{ending}"), mended), mended.array


def test_an_accepted_label_in_another_format_makes_a_study_complete(tmp_path):
    assert run(tmp_path, *GRID).exit_code == 0
    accept(tmp_path, ".nrrd")
    before = files(tmp_path)
    assert "made 0 studies" in run(tmp_path, *GRID).output
    assert files(tmp_path) == before


@pytest.mark.parametrize("options", [("--force",), ("--force", "--unlabeled"), ()])
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_an_accepted_label_goes_to_the_history_with_its_clicks(tmp_path, options, ending):
    assert run(tmp_path, *GRID).exit_code == 0
    path, mended = accept(tmp_path, ending)
    (tmp_path / "t2" / "phantom-0001.nii.gz").unlink()  # the study is not complete
    assert "made 1 studies" in run(tmp_path, *GRID, *options).output
    (kept,) = history(tmp_path, "phantom-0001")
    np.testing.assert_array_equal(read_label(kept).array, mended)
    clicks = kept.with_name(kept.name.removesuffix(ending) + RECORD_ENDING)
    assert clicks.read_text() == "clicks"
    there = [] if "--unlabeled" in options else ["phantom-0001.nii.gz"]
    assert files(path.parent) == there


def test_what_cannot_be_written_leaves_the_accepted_label(tmp_path):
    assert run(tmp_path, *GRID).exit_code == 0
    path, mended = accept(tmp_path)
    before = files(tmp_path)
    with full_disk(2000):
        assert run(tmp_path, *GRID, "--force").exit_code != 0
    assert files(tmp_path) == before
    np.testing.assert_array_equal(read_label(path).array, mended)


def test_an_outline_that_nobody_changed_is_no_history(tmp_path):
    assert run(tmp_path, *GRID).exit_code == 0
    assert "made 1 studies" in run(tmp_path, *GRID, "--force").output
    assert history(tmp_path, "phantom-0001") == []


def test_a_label_stays_where_references_go_elsewhere(tmp_path):
    assert run(tmp_path, *GRID).exit_code == 0
    path, mended = accept(tmp_path)
    assert "made 1 studies" in run(tmp_path, *GRID, "--labels-dir", tmp_path / "others").output
    np.testing.assert_array_equal(read_label(path).array, mended)


def test_a_study_without_t2_keeps_none_of_before(tmp_path):
    assert run(tmp_path, *GRID).exit_code == 0
    assert run(tmp_path, "--force", "--without-t2", 1, *GRID).exit_code == 0
    assert files(tmp_path / "t2") == []


def test_outlines_name_the_studies_and_split_and_start_choose_them(tmp_path, contours):
    out = tmp_path / "studies"
    result = run(out, "--contours", contours, "--start", 1, "--unlabeled", *GRID)
    assert result.exit_code == 0, result.output
    assert (out / "VS-VS2.nii.gz").is_file()
    assert len(list(out.glob("*.nii.gz"))) == 1
    chosen = list_orders(out, None, 0, 0, contours, "all", "mixed", "mixed", 0.0, None)
    assert [o.case_id for o in chosen] == ["VS-VS1", "VS-VS2", "VS-VS3"]


def test_several_at_once_make_what_one_after_the_other_makes(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for out, jobs in ((one, 1), (two, 2)):
        assert run(out, "--count", 2, "--jobs", jobs, *GRID).exit_code == 0
    assert files(one) == files(two)
    for name in files(one):
        np.testing.assert_array_equal(read_volume(one / name).array, read_volume(two / name).array)


def test_a_share_of_studies_goes_without_t2_always_the_same(tmp_path):
    def orders(share):
        found = list_orders(tmp_path, 100, 0, 0, None, "all", "mixed", "mixed", share, None)
        return {o.case_id for o in found if not o.has_t2}

    assert 15 < len(orders(0.3)) < 45
    assert orders(0.1) <= orders(0.3)
    assert not orders(0.0)
    assert len(orders(1.0)) == 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--count", 0), "--count is 1 or more, got 0"),
        (("--start", -1), "--start is 0 or more, got -1"),
        (("--jobs", 0), "--jobs is 1 or more, got 0"),
        (("--without-t2", 2), "--without-t2 is a share from 0 to 1, got 2.0"),
        (("--grid", "448x448"), "a grid is 'mixed' or voxels as in 448x448x80; got '448x448'"),
        (("--t2-grid", "round"), "--t2-grid is one of same, slab, oblique or mixed, got 'round'"),
        (("--contours", "missing.jsonl"), "outlines were wanted as JSON lines"),
    ],
)
def test_a_wrong_argument_is_told_in_one_sentence(tmp_path, arguments, message):
    result = run(tmp_path / "studies", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert not (tmp_path / "studies").exists()


def test_a_share_of_studies_has_no_tumor_and_the_same_head(tmp_path):
    assert run(tmp_path / "with", "--count", 1, "--seed", 3, *GRID).exit_code == 0
    assert (
        run(tmp_path / "without", "--count", 1, "--seed", 3, "--tumor-free", 1, *GRID).exit_code
        == 0
    )
    images, labels = (
        [
            read(tmp_path / kind / folder / "phantom-0001.nii.gz").array
            for kind in ("with", "without")
        ]
        for read, folder in ((read_volume, "."), (read_label, "labels/final"))
    )
    assert labels[0].any()
    assert not labels[1].any()
    tumor = labels[0] > 0
    # Where the tumor was it is darker; the corner of the field of view is the same.
    assert images[1][tumor].mean() < images[0][tumor].mean()
    np.testing.assert_allclose(images[0][:3, :3], images[1][:3, :3], atol=60)


def test_fewer_outlines_than_studies_wanted_are_told(tmp_path, contours):
    result = run(tmp_path / "out", "--contours", contours, "--count", 3, *GRID)
    assert result.exit_code == 0
    assert "3 studies were wanted; there are but 2 outlines" in result.output


def test_a_start_beyond_the_outlines_is_refused(tmp_path, contours):
    result = run(tmp_path / "out", "--contours", contours, "--start", 2)
    assert result.exit_code == 2
    assert "--start 2 is beyond the 2 outlines" in " ".join(result.output.split())


def test_a_file_in_place_of_the_folder_is_refused(contours):
    result = run(contours, *GRID)
    assert result.exit_code == 2
    assert "OUT is a folder of studies, but" in " ".join(result.output.split())
