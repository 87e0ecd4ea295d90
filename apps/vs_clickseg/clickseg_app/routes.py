"""Routes of MONAI Label as they should be: OHIF's way to the PACS, answers as DICOM SEG, no reload.

MONAI Label's own way to the PACS drops what is asked for: the filters of OHIF's list of studies do
not filter, and its viewer lists other patients' studies. MONAI Label's own DICOM SEG needs its own
datastore, and calls every segment a spleen. Its reload leaves the app at work beside a second one.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import requests
from fastapi import APIRouter, Depends, File, Form, HTTPException, Request, UploadFile
from fastapi.background import BackgroundTasks
from fastapi.responses import JSONResponse, Response
from monailabel.config import settings as server
from monailabel.endpoints.infer import ResultType, run_inference
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.utils.app import app_instance
from starlette.concurrency import run_in_threadpool

from clickseg.dicom.web import CONNECT_S, READ_S
from clickseg_app.connection import login
from clickseg_app.errors import NO_ANSWER, NOT_ALLOWED, WRONG, told
from clickseg_app.pacs import PacsDatastore

logger = logging.getLogger(__name__)

ASKED_FOR = ("studies", "series", "instances")
"""Where what OHIF asks for begins, below the roots; a query has nothing there."""

STORED_AT = re.compile(r"studies(/[0-9.]{1,64})?")
"""Where images are sent; some PACS remove a study when something else is sent elsewhere."""

PASSED_ON = ("accept", "content-type", "range")
PASSED_BACK = ("content-type", "content-range", "location", "warning")

TOLD = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    MONAILabelException,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Errors of MONAI Label's own routes that are answered in words, each named to Starlette."""

router = APIRouter(
    prefix=server.MONAI_LABEL_API_STR,
    dependencies=[Depends(RBAC(server.MONAI_LABEL_AUTH_ROLE_USER))],
)


def mend_routes() -> None:
    """Let our routes be asked before those of MONAI Label's server; a second call does nothing."""
    from monailabel.app import app  # a whole server: imported where there is one

    ours = [*router.routes, *root.routes]
    app.router.routes[:0] = [route for route in ours if route not in app.router.routes]
    for kind in TOLD:
        app.add_exception_handler(kind, tell)
    app.middleware_stack = None  # the next request makes it anew, with these in it


async def pass_on(request: Request, path: str) -> Response:
    """Ask the PACS what OHIF asks, all of it.

    Raises:
        HTTPException: if there is no PACS, it does not answer, or something else is asked for: the
            login that is sent along may open more of the PACS than its images.
    """
    if not server.MONAI_LABEL_STUDIES.startswith(("http://", "https://")):
        raise HTTPException(WRONG, "studies are in a folder here: there is no PACS to ask")
    prefixes = {
        "qido": server.MONAI_LABEL_QIDO_PREFIX,
        "wado": server.MONAI_LABEL_WADO_PREFIX,
        "stow": server.MONAI_LABEL_STOW_PREFIX,
    }
    kind, _, rest = path.partition("/")
    kind, rest = (kind, rest) if kind in prefixes else ("", path)
    beginning, *others = rest.split("/")
    # A path that begins with a slash begins below it for some servers.
    if (rest and beginning not in ASKED_FOR) or {".", ".."}.intersection(others):
        text = f"studies, series or instances of the PACS were wanted, got {rest!r:.80}"
        raise HTTPException(NOT_ALLOWED, text)
    if request.method == "POST" and not STORED_AT.fullmatch(rest):
        text = f"images are stored at studies or studies/UID, got {rest!r:.80}"
        raise HTTPException(NOT_ALLOWED, text)
    # Some OHIF ask for metadata where searches go.
    prefix = prefixes.get("wado" if rest.endswith("metadata") and kind == "qido" else kind)
    parts = [server.MONAI_LABEL_STUDIES.rstrip("/"), *([prefix] if prefix else []), quote(rest)]
    url = "/".join(parts)
    if request.url.query:
        # Orthanc 1.10 takes an asterisk for a wildcard as it is, and not when it is quoted.
        url += "?" + request.url.query.replace("%2A", "*").replace("%2a", "*")
    body = await request.body()
    headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
    try:
        answer = await run_in_threadpool(_ask, request.method, url, headers, body)
    except requests.RequestException as error:
        logger.warning("the PACS does not answer: %s", error)
        text = f"the PACS does not answer ({type(error).__name__})"
        raise HTTPException(NO_ANSWER, text) from error
    kept = {name: answer.headers[name] for name in PASSED_BACK if name in answer.headers}
    return Response(answer.content, answer.status_code, kept)


