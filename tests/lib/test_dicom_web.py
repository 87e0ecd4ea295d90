"""A PACS that answers with something else, and one that does not answer."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

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


class Studies(LoginPage):
    """Sixty studies, no more at once than ``most``."""

    most, knows_pages = 60, True

    def do_GET(self):
        """Answer a search for studies."""
        start = int(parse_qs(urlsplit(self.path).query)["offset"][0]) if self.knows_pages else 0
        uids = [f"1.2.{n}" for n in range(60)][start : start + self.most]
        body = json.dumps([{"0020000D": {"vr": "UI", "Value": [uid]}} for uid in uids]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.mark.parametrize(("most", "knows_pages"), [(10, True), (25, True), (60, True), (60, False)])
def test_all_studies_are_listed_however_few_come_at_once(most, knows_pages):
    answering = type("Answering", (Studies,), {"most": most, "knows_pages": knows_pages})
    with HTTPServer(("127.0.0.1", 0), answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = Pacs(f"http://127.0.0.1:{server.server_port}").studies()
        server.shutdown()
    assert [study.uid for study in found] == [f"1.2.{n}" for n in range(60)]


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
