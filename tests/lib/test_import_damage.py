"""Files of a download that are damaged: each is told, and costs no study but its own."""

import gzip
import zipfile

import pytest
from imported import run
from tcia import made, write_images, write_texts


def spoiled_gzip(path):
    content = bytearray(gzip.compress(b'{"PatientID": "VS-SEG-003"}' * 99))
    content[10] = 7  # a kind of block that there is not
    path.write_bytes(content)


def spoiled_zip(path, at, value):
    """A ZIP file with other bytes at a place of both headers of its member."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vs_gk_3_t1/contours.json", "[1, 2, 3]" * 99)
    content = bytearray(path.read_bytes())
    for start in (content.index(b"PK\x03\x04") + at, content.index(b"PK\x01\x02") + at + 2):
        content[start : start + len(value)] = value
    path.write_bytes(content)


def spoiled_member(path):
    spoiled_zip(path, 6, b"")
    content = bytearray(path.read_bytes())
    content[54] = 7  # behind the header of 30 bytes and the name of 24
    path.write_bytes(content)


def half_a_zip(path):
    spoiled_zip(path, 6, b"")
    path.write_bytes(path.read_bytes()[:60])


def cut_dicom(path):
    """The meta header ends within a number."""
    path.write_bytes(bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00\x1a")


def odd_dicom(path, first):
    good = next(path.parent.rglob("1-01.dcm")).read_bytes()
    at = good.index(b"\x08\x00\x60\x00CS\x02\x00MR")
    path.write_bytes(good[:at] + first + good[at + 10 :])


DAMAGES = {
    "contours.json.gz": spoiled_gzip,
    "member.zip": spoiled_member,
    "encrypted.zip": lambda path: spoiled_zip(path, 6, b"\x01"),
    "unknown.zip": lambda path: spoiled_zip(path, 8, b"\x63"),
    "half.zip": half_a_zip,
    "cut.dcm": cut_dicom,
    "kind.dcm": lambda path: odd_dicom(path, b"\x08\x00\x60\x00ZZ\x02\x00MR"),
    "length.dcm": lambda path: odd_dicom(path, b"\x08\x00\x60\x00US\x03\x00MR "),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_told_and_the_others_are_imported(src, out, name):
    patient = made(3)
    write_images(patient, src)
    write_texts([patient], src)
    DAMAGES[name](src / name)
    result = run(src, out)
    assert "1 imported" in result.output, result.exception
    told = "contours.json" if name in ("member.zip", "encrypted.zip", "unknown.zip") else name
    assert f"a file is left out: {told} cannot be read" in (out / "import.html").read_text()
