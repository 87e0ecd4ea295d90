import gzip
import os
import struct

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its documented name
from disk import full_disk
from hypothesis import given, settings
from strategies import affines

from clickseg import volume as volume_module
from clickseg.geometry import Grid, ijk_to_ras
from clickseg.resampling import resample
from clickseg.study import check_same_grid
from clickseg.volume import (
    ImageError,
    Volume,
    find_image,
    read_label,
    read_volume,
    stem_of,
    write_volume,
)

SHAPE = (37, 31, 23)
TURN = np.deg2rad(20)
AFFINES = {
    "ras": [[0.4, 0, 0, -7], [0, 0.5, 0, 3], [0, 0, 1.5, 11], [0, 0, 0, 1]],
    "lps": [[-0.4, 0, 0, 7], [0, -0.5, 0, -3], [0, 0, 1.5, 11], [0, 0, 0, 1]],
    "permuted": [[0, 0, 1.5, 11], [-0.4, 0, 0, 7], [0, 0.5, 0, 3], [0, 0, 0, 1]],
    "oblique": [
        [0.4 * np.cos(TURN), -0.5 * np.sin(TURN), 0, 1],
        [0.4 * np.sin(TURN), 0.5 * np.cos(TURN), 0, 2],
        [0, 0, -1.5, 3],
        [0, 0, 0, 1],
    ],
}
EXTENSIONS = (".nii.gz", ".nii", ".nrrd")


@pytest.fixture(params=AFFINES.values(), ids=AFFINES.keys())
def grid(request):
    return Grid(SHAPE, np.array(request.param))


@pytest.fixture
def image(grid):
    return Volume(np.random.default_rng(0).normal(100, 9, SHAPE).astype(np.float32), grid)


@pytest.fixture
def plain():
    array = np.random.default_rng(0).normal(100, 9, SHAPE).astype(np.float32)
    return Volume(array, Grid(SHAPE, np.array(AFFINES["ras"])))


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_what_is_written_is_read_back(tmp_path, image, extension):
    path = write_volume(tmp_path / "new" / f"a{extension}", image)
    back = read_volume(path)
    np.testing.assert_array_equal(back.array, image.array)
    assert back.grid == image.grid
    assert [path.name for path in path.parent.iterdir()] == [f"a{extension}"]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_itk_reads_the_same_voxels_at_the_same_places(tmp_path, image, extension):
    path = write_volume(tmp_path / f"a{extension}", image)
    read = sitk.ReadImage(str(path))
    assert read.GetPixel(5, 7, 11) == image.array[5, 7, 11]
    lps = np.array(read.TransformIndexToPhysicalPoint((5, 7, 11)))
    expected = (image.grid.affine @ [5, 7, 11, 1])[:3] * [-1, -1, 1]
    np.testing.assert_allclose(lps, expected, atol=1e-4)


def test_nibabel_reads_the_same_affine(tmp_path, image):
    path = write_volume(tmp_path / "a.nii.gz", image)
    np.testing.assert_allclose(nib.load(path).affine, image.grid.affine, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_the_kind_of_numbers_is_kept(tmp_path, plain, dtype):
    path = write_volume(tmp_path / "a.nrrd", Volume(plain.array.astype(dtype), plain.grid))
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(path))).dtype == dtype
    assert read_volume(path).array.dtype == np.float32


def test_compression_follows_the_format_or_the_wish(tmp_path, plain):
    zeros = Volume(np.zeros(SHAPE, np.uint8), plain.grid)
    sizes = {
        key: write_volume(tmp_path / f"a{key[0]}", zeros, key[1]).stat().st_size
        for key in ((".nii.gz", None), (".nii", None), (".nrrd", None), (".nrrd", True))
    }
    assert sizes[".nii.gz", None] < 1000
    assert sizes[".nii", None] > np.prod(SHAPE)
    assert sizes[".nrrd", None] > np.prod(SHAPE)
    assert sizes[".nrrd", True] < 1000


def test_a_path_that_is_no_text_is_refused(tmp_path, plain):
    path = write_volume(tmp_path / "a.nii.gz", plain)
    odd = path.rename(tmp_path / os.fsdecode(b"\xff.nii.gz"))
    with pytest.raises(ImageError, match=r"a path in UTF-8 was wanted, got .*udcff\.nii\.gz"):
        read_volume(odd)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_nor_is_one_written_to(tmp_path, plain, extension):
    odd = tmp_path / os.fsdecode(b"\xff" + extension.encode())
    with pytest.raises(ImageError, match=r"a path in UTF-8 was wanted, got .*udcff"):
        write_volume(odd, plain)
    assert not list(tmp_path.iterdir())


