"""The chat as a service: it starts with the log, and stops when all that was said is stored."""

from __future__ import annotations

from functools import partial

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from chatbox.chat.codes import Code
from chatbox.chat.register import RETURN_SECONDS, Register
from chatbox.chat.server import ChatFactory
from chatbox.errors import CannotStart, LocalError
from chatbox.log import MessageLog

__all__ = ["ChatService"]

_log = Logger()


class ChatService(Service):
    """The log and the room as one service. It stops when everybody has gone and all is stored.

    Put it before the services that listen, so that it starts first and stops with them. With a
    `register`, people are still here after a restart.
    """

    def __init__(
        self, factory: ChatFactory, log: MessageLog, register: Register | None = None
    ) -> None:
        self.farewell = Code.SERVER_STOPPING
        """What everybody is told when the service stops."""
        self._factory = factory
        self._log = log
        self._register = register
        self._expecting: IDelayedCall | None = None

    def startService(self) -> None:
        """Start the gate and the log. Ends the program, in words, if they cannot work."""
        super().startService()
        try:
            self._factory.gate.start()
        except (LocalError, OSError) as error:
            place = " See --state-dir." if isinstance(error, OSError) else ""
            raise CannotStart(f"chatbox cannot let people in: {error}.{place}") from error
        try:
            self._log.start()
        except (LocalError, OSError) as error:
            raise CannotStart(
                f"chatbox cannot keep messages: {error}. See --log and --state-dir."
            ) from error
        claims = self._register.recall() if self._register is not None else []
        if claims:
            room = self._factory.room
            room.expect(claims)
            self._expecting = self._factory.clock.callLater(RETURN_SECONDS, room.stop_expecting)
            _log.info("expected back: {count}", count=len(claims))

    def stopService(self) -> Deferred[None]:
        """Say goodbye to everybody, then stop the log."""
        super().stopService()
        if self._expecting is not None and self._expecting.active():
            self._expecting.cancel()
        note = self._register.note if self._register is not None else None
        done: Deferred[None] = Deferred()
        gone = self._factory.stop(self.farewell, note)
        gone.addCallback(lambda _: self._log.stop(partial(done.callback, None)))
        return done.addCallback(self._store)

    def _store(self, _: None) -> None:
        """After the last order of an operator: what it has changed is on the disk."""
        if self._factory.moderation is not None:
            self._factory.moderation.sanctions.flush()
