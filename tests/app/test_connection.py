import json
import socket
from pathlib import Path

import pytest
from monailabel.config import settings

from clickseg_app.connection import cache_of, login
from clickseg_app.orthanc import _port_before, free_port

URL = "http://pacs.example:8042/dicom-web"


@pytest.fixture
def named(monkeypatch):
    def name(**values):
        for key, value in values.items():
            monkeypatch.setattr(settings, f"MONAI_LABEL_{key}", value)

    return name


def test_each_pacs_has_a_folder_of_its_own(named):
    named(DICOMWEB_CACHE_PATH="/data/cache")
    assert cache_of(URL) == cache_of(f"{URL}/")
    assert cache_of(URL).parent == Path("/data/cache")
    assert cache_of(URL) != cache_of("http://pacs.example:8043/dicom-web")
    named(DICOMWEB_CACHE_PATH="", DATASTORE_CACHE_PATH="")
    assert cache_of(URL).parent == Path.home() / ".cache" / "vs_clickseg"


def test_an_orthanc_of_ones_own_keeps_its_port_and_so_its_cache(tmp_path):
    settings = tmp_path / "orthanc.json"
    assert _port_before(settings) is None
    port = free_port()
    settings.write_text(json.dumps({"HttpPort": port}))
    assert _port_before(settings) == port
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        assert _port_before(settings) is None
    for text in ("{", "[]", '{"HttpPort": "x"}', '{"HttpPort": 70000}', "{}"):
        settings.write_text(text)
        assert _port_before(settings) is None


def test_a_login_is_a_name_and_a_password(named):
    assert login() is None
    named(DICOMWEB_USERNAME="me")
    assert login() is None
    named(DICOMWEB_PASSWORD="secret")
    assert login() == ("me", "secret")
    named(DICOMWEB_USERNAME="", DATASTORE_USERNAME="other")
    assert login() == ("other", "secret")
