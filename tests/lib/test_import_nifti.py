"""``clickseg import-nifti``: other data sets by patterns, and BIDS."""

import json

import numpy as np
import pytest
from disk import full_disk
from imported import app
from tiny import SHAPE, write_case
from typer.testing import CliRunner

from clickseg.geometry import Grid
from clickseg.importing import run as run_module
from clickseg.importing.nifti import find_by_patterns
from clickseg.importing.source import ImportingError, doubts_of_volume
from clickseg.placement import tell_mode
from clickseg.study import PLACING_FOLDER, find_cases, labeled_cases, read_study
from clickseg.volume import Volume, read_label, read_volume, write_volume

PATTERNS = ("--t1ce", "{id}/{id}_t1.nii.gz", "--t2", "{id}/*_t2.nii.gz", "--label", "seg/{id}.nrrd")


def run(src, out, *options):
    return CliRunner().invoke(app, ["import-nifti", str(src), str(out), *options])


def place(src, made_id, files, center=(30, 26, 9)):
    """Write a study and put its files to other places below ``src``."""
    write_case(src / "made", made_id, center, 5.0)
    sources = {"t1ce": made_id, "t2": f"t2/{made_id}", "label": f"labels/final/{made_id}"}
    for part, target in files.items():
        path = src / "made" / f"{sources[part]}.nii.gz"
        (src / target).parent.mkdir(parents=True, exist_ok=True)
        if target.endswith(".nrrd"):
            write_volume(src / target, read_volume(path))
        else:
            path.rename(src / target)


@pytest.fixture
def src(tmp_path):
    folder = tmp_path / "clinic"
    for name in ("ab-1", "ab-2"):
        files = {
            "t1ce": f"{name}/{name}_t1.nii.gz",
            "t2": f"{name}/scan_t2.nii.gz",
            "label": f"seg/{name}.nrrd",
        }
        place(folder, name, files)
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "studies"


def test_pairs_are_found_by_patterns_and_written_as_the_app_reads_them(src, out):
    result = run(src, out, *PATTERNS)
    assert result.exit_code == 0, result.output
    assert "2 imported; 0 with warnings" in result.output
    cases = labeled_cases(out)
    assert [case.case_id for case in cases] == ["ab-1", "ab-2"]
    for case in cases:
        want = read_volume(src / case.case_id / f"{case.case_id}_t1.nii.gz")
        np.testing.assert_array_equal(read_volume(case.t1ce).array, want.array)
        assert read_volume(case.t1ce).grid == want.grid
        want = read_label(src / "seg" / f"{case.case_id}.nrrd")
        np.testing.assert_array_equal(read_label(case.label).array, want.array)
        assert case.t2 is not None
    facts = json.loads((out / "provenance" / "ab-1.json").read_text())
    assert facts["t1ce"]["from"] == "ab-1_t1.nii.gz"
    assert facts["label"]["mask_ml"] == pytest.approx(0.52, rel=0.05)
    assert not (out / "split.json").exists()
    assert (out / "import.html").read_text().count("data:image/png") == 4
    assert "2 there already" in run(src, out, *PATTERNS).output


def test_whole_numbers_are_kept_as_such_and_others_too(src, out):
    path = src / "ab-1" / "ab-1_t1.nii.gz"
    volume = read_volume(path)
    write_volume(path, Volume(np.rint(volume.array).astype(np.float32), volume.grid))
    assert run(src, out, *PATTERNS).exit_code == 0
    whole, parts = ((out / f"ab-{n}.nii.gz").stat().st_size for n in (1, 2))
    assert whole < parts / 2
    np.testing.assert_array_equal(read_volume(out / "ab-1.nii.gz").array, np.rint(volume.array))


def test_a_t2_keeps_its_voxels_or_gets_those_of_the_t1ce(src, out, tmp_path):
    path = src / "ab-1" / "scan_t2.nii.gz"
    t2 = read_volume(path)
    coarse = Volume(t2.array[::2, ::2], Grid((31, 27, 19), t2.grid.affine @ np.diag([2, 2, 1, 1])))
    write_volume(path, coarse)
    assert run(src, out, *PATTERNS, "--t2-grid", "native").exit_code == 0
    assert read_volume(out / "t2" / "ab-1.nii.gz").grid == coarse.grid
    assert run(src, tmp_path / "two", *PATTERNS).exit_code == 0
    got = read_volume(tmp_path / "two" / "t2" / "ab-1.nii.gz")
    assert got.array.shape == SHAPE
    np.testing.assert_allclose(got.array[::2, ::2], coarse.array, atol=1e-3)


