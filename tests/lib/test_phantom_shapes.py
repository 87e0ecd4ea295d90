"""Shapes of phantoms without images: noise, distances, tumors and outlines."""

import gzip
import json

import numpy as np
import pytest

from clickseg.phantom.contours import outline_lattice, read_outlines
from clickseg.phantom.contrast import Contrast
from clickseg.phantom.details import Canal
from clickseg.phantom.fields import (
    capsule_chain,
    ellipsoid,
    enlarge,
    generator,
    smooth_min,
    smooth_noise,
)
from clickseg.phantom.pose import Pose
from clickseg.phantom.tumor import (
    LARGEST_ML,
    SMALLEST_ML,
    draw_appearance,
    draw_tumor,
    draw_volume_ml,
)


def points(*coordinates):
    """Turn positions into three coordinate arrays of shape (N,)."""
    return tuple(np.array(coordinates, np.float32).T)


def square(half_mm, z_mm, center=(0.0, 0.0)):
    """Return an LPS square of side ``2 half_mm``."""
    x, y = center
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    return [[x + half_mm * a, y + half_mm * b, z_mm] for a, b in corners]


def circle(radius_mm, z_mm):
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    return [[radius_mm * np.cos(a), radius_mm * np.sin(a), z_mm] for a in angle]


def plane(z_mm):
    """Return positions every 0.2 mm in a plane of 24 x 24 mm."""
    x, y = np.meshgrid(np.arange(-12, 12, 0.2), np.arange(-12, 12, 0.2))
    return tuple(np.float32(a) for a in (x, y, np.full(x.shape, z_mm)))


def volume_mm3(lattice):
    return float((lattice.values < 0).sum() * np.prod(lattice.spacing_mm))


def fine_volume_mm3(lattice):
    """Measure between the lattice points too, every 0.23 x 0.23 x 0.1 mm."""
    steps = np.array([0.23, 0.23, 0.1])
    counts = (np.array(lattice.values.shape) - 1) * lattice.spacing_mm / steps
    axes = [lattice.origin_ras[a] + steps[a] * (np.arange(int(counts[a])) + 0.5) for a in range(3)]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    inside = lattice.at((np.float32(x), np.float32(y), np.float32(z)), 9.0) < 0
    return float(inside.sum() * steps.prod())


def as_ras(outlines):
    return [np.array(o) * [-1, -1, 1] for o in outlines]


def test_the_same_key_gives_the_same_generator_and_another_key_another():
    assert generator(3, "tumor").random() == generator(3, "tumor").random()
    assert generator(3, "tumor").random() != generator(3, "vessels").random()
    # The first draw is part of the format: a change would change every study ever made.
    assert generator(0, 1, "study").random() == pytest.approx(0.6235498966555878, abs=1e-15)


def test_enlarging_interpolates_linearly_along_each_axis():
    array = np.array([[[0.0, 4.0]], [[2.0, 6.0]]], np.float32)  # (2, 1, 2)
    out = enlarge(array, (3, 1, 4), (2, 1, 4))
    # Along I 0, 1, 2 of value 2 an end to end; along K 0, 1, 2, 3 of 4.
    np.testing.assert_allclose(out[:, 0, :], [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]])


def test_smooth_noise_has_unit_variance_and_the_wanted_shape():
    noise = smooth_noise(generator("noise"), (61, 53, 47), (3, 3, 2))
    assert noise.shape == (61, 53, 47)
    assert noise.dtype == np.float32
    assert 0.75 < noise.std() < 1.25
    assert abs(noise.mean()) < 0.2
    # Neighbors are alike: that is what smooth means.
    assert np.abs(np.diff(noise, axis=0)).mean() < 0.5


def test_distances_to_a_ball_and_a_capsule_are_exact():
    p = points((0, 0, 0), (5, 0, 0), (0, 0, 9))
    # Radius 3: the center is 3 inside, 5 along x is 2 outside, 9 along z is 6 outside.
    np.testing.assert_allclose(ellipsoid(p, (1e-3, 0, 0), (3, 3, 3))[1:], [2, 6], atol=2e-3)
    path = np.array([[0.0, 0, 0], [0, 0, 4]])
    # Radius 1 to 2: 5 - 1 = 4 at the start; 9 lies 5 beyond an end of radius 2, so 3.
    np.testing.assert_allclose(capsule_chain(p, path, (1, 2)), [-1, 4, 3], atol=1e-5)


