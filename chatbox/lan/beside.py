"""A thread beside the reactor, for a library that blocks and has threads of its own.

The reactor starts it, and hears by `callFromThread` that it has ended. It is a daemon, so not even
a hang in it keeps the process, and whoever waits for its end waits for a bounded time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

__all__ = ["STOP_TIMEOUT", "Beside"]

STOP_TIMEOUT: Final = 3.0
"""Seconds that a thread may take to end once it was told to: a farewell to the network takes a
quarter of a second, an announcement that has only begun up to two."""


class Beside:
    """Does `work` in a thread. `failed` is called in the reactor's turn with what it raised."""

    def __init__(
        self, reactor: Any, work: Callable[[], None], failed: Callable[[Exception], None]
    ) -> None:
        self._reactor = reactor
        self._work = work
        self._failed = failed
        self._running = False
        self._stopped: Deferred[None] | None = None
        self._patience: IDelayedCall | None = None

    def start(self) -> None:
        """Begin."""
        self._running = True
        threading.Thread(target=self._run, name="chatbox.lan", daemon=True).start()

    def ended(self) -> Deferred[None]:
        """Fires when the thread, which has been told to end, has done so, or has taken too long."""
        stopped: Deferred[None] = Deferred()
        if not self._running:
            stopped.callback(None)
            return stopped
        self._stopped = stopped
        self._patience = self._reactor.callLater(STOP_TIMEOUT, self._ended)
        return stopped

    def _run(self) -> None:
        """The thread."""
        try:
            self._work()
        except Exception as error:  # zeroconf has many, and sockets more
            self._reactor.callFromThread(self._failed, error)
        finally:
            self._reactor.callFromThread(self._ended)

    def _ended(self) -> None:
        self._running = False
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        self._patience = None
        stopped, self._stopped = self._stopped, None
        if stopped is not None:
            stopped.callback(None)
