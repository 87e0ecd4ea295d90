import pytest
import torch
from fastapi import HTTPException

from clickseg.clicks import ClickError
from clickseg.modelfile import ModelError
from clickseg.volume import ImageError
from clickseg_app.errors import told

CASES = [
    (ClickError("a click was wanted"), 422, "a click was wanted"),
    (ImageError("an image was wanted"), 422, "an image was wanted"),
    (ModelError("no model"), 503, "the models cannot be used: no model"),
    (MemoryError(), 507, "the server ran out of memory"),
    (torch.OutOfMemoryError("CUDA out of memory"), 507, "the server ran out of memory"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9"), 507, "ran out of memory"),
    (RuntimeError("mat1 and mat2"), 500, "the server failed (RuntimeError: mat1 and mat2)"),
    (KeyError("image"), 500, "the server failed (KeyError: 'image')"),
    (HTTPException(418, "teapot"), 418, "teapot"),
]


@pytest.mark.parametrize(("error", "status", "text"), CASES, ids=lambda case: repr(case)[:30])
def test_every_error_becomes_a_status_and_a_sentence(error, status, text):
    with pytest.raises(HTTPException) as caught, told():
        raise error
    assert caught.value.status_code == status
    assert text in caught.value.detail


def test_a_stop_by_hand_stays_one():
    with pytest.raises(KeyboardInterrupt), told():
        raise KeyboardInterrupt
