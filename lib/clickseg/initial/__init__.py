"""Initial segmentation: a study in, a first outline out."""

from clickseg.initial.result import Initial
from clickseg.initial.two_stage import TwoStage
from clickseg.initial.whole_volume import WholeVolume

__all__ = ["Initial", "TwoStage", "WholeVolume"]
