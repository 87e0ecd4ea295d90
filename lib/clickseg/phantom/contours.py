"""Read outlines drawn by readers, and turn them into signed distances.

The file holds one JSON object a line (gzipped or not): ``subject``, ``split``, and ``structures``:
``tumour`` and perhaps ``cochlea``, each a list of closed outlines, each a list of LPS points in mm
in one plane of constant z. This is the form of the public VS-SEG outlines (Shapey et al. 2021,
doi 10.7937/TCIA.9YTJ-5Q73).
"""

import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clickseg.outlines import MARGIN_MM, stack_outlines
from clickseg.phantom.fields import Lattice

SPLITS = ("training", "validation", "test", "all")

_SUBJECT = re.compile(r"[A-Za-z0-9][\w.-]*")
"""A subject names files: it is no path."""


@dataclass(frozen=True, eq=False)
class Outlines:
    """The outlines of one subject, in RAS mm: each ``(N, 3)`` in one plane of constant z."""

    subject: str
    split: str
    tumor_ras: tuple[NDArray[np.float64], ...]
    cochlea_ras: NDArray[np.float64] | None
    """Center of the cochlea on the tumor's side, if it was drawn."""

    @property
    def case_id(self) -> str:
        """The id of the study made from them."""
        return self.subject.replace("sub-", "VS-")


def read_outlines(path: Path, split: str = "all") -> list[Outlines]:
    """Read the outlines of a split, in the order of the file.

    Raises:
        ValueError: if the file is not what was wanted, or holds nothing of the split.
    """
    if split not in SPLITS:
        raise ValueError(f"a split is one of {', '.join(SPLITS)}; got {split!r}")
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode()
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"outlines were wanted as JSON lines, but {path}: {error}") from error
    found = [_outlines_of(row, path) for row in rows]
    chosen = [o for o in found if split in ("all", o.split)]
    if not chosen:
        have = ", ".join(sorted({o.split for o in found})) or "no subjects"
        raise ValueError(f"subjects of split {split!r} were wanted, but {path} holds {have}")
    return chosen


def _outlines_of(row: object, path: Path) -> Outlines:
    try:
        if not isinstance(row, dict):
            raise TypeError(f"a JSON object, not {type(row).__name__}")
        structures = row["structures"]
        tumor = tuple(_polygon(p) for p in structures["tumour"])
        cochlea = [_polygon(p) for p in structures.get("cochlea", ())]
        subject, split = str(row["subject"]), str(row.get("split", "training"))
        if not _SUBJECT.fullmatch(subject):
            raise ValueError(f"a subject of letters, digits, _, . and -, not {subject!r:.80}")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"every line of {path} needs subject, split and structures with a tumour of "
            f"closed outlines; one line fails at {error}"
        ) from error
    if not tumor:
        raise ValueError(f"subject {subject} in {path} has no tumour outline")
    return Outlines(subject, split, tumor, _near(cochlea, tumor))


def _polygon(points: object) -> NDArray[np.float64]:
    array = np.asarray(points, float)
    if array.ndim != 2 or array.shape[1] != 3 or len(array) < 3 or not np.isfinite(array).all():
        raise ValueError(f"an outline of at least three LPS points, not shape {array.shape}")
    return np.asarray(array * [-1.0, -1.0, 1.0], float)


def _near(
    cochlea: Sequence[NDArray[np.float64]], tumor: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64] | None:
    center = np.concatenate(tumor).mean(0)
    close = [p for p in cochlea if abs(p[:, 0].mean() - center[0]) < 35]
    return np.concatenate(close).mean(0) if close else None


def outline_lattice(polygons_ras: Sequence[NDArray[np.float64]]) -> Lattice:
    """Return the signed distance (mm, negative inside) to stacked outlines.

    Between planes the distance is interpolated; beyond the last plane the shape closes within half
    a step.
    """
    stack = stack_outlines(polygons_ras)
    step, heights, maps = stack.step_mm, stack.heights_mm, stack.maps_mm
    ends = [np.abs(maps[end]) + 0.1 * step for end in (0, -1)]
    heights = np.array([heights[0] - step, *heights, heights[-1] + step])
    closed = replace(stack, heights_mm=heights, maps_mm=np.array([ends[0], *maps, ends[1]]))
    # Half a step per layer is enough: the distance is piecewise linear.
    count = round((heights[-1] - heights[0]) / (step / 2)) + 1
    layers = np.linspace(heights[0], heights[-1], count)
    spacing_z = layers[1] - layers[0]
    extra = int(np.ceil(MARGIN_MM / spacing_z))
    layer_values = []
    for n in range(-extra, count + extra):
        z = heights[0] + n * spacing_z
        past = max(heights[0] - z, z - heights[-1], 0.0)
        layer_values.append(closed.at(z) + past)
    values = np.stack(layer_values, -1)[::2, ::2].astype(np.float32)
    origin = np.array([*stack.low_mm, heights[0] - extra * spacing_z])
    return Lattice(values, origin, np.array([2 * stack.fine_mm, 2 * stack.fine_mm, spacing_z]))
