"""A PACS that answers with something else, and one that does not answer."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from clickseg.dicom.web import Pacs, PacsError, UnreachableError


class LoginPage(BaseHTTPRequestHandler):
    """What a proxy shows in front of a PACS: a page, and all is well."""

    def do_GET(self):
        """Answer whatever is asked; http.server calls it so."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html>Log in</html>")

    def log_message(self, *_):
        """Say nothing."""


def test_an_answer_that_is_no_dicom_is_told_as_such_and_none_as_none():
    with HTTPServer(("127.0.0.1", 0), LoginPage) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(PacsError, match="its answer is no DICOM") as refusal:
            Pacs(url).studies()
        assert not isinstance(refusal.value, UnreachableError)
        server.shutdown()
    with pytest.raises(UnreachableError, match="does not answer"):
        Pacs(url).studies()
