"""What was said before, looked up in the streams of a Redis log.

Everybody's messages are in one stream and each person's letters in another, so an answer is put
together from two. It does not go beyond what the log has reported: whoever asks will hear of that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.defer import gatherResults
from twisted.logger import Logger

from chatbox.log import Record
from chatbox.log.streams import id_of, page_of

__all__ = ["Lookup"]

BEHIND_SECONDS: Final = 0.05
BEHIND_TRIES: Final = 20
"""How often, and how many times, to look whether we have caught up with a question: a second."""

_log = Logger()

_Answer = Callable[["Sequence[Record] | None"], None]


class Lookup:
    """Answers questions about history, from the keys that begin with `prefix`.

    `connection` gives that for commands, or None if nothing can be asked now; `position` the newest
    place that was reported; and `later` calls a function after some seconds.
    """

    def __init__(
        self,
        prefix: str,
        connection: Callable[[], Any],
        position: Callable[[], int],
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._prefix = prefix
        self._connection = connection
        self._position = position
        self._later = later
        self._questions = 0

    @property
    def busy(self) -> bool:
        """Whether a question waits for its answer."""
        return self._questions > 0

    def ask(
        self, after: int | None, count: int, reader: str, answer: _Answer, before: int | None
    ) -> None:
        """Answer as `MessageLog.history` does; with None if Redis cannot be asked."""
        self._questions += 1

        def answered(found: Sequence[Record] | None) -> None:
            self._questions -= 1
            answer(found)

        self._look_up(after, count, reader, answered, before)

    def _look_up(
        self,
        after: int | None,
        count: int,
        reader: str,
        answer: _Answer,
        before: int | None,
        patience: int = BEHIND_TRIES,
    ) -> None:
        connection, position = self._connection(), self._position()
        if connection is None:
            answer(None)
            return
        if after is not None and after > position and patience:
            # Who asks has been at a node that is ahead of us, and must not hear again from here
            # what comes before that place.
            again = partial(self._look_up, after, count, reader, answer, before, patience - 1)
            self._later(BEHIND_SECONDS, again)
            return
        asked = []
        newest = position if after is not None or before is None else min(before - 1, position)
        if count and newest > (after or 0):
            for stream in ("kept", f"mail:{reader}"):
                key = self._prefix + stream
                if after is None:
                    words: tuple[object, ...] = ("XREVRANGE", key, id_of(newest), "-")
                else:
                    words = ("XRANGE", key, "(" + id_of(after), id_of(newest))
                asked.append(connection.execute_command(*words, "COUNT", count))
        for words in (
            ("EXISTS", f"mail:{reader}"),
            ("HMGET", f"ends:{reader}", "gone", "last"),
            ("GET", "from"),
        ):
            asked.append(connection.execute_command(words[0], self._prefix + words[1], *words[2:]))
        d = gatherResults(asked, consumeErrors=True)
        d.addCallback(page_of, after, count, position)
        d.addErrback(lambda _: None)
        d.addCallback(answer)
        d.addErrback(lambda failure: _log.failure("history failed", failure))
