"""Requests of one client begin in order, end when they like, and are answered in order.

Clients pipeline: they need not wait for an answer before they ask again, and an answer may wait for
the log. So each request that has begun holds a place in a row, and an answer leaves once all before
it have left. Requests begin without waiting for each other, so that many messages share one commit.
There is one exception: a job that is `alone` begins only when everything before it has been
answered, and what follows waits for it. So a message right behind a connect is said once the name
is held, and history shows what was said just before it was asked for.

Nothing is thrown away here. Whoever adds jobs looks at `full` and stops reading.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from chatbox.errors import LocalError

__all__ = ["MAX_IN_PROGRESS", "Job", "Pipeline"]

MAX_IN_PROGRESS: Final = 64
"""Requests of one client that have no answer yet. Enough to keep a log busy that takes 5 ms to
commit (12 000 messages a second); at 4 KiB a message, 256 KiB of text. An operator who allows
longer ones allows as many times more."""


class Job:
    """One request on its way to its answer. `begin` may end it at once, or anybody later."""

    __slots__ = ("alone", "answer")

    def __init__(self, alone: bool) -> None:
        self.alone = alone
        self.answer: bytes | None = None

    def begin(self) -> None:
        """Set to work. It is the pipeline that calls this."""
        raise NotImplementedError


class Pipeline:
    """The jobs of one client.

    `put` takes each answer when its turn has come. `on_progress` is called after answers have left,
    when `full` or `idle` may have changed.
    """

    def __init__(self, put: Callable[[bytes], None], on_progress: Callable[[], None]) -> None:
        self._put = put
        self._on_progress = on_progress
        self._waiting: deque[Job] = deque()
        """Jobs that have not begun."""
        self._row: deque[Job] = deque()
        """Jobs that have begun and whose answers have not left."""
        self._beginning = False

    @property
    def full(self) -> bool:
        """Whether no more should be added now."""
        return len(self._waiting) + len(self._row) >= MAX_IN_PROGRESS

    @property
    def idle(self) -> bool:
        """Whether everything has been answered."""
        return not self._row and not self._waiting

    def add(self, job: Job) -> None:
        """Begin a job, as soon as it may begin."""
        self._waiting.append(job)
        self._begin()

    def end(self, job: Job, answer: bytes) -> None:
        """Answer a job that has begun. Raises LocalError if it has been answered."""
        if job.answer is not None:
            raise LocalError("A request is answered once")
        job.answer = answer
        if self._row and self._row[0] is job:
            while self._row and (ready := self._row[0].answer) is not None:
                self._row.popleft()
                self._put(ready)
            if self._waiting:
                self._begin()
            self._on_progress()

    def clear(self) -> None:
        """Forget everything; answers still to come go nowhere."""
        self._waiting.clear()
        self._row.clear()

    def _begin(self) -> None:
        if self._beginning:
            return  # A job ended inside its own `begin`; the loop below is at work.
        self._beginning = True
        try:
            while self._waiting and self._may_begin(self._waiting[0]):
                job = self._waiting.popleft()
                self._row.append(job)
                job.begin()
        finally:
            self._beginning = False

    def _may_begin(self, job: Job) -> bool:
        # A lone job is the only one in the row, hence its first.
        return not self._row or not (job.alone or self._row[0].alone)
