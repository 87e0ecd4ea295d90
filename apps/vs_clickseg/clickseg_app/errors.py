"""What goes wrong, told to a viewer: a status and a sentence, never a bare 500."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from fastapi import HTTPException
from monailabel.interfaces.exception import MONAILabelException

from clickseg.clicks import ClickError
from clickseg.dicom.web import PacsError
from clickseg.machine import is_out_of_memory
from clickseg.modelfile import ModelError
from clickseg.volume import ImageError

logger = logging.getLogger(__name__)

NOT_ALLOWED = 403
NOT_FOUND = 404
TAKEN = 409
WRONG = 422
FAILED = 500
NO_ANSWER = 502
NO_MODEL = 503
NO_MEMORY = 507


@contextmanager
def told() -> Iterator[None]:
    """Turn every error within into an ``HTTPException``: the only one that a viewer can show."""
    try:
        yield
    except HTTPException:
        raise
    except (ClickError, ImageError) as error:
        raise HTTPException(WRONG, str(error)) from error
    except PacsError as error:
        raise HTTPException(NO_ANSWER, str(error)) from error
    except ModelError as error:
        raise HTTPException(NO_MODEL, f"the models cannot be used: {error}") from error
    except Exception as error:
        if is_out_of_memory(error):
            torch.cuda.empty_cache()
            text = "the server ran out of memory; a smaller cache_mb or image may help"
            raise HTTPException(NO_MEMORY, text) from error
        logger.exception("request failed")
        said = error.msg if isinstance(error, MONAILabelException) else error
        text = f"the server failed ({type(error).__name__}: {said}); its log says where"
        raise HTTPException(FAILED, text) from error
