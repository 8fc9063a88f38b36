"""How much of the log fits into one answer, and where the next one goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chatbox.chat.room import heard
from chatbox.chat.wire import Message
from chatbox.log import Record

__all__ = ["DEFAULT_HISTORY", "MAX_HISTORY", "MAX_HISTORY_BYTES", "page", "wanted"]

DEFAULT_HISTORY: Final = 100
"""Messages shown if a client does not say how many: a few screens."""

MAX_HISTORY: Final = 1000
"""Messages in one answer, however many are asked for."""

MAX_HISTORY_BYTES: Final = 256 << 10
"""Bytes of messages in one answer. What is cut off can be asked for next."""


def wanted(message: Message) -> int:
    """How many messages of history a request gets at most."""
    return min(DEFAULT_HISTORY if message.count is None else message.count, MAX_HISTORY)


def page(found: Sequence[Record], after: int | None, count: int) -> tuple[list[bytes], int | None]:
    """Choose what fits into one answer: lines in order, and after which place there is more.

    The messages after a place are shown from the first on. Without a place the last ones count, so
    then it is the first that are cut off, and there is no more.
    """
    shown: list[Record] = []
    lines: list[bytes] = []
    total = 0
    for record in reversed(found) if after is None else found:
        line = heard(record)
        total += len(line)
        if len(lines) == count or total > MAX_HISTORY_BYTES:
            break
        shown.append(record)
        lines.append(line)
    if after is None:
        lines.reverse()
        return lines, None
    if len(shown) == len(found):
        return lines, None
    return lines, shown[-1].id if shown else after
