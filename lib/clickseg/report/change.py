"""Has a tumor grown between two visits? A rule of 20 % of volume or 2 mm of diameter.

Growth of at least 20 % of volume or 2 mm of diameter is what follow-up of vestibular schwannomas
counts as growth, since less may be measurement error:

* Two readers, T1ce: smallest detectable difference 19.7 % of volume, 40 % measured in two
  dimensions, more in small tumors (van de Langenberg et al. 2009,
  doi 10.1007/s00234-009-0529-4).
* Five readers, T1ce: limits of agreement 26.8 % of volume in the smallest quarter of the tumors
  (below 0.19 ml), 7.3 % in the largest (above 3.1 ml), where 20 % is more than is needed
  (Cornelissen et al. 2024, doi 10.1101/2024.03.15.24304080).
* 2 mm: consensus of Tokyo 2001, as used by Reznitsky et al. 2021 (PMC8099466), there "more than".

Differs from all of them: 20 % are of the *smaller* volume, so that a tumor that shrank is judged
as one that grows, seen backwards: from 1.2 to 1.0 ml is as much as from 1.0 to 1.2 ml.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import hypot

from clickseg.report.measure import Measurement

VOLUME_SHARE = 0.20
"""A volume that differs by at least this share of the smaller one has changed."""

DIAMETER_MM = 2.0
"""A diameter that differs by at least this has changed."""

ROUNDING = 1e-9
"""From 1.0 to 1.2 ml is 20 %, though 1.2 - 1.0 is less than 0.2 in floating point."""


class Verdict(StrEnum):
    """What came of a tumor, by the rule."""

    GROWN = "grown"
    SMALLER = "smaller"
    UNCHANGED = "no change beyond measurement error"
    OPPOSED = "volume and diameter disagree"


@dataclass(frozen=True)
class Change:
    """From an earlier measurement to a later one. Exchanging them exchanges all signs."""

    earlier: Measurement
    later: Measurement

    @property
    def volume_ml(self) -> float:
        """Later minus earlier volume."""
        return self.later.volume_ml - self.earlier.volume_ml

    @property
    def volume_percent(self) -> float | None:
        """The same in percent of the earlier volume; None where there was nothing."""
        if self.earlier.volume_ml == 0:
            return None
        return 100 * self.volume_ml / self.earlier.volume_ml

    @property
    def diameter_mm(self) -> float:
        """Later minus earlier diameter."""
        return self.later.diameter_mm - self.earlier.diameter_mm

    @property
    def volume_error_ml(self) -> float:
        """Of ``volume_ml``: the root of the summed squares of both outlines' errors."""
        return hypot(self.earlier.volume_error_ml, self.later.volume_error_ml)

    @property
    def diameter_error_mm(self) -> float:
        """Of ``diameter_mm``: as ``volume_error_ml``."""
        return hypot(self.earlier.diameter_error_mm, self.later.diameter_error_mm)

    @property
    def verdict(self) -> Verdict:
        """What the rule says."""
        signs = {self._volume_sign, self._diameter_sign} - {0}
        if not signs:
            return Verdict.UNCHANGED
        if len(signs) == 2:
            return Verdict.OPPOSED
        return Verdict.GROWN if 1 in signs else Verdict.SMALLER

    @property
    def is_beyond_voxels(self) -> bool:
        """Whether what decides is more than the error that voxels make.

        By the rule volume or diameter decide, whichever has changed; where neither has, volume.
        """
        volume = abs(self.volume_ml) > self.volume_error_ml
        diameter = abs(self.diameter_mm) > self.diameter_error_mm
        if self._volume_sign == self._diameter_sign == 0:
            return volume
        return bool((self._volume_sign and volume) or (self._diameter_sign and diameter))

    @property
    def _volume_sign(self) -> int:
        low, high = sorted((self.earlier.volume_ml, self.later.volume_ml))
        if high == low or high < low * (1 + VOLUME_SHARE) * (1 - ROUNDING):
            return 0
        return 1 if self.volume_ml > 0 else -1

    @property
    def _diameter_sign(self) -> int:
        if abs(self.diameter_mm) < DIAMETER_MM * (1 - ROUNDING):
            return 0
        return 1 if self.diameter_mm > 0 else -1
