import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickseg.choosing.order import ORDERS, Pool
from clickseg.choosing.scores import StudyScores


def scored(uncertainty=0.0, disagreement=0.0, feature=None):
    return StudyScores(uncertainty, disagreement, feature)


def on_a_line(**places):
    return {name: scored(feature=(float(place), 0.0)) for name, place in places.items()}


def order(name, *args, **kwargs):
    return list(ORDERS[name](Pool(*args, **kwargs)))


def test_first_goes_by_id():
    assert order("first", ["c", "a", "b"]) == ["a", "b", "c"]


def test_the_most_uncertain_and_the_most_disputed_come_first():
    scores = {"a": scored(0.2, 0.9), "b": scored(0.7, 0.1), "c": scored(0.2, 0.5)}
    waiting = ["d", "c", "b", "a"]
    assert order("uncertainty", waiting, scores=scores) == ["b", "a", "c", "d"]  # a tie goes by id
    assert order("disagreement", waiting, scores=scores) == ["a", "c", "b", "d"]


def test_diversity_takes_the_farthest_from_all_that_came_before():
    # Labeled at 0. Distances: a 1, b 4, c 10, d 6. c; then a 1, b 4, d 4: b by id; then a 1, d 2.
    scores = on_a_line(labeled=0, a=1, b=4, c=10, d=6)
    assert order("diversity", ["d", "c", "b", "a"], ["labeled"], scores) == ["c", "b", "d", "a"]


def test_diversity_without_labels_begins_with_the_most_ordinary():
    # The mean of 0, 1, 2, 9 is 3: c is nearest. Then d is 7 off; then a 2, b 1.
    scores = on_a_line(a=0, b=1, c=2, d=9)
    assert order("diversity", ["a", "b", "c", "d"], scores=scores) == ["c", "d", "a", "b"]


def test_similar_takes_the_nearest_to_any_labeled():
    scores = on_a_line(x=0, y=10, a=3, b=9, c=5)
    assert order("similar", ["a", "b", "c"], ["x", "y"], scores) == ["b", "a", "c"]
    # Without labels the nearest to the mean of 3, 5, 9, which is 5.67.
    assert order("similar", ["a", "b", "c"], scores=scores) == ["c", "a", "b"]


def test_random_adds_the_ranks_of_uncertainty_and_distance():
    scores = on_a_line(labeled=0) | {
        "a": scored(0.9, feature=(1.0, 0.0)),
        "b": scored(0.8, feature=(8.0, 0.0)),
        "c": scored(0.1, feature=(9.0, 0.0)),
    }
    # Ranks: a 3 + 1, b 2 + 2, c 1 + 3: all 4, so a by id. Left, distances b 7, c 8 (to a, to the
    # labeled 8, 9): b 2 + 1, c 1 + 2: b by id.
    assert order("random", ["c", "b", "a"], ["labeled"], scores) == ["a", "b", "c"]
    scores["b"] = scored(0.95, feature=(8.0, 0.0))  # now a 2 + 1, b 3 + 2, c 1 + 3
    # Then a is 1 from the labeled one, c 1 from b: both 1.5; a is the more uncertain.
    assert order("random", ["c", "b", "a"], ["labeled"], scores) == ["b", "a", "c"]


def test_random_passes_over_a_twin_of_what_came_before():
    twin = (0.0, 1.0)
    scores = {
        "a": scored(0.9, feature=twin),
        "b": scored(0.8, feature=twin),
        "c": scored(0.7, feature=(1.0, 0.0)),
        "d": scored(0.1, feature=twin),
    }
    # Nothing is labeled: a by uncertainty. Then b 3 + 1.5, c 2 + 3, d 1 + 1.5.
    assert order("random", "abcd", scores=scores) == ["a", "c", "b", "d"]


def test_random_without_features_is_uncertainty():
    scores = {"a": scored(0.2), "b": scored(0.7), "c": scored(0.5)}
    assert order("random", "abc", scores=scores) == ["b", "c", "a"]


def test_random_takes_a_study_without_outline_for_uncertain_but_not_for_unlike():
    scores = on_a_line(labeled=0) | {"lost": scored(1.0), "a": scored(0.5, feature=(2.0, 0.0))}
    scores["b"] = scored(0.6, feature=(9.0, 0.0))
    # lost 3 + 1, a 1 + 2, b 2 + 3; then lost 2 + 1, a 1 + 2: a by id.
    assert order("random", ["lost", "a", "b"], ["labeled"], scores) == ["b", "a", "lost"]


def test_random_without_scores_is_the_shuffle():
    names = [f"study-{n:03}" for n in range(50)]
    assert order("random", names) == order("shuffle", names) != names


def test_a_shuffle_keeps_its_order_where_a_study_leaves():
    names = [f"study-{n:03}" for n in range(50)]
    whole = order("shuffle", names, seed=3)
    assert order("shuffle", names, seed=4) != whole
    assert order("shuffle", names[10:], seed=3) == [n for n in whole if n in names[10:]]


def test_what_is_labeled_is_known_by_its_feature_alone():
    scores = on_a_line(a=1, b=5)
    assert order("diversity", ["a", "b"], ["never scored"], scores) == ["a", "b"]


@pytest.mark.parametrize("name", ORDERS)
def test_an_empty_pool_has_no_order(name):
    assert order(name, [], ["labeled"], on_a_line(labeled=0)) == []


@given(st.data())
def test_every_waiting_study_comes_once_and_the_unscored_last(data):
    names = data.draw(st.lists(st.text("ab1-é", max_size=3), unique=True, max_size=12))
    split = data.draw(st.integers(0, len(names)))
    waiting, labeled = names[:split], names[split:]
    numbers = st.floats(0, 1)
    features = st.none() | st.tuples(numbers, numbers, numbers)
    scores = data.draw(
        st.dictionaries(
            st.sampled_from(names) if names else st.nothing(),
            st.builds(StudyScores, numbers, numbers, features),
        )
    )
    for name in ORDERS:
        found = order(name, waiting, labeled, scores)
        assert sorted(found) == sorted(waiting)
        assert found == order(name, waiting[::-1], labeled[::-1], scores)
        if name in ("random", "uncertainty", "disagreement"):
            known = [study in scores for study in found]
            assert known == sorted(known, reverse=True)


def test_diversity_covers_a_plane_as_well_as_any_order_begun_alike():
    """Greedy k-centers are at most twice as far from the rest as the best possible ones."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(9, 2))
    scores = {str(n): scored(feature=tuple(p)) for n, p in enumerate(points)}
    chosen = [int(name) for name in order("diversity", list(scores), scores=scores)[:3]]

    def radius(centers):
        return np.linalg.norm(points[:, None] - points[list(centers)], axis=2).min(1).max()

    best = min(radius((a, b, c)) for a in range(9) for b in range(9) for c in range(9))
    assert radius(chosen) <= 2 * best
