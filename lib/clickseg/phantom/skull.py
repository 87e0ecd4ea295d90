"""Shape the head outside of the brain: scalp, skull, face, skull base, neck.

The standard head: RAS mm, x = 0 the midline, the origin between the two internal auditory pori.
"""

import numpy as np

from clickseg.phantom.build import Build
from clickseg.phantom.canvas import Canvas, sides
from clickseg.phantom.contrast import Contrast
from clickseg.phantom.face import paint_face
from clickseg.phantom.fields import (
    Array,
    Points,
    capsule_chain,
    coverage,
    ellipsoid,
    smooth_max,
    smooth_min,
)


def petrous_plane(p: Points) -> Array:
    """Return the distance to the posterior petrous face, positive on the side of the bone."""
    ax = np.abs(p[0])
    return np.asarray((ax - 19) * 0.70 + (p[1] - 1) * 0.714, np.float32)


def outline(p: Points) -> Array:
    """Return the signed distance to the skin."""
    x, y, z = p
    cranium = ellipsoid(p, (0, 17, 38), (79, 99, 80))
    face = ellipsoid(p, (0, 62, -38), (62, 52, 78))
    neck = np.sqrt((x / 1.08) ** 2 + (y + 4) ** 2) - 58 + np.maximum(z + 25, 0) * 1.4
    head = smooth_min(smooth_min(cranium, face, 14), neck, 20)
    nose = capsule_chain(p, np.array([[0, 106, -2], [0, 119, -30.0]]), (5, 11))
    return smooth_min(head, nose, 8)


def cavity(p: Points, build: Build) -> Array:
    """Return the signed distance to the inside of the skull."""
    x, y, z = p
    ax = np.abs(x)
    pa = (ax, y, z)
    plane = petrous_plane(p)
    above = np.maximum(z - build.ridge, 0)
    supra = ellipsoid(p, (0, 13, 40), (68, 86, 72))
    floor = np.where(y > 42, 17.0, 13.0).astype(np.float32) + 0.05 * np.maximum(30 - ax, 0)
    supra = smooth_max(supra, floor - z, 5)
    middle = ellipsoid(pa, (37, 36, 14), (27, 36, 25))
    middle = smooth_max(middle, build.petrous_front - plane - above * 2, 4)
    posterior = smooth_min(
        ellipsoid(p, (0, -32, -3), (56, 40, 33)),
        capsule_chain(p, np.array([[0, 2, 30], [0, 0, -14], [0, -6, -75.0]]), (24, 20, 12)),
        6,
    )
    posterior = smooth_max(posterior, plane - above * 1.5, 3)
    return smooth_min(smooth_min(supra, middle, 3), posterior, 3)


def paint_head(
    canvas: Canvas,
    skin: Array,
    inner: Array,
    build: Build,
    contrast: Contrast,
    rng: np.random.Generator,
) -> None:
    """Paint everything outside of the skull's inner side."""
    shape = canvas.t1ce.shape
    y, z = canvas.head[1], canvas.head[2]
    canvas.fill(coverage(skin, 0.8), contrast["muscle"])
    # Bundles of muscle with fat between: a sheet where a smooth noise is near zero.
    sheets = np.abs(canvas.noise(rng, shape, 4))
    blobs = canvas.noise(rng, shape, 5.5)
    fat = np.clip(1.2 - sheets * 4.5, 0, 1) * np.clip(blobs + 0.9, 0, 1)
    fat = np.maximum(fat, np.clip((blobs - 1.1) * 3, 0, 1))
    canvas.fill(fat * coverage(skin + 2, 0.8), contrast["fat"])
    thick = np.float32(build.scalp) * (1 + 0.25 * np.clip(blobs, -2, 2))
    scalp = np.clip((skin + thick) / 1.2 + 0.5, 0, 1) * coverage(skin + 1.6, 0.6)
    canvas.fill(scalp, contrast["fat"])
    canvas.fill(coverage(np.abs(skin + 0.9) - 0.9, 0.6), contrast["skin"])
    paint_face(canvas, build, contrast, rng)
    # The vault is thick, the floor of the middle fossa and the roof of the orbit thin.
    base = np.clip((z + 4 - 0.35 * np.maximum(y, 0)) / 12, 0, 1)
    behind = np.clip((-y - 4) / 12, 0, 1)
    full = np.maximum(base, behind)
    thickness = (2.2 + (build.skull - 2.2) * full) * (1 + 0.2 * np.clip(blobs, -2, 2))
    canvas.fill(coverage(inner - thickness, 0.7), contrast["bone"])
    marrow = np.abs(inner - thickness * 0.5) - thickness * 0.22
    speckle = np.clip(0.8 + 0.25 * canvas.noise(rng, shape, 1.5), 0, 1)
    canvas.fill(coverage(marrow, 0.6) * speckle * full, contrast["marrow"])


def paint_petrous(
    canvas: Canvas, inner: Array, build: Build, contrast: Contrast, rng: np.random.Generator
) -> None:
    """Paint the petrous bones and mastoids: dense bone, marrow at the apex, air cells."""
    for s in sides():
        chain = np.array([[13, 19, -4], [27, 9, -3], [44, -8, -7], [54, -18, -12.0]]) * [s, 1, 1]
        radii = (6.5, 10, 14, 15)
        box = canvas.box((s * 34, 1, -6), (36, 34, 28))
        if box is None:
            continue
        p = canvas.points(box)
        wall = inner[box]
        bone = np.maximum(capsule_chain(p, chain, radii), -wall)
        canvas.fill(coverage(bone, 0.8), contrast["bone"], box)
        noise = canvas.noise(rng, bone.shape, 1.3)
        # Marrow in the apex, on one side more than on the other.
        apex = ellipsoid(p, (s * 14, 20, -4), (9, 9, 8)) + 1.5 * noise
        amount = np.clip(build.apex_marrow + rng.normal(0, 0.25), 0, 1)
        inside = coverage(np.maximum(apex, bone + 1.5), 0.8)
        canvas.fill(inside * np.float32(amount), contrast["marrow"], box)
        # Air cells: black holes with septa and some mucosa in the mastoid.
        cells = ellipsoid(p, (s * 52, -14, -10), (17, 20, 20))
        cells = np.maximum(np.maximum(cells, bone + 1), -(wall - 2.5))
        texture = np.clip(noise - 0.6, 0, 1) * np.float32(1.2 - build.mastoid_air)
        canvas.fill(coverage(cells, 1.5), contrast["air"], box)
        canvas.fill(coverage(cells, 1.5) * np.clip(texture, 0, 0.8), contrast["mucosa"], box)
        rest = coverage(bone + 1.5, 0.8) * np.clip((noise - 1.2) * 0.5, 0, 0.6)
        canvas.fill(rest, contrast["marrow"], box)
        canvas.paint_ball((s * 35, 3, -5), (3, 4, 6), contrast["air"])
