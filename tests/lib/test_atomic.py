import pytest

from clickseg.atomic import replacing


def test_a_file_takes_its_place_when_it_is_whole(tmp_path):
    with replacing(tmp_path / "new" / "file.txt") as part:
        part.write_text("whole")
        assert not (tmp_path / "new" / "file.txt").exists()
    assert (tmp_path / "new" / "file.txt").read_text() == "whole"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.txt"]


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
