"""The whole server as one service, and how it stops.

A stop is, more often than not, the first half of a restart, so it is made to go by unnoticed:

1. No download begins any more. Those under way have some seconds, the *grace*, to end; the chat
   goes on meanwhile.
2. Listening ends. Everything that was asked is answered, everybody is told why the server stops,
   and the connections are closed. Downloads that are still under way are told, too. The clients
   come back by themselves, and downloads go on from where they were.
3. What was said is stored, and the process ends.

Somebody who stops a server at a terminal (SIGINT) hardly wants it to start again; a supervisor that
sends SIGTERM may well. So the first says ``server-stopping`` and the other ``restarting``, as does
every stop of a server whose sockets are kept open for it by somebody else. A second signal ends the
waiting in all of this; a third one ends the process, whatever it hangs on.

Way not taken: refusing newcomers while downloads come to their end. It would make the gap that
people see as long as the grace.
"""

# mypy: allow-untyped-calls
# Twisted's services have no annotations yet.

from __future__ import annotations

import errno
import gc
import math
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import deferLater
from twisted.logger import Logger

from chatbox.chat.codes import Code
from chatbox.chat.server import ChatFactory
from chatbox.chat.service import ChatService
from chatbox.errors import CannotStart
from chatbox.rdt.service import TransferService

__all__ = ["DEFAULT_GRACE", "Server"]

DEFAULT_GRACE: Final = 5.0
"""Seconds for downloads that are under way: little, since those that do not end in them lose
nothing; and together with the rest below the ten seconds after which Docker kills."""

_LOOK_SECONDS: Final = 0.1
"""How often to look whether the downloads have ended."""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_ADVICE: Final[Mapping[int | None, str]] = {
    errno.EADDRINUSE: " Does a server run already? Other ports: --listen and --udp-ports.",
    errno.EADDRNOTAVAIL: " Has this machine that address? See --listen and --udp-interface.",
    errno.EACCES: " Is it a port below 1024? They are for root, which twistd --uid USER gives up.",
}
"""What to do about a port that cannot be had."""

_log = Logger()


class Server(MultiService):
    """The server. Give it the services that listen, as children.

    `grace` is in seconds. `sockets_stay` says that somebody keeps the sockets open while no server
    runs, so that whoever comes then only has to wait.
    """

    def __init__(
        self,
        reactor: Any,
        transfers: TransferService,
        chat: ChatService,
        factory: ChatFactory,
        *,
        grace: float = DEFAULT_GRACE,
        sockets_stay: bool = False,
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._transfers = transfers
        self._chat = chat
        self._factory = factory
        self._grace = grace
        self._sockets_stay = sockets_stay
        self._signal: int | None = None
        self._hurried = False
        self._closing = False
        self._handlers: dict[signal.Signals, Any] = {}
        transfers.setServiceParent(self)
        chat.setServiceParent(self)

    def privilegedStartService(self) -> None:
        """Take the ports, perhaps as root. Ends the program, in words, if one cannot be had."""
        with _ports_or_the_end():
            super().privilegedStartService()

    def startService(self) -> None:
        """Start all, and take over the signals once the reactor has installed its handlers."""
        with _ports_or_the_end():
            super().startService()
        # What is here now stays. To look through it for garbage took 30 ms, while everybody waited.
        gc.freeze()
        self._reactor.callWhenRunning(self._take_signals)

    def stopService(self) -> Deferred[None]:
        """Stop all in good order."""
        # What Service does; MultiService would stop the children at once.
        self.running = 0
        return Deferred.fromCoroutine(self._stop())

    def hurry(self) -> None:
        """Wait for nobody any more: stop at once."""
        self._hurried = True
        if self._closing:
            _log.info("stopping at once")
            self._transfers.cut()
            self._factory.cut()

    async def _stop(self) -> None:
        restarts = self._sockets_stay or self._signal == signal.SIGTERM
        code = Code.RESTARTING if restarts else Code.SERVER_STOPPING
        self._transfers.refuse(code.value, code.sentence)
        self._chat.farewell = code
        await self._wait_for_transfers()
        stopped = super().stopService()
        self._closing = True
        if self._hurried:
            self.hurry()
        await stopped
        self._give_signals_back()

    async def _wait_for_transfers(self) -> None:
        if self._transfers.under_way and self._grace > 0:
            _log.info(
                "{grace:.0f} s for downloads to end, {count} under way; another signal ends this",
                count=self._transfers.under_way,
                grace=self._grace,
            )
        for _ in range(math.ceil(self._grace / _LOOK_SECONDS)):
            if self._hurried or not self._transfers.under_way:
                return
            await deferLater(self._reactor, _LOOK_SECONDS, lambda: None)

    # Signals.

    def _take_signals(self) -> None:
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):
                with suppress(ValueError):  # not in the main thread
                    signal.signal(number, partial(self._signalled, handler))
                    self._handlers[number] = handler

    def _signalled(self, handler: Callable[..., object], number: int, _: Any) -> None:
        if self._signal is None and self.running:
            self._signal = number
            # Not here: it writes to the log, whose lock may just be about to be ours.
            self._reactor.callFromThread(handler, number, None)
            return
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        self._reactor.callFromThread(self.hurry)

    def _give_signals_back(self) -> None:
        for number, handler in self._handlers.items():
            if signal.getsignal(number) is not signal.SIG_DFL:
                signal.signal(number, handler)
        self._handlers.clear()


@contextmanager
def _ports_or_the_end() -> Iterator[None]:
    try:
        yield
    except CannotListenError as error:
        advice = _ADVICE.get(getattr(error.socketError, "errno", None), "")
        # twistd in the background passes on 100 bytes, so it begins with what is most to the point.
        raise CannotStart(f"{error}{advice}") from error
    except OSError as error:  # about the file that a UNIX socket is locked with, say
        place = os.fsdecode(error.filename2 or error.filename or "")
        why = f"{error.strerror}: {place}" if place else error
        raise CannotStart(f"chatbox cannot start: {why}") from error