def test_with_force_the_label_of_an_earlier_image_goes_to_the_history(src, out):
    assert run(src, out, *PATTERNS).exit_code == 0
    before = read_label(out / "labels" / "final" / "ab-1.nii.gz").array
    (src / "seg" / "ab-1.nrrd").unlink()
    run(src, out, *PATTERNS, "--force")
    assert not (out / "labels" / "final" / "ab-1.nii.gz").exists()
    (kept,) = (out / "labels" / "history" / "ab-1").iterdir()
    np.testing.assert_array_equal(read_label(kept).array, before)
    assert (out / "labels" / "final" / "ab-2.nii.gz").exists()


def content(folder, name=""):
    """The files of a study, or of all, but the page: it has the time in it."""
    paths = (path for path in folder.rglob("*") if name in str(path.relative_to(folder)))
    return {path: path.read_bytes() for path in paths if path.is_file() and path.suffix != ".html"}


def without_contrast(path):
    volume = read_volume(path)
    write_volume(path, Volume(np.zeros_like(volume.array), volume.grid))


def test_what_cannot_be_read_replaces_nothing(src, out):
    assert run(src, out, *PATTERNS).exit_code == 0
    before = content(out, "ab-1")
    without_contrast(src / "ab-1" / "scan_t2.nii.gz")
    assert "1 imported, 1 not imported" in run(src, out, *PATTERNS, "--force").output
    assert "has no contrast" in (out / "import.html").read_text()
    assert content(out, "ab-1") == before


def test_a_study_is_looked_at_with_its_t2_placed_as_in_its_folder(src, out, monkeypatch):
    tell_mode(out / PLACING_FOLDER, "auto")
    seen = []
    monkeypatch.setattr(
        run_module, "read_study", lambda *asked: seen.append(asked[2]) or read_study(*asked)
    )
    assert run(src, out, *PATTERNS).exit_code == 0
    assert {placing.mode for placing in seen} == {"auto"}


def test_a_study_that_fails_is_told_by_its_whole_id(src, out):
    for path in (src / "ab-1", src / "ab-1" / "ab-1_t1.nii.gz", src / "seg" / "ab-1.nrrd"):
        there = path if path.exists() else src / "ab[b]1" / path.name
        there.rename(there.with_name(path.name.replace("ab-1", "ab[b]1")))
    without_contrast(src / "ab[b]1" / "scan_t2.nii.gz")
    assert "ab[b]1: T2 t2.nii.gz has no contrast" in run(src, out, *PATTERNS).output


def test_what_cannot_be_read_leaves_nothing_behind(src, out):
    without_contrast(src / "ab-1" / "scan_t2.nii.gz")
    assert run(src, out, *PATTERNS).exit_code == 1
    assert list(out.rglob("*ab-1*")) == []


def test_a_full_disk_leaves_nothing_behind(src, out):
    with full_disk(40_000):
        result = run(src, out, *PATTERNS)
    assert "2 not imported" in result.output
    assert content(out) == {}
    assert "only a part of it could" in (out / "import.html").read_text()


def test_a_study_whose_image_was_removed_is_imported_again(src, out):
    assert run(src, out, *PATTERNS).exit_code == 0
    before = content(out)
    for name in ("ab-1.nii.gz", "labels/final/ab-1.nii.gz", "ab-2.nii.gz"):
        (out / name).unlink()
    result = run(src, out, *PATTERNS)
    assert "1 imported, 1 not imported" in result.output  # a label is replaced if told so alone
    wanted = "labels/final/ab-2.nii.gz is there already; --force replaces it"
    assert wanted in (out / "import.html").read_text()
    assert "2 imported" in run(src, out, "--force", *PATTERNS).output
    after = content(out)
    assert {path: after[path] for path in before} == before


