"""Logging up to a rate: what strangers can cause must not fill the operator's disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

__all__ = ["SPAN_SECONDS", "SparingLog"]

SPAN_SECONDS: Final = 10.0


class SparingLog:
    """Writes so many lines in `SPAN_SECONDS`, and counts what it keeps to itself.

    `write` is a method of a logger, such as ``_log.warn``, and `now` a clock in seconds that
    nobody sets. `more` is the line that tells, by its field ``count``, how many were left out of
    the span before.
    """

    def __init__(
        self, write: Callable[..., None], now: Callable[[], float], most: int, more: str
    ) -> None:
        self._write = write
        self._now = now
        self._most = most
        self._more = more
        self._since = now()
        self._noted = 0

    def __call__(self, form: str, **fields: Any) -> None:
        """Write a line, or only count it."""
        now = self._now()
        if now - self._since >= SPAN_SECONDS:
            if self._noted > self._most:
                self._write(self._more, count=self._noted - self._most)
            self._since, self._noted = now, 0
        self._noted += 1
        if self._noted <= self._most:
            self._write(form, **fields)
