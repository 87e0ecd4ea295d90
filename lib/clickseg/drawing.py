"""Draw outlines on axial slices: before and after clicks, or where one is largest."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clickseg.boxes import bounding_box
from clickseg.clicks import Clicks, Voxel, voxels_of
from clickseg.metrics import dice, volume_ml
from clickseg.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEFORE, AFTER, REFERENCE = "#ff9f1c", "#3ddc5b", "#6cc8ff"
MARGIN_MM = 12.0
SMALLEST_MM = 46.0
"""The side of the square that is shown, at least."""

BAR_MM = 10.0
"""Length of the bar in small pictures."""

Mask = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Outlines:
    """What is drawn: canonical masks before and after the clicks, and the reference."""

    before: Mask
    after: Mask
    label: Mask | None


def draw_picture(out: Path, study: Study, outlines: Outlines, clicks: Clicks) -> None:
    """Draw T1ce and, if there is one, T2: the outline before the clicks left, after them right.

    The slice is that of the last click; the right of the patient is on the left.
    """
    from matplotlib.figure import Figure  # 0.5 s that no other command should wait for

    grid = study.grid.canonical
    center_ijk = clicks[-1].voxel(grid)
    rows = ("T1ce",) if study.t2_path is None else ("T1ce", "T2")
    figure = Figure(figsize=(9.0, 0.55 + 4.4 * len(rows)), dpi=110, facecolor="black")
    axes = figure.subplots(len(rows), 2, squeeze=False)
    window = _window(outlines, center_ijk, grid.spacing_mm)
    for row, name in enumerate(rows):
        cut = study.image[row, :, :, center_ijk[2]]
        for column, (mask, color) in enumerate(
            ((outlines.before, BEFORE), (outlines.after, AFTER))
        ):
            ax = axes[row, column]
            _show(ax, cut, window, grid.spacing_mm)
            _outline(ax, mask, center_ijk[2], grid.spacing_mm, color, "-")
            if outlines.label is not None:
                _outline(ax, outlines.label, center_ijk[2], grid.spacing_mm, REFERENCE, "--")
            _mark(ax, clicks, study, center_ijk[2])
            ax.text(0.02, 0.97, name, transform=ax.transAxes, color="white", va="top", fontsize=13)
            ax.text(0.02, 0.5, "R", transform=ax.transAxes, color="white", va="center", fontsize=11)
    number = "1 click" if len(clicks) == 1 else f"{len(clicks)} clicks"
    _title(axes[0, 0], "Before", outlines.before, outlines.label, study, BEFORE)
    _title(axes[0, 1], f"After {number}", outlines.after, outlines.label, study, AFTER)
    figure.text(
        0.5, 0.012, _legend(outlines, study, center_ijk[2]), color="white", ha="center", fontsize=11
    )
    figure.subplots_adjust(0.005, 0.1 / len(rows), 0.995, 1 - 0.09 / len(rows), 0.01, 0.01)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


def draw_largest_slice(study: Study, mask: Mask) -> dict[str, bytes]:
    """Draw the axial slice where an outline is largest, cropped around it, with a bar of 10 mm.

    Returns:
        Small PNG files by the name of the sequence, T1ce and, if there is one, T2; none of an
        empty mask. The right of the patient is on the left.
    """
    from matplotlib.figure import Figure  # 0.5 s that no other command should wait for

    k = int(mask.sum(axis=(0, 1), dtype=np.int64).argmax())
    box = bounding_box(mask[:, :, k])
    if box is None:
        return {}
    spacing_mm = study.grid.canonical.spacing_mm
    i, j = ((side.start + side.stop - 1) // 2 for side in box)
    window = _window(Outlines(mask, mask, None), (i, j, k), spacing_mm)
    pictures = {}
    for row, name in enumerate(("T1ce",) if study.t2_path is None else ("T1ce", "T2")):
        figure = Figure(figsize=(2.4, 2.4), dpi=100, facecolor="black")
        ax = figure.add_axes((0, 0, 1, 1))
        _show(ax, study.image[row, :, :, k], window, spacing_mm)
        _outline(ax, mask, k, spacing_mm, AFTER, "-")
        ax.text(0.03, 0.5, "R", transform=ax.transAxes, color="white", va="center", fontsize=9)
        end, bottom = window[1] + 2, window[2] + 2
        ax.plot([end, end + BAR_MM], [bottom, bottom], color="white", linewidth=2)
        with io.BytesIO() as file:
            figure.savefig(file, format="png", metadata={"Software": None})
            pictures[name] = file.getvalue()
    return pictures


def _window(
    outlines: Outlines, center_ijk: Voxel, spacing_mm: NDArray[np.float64]
) -> tuple[float, float, float, float]:
    """Return the square to show, in mm: left, right, bottom, top; it holds all outlines."""
    k = center_ijk[2]
    shown = np.zeros(outlines.before.shape[:2], dtype=bool)
    shown[center_ijk[:2]] = True
    for mask in (outlines.before, outlines.after, outlines.label):
        if mask is not None:
            shown |= mask[:, :, k] > 0
    box = bounding_box(shown[:, :, None])
    assert box is not None  # it holds the click
    ends = np.array([(part.start, part.stop) for part in box[:2]]) * spacing_mm[:2, None]
    half = max(SMALLEST_MM, float(np.diff(ends).max()) + 2 * MARGIN_MM) / 2
    x, y = ends.mean(axis=1).tolist()
    return x + half, x - half, y - half, y + half


def _show(
    ax: Axes,
    cut: NDArray[np.float32],
    window: tuple[float, float, float, float],
    spacing_mm: NDArray[np.float64],
) -> None:
    """Show a plane ``(I, J)``, patient's right on the left, in mm from the corner of voxel 0."""
    right, left = cut.shape[0] * spacing_mm[0], cut.shape[1] * spacing_mm[1]
    inside = cut[
        tuple(
            slice(max(0, int(min(pair) / step)), max(1, int(max(pair) / step)))
            for pair, step in zip((window[:2], window[2:]), spacing_mm, strict=False)
        )
    ]
    low, high = np.percentile(inside, (1, 99.7))
    ax.imshow(
        cut.T, cmap="gray", vmin=low, vmax=high, origin="lower", extent=(0, right, 0, left),
        interpolation="bilinear",
    )  # fmt: skip
    ax.set_xlim(*window[:2])
    ax.set_ylim(*window[2:])
    ax.set_axis_off()