def test_what_is_missing_is_told_and_what_cannot_be_is_skipped(src, out):
    (src / "seg" / "ab-1.nrrd").unlink()
    (src / "ab-1" / "scan_t2.nii.gz").unlink()
    label = read_label(src / "seg" / "ab-2.nrrd")
    affine = label.grid.affine @ np.diag([1, 1, 2, 1])
    write_volume(src / "seg" / "ab-2.nrrd", Volume(label.array, Grid(SHAPE, affine)))
    result = run(src, out, *PATTERNS)
    assert result.exit_code == 1
    assert "1 imported, 1 not imported; 1 with warnings" in result.output
    page = (out / "import.html").read_text()
    for text in ("no T2 was found", "no label was found", "ab-2.nrrd lies on another grid"):
        assert text in page
    (case,) = find_cases(out)
    assert (case.t2, case.label) == (None, None)


@pytest.mark.parametrize(
    ("sides", "warnings"),
    [
        ((0, 0, 0), ("the label is empty",)),
        ((3, 3, 3), ("a tumor of 0.01 ml is unusual",)),  # 27 voxels of 0.375 mm3
        ((5, 5, 3), ()),
    ],
)
def test_a_label_that_is_hardly_a_tumor_is_told(src, out, sides, warnings):
    path = src / "seg" / "ab-1.nrrd"
    label = read_label(path)
    box = np.zeros_like(label.array)
    box[tuple(slice(9, 9 + n) for n in sides)] = 1
    write_volume(path, Volume(box, label.grid))
    run(src, out, *PATTERNS)
    facts = json.loads((out / "provenance" / "ab-1.json").read_text())
    assert tuple(facts["warnings"]) == warnings


def spread(path, *values):
    """Give each slice along I of the tumor one of some values in turn; return the numbers."""
    label = read_label(path)
    turns = np.resize(np.array(values, np.float32), label.array.shape[0])[:, None, None]
    write_volume(path, Volume(label.array * turns, label.grid))
    return label.array * turns


def test_a_label_of_several_structures_is_refused_unless_one_is_named(src, out):
    numbers = spread(src / "seg" / "ab-1.nrrd", 1, 2)
    assert "1 imported, 1 not imported" in run(src, out, *PATTERNS).output
    wanted = "ab-1.nrrd holds the values 1, 2; one was wanted, or --label-value for the tumor"
    assert wanted in (out / "import.html").read_text()
    assert "2 imported" in run(src, out, *PATTERNS, "--label-value", "2", "--force").output
    label = read_label(out / "labels" / "final" / "ab-1.nii.gz")
    np.testing.assert_array_equal(label.array, numbers == 2)
    facts = [json.loads((out / f"provenance/ab-{n}.json").read_text()) for n in (1, 2)]
    assert facts[0]["label"]["structure"] == "value 2"
    assert facts[1]["warnings"] == ["the label is empty"]  # it holds 1 alone
    assert run(src, out, *PATTERNS, "--label-value", "0").exit_code == 2


def test_many_values_are_not_all_told(src, out):
    spread(src / "seg" / "ab-1.nrrd", *range(1, 12))
    run(src, out, *PATTERNS)
    wanted = "ab-1.nrrd holds the values 1, 2, 3, 4, 5, 6, 7, 8 and 3 more; one was wanted"
    assert wanted in (out / "import.html").read_text()


def test_a_label_of_another_value_than_one_is_a_tumor(src, out):
    numbers = spread(src / "seg" / "ab-1.nrrd", 255)
    assert "2 imported" in run(src, out, *PATTERNS).output
    label = read_label(out / "labels" / "final" / "ab-1.nii.gz")
    np.testing.assert_array_equal(label.array, numbers != 0)


@pytest.mark.parametrize("options", [(), ("--label-value", "1")])
def test_a_map_of_probabilities_is_no_label(src, out, options):
    path = src / "seg" / "ab-1.nrrd"
    label = read_label(path)
    write_volume(path, Volume(np.where(label.array, 0.9, 0.001).astype(np.float32), label.grid))
    assert "1 imported, 1 not imported" in run(src, out, *PATTERNS, *options).output
    wanted = f"ab-1.nrrd holds {label.array.size} values like 0.001; whole numbers were wanted"
    assert wanted in (out / "import.html").read_text()


def test_volumes_that_no_tumor_has_are_doubted():
    assert [bool(doubts_of_volume(ml)) for ml in (0.019, 0.02, 40.0, 40.1)] == [1, 0, 0, 1]


