"""Is a folder that cannot be written told before any work?"""

import pytest
import typer
from typer.testing import CliRunner

from clickseg.cli import app
from clickseg.commands.out import try_to_write_in


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["evaluate", "--studies", "none", "--out"], "--out"),
        (["score", "--studies", "none", "--out"], "--out"),
        (["search", "flooding", "--studies", "none", "--out"], "--out"),
        (["simulate-loop", "--studies", "none", "--out"], "--out"),
        (["summarize", "none", "--out"], "--out"),
        (["table", "none", "--studies", "none", "--test", "none", "--out"], "--out"),
        (["to-dicom", "none"], "OUT"),
    ],
)
@pytest.mark.parametrize("inside", ["", "inside/it"])
def test_a_folder_that_cannot_be_written_is_told_before_what_is_read(
    tmp_path, command, option, inside
):
    (tmp_path / "file").touch()
    # What it is to read is not there either; that is told later.
    place = tmp_path / "file" / inside
    result = CliRunner().invoke(app, [*command, str(place)], env={"COLUMNS": "300"})
    assert result.exit_code == 2
    assert f"{option} '{place}' cannot be written: " in result.output


def test_a_try_leaves_nothing_behind(tmp_path):
    try_to_write_in(tmp_path)
    try_to_write_in(tmp_path / "new" / "folder")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_no_folder_can_have_is_told(tmp_path):
    with pytest.raises(typer.BadParameter, match=r"OUT '.*' cannot be written: .*too long"):
        try_to_write_in(tmp_path / ("x" * 300), "OUT")
