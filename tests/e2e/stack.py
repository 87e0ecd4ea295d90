"""Orthanc with studies of phantoms in it, and a server on it."""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import requests

from clickseg.clicks import read_clicks
from clickseg.commands.phantom import list_orders
from clickseg.dicom.mr import headers_of, write_series
from clickseg.dicom.read import read_series
from clickseg.dicom.web import Pacs
from clickseg.geometry import Grid, ijk_to_ras
from clickseg.phantom.write import write_phantom
from clickseg.resampling import resample
from clickseg.volume import Volume, read_label, read_volume
from clickseg_app.orthanc import Orthanc, free_port
from clickseg_app.serve_ohif import send, stop_group

ROOT = Path(__file__).parents[2]
LABEL = "Vestibular Schwannoma"
GRID, SEED = "160x160x24", 21  # heads whose tumors the shipped models find well
PATIENTS = ("phantom-0001", "phantom-0002")

# Directions, in RAS, in which columns, rows and slices of a series run; and whether the scanner
# numbers its slices the other way round.
TILT = np.deg2rad(17)
ACQUISITIONS = {
    "axial-ascending": ([-1, 0, 0], [0, -1, 0], [0, 0, 1], False),
    "axial-descending": ([-1, 0, 0], [0, -1, 0], [0, 0, 1], True),
    "coronal": ([-1, 0, 0], [0, 0, -1], [0, 1, 0], False),
    "sagittal": ([0, -1, 0], [0, 0, -1], [-1, 0, 0], False),
    "oblique": (
        [-1, 0, 0],
        [0, -np.cos(TILT), np.sin(TILT)],
        [0, np.sin(TILT), np.cos(TILT)],
        False,
    ),
}


class Study:
    """A study in the PACS: its UIDs, its T1ce as the server and OHIF read it, and its tumor."""

    def __init__(self, name, files, label):
        header = headers_of(name)[0]
        self.name, self.uid, self.t1ce_uid = name, header.study_uid, header.series_uid
        self.t2_uid = headers_of(name)[1].series_uid
        self.grid = read_series(files).grid
        self.truth = resample(label, self.grid)[0] > 0.5

    @property
    def center_ijk(self):
        """A voxel in the middle of the tumor."""
        inside = np.argwhere(self.truth)
        return inside[np.abs(inside - inside.mean(axis=0)).sum(axis=1).argmin()].tolist()


class Stack:
    """What runs; ends with the block, every process by its own id."""

    def __init__(self, folder):
        self.folder = folder
        self.cache = folder / "cache"
        self._running = ExitStack()

    def __enter__(self):
        try:
            self.orthanc = self._running.enter_context(Orthanc(self.folder / "orthanc"))
            self.pacs = Pacs(self.orthanc.url)
            self.studies = self._made()
            self._running.callback(self._stop_server)
            self.start_server()
        except BaseException:
            self._running.close()
            raise
        return self

    def __exit__(self, *_):
        self._running.close()

    def start_server(self):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        for name in ("home", "tmp", "sessions"):
            (self.folder / name).mkdir(exist_ok=True)
        paths = [str(ROOT / "apps" / "vs_clickseg"), str(ROOT / "lib")]
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(paths),
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "MONAI_LABEL_SESSION_PATH": str(self.folder / "sessions"),
            "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(self.cache),
            "MONAI_LABEL_TRACKING_ENABLED": "false",
        }
        app = self.folder / "vs_clickseg"
        app.mkdir(exist_ok=True)
        (app / "main.py").write_text((ROOT / "apps/vs_clickseg/main.py").read_text())
        command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app)]
        command += ["--studies", self.orthanc.url, "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--conf", "skip_scoring", "true"]
        self.output = self.folder / "server.txt"
        with self.output.open("a") as output:
            self.server = subprocess.Popen(
                command,
                env=environment,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                start_new_session=True,
            )
        self._wait()

    def info(self):
        return requests.get(f"{self.url}/info/", timeout=60).json()

    def infer(self, model, image, **params):
        """The params and the status of an answer."""
        response = requests.post(
            f"{self.url}/infer/{model}",
            params={"image": image, "output": "json"},
            data={"params": json.dumps(params)},
            timeout=120,
        )
        return response.json(), response.status_code

    def segs(self, study):
        """The segmentations that the PACS has of a study, whole."""
        series = [one for one in self.pacs.series(study.uid) if one.modality == "SEG"]
        return [self.pacs.fetch(study.uid, one.uid)[0] for one in series]

    def journal(self, study):
        """The clicks that the server noted of a study, in RAS mm, by kind."""
        (path,) = self.cache.glob(f"*/.clickseg/clicks/{study.t1ce_uid}.jsonl")
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        clicks = [click for line in lines for click in line["new"]]
        return [(np.array(click[:3]), click[3]) for click in clicks]

    def is_training(self):
        status = requests.get(f"{self.url}/train/", params={"check_if_running": True}, timeout=60)
        return status.status_code == 200

    def wait_until(self, happens, seconds=180):
        deadline = time.monotonic() + seconds
        while not happens():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited for {seconds} s")
            time.sleep(0.5)

    def _made(self):
        """Make phantoms, and send them as DICOM; the first again, as scanners differ."""
        made = self.folder / "made"
        labels, count = made / "labels", len(PATIENTS)
        for order in list_orders(made, count, SEED, 0, None, "all", GRID, "same", 0.0, labels):
            write_phantom(order)
        studies = {}
        for name in PATIENTS:
            studies[name] = self._sent(name, made, name, None, False)
        for name, (*axes, descending) in ACQUISITIONS.items():
            grid = _grid(axes, read_label(labels / f"{PATIENTS[0]}.nii.gz"))
            studies[name] = self._sent(name, made, PATIENTS[0], grid, descending)
        return studies

    def _sent(self, name, made, source, grid, descending):
        folder = self.folder / "dicom" / name
        files = []
        for header, path in zip(headers_of(name), (made, made / "t2"), strict=True):
            volume = read_volume(path / f"{source}.nii.gz")
            if grid is not None:
                volume = Volume(np.rint(resample(volume, grid)[0]), grid)
            where = folder / header.series_uid
            files.append(write_series(volume, where, header, descending=descending))
        send(self.pacs, folder)
        return Study(name, files[0], read_label(made / "labels" / f"{source}.nii.gz"))

    def _wait(self):
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            if self.server.poll() is not None:
                raise RuntimeError(f"the server ended:\n{self.output.read_text()[-3000:]}")
            try:
                self.info()
            except requests.ConnectionError:
                time.sleep(0.3)
            else:
                return
        raise RuntimeError(f"the server does not answer:\n{self.output.read_text()[-3000:]}")

    def _stop_server(self):
        if hasattr(self, "server"):
            stop_group(self.server)


def _grid(axes, label):
    """A grid of another acquisition: its middle in that of the head, about 170 mm wide."""
    affine = np.eye(4)
    directions = np.array(axes, dtype=float).T
    spacing = np.array([1.3, 1.4, 3.6])
    affine[:3, :3] = directions * spacing
    shape = (128, 128, 44)
    middle = ijk_to_ras([(np.array(label.grid.shape) - 1) / 2], label.grid.affine)[0]
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def as_ras(study, points_ijk):
    """Voxels of a study in RAS mm, as the server reads clicks."""
    return [np.array(one.point_ras) for one in read_clicks(points_ijk, [], study.grid)]
