"""Turns: what is put down while one runs is done once, when it ends.

Much that happens in a turn of the reactor wants the same thing done at its end: everybody who says
something wants the log appended to, and whatever the log commits wants everybody written to. Done
for each, it would be done a hundred times; done once, it serves them all. So work is only asked for
while the turn runs. At its end all is *gathered* first: the room appends to the log, which may
commit and thereby have more to be gathered. Then all is *written*. What writing brings about
(somebody is given up, somebody may be read from again) belongs to the next turn: so each turn ends,
and none hogs the reactor.

When people talk at the same moment, their lines do not arrive in one turn of the reactor, but in a
few right after each other. To write to everybody takes much longer than to look whether there is
more to read. So a turn goes on for another turn of the reactor as long as each brings something to
gather, up to `MAX_GATHERED`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from twisted.logger import Logger

__all__ = ["MAX_GATHERED", "TURN_FAILED", "Later", "Turn", "run_each"]

MAX_GATHERED: Final = 256
"""Messages for which a turn goes on: the first waits for the others some 8 ms at most."""

Later = Callable[[Callable[[], None]], object]
"""Calls its argument once this turn of the reactor is over: ``callLater(0, ...)``."""

TURN_FAILED: Final = "the end of a turn failed"
"""All that can be said: work is one call or another, and none may cost the others theirs."""

_log = Logger()


class Turn:
    """Runs work at the end of the turn, each kind once however often it is asked for."""

    def __init__(self, later: Later) -> None:
        self._later = later
        # Dicts as ordered sets: work that is asked for twice has its first place.
        self._gathering: dict[Callable[[], None], None] = {}
        self._writing: dict[Callable[[], None], None] = {}
        self._gathered = self._looked_at = 0
        """How often something was to be gathered in this turn, and when it last was to end."""
        self._scheduled = False

    def gather(self, work: Callable[[], None]) -> None:
        """Call `work` before anything is written."""
        self._gathered += 1
        self._gathering[work] = None
        self._schedule()

    def write(self, work: Callable[[], None]) -> None:
        """Call `work` when there is nothing left to gather."""
        self._writing[work] = None
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._later(self._end)

    def _end(self) -> None:
        if self._looked_at < self._gathered < MAX_GATHERED:
            self._looked_at = self._gathered
            self._later(self._end)
            return
        while self._gathering:
            gathering, self._gathering = self._gathering, {}
            run_each(gathering)
        writing, self._writing = self._writing, {}
        self._gathered = self._looked_at = 0
        self._scheduled = False
        run_each(writing)


def run_each(works: Iterable[Callable[[], None]]) -> None:
    """Call all of these; one that fails is logged, and costs none of the others theirs."""
    for work in works:
        try:
            work()
        except Exception:
            _log.failure(TURN_FAILED)
