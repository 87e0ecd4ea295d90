"""Next Sample on pools made by hand: what is offered, and what never is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickseg.choosing.order import ORDERS
from clickseg.choosing.scores import StudyScores
from clickseg_app.strategy import (
    ANONYMOUS,
    DESCRIPTIONS,
    RESERVED_S,
    Offer,
    make_strategies,
    offers_of,
)

NOW_S = 1_000_000.0


class Store:
    """A datastore as MONAI Label's: image infos, some of the images with an accepted label."""

    def __init__(self, infos, labeled=()):
        self.infos, self.labeled = infos, set(labeled)

    def get_unlabeled_images(self):
        return [name for name in self.infos if name not in self.labeled]

    def get_labeled_images(self):
        return sorted(self.labeled)

    def get_image_info(self, name):
        return self.infos[name]


def offered(client, age_s, strategy="random"):
    return {"strategy": {strategy: {"ts": int(NOW_S - age_s), "client_id": client}}}


def ask(name, store, client="me", scores=None):
    task = Offer(name, lambda: scores or {}, lambda: NOW_S)
    request = {"strategy": name} | ({"client_id": client} if client else {})
    answer = task(request, store)
    return None if answer is None else answer["id"]


def test_every_order_is_a_strategy_that_says_what_it_does():
    strategies = make_strategies(dict)
    assert list(strategies) == list(ORDERS) == list(DESCRIPTIONS)
    assert strategies["random"].info()["description"].startswith("The default")


@pytest.mark.parametrize("name", ORDERS)
def test_an_empty_pool_has_no_answer(name):
    assert ask(name, Store({})) is None
    assert ask(name, Store({"a": {}}, labeled=["a"])) is None


@pytest.mark.parametrize("name", ORDERS)
def test_what_another_client_is_at_is_not_offered_by_any_strategy(name):
    infos = {"a": offered("other", 60, "first"), "b": {}}
    assert ask(name, Store(infos)) == "b"
    assert ask(name, Store({"a": infos["a"]})) is None
    assert ask(name, Store({"a": infos["a"]}), client=None) is None


@pytest.mark.parametrize(("age_s", "answer"), [(RESERVED_S - 1, None), (RESERVED_S, "a")])
def test_a_reservation_ends_after_half_an_hour(age_s, answer):
    assert ask("first", Store({"a": offered("other", age_s)})) == answer


def test_the_same_client_gets_its_own_again_if_there_is_no_other():
    assert ask("random", Store({"a": offered("me", 60)})) == "a"


def test_a_viewer_without_an_id_is_the_one_that_monai_label_notes():
    store = Store({"a": offered(ANONYMOUS, 60)})
    assert ask("random", store, client=None) == "a"
    assert ask("random", store, client="me") is None


@pytest.mark.parametrize("sent", [None, ""])
def test_an_id_that_is_noted_as_nothing_is_as_none(sent):
    store = Store({"a": offered(sent, 60)})
    task = Offer("random", dict, lambda: NOW_S)
    assert task({"client_id": sent}, store) == {"id": "a"}
    assert ask("random", store, client=None) == "a"
    assert ask("random", store, client="me") is None


def test_asking_again_goes_on_and_in_the_end_around():
    infos = {name: {} for name in "abc"}
    doubts = {"a": 0.2, "b": 0.9, "c": 0.5}
    scores = {name: StudyScores(doubt, 0, None) for name, doubt in doubts.items()}
    seen = []
    for age_s in (50, 40, 30):
        seen.append(ask("uncertainty", Store(infos), scores=scores))
        infos[seen[-1]] = offered("me", age_s)
    assert seen == ["b", "c", "a"]
    assert ask("uncertainty", Store(infos), scores=scores) == "b"  # offered longest ago


def test_first_stays_at_the_first():
    assert ask("first", Store({"a": offered("me", 60), "b": {}})) == "a"


def test_what_another_client_is_at_counts_as_labeled():
    scores = {
        name: StudyScores(0.5, 0.5, (place, 0.0))
        for name, place in {"a": 0.0, "b": 1.0, "busy": 9.0, "c": 8.0}.items()
    }
    infos = {name: {} for name in scores} | {"busy": offered("other", 60)}
    # Labeled: a. Without the busy one c would be the farthest; with it b is 1 off, c 1: b by id.
    assert ask("diversity", Store(infos, labeled=["a"]), scores=scores) == "b"
    assert ask("diversity", Store(infos | {"busy": {}}, labeled=["a"]), scores=scores) == "busy"


@pytest.mark.parametrize("hidden", ["t2/a", "../a", ".a", "", "a\\b"])
def test_what_is_no_image_at_the_top_is_not_offered(hidden):
    for name in ORDERS:
        assert ask(name, Store({hidden: {}})) is None


JUNK = [
    {"strategy": None},
    {"strategy": []},
    {"strategy": {"random": None}},
    {"strategy": {"random": {}}},
    {"strategy": {"random": {"ts": "yesterday", "client_id": "other"}}},
    {"strategy": {"random": {"ts": NOW_S + 10 * RESERVED_S, "client_id": "other"}}},
]


@pytest.mark.parametrize("info", JUNK)
def test_a_note_that_is_none_reserves_nothing(info):
    assert offers_of(info, NOW_S) == []
    assert ask("random", Store({"a": info})) == "a"


clients = st.sampled_from(["me", "you", ANONYMOUS, None])
ages_s = st.integers(-10, 2 * RESERVED_S)
notes = st.dictionaries(st.sampled_from(list(ORDERS)), st.tuples(clients, ages_s), max_size=3)
infos = st.builds(
    lambda noted: {
        "strategy": {
            name: {"ts": int(NOW_S - age_s), "client_id": client}
            for name, (client, age_s) in noted.items()
        }
    },
    notes,
)
unit = st.floats(0, 1)
some_scores = st.builds(StudyScores, unit, unit, st.none() | st.tuples(unit, unit))
names = st.sampled_from(["a", "b", "c", "d", "e", "t2/a", ".b"])


@given(
    st.dictionaries(names, infos, max_size=7),
    st.sets(names),
    st.dictionaries(names, some_scores),
    st.sampled_from(list(ORDERS)),
    clients,
)
def test_nothing_accepted_hidden_or_reserved_is_ever_offered(pool, labeled, scores, name, client):
    answer = ask(name, Store(pool, labeled), client, scores)
    me = client or ANONYMOUS

    def may_be_offered(image):
        entries = pool[image].get("strategy", {}).values()
        taken = any(
            (entry["client_id"] or ANONYMOUS) != me and abs(NOW_S - entry["ts"]) < RESERVED_S
            for entry in entries
        )
        return image not in labeled and not taken and image not in ("t2/a", ".b")

    allowed = [image for image in pool if may_be_offered(image)]
    assert answer in allowed if allowed else answer is None
