"""``clickseg import-vs-seg``: a download in, a folder of studies out, whatever is missing."""

import gzip
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from imported import assert_label, assert_same_place, provenance, run
from pydicom import dcmread
from tcia import (
    VS_SHAPES,
    header,
    made,
    moved,
    needs_shapes,
    only,
    published,
    write_images,
    write_plans,
    write_texts,
)

from clickseg.dicom.mr import write_series
from clickseg.geometry import Grid
from clickseg.importing.place import Place
from clickseg.importing.source import ImportingError
from clickseg.importing.vs_seg import official_split, scan
from clickseg.resampling import resample
from clickseg.training.split import Split, read_split, write_split
from clickseg.volume import Volume, read_label, read_volume


@pytest.mark.parametrize("scheme", ["descriptive", "classic"])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_download_becomes_studies_whatever_its_folders_are_called(src, out, scheme, zipped):
    patient = made(7)
    write_images(patient, src, scheme)
    write_texts([patient], src, ("contours",), zipped)
    write_texts([patient], src, ("transforms",), zipped)
    result = run(src, out, "--t2-grid", "native", "--all-structures")
    assert result.exit_code == 0, result.output
    assert "1 imported; 0 with warnings" in result.output
    assert_same_place(read_volume(out / "VS-SEG-007.nii.gz"), patient.t1ce)
    assert_same_place(read_volume(out / "t2" / "VS-SEG-007.nii.gz"), patient.placed_t2)
    assert_label(out, patient, 0.96)
    facts = provenance(out, patient)
    assert facts["registration"]["by"] == "published transform"
    assert facts["registration"]["outlines_apart_mm"] == 0
    np.testing.assert_allclose(
        facts["registration"]["t2_from_t1_ras"], patient.t2_from_t1_ras, atol=1e-6
    )
    assert facts["label"]["structure"] == "TV"
    assert facts["label"]["drawn_on"] == "T1ce"
    assert facts["label"]["mask_ml"] == pytest.approx(4 / 3 * np.pi * 0.125, rel=0.02)
    assert facts["source"]["doi"] == "10.7937/TCIA.9YTJ-5Q73"
    assert facts["warnings"] == []
    others = sorted(path.name for path in (out / "structures" / "VS-SEG-007").iterdir())
    assert others == ["02-cochlea-cochlea.nii.gz", "03-follow-up-Vol2016.nii.gz"]
    # 4 mm of radius in place of 5.
    follow_up = read_label(out / "structures" / "VS-SEG-007" / others[1])
    assert follow_up.array.sum() * follow_up.grid.voxel_ml == pytest.approx(0.268, rel=0.03)
    assert sorted(path.name for path in out.iterdir() if path.name[0] != ".") == [
        "VS-SEG-007.nii.gz", "import.html", "labels", "provenance", "split.json", "structures", "t2"
    ]  # fmt: skip
    assert list((out / ".clickseg" / "importing").iterdir()) == []


def test_a_download_in_both_naming_schemes_counts_each_slice_once(src, out):
    patient = made(7)
    for scheme in ("descriptive", "classic"):
        write_images(patient, src, scheme)
    write_texts([patient], src)
    assert run(src, out).exit_code == 0
    assert_same_place(read_volume(out / "VS-SEG-007.nii.gz"), patient.t1ce)


@pytest.mark.slow
@needs_shapes
@pytest.mark.parametrize(("number", "scheme"), [(1, "descriptive"), (2, "classic"), (5, "classic")])
def test_published_outlines_and_transforms_come_out_as_they_went_in(src, out, number, scheme):
    patient = published(number)
    write_images(patient, src, scheme)
    write_texts([patient], src, ("contours",), zipped=number == 2)
    write_texts([patient], src, ("transforms",), zipped=number == 5)
    result = run(src, out, "--t2-grid", "native")
    assert "1 imported; 0 with warnings" in result.output
    assert_same_place(read_volume(out / f"{patient.name}.nii.gz"), patient.t1ce)
    assert_same_place(read_volume(out / "t2" / f"{patient.name}.nii.gz"), patient.placed_t2)
    assert_label(out, patient, 0.95)
    outlines = [np.array(p) for p in patient.contours["t1"][0]["LPS_contour_points"]]
    areas = [
        abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2 for x, y in (p.T[:2] for p in outlines)
    ]
    assert provenance(out, patient)["label"]["mask_ml"] == pytest.approx(
        sum(areas) * 1.5 / 1000, rel=0.02
    )


