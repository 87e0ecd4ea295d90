"""A server as users start it, and what both viewers send to it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from email.parser import BytesParser
from pathlib import Path

import numpy as np
import requests
import SimpleITK as sitk  # noqa: N813  # its documented name

from clickseg.geometry import Grid, ijk_to_ras
from clickseg.volume import Volume, write_volume

ROOT = Path(__file__).parents[2]
SHAPE = (37, 31, 23)
CENTER_RAS = np.array([3.0, -4.0, 20.0])
LABEL = "Vestibular Schwannoma"
WAIT_S = 600
"""Nothing takes so long, not even at the lowest priority beside other tests."""


def until(condition):
    """Wait until something is so; fail if it never is."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def centered(columns):
    """An affine with these columns that puts the middle voxel of SHAPE at CENTER_RAS."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(columns, dtype=float).T
    affine[:3, 3] = CENTER_RAS - affine[:3, :3] @ [18, 15, 11]
    return affine


def rotation(degrees, axis):
    turn = np.eye(3)
    a, b = (i for i in range(3) if i != axis)
    angle = np.deg2rad(degrees)
    turn[a, a] = turn[b, b] = np.cos(angle)
    turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
    return turn


_OBLIQUE = rotation(17, 0) @ rotation(-23, 2) @ np.diag([-0.5, -0.5, 1.5])
AFFINES = {
    "ras": centered([[0.5, 0, 0], [0, 0.5, 0], [0, 0, 1.5]]),
    "lps": centered([[-0.5, 0, 0], [0, -0.5, 0], [0, 0, 1.5]]),
    "permuted": centered([[0, -0.5, 0], [0, 0, 0.5], [1.5, 0, 0]]),
    "flipped": centered([[0.4, 0, 0], [0, -0.6, 0], [0, 0, -1.3]]),
    "oblique": centered(_OBLIQUE.T),
}


def tumor_image(affine, rng, shape=SHAPE, contrast=400.0):
    """A head of noise with a bright ball of 3.2 mm radius at CENTER_RAS."""
    ijk = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    distance_mm = np.linalg.norm(ijk_to_ras(ijk, affine) - CENTER_RAS, axis=1).reshape(shape)
    image = rng.normal(100, 4, shape) + contrast * (distance_mm < 3.2)
    return image.astype(np.float32)


def save(path, array, affine):
    return write_volume(path, Volume(array, Grid(array.shape, affine)))


class Server:
    """A running `monailabel start_server`, and what the two viewers send to it."""

    def __init__(self, folder, studies, *conf):
        self.folder, self.studies = folder, studies
        self.app = folder / "vs_clickseg"
        made = shutil.ignore_patterns("model", "lib", "logs", "bin", "__pycache__")
        shutil.copytree(ROOT / "apps" / "vs_clickseg", self.app, ignore=made, dirs_exist_ok=True)
        (folder / "tmp").mkdir(exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        binaries = Path(sys.executable).parent
        environment = os.environ | {
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "lib"),
            "HOME": str(folder),
            "TMPDIR": str(folder / "tmp"),
            "MONAI_LABEL_SESSION_PATH": str(folder / "sessions"),
            "MONAI_LABEL_TRACKING_ENABLED": "false",
        }
        command = [str(binaries / "monailabel"), "start_server", "--app", str(self.app)]
        command += ["--studies", str(studies), "--host", "127.0.0.1", "--port", str(self.port)]
        # Scores in the background would take half of two cores from what is tested.
        for key, value in (("skip_scoring", "true"), *conf):
            command += ["--conf", key, str(value)]
        self.output = folder / "output.txt"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=output, cwd=folder
            )

    def wait(self, seconds=WAIT_S):
        """Wait until the server answers, or say how it ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended:\n{self.output.read_text()[-3000:]}")
            try:
                requests.get(f"{self.url}/info/", timeout=5).raise_for_status()
            except requests.ConnectionError:
                time.sleep(0.2)
            else:
                return self
        raise RuntimeError(f"no answer in {seconds} s:\n{self.output.read_text()[-3000:]}")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def slicer(self, model, image, params=None, label=None, session_id=None):
        """What 3D Slicer sends: no `output`, so params and file come back in one multipart."""
        query = {"image": image}
        query |= {"session_id": session_id} if session_id else {}
        sent = {"client_id": "user-xyz"} | (params or {})
        sent |= {"result_extension": ".nrrd", "result_dtype": "uint8"}
        parts = {"params": (None, json.dumps(sent))}
        if label is not None:
            parts["label"] = (label.name, label.read_bytes(), "application/octet-stream")
        response = requests.post(f"{self.url}/infer/{model}", params=query, files=parts, timeout=60)
        return Answer(response, self.folder)

    def ohif(self, model, image, params=None):
        """What OHIF sends: `output=image`, so only the file comes back."""
        sent = {
            "result_extension": ".nrrd",
            "result_dtype": "uint8",
            "result_compress": False,
            "restore_label_idx": False,
        }
        response = requests.post(
            f"{self.url}/infer/{model}",
            params={"image": image, "output": "image"},
            files={"params": (None, json.dumps((params or {}) | sent))},
            headers={"Origin": "http://viewer.example"},
            timeout=60,
        )
        return Answer(response, self.folder)

    def click(self, image, foreground=None, background=None, **more):
        params = {"label": LABEL, "foreground": foreground or [], "background": background or []}
        return self.slicer("click", image, params | {"start": "auto"} | more)


class Answer:
    """A response of /infer, taken apart as the viewers do."""

    def __init__(self, response, folder):
        self.response, self.status = response, response.status_code
        self.params, self.content = {}, b""
        kind = response.headers.get("content-type", "")
        if self.status != 200:
            self.detail = response.json()["detail"]
        elif kind.startswith("multipart"):
            head = f"Content-Type: {kind}\r\n\r\n".encode()
            for part in BytesParser().parsebytes(head + response.content).get_payload():
                name = part.get_param("name", header="content-disposition")
                if name == "params":
                    self.params = json.loads(part.get_payload(decode=True))
                else:
                    self.file_name = part.get_filename()
                    self.content = part.get_payload(decode=True)
        else:
            self.content = response.content
            self.file_name = "answer.nrrd"
        self._folder = folder

    @property
    def image(self):
        """The file, as ITK reads it: what 3D Slicer sees."""
        ending = ".nii.gz" if self.file_name.endswith(".nii.gz") else Path(self.file_name).suffix
        path = self._folder / f"answer{ending}"
        path.write_bytes(self.content)
        return sitk.ReadImage(str(path))

    @property
    def mask(self):
        """The voxels (I, J, K) of the file."""
        assert self.status == 200, self.detail
        return sitk.GetArrayFromImage(self.image).transpose()
