"""Correction: a start mask and clicks in, the mended mask out."""

from clickseg.correction.local import LocalCorrection
from clickseg.correction.paste import PasteCorrection
from clickseg.correction.result import Correction

__all__ = ["Correction", "LocalCorrection", "PasteCorrection"]
