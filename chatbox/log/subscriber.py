"""What all logs have in common: the one who hears what was committed, and what was not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chatbox.errors import LocalError
from chatbox.log import Entry, Record

__all__ = ["OneSubscriber"]


class OneSubscriber:
    """The part of a `MessageLog` that knows its subscriber."""

    def __init__(self) -> None:
        self._on_commit: Callable[[Sequence[Record]], None] | None = None
        self._on_failure: Callable[[Sequence[Entry]], None] | None = None

    def subscribe(
        self,
        on_commit: Callable[[Sequence[Record]], None],
        on_failure: Callable[[Sequence[Entry]], None],
    ) -> None:
        """Name the one subscriber."""
        if self._on_commit is not None:
            raise LocalError("This log has its subscriber already")
        self._on_commit = on_commit
        self._on_failure = on_failure
