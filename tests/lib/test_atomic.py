import os
import subprocess
import sys

import pytest

from clickseg.atomic import replacing


def test_a_file_takes_its_place_when_it_is_whole(tmp_path):
    with replacing(tmp_path / "new" / "file.txt") as part:
        part.write_text("whole")
        assert not (tmp_path / "new" / "file.txt").exists()
    assert (tmp_path / "new" / "file.txt").read_text() == "whole"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.txt"]


def test_a_file_is_open_to_whom_others_are(tmp_path, monkeypatch):
    """Without a look at the umask, which would change it for all threads."""
    (tmp_path / "other.txt").touch()
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("the umask was changed"))
    with replacing(tmp_path / "file.txt") as part:
        part.write_text("whole")
    assert (tmp_path / "file.txt").stat().st_mode == (tmp_path / "other.txt").stat().st_mode


def test_what_is_not_to_last_waits_for_no_disk(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    for is_to_last in (False, True):
        with replacing(tmp_path / "file.txt", is_to_last=is_to_last) as part:
            part.write_text(str(is_to_last))
        assert len(flushed) == is_to_last
        assert (tmp_path / "file.txt").read_text() == str(is_to_last)


def test_a_name_as_long_as_names_can_be_is_written(tmp_path):
    with replacing(tmp_path / ("n" * 255)) as part:
        part.write_text("whole")
    assert (tmp_path / ("n" * 255)).read_text() == "whole"


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077])
def test_the_umask_counts_and_stays(tmp_path, umask):
    code = "import os, sys; from pathlib import Path; os.umask(int(sys.argv[1]))\n"
    code += "from clickseg.atomic import write_text; write_text(Path(sys.argv[2]), 'text')\n"
    code += "sys.exit(os.umask(0) != int(sys.argv[1]))"
    path = tmp_path / "file.txt"
    subprocess.run([sys.executable, "-c", code, str(umask), path], check=True)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_after_an_error_the_old_file_is_as_it_was(tmp_path):
    (tmp_path / "file.txt").write_text("old")

    def fail():
        with replacing(tmp_path / "file.txt") as part:
            part.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert (tmp_path / "file.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]
