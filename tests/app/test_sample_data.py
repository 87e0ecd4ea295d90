"""The six sample studies with the shipped weights: what a new user sees first."""

import numpy as np
import pytest
from acceptance import check_study, without_labels
from serving import ROOT, Server

from clickseg.phantom import make_phantom
from clickseg.volume import read_label

SEED = 7  # of sample-data, as its README says
GRIDS = ["240x240x20"] * 2 + ["208x208x28"] * 4


@pytest.mark.slow
def test_clicks_mend_the_sample_studies_and_break_no_promise(tmp_path):
    studies = without_labels(ROOT / "sample-data", tmp_path / "studies")
    curves, broken = [], []
    server = Server(tmp_path, studies)
    try:
        server.wait()
        for index, grid in enumerate(GRIDS, start=1):
            phantom = make_phantom(SEED, index, grid=grid)
            curve, faults = check_study(server, phantom.case_id, phantom.label, clicks=3)
            curves.append(curve)
            broken += faults
    finally:
        server.stop()
    assert broken == []
    means = np.mean(curves, axis=0)
    assert means[3] > means[0]
    assert np.min(curves, axis=0)[0] > 0  # every tumor is found


@pytest.mark.parametrize("index", [1, 2])
def test_the_sample_labels_are_those_of_the_command_in_the_readme(index):
    phantom = make_phantom(SEED, index, grid=GRIDS[index - 1])
    label = read_label(ROOT / "sample-data/labels/final" / f"{phantom.case_id}.nii.gz")
    assert np.array_equal(label.array, phantom.label.array)
    assert label.grid == phantom.label.grid