def test_a_t2_on_the_voxels_of_the_t1ce_is_what_resampling_makes_of_it(src, out):
    patient = made(4)
    # The T2 is wider than the T1ce: no voxel lacks a value.
    affine = patient.placed_t2.grid.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, 6)
    array = np.pad(patient.placed_t2.array, 6, mode="edge")
    wide = Volume(array, Grid(array.shape, affine))
    patient = replace(patient, t2=moved(wide, patient.t2_from_t1_ras))
    write_images(patient, src)
    write_texts([patient], src)
    assert run(src, out).exit_code == 0
    t2 = read_volume(out / "t2" / "VS-SEG-004.nii.gz")
    assert t2.grid == read_volume(out / "VS-SEG-004.nii.gz").grid
    want, _ = resample(wide, patient.t1ce.grid)
    np.testing.assert_allclose(t2.array, want, atol=1)


@pytest.mark.parametrize(
    ("missing", "by"),
    [
        (("t1",), "published transform"),
        (("t2",), "published transform"),
        (("t1", "t2"), "outlines drawn in both"),
    ],
)
def test_a_registration_is_found_without_its_files(src, out, missing, by):
    patient = made(5)
    write_images(patient, src)
    write_texts([patient], src)
    for key in missing:
        shutil.rmtree(src / "registration_matrices" / f"vs_gk_5_{key}")
    assert run(src, out, "--t2-grid", "native").exit_code == 0
    assert provenance(out, patient)["registration"]["by"] == by
    assert_same_place(read_volume(out / "t2" / "VS-SEG-005.nii.gz"), patient.placed_t2)


def test_without_transform_and_outlines_of_t2_one_frame_of_reference_counts(src, out):
    patient = replace(made(6), t2=made(6).placed_t2)
    write_images(patient, src, frame_uid="1.2.3.4")
    write_texts([only(patient, "t1")], src, ("contours",))
    assert run(src, out, "--t2-grid", "native").exit_code == 0
    assert provenance(out, patient)["registration"]["by"] == "frame of reference"
    assert_same_place(read_volume(out / "t2" / "VS-SEG-006.nii.gz"), patient.placed_t2)


@pytest.mark.slow
@needs_shapes
@pytest.mark.parametrize("shift_mm", [(4, -6, 5), (70, -40, 50)])
def test_without_anything_else_the_images_tell_the_registration(src, out, shift_mm):
    patient = published(2)
    shift = np.eye(4)
    shift[:3, 3] = shift_mm
    patient = replace(
        patient,
        t2=Volume(patient.t2.array, Grid(patient.t2.grid.shape, shift @ patient.t2.grid.affine)),
    )
    write_images(patient, src)
    write_texts([only(patient, "t1")], src, ("contours",))
    assert run(src, out, "--t2-grid", "native").exit_code == 0
    facts = provenance(out, patient)
    assert facts["registration"]["by"] == "mutual information"
    assert "registered by its voxels" in facts["warnings"][0]
    got = read_volume(out / "t2" / "VS-SEG-002.nii.gz").grid.canonical.affine
    # Less than a voxel (0.95 x 0.95 x 1.5 mm) at the corner of the image.
    assert np.abs(got - patient.placed_t2.grid.canonical.affine)[:3, 3].max() < 1.5


