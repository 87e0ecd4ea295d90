"""Outlines with names and registrations, as they are published: read, matched, refused."""

import gzip
import json
import zipfile

import numpy as np
import pytest
from pydicom import dcmread
from scipy.spatial.transform import Rotation
from tcia import VS_SHAPES, circle, header, made, mapped, needs_shapes, rows_of, rtstruct, tfm

from clickseg.importing.contours import ContourError, read_contours, read_rtstruct
from clickseg.importing.documents import Document, Label, documents_in, label_of
from clickseg.importing.source import ImportingError
from clickseg.importing.structures import Kind, load_rules, tumor_among
from clickseg.importing.transforms import (
    TransformError,
    disagreement_mm,
    from_outlines,
    motion_of,
    read_transform,
)

NAMES = {
    Kind.TUMOR: ("TV", "AN", "tumour", "Rt AN", "TvT1", "Men", "Lt VS", "TV T1", "GTV", "RtAN"),
    Kind.COCHLEA: ("Cochlea", "cochlea", "Rt cochlea", "Coclea"),
    Kind.FOLLOW_UP: ("Vol2016", "Vol2015", "Vol 2y", "TV 2015", "Vol 6m", "AN follow up"),
    Kind.OTHER: ("Skull", "Brainstem", "Optic nerve"),
    Kind.UNKNOWN: ("Target 1A",),
}
"""The first ones of each kind are published."""


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in NAMES.items() for name in names]
)
def test_a_structure_is_known_by_its_name(kind, name):
    assert load_rules().kind_of(name) is kind


@pytest.mark.parametrize(
    ("names", "number", "is_doubtful"),
    [
        (["TV", "Cochlea", "Vol2016"], 0, False),
        (["Men", "TV"], 0, False),  # in all published plans it is the first
        (["Target", "TV"], 0, True),
        (["Cochlea", "Skull", "AN"], 2, True),
        (["Vol2016", "TV"], 1, True),
        (["TV 2015", "cochlea"], 0, True),
    ],
)
def test_the_tumor_is_the_first_structure_unless_its_name_says_otherwise(
    names, number, is_doubtful
):
    found, warning = tumor_among(names)
    assert found == number
    assert bool(warning) is is_doubtful


def test_a_plan_without_a_tumor_is_refused():
    with pytest.raises(ValueError, match="a tumor was wanted among the structures Cochlea, Skull"):
        tumor_among(["Cochlea", "Skull"])


def test_published_outlines_are_read_in_their_order_as_ras():
    rows = rows_of("VS-SEG-007", "1.2.3", {"TV ": [circle((5, 3, 1), 2)], "Cochlea": []})
    rows[0]["LPS_contour_points"] *= 2  # the same outline again
    rows[0]["LPS_contour_points"].append([[1, 2, 3], [4, 5, 6]])  # two points enclose nothing
    plan = read_contours(json.dumps(rows), "contours.json")
    assert plan.series_uid == "1.2.3"
    assert [structure.name for structure in plan.structures] == ["TV"]
    np.testing.assert_allclose(plan.structures[0].outlines_ras[0].mean(0), [5, 3, 1], atol=1e-9)
    assert len(plan.structures[0].outlines_ras) == 1
    assert plan.tumor() == (plan.structures[0], "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "a list of structures with structure_name"),
        ("[1]", "a list of structures with structure_name"),
        ('[{"structure_name": "TV"}]', "it fails at 'LPS_contour_points'"),
        ("[]", "structures on one series were wanted, got 0"),
        (
            '[{"structure_name": "", "MR_SeriesInstanceUID": "", "LPS_contour_points": [[[1]]]}]',
            "LPS points",
        ),
    ],
)
def test_other_json_is_refused_in_one_sentence(text, message):
    with pytest.raises(ContourError, match=message):
        read_contours(text, "contours.json")


def test_an_rtstruct_says_the_same_as_the_json():
    patient = made(3)
    rows = patient.contours["t2"]
    plan = read_rtstruct(rtstruct(rows, header(patient, "t2")), "RTSS.dcm")
    wanted = read_contours(json.dumps(rows), "")
    assert plan.series_uid == patient.uids["t2"]
    assert plan.frame_uid == header(patient, "t2").frame_of_reference_uid
    for got, want in zip(plan.structures, wanted.structures, strict=True):
        assert (got.name, got.kind) == (want.name, want.kind)
        for a, b in zip(got.outlines_ras, want.outlines_ras, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_points_of_an_rtstruct_and_structures_that_nobody_drew_are_left_out():
    patient = made(3)
    dataset = rtstruct(patient.contours["t1"], header(patient, "t1"))
    dataset.ROIContourSequence[1].ContourSequence[0].ContourGeometricType = "POINT"
    del dataset.ROIContourSequence[1].ContourSequence[1:]
    del dataset.ROIContourSequence[2].ContourSequence
    assert [s.name for s in read_rtstruct(dataset, "RTSS.dcm").structures] == ["TV"]


def test_an_image_in_place_of_an_rtstruct_is_refused(tmp_path):
    dataset = rtstruct(made(3).contours["t1"], header(made(3), "t1"))
    del dataset.ReferencedFrameOfReferenceSequence
    dataset.save_as(tmp_path / "1-1.dcm", write_like_original=False)
    with pytest.raises(ContourError, match=r"1-1.dcm is no RTSTRUCT that can be read"):
        read_rtstruct(dcmread(tmp_path / "1-1.dcm"), "1-1.dcm")


def rigid(angles_deg, shift_mm):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    matrix[:3, 3] = shift_mm
    return matrix


def test_a_transform_is_read_to_the_last_digit():
    matrix = rigid([3, -5, 7], [11, -13, 17])
    np.testing.assert_allclose(read_transform(tfm(matrix, "p", "1.2"), "a.tfm"), matrix, atol=1e-14)
    # By hand: a shift by 5, 7 and 9 mm to left, back and up.
    by_hand = tfm(np.eye(4), "p", "1.2").replace("0.0 0.0 0.0\nFixed", "5 7 9\nFixed")
    np.testing.assert_allclose(read_transform(by_hand, "a.tfm")[:3, 3], [-5, -7, 9])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "a.tfm is no ITK transform"),
        (tfm(np.diag([1.1, 1, 1, 1]), "p", "1"), "a.tfm is not rigid"),
        (tfm(np.diag([-1, 1, 1, 1]), "p", "1"), "a.tfm is not rigid"),
        (
            "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_2_2\n"
            "Parameters: 1 0 0 1 0 0\nFixedParameters: 0 0\n",
            "a linear one in 3D was wanted",
        ),
    ],
)
def test_other_transforms_are_refused(text, message):
    with pytest.raises(TransformError, match=message):
        read_transform(text, "a.tfm")