def test_a_label_is_zero_and_one(tmp_path, plain):
    array = np.zeros(SHAPE, np.int16)
    array[1, 2, 3], array[4, 5, 6] = 7, -2
    label = read_label(write_volume(tmp_path / "a.nii.gz", Volume(array, plain.grid)))
    assert label.array.dtype == np.uint8
    assert np.argwhere(label.array).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert label.array.max() == 1


def test_of_two_geometries_the_one_that_itk_takes_counts(tmp_path, plain):
    two = nib.Nifti1Image(plain.array, None)
    two.set_sform(np.array(AFFINES["oblique"]), 1)
    two.set_qform(np.array(AFFINES["lps"]), 1)
    path = tmp_path / "a.nii.gz"
    nib.save(two, path)
    read = sitk.ReadImage(str(path))
    lps = np.array(read.TransformIndexToPhysicalPoint((5, 7, 11)))
    ours = (read_volume(path).grid.affine @ [5, 7, 11, 1])[:3] * [-1, -1, 1]
    np.testing.assert_allclose(ours, lps, atol=1e-4)


def test_scaled_integers_are_read_as_what_they_mean(tmp_path):
    scaled = nib.Nifti1Image(np.arange(np.prod(SHAPE), dtype=np.int32).reshape(SHAPE), np.eye(4))
    scaled.header.set_slope_inter(0.5, 3)
    nib.save(scaled, tmp_path / "a.nii")
    on_disk = nib.load(tmp_path / "a.nii").get_fdata()
    np.testing.assert_allclose(read_volume(tmp_path / "a.nii").array, on_disk, rtol=1e-6)


def test_a_fourth_axis_of_one_is_no_fourth_axis(tmp_path, plain):
    nib.save(nib.Nifti1Image(plain.array[..., None], plain.grid.affine), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").array, plain.array)


def refused(path, text):
    with pytest.raises(ImageError, match=text):
        read_volume(path)


def test_what_is_no_image_is_refused(tmp_path):
    refused(tmp_path / "gone.nii.gz", r"there is no image gone\.nii\.gz")
    refused(tmp_path, "an image ends in one of")
    refused(tmp_path / "a.png", "an image ends in one of")
    empty, text = tmp_path / "empty.nii", tmp_path / "text.nii.gz"
    empty.touch()
    text.write_text("no image")
    refused(empty, r"empty\.nii is an empty file")
    refused(text, r"text\.nii\.gz cannot be read as an image")


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_truncated_file_is_refused(tmp_path, plain, extension):
    path = write_volume(tmp_path / f"a{extension}", plain)
    content = path.read_bytes()
    for share in (0.2, 0.9, 0.999):
        path.write_bytes(content[: int(share * len(content))])
        refused(path, "cannot be read as an image")


def test_four_axes_and_several_values_a_voxel_are_refused(tmp_path, plain):
    four = np.stack([plain.array, plain.array], axis=-1)
    nib.save(nib.Nifti1Image(four, np.eye(4)), tmp_path / "a.nii.gz")
    refused(tmp_path / "a.nii.gz", r"a\.nii\.gz is 4D .* a 3D image was wanted")
    vector = sitk.GetImageFromArray(np.zeros((5, 6, 7, 3), np.float32), isVector=True)
    sitk.WriteImage(vector, str(tmp_path / "b.nrrd"))
    refused(tmp_path / "b.nrrd", "3 values a voxel")
    flat = sitk.GetImageFromArray(np.zeros((5, 6), np.float32))
    sitk.WriteImage(flat, str(tmp_path / "c.nrrd"))
    refused(tmp_path / "c.nrrd", "2D")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, plain, value):
    plain.array[5, 7, 11] = value
    refused(write_volume(tmp_path / "a.nrrd", plain), "not finite")


def test_large_finite_values_are_not_taken_for_infinity(tmp_path, plain):
    plain.array[5, 7, 11] = 3e38
    assert read_volume(write_volume(tmp_path / "a.nrrd", plain)).array.max() > 1e38


def test_an_affine_that_cannot_be_inverted_is_refused(tmp_path):
    header = "NRRD0004\ntype: float\ndimension: 3\nspace: left-posterior-superior\n"
    header += "sizes: 2 2 2\nspace directions: (1,0,0) (2,0,0) (0,0,1)\n"
    header += "kinds: domain domain domain\nendian: little\nencoding: raw\n\n"
    path = tmp_path / "a.nrrd"
    path.write_bytes(header.encode() + bytes(32))
    refused(path, r"a\.nrrd")


def test_too_many_voxels_are_refused_by_the_header_alone(tmp_path, plain, monkeypatch):
    path = write_volume(tmp_path / "a.nii.gz", plain)
    monkeypatch.setattr(volume_module, "MAX_VOXELS", 1000)
    monkeypatch.setattr(volume_module, "_nifti_pixels", None)
    refused(path, "at most 1000 are allowed")


