"""Which image Next Sample offers: never an accepted one, nor one that another client is at.

MONAI Label notes in the info of an image when each strategy offered it, and to whom. For half an
hour that is a reservation: the image is offered to no other client, by whatever strategy. The
same client gets it again, but only after those that it has not just been offered, so that asking
again passes over a study; ``first`` alone stays at the first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from clickseg.choosing.order import ORDERS, Pool
from clickseg.choosing.scores import StudyScores
from clickseg_app.datastore import is_plain

RESERVED_S = 30 * 60
"""So long an offered image is kept for the client that it was offered to."""

ANONYMOUS = "admin"
"""As whom MONAI Label notes a client that gives no id of its own, as OHIF does not."""

DESCRIPTIONS = {
    "random": "The default, under the name that OHIF always asks for: studies that the models"
    " are unsure of first, and of these the ones unlike what is labeled",
    "uncertainty": "The study whose initial outline is least sure",
    "diversity": "The study that is most unlike all that are labeled",
    "similar": "The study that is most like a labeled one",
    "disagreement": "The study whose initial outline the correction model would change most",
    "first": "The first study without an accepted label, by its id",
    "shuffle": "Any study without an accepted label",
}
"""What viewers show. Where nothing is scored yet, all but ``random`` and ``shuffle`` go by id."""

Scored = Callable[[], Mapping[str, StudyScores]]


class Offer(Strategy):
    """Offer the first image of an order, of those that may be offered.

    Args:
        name: of the order.
        scored: returns the scores that are known now; it must not compute any.
        now_s: the clock, in seconds since 1970.
    """

    def __init__(self, name: str, scored: Scored, now_s: Callable[[], float] = time.time) -> None:
        super().__init__(DESCRIPTIONS[name])
        self.name = name
        self._scored = scored
        self._now_s = now_s

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Return the id of an image, or None where none may be offered."""
        client = client_of(request)
        now_s = self._now_s()
        free, reserved, offered = [], [], []
        for image_id in sorted(filter(is_listed, datastore.get_unlabeled_images())):
            ages_s = offers_of(datastore.get_image_info(image_id), now_s)
            if any(other != client for other, _ in ages_s):
                reserved.append(image_id)
            elif ages_s and self.name != "first":
                offered.append((min(age_s for _, age_s in ages_s), image_id))
            else:
                free.append(image_id)
        if free:
            # What another reader is at will soon be labeled: variety counts it as if it were.
            labeled = [*datastore.get_labeled_images(), *reserved]
            return {"id": next(ORDERS[self.name](Pool(free, labeled, self._scored())))}
        return {"id": max(offered)[1]} if offered else None


def make_strategies(scored: Scored) -> dict[str, Strategy]:
    """Make all strategies by name; viewers list them in this order."""
    return {name: Offer(name, scored) for name in ORDERS}


def is_listed(image_id: str) -> bool:
    """Tell whether an id can be that of an image at the top of the studies folder."""
    return is_plain(image_id) and not image_id.startswith(".")


def offers_of(info: Mapping[str, Any], now_s: float) -> list[tuple[Any, float]]:
    """Return to whom an image was offered in the last half hour, and how long ago in seconds.

    Args:
        info: of the image; an entry of ``strategy`` that is not as MONAI Label writes it counts
            as none, as one does that is more than half an hour in the future.
        now_s: seconds since 1970.
    """
    noted = info.get("strategy")
    offers = []
    for entry in noted.values() if isinstance(noted, dict) else ():
        when_s = entry.get("ts") if isinstance(entry, dict) else None
        if isinstance(when_s, int | float) and abs(now_s - when_s) < RESERVED_S:
            offers.append((client_of(entry), now_s - when_s))
    return offers


def client_of(entry: Mapping[str, Any]) -> Any:
    """Return the client id in a request or a note; one that is null or empty is none.

    MONAI Label notes the id as the request has it. Where the request has none at all it notes the
    user, whom no strategy is told: with authentication, such a client's note is as another's.
    """
    return entry.get("client_id") or ANONYMOUS
