"""How what was used fades."""

from __future__ import annotations

import math

HALF_LIFE_S = 7 * 86400.0


def faded(age_s: float, half_life_s: float = HALF_LIFE_S) -> float:
    """What is left of something that long ago, as a share."""
    return math.exp2(-age_s / half_life_s)
