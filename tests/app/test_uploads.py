"""What clients upload is removed once nobody needs it, and nothing else is."""

import json
import os
import time

import pytest

from clickseg_app.uploads import LEFT_S, NamedSessions, remove_left

OLD = (1, 1)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "sessions"


@pytest.fixture
def add(folder, tmp_path):
    """Add a session by another server, last used so many seconds ago."""

    def add(age_s, expiry_s=100):
        path = tmp_path / "upload" / "a.nii.gz"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        name, _ = NamedSessions(str(folder)).add_session(str(path), expiry_s)
        file = folder / name / "meta.info"
        told = json.loads(file.read_text()) | {"last_access_ts": int(time.time() - age_s)}
        file.write_text(json.dumps(told))
        return name

    return add


def left(folder):
    return {path.name for path in folder.iterdir()}


def test_sessions_of_an_earlier_server_are_removed_once_they_are_over(folder, add):
    over, used = add(age_s=200), add(age_s=50)
    sessions = NamedSessions(str(folder))
    assert sessions.remove_expired() == 1
    assert left(folder) == {used}
    assert sessions.get_session(over) is None
    assert sessions.get_session(used).expiry == 100
    assert sessions.remove_expired() == 0


def without_information(folder):
    (folder / "meta.info").unlink()


def cut_off(folder):
    (folder / "meta.info").write_text('{"name": "x", "im')


def of_something_else(folder):
    (folder / "meta.info").write_text("[1]")


def without_an_image(folder):
    (folder / "meta.info").write_text('{"a": 1}')


def with_words_for_numbers(folder):
    told = json.loads((folder / "meta.info").read_text()) | {"expiry": "never"}
    (folder / "meta.info").write_text(json.dumps(told))


@pytest.mark.parametrize(
    "spoil",
    [
        without_information,
        cut_off,
        of_something_else,
        without_an_image,
        with_words_for_numbers,
    ],
)
def test_half_a_session_stays_while_it_may_be_being_made_and_stops_nothing(folder, add, spoil):
    made, over = add(age_s=0), add(age_s=200)
    spoil(folder / made)
    assert NamedSessions(str(folder)).remove_expired() == 1
    assert left(folder) == {made}
    os.utime(folder / made, OLD)
    assert over not in left(folder)
    assert NamedSessions(str(folder)).remove_expired() == 1
    assert left(folder) == set()


def test_what_is_no_session_stays_and_one_without_its_image_goes(folder, add):
    lost = add(age_s=0)
    (folder / lost / "a.nii.gz").unlink()
    others = {"lost+found", "note", "backups"}
    for name in others:
        (folder / name).mkdir()
        os.utime(folder / name, OLD)
    NamedSessions(str(folder)).remove_expired()
    assert left(folder) == others


def test_without_a_folder_there_is_nothing_to_remove(tmp_path):
    assert NamedSessions(str(tmp_path / "none")).remove_expired() == 0


def test_files_and_folders_are_left_behind_after_an_hour(tmp_path):
    for name in ("old", "new", "old-folder/a", "new-folder/a"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").touch()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    ages = {"old": 1.1, "old-folder": 1.1, "new": 0.9, "new-folder": 0.9, "link": 1.1}
    for name, hours in ages.items():
        when = time.time() - hours * LEFT_S
        os.utime(tmp_path / name, (when, when), follow_symlinks=False)
    remove_left(tmp_path / name for name in ages)
    assert left(tmp_path) == {"new", "new-folder", "elsewhere"}
    assert left(tmp_path / "elsewhere") == {"kept"}  # a link goes, not what it leads to