async def refuse_reload() -> None:
    """Refuse: a second app would answer, and the first keep its memory and its threads.

    Raises:
        HTTPException: always.
    """
    text = "new models are taken as they are published; for other settings restart the server"
    raise HTTPException(NOT_ALLOWED, text)


def _ask(method: str, url: str, headers: dict[str, str], body: bytes) -> requests.Response:
    timeout_s = CONNECT_S, READ_S
    return requests.request(
        method, url, headers=headers, data=body, auth=login(), timeout=timeout_s
    )


async def infer(
    background_tasks: BackgroundTasks,
    model: str,
    image: str = "",
    session_id: str = "",
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    label: Annotated[UploadFile | None, File()] = None,
    output: ResultType | None = None,
) -> Any:
    """Run a model, as MONAI Label's own route does, and say what is wrong with a request.

    As DICOM SEG the answer comes as accepting it would store it.

    Raises:
        HTTPException: if the request cannot be read, or DICOM SEG is asked for of an image that is
            none of a PACS.
    """
    check_params(params)
    store, is_seg = app_instance().datastore(), output == ResultType.dicom_seg
    if is_seg and (not isinstance(store, PacsDatastore) or file is not None or session_id):
        text = "an answer comes as DICOM SEG for images of a PACS alone; ask for the image instead"
        raise HTTPException(WRONG, text)
    kind = ResultType.image if is_seg else output
    try:
        answer = run_inference(
            background_tasks, model, image, session_id, params, file, label, kind
        )
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        # What a model raises is told already: this is of reading what was sent.
        text = f"the request cannot be read ({type(error).__name__}: {error!s:.200})"
        raise HTTPException(WRONG, text) from error
    if not isinstance(store, PacsDatastore) or not is_seg:
        return answer
    return Response(store.as_seg(image, Path(answer.path)), media_type="application/dicom")


def check_params(params: str) -> None:
    """Check that the parameters of a request are a JSON object.

    Raises:
        HTTPException: if they are not.
    """
    try:
        values = json.loads(params or "{}")
    except (ValueError, RecursionError) as error:
        raise HTTPException(WRONG, f"params is a JSON object, got {params!r:.80}") from error
    if not isinstance(values, dict):
        raise HTTPException(WRONG, f"params is a JSON object, got {params!r:.80}")


async def tell(_request: Request, error: Exception) -> Response:
    """Answer with what went wrong where nothing of ours did: a bare 500 says it to nobody.

    It goes the way of all answers, so that a viewer in a browser may read it.
    """
    if isinstance(error, json.JSONDecodeError):
        return JSONResponse({"detail": f"JSON was wanted: {error}"}, WRONG)
    try:
        with told():
            raise error
    except HTTPException as answer:
        return JSONResponse({"detail": answer.detail}, answer.status_code)


root = APIRouter()
root.add_api_route("/reload", refuse_reload, methods=["POST"], include_in_schema=False)
router.add_api_route("/infer/{model}", infer, methods=["POST"], include_in_schema=False)
router.add_api_route(
    "/proxy/dicom/{path:path}", pass_on, methods=["GET", "POST"], include_in_schema=False
)
