"""Bring a T2 to where its T1ce lies: rigid registration by mutual information (SimpleITK).

A patient who moved between the sequences, or whose sequences are of two frames of reference, has
headers that do not agree. Modes:

``header``: headers are trusted; nothing is computed.
``auto``: the place that fits best is looked for, which takes one core 1 to 4 s, once a study. Where
    the headers are of one frame of reference it must fit clearly better than theirs: else the T2
    stays where it was, bit for bit.
``off``: headers are trusted within one frame of reference; a T2 of another one is left out, since
    nothing says where it lies.

One thread, and samples drawn by one seed: the same images give the same bits.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import SimpleITK as sitk  # noqa: N813  # its documented name
from numpy.typing import NDArray

from clickseg.geometry import LPS_FROM_RAS, Grid
from clickseg.volume import Volume, as_image

Mode = Literal["auto", "header", "off"]
MODES: tuple[Mode, ...] = get_args(Mode)

SPACING_MM = 1.5
"""Both images are averaged to voxels of about this size before they are compared."""

CLEARLY = 1.1
"""By this factor mutual information must rise before headers of one frame of reference are left.

On phantoms it rises by up to 1.07 where headers agree, and by 1.15 or more where they are 1.9 mm
and a degree off.
"""

LARGEST_SHIFT_MM = 150.0
LARGEST_TURN_DEG = 45.0
"""No two sequences of one head lie farther apart: a result that says so is a failure."""

_BINS = 32
_SEED = 1
_SHRINK = [4, 2, 1]
"""The search goes from voxels of 6 mm over 3 to 1.5 mm."""
_SAMPLES = 40_000
"""Of so many voxels a step of the search looks at, where there are more."""

_LOCK = threading.Lock()
_Pair = tuple[sitk.Image, sitk.Image]


@dataclass(frozen=True, eq=False)
class Registration:
    """Where a moving image belongs, and how sure that is.

    ``matrix`` (4x4) maps RAS as the moving image is stored to RAS of the fixed one, both in mm.
    ``shift_mm`` is how far the center of the moving image moves, ``rotation_deg`` how much it
    turns. Mutual information (nats, larger is better) is of both at the headers' place and at the
    one found. Only an ``accepted`` result is applied; else the image stays where it was.
    """

    matrix: NDArray[np.float64]
    mutual_information_before: float
    mutual_information_after: float
    shift_mm: float
    rotation_deg: float
    accepted: bool

    def moved(self, volume: Volume) -> Volume:
        """Return the moving image where it belongs: its pixels, with another affine."""
        if not self.accepted:
            return volume
        return Volume(volume.array, Grid(volume.grid.shape, self.matrix @ volume.grid.affine))

    def as_result(self) -> dict[str, Any]:
        """Return it as an answer tells it."""
        return {
            "accepted": self.accepted,
            "shift_mm": round(self.shift_mm, 2),
            "rotation_deg": round(self.rotation_deg, 2),
            "mutual_information_before": round(self.mutual_information_before, 4),
            "mutual_information_after": round(self.mutual_information_after, 4),
        }


def register(moving: Volume, fixed: Volume, frames_differ: bool = False) -> Registration:
    """Find the rigid motion that brings one image of a head to another.

    Args:
        moving: the T2.
        fixed: the T1ce.
        frames_differ: whether their frames of reference are known to be different ones. Then the
            search also begins where the centers of brightness meet, and any gain is accepted.
    """
    first, second = _averaged(moving), _averaged(fixed)
    # Samples are drawn from the smaller image, so that most of them lie in the larger one.
    is_swapped = _extent(first) > _extent(second)
    pair = (second, first) if is_swapped else (first, second)
    here = sitk.Euler3DTransform()
    here.SetCenter(_center_of(pair[0]))
    starts = [here, _centered(pair, here)] if frames_differ else [here]
    with _one_thread():
        before = _information(pair, here)
        tried = [_climbed(pair, start) for start in starts]
        scores = [_information(pair, transform) for transform in tried]
    best = int(np.argmax(scores))
    matrix = _matrix_ras(tried[best])
    if is_swapped:
        matrix = np.linalg.inv(matrix)
    center = moving.grid.affine @ [*((np.array(moving.grid.shape) - 1) / 2), 1]
    shift_mm = float(np.linalg.norm(matrix @ center - center))
    cosine = np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1)
    rotation_deg = float(np.degrees(np.arccos(cosine)))
    return Registration(
        matrix=matrix,
        mutual_information_before=before,
        mutual_information_after=scores[best],
        shift_mm=shift_mm,
        rotation_deg=rotation_deg,
        accepted=(
            scores[best] > (1 if frames_differ else CLEARLY) * before
            and shift_mm <= LARGEST_SHIFT_MM
            and rotation_deg <= LARGEST_TURN_DEG
        ),
    )


def _averaged(volume: Volume) -> sitk.Image:
    """Return an image averaged to about ``SPACING_MM``, without what is far too bright."""
    array = volume.array.astype(np.float32, copy=False)
    low, high = np.percentile(array[::3, ::3, ::3], (0.5, 99.5))
    image = as_image(Volume(np.clip(array, low, high), volume.grid))
    factors = [
        min(n, max(1, round(SPACING_MM / mm)))
        for n, mm in zip(image.GetSize(), image.GetSpacing(), strict=True)
    ]
    return sitk.BinShrink(image, factors)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let SimpleITK use one thread: the sums of its metric depend on how many there are."""
    process = sitk.ProcessObject
    with _LOCK:
        count = process.GetGlobalDefaultNumberOfThreads()
        process.SetGlobalDefaultNumberOfThreads(1)
        try:
            yield
        finally:
            process.SetGlobalDefaultNumberOfThreads(count)


