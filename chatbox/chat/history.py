"""How much of the log fits into one answer, and where the next one goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from chatbox.chat.heard import heard
from chatbox.chat.wire import Message
from chatbox.log import Kind, Record

__all__ = ["DEFAULT_HISTORY", "MAX_HISTORY", "MAX_HISTORY_BYTES", "Page", "page", "wanted"]

DEFAULT_HISTORY: Final = 100
"""Messages shown if a client does not say how many: a few screens."""

MAX_HISTORY: Final = 1000
"""Messages in one answer, however many are asked for."""

MAX_HISTORY_BYTES: Final = 256 << 10
"""Bytes of messages in one answer. What is cut off can be asked for next."""


def wanted(message: Message) -> int:
    """How many messages of history a request gets at most."""
    return min(DEFAULT_HISTORY if message.count is None else message.count, MAX_HISTORY)


class Page(NamedTuple):
    """What one answer shows of the history."""

    lines: list[bytes]
    """Messages in order, with marks where some are gone."""
    said: int
    """How many of these are messages."""
    after: int | None
    """Asked forwards: after which place there may be more; None if there is none."""
    before: int | None
    """Asked backwards: before which place there may be more; 0 if there is none."""


def page(found: Sequence[Record], after: int | None, count: int) -> Page:
    """Choose what fits into one answer. `found` has a record more than that if there are as many.

    The messages after a place are shown from the first on. Without such a place the last ones
    count, so then it is the first that are cut off.
    """
    shown: list[Record] = []
    lines: list[bytes] = []
    said = total = 0
    for record in reversed(found) if after is None else found:
        line = heard(record)
        if record.kind is not Kind.GAP:
            total += len(line)
            if said == count or total > MAX_HISTORY_BYTES:
                break
            said += 1
        shown.append(record)
        lines.append(line)
    # The log has looked for so many records, and marks may be some of them.
    all_shown = len(shown) == len(found) <= count
    if after is not None:
        newest = shown[-1].id if shown else after
        return Page(lines, said, None if all_shown else newest, None)
    lines.reverse()
    if all_shown:
        return Page(lines, said, None, 0)
    return Page(lines, said, None, shown[-1].id if shown else found[-1].id + 1)
