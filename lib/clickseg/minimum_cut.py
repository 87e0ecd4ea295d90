"""The cheapest division of an image in two: exactly, by SciPy's maximum flow, or nearly, in steps.

A voxel costs what its side costs, two neighbors on different sides the less the more unlike they
are (Boykov 2001, doi 10.1109/ICCV.2001.937505).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from clickseg.neighbors import alike

UNITS = 100
"""Costs are whole numbers of hundredths: the flow is exact in them."""

SURE_PROB = 0.95
"""Probabilities are kept this far from 0 and 1: an edge may overrule a network that is sure."""

LEAST_TOTAL = np.float32(0.01)
"""What all borders of a voxel cost at least, where that divides."""

Between = list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]]
"""Pairs of neighbors along each axis, as flat indices, and what it costs to part them."""


def side_costs(prob: NDArray[Any]) -> NDArray[Any]:
    """Return what it costs ``(2, i, j, k)`` to be background and foreground, by probability."""
    prob = np.clip(prob, 1 - SURE_PROB, SURE_PROB)
    return np.stack([-np.log(1 - prob), -np.log(prob)])


def between(
    image: NDArray[Any], spacing_mm: NDArray[np.float64], weight: float, sigma: float
) -> Between:
    """Return what it costs to part neighbors.

    Args:
        image: one sequence ``(i, j, k)``.
        spacing_mm: voxel size.
        weight: the cost where both look the same, as ``neighbors.alike``.
        sigma: as there.
    """
    index, image = np.arange(image.size).reshape(image.shape), image.astype(np.float64)
    pairs = []
    for axis in range(3):
        first, second = (
            np.take(index, range(start, index.shape[axis] - 1 + start), axis).ravel()
            for start in (0, 1)
        )
        pairs.append((first, second, alike(image, axis, spacing_mm, weight, sigma).ravel()))
    return pairs


def minimum_cut(costs: NDArray[Any], pairs: Between) -> NDArray[np.bool_]:
    """Return which voxels are foreground where all costs together are least.

    Args:
        costs: ``(2, i, j, k)``, as ``side_costs`` returns them.
        pairs: as ``between`` returns them.
    """
    count = costs[0].size
    source, sink, voxels = count, count + 1, np.arange(count)
    rows = [np.full(count, source), voxels]
    columns = [voxels, np.full(count, sink)]
    values = [costs[0].ravel(), costs[1].ravel()]
    for first, second, cost in pairs:
        rows += [first, second]
        columns += [second, first]
        values += [cost, cost]
    capacity = csr_array(
        (
            np.rint(UNITS * np.concatenate(values)).astype(np.int32),
            (np.concatenate(rows), np.concatenate(columns)),
        ),
        shape=(count + 2, count + 2),
    )
    left = capacity - maximum_flow(capacity, source, sink).flow
    left.data = np.maximum(left.data, 0)
    left.eliminate_zeros()
    kept = np.zeros(count + 2, dtype=bool)
    kept[breadth_first_order(left, source, return_predecessors=False)] = True
    return kept[:count].reshape(costs[0].shape)


def nearly_minimum_cut(
    logits: NDArray[np.float32],
    image: NDArray[np.float32],
    spacing_mm: NDArray[np.float64],
    weight: float,
    sigma: float,
    steps: int,
) -> NDArray[np.bool_]:
    """Return about what ``minimum_cut`` does of logits, in a small part of its time.

    A voxel's side may be anything from 0 to 1 on the way: that makes the problem convex with the
    same least cost (Chan 2006, doi 10.1137/040615286), and steps of a primal-dual method go towards
    it, each voxel and pair by its own length (Pock 2011, doi 10.1109/ICCV.2011.6126441).

    Args:
        logits: ``(i, j, k)``, what a voxel costs more as background, infinite where it is beyond
            dispute; may be empty.
        image: one sequence, same shape.
        spacing_mm: as ``between``.
        weight: as ``between``.
        sigma: as ``between``.
        steps: of 0.1 ms for a cut around a click.
    """
    # All voxels in one row, so that neighbors along an axis are so many places apart: whole rows
    # are added at once. Those at the end of one line and the start of the next cost nothing.
    wanted = np.nan_to_num(logits.ravel().astype(np.float32), posinf=np.inf, neginf=-np.inf)
    costs, total = [], np.full(wanted.size, LEAST_TOTAL)
    for axis in range(3):
        ends = [(0, int(other == axis)) for other in range(3)]
        cost = np.pad(alike(image, axis, spacing_mm, weight, sigma), ends)
        apart = int(np.prod(image.shape[axis + 1 :]))
        cost = cost.ravel()[: max(0, wanted.size - apart)].astype(np.float32)
        total[: cost.size] += cost
        total[apart:] += cost
        costs.append((apart, cost, -cost, cost / 2, np.zeros_like(cost), np.empty_like(cost)))
    length = 1 / total
    side = (wanted > 0).astype(np.float32)
    ahead, pull = side.copy(), np.empty_like(side)
    for _ in range(steps):
        np.copyto(pull, wanted)
        for apart, most, least, step, flow, change in costs:
            np.subtract(ahead[apart:], ahead[: change.size], out=change)
            change *= step
            flow += change
            np.minimum(flow, most, out=flow)
            np.maximum(flow, least, out=flow)
            pull[apart:] -= flow
            pull[: flow.size] += flow
        pull *= length
        pull += side
        np.clip(pull, 0, 1, out=pull)
        np.multiply(pull, 2, out=ahead)
        ahead -= side
        side, pull = pull, side
    return (side > 0.5).reshape(image.shape)