def test_a_file_that_unpacks_to_more_than_it_tells_is_refused(tmp_path, plain):
    path = write_volume(tmp_path / "a.nii.gz", plain)
    with gzip.open(path, "ab") as file:
        file.write(bytes(20 * plain.array.size + (1 << 20)))
    refused(path, r"holds more than the 26381 voxels")


def test_an_array_and_a_grid_of_other_shapes_are_refused(plain):
    with pytest.raises(ValueError, match="array is"):
        Volume(plain.array[:-1], plain.grid)


def test_a_failed_write_leaves_the_old_file(tmp_path, plain, monkeypatch):
    path = write_volume(tmp_path / "a.nrrd", plain)
    before = path.read_bytes()

    def fail(*_):
        raise RuntimeError("disk full")

    monkeypatch.setattr(volume_module.sitk, "WriteImage", fail)
    with pytest.raises(OSError, match=r"a\.nrrd cannot be written: disk full"):
        write_volume(path, plain)
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.nrrd"]


@pytest.mark.parametrize("room", [0, 1, 300, 20_000, -1], ids=lambda room: f"room {room}")
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_full_disk_leaves_the_old_file(tmp_path, plain, extension, compress, room):
    path = write_volume(tmp_path / f"a{extension}", plain, compress)
    before = path.read_bytes()
    with full_disk(room % len(before)), pytest.raises(OSError, match=rf"a{extension}"):
        write_volume(path, plain, compress)
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [f"a{extension}"]
    with full_disk(len(before)):  # just enough
        write_volume(path, plain, compress)


def test_the_id_is_the_name_without_its_ending(tmp_path):
    assert stem_of(tmp_path / "VS.1.nii.gz") == "VS.1"
    assert stem_of(tmp_path / "a.nii.nrrd") == "a.nii"


def test_an_image_is_found_by_its_id_in_any_format(tmp_path, plain):
    assert find_image(tmp_path / "nowhere", "a") is None
    path = write_volume(tmp_path / "a.nrrd", plain)
    assert find_image(tmp_path, "a") == path
    assert find_image(tmp_path, "b") is None


def test_a_ramp_stays_a_ramp_on_another_grid(grid):
    """Intensity 2 R + 3 A - S, sampled elsewhere, is still that: linear is exact on a ramp."""
    target = Grid(
        (11, 13, 7), np.array([[0, 0.7, 0, -2], [-0.6, 0, 0, 8], [0, 0, 1.1, 20.0], [0, 0, 0, 1]])
    )
    wide = np.array(grid.affine)
    center = target.affine @ [5, 6, 3, 1]
    wide[:3, 3] += (center - grid.affine @ [18, 15, 11, 1])[:3]

    def ramp(grid):
        ijk = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
        return (ijk @ grid.affine[:3, :3].T + grid.affine[:3, 3]) @ np.array([2.0, 3, -1])

    source = Grid(SHAPE, wide)
    moved, share = resample(Volume(ramp(source), source), target)
    expected = ramp(target)
    inside = moved != 0
    assert inside.mean() > 0.8
    assert share == pytest.approx(inside.mean(), abs=0.1)
    np.testing.assert_allclose(moved[inside], expected[inside], atol=1e-3)


def test_an_image_on_the_same_grid_is_not_resampled(plain):
    moved, share = resample(plain, plain.grid)
    assert moved is plain.array
    assert share == 1


def test_an_image_elsewhere_covers_nothing(plain):
    away = plain.grid.affine.copy()
    away[0, 3] += 1000
    moved, share = resample(plain, Grid(SHAPE, away))
    assert share == 0
    assert not moved.any()


@pytest.mark.parametrize("key", ["data file", "datafile", "DATA FILE", " data file"])
def test_an_nrrd_that_names_another_file_is_refused(tmp_path, key):
    """ITK would read the bytes of whatever file the header names."""
    secret = tmp_path / "secret.txt"
    secret.write_text("x" * 64)
    header = "NRRD0004\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 4 4\n"
    header += "space directions: (1,0,0) (0,1,0) (0,0,1)\nkinds: domain domain domain\n"
    header += f"encoding: raw\nspace origin: (0,0,0)\n{key}: {secret}\n\n"
    (tmp_path / "a.nrrd").write_text(header)
    with pytest.raises(ImageError, match="in another file"):
        read_volume(tmp_path / "a.nrrd")


