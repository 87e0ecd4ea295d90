"""Make one phantom study from a seed: head, tumor, two scans, and the reader's outline."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clickseg.geometry import Grid
from clickseg.phantom.brain import paint_cerebrum, paint_posterior_fossa
from clickseg.phantom.build import Build
from clickseg.phantom.canvas import Canvas
from clickseg.phantom.contours import Outlines, outline_lattice
from clickseg.phantom.contrast import Contrast
from clickseg.phantom.details import Canal, Tube, draw_ear, draw_vessels
from clickseg.phantom.fields import Array, Lattice, Points, generator
from clickseg.phantom.pose import Pose
from clickseg.phantom.scanner import (
    MIXED,
    Scan,
    acquire,
    axial_grid,
    choose_grid,
    resample_scene,
    t2_grid,
)
from clickseg.phantom.skull import cavity, outline, paint_head, paint_petrous
from clickseg.phantom.tumor import Appearance, draw_appearance, draw_tumor, draw_volume_ml
from clickseg.volume import Volume

SCENE_MM = 0.85
T2_KINDS = ("same", "slab", "oblique")


@dataclass(frozen=True, eq=False)
class Phantom:
    """One study: int16 T1ce and T2, and the uint8 outline (tumor = 1) on the grid of the T1ce."""

    case_id: str
    t1ce: Volume
    t2: Volume
    label: Volume
    is_right: bool
    has_cyst: bool

    @property
    def volume_ml(self) -> float:
        """Volume of the outline."""
        return float(self.label.array.sum()) * self.label.grid.voxel_ml


def make_phantom(
    seed: int,
    index: int,
    grid: str = MIXED,
    outlines: Outlines | None = None,
    t2_kind: str | None = None,
    tumor_free: bool = False,
) -> Phantom:
    """Make one study; the same arguments make the same voxels.

    Args:
        seed: which family of studies.
        index: which study of the family; not looked at when there are outlines.
        grid: voxels of the T1ce, as in ``448x448x80``, or ``mixed``.
        outlines: a reader's outlines in place of a procedural tumor.
        t2_kind: grid of the T2: ``same``, ``slab`` or ``oblique``; None draws one.
        tumor_free: leave the tumor out of the same head; the outline is empty.

    Raises:
        ValueError: if the grid or ``t2_kind`` is none of the known ones.
    """
    key = (seed, outlines.subject if outlines else index)
    rng = generator(*key, "study")
    shape, spacing = choose_grid(grid, generator(*key, "grid"))
    kind = str(rng.choice(T2_KINDS, p=(0.65, 0.2, 0.15))) if t2_kind is None else t2_kind
    if kind not in T2_KINDS:
        raise ValueError(f"t2_kind is one of {', '.join(T2_KINDS)}; got {t2_kind!r}")
    contrast = Contrast.draw(generator(*key, "contrast"))
    pose, canals, sdf, side = _place_tumor(key, outlines)
    look = draw_appearance(sdf, contrast, *key)
    center = _center_of(sdf)
    scan_grid = _scan_grid(shape, spacing, pose, center, rng)
    second_grid = t2_grid(scan_grid, kind, center, rng)
    t1ce_scene, t2_scene, scene_grid = _scene(
        scan_grid, second_grid, pose, None if tumor_free else look, center, side, contrast, key
    )
    shift = rng.normal(0, 0.35, 3)
    scans = []
    for channel, (scene, g, move) in enumerate(
        ((t1ce_scene, scan_grid, np.zeros(3)), (t2_scene, second_grid, shift))
    ):
        scans.append(Scan(resample_scene(scene, scene_grid, g, move), g, move, channel))
    tubes = _tubes(pose, canals, contrast, key)
    for scan in scans:
        for tube in tubes:
            scan.draw_tube(tube)
        if not tumor_free:
            _draw_tumor(scan, look, contrast)
    noise = generator(*key, "noise")
    levels = (noise.uniform(0.02, 0.05), noise.uniform(0.015, 0.04))
    t1ce, t2 = (
        Volume(acquire(s.image, s.grid, level, noise), s.grid)
        for s, level in zip(scans, levels, strict=True)
    )
    name = outlines.case_id if outlines else f"phantom-{index:04d}"
    label = np.zeros(shape, np.uint8) if tumor_free else _label(scan_grid, sdf)
    has_cyst = look.has_cyst and not tumor_free
    return Phantom(name, t1ce, t2, Volume(label, scan_grid), side > 0, has_cyst)


def _place_tumor(
    key: tuple[Any, ...], outlines: Outlines | None
) -> tuple[Pose, dict[float, Canal], Lattice, float]:
    """Choose pose and canals, so that the tumor's end lies in the canal of its side."""
    rng = generator(*key, "tumor")
    canals = {s: Canal.draw(generator(*key, "canal", s), s) for s in (1.0, -1.0)}
    pose_rng = generator(*key, "pose")
    if outlines is None:
        side = float(rng.choice([-1.0, 1.0]))
        canal = canals[side]
        pose = Pose.draw(pose_rng, rng.normal(0, (15, 20, 30)), canal.porus)
        porus, fundus = pose.to_scanner(np.array([canal.porus, canal.fundus]))
        return pose, canals, draw_tumor(rng, draw_volume_ml(rng), porus, fundus), side
    points = np.concatenate(outlines.tumor_ras)
    side = 1.0 if points[:, 0].mean() > 0 else -1.0
    canal = canals[side]
    lateral = points[:, 0] * side
    tip = points[lateral > lateral.max() - 2.0].mean(0)
    length = float(np.linalg.norm(canal.fundus - canal.porus))
    depth = rng.uniform(0.6, 0.95) if np.ptp(lateral) < 13 else rng.uniform(0.3, 0.95)
    tip_head = canal.porus + (canal.fundus - canal.porus) * depth
    if outlines.cochlea_ras is not None:
        from_cochlea = tip - outlines.cochlea_ras
        guess = canal.cochlea(side) + from_cochlea
        into = (guess[0] - canal.porus[0]) * side
        if -1 < into < length + 1.5 and np.abs(guess[1:] - canal.porus[1:]).max() < 7:
            tip_head = guess
            # The canal bends to where this patient's tumor lies.
            at = np.clip(into / length, 0.25, 1.0)
            fundus = canal.porus + (tip_head - canal.porus) / at
            if np.linalg.norm(fundus - canal.fundus) < 5:
                canals[side] = Canal(canal.porus, fundus, canal.radius_mm)
    tip_head = tip_head + rng.normal(0, 0.7 if rng.random() < 0.8 else 2.0, 3)
    pose = Pose.draw(pose_rng, tip, tip_head)
    return pose, canals, outline_lattice(outlines.tumor_ras), side


