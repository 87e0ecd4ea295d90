"""What ``clickseg --help`` shows: Rich takes words in square brackets for its markup."""

import pytest
import typer
from rich.text import Text
from typer.testing import CliRunner

from clickseg.cli import app


def commands(command):
    """Return a command and all that are below it."""
    below = getattr(command, "commands", {}).values()
    return [command, *(found for one in below for found in commands(one))]


ALL = commands(typer.main.get_command(app))


def test_nothing_of_a_help_text_is_taken_for_markup():
    assert len(ALL) > 15
    texts = [command.help or "" for command in ALL]
    texts += [getattr(one, "help", None) or "" for command in ALL for one in command.params]
    assert len(texts) > 100
    assert [text for text in texts if Text.from_markup(text).plain != text] == []


@pytest.mark.parametrize(
    ("command", "default"),
    [
        ("phantom", "1, or all outlines"),
        ("phantom", "OUT/labels/final"),
        ("evaluate", "split.json of --studies"),
        ("picture", "the one in labels/final beside the T1ce"),
        ("train", "split.json of --studies"),
        ("train", "mlruns in --out or --store"),
    ],
)
def test_a_default_in_words_is_shown(command, default):
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "300"})
    assert f"[default: ({default})]" in result.output
