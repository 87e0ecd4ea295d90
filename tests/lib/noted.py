"""Clicks and answers to note, for journals and records."""

import numpy as np

from clickseg.clicks import Click
from clickseg.geometry import Grid
from clickseg.journal import Answered

MODELS = {"initial": "35ab6e71b975", "correction": "e2e80ebd98b3"}
GRID = Grid(
    (37, 31, 23),
    np.array([[0, 0, 1.5, 11], [-0.4, 0, 0, 7], [0, 0.5, 0, 3], [0, 0, 0, 1.0]]),
)
HERE = Click((3.0, -4.0, 20.0), True)
THERE = Click((5.5, -4.0, 18.5), False)
ELSEWHERE = Click((1.0, 2.0, 3.0), True)


def answered(*clicks, model="click", start="initial", changed=7, scribbled=0, client=None):
    return Answered(model, start, clicks, MODELS, changed, scribbled, client)
