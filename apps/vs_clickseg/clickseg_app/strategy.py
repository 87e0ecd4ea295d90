"""Which image Next Sample offers: never one that has an accepted label."""

from __future__ import annotations

import random
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy


class First(Strategy):
    """Offer unlabeled images in the order of their ids."""

    def __init__(self) -> None:
        super().__init__("The first image without an accepted label")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Return the id of an image, or None where all are labeled."""
        waiting = sorted(datastore.get_unlabeled_images())
        return {"id": waiting[0]} if waiting else None


class Random(Strategy):
    """Offer any unlabeled image; OHIF asks for a strategy of this name, whatever is chosen."""

    def __init__(self) -> None:
        super().__init__("Any image without an accepted label")

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Return the id of an image, or None where all are labeled."""
        waiting = sorted(datastore.get_unlabeled_images())
        return {"id": random.choice(waiting)} if waiting else None
