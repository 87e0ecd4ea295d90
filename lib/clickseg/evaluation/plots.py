"""Plots of an evaluation: Dice against clicks, and volumes against the reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clickseg.evaluation.summary import by_method, curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Result = dict[str, Any]
SHADED = 4
COLORS = 10
"""As many has matplotlib; lines after these are dashed."""
LIMITS = 1.96
"""Limits of agreement lie this many standard deviations from the mean difference."""


def plot_curves(results: Sequence[Result], clicks: int, out: Path) -> None:
    """Draw the median Dice after each click of each method.

    With its quartiles, the first method's alone where more than ``SHADED`` would lie over each
    other.
    """
    figure = _figure((8.4, 4.6))
    ax, methods = figure.subplots(), by_method(results)
    for number, (name, items) in enumerate(methods.items()):
        rows = np.array([curve(item, "dice", clicks) for item in items if item["label_ml"] > 0])
        if not len(rows):
            continue
        low, middle, high = np.percentile(rows, (25, 50, 75), axis=0)
        at, color = np.arange(clicks + 1), f"C{number}"
        line = "o-" if number < COLORS else "s--"
        ax.plot(at, middle, line, color=color, label=name, markersize=4)
        if number == 0 or len(methods) <= SHADED:
            ax.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)
    ax.set_xlabel("clicks")
    shaded = "" if len(methods) <= SHADED else f" of {next(iter(methods))}"
    ax.set_ylabel(f"Dice: median, and quartiles{shaded}")
    ax.set_xticks(range(clicks + 1))
    ax.set_ylim(top=1)
    ax.grid(alpha=0.3)
    if ax.lines:  # no study may have a tumor
        figure.legend(loc="outside right center")
    figure.savefig(out)


def plot_volumes(results: Sequence[Result], out: Path) -> None:
    """Draw Bland-Altman plots of volume, a row a method: before the first click, after the last.

    Nothing is drawn where no study has a tumor.
    """
    methods = by_method([item for item in results if item["label_ml"] > 0])
    if not methods:
        return
    figure = _figure((8.4, 2.9 * len(methods)))
    axes = figure.subplots(len(methods), 2, squeeze=False, sharex=True, sharey="row")
    for row, (name, items) in zip(axes, methods.items(), strict=True):
        for ax, index, when in ((row[0], 0, "before clicks"), (row[1], -1, "after the last click")):
            errors_ml = np.array([item["scores"][index]["volume_error_ml"] for item in items])
            labels_ml = np.array([item["label_ml"] for item in items])
            ax.scatter(labels_ml + errors_ml / 2, errors_ml, s=14)
            mean, spread = errors_ml.mean(), LIMITS * errors_ml.std(ddof=min(1, len(items) - 1))
            for at, style in ((mean, "-"), (mean - spread, "--"), (mean + spread, "--")):
                ax.axhline(at, color="gray", linestyle=style, linewidth=1)
            ax.set_title(f"{name}, {when}: {mean:+.2f} ± {spread:.2f} ml", fontsize=9)
            ax.grid(alpha=0.3)
        row[0].set_ylabel("outline minus\nreference (ml)")
    for ax in axes[-1]:
        ax.set_xlabel("mean of both volumes (ml)")
    figure.savefig(out)


def _figure(size: tuple[float, float]) -> Figure:
    from matplotlib.figure import Figure  # 0.5 s that no other command should wait for

    return Figure(figsize=size, dpi=110, layout="constrained")
