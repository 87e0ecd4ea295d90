"""Initial segmentation: a study in, a first outline out."""

from clickseg.initial.result import Initial
from clickseg.initial.two_stage import TwoStage

__all__ = ["Initial", "TwoStage"]
