"""Requests as 3D Slicer and OHIF v3 send them, with a clock around each."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from requests_toolbelt import MultipartDecoder

from clickseg.clicks import Click
from clickseg.geometry import Grid
from clickseg.volume import Volume, read_label

LABEL = "Vestibular Schwannoma"
TIMEOUT_S = 600


@dataclass(frozen=True)
class Reply:
    """An answer. ``result`` is empty for a viewer that does not ask for it."""

    seconds: float
    mask: bytes
    result: Mapping[str, Any]

    @property
    def server_s(self) -> float:
        """Seconds in the task, as the server says."""
        return float(self.result["latencies"]["total"])

    def read_mask(self, folder: Path) -> Volume:
        """Return the mask, by way of a file in a folder."""
        path = folder / "reply.nrrd"
        path.write_bytes(self.mask)
        return read_label(path)


class Slicer:
    """3D Slicer: a new connection each time, mask and result in one multipart answer."""

    name = "3D Slicer"

    def ask(self, url: str, model: str, image: str, params: dict[str, Any]) -> Reply:
        """Send a request and wait for all of the answer."""
        fixed = {
            "result_extension": ".nrrd",
            "result_dtype": "uint8",
            "client_id": "user-bench",
        }
        with _session() as session:
            seconds, response = _post(session, f"{url}/infer/{model}", image, params | fixed)
        content = MultipartDecoder.from_response(response).parts
        by_name = {_name_of(part.headers): part.content for part in content}
        return Reply(seconds, by_name["image"], json.loads(by_name["params"]))


class Ohif:
    """OHIF v3: the connection is kept, ``output=image``, only the mask comes back."""

    name = "OHIF"

    def __init__(self) -> None:
        self._session = _session()
        self._session.headers["Accept-Encoding"] = "gzip, deflate, br"

    def ask(self, url: str, model: str, image: str, params: dict[str, Any]) -> Reply:
        """Send a request and wait for all of the answer."""
        fixed = {
            "result_extension": ".nrrd",
            "result_dtype": "uint8",
            "result_compress": False,
            "restore_label_idx": False,
        }
        where = f"{url}/infer/{model}"
        seconds, response = _post(self._session, where, image, params | fixed, output="image")
        return Reply(seconds, response.content, {})


Viewer = Slicer | Ohif


def points_of(clicks: list[Click], grid: Grid) -> dict[str, Any]:
    """Return all clicks so far as both viewers send them: voxels of the stored image."""
    return {
        "label": LABEL,
        "foreground": [list(one.voxel(grid)) for one in clicks if one.is_foreground],
        "background": [list(one.voxel(grid)) for one in clicks if not one.is_foreground],
    }


def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # a proxy of the environment is not for this machine
    session.headers["Accept-Encoding"] = "identity"
    return session


def _post(
    session: requests.Session, url: str, image: str, params: Mapping[str, Any], **query: str
) -> tuple[float, requests.Response]:
    fields = {"params": (None, json.dumps(params))}
    started_s = time.perf_counter()
    response = session.post(url, params={"image": image} | query, files=fields, timeout=TIMEOUT_S)
    seconds = time.perf_counter() - started_s  # the body is read: stream is not set
    if not response.ok:
        raise RuntimeError(f"{url} answered {response.status_code}: {response.text[:500]}")
    return seconds, response


def _name_of(headers: Mapping[bytes, bytes]) -> str:
    return headers[b"Content-Disposition"].decode().split('name="')[1].split('"')[0]