def _center_of(sdf: Lattice) -> NDArray[np.float64]:
    inside = np.argwhere(sdf.values < 0)
    return np.asarray(sdf.origin_ras + sdf.spacing_mm * inside.mean(0))


def _scan_grid(
    shape: tuple[int, int, int],
    spacing: NDArray[np.float64],
    pose: Pose,
    center: NDArray[np.float64],
    rng: np.random.Generator,
) -> Grid:
    """Place the field of view: the head or, if small, tumor in plane; tumor mid-depth."""
    size = np.array(shape) * spacing
    middle = pose.to_scanner(np.array([[0.0, 13.0, 0.0]]))[0]
    middle[:2] += rng.normal(0, (4, 5))
    slack = np.maximum(size[:2] / 2 - 40, 0.1 * size[:2])
    middle[:2] = np.clip(middle[:2], center[:2] - slack, center[:2] + slack)
    middle[2] = center[2] - rng.uniform(-0.15, 0.15) * size[2]
    return axial_grid(shape, spacing, np.round(middle, 2))


def _scene(
    first: Grid,
    second: Grid,
    pose: Pose,
    look: Appearance | None,
    center: NDArray[np.float64],
    side: float,
    contrast: Contrast,
    key: tuple[Any, ...],
) -> tuple[Array, Array, Grid]:
    """Paint head and brain on a coarse grid that covers both scans; no look is no tumor."""
    corners = []
    for g in (first, second):
        ends = np.array(np.meshgrid(*[(0, n - 1) for n in g.shape])).reshape(3, -1).T
        corners.append(ends @ g.affine[:3, :3].T + g.affine[:3, 3])
    points = np.concatenate(corners)
    low, high = points.min(0) - 2, points.max(0) + 2
    step = np.maximum(first.spacing_mm, SCENE_MM)
    low = np.maximum(low, [-1e3, -1e3, low[2]])
    shape = tuple(int(n) for n in np.ceil((high - low) / step) + 1)
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = low
    head = pose.head_on(low, step, shape)  # type: ignore[arg-type]
    canvas = Canvas.blank(head, float(step[0]))
    build = Build.draw(generator(*key, "build"))
    rng = generator(*key, "texture")
    inner = canvas.whole(lambda p: cavity(p, build))
    paint_head(canvas, canvas.whole(outline), inner, build, contrast, rng)
    paint_petrous(canvas, inner, build, contrast, rng)
    paint_cerebrum(canvas, inner, build, contrast, rng)
    push = head if look is None else _pushed(head, pose, look, center, side, build.give)
    paint_posterior_fossa(canvas, push, inner, build, contrast, rng)
    return canvas.t1ce, canvas.t2, Grid(shape, affine)  # type: ignore[arg-type]


