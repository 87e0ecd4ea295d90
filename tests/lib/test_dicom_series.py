"""Which series is the T1ce and which the T2: on real descriptions, and on all that lies beside."""

import gzip
import json
import os
import random
import re
import zlib
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from clickseg.config import ConfigError
from clickseg.dicom.mr import headers_of, write_series
from clickseg.dicom.read import read_headers
from clickseg.dicom.rules import RULES, load_rules
from clickseg.dicom.series import SeriesFacts, facts_of, find_pair
from clickseg.geometry import Grid
from clickseg.volume import ImageError, Volume

OUTLINES = Path(
    os.environ.get("VS_SHAPES", Path(__file__).parents[3] / "shared" / "vs-shapes")
) / "contours.jsonl.gz"  # fmt: skip


@pytest.fixture(scope="module")
def rules():
    return load_rules()


def series(description, sequence="", *, agent="", te=None, tr=None, **facts):
    given = {
        "uid": f"1.2.{zlib.crc32(description.encode())}",
        "modality": "MR",
        "description": description,
        "sequence_name": sequence,
        "contrast_agent": agent,
        "echo_time_ms": te,
        "repetition_time_ms": tr,
        "rows": 448,
        "columns": 448,
        "slices": 80,
        "spacing_mm": (0.4, 0.4, 1.5),
        "slice_thickness_mm": 1.5,
        "orientation": "axial",
        "image_type": ("ORIGINAL", "PRIMARY", "M", "ND"),
        "frame_of_reference_uid": "1.2.3",
    }
    return SeriesFacts(**(given | facts))


T1 = series("t1_fl3d_tra_gk_v1", "*fl3d1", te=4.1, tr=25.0)
T2 = series("t2_ci3d_tra_1.5mm_v2_448", "*ci3d1", te=4.2, tr=9.4)
DERIVED = ("DERIVED", "SECONDARY", "MPR", "CSA MPR")

BESIDE = [  # what else a study has: never T1ce, never T2
    series("localizer", "*fl2d1", slices=11, orientation="mixed"),
    series("AAHead_Scout_64ch-head-coil", "*fl3d1_ns", slices=128),
    series("AAHScout_MPR_sag", "*fl3d1_ns"),
    series("Loc t1", slices=15),
    series("t1_loc", "*fl2d1", slices=3),
    series("3-plane survey T1", slices=9),
    series("ep2d_diff_3scan_trace_p2", "*ep_b0_1000", te=90, tr=5000),
    series("ep2d_diff_3scan_trace_p2_ADC", "*ep_b0_1000", te=90, tr=5000),
    series("Apparent Diffusion Coefficient (mm2/s)", te=90, tr=5000),
    series("DWI b1000", te=80, tr=4500),
    series("untitled", "*ep2d1", te=90, tr=5000),
    series("t1_fl3d_tra_SUB", "*fl3d1", agent="Gadovist"),
    series("Subtraction t1 post-pre", "*fl3d1"),
    series("t1_sub", "*fl3d1"),
    series("t1_fl3d_tra_pre", "*fl3d1"),
    series("T1 ax nativ", "*fl3d1"),
    series("t1_tse_tra ohne KM", "*tse2d1"),
    series("Ax T1 w/o contrast"),
    series("Ax T1 non-contrast"),
    series("t1_mprage_precontrast"),
    series("t2_tirm_tra_dark-fluid", "*tir2d1_16", te=90, tr=9000),
    series("Ax T2 FLAIR", te=120, tr=9000),
    series("t2_space_dark-fluid_sag", "*spcir_284ns", te=380, tr=5000),
    series("t2_fl2d_tra_hemo", "*fl2d1", te=25, tr=700),
    series("Ax T2* GRE", te=20, tr=600),
    series("TOF_3D_multi-slab", "*fl3d1r_t70", te=7, tr=22),
    series("SWI_Images", "*swi3d1r", te=20, tr=28),
    series("MIP t1 post", "*fl3d1"),
    series("Phoenix t1 report", modality="SR", slices=100),
    series("ax brain ct with contrast", modality="CT", agent="Omnipaque"),
    series("vs t1 segmentation", modality="SEG"),
    series("dynamic dce t1", "*fl3d1"),
]


def test_the_series_of_all_patients_are_told_apart(rules):
    if not OUTLINES.is_file():
        pytest.skip("the outlines of real tumors (vs-shapes) are not here")
    with gzip.open(OUTLINES, "rt") as lines:
        patients = [json.loads(line)["series"] for line in lines]
    assert len(patients) > 190
    for told in patients:
        first, second = (
            series(
                told[key]["SeriesDescription"],
                told[key]["SequenceName"],
                spacing_mm=(0.4, 0.4, float(told[key]["SliceThickness"])),
            )
            for key in ("T1w", "T2w")
        )
        for order in ([first, second, *BESIDE], [*BESIDE, second, first]):
            pair = find_pair(order, rules)
            assert (pair.t1ce, pair.t2) == (first, second)


