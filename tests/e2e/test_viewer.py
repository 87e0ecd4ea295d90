"""The story of a reader in OHIF, step by step; each step needs the ones before it."""

import time

import numpy as np
import pytest
import requests
from stack import ACQUISITIONS, LABEL, PATIENTS, as_ras

from clickseg.dicom.seg import read_seg

pytest.importorskip("playwright", reason="the package playwright is not installed")
from ohif import AXIAL, CORONAL, SAGITTAL, WAIT_MS, browser, params_of

NEAR_VOXELS = 1  # a click comes back at its voxel, or beside it: the mouse moves by whole pixels


@pytest.fixture(scope="module")
def viewer(stack, shots):
    with browser(stack.url, shots) as viewer:
        yield viewer


@pytest.fixture
def study(stack):
    return stack.studies[PATIENTS[0]]


def far_from(points, wanted):
    return np.abs(np.asarray(points) - np.asarray(wanted)).max()


def overlap(voxels, truth):
    """Dice of a set of voxels and a mask."""
    wanted = set(map(tuple, np.argwhere(truth)))
    return 2 * len(voxels & wanted) / (len(voxels) + len(wanted))


def test_the_list_shows_every_study(viewer, stack):
    viewer.open_list()
    names = list(stack.studies)
    assert viewer.patients(names) == names
    viewer.shot("01-study-list")


def test_the_filter_of_the_list_filters(viewer):
    viewer.filter_patients(PATIENTS[1])
    assert viewer.patients(PATIENTS) == [PATIENTS[1]]
    viewer.shot("02-study-list-filtered")
    viewer.filter_patients("")


def test_the_mode_opens_with_the_t1ce(viewer, study):
    viewer.open_from_list(study.name)
    assert study.uid in viewer.page.url
    assert viewer.scroll_to(AXIAL, study.center_ijk)["shape"] == list(study.grid.shape)
    viewer.shot("03-monai-label-mode")


def test_it_connects(viewer):
    viewer.connect()
    assert viewer.page.get_by_text(LABEL).count()
    assert viewer.mask().segments == {}
    viewer.shot("04-connected")


def test_auto_segmentation_lies_over_the_tumor(viewer, study):
    response = viewer.run("Segmentation")
    assert response.status == 200
    mask = viewer.mask()
    assert mask.shape == study.grid.shape
    assert overlap(mask.tumor, study.truth) > 0.5
    for viewport in (AXIAL, SAGITTAL, CORONAL):
        viewer.scroll_to(viewport, study.center_ijk)
    viewer.page.wait_for_timeout(1000)
    viewer.shot("05-auto-segmentation")


def test_a_foreground_click_adds_where_it_is(viewer, stack, study):
    before = viewer.mask().tumor
    viewer.open_tab("Point Prompts")
    viewer.choose_label(LABEL)
    wanted = outside(study)
    viewer.click_voxel(AXIAL, wanted)
    params = params_of(viewer.run("PointPrompts"))
    (clicked,) = params["foreground"]
    assert far_from(clicked, wanted) <= NEAR_VOXELS
    (noted,) = [point for point, is_foreground in stack.journal(study) if is_foreground]
    np.testing.assert_allclose(noted, as_ras(study, [clicked])[0], atol=1e-3)
    after = viewer.mask().tumor
    assert tuple(clicked) in after - before
    viewer.shot("06-foreground-click")


def test_a_background_click_takes_away_where_it_is(viewer, stack, study):
    before = viewer.mask().tumor
    viewer.choose_label("background")
    wanted = study.center_ijk
    assert tuple(wanted) in before
    viewer.click_voxel(AXIAL, wanted)
    viewer.choose_label(LABEL)
    params = params_of(viewer.run("PointPrompts"))
    (clicked,) = params["background"]
    assert far_from(clicked, wanted) <= NEAR_VOXELS
    assert len(params["foreground"]) == 1
    (noted,) = [point for point, is_foreground in stack.journal(study) if not is_foreground]
    np.testing.assert_allclose(noted, as_ras(study, [clicked])[0], atol=1e-3)
    after = viewer.mask().tumor
    assert tuple(clicked) not in after
    assert tuple(params["foreground"][0]) in after
    viewer.shot("07-background-click")


def test_cleared_points_are_gone(viewer, study):
    viewer.page.get_by_text("Clear All Points").click()
    viewer.page.wait_for_timeout(500)
    assert viewer.points() == 0
    viewer.choose_label(LABEL)
    wanted = outside(study)
    viewer.click_voxel(AXIAL, wanted)
    params = params_of(viewer.run("PointPrompts"))
    assert far_from(params["foreground"], [wanted]) <= NEAR_VOXELS
    assert not params.get("background")
    assert tuple(study.center_ijk) in viewer.mask().tumor  # the background click took it away
    viewer.shot("08-cleared")


def test_a_run_with_the_background_row_chosen_takes_away_once_the_label_is(viewer, stack, study):
    """OHIF sends the background points as both kinds then, and draws the answer elsewhere."""
    viewer.choose_label("background")
    viewer.click_voxel(AXIAL, study.center_ijk)
    before, noted = viewer.mask().tumor, len(stack.journal(study))
    response = viewer.run("PointPrompts")
    params = params_of(response)
    assert response.status == 200
    assert params["foreground"] == params["background"]
    new = stack.journal(study)[noted:]
    assert [is_foreground for _, is_foreground in new] == [False]
    assert viewer.mask().tumor == before
    viewer.shot("09-background-row-chosen")
    viewer.choose_label(LABEL)
    params = params_of(viewer.run("PointPrompts"))
    assert tuple(params["background"][0]) not in viewer.mask().tumor
    viewer.shot("10-label-row-chosen-again")


