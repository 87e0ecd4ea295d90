"""The public data set in miniature, as it would be downloaded: what tests of its importer read."""

import gzip
import json
import os
import signal
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid
from scipy.spatial.transform import Rotation
from tiny import SHAPE

from clickseg.dicom.mr import SeriesHeader, write_series
from clickseg.geometry import LPS_FROM_RAS, Grid
from clickseg.phantom import Outlines, make_phantom
from clickseg.volume import Volume

VS_SHAPES = Path(os.environ.get("VS_SHAPES", Path(__file__).parents[3] / "shared" / "vs-shapes"))
"""Published outlines and registrations, which lie beside the repository where there are any."""

needs_shapes = pytest.mark.skipif(
    not VS_SHAPES.is_dir(), reason=f"the published outlines are not at {VS_SHAPES}"
)


@dataclass(frozen=True, eq=False)
class Patient:
    """What is true of a patient: ``t2`` lies in its own frame, ``placed_t2`` in that of T1."""

    number: int
    t1ce: Volume
    t2: Volume
    placed_t2: Volume
    label: Volume
    t2_from_t1_ras: np.ndarray
    contours: dict
    uids: dict = field(default_factory=dict)
    transforms: dict = field(default_factory=dict)
    headers: dict = field(default_factory=lambda: HEADERS)

    @property
    def name(self):
        return f"VS-SEG-{self.number:03d}"


def circle(center, radius_mm, count=40):
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    x, y, z = center
    around = [x + radius_mm * np.cos(angle), y + radius_mm * np.sin(angle), np.full(count, z)]
    return np.stack(around, axis=1)


def ball(center, radius_mm, step_mm=1.5):
    """Return the outlines of a ball in planes through and beside its center."""
    half = int((radius_mm - 0.1) / step_mm)
    heights = step_mm * np.arange(-half, half + 1)
    return [circle((*center[:2], center[2] + h), np.sqrt(radius_mm**2 - h**2)) for h in heights]


def moved(volume, matrix):
    return Volume(volume.array, Grid(volume.grid.shape, matrix @ volume.grid.affine))


def mapped(matrix, points):
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def rows_of(patient, series_uid, structures):
    """Return structures as they are published: LPS points, one object a structure."""
    return [
        {
            "PatientID": patient,
            "MR_SeriesInstanceUID": series_uid,
            "RTSTRUCT_SOPInstanceUID": generate_uid(entropy_srcs=[patient, series_uid, "plan"]),
            "structure_name": name,
            "LPS_contour_points": [(p * [-1, -1, 1]).tolist() for p in outlines],
        }
        for name, outlines in structures.items()
    ]


def tfm(matrix_ras, patient, series_uid):
    lps = LPS_FROM_RAS @ matrix_ras @ LPS_FROM_RAS
    numbers = " ".join(repr(float(v)) for v in [*lps[:3, :3].ravel(), *lps[:3, 3]])
    return (
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {numbers}\nFixedParameters: 0 0 0\n"
        f"#PatientID: {patient}\n#MR_SeriesInstanceUID: {series_uid}\n"
    )


