"""Shape the head outside of the brain: scalp, skull, face, skull base, neck.

The standard head: RAS mm, x = 0 the midline, the origin between the two internal auditory pori.
"""

from dataclasses import dataclass

import numpy as np

from clickseg.phantom.canvas import Canvas, sides
from clickseg.phantom.contrast import Contrast
from clickseg.phantom.fields import (
    Array,
    Points,
    capsule_chain,
    coverage,
    ellipsoid,
    smooth_max,
    smooth_min,
)


@dataclass(frozen=True)
class Build:
    """How one head is built, in mm unless said otherwise."""

    scalp: float
    skull: float
    petrous_front: float
    ridge: float
    atrophy: float
    cpa: float
    pons: float
    arm: float
    give: float
    mastoid_air: float
    apex_marrow: float
    sinus_air: float

    @staticmethod
    def draw(rng: np.random.Generator) -> "Build":
        """Draw a head."""
        return Build(
            scalp=rng.uniform(3, 7.5),
            skull=rng.uniform(4.5, 8),
            petrous_front=rng.uniform(13, 18),
            ridge=rng.uniform(6, 10),
            atrophy=rng.uniform(0.3, 2.8),
            cpa=rng.uniform(0, 7.5),
            pons=rng.uniform(13.5, 18),
            arm=rng.uniform(6, 9),
            give=rng.uniform(0.1, 1),
            mastoid_air=rng.uniform(0.2, 1.0),
            apex_marrow=rng.uniform(0, 1),
            sinus_air=rng.uniform(0.8, 1.1),
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
    _paint_face(canvas, build, contrast, rng)
    # The vault is thick, the floor of the middle fossa and the roof of the orbit thin.
    base = np.clip((z + 4 - 0.35 * np.maximum(y, 0)) / 12, 0, 1)
    behind = np.clip((-y - 4) / 12, 0, 1)
    full = np.maximum(base, behind)
    thickness = (2.2 + (build.skull - 2.2) * full) * (1 + 0.2 * np.clip(blobs, -2, 2))
    canvas.fill(coverage(inner - thickness, 0.7), contrast["bone"])
    marrow = np.abs(inner - thickness * 0.5) - thickness * 0.22
    speckle = np.clip(0.8 + 0.25 * canvas.noise(rng, shape, 1.5), 0, 1)
    canvas.fill(coverage(marrow, 0.6) * speckle * full, contrast["marrow"])


def _paint_face(canvas: Canvas, build: Build, contrast: Contrast, rng: np.random.Generator) -> None:
    bone, air, marrow = contrast["bone"], contrast["air"], contrast["marrow"]
    mucosa, fat = contrast["mucosa"], contrast["fat"]
    for s in sides():

        def ball(
            center: tuple[float, float, float],
            radii: tuple[float, float, float],
            tissue: tuple[float, float],
            opacity: float = 1.0,
            s: float = s,
        ) -> None:
            where = (s * center[0], center[1], center[2])
            canvas.paint(where, radii, lambda p: ellipsoid(p, where, radii), tissue, opacity)

        def rod(
            path: list[list[float]], radius: float, tissue: tuple[float, float], s: float = s
        ) -> None:
            chain = np.array(path, float) * [s, 1, 1]
            reach = np.ptp(chain, axis=0) / 2 + radius
            canvas.paint(
                tuple(chain.mean(0)),
                tuple(reach),
                lambda p: capsule_chain(p, chain, [radius] * len(chain)),
                tissue,
            )

        r = rng.uniform(0.85, 1.1, 4) * build.sinus_air
        # Muscles of chewing, mandible, zygoma.
        ball((61, 42, 8), (7, 24, 30), contrast["muscle"])
        ball((52, 44, -40), (9, 20, 26), contrast["muscle"])
        ball((34, 42, -34), (8, 14, 18), contrast["muscle"])
        ball((24, 20, -34), (7, 9, 22), fat, 0.6)
        rod([[47, 16, -12], [46, 24, -40], [40, 44, -66]], 6, bone)
        rod([[47, 16, -12], [46, 24, -40], [40, 44, -66]], 3.5, marrow)
        rod([[63, 40, -16], [58, 66, -14], [44, 86, -14]], 4, bone)
        rod([[58, 66, -14], [48, 83, -14]], 2.2, marrow)
        # Orbit: fat, optic nerve, muscles, eye.
        ball((26, 72, 2), (19, 27, 18), bone)
        ball((27, 74, 2), (17, 26, 16), fat)
        rod([[32, 80, 2], [22, 58, 3], [12, 46, 8]], 2.2, contrast["white"])
        for dx, dz in ((10, 0), (-10, 0), (0, 9), (0, -9)):
            rod([[32 + dx, 84, 2 + dz], [28 + dx, 70, 2 + dz], [17, 50, 5]], 1.8, mucosa)
        eye = (32 + rng.normal(0, 1), 87 + rng.normal(0, 2), 2 + rng.normal(0, 1))
        ball(eye, (13.2, 13.2, 13.2), contrast["mucosa"], 0.8)
        ball(eye, (12, 12, 12), contrast["vitreous"])
        ball((eye[0], eye[1] + 8, eye[2]), (4.5, 2.2, 4.5), contrast["muscle"])
        # Air: maxillary, ethmoid, nose; turbinates enhance.
        ball((26, 76, -30), (15, 18, 17), bone)
        ball((26, 76, -30), (14 * r[0], 17 * r[0], 16 * r[0]), mucosa)
        ball((26, 76, -30), (13 * r[0], 16 * r[0], 15 * r[0]), air)
        ball((7, 72, 0), (6.5, 22, 13), mucosa)
        for yy in (56, 63, 70, 78, 86):
            for zz in (-7, 1, 9):
                at = (6 + rng.normal(0, 1.3), yy + rng.normal(0, 2), zz + rng.normal(0, 1.5))
                ball(at, tuple(rng.uniform(2.6, 5, 3)), air, 0.95)
        ball((7, 76, -30), (6 + rng.normal(0, 1), 28, 19), air)
        for zz in (-41, -32, -23):
            at = (8 + rng.normal(0, 1), 74 + rng.normal(0, 3), zz + rng.normal(0, 1.5))
            ball(at, (rng.uniform(2, 4), rng.uniform(14, 22), rng.uniform(2.5, 4.5)), mucosa)
        # Ear: canal, middle ear, pinna.
        rod([[34, 0, -4], [42, -2, -5], [80, -6, -8]], 3.2, air)
        rod([[70, -2, -22], [74, -16, -8], [75, -18, 4], [71, -8, 14]], 3.0, contrast["skin"])
        rod([[68, -6, -16], [73, -14, 0], [70, -10, 10]], 2.0, contrast["fat"])
    canvas.paint((0, 40, -6), (16, 14, 13), lambda p: ellipsoid(p, (0, 40, -6), (15, 13, 12)), bone)
    left = rng.uniform(-4, 4)
    for s in sides():
        c = (left + s * 6.5, 40 + rng.normal(0, 1), -6)
        size = (6.2, 12 * build.sinus_air, 10.5 * build.sinus_air)
        canvas.paint(c, size, lambda p, c=c, size=size: ellipsoid(p, c, size), air)  # type: ignore[misc]
    throat = np.array([[0, 50, -26], [0, 42, -40], [0, 36, -75.0]])
    canvas.paint(
        (0, 45, -50), (14, 14, 40), lambda p: capsule_chain(p, throat, (12, 11, 10)), mucosa
    )
    canvas.paint((0, 45, -50), (12, 14, 40), lambda p: capsule_chain(p, throat, (9, 7, 7)), air)
    _paint_spine(canvas, contrast)


def _paint_spine(canvas: Canvas, contrast: Contrast) -> None:
    clivus = np.array([[0, 30, 6], [0, 28, -10], [0, 19, -32.0]])
    dens = np.array([[0, 14, -38], [0, 13, -80.0]])
    for chain, radius, flat in ((clivus, 8.0, 0.6), (dens, 7.0, 0.8)):

        def bar(
            p: Points,
            shrink: float,
            chain: np.ndarray = chain,
            radius: float = radius,
            flat: float = flat,
        ) -> Array:
            q = (p[0] * np.float32(flat), p[1], p[2])
            return capsule_chain(q, chain, [radius - shrink] * len(chain))

        center = tuple(chain.mean(0))
        canvas.paint(center, (16, 14, 32), lambda p, b=bar: b(p, 0), contrast["bone"])  # type: ignore[misc]
        canvas.paint(center, (16, 14, 32), lambda p, b=bar: b(p, 2.0), contrast["marrow"])  # type: ignore[misc]
    for s in sides():
        for center, radii in (((18 * s, 6, -38), (8, 9, 7)), ((24 * s, 4, -54), (10, 9, 7))):
            for shrink, name in ((0.0, "bone"), (1.8, "marrow")):
                size = tuple(r - shrink for r in radii)
                canvas.paint(
                    center,
                    radii,
                    lambda p, c=center, r=size: ellipsoid(p, c, r),
                    contrast[name],  # type: ignore[misc]
                )


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
        drum = (s * 35, 3, -5)
        canvas.paint(drum, (4, 5, 6), lambda q, c=drum: ellipsoid(q, c, (3, 4, 6)), contrast["air"])  # type: ignore[misc]
