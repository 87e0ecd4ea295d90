"""Simulated errors of a segmentation, to train correction before real errors are at hand.

Every error is drawn first, as a few numbers, and then applied without chance: what was drawn can
be looked at, stored and applied again.
"""

from clickseg.mistakes.planar import deformed_mistake, morphological_mistake
from clickseg.mistakes.steps import Cutoff, Deformation, Ellipsoid, Missing, Step
from clickseg.mistakes.whole import draw_deformation, draw_mistake, mistaken

__all__ = [
    "Cutoff",
    "Deformation",
    "Ellipsoid",
    "Missing",
    "Step",
    "deformed_mistake",
    "draw_deformation",
    "draw_mistake",
    "mistaken",
    "morphological_mistake",
]
