"""What has to be done to a list that is shown, so that it shows another: as little as will do."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

__all__ = ["Edit", "edits"]


class Edit(NamedTuple):
    """From the row `at` on, `gone` rows go, and as many as `come` of the new list take their place.

    Those have the place `at` in the new list, too.
    """

    at: int
    gone: int
    come: int


def edits(shown: Sequence[Hashable], wanted: Sequence[Hashable]) -> list[Edit]:
    """Return what makes `wanted` of `shown`, to be done in this order.

    What is not wanted any more goes, and what is new comes, whatever else there is: in a list that
    only grows at its end, nothing more is done. Where the order is another one, the part in which
    it is comes anew.
    """
    found: list[Edit] = []
    there = set(wanted)
    gone = [place for place, one in enumerate(shown) if one not in there]
    while gone:
        last = first = gone.pop()
        while gone and gone[-1] == first - 1:
            first = gone.pop()
        found.append(Edit(first, last + 1 - first, 0))  # from the end on: places before it hold
    kept = [one for one in shown if one in there] if found else shown
    shortest = min(len(kept), len(wanted))
    start = 0
    while start < shortest and kept[start] == wanted[start]:
        start += 1
    end = 0
    while end < shortest - start and kept[-1 - end] == wanted[-1 - end]:
        end += 1
    edit = Edit(start, len(kept) - end - start, len(wanted) - end - start)
    if edit.gone or edit.come:
        found.append(edit)
    return found