def _outline(
    ax: Axes, mask: Mask, k: int, spacing_mm: NDArray[np.float64], color: str, style: str
) -> None:
    # An outline ends where the image does, and matplotlib wants two rows and two columns.
    plane = np.pad(mask[:, :, k], 1)
    if not plane.any():
        return
    x, y = ((np.arange(n) - 0.5) * s for n, s in zip(plane.shape, spacing_mm, strict=False))
    ax.contour(
        x,
        y,
        plane.T,
        levels=[0.5],
        colors=color,
        linestyles=style,
        linewidths=2 if style == "-" else 1.5,
    )


def _mark(ax: Axes, clicks: Clicks, study: Study, k: int) -> None:
    """Mark the clicks of a slice: + makes tumor, x makes background."""
    grid = study.grid.canonical
    voxels, is_foreground = voxels_of(clicks, grid)
    points = (voxels + 0.5) * grid.spacing_mm
    for kind, marker in ((True, "P"), (False, "X")):
        here = points[(is_foreground == kind) & (voxels[:, 2] == k)]
        ax.scatter(here[:, 0], here[:, 1], s=110, c="white", marker=marker, edgecolors="black")


def _title(ax: Axes, text: str, mask: Mask, label: Mask | None, study: Study, color: str) -> None:
    text += f": {volume_ml(mask, study.grid.affine):.2f} ml"
    if label is not None:
        text += f", Dice {dice(mask, label):.3f}"
    ax.set_title(text, color=color, fontsize=15, pad=6)


def _legend(outlines: Outlines, study: Study, k: int) -> str:
    text = f"{study.case_id}, axial slice {k + 1} of {study.grid.canonical.shape[2]}"
    if outlines.label is not None:
        text += f"; dashed: reference, {volume_ml(outlines.label, study.grid.affine):.2f} ml"
    return text + "; + tumor click, x background click"