@pytest.mark.parametrize("other", BESIDE, ids=[facts.description for facts in BESIDE])
def test_what_is_neither_is_never_taken_even_alone(rules, other):
    assert find_pair([other, T1], rules).t2 is None
    with pytest.raises(ImageError, match="a series that is a T1ce was wanted"):
        find_pair([other, T2], rules)


@pytest.mark.parametrize(
    "t1ce",
    [
        series("T1 tra KM", "*tse2d1", agent="Dotarem"),
        series("Ax T1 +C"),
        series("AX 3D T1 POST"),
        series("AxT1 fs gd"),
        series("T1W_3D_TFE_CE"),
        series("sT1W_3D_TFE"),
        series("t1_mprage_sag_p2_iso", "*tfl3d1_16ns", orientation="sagittal"),
        series("Sag CUBE T1 post"),
        series("Ax 3D BRAVO+C"),
        series("tl_fl3d_tra_gk_v1", "*fl3d1"),  # l for 1
        series("MRPAGE tra", "*tfl3d1"),  # a typo
        series("", "*fl3d1", agent="Gadolinium"),
        series("IAC postcontrast gad", te=11, tr=550),
        series("T1_gd", "*fl3d1", agent="no"),
        series("t1ce"),
        series("T1ce"),
    ],
    ids=lambda facts: facts.description or "none",
)
def test_t1ce_by_words_then_by_sequence_then_by_times(rules, t1ce):
    pair = find_pair([*BESIDE, T2, t1ce], rules)
    assert pair.t1ce is t1ce
    assert pair.t2 is T2


@pytest.mark.parametrize(
    "t2",
    [
        series("t2_tse3d_tra_v2_384", "*tseR3d1rs23", te=200, tr=1500),
        series("t2_ci3d_tra_1.5mm_v2_448_gad", "*ci3d1", agent="Gadolinium"),
        series("CISS 3D"),
        series("Ax FIESTA-C"),
        series("3DT2 DRIVE"),
        series("T2W_TSE"),
        series("sT2W_3D_TSE"),
        series("t_ci3d tra", "*ci3d1"),  # a digit left out
        series("tze_tra", "*tse2d1_15", te=100, tr=4000),
        series("T2"),
    ],
    ids=lambda facts: facts.description,
)
def test_t2_by_words_then_by_sequence_then_by_times(rules, t2):
    pair = find_pair([*BESIDE, t2, T1], rules)
    assert (pair.t1ce, pair.t2) == (T1, t2)


def test_the_t1_that_says_contrast_is_taken_before_one_that_says_nothing(rules):
    plain, agent = replace(T1, uid="1"), replace(T1, uid="2", contrast_agent="Gadovist")
    assert find_pair([plain, agent], rules).t1ce is agent
    for none in ("NONE", "N/A", "no", "0"):
        assert find_pair([agent, replace(plain, contrast_agent=none)], rules).t1ce is agent
    words = replace(T1, uid="3", description="t1_fl3d_tra_gk_v1_gad")
    assert find_pair([words, plain], rules).t1ce is words
    # what a scanner reformatted of the enhanced one does not lead to the plain original
    assert find_pair([plain, replace(agent, image_type=DERIVED)], rules).t1ce.uid == "2"


def test_an_original_is_taken_before_a_reformat_of_higher_resolution(rules):
    fine = (0.4, 0.4, 0.4)
    by_type = replace(T1, uid="9", image_type=DERIVED, spacing_mm=fine)
    by_word = replace(T1, uid="8", description="t1_fl3d_tra_gk_v1_S2_DIS3D", spacing_mm=fine)
    mpr = replace(T1, uid="7", description="t1_fl3d_tra MPR Range[2]", spacing_mm=fine)
    assert find_pair([by_type, by_word, mpr, T1], rules).t1ce is T1
    assert find_pair([by_word], rules).t1ce is by_word  # the only one
    t2_reformat = replace(T2, uid="6", image_type=DERIVED, spacing_mm=fine)
    assert find_pair([T1, t2_reformat, T2], rules).t2 is T2


def test_the_finer_of_two_is_taken_by_its_longest_edge(rules):
    coronal = replace(T1, uid="9", spacing_mm=(0.3, 0.3, 3.0), orientation="coronal")
    assert find_pair([coronal, T1], rules).t1ce is T1
    finer = replace(T1, uid="8", spacing_mm=(0.3, 0.3, 1.5))
    assert find_pair([T1, finer], rules).t1ce is finer
    unknown = replace(T1, uid="7", spacing_mm=None)
    assert find_pair([unknown, T1], rules).t1ce is T1


def test_the_t2_of_the_same_frame_is_taken_before_a_finer_one(rules):
    elsewhere = replace(T2, uid="9", frame_of_reference_uid="4.5", spacing_mm=(0.2, 0.2, 0.2))
    assert find_pair([elsewhere, T1, T2], rules).t2 is T2
    assert find_pair([elsewhere, T1], rules).t2 is elsewhere


def test_ambiguity_is_an_error_that_names_the_candidates(rules):
    again = replace(T1, uid="1.9", spacing_mm=(0.41, 0.4, 1.5))
    text = r"one series that is the T1ce was wanted, 2 may be: t1_fl3d_tra_gk_v1 .*1\.9\)"
    with pytest.raises(ImageError, match=text):
        find_pair([T1, again, T2], rules)
    with pytest.raises(ImageError, match=r"the T2 was wanted, 2 may be: .*; t2_ci3d.*1\.8\)"):
        find_pair([T1, T2, replace(T2, uid="1.8")], rules)


