import pytest

from clickseg.evaluation.summary import by_study, compare, summarize
from clickseg.evaluation.table import as_markdown, caption_of


def a_result(study, method, dice, label_ml=1.0, **changes):
    scores = [
        {
            "dice": value,
            "iou": value / (2 - value),
            "precision": 1.0,
            "recall": None,
            "hd95_mm": 2.0,
            "surface_dice": 0.5,
            "volume_error_ml": -0.5,
            "volume_error_share": -0.25,
            "diameter_error_mm": 1.0,
        }
        for value in dice
    ]
    result = {
        "study": study,
        "method": method,
        "label_ml": label_ml,
        "scores": scores,
        "clicks": [{}] * (len(dice) - 1),
        "changed_outside": [0] * (len(dice) - 1),
        "disobeyed": 0,
        "click_ms": [10.0] * (len(dice) - 1),
    }
    return result | changes


RESULTS = [
    a_result("a", "ours", [0.6, 0.9, 0.96]),
    a_result("b", "ours", [0.8, 0.79]),  # nothing wrong that could be clicked: the last stays
    a_result("a", "other", [0.6, 0.5, 0.4], changed_outside=[0, 7], disobeyed=1),
    a_result("b", "other", [0.8, 0.86, 0.86]),
]


def test_means_are_over_studies():
    ours = summarize(RESULTS, 2)["methods"]["ours"]
    assert ours["dice"] == [0.7, 0.845, 0.875]
    assert ours["worst_decile"] == [0.6, 0.79, 0.79]
    assert ours["noc"] == {"0.85": 1.5, "0.90": 1.5, "0.95": 2.0}
    assert ours["nof"] == {"0.85": 1, "0.90": 1, "0.95": 1}
    assert ours["harm_rate"] == pytest.approx(1 / 3, abs=1e-4)  # one of three clicks
    assert ours["auc"] == pytest.approx(((0.75 + 0.93) / 2 + (0.795 + 0.79) / 2) / 2, abs=1e-4)
    assert ours["volume_error_ml"] == [0.5, 0.5]
    assert ours["recall"] == [None, None]


def test_the_worst_decile_is_a_tenth_of_the_studies_rounded_up():
    studies = [a_result(str(n), "ours", [n / 100, 0.9 - n / 100]) for n in range(21)]
    ours = summarize(studies, 1)["methods"]["ours"]
    # Three of 21: 0, 1 and 2 at first, then the last three; neither the worst one nor all.
    assert ours["worst_decile"] == [0.01, 0.71]


def test_what_a_method_breaks_is_counted():
    other = summarize(RESULTS, 2)["methods"]["other"]
    assert (other["changed_outside"], other["disobeyed"], other["click_ms"]) == (7, 1, 10)


def test_methods_are_compared_by_pairs():
    methods = summarize(RESULTS, 2)["methods"]
    assert "p_against_ours" not in methods["ours"]
    p = methods["other"]["p_against_ours"]
    assert p["dice_after_0"] == 1  # equal pairs
    assert p["dice_after_1"] == 1  # one better, one worse by another amount: the exact test
    assert set(p) == {"pairs", "same_start", "dice_after_0", "dice_after_1", "noc_0.95"}
    assert (p["pairs"], p["same_start"]) == (2, True)


def test_the_test_sees_a_difference_that_is_always_there():
    pairs = [
        a_result(str(n), name, [0.5, 0.8 + gain + n / 100])
        for n in range(9)
        for name, gain in (("ours", 0.05), ("other", 0.0))
    ]
    p = summarize(pairs, 1)["methods"]["other"]["p_against_ours"]
    assert p["dice_after_1"] == pytest.approx(2 / 2**9, rel=0.01)


def test_clicks_needed_are_compared_exactly_where_most_are_the_same():
    pairs = [
        a_result(str(n), name, [0.5, 0.96 if name == "ours" or n >= 4 else 0.9, 0.97])
        for n in range(20)
        for name in ("ours", "other")
    ]
    p = summarize(pairs, 2)["methods"]["other"]["p_against_ours"]
    assert p["noc_0.95"] == 0.125  # 2 / 2**4: four differ, all one way
    assert p["dice_after_1"] == 0.125
    assert (p["dice_after_0"], p["same_start"]) == (1, True)


def test_what_is_kept_of_each_study():
    healthy = a_result("c", "ours", [1.0], label_ml=0)
    rows = by_study([*RESULTS, healthy], 2)
    assert list(rows) == ["ours", "other"]
    assert list(rows["ours"]) == ["a", "b"]  # no tumor, no Dice
    assert rows["ours"]["b"] == {
        "dice": [0.8, 0.79, 0.79],
        "clicks_to": {"0.85": None, "0.90": None, "0.95": None},
        "harm": 1,
    }
    assert rows["ours"]["a"]["clicks_to"] == {"0.85": 1, "0.90": 1, "0.95": 2}
    assert compare(rows["ours"], {"a": rows["other"]["a"]}, 2)["pairs"] == 1
    assert compare(rows["ours"], {}, 2)["noc_0.95"] is None


def test_studies_without_a_tumor_count_apart():
    healthy = a_result("c", "ours", [0.0], label_ml=0)
    healthy["scores"][0]["volume_error_ml"] = 0.3
    summary = summarize([*RESULTS[:2], healthy, a_result("d", "ours", [1.0], 0)], 2)
    ours = summary["methods"]["ours"]
    assert summary["studies"] == 4
    assert ours["dice"][0] == 0.7
    assert ours["tumor_free"]["studies"] == 2
    assert ours["tumor_free"]["with_false_positive"] == 2  # both errors are not 0


def test_the_table_has_a_row_a_method():
    summary = summarize(RESULTS, 2)
    summary["methods"]["ours"]["train_minutes"] = 121.4
    table = as_markdown(summary, "Two studies.")
    rows = [line for line in table.splitlines() if line.startswith("| ours")]
    assert rows == [
        "| ours | 0.700 | 0.845 | 0.790 | 1.50 | 1.50 | 2.00 "
        "| 1 | 0.816 | 0.333 | 0 | 0 | 10 | 121 |"
    ]
    assert table.startswith("Two studies.")
    assert "Paired Wilcoxon" in table


def test_the_caption_tells_what_made_the_summary():
    summary = {
        "plan": {"robot": "center", "seed": 3, "versions": {"ours": "abc def"}, "trained_on": {}},
        "command": "clickseg evaluate --clicks 2",
        "machine": {"processor": "one", "cores": 2},
    }
    caption = caption_of(summary)
    assert caption.startswith("`clickseg evaluate --clicks 2`\n\n")
    assert caption.endswith(
        "robot: center, seed: 3. Weights and settings: ours abc def. processor: one, cores: 2."
    )
    assert "versions" in summary["plan"]  # left alone
