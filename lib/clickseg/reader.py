"""The simulated reader: where would a person click?

One implementation for training, evaluation and tests, so that they cannot disagree. Arrays are
0/1 volumes in canonical order, ``(I, J, K)``; K counts the axial slices. All distances are in mm.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from clickseg.boxes import bounding_box, grown

__all__ = ["Index", "Robot", "border_clicks", "next_click", "simulate_clicks"]

Index = tuple[int, int, int]
Robot = Literal["center", "jitter", "border"]
Mask = npt.NDArray[np.bool_]

JITTER_SIGMA_MM = 1.0
_ANY_NEIGHBOR = np.ones((3, 3, 3), dtype=bool)
_IN_PLANE_CROSS = ndimage.generate_binary_structure(2, 1)[:, :, None]
_TIE_MM = 1e-6


def next_click(
    label: npt.NDArray[Any],
    pred: npt.NDArray[Any],
    spacing_mm: Sequence[float],
    clicked_ijk: Iterable[Sequence[int]] = (),
    robot: Robot = "center",
    rng: np.random.Generator | None = None,
) -> tuple[Index, bool] | None:
    """Return the voxel a reader clicks next and whether it is a foreground click.

    Missed and spurious tumor are kept apart: the click goes into the largest 26-connected
    component of either kind, missed tumor first if both are equally large.

    ``center`` is the voxel deepest inside that component; of several equally deep ones, that
    nearest to their mean. ``jitter`` moves it by a normal deviate of 1 mm along each axis and
    stays in the component. To both the edge of the image is an edge of the component.

    ``border`` is the published rule (see `simulate_clicks`) for one component, and measured in
    space, not within the slice: of its voxels at the outline of the tumor, that farthest from the
    outline of ``pred``; of its voxels anywhere where none is at that outline. Equal distances (all
    of them where ``pred`` is empty) are drawn from. The edge of the image is no outline.

    Args:
        label: reference, ``(I, J, K)``.
        pred: what the reader sees, same shape.
        spacing_mm: voxel size along I, J, K.
        clicked_ijk: voxels clicked before; none of them is clicked again.
        robot: which of the three rules.
        rng: used by ``jitter`` and ``border``, and needed there.

    Returns:
        ``((i, j, k), is_foreground)``, or None if no voxel that may be clicked is wrong.
    """
    spacing = _checked_spacing(label, pred, spacing_mm)
    if robot not in ("center", "jitter", "border"):
        raise ValueError(f"robot must be center, jitter or border, not {robot!r}")
    if robot != "center" and rng is None:
        raise ValueError(f"robot {robot!r} needs an rng")
    box = bounding_box(np.not_equal(label, pred))
    if box is None:
        return None
    start = np.array([axis.start for axis in box])
    label_box, pred_box = label[box].astype(bool), pred[box].astype(bool)
    clicked = np.zeros(label_box.shape, dtype=bool)
    for ijk in clicked_ijk:
        inside = np.asarray(ijk) - start
        if (inside >= 0).all() and (inside < clicked.shape).all():
            clicked[tuple(inside)] = True

    found = _largest_component(label_box, pred_box, clicked)
    if found is None:
        return None
    component, is_foreground = found
    if robot == "border" and rng is not None:
        farthest = _farthest_at_border(
            label, pred, box, component & ~clicked, is_foreground, spacing
        )
        chosen = rng.choice(farthest)
    else:
        chosen = _center(component, clicked, spacing)
        if robot == "jitter" and rng is not None:
            shift_ijk = rng.normal(0.0, JITTER_SIGMA_MM, 3) / spacing
            chosen = _nearest(component & ~clicked, chosen + shift_ijk, spacing)
    i, j, k = (int(n) for n in chosen + start)
    return (i, j, k), is_foreground


def border_clicks(
    label: npt.NDArray[Any],
    spacing_mm: Sequence[float],
    min_distance_mm: float,
    rng: np.random.Generator,
    where: Literal["border", "inside", "outside"] = "border",
    max_per_slice: int | None = None,
) -> list[Index]:
    """Draw voxels at the outline of the tumor, on every axial slice it touches.

    The outline is ``mask - erosion(mask)`` within the slice. ``inside`` draws from the tumor
    without its outline (from all of it where that leaves nothing), ``outside`` from
    ``dilation(mask) - mask``.

    Args:
        label: tumor mask, ``(I, J, K)``.
        spacing_mm: voxel size along I, J, K.
        min_distance_mm: smallest distance, center to center, of two voxels of one slice.
        rng: draws the order in which voxels are tried.
        where: which voxels may be drawn.
        max_per_slice: stop a slice after so many; None draws until no voxel is left.

    Returns:
        Voxels, slice after slice; empty for an empty mask.
    """
    spacing = _checked_spacing(label, label, spacing_mm)
    drawn: list[Index] = []
    box = bounding_box(label)
    if box is None:
        return drawn
    box = grown(box, 1, label.shape)
    mask = label[box].astype(bool)
    start = [axis.start for axis in box]
    if where == "border":
        allowed = _outline(mask)
    elif where == "outside":
        allowed = ndimage.binary_dilation(mask, _IN_PLANE_CROSS) & ~mask
    elif where == "inside":
        inner = mask & ~_outline(mask)
        allowed = np.where(inner.any(axis=(0, 1)), inner, mask)
    else:
        raise ValueError(f"where must be border, inside or outside, not {where!r}")

    for k in range(mask.shape[2]):
        candidates = rng.permutation(np.argwhere(allowed[:, :, k]))
        points_mm = candidates * spacing[:2]
        taken: list[int] = []
        for n, point_mm in enumerate(points_mm):
            if max_per_slice is not None and len(taken) == max_per_slice:
                break
            gaps_mm = np.linalg.norm(points_mm[taken] - point_mm, axis=1)
            if (gaps_mm >= min_distance_mm).all():
                taken.append(n)
        for i, j in candidates[taken].tolist():
            drawn.append((i + start[0], j + start[1], k + start[2]))
    return drawn


def simulate_clicks(
    label: npt.NDArray[Any],
    pred: npt.NDArray[Any],
    spacing_mm: Sequence[float],
    rng: np.random.Generator,
) -> list[Index]:
    """Click once on each axial slice that is wrong, by the published rule.

    The click lies on the true outline, ``label - erosion(label)``, at the maximum of the
    distance to the outline of ``pred``: ``EDT(1 - pred)`` where tumor is missed, else
    ``EDT(pred)``, both within the slice. Equal distances (all of them where ``pred`` has no
    tumor on the slice) are drawn from by ``rng``.

    A slice without true tumor has no outline and gets no click, even if ``pred`` has tumor
    there: the rule cannot reach those errors, `next_click` can.

    Returns:
        Voxels in the order of their slices. All lie on true tumor: foreground clicks.
    """
    spacing = _checked_spacing(label, pred, spacing_mm)
    clicks: list[Index] = []
    box = bounding_box(np.logical_or(label, pred))
    if box is None:
        return clicks
    box = grown(box, 1, label.shape)
    label_box, pred_box = label[box].astype(bool), pred[box].astype(bool)
    outlines = _outline(label_box)
    for k in range(label_box.shape[2]):
        pred_cut, outline = pred_box[:, :, k], outlines[:, :, k]
        if not outline.any() or np.array_equal(label_box[:, :, k], pred_cut):
            continue
        distance_mm = np.where(outline, _to_outline_mm(pred_cut, spacing[:2]), -1.0)
        i, j = rng.choice(np.argwhere(distance_mm >= distance_mm.max() - _TIE_MM)).tolist()
        clicks.append((i + box[0].start, j + box[1].start, k + box[2].start))
    return clicks


def _checked_spacing(
    label: npt.NDArray[Any], pred: npt.NDArray[Any], spacing_mm: Sequence[float]
) -> npt.NDArray[np.float64]:
    if label.ndim != 3 or label.shape != pred.shape:
        raise ValueError(f"label and pred must be (I, J, K), not {label.shape} and {pred.shape}")
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape != (3,) or not (spacing > 0).all():
        raise ValueError(f"spacing_mm must be three positive lengths, not {spacing_mm!r}")
    return spacing


def _largest_component(label: Mask, pred: Mask, clicked: Mask) -> tuple[Mask, bool] | None:
    """Return the largest error that is not clicked all over, and whether it is missed tumor."""
    best: tuple[int, Mask, bool] | None = None
    for error, is_foreground in ((label & ~pred, True), (pred & ~label, False)):
        components, _ = ndimage.label(error, _ANY_NEIGHBOR)
        sizes = np.bincount(components.ravel())
        sizes[0] = 0
        still_free = np.bincount(components[~clicked], minlength=sizes.size) > 0
        sizes[~still_free] = 0
        largest = int(sizes.argmax())
        if sizes[largest] and (best is None or sizes[largest] > best[0]):
            best = (int(sizes[largest]), components == largest, is_foreground)
    return None if best is None else (best[1], best[2])


def _center(
    component: Mask, clicked: Mask, spacing: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Return the free voxel deepest inside the component."""
    box = bounding_box(component)
    assert box is not None
    inside = np.pad(component[box], 1)
    depth_mm = ndimage.distance_transform_edt(inside, sampling=spacing)[1:-1, 1:-1, 1:-1]
    depth_mm[clicked[box]] = 0
    deepest = depth_mm >= depth_mm.max() - _TIE_MM
    mean = np.argwhere(deepest).mean(axis=0)
    start = np.array([axis.start for axis in box])
    return np.asarray(_nearest(deepest, mean, spacing) + start)