def test_a_study_without_t1ce_says_what_it_has(rules):
    with pytest.raises(ImageError, match="the study has: none at all"):
        find_pair([], rules)
    with pytest.raises(ImageError, match=r"the study has: without description \(80 slices, 5\)"):
        find_pair([series("", uid="5")], rules)
    with pytest.raises(ImageError, match="t1_fl3d_tra_gk_v1"):
        find_pair([replace(T1, slices=7)], rules)
    assert find_pair([replace(T1, slices=8)], rules).t2 is None


def test_the_order_of_series_does_not_matter(rules):
    study = [*BESIDE, T1, T2, replace(T1, uid="9", contrast_agent="Gd"), replace(T2, uid="8",
             image_type=DERIVED)]  # fmt: skip
    pairs = set()
    for seed in range(20):
        shuffled = random.Random(seed).sample(study, len(study))
        pair = find_pair(shuffled, rules)
        pairs.add((pair.t1ce.uid, pair.t2.uid))
    assert pairs == {("9", T2.uid)}


def test_facts_are_read_from_a_series(tmp_path):
    grid = Grid((13, 11, 9), np.diag([-0.4, -0.5, 1.5, 1]))
    t1ce, t2 = headers_of("VS-001")
    files = write_series(Volume(np.ones(grid.shape, np.int16), grid), tmp_path / "s", t1ce)
    facts = facts_of(read_headers(files))
    assert facts == SeriesFacts(
        uid=t1ce.series_uid,
        modality="MR",
        description="t1_fl3d_tra_gk_v1",
        sequence_name="*fl3d1",
        contrast_agent="Gadolinium",
        echo_time_ms=4.1,
        repetition_time_ms=25.0,
        rows=11,
        columns=13,
        slices=9,
        spacing_mm=(0.4, 0.5, 1.5),
        slice_thickness_mm=1.5,
        orientation="axial",
        image_type=("ORIGINAL", "PRIMARY", "OTHER"),
        frame_of_reference_uid=t1ce.frame_of_reference_uid,
    )
    one = read_headers(files[4:5])
    assert facts_of(one, slices=9) == facts
    some = read_headers([files[0], files[4], files[8]])  # 6 mm apart
    assert facts_of(some, slices=9) == facts
    other = read_headers(
        write_series(Volume(np.ones(grid.shape, np.int16), grid), tmp_path / "t", t2)
    )
    pair = find_pair([facts_of(other), facts], load_rules())
    assert (pair.t1ce, pair.t2) == (facts, facts_of(other))
    del one[0].PixelSpacing
    one[0].EchoTime = None
    bare = facts_of(one)
    assert (bare.spacing_mm, bare.orientation) == (None, "")
    assert (bare.echo_time_ms, bare.slices) == (None, 1)
    del other[0].Rows
    other[0].NumberOfFrames = None
    bare = facts_of(other[:1])
    assert (bare.spacing_mm, bare.rows, bare.slices) == (None, 0, 1)


def test_slices_of_several_orientations_are_mixed(tmp_path):
    axial = np.diag([-1, -1, 1, 1])
    grids = [axial, axial[[0, 2, 1, 3]]]  # the second runs along R, S, A
    headers = []
    for n, affine in enumerate(grids):
        volume = Volume(np.ones((3, 3, 3), np.int16), Grid((3, 3, 3), affine))
        headers += read_headers(write_series(volume, tmp_path / str(n), headers_of("a")[0]))
    assert facts_of(headers[:3]).orientation == "axial"
    assert facts_of(headers[3:]).orientation == "coronal"
    assert facts_of(headers).orientation == "mixed"


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda v: v.update(mode=1), "mode: Unexpected keyword argument"),
        (lambda v: v["t1ce"]["evidence"].append({}), "evidence names at least one attribute"),
        (lambda v: v["t2"]["prefer"].append("size"), "t2.prefer.3"),
        (lambda v: v["contrast"].append("("), "a regular expression was wanted"),
        (lambda v: v.pop("t2"), "t2: Field required"),
    ],
)
def test_wrong_rules_are_refused(tmp_path, edit, text):
    values = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    edit(values)
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=text):
        load_rules(path)


def patterns_in(value):
    """Return all regular expressions within the rules."""
    if isinstance(value, re.Pattern):
        return [value.pattern]
    if is_dataclass(value):
        value = tuple(getattr(value, one.name) for one in fields(value))
    return [text for part in value for text in patterns_in(part)] if type(value) is tuple else []


def test_no_pattern_waits_for_a_character_that_was_made_a_blank(rules):
    patterns = patterns_in(rules)
    assert len(patterns) > 60
    assert [text for text in patterns if re.search(r"[_/-]|\\\.", text)] == []


def test_the_rules_of_configs_are_those_of_the_package():
    assert (Path(__file__).parents[2] / "configs" / "series-rules.yaml").resolve() == RULES
