"""The command `clickseg to-dicom`: layout, choice of studies, nothing overwritten unasked."""

import sys

import numpy as np
import pydicom
import pytest

from clickseg import cli
from clickseg.dicom.read import read_headers, read_series
from clickseg.dicom.rules import load_rules
from clickseg.dicom.series import facts_of, find_pair
from clickseg.geometry import Grid
from clickseg.volume import ImageError, Volume, read_volume, write_volume

SHAPE = (13, 11, 9)
AFFINE = np.array([[0, 0, 1.5, 11], [-0.4, 0, 0, 7], [0, 0.5, 0, 3], [0, 0, 0, 1]])


@pytest.fixture
def studies(tmp_path):
    folder = tmp_path / "studies"
    for n, name in enumerate(("b.nii.gz", "t2/b.nii.gz", "a.nrrd")):
        array = np.random.default_rng(n).integers(-500, 4000, SHAPE).astype(np.int16)
        write_volume(folder / name, Volume(array, Grid(SHAPE, AFFINE)))
    return folder


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setenv("COLUMNS", "300")
        monkeypatch.setattr(sys, "argv", ["clickseg", "to-dicom", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as left:
            return left.code or 0, capsys.readouterr().err
        return 0, capsys.readouterr().err

    return call


def folders(out):
    return sorted(str(path.parent.relative_to(out)) for path in out.rglob("0001.dcm"))


def test_each_study_becomes_one_dicom_study_of_two_series(studies, tmp_path, run):
    out = tmp_path / "out [old]"
    status, told = run(studies, out)
    assert status == 0, told
    assert f"wrote 3 series to {out}" in told
    assert folders(out) == ["a/t1ce", "b/t1ce", "b/t2"]
    headers = [read_headers(sorted((out / f).iterdir())) for f in folders(out)]
    a, t1ce, t2 = (header[0] for header in headers)
    assert t1ce.StudyInstanceUID == t2.StudyInstanceUID != a.StudyInstanceUID
    assert t1ce.FrameOfReferenceUID == t2.FrameOfReferenceUID != a.FrameOfReferenceUID
    assert (a.PatientID, t1ce.PatientID) == ("a", "b")
    pair = find_pair([facts_of(header) for header in headers[1:]], load_rules())
    assert (pair.t1ce.uid, pair.t2.uid) == (t1ce.SeriesInstanceUID, t2.SeriesInstanceUID)
    for folder, name in (("b/t1ce", "b.nii.gz"), ("b/t2", "t2/b.nii.gz"), ("a/t1ce", "a.nrrd")):
        back, want = read_series(list((out / folder).iterdir())), read_volume(studies / name)
        canonical = want.grid.to_canonical(want.array)
        np.testing.assert_array_equal(back.grid.to_canonical(back.array), canonical)
        assert back.grid.canonical == want.grid.canonical


def test_studies_can_be_chosen_and_numbered_from_the_other_end(studies, tmp_path, run):
    out = tmp_path / "out"
    assert run(studies, out, "--id", "a", "--descending")[0] == 0
    assert folders(out) == ["a/t1ce"]
    first = pydicom.dcmread(out / "a" / "t1ce" / "0001.dcm")
    assert first.InstanceNumber == 1
    last = read_volume(studies / "a.nrrd").array[:, :, -1]
    np.testing.assert_array_equal(first.pixel_array, last.T)
    status, told = run(studies, out, "--id", "c")
    assert status == 2
    assert "the study c was wanted" in told


def test_nothing_is_overwritten_unless_forced(studies, tmp_path, run):
    out = tmp_path / "out"
    assert run(studies, out, "--id", "b")[0] == 0
    stray = out / "b" / "t1ce" / "0099.dcm"
    stray.write_bytes(b"mine")
    status, told = run(studies, out)
    assert status == 2
    assert "and 1 more is there already; --force replaces it" in told
    assert folders(out) == ["b/t1ce", "b/t2"]
    assert stray.is_file()
    before = (out / "b" / "t1ce" / "0001.dcm").read_bytes()
    assert run(studies, out, "--force")[0] == 0
    assert not stray.exists()
    assert (out / "b" / "t1ce" / "0001.dcm").read_bytes() == before


def test_a_place_where_nothing_can_be_written_is_told_in_a_sentence(studies, tmp_path, run):
    (tmp_path / "file").touch()
    status, told = run(studies, tmp_path / "file")
    assert status == 2
    assert "cannot be written: [Errno 20] Not a directory: " in told
    assert "Traceback" not in told


def test_a_series_stays_where_what_should_replace_it_cannot_be_written(
    studies, tmp_path, run, monkeypatch
):
    out = tmp_path / "out"
    assert run(studies, out, "--id", "b")[0] == 0
    before = (out / "b" / "t1ce" / "0001.dcm").read_bytes()

    def full(*_, **__):
        raise ImageError("no space left on the disk")

    monkeypatch.setattr("clickseg.commands.to_dicom.write_series", full)
    assert run(studies, out, "--id", "b", "--force")[0] == 2
    assert (out / "b" / "t1ce" / "0001.dcm").read_bytes() == before
    assert folders(out) == ["b/t1ce", "b/t2"]


def test_a_folder_without_studies_is_refused(tmp_path, run):
    (tmp_path / "empty").mkdir()
    status, told = run(tmp_path / "empty", tmp_path / "out")
    assert status == 2
    assert "at least one study was wanted" in told
