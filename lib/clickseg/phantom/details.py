"""Draw what is thin: canals, inner ears, nerves and enhancing vessels, as tubes.

Paths are RAS mm in the standard head (see ``skull``); they are drawn at full resolution.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clickseg.phantom.canvas import sides
from clickseg.phantom.contrast import Contrast, Tissue
from clickseg.phantom.fields import curve
from clickseg.phantom.skull import outline

Path = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tube:
    """A tissue along a path ``(N, 3)``, with a radius in mm at each point."""

    path: Path
    radii_mm: tuple[float, ...]
    tissue: Tissue


@dataclass(frozen=True, eq=False)
class Canal:
    """The internal auditory canal of one side in the standard head."""

    porus: NDArray[np.float64]
    fundus: NDArray[np.float64]
    radius_mm: float

    @staticmethod
    def draw(rng: np.random.Generator, side: float) -> "Canal":
        """Draw a canal; ``side`` is 1 for the right."""
        porus = np.array([side * 19, 1, 0]) + rng.normal(0, 0.6, 3)
        fundus = porus + np.array(
            [side * rng.uniform(9.5, 12.5), rng.normal(1, 1), rng.normal(0, 1)]
        )
        return Canal(porus, fundus, float(rng.uniform(1.7, 3.0)))

    def cochlea(self, side: float) -> NDArray[np.float64]:
        """Return the center of the cochlea at the end of the canal."""
        return np.asarray(self.fundus + np.array([side * 2.3, 4.2, -1.0]))


def tube(
    points: list[list[float]] | Path,
    radius: float | list[float],
    tissue: Tissue,
    side: float = 1.0,
    smooth: int = 4,
) -> Tube:
    """Make a tube along a smooth curve through points; mirrored for the left side."""
    path = np.asarray(points, float) * [side, 1, 1]
    radii = [radius] * len(path) if isinstance(radius, int | float) else radius
    fine = curve(path, smooth)
    spread = np.interp(np.linspace(0, len(path) - 1, len(fine)), np.arange(len(path)), radii)
    return Tube(fine, tuple(float(r) for r in spread), tissue)


def draw_ear(
    canal: Canal, side: float, contrast: Contrast, rng: np.random.Generator
) -> Iterator[Tube]:
    """Draw canal, cochlea, vestibule, semicircular canals and the nerves between."""
    fluid = (contrast["csf"][0], contrast["csf"][1] * float(rng.uniform(0.9, 1.0)))
    porus, fundus = canal.porus, canal.fundus
    mouth = porus + (porus - fundus) * 0.45
    r = canal.radius_mm
    yield Tube(np.array([mouth, porus, fundus]), (r * 1.9, r * 1.1, r * 0.7), fluid)
    center = canal.cochlea(side) + rng.normal(0, 0.4, 3)
    turn = np.linspace(0, 2 * np.pi * 2.3, 22)
    size = np.linspace(2.9, 0.8, len(turn))
    out = np.array([side * 0.55, 0.8, -0.2])
    out /= np.linalg.norm(out)
    first = np.cross(out, [0, 0, 1.0])
    first /= np.linalg.norm(first)
    second = np.cross(out, first)
    spiral = (
        center
        + size[:, None] * (np.cos(turn)[:, None] * first + np.sin(turn)[:, None] * second)
        + np.linspace(-1.2, 1.8, len(turn))[:, None] * out
    )
    yield Tube(spiral, tuple(np.linspace(1.0, 0.7, len(turn))), fluid)
    vestibule = fundus + np.array([side * 4.6, -1.2, 0.3])
    yield tube([list(vestibule - [0, 1.2, 0]), list(vestibule - [0, -1.5, -0.5])], 1.9, fluid)
    arc = np.linspace(-0.15, 1.15, 9) * np.pi
    for u, v in (
        (np.array([side * 1.0, -0.5, 0]), np.array([side * 0.4, 1.0, 0])),
        (np.array([side * 0.6, 0.7, 0]), np.array([side * 0.2, 0, 1.0])),
        (np.array([side * 0.6, -0.8, 0]), np.array([0, -0.2, 1.0])),
    ):
        ring = vestibule + u * 1.6 + 3.1 * (np.cos(arc)[:, None] * u - np.sin(arc)[:, None] * -v)
        yield Tube(ring, (0.6,) * len(arc), fluid)
    nerve = (contrast["nerve"][0] * 0.8, contrast["nerve"][1])
    stem = np.array([side * 13, 0.5, -2])
    for dy, dz in ((0.8, 0.6), (-0.7, -0.4)):
        shift = np.array([0, dy, dz])
        yield tube(
            [list(stem + shift), list(porus + shift * 0.8), list(fundus + shift)],
            float(rng.uniform(0.45, 0.8)),
            nerve,
        )
    yield tube([[13, 9, 3], [17, 17, 5], [19, 24, 3]], 1.5, contrast["nerve"], side)
    yield tube([[19, 23, 2], [21, 27, 1]], 3.0, fluid, side)
    yield tube([[9, -4, -16], [17, -4, -16], [23, -4, -17]], 0.6, nerve, side)


def draw_vessels(contrast: Contrast, rng: np.random.Generator) -> Iterator[Tube]:
    """Draw arteries, veins and sinuses of both sides, and some that run anywhere."""
    vessel = Contrast.draw_vessel
    sinus, artery = vessel(rng), vessel(rng)

    def about(points: list[list[float]], sigma: float) -> Path:
        return np.asarray(np.array(points, float) + rng.normal(0, sigma, (len(points), 3)))

    dominant = rng.choice([-1.0, 1.0])
    for s in sides():
        big = rng.uniform(0.95, 1.3) if s == dominant else rng.uniform(0.45, 1.0)
        angle = np.deg2rad([3, 25, 50, 74])
        rise = rng.uniform(-6, 8)
        around = [[55 * np.sin(a), -33 - 38 * np.cos(a), 4 + rise * np.cos(a)] for a in angle]
        yield tube(around, [2.8 * big, 2.7 * big, 2.9 * big, 3.3 * big], sinus, s)
        bulb_height = rng.uniform(-15, -6)
        bulb = [25 + rng.normal(0, 2), -9 + rng.normal(0, 2), bulb_height]
        sigmoid = [around[-1], [50, -30, -3], [45, -25, -11], [36, -19, -18], [29, -13, -17]]
        own = vessel(rng) if rng.random() < 0.4 else sinus
        yield tube(sigmoid, [3.4 * big, 4.2 * big, 4.4 * big, 4.2 * big, 4 * big], own, s)
        size = float(rng.uniform(2.8, 5.6)) * (big + 0.4) / 1.5
        yield tube(
            [[29, -13, -17], bulb, [24, -4, -28], [26, 0, -80]], [4 * big, size, 4, 4.5], own, s
        )
        yield tube(
            about(
                [
                    [28, 0, -80],
                    [26, 16, -30],
                    [25, 19, -18],
                    [16, 22, -10],
                    [11, 28, -4],
                    [12, 38, 3],
                    [10, 34, 10],
                    [9, 33, 15],
                ],
                0.8,
            ),
            2.4,
            artery,
            s,
        )
        yield tube(
            about([[9, 33, 15], [22, 34, 18], [36, 32, 20], [42, 26, 26]], 1.2), 1.2, artery, s
        )
        yield tube(
            about([[9, 33, 15], [3, 42, 20], [1.5, 55, 30], [1.5, 66, 46]], 0.8), 1.0, artery, s
        )
        yield tube(
            about([[2, 19, 16], [13, 12, 19], [19, -4, 20], [16, -26, 22]], 0.9), 0.9, artery, s
        )
        yield tube(about([[2, 19, 13], [14, 12, 13], [20, -4, 13]], 0.9), 0.7, artery, s)
        loop = about([[2, 18, -4], [12, 11, -5], [18, 3, -2], [17, -3, -3], [22, -9, -9]], 1.5)
        yield tube(loop, float(rng.uniform(0.5, 0.9)), vessel(rng), s)
        yield tube(
            about([[20, -70, -80], [16, -4, -38], [9, 8, -28], [0.5, 18, -14]], 1.0)[1:],
            1.7,
            artery,
            s,
        )
        vein = about([[15, 0, 7], [20, 5, 9], [24, 8, 9]], 1.2)
        yield tube(vein, float(rng.uniform(0.6, 1.3)), vessel(rng), s)
        ridge = about([[14, 22, 7], [24, 12, 9], [36, 1, 9], [50, -20, 4]], 1.4)
        yield tube(ridge, float(rng.uniform(0.4, 1.4)), vessel(rng), s)
        yield tube(
            about([[12, 24, 0], [14, 12, -14], [23, -4, -16]], 1.0),
            float(rng.uniform(0.5, 1.4)),
            vessel(rng),
            s,
        )
        cavernous = (float(rng.uniform(0.8, 1.3)), 0.25)
        yield tube(
            about([[13, 29, 4], [14, 36, 5], [13, 42, 5]], 0.7),
            float(rng.uniform(2.2, 3.6)),
            cavernous,
            s,
        )
        yield tube([[10, 30, 0], [12, 38, 3], [11, 33, 9]], 2.3, artery, s)
        plexus = contrast["plexus"]
        yield tube(
            about([[5, -14, -6], [11, -10, -9], [15, -7, -9]], 1.0),
            float(rng.uniform(0.6, 1.6)),
            plexus,
            s,
        )
        yield tube(
            about([[25, -16, 48], [28, -18, 44], [33, -8, 34]], 1.0),
            float(rng.uniform(1.2, 2.6)),
            plexus,
            s,
        )
        yield tube(about([[2, -5, 46], [2, 20, 42]], 0.4), 0.8, vessel(rng), s)
    bend = rng.normal(0, 2.5)
    yield tube(
        [[0.5, 18, -14], [bend, 19, -5], [bend * 0.6, 19, 6], [0, 19, 16]],
        float(rng.uniform(1.2, 2.2)),
        artery,
    )
    yield tube([[0, -25, 36], [0, -45, 24], [0, -66, 9]], 2.2, sinus)
    angle = np.deg2rad([0, 30, 60, 90])
    yield tube([[0, 8 - 78 * np.cos(a) * 0.98, 6 + 95 * np.sin(a)] for a in angle], 3.6, sinus)
    yield tube([[-2, 34, 8], [2, 35, 8]], [3.2, 3.2], contrast["pituitary"])
    yield tube([[0, 33, 11], [0, 31, 18]], 1.0, contrast["pituitary"])
    yield from _wandering(rng)


def _wandering(rng: np.random.Generator) -> Iterator[Tube]:
    """Draw vessels of no name around the angle, in muscle, bone and on the brain."""
    for _ in range(int(rng.integers(6, 14))):
        start = np.array([rng.normal(0, 38), rng.normal(5, 34), rng.normal(0, 15)])
        steps = rng.normal(0, (7, 7, 4), (4, 3))
        path = np.cumsum(np.vstack([start, steps]), 0)
        made = tube(path, float(rng.uniform(0.7, 2.2)), Contrast.draw_vessel(rng), smooth=3)
        x, y, z = (path[:, a].astype(np.float32) for a in range(3))
        if outline((x, y, z)).max() < -4:
            yield made
    for s in sides():  # near the angle, where they matter
        for _ in range(int(rng.integers(1, 4))):
            start = np.array([s * rng.uniform(10, 32), rng.uniform(-14, 14), rng.uniform(-14, 12)])
            steps = rng.normal(0, (4, 4, 2.5), (3, 3))
            radius = float(rng.uniform(0.5, 1.8))
            yield tube(
                np.cumsum(np.vstack([start, steps]), 0), radius, Contrast.draw_vessel(rng), smooth=3
            )