def _nearest(
    mask: Mask, point: npt.NDArray[np.float64], spacing: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Return the voxel of the mask nearest to a point in voxels, the first in array order."""
    voxels = np.argwhere(mask)
    distance_mm = np.linalg.norm((voxels - point) * spacing, axis=1)
    first = np.flatnonzero(distance_mm <= distance_mm.min() + _TIE_MM)[0]
    return np.asarray(voxels[first], dtype=np.int64)


def _outline(mask: Mask) -> Mask:
    """Return ``mask - erosion(mask)`` within each axial slice; the image edge does not erode."""
    outline: Mask = mask & ~ndimage.binary_erosion(mask, _IN_PLANE_CROSS, border_value=1)
    return outline


def _to_outline_mm(pred: Mask, spacing: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return each voxel's distance to the other side of the outline of ``pred``, inf if none."""
    distance_mm = np.full(pred.shape, np.inf)
    for side in (pred, ~pred):
        if not side.all():
            distance_mm[side] = ndimage.distance_transform_edt(side, sampling=spacing)[side]
    return distance_mm


def _farthest_at_border(
    label: npt.NDArray[Any],
    pred: npt.NDArray[Any],
    box: tuple[slice, ...],
    component: Mask,
    is_foreground: bool,
    spacing: npt.NDArray[np.float64],
) -> npt.NDArray[np.int64]:
    """Return the component's voxels at the true outline farthest from that of ``pred``, (N, 3)."""
    around = bounding_box(np.logical_or(label, pred))
    assert around is not None
    wide = grown(around, 1, label.shape)
    inner = tuple(
        slice(axis.start - outer.start, axis.stop - outer.start)
        for axis, outer in zip(box, wide, strict=True)
    )
    label_box, pred_box = label[wide].astype(bool), pred[wide].astype(bool)
    if is_foreground:
        at_outline = _outline(label_box)[inner] & component
    else:
        at_outline = ndimage.binary_dilation(label_box, _IN_PLANE_CROSS)[inner] & component
    if not at_outline.any():  # the error does not touch the true outline: a separate blob
        at_outline = component
    distance_mm = np.where(at_outline, _to_outline_mm(pred_box, spacing)[inner], -1.0)
    return np.argwhere(distance_mm >= distance_mm.max() - _TIE_MM)
