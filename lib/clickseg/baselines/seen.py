"""What the reader saw when each click was made: the answer to those before it.

Where an answer begins from the start mask, a click may contradict what an earlier one did, and
nothing of the start mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clickseg.baselines.method import Mask
from clickseg.clicks import Clicks

Answering = Callable[[Clicks, tuple[float, ...], Sequence[Mask]], Mask]
"""From clicks, their drags, and what was seen at each: the mask after all of them."""


class Seen:
    """Answers of one study and start mask, each of them made once."""

    def __init__(self, start: Mask) -> None:
        self._start = start
        self._masks: dict[tuple[Clicks, tuple[float, ...]], Mask] = {}

    def after(self, clicks: Clicks, drags_mm: tuple[float, ...], answering: Answering) -> Mask:
        """Return the mask after at least one click, and no other's array.

        ``answering`` is the same each time. It is given, not kept: a method of the session that
        keeps this would hold study and masks in a circle, until it is looked for.
        """
        seen = [self._start]
        for count in range(1, len(clicks) + 1):
            made = clicks[:count], drags_mm[:count]
            if made not in self._masks:
                self._masks[made] = answering(*made, tuple(seen))
            seen.append(self._masks[made])
        return seen[-1].copy()