@pytest.mark.parametrize("fault", ["missing", "broken", "undrawn", "of T2 only"])
def test_without_json_of_the_t1ce_the_rtstruct_or_the_t2_tell_the_outlines(src, out, fault):
    patient = made(8)
    write_images(patient, src)
    write_texts([patient], src)
    folder = src / "contours" / "vs_gk_8_t1"
    if fault == "broken":
        text = (folder / "contours.json").read_text()
        (folder / "contours.json").write_text(text[: len(text) // 2])
    elif fault == "undrawn":
        rows = [row | {"LPS_contour_points": []} for row in patient.contours["t1"]]
        (folder / "contours.json").write_text(json.dumps(rows))
    else:
        shutil.rmtree(folder)
    if fault != "of T2 only":
        write_plans(patient, src)
    result = run(src, out)
    assert result.exit_code == 0, result.output
    assert_label(out, patient, 0.96)
    label, warnings = provenance(out, patient)["label"], provenance(out, patient)["warnings"]
    if fault == "of T2 only":
        assert (label["drawn_on"], label["from"]) == ("T2", "contours.json")
    else:
        assert (label["drawn_on"], label["from"]) == ("T1ce", "RTSTRUCT 1-1.dcm")
    assert len(warnings) == (fault == "broken")


def test_a_plan_that_names_no_series_of_the_study_is_known_by_its_frame(src, out):
    patient = made(8)
    write_images(patient, src)
    write_plans(patient, src)
    for path in src.rglob("*-RTSTRUCT/1-1.dcm"):
        plan = dcmread(path)
        study = plan.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
        study.RTReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"
        plan.save_as(path)
    assert run(src, out, "--t2-grid", "native").exit_code == 0
    assert_label(out, patient, 0.96)
    facts = provenance(out, patient)
    assert facts["registration"]["by"] == "outlines drawn in both"
    assert facts["label"]["drawn_on"] == "T1ce"


def test_the_series_that_readers_drew_on_is_chosen_among_several(src, out):
    patient = made(8)
    write_images(patient, src)
    again = replace(header(patient, "t1"), series_uid="1.2.3.4", series_number=9)
    write_series(Volume(patient.t1ce.array // 2, patient.t1ce.grid), src / "again", again)
    assert run(src, out).exit_code == 1
    assert "one series that is the T1ce was wanted, 2 may be" in (out / "import.html").read_text()
    write_texts([patient], src)
    assert run(src, out).exit_code == 0
    assert_same_place(read_volume(out / "VS-SEG-008.nii.gz"), patient.t1ce)


def test_the_official_split_is_written_and_another_one_is_kept(src, out):
    patient = made(3)
    write_images(patient, src)
    write_texts([patient], src)
    assert run(src, out).exit_code == 0
    assert read_split(out / "split.json") == official_split()
    assert run(src, out).exit_code == 0
    write_split(Split(("VS-SEG-003",), ()), out / "split.json")
    assert "is another split; --force replaces it" in str(run(src, out).exception)
    for damaged in ("{", "[]", '{"training": 1, "validation": []}'):
        (out / "split.json").write_text(damaged)
        said = run(src, out).exception
        assert isinstance(said, ImportingError)
        assert "split.json is no split (" in str(said)
    assert run(src, out, "--force").exit_code == 0
    assert read_split(out / "split.json") == official_split()


def test_the_official_split_has_176_20_and_46_patients():
    split = official_split()
    assert [len(side) for side in (split.training, split.validation, split.test)] == [176, 20, 46]
    assert (split.training[0], split.training[-1]) == ("VS-SEG-001", "VS-SEG-181")
    assert (split.validation[0], split.validation[-1]) == ("VS-SEG-182", "VS-SEG-201")
    assert (split.test[0], split.test[-1]) == ("VS-SEG-202", "VS-SEG-250")


@needs_shapes
def test_the_official_split_is_that_of_the_published_outlines():
    with gzip.open(VS_SHAPES / "contours.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    told = {row["subject"].replace("sub-", "VS-SEG-"): row["split"] for row in rows}
    sides = official_split().sides()
    assert {name: sides[name] for name in told} == told
    assert {name for name, side in sides.items() if side != "test"} == set(told)


def test_a_study_whose_files_lie_in_one_folder_is_taken_apart(src, out):
    """As the authors' own script arranges them: images, plan and texts of a series together."""
    patient = made(12)
    write_images(patient, src)
    write_plans(patient, src)
    flat = src.parent / "flat"
    for key, kind in (("t1", "2.000000-*"), ("t2", "3.000000-*")):
        folder = flat / f"vs_gk_12_{key}"
        shutil.copytree(next(src.rglob(kind)), folder)
        number = 0 if key == "t1" else 1
        shutil.copy(next(src.rglob(f"{number}.000000-RTSTRUCT")) / "1-1.dcm", folder / "RTSS.dcm")
    found = scan(flat).found["VS-SEG-012"]
    assert {uid: len(files) for uid, files in found.images.items()} == {
        patient.uids["t1"]: 19, patient.uids["t2"]: 19
    }  # fmt: skip
    assert len(found.plans) == 2
    assert run(flat, out).exit_code == 0
    assert Place(out, "VS-SEG-012").provenance.is_file()
    assert_label(out, patient, 0.96)
