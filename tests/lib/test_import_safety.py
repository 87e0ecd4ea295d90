"""Imports that meet faults: told, skipped, taken up again; nothing is lost or carried along."""

import gzip
import shutil
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pytest
from imported import assert_same_place, provenance, run
from tcia import (
    Killed,
    made,
    only,
    write_images,
    write_plans,
    write_texts,
)

from clickseg.geometry import Grid
from clickseg.importing.place import check_room
from clickseg.importing.run import Job, run_jobs
from clickseg.importing.source import ImportingError, Wishes
from clickseg.parallel import WorkerError
from clickseg.study import find_cases
from clickseg.volume import Volume, read_label, read_volume, write_volume


def test_a_study_without_outlines_is_told_and_skipped_and_others_are_not(src, out):
    good, bad = made(1), made(2)
    for patient in (good, bad):
        write_images(patient, src)
    write_texts([good], src)
    result = run(src, out)
    assert result.exit_code == 1
    assert "1 imported, 1 not imported" in result.output
    assert [path.name for path in sorted(out.glob("*.nii.gz"))] == ["VS-SEG-001.nii.gz"]
    page = (out / "import.html").read_text()
    assert "outlines of the T1ce or T2 series were wanted" in page
    assert page.count("data:image/png") == 2
    assert "training" in page
    # Once it is mended it is imported; what is there is left alone.
    before = (out / "VS-SEG-001.nii.gz").stat().st_mtime_ns
    write_texts([bad], src)
    result = run(src, out)
    assert result.exit_code == 0
    assert "1 imported, 1 there already" in result.output
    assert (out / "VS-SEG-001.nii.gz").stat().st_mtime_ns == before
    assert (out / "import.html").read_text().count("data:image/png") == 4