def test_a_smooth_union_holds_both_parts():
    a, b = np.float32([1.0, -2.0, 0.5]), np.float32([-3.0, 6.0, 0.5])
    joined = smooth_min(a, b, 2.0)
    assert (joined <= np.minimum(a, b)).all()
    # Equal distances gain a quarter of the fillet: 0.5 - 2 / 4 = 0.
    assert joined[2] == pytest.approx(0.0)


def test_a_head_position_comes_back_through_the_pose():
    center, anchor = np.array([11.0, -7.0, 23.0]), np.array([19.0, 1.0, 0.0])
    pose = Pose.draw(generator("pose"), center, anchor)
    np.testing.assert_allclose(pose.to_head(center)[0], anchor, atol=1e-5)
    head = np.array([[-19.0, 1, 0], [0, 40, -6], [30, -50, 20]])
    np.testing.assert_allclose(pose.to_head(pose.to_scanner(head)), head, atol=0.02)
    origin, spacing = np.array([-20.0, 3, 5]), np.array([2.0, 3, 5])
    grid = pose.head_on(origin, spacing, (3, 5, 7))
    want = pose.to_head(origin + spacing * [2, 4, 6])[0]
    np.testing.assert_allclose([axis[2, 4, 6] for axis in grid], want, atol=1e-3)


def test_volumes_are_lognormal_about_the_published_median_and_in_its_range():
    rng = generator("volumes")
    volumes = np.array([draw_volume_ml(rng) for _ in range(2000)])
    assert volumes.min() >= SMALLEST_ML
    assert volumes.max() <= LARGEST_ML
    assert 1.15 < np.median(volumes) < 1.5  # redrawing above 11 ml lowers 1.4 a little
    assert 0.85 < np.log(volumes).std() < 1.15


@pytest.mark.parametrize("volume_ml", [0.04, 0.2, 1.4, 11.0])
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_procedural_tumor_has_its_volume_and_lies_at_the_canal(volume_ml, side):
    rng = generator("tumor", volume_ml, side)
    canal = Canal.draw(rng, side)
    lattice = draw_tumor(rng, volume_ml, canal.porus, canal.fundus)
    assert volume_mm3(lattice) == pytest.approx(1000 * volume_ml, rel=0.01)
    inside = lattice.origin_ras + lattice.spacing_mm * np.argwhere(lattice.values < 0)
    nearest = np.linalg.norm(inside - canal.porus, axis=1).min()
    assert nearest < np.linalg.norm(canal.fundus - canal.porus)
    assert (inside[:, 0] * side).max() < abs(canal.fundus[0]) + 6
    # Nothing touches the lattice's border, where it would be cut.
    assert min(lattice.values[0].min(), lattice.values[-1].min()) > 0


def test_stacked_circles_enclose_a_cylinder():
    # Radius 8 mm, 11 planes 1.5 mm apart: pi * 64 * 16.5 = 3318 mm3. The two ends are rounded off
    # within half a step (0.75 mm) each, which takes a few percent.
    outlines = [circle(8, 1.5 * n) for n in range(11)]
    lattice = outline_lattice(as_ras(outlines))
    assert 0.97 < fine_volume_mm3(lattice) / (np.pi * 64 * 16.5) < 1.0
    # One plane in the middle, without ends: pi * 64 = 201 mm2.
    area = (lattice.at(plane(7.5), 9.0) < 0).sum() * 0.04
    assert area == pytest.approx(np.pi * 64, rel=0.01)
    np.testing.assert_allclose(lattice.at(points((0, 0, 7.5)), 9.0), -8, atol=0.5)
    np.testing.assert_allclose(lattice.at(points((11, 0, 7.5)), 9.0), 3, atol=0.3)