def test_outlines_that_were_copied_tell_the_registration():
    matrix = rigid([1, 2, -3], [4, 5, 6])
    first = [circle((20, 30, 5), 3), circle((21, 31, 6.5), 4, 23)]
    second = [mapped(matrix, points) for points in first]
    np.testing.assert_allclose(from_outlines(first, second), matrix, atol=1e-9)
    assert motion_of(matrix, np.zeros(3))[0] == pytest.approx(np.sqrt(77))  # 4, 5, 6
    # Half a turn about the z axis takes (3, 4, 9) to (-3, -4, 9), 10 mm away.
    assert motion_of(rigid([0, 0, 180], [0, 0, 0]), np.array([3, 4, 9])) == pytest.approx((10, 180))
    assert disagreement_mm(np.eye(4), [first[0]], [first[0] + [0, 3, 4]]) == pytest.approx(5)
    assert from_outlines(first, second[:1]) is None
    assert from_outlines((), ()) is None
    bent = [second[0], second[1] + np.random.default_rng(1).normal(0, 1, second[1].shape)]
    assert from_outlines(first, bent) is None


def test_documents_are_found_in_files_gzipped_files_and_zip_files(tmp_path):
    text = json.dumps(rows_of("VS-SEG-012", "1.2.3", {"TV": []}), indent=1)
    (tmp_path / "contours.json").write_text(text)
    (tmp_path / "contours.json.gz").write_bytes(gzip.compress(text.encode()))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("contours/vs_gk_12_t1/contours.json", text)
        archive.writestr("contours/vs_gk_12_t1/contours.json.gz", gzip.compress(text.encode()))
        archive.writestr("__MACOSX/vs_gk_12_t1/._contours.json", "x")
        archive.writestr("readme.txt", "x")
    found = [d for path in sorted(tmp_path.iterdir()) for d in documents_in(path)]
    assert len(found) == 4
    assert {document.text() for document in found} == {text}
    assert {label_of(document) for document in found} == {Label("VS-SEG-012", "1.2.3")}
    assert {document.name for document in found} == {"contours.json", "contours.json.gz"}


@pytest.mark.parametrize(
    ("place", "patient"),
    [
        ("contours/vs_gk_7_t2/contours.json", "VS-SEG-007"),
        ("VS-SEG-101/contours.json", "VS-SEG-101"),
        ("sub-042/anat/sub-042_contours.json", "VS-SEG-042"),
    ],
)
def test_a_document_that_does_not_say_whose_it_is_is_told_by_its_place(tmp_path, place, patient):
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert label_of(Document(path)) == Label(patient, "")


def test_a_document_of_nobody_has_no_label_and_a_broken_one_says_so(tmp_path):
    (tmp_path / "contours.json").write_text("{}")
    assert label_of(Document(tmp_path / "contours.json")) is None
    (tmp_path / "contours.json.gz").write_bytes(b"no gzip")
    with pytest.raises(ImportingError, match=r"contours.json.gz cannot be read"):
        label_of(Document(tmp_path / "contours.json.gz"))
    (tmp_path / "broken.zip").write_bytes(b"no zip")
    with pytest.raises(ImportingError, match=r"broken.zip cannot be read: File is not a zip file"):
        list(documents_in(tmp_path / "broken.zip"))


@needs_shapes
@pytest.mark.parametrize("number", [1, 2, 5])
def test_the_published_transform_lays_each_cochlea_on_itself(number):
    folder, prefix = VS_SHAPES / "raw" / f"VS-SEG-{number:03d}", f"sub-{number:03d}"
    plans = [
        read_contours(
            Document(folder / f"{prefix}_contours_space-individual_{name}.json.gz").text(), name
        )
        for name in ("T1w", "T2w")
    ]
    matrices = {
        name: read_transform((folder / f"{prefix}_inv_{name}.tfm").read_text(), name)
        for name in ("T2_LPS_to_T1_LPS", "T1_LPS_to_T2_LPS")
    }
    assert plans[0].tumor() == (plans[0].structures[0], "")
    first, second = (
        next(s.outlines_ras for s in plan.structures if s.kind is Kind.COCHLEA) for plan in plans
    )
    assert disagreement_mm(matrices["T2_LPS_to_T1_LPS"], first, second) < 1e-6
    assert disagreement_mm(matrices["T1_LPS_to_T2_LPS"], first, second) > 0.4
    np.testing.assert_allclose(
        matrices["T2_LPS_to_T1_LPS"] @ matrices["T1_LPS_to_T2_LPS"], np.eye(4), atol=1e-12
    )
    np.testing.assert_allclose(
        from_outlines(first, second), matrices["T2_LPS_to_T1_LPS"], atol=1e-6
    )
