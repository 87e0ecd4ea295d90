"""3D Slicer's own requests, word for word: `slicer.json` holds what its client sends."""

import json
from pathlib import Path

import requests
from serving import Answer

STEPS = {
    one["step"]: one
    for one in json.loads(Path(__file__).with_name("slicer.json").read_text(encoding="utf-8"))
}


class Slicer:
    """A scene in 3D Slicer; `files` are what it would upload, by name."""

    def __init__(self, url, folder, files):
        self.url, self.folder, self.files = url, folder, files
        self.known = {}

    def send(self, step):
        """Send the request of a step, and return the response."""
        asked = STEPS[step]
        sent = {"json": asked["json"]} if "json" in asked else {}
        if "files" in asked:
            # A field of a multipart form, even where there is no file: as the client does.
            sent["files"] = {
                key: (None, json.dumps(value)) for key, value in asked.get("fields", {}).items()
            } | {
                key: (name, self.files[name].read_bytes(), "application/octet-stream")
                for key, name in asked["files"].items()
            }
        url = self.url + asked["path"].format(**self.known)
        return requests.request(asked["method"], url, timeout=120, **sent)

    def infer(self, step):
        return Answer(self.send(step), self.folder)