def test_stacked_squares_with_a_hole_enclose_a_box_without_it():
    # Side 20 less side 8, 9 planes 2 mm apart: (400 - 64) * 18 = 6048 mm3, ends rounded.
    outlines = [o for n in range(9) for o in (square(10, 2.0 * n), square(4, 2.0 * n))]
    lattice = outline_lattice(as_ras(outlines))
    assert fine_volume_mm3(lattice) == pytest.approx(6048, rel=0.03)
    assert lattice.at(points((0, 0, 8)), 9.0)[0] > 0
    assert lattice.at(points((7, 0, 8)), 9.0)[0] < 0


def test_a_missing_plane_is_filled_from_its_neighbors():
    whole = outline_lattice(as_ras([circle(6, 1.5 * n) for n in range(7)]))
    holed = outline_lattice(as_ras([circle(6, 1.5 * n) for n in range(7) if n != 3]))
    assert volume_mm3(holed) == pytest.approx(volume_mm3(whole), rel=0.01)


@pytest.fixture
def contours(tmp_path):
    """Write outlines of three subjects; LPS -x is the patient's right."""
    rows = [
        {
            "subject": f"sub-{n:03d}",
            "split": split,
            "structures": {
                "tumour": [square(4, 1.5 * k, (side * 20, 30)) for k in range(5)],
                "cochlea": [square(1, 3.0, (side * 30, 25)), square(1, 3.0, (-side * 30, 25))],
            },
        }
        for n, split, side in ((1, "training", -1), (2, "validation", 1), (3, "training", 1))
    ]
    path = tmp_path / "contours.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    return path


def test_outlines_are_read_by_split_and_turned_to_ras(contours):
    training = read_outlines(contours, "training")
    assert [o.case_id for o in training] == ["VS-001", "VS-003"]
    assert len(read_outlines(contours)) == 3
    right = training[0]
    # LPS (-20, 30, z) is RAS (20, -30, z); the cochlea is the one of the tumor's side.
    np.testing.assert_allclose(np.concatenate(right.tumor_ras).mean(0), [20, -30, 3])
    np.testing.assert_allclose(right.cochlea_ras, [30, -25, 3])


def test_outlines_that_cannot_be_used_are_refused_with_a_reason(contours, tmp_path):
    with pytest.raises(ValueError, match=r"a split is one of training, .* got 'train'"):
        read_outlines(contours, "train")
    with pytest.raises(ValueError, match=r"'test' were wanted, but .* holds training, validation"):
        read_outlines(contours, "test")
    with pytest.raises(ValueError, match=r"No such file"):
        read_outlines(tmp_path / "missing.jsonl")
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{nothing")
    with pytest.raises(ValueError, match="outlines were wanted as JSON lines"):
        read_outlines(bad)
    bad.write_text('{"subject": "sub-1", "structures": {}}')
    with pytest.raises(ValueError, match=r"needs subject, split and structures .* 'tumour'"):
        read_outlines(bad)
    flat = {"subject": "s", "structures": {"tumour": [[[0, 0], [1, 1], [1, 0]]]}}
    bad.write_text(json.dumps(flat))
    with pytest.raises(ValueError, match="at least three LPS points"):
        read_outlines(bad)
    triangle = [[0, 0, 0], [1, 1, 0], [1, 0, 0]]
    for subject in ("../../outside/x", "/etc/x", "sub 1", "..", ".hidden", "", "a\n"):
        row = {"subject": subject, "structures": {"tumour": [triangle]}}
        bad.write_text(json.dumps(row))
        with pytest.raises(ValueError, match=r"a subject of letters, digits, _, \. and -, not"):
            read_outlines(bad)
    bad.write_text(json.dumps({"subject": "sub-1", "structures": {"tumour": []}}))
    with pytest.raises(ValueError, match=r"sub-1 .* has no tumour outline"):
        read_outlines(bad)


@pytest.mark.parametrize("seed", range(8))
def test_no_tumor_is_darker_on_t2_than_the_brainstem(seed):
    rng = np.random.default_rng(seed)
    contrast = Contrast.draw(rng)
    sdf = draw_tumor(rng, 0.8, np.array([12.0, -8.0, 0.0]), np.array([22.0, -8.0, 0.0]))
    look = draw_appearance(sdf, contrast, "t2", seed)
    solid = np.median(look.t2.values[sdf.values < 0])
    assert contrast["stem"][1] < solid < contrast["csf"][1] + 0.1