def made(number, radius_mm=5.0):
    """Return a patient whose tumor is a ball, and whose T2 lies turned and shifted."""
    rng = np.random.default_rng(number)
    name = f"VS-SEG-{number:03d}"
    affine = np.diag([-0.5, -0.5, 1.5, 1.0])
    affine[:3, 3] = [12.3 + number, 14.1, -45.7]
    grid = Grid(SHAPE, affine)
    center = mapped(affine, np.array([[28.0, 26, 9.3]]))[0]
    ijk = np.indices(SHAPE).reshape(3, -1).T
    depth = np.linalg.norm(mapped(affine, ijk) - center, axis=1).reshape(SHAPE) < radius_mm
    tissue = rng.normal(200, 30, SHAPE)
    t1ce = Volume((tissue + 200 * depth).clip(1).astype(np.int16), grid)
    placed = Volume((tissue - 100 * depth).clip(1).astype(np.int16), grid)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [1.0, -0.5, 2.0], degrees=True).as_matrix()
    matrix[:3, 3] = [1.5, -2.0, 3.0]
    structures = {
        "TV": ball(center, radius_mm),
        "cochlea": [circle(center + np.array([7, 1, h]), 1.5, 17) for h in (-1.1, 0.4)],
        "Vol2016": ball(center, radius_mm - 1),
    }
    uids = {
        "t1": generate_uid(entropy_srcs=[name, "1"]),
        "t2": generate_uid(entropy_srcs=[name, "2"]),
    }
    in_t2 = {n: [mapped(matrix, p) for p in outlines] for n, outlines in structures.items()}
    contours = {
        "t1": rows_of(name, uids["t1"], structures), "t2": rows_of(name, uids["t2"], in_t2)
    }  # fmt: skip
    transforms = {
        "t1": tfm(np.linalg.inv(matrix), name, uids["t1"]), "t2": tfm(matrix, name, uids["t2"])
    }  # fmt: skip
    label = Volume(depth.astype(np.uint8), grid)
    return Patient(
        number, t1ce, moved(placed, matrix), placed, label, matrix, contours, uids, transforms
    )


def published(number):
    """Return a patient of the published outlines and registrations; the images are phantoms."""
    folder, prefix = VS_SHAPES / "raw" / f"VS-SEG-{number:03d}", f"sub-{number:03d}"
    contours = {
        key: json.loads(
            gzip.decompress(
                (folder / f"{prefix}_contours_space-individual_{name}.json.gz").read_bytes()
            )
        )
        for key, name in (("t1", "T1w"), ("t2", "T2w"))
    }
    transforms = {
        key: (folder / f"{prefix}_inv_{name}.tfm").read_text()
        for key, name in (("t1", "T1_LPS_to_T2_LPS"), ("t2", "T2_LPS_to_T1_LPS"))
    }
    numbers = [float(v) for v in transforms["t2"].split("Parameters:")[1].split("\n")[0].split()]
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = np.reshape(numbers[:9], (3, 3)), numbers[9:]
    matrix = LPS_FROM_RAS @ lps @ LPS_FROM_RAS
    tumor = contours["t1"][0]["LPS_contour_points"]
    outlines = Outlines(prefix, "training", tuple(np.array(p) * [-1, -1, 1] for p in tumor), None)
    phantom = make_phantom(0, 0, "128x112x28", outlines, t2_kind="slab")
    uids = {key: rows[0]["MR_SeriesInstanceUID"] for key, rows in contours.items()}
    headers = {
        key: header_of(json.loads((folder / f"{prefix}_{name}.json").read_text()))
        for key, name in (("t1", "T1w"), ("t2", "T2w"))
    }
    return Patient(
        number, phantom.t1ce, moved(phantom.t2, matrix), phantom.t2, phantom.label, matrix,
        contours, uids, transforms, headers,
    )  # fmt: skip


def header_of(sidecar):
    """Return what a published sidecar tells of a series; its echo time is in s."""
    return {
        "series_description": sidecar["SeriesDescription"],
        "sequence_name": sidecar["SequenceName"],
        "contrast_agent": sidecar.get("ContrastBolusIngredient"),
        "echo_time_ms": 1000 * float(sidecar["EchoTime"]),
        "repetition_time_ms": float(sidecar["RepetitionTime"]),
    }


HEADERS = {
    "t1": {"series_description": "t1_fl3d_tra_gk_v1", "sequence_name": "*fl3d1",
           "contrast_agent": None, "echo_time_ms": 4.76, "repetition_time_ms": 11.0},
    "t2": {"series_description": "t2_ci3d_tra_1.5mm_v2_448", "sequence_name": "*ci3d1",
           "contrast_agent": None, "echo_time_ms": 4.43, "repetition_time_ms": 9.95},
}  # fmt: skip