def nrrd_header(*lines, end="\n"):
    first = ["NRRD0004", "type: uint8", "dimension: 3", "space: left-posterior-superior"]
    first += ["sizes: 4 4 4", "space directions: (1,0,0) (0,1,0) (0,0,1)"]
    first += ["kinds: domain domain domain", "encoding: raw", "space origin: (0,0,0)"]
    return end.join([*first, *lines, "", ""]).encode()


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (nrrd_header(*["# " + "x" * 1000] * 1100, "data file: {secret}"), "no header"),
        (nrrd_header("data file: {secret}", end="\r"), "no header"),
        (nrrd_header("content: a\rdata file: {secret}"), "no header"),
        (nrrd_header("content: a\r\r\ndata file: {secret}"), "no header"),
        (nrrd_header("data file: {secret}", end="\r\n"), "in another file"),
        (nrrd_header().removesuffix(b"\n"), "no header"),
    ],
    ids=["far down", "old line ends", "one old line end", "both", "windows", "no end"],
)
def test_no_header_hides_that_it_names_another_file(tmp_path, header, text):
    secret = tmp_path / "secret.raw"
    secret.write_bytes(bytes(range(64)))
    path = tmp_path / "a.nrrd"
    path.write_bytes(header.replace(b"{secret}", str(secret).encode()) + bytes(64))
    with pytest.raises(ImageError, match=text):
        read_volume(path)


def test_a_header_with_windows_line_ends_is_read(tmp_path):
    path = tmp_path / "a.nrrd"
    path.write_bytes(nrrd_header(end="\r\n") + bytes(range(64)))
    assert read_volume(path).array.ravel("F").tolist() == list(range(64))


@pytest.mark.parametrize(
    ("at", "form", "value", "text"),
    [
        (108, "<f", 0.0, "voxels begin at byte"),
        (108, "<f", 100.0, "cannot be read|voxels begin at byte"),
        (344, "4s", b"abcd", "cannot be read"),
        (116, "<f", float("nan"), "cannot be read|not finite"),
        (108, "<f", float("inf"), "cannot be read"),
        (46, "<h", 0, "cannot be read"),
    ],
    ids=["offset 0", "offset in the header", "magic", "intercept", "offset", "no slices"],
)
def test_a_damaged_nifti_header_is_told(tmp_path, plain, at, form, value, text):
    path = write_volume(tmp_path / "a.nii", plain)
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, 112, 1.0)  # a slope, so that the intercept counts
    struct.pack_into(form, content, at, value)
    path.write_bytes(content)
    refused(path, text)


def test_an_image_in_meters_is_refused(tmp_path, plain):
    grid = Grid(SHAPE, np.diag([400.0, 500.0, 1500.0, 1.0]))
    refused(write_volume(tmp_path / "a.nrrd", Volume(plain.array, grid)), "is its voxel size in mm")


def test_axes_that_are_not_at_right_angles_are_refused(tmp_path):
    header = "NRRD0004\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 4 4\n"
    header += "space directions: (1,0,0) (0.9,0.5,0) (0,0,1)\nkinds: domain domain domain\n"
    header += "encoding: raw\nspace origin: (0,0,0)\n\n"
    (tmp_path / "a.nrrd").write_bytes(header.encode() + bytes(range(64)))
    with pytest.raises(ImageError, match="right angles"):
        read_volume(tmp_path / "a.nrrd")


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_of_axes_nearly_at_right_angles_a_label_lies_on_the_grid(tmp_path, extension):
    """NIfTI as ITK writes it has right angles; on 448 voxels that was 0.2 mm."""
    shape = (448, 448, 20)
    affine = np.diag([0.5, 0.5, 1.5, 1.0])
    affine[0, 1] = 0.5 * 9e-4
    path = write_volume(
        tmp_path / "image.nrrd", Volume(np.ones(shape, np.uint8), Grid(shape, affine))
    )
    grid = read_volume(path).grid
    corners = np.array([[0, 0, 0], shape])
    moved_mm = ijk_to_ras(corners, grid.affine) - ijk_to_ras(corners, affine)
    assert np.abs(moved_mm).max() < 0.15
    label = write_volume(tmp_path / f"label{extension}", Volume(np.ones(shape, np.uint8), grid))
    check_same_grid(read_label(label), grid, "the label")


@given(affine=affines())
@settings(max_examples=25)
def test_an_image_on_any_grid_lands_where_it_lies_in_the_patient(affine):
    source = Grid(SHAPE, affine)

    def shown(grid):  # a slope, which linear interpolation keeps
        ijk = np.indices(grid.shape).reshape(3, -1).T
        return (ijk_to_ras(ijk, grid.affine) @ [1.0, -2.0, 0.5]).reshape(grid.shape)

    middle_ras = ijk_to_ras([(np.array(SHAPE) - 1) / 2], affine)[0]
    target = np.diag([0.3, 0.25, 0.5, 1.0])
    target[:3, 3] = middle_ras - [2.0, 1.5, 1.0]  # within even the smallest source
    grid = Grid((13, 11, 5), target)
    moved, overlap = resample(Volume(shown(source).astype(np.float32), source), grid)
    assert overlap == 1
    np.testing.assert_allclose(moved, shown(grid), atol=1e-2)
