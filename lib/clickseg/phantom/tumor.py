"""Shape a schwannoma: a cone in the canal and a ball in the cistern; and how it looks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clickseg.phantom.contrast import Contrast
from clickseg.phantom.fields import (
    Array,
    Lattice,
    capsule_chain,
    ellipsoid,
    generator,
    smooth_min,
    smooth_noise,
)

MEDIAN_ML, LOG_SPREAD = 1.4, 1.07
"""Median volume and standard deviation of its logarithm in the 196 public VS-SEG outlines."""
SMALLEST_ML, LARGEST_ML = 0.04, 11.0
STEP_MM = 0.5


def draw_volume_ml(rng: np.random.Generator) -> float:
    """Draw a volume in ml: lognormal, redrawn until it lies in the range of real ones."""
    while True:
        volume = float(MEDIAN_ML * np.exp(LOG_SPREAD * rng.standard_normal()))
        if SMALLEST_ML <= volume <= LARGEST_ML:
            return volume


def draw_tumor(
    rng: np.random.Generator,
    volume_ml: float,
    porus_ras: NDArray[np.float64],
    fundus_ras: NDArray[np.float64],
) -> Lattice:
    """Return the signed distance (mm, negative inside) to a procedural tumor.

    Args:
        rng: chance.
        volume_ml: wanted volume; small tumors lie in the canal, large ones mostly in the cistern.
        porus_ras: opening of the internal auditory canal.
        fundus_ras: its lateral end.
    """
    axis = (fundus_ras - porus_ras) / np.linalg.norm(fundus_ras - porus_ras)
    length = float(np.linalg.norm(fundus_ras - porus_ras))
    side = np.sign(axis[0]) or 1.0
    small = volume_ml < rng.uniform(0.08, 0.3)
    canal_radius = float(np.clip(rng.normal(2.5, 0.6) + 0.25 * np.log(volume_ml / 0.5), 1.2, 4.5))
    depth = length * rng.uniform(0.25, 1.0)
    if small:
        middle = porus_ras + axis * length * rng.uniform(0.3, 0.75)
        half = axis * (1.0 + 12 * volume_ml)
        path = np.array([middle - half, middle + half])
        radius, center = 3.0, middle
    else:
        path = np.array([porus_ras - axis * 3, porus_ras, porus_ras + axis * depth])
        radius = (3 * max(volume_ml - 0.1, 0.05) * 1000 / (4 * np.pi)) ** (1 / 3)
        back = np.array([-0.25 * side, -1.0, rng.normal(0, 0.35)])
        center = (
            porus_ras
            - axis * radius * rng.uniform(0.7, 0.95)
            + back * radius * rng.uniform(0.05, 0.4)
        )
    reach = radius * 1.9 + 8
    low = np.minimum(path.min(0) - 8, center - reach)
    high = np.maximum(path.max(0) + 8, center + reach)
    shape = np.ceil((high - low) / STEP_MM).astype(int)
    lattice = Lattice(np.zeros(tuple(shape), np.float32), low, np.full(3, STEP_MM))
    p = lattice.axes()
    narrow = canal_radius * np.array([1.15, 1.0, rng.uniform(0.55, 1.1)])
    sdf = capsule_chain(p, path, list(narrow[-len(path) :]))
    if not small:
        stretch = np.exp(rng.normal(0, 0.13, 3)) * [1.0, 1.1, 0.95]
        ball = ellipsoid(p, tuple(center), tuple(radius * stretch))
        sdf = smooth_min(sdf, ball, 2 + 0.3 * radius)
        for _ in range(int(rng.integers(0, 3))):
            direction = rng.normal(0, 1, 3) * [0.7, 1, 1]
            direction /= np.linalg.norm(direction)
            lobe = center + direction * radius * rng.uniform(0.5, 0.85)
            size = radius * rng.uniform(0.35, 0.65)
            sdf = smooth_min(sdf, ellipsoid(p, tuple(lobe), (size,) * 3), 0.4 * radius)
    rough = 0.12 + 0.05 * radius * rng.uniform(0.3, 1)
    sigma = max(2.0, 0.45 * radius) / STEP_MM
    sdf = sdf + np.float32(rough) * smooth_noise(rng, sdf.shape, (sigma,) * 3)
    # The level that encloses the wanted volume: shape stays, size is exact.
    count = int(np.clip(round(volume_ml * 1000 / STEP_MM**3), 1, sdf.size - 1))
    level = np.partition(sdf.ravel(), count)[count]
    return Lattice((sdf - level).astype(np.float32), low, lattice.spacing_mm)


@dataclass(frozen=True, eq=False)
class Appearance:
    """How a tumor looks on both sequences, on the lattice of its shape."""

    sdf: Lattice
    """The outline that the reader draws."""
    visible: Lattice
    """Signed distance to the edge that the images show; the outline differs by a smooth wobble."""
    edge_mm: float
    t1ce: Lattice
    t2: Lattice
    halo: Lattice
    """Share of fluid between the tumor and what is around it."""
    has_cyst: bool


def draw_appearance(sdf: Lattice, contrast: Contrast, *key: object) -> Appearance:
    """Choose how a tumor enhances, where it is weak or cystic, and where fluid surrounds it."""
    rng = generator(*key, "appearance")
    shape, inside = sdf.values.shape, -sdf.values
    csf_t2 = contrast["csf"][1]

    def noise(sigma_mm: float) -> Array:
        return smooth_noise(rng, shape, tuple(sigma_mm / s for s in sdf.spacing_mm))

    wobble = noise(3.0) * np.float32(rng.uniform(0.15, 0.5)) + np.float32(rng.normal(0, 0.08))
    weak = np.clip(1 + 0.35 * noise(rng.uniform(4, 6.5)), 0.35, 1)
    level = rng.uniform(1.05, 1.75) * (1 + noise(2.5) * np.float32(rng.uniform(0.04, 0.14)))
    t1ce = level * (rng.uniform(0.5, 0.6) + 0.45 * weak)
    # On no scan is the solid part darker on T2 than the brainstem beside it.
    above_stem = rng.uniform(0.05, 0.42)
    t2 = np.clip(contrast["stem"][1] + above_stem, 0.28, 0.85) * (1 + 0.12 * noise(2.5))
    if rng.random() < 0.3:  # a dark center that takes up little contrast
        depth = np.clip((inside - rng.uniform(2, 4)) / 3, 0, 1)
        t1ce = t1ce * (1 - depth * np.clip(0.35 + 0.25 * noise(2.0), 0, 0.7))
    has_cyst = bool(rng.random() < 0.3)
    if has_cyst:
        holes = np.clip((noise(rng.uniform(2.5, 4.5)) - rng.uniform(0.5, 1.0)) * 3, 0, 1)
        cyst = holes * np.clip(inside / 1.5 - 0.3, 0, 1)
        t1ce = t1ce * (1 - rng.uniform(0.6, 0.8) * cyst)
        t2 = t2 * (1 - cyst) + csf_t2 * rng.uniform(0.85, 1.0) * cyst
    shell = np.clip((rng.uniform(2.2, 3.5) + inside) / 2, 0, 1) * (inside < 0)
    halo = shell * np.clip(noise(6.0) + rng.uniform(-0.4, 0.45), 0, 1) * 0.75

    def lattice(values: Array) -> Lattice:
        return Lattice(values.astype(np.float32), sdf.origin_ras, sdf.spacing_mm)

    return Appearance(
        sdf,
        lattice(sdf.values + wobble),
        float(rng.uniform(0.4, 0.9)),
        lattice(t1ce),
        lattice(t2),
        lattice(halo),
        has_cyst,
    )
