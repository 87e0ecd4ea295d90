"""Shape the brain, its ventricles and cisterns in the standard head (see ``skull``)."""

import numpy as np

from clickseg.phantom.build import Build
from clickseg.phantom.canvas import Canvas, sides
from clickseg.phantom.contrast import Contrast
from clickseg.phantom.fields import (
    Array,
    Points,
    capsule_chain,
    coverage,
    ellipsoid,
    enlarge,
    smooth_max,
    smooth_min,
    smooth_noise,
)
from clickseg.phantom.skull import petrous_plane


def tentorium(p: Points) -> Array:
    """Return the height above the tentorium in mm: below it lies the cerebellum."""
    ax = np.abs(p[0])
    roof = 31 - 0.42 * ax - 0.33 * np.maximum(-p[1] - 15, 0)
    return np.asarray(p[2] - np.maximum(roof, 5), np.float32)


def sheet_distance(rng: np.random.Generator, shape: tuple[int, ...], size_vox: float) -> Array:
    """Return the distance in voxels to winding sheets about ``3 size_vox`` apart: the sulci."""
    noise = smooth_noise(rng, shape, (size_vox,) * 3)
    slopes = np.gradient(noise[::2, ::2, ::2])
    slope = np.sqrt(sum(s * s for s in slopes)) / 2
    steep = enlarge(slope.astype(np.float32), shape, (2, 2, 2))
    return np.asarray(np.abs(noise) / (steep + 0.35 / size_vox), np.float32)


def paint_cerebrum(
    canvas: Canvas, inner: Array, build: Build, contrast: Contrast, rng: np.random.Generator
) -> None:
    """Fill the skull with fluid, then paint cortex, sulci and white matter above the tentorium."""
    shape = canvas.t1ce.shape
    x, y = canvas.head[:2]
    canvas.fill(coverage(inner, canvas.edge_mm), contrast["csf"])
    ax = np.abs(x)
    height = tentorium(canvas.head)
    # In front of the petrous ridge the cerebrum is all there is; the plane marks it.
    front = np.maximum(height - 1.2, petrous_plane(canvas.head) - 1)
    cistern = canvas.whole(lambda p: ellipsoid(p, (0, 7, 22), (18.5, 22, 17)))
    cistern = cistern + 1.5 * canvas.noise(rng, shape, 5)
    sylvian = canvas.whole(
        lambda p: capsule_chain(
            (np.abs(p[0]), p[1], p[2]),
            np.array([[28, 36, 20], [40, 36, 23], [47, 26, 30], [50, 4, 42.0]]),
            (2.0, 1.6, 1.8, 1.2),
        )
    )
    brain = np.maximum(inner + np.float32(build.atrophy), -front)
    brain = smooth_max(brain, -cistern, 3)
    brain = np.maximum(brain, -sylvian)
    in_fissure = (y > 44) | (y < -22)
    split = np.float32(1.0) - ax
    brain = np.maximum(brain, np.where(in_fissure, split, -9)).astype(np.float32)
    sheets = sheet_distance(rng, shape, rng.uniform(3.6, 4.6) / canvas.pitch_mm) * canvas.pitch_mm
    deep = np.maximum(-brain - rng.uniform(14, 22), 0) * 0.5
    ribbon = np.minimum(sheets + deep, -brain)
    alpha = coverage(brain, canvas.edge_mm)
    opening = rng.uniform(-0.35, 0.45)
    sulcus = np.clip((opening + 0.5 - ribbon) / 0.9, 0, 1) * alpha
    texture = canvas.noise(rng, shape, 1.9) * np.float32(0.022)
    thick = rng.uniform(2.4, 3.4) + opening
    white = np.clip((ribbon - thick) / 1.4 + 0.5, 0, 1)
    canvas.fill(alpha, contrast["gray"])
    canvas.fill(alpha * white, contrast["white"])
    canvas.fill(sulcus * np.float32(rng.uniform(0.35, 1)), contrast["csf"])
    canvas.t1ce[...] += texture * coverage(inner, canvas.edge_mm)
    canvas.t2[...] += texture * coverage(inner, canvas.edge_mm)
    # Falx and tentorium enhance a little.
    falx = np.maximum(ax - 0.5, np.where(in_fissure, inner + 1, 9))
    dura = np.minimum(falx, np.where(front > 40, 9, np.maximum(np.abs(height) - 0.4, inner + 1)))
    behind = np.where((y < 16) & (ax > 18 - 0.2 * y) | (y > 40) | (y < -22), dura, 9)
    canvas.fill(coverage(behind.astype(np.float32), 0.8) * np.float32(0.8), contrast["meninges"])
    patchy = np.clip(0.55 + 0.4 * canvas.noise(rng, shape, 9), 0, 1)
    canvas.fill(coverage(np.abs(inner) - 0.4, canvas.edge_mm) * patchy, contrast["meninges"])
    _paint_deep(canvas, contrast, rng)