@pytest.mark.parametrize("fault", ["slice", "pixels", "series", "transform", "far"])
def test_a_broken_study_leaves_nothing_behind(src, out, fault):
    patient = made(9)
    write_images(patient, src)
    write_texts([patient], src)
    series = sorted(src.rglob("2.000000-*"))[0]
    if fault == "slice":
        (series / "1-07.dcm").unlink()
    elif fault == "pixels":
        content = (series / "1-07.dcm").read_bytes()
        (series / "1-07.dcm").write_bytes(content[: len(content) // 2])
    elif fault == "series":
        shutil.rmtree(series)
    else:
        for path in src.rglob("inv_*.tfm"):
            path.write_text("nothing" if fault == "transform" else path.read_text())
    if fault == "far":
        for path in src.rglob("inv_*.tfm"):
            lines = path.read_text().split("\n")
            numbers = lines[3].split()
            lines[3] = " ".join([*numbers[:10], "500", *numbers[11:]])
            path.write_text("\n".join(lines))
    result = run(src, out)
    if fault == "transform":  # the outlines in both images tell it as well
        assert result.exit_code == 0
        assert len(provenance(out, patient)["warnings"]) == 2
        return
    wanted = {
        "slice": "even gaps between slices were wanted",
        "pixels": "1-07.dcm cannot be read as DICOM",
        "series": "a series that is a T1ce was wanted",
        "far": "T2 overlaps the T1ce by 0%",
    }
    assert result.exit_code == 1
    assert wanted[fault] in (out / "import.html").read_text()
    assert list(out.rglob("*.nii.gz")) == []
    assert list(out.rglob("VS-SEG-009*")) == []


def test_no_field_of_the_patient_is_carried(src, out):
    patient = made(3)
    write_images(patient, src)
    write_plans(patient, src)
    write_texts([patient], src)
    assert run(src, out).exit_code == 0
    for path in (p for p in out.rglob("*") if p.is_file()):
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        for private in (b"X^Y", b"19940701", b"07-01-1994", b"download"):
            assert private not in content, path
    image = nib.load(out / "VS-SEG-003.nii.gz")
    texts = [
        bytes(image.header[key].tobytes()).strip(b"\0")
        for key in ("descrip", "db_name", "aux_file")
    ]
    assert texts == [b"", b"", b""]


def test_patients_of_other_names_are_left_out_and_told(src, out):
    patient = made(3)
    write_images(patient, src)
    write_texts([patient], src)

    class Other(type(patient)):
        name = "Miller"

    other = Other(**(vars(made(4)) | {"uids": {"t1": "1.2.840.7", "t2": "1.2.840.8"}}))
    write_images(other, src)
    assert run(src, out).exit_code == 0
    assert [path.name for path in out.glob("*.nii.gz")] == ["VS-SEG-003.nii.gz"]
    page = (out / "import.html").read_text()
    assert "38 DICOM files are left out" in page
    assert "Miller" not in page


def test_files_that_nobody_imported_are_not_overwritten(src, out):
    patient = made(3)
    write_images(patient, src)
    write_texts([patient], src)
    mine = Volume(np.ones((3, 5, 7), np.uint8), Grid((3, 5, 7), np.eye(4)))
    for path in (out / "VS-SEG-003.nrrd", out / "labels" / "final" / "VS-SEG-003.nii.gz"):
        write_volume(path, mine)
        result = run(src, out)
        assert result.exit_code == 1
        assert (
            f"{path.name} is there already; --force replaces it"
            in (out / "import.html").read_text()
        )
        assert read_label(path).array.shape == (3, 5, 7)
        path.unlink()
    assert run(src, out).exit_code == 0


def test_an_accepted_label_stays_and_with_force_goes_to_the_history(src, out):
    patient = made(3)
    write_images(patient, src)
    write_texts([patient], src)
    assert run(src, out).exit_code == 0
    path = out / "labels" / "final" / "VS-SEG-003.nii.gz"
    label = read_label(path)
    mended = Volume(np.roll(label.array, 3, axis=0), label.grid)
    write_volume(path, mended)
    assert "1 there already" in run(src, out).output
    np.testing.assert_array_equal(read_label(path).array, mended.array)
    assert "1 imported" in run(src, out, "--force").output
    np.testing.assert_array_equal(read_label(path).array, label.array)
    (kept,) = (out / "labels" / "history" / "VS-SEG-003").iterdir()
    np.testing.assert_array_equal(read_label(kept).array, mended.array)


def test_with_force_nothing_of_the_earlier_study_is_taken_for_the_new_one(src, out):
    patient = made(3)
    write_images(patient, src)
    write_texts([only(patient, "t1")], src, ("contours",))
    shutil.rmtree(next(src.rglob("3.000000-*")))
    mine = Volume(np.ones((3, 5, 7), np.uint8), Grid((3, 5, 7), np.eye(4)))
    for path in (out / "VS-SEG-003.nrrd", out / "t2" / "VS-SEG-003.nii.gz"):
        write_volume(path, mine)
    assert "1 imported; 1 with warnings" in run(src, out, "--force").output
    (case,) = find_cases(out)
    assert case.t2 is None
    assert_same_place(read_volume(case.t1ce), patient.t1ce)
    assert "no T2 series was found" in (out / "import.html").read_text()


@pytest.mark.parametrize("moves", range(5))
def test_a_study_that_was_being_moved_is_finished_by_the_next_run(src, out, moves):
    patient = made(3)
    write_images(patient, src)
    write_texts([patient], src)
    assert run(src, out).exit_code == 0
    files = [
        (out / "t2" / "VS-SEG-003.nii.gz", "t2.nii.gz"),
        (out / "labels" / "final" / "VS-SEG-003.nii.gz", "label.nii.gz"),
        (out / "VS-SEG-003.nii.gz", "t1ce.nii.gz"),
        (out / "provenance" / "VS-SEG-003.json", "provenance.json"),
    ]
    whole = [path.read_bytes() for path, _ in files]
    # As a stop after so many moves leaves it.
    ready = out / ".clickseg" / "importing" / "VS-SEG-003.ready"
    ready.mkdir()
    for path, name in files[moves:]:
        path.rename(ready / name)
    if moves == 4:
        files[3][0].unlink()
        (ready / "provenance.json").write_bytes(whole[3])
    shutil.rmtree(src / "contours")  # it is not made anew: it could not be
    assert "1 there already" in run(src, out).output
    assert [path.read_bytes() for path, _ in files] == whole
    assert not ready.exists()


def test_what_a_stopped_run_left_unfinished_is_made_anew(src, out):
    patient = made(3)
    write_images(patient, src)
    write_texts([patient], src)
    part = out / ".clickseg" / "importing" / "VS-SEG-003.part"
    part.mkdir(parents=True)
    (part / "t1ce.nii.gz").write_bytes(b"half")
    assert run(src, out).exit_code == 0
    assert_same_place(read_volume(out / "VS-SEG-003.nii.gz"), patient.t1ce)
    assert not part.exists()


@dataclass(frozen=True)
class Huge:
    """A source of which no disk holds two."""

    case_id: str = "VS-SEG-001"

    def size_bytes(self):
        return 1 << 60


def test_what_the_disk_cannot_hold_is_not_begun(out):
    with pytest.raises(ImportingError, match=r"1 studies take up to 1152921504.6 GB, .* GB left"):
        check_room(out, [Huge()])
    assert not out.exists()


@pytest.mark.slow
def test_a_worker_that_is_ended_from_outside_is_told(out):
    jobs = [Job(Killed(name), out, Wishes(), False) for name in ("VS-SEG-001", "VS-SEG-002")]
    with pytest.raises(WorkerError, match="begin again, perhaps with fewer --jobs"):
        run_jobs(jobs, 2)


def test_a_folder_without_the_data_set_is_refused(src, out):
    result = run(src, out)
    assert isinstance(result.exception, ImportingError)
    assert "a folder of the VS-SEG download was wanted" in str(result.exception)
    src.mkdir()
    (src / "notes.dcm").write_text("no DICOM")
    assert "MR series of patients VS-SEG-001, ... were wanted" in str(run(src, out).exception)
    assert not out.exists()