def header(patient, key, frame_uid=None):
    return SeriesHeader(
        patient_id=patient.name,
        study_uid=generate_uid(entropy_srcs=[patient.name]),
        series_uid=patient.uids[key],
        frame_of_reference_uid=frame_uid or generate_uid(entropy_srcs=[patient.name, key, "frame"]),
        series_number=2 if key == "t1" else 3,
        study_date="19940701",
        **patient.headers[key],
    )


def folders(patient, scheme):
    """Return the folder of each series, as one of the archive's naming schemes calls it."""
    base = Path("manifest-1614264588831") / "Vestibular-Schwannoma-SEG" / patient.name
    if scheme == "classic":
        study = base / generate_uid(entropy_srcs=[patient.name])
        return {key: study / uid for key, uid in patient.uids.items()}
    study = base / "07-01-1994-NA-MRI STEREO GAMMA KNIFE-16774"
    return {"t1": study / "2.000000-t1fl3dtragkv1-17344", "t2": study / "3.000000-t2ci3d-48031"}


def write_images(patient, root, scheme="descriptive", frame_uid=None):
    for key, folder in folders(patient, scheme).items():
        volume = patient.t1ce if key == "t1" else patient.t2
        files = write_series(
            volume, root / folder, header(patient, key, frame_uid), descending=key == "t2"
        )
        for number, path in enumerate(files, start=1):
            new = f"{number - 1:06d}.dcm" if scheme == "classic" else f"1-{number:02d}.dcm"
            path.rename(path.with_name(new))


def texts(patient, kinds=("contours", "transforms")):
    """Return the published texts by their paths."""
    found = {}
    for key in patient.uids:
        place = f"vs_gk_{patient.number}_{key}"
        if "contours" in kinds and key in patient.contours:
            found[f"contours/{place}/contours.json"] = json.dumps(patient.contours[key])
        if "transforms" in kinds:
            names = {"t1": "inv_T1_LPS_to_T2_LPS.tfm", "t2": "inv_T2_LPS_to_T1_LPS.tfm"}
            found[f"registration_matrices/{place}/{names[key]}"] = patient.transforms[key]
    return found


def write_texts(patients, root, kinds=("contours", "transforms"), zipped=False):
    found = {path: text for one in patients for path, text in texts(one, kinds).items()}
    if zipped:
        root.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(root / f"VS-SEG {'-'.join(kinds)} Mar 2021.zip", "w") as archive:
            for path, text in found.items():
                archive.writestr(path, text)
        return
    for path, text in found.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def write_plans(patient, root, scheme="descriptive"):
    """Write an RTSTRUCT for each series, with the structures of the published JSON."""
    for number, (key, folder) in enumerate(folders(patient, scheme).items()):
        dataset = rtstruct(patient.contours[key], header(patient, key))
        path = root / folder.parent / f"{number}.000000-RTSTRUCT" / "1-1.dcm"
        path.parent.mkdir(parents=True)
        dataset.save_as(path, write_like_original=False)


def rtstruct(rows, about):
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = RTStructureSetStorage, generate_uid()
    dataset.Modality, dataset.PatientID, dataset.PatientName = "RTSTRUCT", about.patient_id, "X^Y"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = about.study_uid, generate_uid()
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = rows[0]["MR_SeriesInstanceUID"]
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = about.frame_of_reference_uid
    frame.RTReferencedStudySequence = [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, row in enumerate(rows, start=1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, row["structure_name"]
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for points in row["LPS_contour_points"]:
            contour = Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{v:.6f}"[:16] for point in points for v in point]
            drawn.ContourSequence.append(contour)
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(drawn)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.is_little_endian, dataset.is_implicit_VR = True, False
    return dataset


@dataclass(frozen=True)
class Killed:
    """A study whose reading ends the whole process, as a system without memory does."""

    case_id: str = "VS-SEG-001"

    def size_bytes(self):
        return 0

    def load(self, _wishes):
        os.kill(os.getpid(), signal.SIGKILL)


def only(patient, *keys):
    """Return a patient whose outlines are those of some series alone."""
    return replace(patient, contours={key: patient.contours[key] for key in keys})
