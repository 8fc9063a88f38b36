"""Which messages have been said already, so that a retry does not say them twice.

A client whose connection is cut does not know whether its last messages arrived. It sends them
again, under the numbers that they had, and the log finds them here. What must be remembered is what
a client may not have heard of yet. That is bounded for each person by what clients keep on their
way, in time by how long clients try to come back, and in all by what is worth the memory: whoever
said nothing for the longest time goes first.

A retry comes by another connection: answers come in order, so who still has the first connection
has nothing to ask. People who type their requests often use a number twice, and mean it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from chatbox.log import Attempt

__all__ = ["ATTEMPT_SECONDS", "MAX_ATTEMPTS", "MAX_ATTEMPTS_EACH", "Attempts"]

MAX_ATTEMPTS_EACH: Final = 256
"""Messages known of each person: a client of ours has no more than that without an answer."""

MAX_ATTEMPTS: Final = 1 << 17
"""Messages known of all people together; some 40 MB. For 10 000 messages a second that is 13 s of
a quiet person's memory, and much longer for whoever goes on talking."""

ATTEMPT_SECONDS: Final = 2 * 3600
"""How long a message is known: a client of ours tries for an hour to come back. Whoever types the
same number and the same words every morning is heard every morning."""


class Attempts:
    """The places of the messages that were said last, by person and mark.

    Times are in milliseconds, by the clock of the log.
    """

    def __init__(self, most: int = MAX_ATTEMPTS, most_each: int = MAX_ATTEMPTS_EACH) -> None:
        self._most = most
        self._most_each = most_each
        self._people: OrderedDict[str, dict[bytes, tuple[int, int, str]]] = OrderedDict()
        """For each mark the place, the time and the connection."""
        self._total = 0

    def find(self, attempt: Attempt | None, at: int) -> int | None:
        """Return where this was said, or None if it was not, or too long ago."""
        if attempt is None:
            return None
        marks = self._people.get(attempt.who)
        known = None if marks is None else marks.get(attempt.mark)
        if known is None:
            return None
        id, said_at, via = known
        if at - said_at > ATTEMPT_SECONDS * 1000 or (via and via == attempt.via):
            return None
        return id

    def add(self, attempt: Attempt | None, id: int, at: int) -> None:
        """Remember that this was said at the place `id` and the time `at`."""
        if attempt is None:
            return
        marks = self._people.get(attempt.who)
        if marks is None:
            marks = self._people[attempt.who] = {}
        else:
            self._people.move_to_end(attempt.who)
        if marks.pop(attempt.mark, None) is None:  # else it is the newest again
            self._total += 1
        marks[attempt.mark] = id, at, attempt.via
        if len(marks) > self._most_each:
            del marks[next(iter(marks))]
            self._total -= 1
        while self._total > self._most:
            _, forgotten = self._people.popitem(last=False)
            self._total -= len(forgotten)