def test_two_files_of_one_part_are_told_apart_by_nobody(src, out):
    place(src, "x", {"t2": "ab-1/again_t2.nii.gz"})
    assert run(src, out, *PATTERNS).exit_code == 1
    wanted = "one file that is the t2 was wanted, 2 may be: again_t2.nii.gz, scan_t2.nii.gz"
    assert wanted in (out / "import.html").read_text()


def test_images_of_two_places_are_refused(src, out):
    path = src / "ab-1" / "scan_t2.nii.gz"
    t2 = read_volume(path)
    affine = t2.grid.affine.copy()
    affine[0, 3] += 300
    write_volume(path, Volume(t2.array, Grid(SHAPE, affine)))
    assert run(src, out, *PATTERNS).exit_code == 1
    assert "overlaps the T1ce by 0%" in (out / "import.html").read_text()


def test_patterns_match_whole_names_and_the_same_id_everywhere(src):
    for path in ("ab-3/ab-4_t1.nii.gz", "ab-5/sub/ab-5_t1.nii.gz", "ab-6/ab-6_t1.nii"):
        place(src, "x", {"t1ce": path})
    found = find_by_patterns(src, {"t1ce": "{id}/{id}_t1.nii.gz"})
    assert [study.case_id for study in found] == ["ab-1", "ab-2"]
    assert [study.t2 for study in found] == [None, None]
    with pytest.raises(ImportingError, match=r"images like x\{id\}.nii were wanted"):
        find_by_patterns(src, {"t1ce": "x{id}.nii"})
    with pytest.raises(ImportingError, match=r"a pattern with \{id\} for the id of a study"):
        find_by_patterns(src, {"t1ce": "t1.nii"})
    with pytest.raises(ImportingError, match="a folder of images was wanted"):
        find_by_patterns(src / "none", {"t1ce": "{id}.nii"})


@pytest.mark.parametrize("options", [(), ("--bids", "--t1ce", "{id}.nii"), ("--t2", "{id}.nii")])
def test_patterns_or_bids_are_wanted(src, out, options):
    result = run(src, out, *options)
    assert result.exit_code == 2
    assert "either --bids or --t1ce with a pattern" in " ".join(result.output.split())


def test_a_bids_folder_is_read_by_its_names(tmp_path, out):
    src = tmp_path / "bids"
    place(src, "a", {
        "t1ce": "sub-01/anat/sub-01_ce-gad_T1w.nii.gz",
        "t2": "sub-01/anat/sub-01_acq-ciss_T2w.nii.gz",
        "label": "derivatives/readers/sub-01/anat/sub-01_label-tumor_mask.nii.gz",
    })  # fmt: skip
    place(src, "b", {"t1ce": "sub-01/anat/sub-01_T1w.nii.gz"})  # without contrast
    place(src, "c", {
        "t1ce": "sub-02/ses-1/anat/sub-02_ses-1_T1w.nii.gz",
        "t2": "sub-02/ses-1/anat/sub-02_ses-1_T2w.nii.gz",
        "label": "derivatives/readers/sub-02/ses-1/anat/sub-02_ses-1_dseg.nii.gz",
    })  # fmt: skip
    place(src, "d", {"t1ce": "sub-02/ses-2/anat/sub-02_ses-2_T1w.nii.gz"})
    place(src, "e", {"t1ce": "sub-03/anat/sub-03_run-1_T1w.nii.gz"})
    place(src, "f", {"t1ce": "sub-03/anat/sub-03_run-2_T1w.nii.gz"})
    result = run(src, out, "--bids")
    assert result.exit_code == 1
    assert "3 imported, 1 not imported; 1 with warnings" in result.output
    cases = {case.case_id: case for case in find_cases(out)}
    assert list(cases) == ["sub-01", "sub-02_ses-1", "sub-02_ses-2"]
    assert [case.t2 is not None for case in cases.values()] == [True, True, False]
    assert [case.label is not None for case in cases.values()] == [True, True, False]
    facts = json.loads((out / "provenance" / "sub-01.json").read_text())
    assert facts["t1ce"]["from"] == "sub-01_ce-gad_T1w.nii.gz"
    wanted = "2 may be: sub-03_run-1_T1w.nii.gz, sub-03_run-2_T1w.nii.gz"
    assert wanted in (out / "import.html").read_text()
    assert "images were wanted" in str(run(tmp_path, out, "--bids").exception)