def _paint_deep(canvas: Canvas, contrast: Contrast, rng: np.random.Generator) -> None:
    wide = rng.uniform(0.75, 1.45)
    gray, csf = contrast["gray"], contrast["csf"]
    for s in sides():
        nuclei = (
            ((11, 8, 43), (9, 14, 9)),
            ((27, 28, 39), (6, 16, 11)),
            ((13, 48, 46), (6, 10, 11)),
            ((26, 12, 14), (6, 14, 6)),
        )
        for center, radii in nuclei:
            canvas.paint_ball((s * center[0], center[1], center[2]), radii, gray, 0.75)
        horns = (
            [[9, 60, 42], [8, 44, 54], [9, 20, 60], [16, -6, 58], [26, -17, 48], [27, -44, 42]],
            [[26, -17, 48], [34, -10, 32], [35, 10, 18], [30, 26, 13]],
        )
        for path, radius in zip(horns, (5.2, 2.6), strict=True):
            radii_mm = [radius * wide * rng.uniform(0.8, 1.2) for _ in path]
            canvas.paint_rod(np.array(path, float) * [s, 1, 1], radii_mm, csf)
    canvas.paint_ball((0, 16, 36), (1.2 + 1.2 * wide, 14, 12), csf)


def posterior_fossa(p: Points, inner: Array, build: Build) -> tuple[Array, Array, Array]:
    """Return signed distances to cerebellum, brainstem and fourth ventricle."""
    x, y, z = p
    ax = np.abs(x)
    plane = petrous_plane(p)
    near_porus = np.exp(-((ax - 20) ** 2 + (z + 1) ** 2) / 160)
    gap = 0.4 + build.atrophy * 0.6 + build.cpa * near_porus
    cerebellum = np.maximum(inner + 0.7 + build.atrophy, tentorium(p) + 2.0)
    cerebellum = smooth_max(cerebellum, plane + gap, 4)
    cerebellum = smooth_max(cerebellum, y + 5 + np.maximum(-z - 8, 0) * 0.8, 6)
    notch = 2.5 - ax - np.maximum(y + 54, 0) * 0.5 + np.maximum(z - 2, 0) * 0.2
    cerebellum = smooth_max(cerebellum, notch, 3)
    stem = ellipsoid(p, (0, 3, 2), (build.pons, 12.5, 14))
    medulla = capsule_chain(
        p, np.array([[0, -2, -8], [0, -5, -24], [0, -7, -90.0]]), (9.5, 7.5, 5.5)
    )
    stem = smooth_min(stem, medulla, 5)
    midbrain = smooth_min(
        ellipsoid(p, (0, 1, 24), (14, 11, 12)),
        ellipsoid((ax, y, z), (9, 9, 24), (6.5, 7.5, 11)),
        4,
    )
    stem = smooth_min(stem, midbrain, 4)
    arm = np.array([[build.pons - 6, -3, 1], [19, -12, 0], [26, -22, 0.0]])
    arms = capsule_chain((ax, y, z), arm, (build.arm, build.arm * 0.95, build.arm + 1))
    stem = smooth_min(stem, np.maximum(arms, inner + 2.5), 4)
    fourth = ellipsoid(p, (0, -14, -2), (6.5, 4.5, 10))
    return cerebellum.astype(np.float32), stem, fourth


