"""How several downloads share what they may take together."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["shares"]


def shares(total: int | None, own: Sequence[int | None]) -> list[int | None]:
    """Divide `total` bytes per second evenly among downloads with limits of their `own`; None is no
    limit. What one may not take the others get.
    """
    if total is None:
        return list(own)
    given: list[int | None] = list(own)
    left = total
    # Who may take the least comes first, so what it leaves is known when the others are served.
    in_order = sorted(range(len(own)), key=lambda which: own[which] or math.inf)
    for served, which in enumerate(in_order):
        share = max(1, left // (len(own) - served))
        given[which] = share = min(own[which] or share, share)
        left -= share
    return given