def _method() -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _information(pair: _Pair, transform: sitk.Transform) -> float:
    """Return the mutual information at a place; 0 where the images do not meet."""
    method = _method()
    method.SetInitialTransform(transform)
    try:
        return -float(method.MetricEvaluate(*pair))
    except RuntimeError:  # all samples lie outside
        return 0.0


def _climbed(pair: _Pair, start: sitk.Euler3DTransform) -> sitk.Euler3DTransform:
    """Climb from a start to the nearest place that fits best; the start where there is none."""
    method, voxels = _method(), pair[0].GetNumberOfPixels()
    method.SetMetricSamplingStrategy(method.REGULAR)
    shares = [min(1.0, _SAMPLES * factor**3 / voxels) for factor in _SHRINK]
    method.SetMetricSamplingPercentagePerLevel(shares, _SEED)
    method.SetShrinkFactorsPerLevel(_SHRINK)
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 0.01, 60)
    method.SetOptimizerScalesFromPhysicalShift()
    transform = sitk.Euler3DTransform(start)
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(*pair)
    except RuntimeError:  # the images do not meet, or one is too small or without contrast
        return start
    return transform


def _centered(pair: _Pair, otherwise: sitk.Euler3DTransform) -> sitk.Euler3DTransform:
    """Return the shift by which the centers of brightness meet; an image may have none."""
    moments = sitk.CenteredTransformInitializerFilter.MOMENTS
    try:
        start = sitk.CenteredTransformInitializer(*pair, sitk.Euler3DTransform(), moments)
    except RuntimeError:  # it is black
        return otherwise
    return sitk.Euler3DTransform(start)


def _center_of(image: sitk.Image) -> tuple[float, float, float]:
    middle = [(n - 1) / 2 for n in image.GetSize()]
    x, y, z = image.TransformContinuousIndexToPhysicalPoint(middle)
    return x, y, z


def _extent(image: sitk.Image) -> float:
    """Return the volume of an image, in mm cubed."""
    return float(np.prod(np.multiply(image.GetSize(), image.GetSpacing())))


def _matrix_ras(transform: sitk.Euler3DTransform) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    return np.asarray(LPS_FROM_RAS @ matrix @ LPS_FROM_RAS)