def paint_posterior_fossa(
    canvas: Canvas,
    push: tuple[Array, Array, Array],
    inner: Array,
    build: Build,
    contrast: Contrast,
    rng: np.random.Generator,
) -> None:
    """Paint cerebellum with its folia, brainstem and fourth ventricle.

    Args:
        canvas: what to paint on.
        push: head positions with the tumor's displacement taken out.
        inner: signed distance to the inside of the skull at those positions.
        build: how the head is built.
        contrast: how bright tissues are.
        rng: chance.
    """
    box = canvas.box((0, -20, -10), (60, 52, 46))
    if box is None:
        return
    p: Points = (push[0][box], push[1][box], push[2][box])
    wall = inner[box]
    cerebellum, stem, fourth = posterior_fossa(p, wall, build)
    shape = cerebellum.shape
    alpha = coverage(cerebellum, canvas.edge_mm)
    x, y, z = p
    warp = canvas.noise(rng, shape, 9) * 2.4 + canvas.noise(rng, shape, 4) * 0.5
    u = np.sqrt((x / 1.35) ** 2 + (y - 6) ** 2 + ((z - 16) * 0.85) ** 2) + warp
    period = rng.uniform(2.7, 3.8)
    wave = np.cos(u * np.float32(2 * np.pi / period))
    coarse = np.cos(u * np.float32(2 * np.pi / (3 * period)) + warp)
    core = np.minimum(
        ellipsoid((np.abs(x), y, z), (18, -22, -1), (15, 13, 10)),
        ellipsoid(p, (0, -17, 2), (9, 7, 9)),
    )
    core = core + 2.5 * warp + 3.5 * coarse - 2
    edge = rng.uniform(2, 9)
    outer = np.clip(1 + cerebellum / np.float32(edge + 6), 0, 1)
    amount = np.clip(core / 4, 0, 1)
    canvas.fill(alpha, contrast["gray"], box)
    white = np.maximum(np.clip(0.5 - core / 3, 0, 1), 0.65 * np.clip(wave * 0.5 + 0.35, 0, 1))
    canvas.fill(alpha * white, contrast["white"], box)
    fissure = np.clip(-wave - 0.3, 0, 1) * 1.1 * outer + np.clip(-coarse - 0.72, 0, 1) * 2.6
    fissure = np.clip(fissure * rng.uniform(0.15, 0.9), 0, 1) * amount
    canvas.fill(alpha * fissure.astype(np.float32), contrast["csf"], box)
    stem = stem + 0.35 * canvas.noise(rng, shape, 4)
    canvas.fill(coverage(stem, canvas.edge_mm), contrast["stem"], box)
    pale = np.clip(canvas.noise(rng, shape, 4) * 0.35, 0, 0.6) * coverage(stem + 1, 1.5)
    canvas.fill(pale, contrast["gray"], box)
    canvas.fill(coverage(fourth, canvas.edge_mm), contrast["csf"], box)
    texture = canvas.noise(rng, shape, 1.9) * np.float32(0.022)
    canvas.t1ce[box] += texture * alpha
    canvas.t2[box] += texture * alpha
    # Nuclei and tracts: parts with an edge, brighter on T2 and hardly to be told apart on T1ce.
    parts = np.clip(4 * canvas.noise(rng, shape, rng.uniform(4, 8)) - 1, 0, 1)
    brain = np.maximum(coverage(stem, canvas.edge_mm), alpha * (1 - fissure)) * parts
    canvas.t2[box] += brain * np.float32(rng.uniform(0, 0.2))
    canvas.t1ce[box] -= brain * np.float32(rng.uniform(0, 0.06))
