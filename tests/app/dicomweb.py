"""A small PACS: a DICOMweb server over HTTP, of what tests put into it."""

import io
import threading
import time
from collections import Counter
from datetime import datetime, timedelta

import numpy as np
import pydicom
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from requests_toolbelt import MultipartDecoder

from clickseg.dicom.mr import headers_of, write_series
from clickseg.dicom.seg import Maker, write_seg
from clickseg.geometry import Grid
from clickseg.volume import Volume

SHAPE = (17, 13, 11)
PAGE = 60
PARTS = "multipart/related; type=application/dicom; boundary=part"


class SmallPacs:
    """Its knobs: what it refuses, the login it wants, whether it counts, and what it cannot do.

    `lost` are series that it lists and does not hand over.
    """

    def __init__(self):
        self.instances = {}
        self.asked = Counter()
        self.is_full = False
        self.refuses = False
        self.login = None
        self.counts = True
        self.is_confused = False
        self.lost = set()
        config = uvicorn.Config(self._app(), host="127.0.0.1", port=0, log_level="error")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self):
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/dicom-web"
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self._server.should_exit = True
        self._thread.join(10)

    def add(self, *instances):
        for one in instances:
            with io.BytesIO() as file:  # what comes back is what a file holds
                pydicom.dcmwrite(file, one, write_like_original=False)
                file.seek(0)
                came = pydicom.dcmread(file)
            came.filename = None
            self.instances[str(one.SOPInstanceUID)] = came

    def add_study(self, folder, case_id, t1ce, t2=None, **said):
        """Put a study in, and return the headers of its two series; `said` changes them."""
        headers = headers_of(case_id)
        for header, volume in zip(headers, (t1ce, t2), strict=True):
            if volume is not None:
                files = write_series(volume, folder / header.series_uid, header)
                for one in map(pydicom.dcmread, files):
                    for keyword, value in said.items():
                        setattr(one, keyword, value)
                    self.add(one)
        return headers

    def of(self, series_uid):
        return [one for one in self.instances.values() if one.SeriesInstanceUID == series_uid]

    def segs(self):
        found = [one for one in self.instances.values() if one.Modality == "SEG"]
        return sorted(found, key=lambda one: (one.ContentDate, one.ContentTime))

    def _app(self):
        app = FastAPI()

        @app.middleware("http")
        async def count(request: Request, go_on):
            self.asked[request.url.path.removeprefix("/dicom-web")] += 1
            if self.login is not None and request.headers.get("authorization") != self.login:
                return JSONResponse({}, 401)
            return await go_on(request)

        @app.get("/dicom-web/studies")
        def studies(request: Request):
            found = {one.StudyInstanceUID: one for one in self.instances.values()}
            return self._page(request, found.values(), self._study)

        @app.get("/dicom-web/studies/{study}/series")
        def series(request: Request, study: str):
            found = {
                one.SeriesInstanceUID: one
                for one in self.instances.values()
                if one.StudyInstanceUID == study
            }
            return self._page(request, found.values(), self._series)

        @app.get("/dicom-web/studies/{study}/series/{uid}/instances")
        def instances(request: Request, uid: str):
            return self._page(request, self.of(uid), lambda one: _some(one, "SOPInstanceUID"))

        @app.get("/dicom-web/studies/{study}/series/{uid}/metadata")
        def metadata(uid: str):
            if self.is_confused:
                raise HTTPException(500)
            return [self._header(one) for one in self.of(uid)]

        @app.get("/dicom-web/studies/{study}/series/{uid}/instances/{instance}/metadata")
        def header(instance: str):
            return [self._header(self.instances[instance])]

        @app.get("/dicom-web/studies/{study}/series/{uid}")
        def fetch(uid: str):
            found = self.of(uid)
            if not found or uid in self.lost:
                raise HTTPException(404)
            parts = b""
            for one in found:
                with io.BytesIO() as file:
                    pydicom.dcmwrite(file, one)
                    head = b"--part\r\nContent-Type: application/dicom\r\n\r\n"
                    parts += head + file.getvalue() + b"\r\n"
            return Response(parts + b"--part--", media_type=PARTS)

        @app.post("/dicom-web/studies")
        async def store(request: Request):
            if self.is_full:
                raise HTTPException(507)
            body = MultipartDecoder(await request.body(), request.headers["content-type"])
            came = [pydicom.dcmread(io.BytesIO(part.content)) for part in body.parts]
            if self.refuses:
                item = {"00081197": {"vr": "US", "Value": [0xA700]}}
                return JSONResponse({"00081198": {"vr": "SQ", "Value": [item]}}, 202)
            self.add(*came)
            return {}

        return app

    def _page(self, request, found, entry):
        """One page: no more at once than a PACS gives, whatever is asked for."""
        wanted = dict(request.query_params)
        start, limit = int(wanted.get("offset", 0)), int(wanted.get("limit", PAGE))
        rows = [entry(one) for one in found]
        if "PatientID" in wanted:
            rows = [row for row in rows if row["00100020"]["Value"] == [wanted["PatientID"]]]
        return rows[start : start + min(limit, PAGE)]

    def _study(self, one):
        of_it = [i for i in self.instances.values() if i.StudyInstanceUID == one.StudyInstanceUID]
        row = _some(one, "StudyInstanceUID", "PatientID", "StudyDate", "StudyTime")
        if self.counts:
            series = len({i.SeriesInstanceUID for i in of_it})
            row |= {"00201206": {"vr": "IS", "Value": [series]}}
            row |= {"00201208": {"vr": "IS", "Value": [len(of_it)]}}
        return row

    def _series(self, one):
        row = _some(one, "StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesDescription")
        if self.counts:
            row |= {"00201209": {"vr": "IS", "Value": [len(self.of(one.SeriesInstanceUID))]}}
        return row

    def _header(self, one):
        return one.to_json_dict(bulk_data_threshold=512, bulk_data_element_handler=_elsewhere)


def _elsewhere(_element):
    return "http://127.0.0.1/bulk"


def _some(dataset, *keywords):
    row = pydicom.Dataset()
    for keyword in keywords:
        if keyword in dataset:
            row[keyword] = dataset[keyword]
    return row.to_json_dict()


def images():
    """A T1ce and a T2 of whole numbers, as scanners write them."""
    rng = np.random.default_rng(1)
    grid = Grid(SHAPE, np.diag([-0.4, -0.6, 1.3, 1.0]))
    return [Volume(rng.integers(0, 900, SHAPE).astype(np.float32), grid) for _ in range(2)]


def block(start, stop):
    mask = np.zeros(SHAPE, np.uint8)
    mask[start:stop, start:stop, start:stop] = 1
    return mask


def seg_by_another(remote, t1ce, array, days=1, **said):
    """Put a segmentation in that another program made, so many days from now; `said` changes it."""
    grid = images()[0].grid
    when = datetime.now() + timedelta(days=days)
    maker = Maker(name="another", version="1")
    seg = write_seg(Volume(array, grid), remote.of(t1ce), maker, label_time=when)
    for keyword, value in said.items():
        setattr(seg, keyword, value)
    remote.add(seg)
    return seg