def test_an_accepted_answer_is_in_the_pacs(viewer, stack, study):
    assert stack.segs(study) == []
    completed = stack.info()["datastore"]["completed"]
    viewer.set_options("click", accept=True)
    viewer.shot("11-option-accept")
    viewer.confirm_options()
    assert viewer.run("PointPrompts").status == 200
    (seg,) = stack.segs(study)
    array = read_seg(seg, study.grid).array
    assert set(map(tuple, np.argwhere(array).tolist())) == viewer.mask().tumor
    assert [one.SegmentLabel for one in seg.SegmentSequence] == [LABEL]
    (kind,) = seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence
    (modifier,) = kind.SegmentedPropertyTypeModifierCodeSequence
    assert (kind.CodeValue, modifier.CodeValue) == ("108369006", "126949007")
    (referred,) = seg.ReferencedSeriesSequence
    assert referred.SeriesInstanceUID == study.t1ce_uid
    assert stack.info()["datastore"]["completed"] == completed + 1
    viewer.set_options("click", accept=False)
    viewer.confirm_options()
    viewer.shot("12-accepted")


def test_the_next_sample_is_another_study(viewer, stack, study):
    viewer.open_tab("Active Learning")
    viewer.page.get_by_role("button", name="Next Sample").click()
    form = viewer.page.locator(".nextSampleForm")
    form.locator("table").wait_for()
    viewer.shot("13-next-sample")
    shown = form.first.inner_text()
    (offered,) = [one for one in stack.studies.values() if one.uid in shown]
    assert offered.uid != study.uid
    assert offered.t1ce_uid in shown
    form.locator("button.actionButton").click()
    viewer.page.wait_for_url(f"**StudyInstanceUIDs={offered.uid}*", timeout=WAIT_MS)
    viewer.wait_until_loaded()
    viewer.connect()
    viewer.open_tab("Auto-Segmentation")
    assert viewer.run("Segmentation").status == 200
    assert viewer.mask().tumor
    viewer.scroll_to(AXIAL, offered.center_ijk)
    viewer.shot("14-next-sample-opened")


def test_an_error_of_the_server_is_shown(viewer, study):
    """The T2 in the viewport: OHIF asks for an outline of it, on its own grid."""
    viewer.open_study(study.uid)
    viewer.connect()
    viewer.page.get_by_text("t2_ci3d").first.dblclick()
    viewer.page.wait_for_timeout(5000)
    viewer.open_tab("Auto-Segmentation")
    response = viewer.run("Segmentation")
    assert response.status == 422
    assert study.t1ce_uid in response.json()["detail"]
    assert study.t2_uid in response.url
    viewer.page.get_by_text("Failed to Run").first.wait_for(timeout=10_000)
    viewer.shot("15-server-error")


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_a_click_lands_where_it_was_made(viewer, stack, name):
    study = stack.studies[name]
    viewer.open_study(study.uid)
    viewer.connect()
    viewer.open_tab("Point Prompts")
    viewer.choose_label(LABEL)
    wanted = [outside(study, axis) for axis in range(3)]
    for viewport, voxel in zip((AXIAL, SAGITTAL, CORONAL), wanted, strict=True):
        viewer.click_voxel(viewport, voxel)
    params = params_of(viewer.run("PointPrompts"))
    came = sorted(params["foreground"])
    assert far_from(came, sorted(wanted)) <= NEAR_VOXELS
    noted = sorted(point.tolist() for point, _ in stack.journal(study))
    expected = sorted(point.tolist() for point in as_ras(study, came))
    np.testing.assert_allclose(noted, expected, atol=1e-3)
    mask = viewer.mask()
    assert mask.shape == study.grid.shape
    assert all(tuple(point) in mask.tumor for point in came)
    assert overlap(mask.tumor, study.truth) > 0.4
    viewer.shot(f"16-{name}")


def test_a_training_starts_and_stops(viewer, stack):
    for name in ("axial-ascending", "sagittal"):  # labels of three patients are the least
        _, status = stack.infer("initial", stack.studies[name].t1ce_uid, accept=True)
        assert status == 200
    viewer.open_tab("Active Learning")
    viewer.page.get_by_role("button", name="Update Model").click()
    viewer.page.get_by_role("button", name="Stop Training").wait_for(timeout=WAIT_MS)
    stack.wait_until(lambda: stack.info()["train_stats"]["initial"].get("is_running"))
    viewer.shot("17-training")
    viewer.page.get_by_role("button", name="Stop Training").click()
    viewer.page.wait_for_timeout(1000)
    viewer.shot("18-training-stopped")
    quiet_since = time.monotonic()
    while time.monotonic() < quiet_since + 5:  # a press stops one, and the next begins
        if stack.is_training():
            requests.delete(f"{stack.url}/train/", timeout=60).raise_for_status()
            quiet_since = time.monotonic()
        time.sleep(0.5)
    assert stack.info()["train_stats"]["initial"]["is_running"] is False


def test_the_pages_had_no_error_of_their_own(viewer):
    assert viewer.errors == []
    unexpected = [one for one in viewer.refused if one[0] != 404 or "/train/" not in one[1]]
    assert [status for status, _ in unexpected] == [422]  # the T2


def outside(study, axis=0):
    """A voxel beside the tumor, on the line through its middle along an axis."""
    place = list(study.center_ijk)
    line = study.truth[tuple(slice(None) if n == axis else i for n, i in enumerate(place))]
    beyond = int(np.flatnonzero(line).max())
    place[axis] = beyond + max(1, round(4 / study.grid.spacing_mm[axis]))
    return place
