"""Which PACS, with which login, and where to put what is fetched: by MONAI Label's settings."""

from __future__ import annotations

import hashlib
from pathlib import Path

from monailabel.config import settings as server

from clickseg.dicom.web import Pacs


def open_pacs(url: str) -> Pacs:
    """Return the PACS of a server, with the login and prefixes of MONAI Label's settings."""
    prefixes = server.MONAI_LABEL_QIDO_PREFIX, server.MONAI_LABEL_WADO_PREFIX
    return Pacs(url, login(), (*prefixes, server.MONAI_LABEL_STOW_PREFIX))


def login() -> tuple[str, str] | None:
    """Return user name and password of the PACS, None where none are set."""
    name = server.MONAI_LABEL_DICOMWEB_USERNAME or server.MONAI_LABEL_DATASTORE_USERNAME
    password = server.MONAI_LABEL_DICOMWEB_PASSWORD or server.MONAI_LABEL_DATASTORE_PASSWORD
    return (name, password) if name and password else None


def cache_of(url: str) -> Path:
    """Return the folder for what is fetched from a PACS; another PACS has another one."""
    named = server.MONAI_LABEL_DICOMWEB_CACHE_PATH or server.MONAI_LABEL_DATASTORE_CACHE_PATH
    folder = Path(named.strip()) if named.strip() else Path.home() / ".cache" / "vs_clickseg"
    return folder / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]
