"""Requests of one client begin in order, end when they like, and are answered in order.

Clients pipeline: they need not wait for an answer before they ask again, and an answer may wait for
the log. So each request that has begun holds a place in a row, and an answer leaves once all before
it have left. Requests begin without waiting for each other, so that many messages share one commit.
There is one exception: a job that is `alone` begins only when everything before it has been
answered, and what follows waits for it. So a message right behind a connect is said once the name
is held, and history shows what was said just before it was asked for.

Nothing is thrown away here. Whoever adds jobs looks at `full` and stops reading. Nor does a short
request that has a long answer, such as a list of thousands of people, bring more than one of them
ahead of its time: no job begins while long answers wait for one before them, or while the client
has to read others first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from chatbox.chat.outbox import MAX_OWN_BYTES
from chatbox.chat.wire import MAX_REQUEST_BYTES
from chatbox.errors import LocalError

__all__ = ["MAX_BYTES_IN_PROGRESS", "MAX_IN_PROGRESS", "Job", "Pipeline"]

MAX_IN_PROGRESS: Final = 64
"""Requests of one client that have no answer yet. Enough to keep a log busy that takes 5 ms to
commit (12 000 messages a second)."""

MAX_BYTES_IN_PROGRESS: Final = MAX_IN_PROGRESS * MAX_REQUEST_BYTES
"""Bytes of those requests, as they were sent: so many of the longest, where the operator allows no
longer ones. Where those are 132 KB, it is four or five of them; the last may go beyond it."""


class Job:
    """One request of `size` bytes on its way to its answer. `begin` may end it at once, or anybody
    later."""

    __slots__ = ("alone", "answer", "size")

    def __init__(self, alone: bool, size: int = 0) -> None:
        self.alone = alone
        self.size = size
        self.answer: bytes | None = None

    def begin(self) -> None:
        """Set to work. It is the pipeline that calls this."""
        raise NotImplementedError


class Pipeline:
    """The jobs of one client.

    `put` takes each answer when its turn has come. `on_progress` is called after answers have left,
    when `full` or `idle` may have changed. While the client is `congested` none begins: call
    `go_on` when that may have changed.
    """

    def __init__(
        self,
        put: Callable[[bytes], None],
        on_progress: Callable[[], None],
        congested: Callable[[], bool] = lambda: False,
    ) -> None:
        self._put = put
        self._on_progress = on_progress
        self._congested = congested
        self._waiting: deque[Job] = deque()
        """Jobs that have not begun."""
        self._row: deque[Job] = deque()
        """Jobs that have begun and whose answers have not left."""
        self._asked_bytes = 0
        """Of all jobs in both."""
        self._answer_bytes = 0
        """Of answers that have not left."""
        self._beginning = False

    @property
    def full(self) -> bool:
        """Whether no more should be added now."""
        return (
            len(self._waiting) + len(self._row) >= MAX_IN_PROGRESS
            or self._asked_bytes >= MAX_BYTES_IN_PROGRESS
        )

    @property
    def idle(self) -> bool:
        """Whether everything has been answered."""
        return not self._row and not self._waiting

    def add(self, job: Job) -> None:
        """Begin a job, as soon as it may begin."""
        self._asked_bytes += job.size
        self._waiting.append(job)
        self._begin()

    def go_on(self) -> None:
        """Begin what may begin."""
        if self._waiting:
            self._begin()

    def end(self, job: Job, answer: bytes) -> None:
        """Answer a job that has begun. Raises LocalError if it has been answered."""
        if job.answer is not None:
            raise LocalError("A request is answered once")
        job.answer = answer
        if self._row:
            self._answer_bytes += len(answer)
        if self._row and self._row[0] is job:
            while self._row and (ready := self._row[0].answer) is not None:
                self._asked_bytes -= self._row.popleft().size
                self._answer_bytes -= len(ready)
                self._put(ready)
            self.go_on()
            self._on_progress()

    def clear(self) -> None:
        """Forget everything; answers still to come go nowhere."""
        self._waiting.clear()
        self._row.clear()
        self._asked_bytes = self._answer_bytes = 0

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
        if self._answer_bytes > MAX_OWN_BYTES or self._congested():
            return False
        # A lone job is the only one in the row, hence its first.
        return not self._row or not (job.alone or self._row[0].alone)
