"""The commands that import, run in a test, and what is true of what they made."""

import json

import numpy as np
from typer import Typer
from typer.testing import CliRunner

from clickseg.commands.importing import import_nifti, import_vs_seg
from clickseg.metrics import dice
from clickseg.volume import read_label

app = Typer()
app.command("import-vs-seg")(import_vs_seg)
app.command("import-nifti")(import_nifti)


def run(src, out, *options):
    return CliRunner().invoke(app, ["import-vs-seg", str(src), str(out), *options])


def provenance(out, patient):
    return json.loads((out / "provenance" / f"{patient.name}.json").read_text())


def assert_same_place(got, want):
    """Compare in canonical order: DICOM orders slices along their normal."""
    np.testing.assert_allclose(got.grid.canonical.affine, want.grid.canonical.affine, atol=1e-4)
    np.testing.assert_array_equal(
        got.grid.to_canonical(got.array), want.grid.to_canonical(want.array)
    )


def assert_label(out, patient, least):
    label = read_label(out / "labels" / "final" / f"{patient.name}.nii.gz")
    np.testing.assert_allclose(label.grid.affine, patient.t1ce.grid.affine, atol=1e-4)
    assert dice(label.array, patient.label.array) > least
