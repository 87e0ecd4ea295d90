"""Shape the face, the sinuses and the spine of the standard head (see ``skull``)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clickseg.phantom.build import Build
from clickseg.phantom.canvas import Canvas, sides
from clickseg.phantom.contrast import Contrast, Tissue
from clickseg.phantom.fields import Array, Points, capsule_chain

Path = NDArray[np.float64]


def paint_face(canvas: Canvas, build: Build, contrast: Contrast, rng: np.random.Generator) -> None:
    """Paint muscles, jaws, orbits, sinuses, ears, throat and the upper spine."""
    bone, air, marrow = contrast["bone"], contrast["air"], contrast["marrow"]
    mucosa, fat = contrast["mucosa"], contrast["fat"]
    for s in sides():

        def ball(
            center: Sequence[float],
            radii: Sequence[float],
            tissue: Tissue,
            opacity: float = 1.0,
            s: float = s,
        ) -> None:
            canvas.paint_ball((s * center[0], center[1], center[2]), radii, tissue, opacity)

        def rod(path: list[list[float]], radius: float, tissue: Tissue, s: float = s) -> None:
            canvas.paint_rod(np.array(path, float) * [s, 1, 1], [radius] * len(path), tissue)

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
    canvas.paint_ball((0, 40, -6), (15, 13, 12), bone)
    septum = rng.uniform(-4, 4)
    for s in sides():
        half = (septum + s * 6.5, 40 + rng.normal(0, 1), -6)
        canvas.paint_ball(half, (6.2, 12 * build.sinus_air, 10.5 * build.sinus_air), air)
    throat = np.array([[0, 50, -26], [0, 42, -40], [0, 36, -75.0]])
    canvas.paint_rod(throat, (12, 11, 10), mucosa)
    canvas.paint_rod(throat, (9, 7, 7), air)
    _paint_spine(canvas, contrast)


def _paint_spine(canvas: Canvas, contrast: Contrast) -> None:
    clivus = np.array([[0, 30, 6], [0, 28, -10], [0, 19, -32.0]])
    dens = np.array([[0, 14, -38], [0, 13, -80.0]])
    layers = ((0.0, contrast["bone"]), (2.0, contrast["marrow"]))
    for chain, radius, flat in ((clivus, 8.0, 0.6), (dens, 7.0, 0.8)):
        for shrink, tissue in layers:
            radii = [radius - shrink] * len(chain)

            def bar(
                p: Points, path: Path = chain, flat: float = flat, radii: list[float] = radii
            ) -> Array:
                return capsule_chain((p[0] * np.float32(flat), p[1], p[2]), path, radii)

            canvas.paint(list(chain.mean(0)), (16, 14, 32), bar, tissue)
    for s in sides():
        for shrink, tissue in layers:
            canvas.paint_ball((18 * s, 6, -38), (8 - shrink, 9 - shrink, 7 - shrink), tissue)
            canvas.paint_ball((24 * s, 4, -54), (10 - shrink, 9 - shrink, 7 - shrink), tissue)
