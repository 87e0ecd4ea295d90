"""Studies to report on, and the page as its readers see it."""

import sys
from html.parser import HTMLParser

import numpy as np

from clickseg import cli
from clickseg.geometry import Grid
from clickseg.volume import Volume, write_volume

PERMUTED = [[0, 0, 1.5, 11], [-0.4, 0, 0, 7], [0, 0.5, 0, 3], [0, 0, 0, 1]]
GRID = Grid((37, 31, 23), np.array(PERMUTED))  # canonical: 23, 37, 31 of 1.5, 0.4, 0.5 mm


class Text(HTMLParser):
    """The text of what is above the table, of each row, and below; which row is which study."""

    def __init__(self):
        super().__init__()
        self.parts, self.number_of, self.elements, self.sources = [""], {}, [], []
        self.is_id = False

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        if tag in ("tr", "section"):
            self.parts.append("")
        self.is_id = ("class", "id") in attrs
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        if self.is_id:
            self.number_of[data] = len(self.parts) - 1
            self.is_id = False
        if data.strip() and self.elements[-1] != "style":
            self.parts[-1] += f" {data.strip()}"


def write(path, array):
    return write_volume(path, Volume(array.astype(np.float32), GRID))


def image(path):
    return write(path, np.random.default_rng(0).normal(100, 20, GRID.shape))


def box(path, length):
    """Outline (7, 11, length) stored, (length, 7, 11) canonical voxels of 0.3 mm3."""
    mask = np.zeros(GRID.shape)
    mask[5:12, 9:20, 3 : 3 + length] = 1
    return write(path, mask)


def command(tmp_path, monkeypatch, capsys):
    """Return what runs the command on the folder ``in`` and reads the page that it wrote."""

    def run(*arguments, status=0):
        out = tmp_path / "out" / "page.html"
        command = ["clickseg", "report", "--studies", str(tmp_path / "in"), "--out", str(out)]
        monkeypatch.setattr(sys, "argv", [*command, *map(str, arguments)])
        left = 0
        try:
            cli.main()
        except SystemExit as error:
            left = error.code or 0
        told = capsys.readouterr()
        assert left == status, told.err
        if status:
            return told.err
        text = Text()
        text.source = out.read_text(encoding="utf-8")
        text.feed(text.source)
        text.told = told.out
        return text

    (tmp_path / "in").mkdir()
    return run


def row(page, name):
    return page.parts[page.number_of[name]]
