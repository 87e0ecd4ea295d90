"""Studies and models in miniature, for what needs both."""

import pytest
from tiny import roomy, write_case

from clickseg.study import labeled_cases
from clickseg.training.correction import train_correction
from clickseg.training.initial import train_initial


@pytest.fixture(scope="module")
def small_studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    for number, radius_mm in enumerate([4.0, 5.0, 3.0, 6.0], start=1):
        write_case(folder, f"VS-{number}", (20 + 5 * number, 26, 9), radius_mm, t2=number != 2)
    return folder


@pytest.fixture(scope="module")
def base(small_studies, tmp_path_factory):
    """Both models, barely trained."""
    folder = tmp_path_factory.mktemp("base")
    cases = labeled_cases(small_studies)
    train_initial(cases, roomy(), folder, "cpu")
    train_correction(cases, roomy(), folder, "cpu")
    return folder


@pytest.fixture
def src(tmp_path):
    """Where a download lies that is imported."""
    return tmp_path / "download"


@pytest.fixture
def out(tmp_path):
    """Where imported studies go."""
    return tmp_path / "studies"