def _pushed(
    head: Points,
    pose: Pose,
    look: Appearance,
    center: NDArray[np.float64],
    side: float,
    give: float,
) -> Points:
    """Take out of head positions by how much the tumor pushes brainstem and cerebellum away."""
    volume = float((look.sdf.values < 0).sum() * np.prod(look.sdf.spacing_mm))
    radius = (3 * volume / (4 * np.pi)) ** (1 / 3)
    amount = np.float32(give * np.clip(0.95 * radius - 3, 0, 8.5))
    middle = pose.to_head(center)[0]
    source = np.array([side * 21, 3, middle[2] * 0.5])
    from_center = [head[a] - np.float32(middle[a]) for a in range(3)]
    beyond = np.sqrt(from_center[0] ** 2 + from_center[1] ** 2 + from_center[2] ** 2) - radius
    amount = amount * np.exp(-np.maximum(beyond, 0) / np.float32(11))
    away = [head[a] - np.float32(source[a]) for a in range(3)]
    amount = amount / np.maximum(np.sqrt(away[0] ** 2 + away[1] ** 2 + away[2] ** 2), 4)
    x, y, z = (head[a] - away[a] * amount for a in range(3))
    return x, y, z


def _tubes(
    pose: Pose, canals: dict[float, Canal], contrast: Contrast, key: tuple[Any, ...]
) -> list[Tube]:
    rng = generator(*key, "details")
    tubes = list(draw_vessels(contrast, rng))
    for side, canal in canals.items():
        tubes.extend(draw_ear(canal, side, contrast, rng))
    return [Tube(pose.to_scanner(t.path), t.radii_mm, t.tissue) for t in tubes]


def _draw_tumor(scan: Scan, look: Appearance, contrast: Contrast) -> None:
    value = look.t2 if scan.channel else look.t1ce
    found = scan.sample([(look.visible, 9.0), (value, 1.0), (look.halo, 0.0)])
    if found is None:
        return
    box, (visible, level, halo) = found
    scan.blend(box, halo, contrast["csf"][scan.channel])
    alpha = np.clip(0.5 - visible / np.float32(2 * look.edge_mm), 0, 1)
    scan.blend(box, alpha, level)


def _label(grid: Grid, sdf: Lattice) -> NDArray[np.uint8]:
    """Return the voxels whose center lies within the outline."""
    label = np.zeros(grid.shape, np.uint8)
    inverse = np.linalg.inv(grid.affine)
    high = sdf.origin_ras + sdf.spacing_mm * (np.array(sdf.values.shape) - 1)
    ends = np.array([sdf.origin_ras, high]) @ inverse[:3, :3].T + inverse[:3, 3]
    start = np.maximum(np.floor(ends.min(0)), 0).astype(int)
    stop = np.minimum(np.ceil(ends.max(0)) + 1, grid.shape).astype(int)
    if (start >= stop).any():
        return label
    axes = [
        (grid.affine[a, 3] + grid.affine[a, a] * np.arange(start[a], stop[a]))
        .astype(np.float32)
        .reshape([-1 if a == b else 1 for b in range(3)])
        for a in range(3)
    ]
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    label[box] = sdf.at((axes[0], axes[1], axes[2]), 9.0) < 0
    return label
