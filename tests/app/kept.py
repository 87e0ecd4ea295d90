"""What a test of accepted labels sends to a server, and finds in its studies folder."""

import json

import numpy as np
import requests
from serving import AFFINES, LABEL, SHAPE, save

from clickseg.record import read_record

RAS = AFFINES["ras"]


def put(server, image, array, name="upload.nii.gz", params=None, affine=RAS, **query):
    """What Slicer's *Submit Label* sends."""
    path = save(server.folder / name, array, affine)
    sent = {"label_info": [{"name": LABEL, "idx": 2}], "client_id": "user-xyz"}
    return requests.put(
        f"{server.url}/datastore/label",
        params={"image": image} | query,
        data={"params": json.dumps(sent if params is None else params)},
        files={"label": (name, path.read_bytes(), "application/octet-stream")},
        timeout=30,
    )


def block(start, stop, value=1):
    mask = np.zeros(SHAPE, np.uint8)
    mask[start:stop, start:stop, start:stop] = value
    return mask


def record(server, image):
    return read_record(server.studies / f"labels/final/{image}.clicks.json")


def label_info(server, image, tag="final"):
    query = {"label": image, "tag": tag}
    return requests.get(f"{server.url}/datastore/label/info", params=query, timeout=10).json()


def files_of(server, image):
    """All that is kept of a study."""
    paths = {path: str(path.relative_to(server.studies)) for path in server.studies.rglob("*")}
    return {
        name: path.read_bytes() for path, name in paths.items() if image in name and path.is_file()
    }


def listed(server):
    return requests.get(f"{server.url}/datastore/?output=all", timeout=10).json()["objects"]
