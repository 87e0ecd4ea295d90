from pathlib import Path

from clickseg import __version__

CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"


def test_the_changelog_begins_with_this_version_or_with_what_is_unreleased():
    headings = [line for line in CHANGELOG.read_text().splitlines() if line.startswith("## ")]
    assert headings[0] in ("## Unreleased", f"## {__version__}")
