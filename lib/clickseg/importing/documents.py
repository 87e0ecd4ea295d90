"""Small published texts, outlines and registrations: files, gzipped files, members of ZIP files."""

from __future__ import annotations

import gzip
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from clickseg.importing.source import ImportingError

HEAD = 4096
"""Characters of a text in which it says whose it is."""

LARGEST_BYTES = 256 << 20
"""A text that is larger is not one of these."""

ENDINGS = (".json", ".json.gz", ".tfm", ".tfm.gz")

_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    RuntimeError,  # it is encrypted, or compressed in a way that is not known here
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a damaged text may raise."""

_PATIENT = re.compile(r'(?:"PatientID"\s*:\s*"|#\s*PatientID:\s*)(VS-SEG-\d+)')
_SERIES = re.compile(r'(?:"MR_SeriesInstanceUID"\s*:\s*"|#\s*MR_SeriesInstanceUID:\s*)([0-9.]+)')
_NUMBER = re.compile(r"(?:VS-SEG-|vs_gk_|sub-)0*(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Document:
    """A text: a file, or the ``member`` of a ZIP file."""

    path: Path
    member: str = ""

    @property
    def name(self) -> str:
        """The name of the file itself, without folders: they may hold dates."""
        return PurePosixPath(self.member or self.path.name).name

    def text(self, size: int = -1) -> str:
        """Return the text, or its first bytes.

        Raises:
            ImportingError: if it cannot be read.
        """
        try:
            return self._read(size).decode("utf-8", "strict" if size < 0 else "ignore")
        except _UNREADABLE as error:
            raise ImportingError(f"{self.name} cannot be read: {error}") from error

    def _read(self, size: int) -> bytes:
        limit = LARGEST_BYTES if size < 0 else size
        is_gzip = (self.member or self.path.name).endswith(".gz")
        if self.member:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
                return gzip.GzipFile(fileobj=file).read(limit) if is_gzip else file.read(limit)
        with gzip.open(self.path) if is_gzip else self.path.open("rb") as file:
            return file.read(limit)


@dataclass(frozen=True)
class Label:
    """Whose a document is: ``series_uid`` is empty where it does not say."""

    patient: str
    series_uid: str


def documents_in(path: Path) -> Iterator[Document]:
    """Yield the document that a file is, or those within a ZIP file.

    Raises:
        ImportingError: if a ZIP file cannot be read.
    """
    if path.name.endswith(ENDINGS):
        yield Document(path)
    elif path.suffix == ".zip":
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except _UNREADABLE as error:
            raise ImportingError(f"{path.name} cannot be read: {error}") from error
        hidden = re.compile(r"(^|/)(\.|__MACOSX)")
        yield from (
            Document(path, n) for n in names if n.endswith(ENDINGS) and not hidden.search(n)
        )


def label_of(document: Document) -> Label | None:
    """Return whose a document is: what it says itself counts, then the names of its folders."""
    head = document.text(HEAD)
    said = _PATIENT.search(head)
    place = _NUMBER.findall(document.member or str(document.path))
    if said is None and not place:
        return None
    patient = said.group(1) if said else f"VS-SEG-{int(place[-1]):03d}"
    series = _SERIES.search(head)
    return Label(patient, series.group(1) if series else "")
