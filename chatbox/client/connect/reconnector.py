"""Coming back to a server by oneself, when the connection is cut."""

from __future__ import annotations

from typing import Any, Final

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from chatbox.client.chat.events import Problem
from chatbox.client.chat.session import State
from chatbox.client.connect.connection import ANSWER_TIMEOUT, ChatConnection
from chatbox.client.exits import Exit, Stop

__all__ = ["Reconnector"]

RETRY_DELAY: Final = 0.5
MAX_RETRY_DELAY: Final = 30.0
"""Seconds between two attempts to come back: the first, and the longest."""


class Reconnector:
    """Brings `connection` back whenever it is cut: the same one, with a new transport.

    The delays grow from half a second to half a minute, each with some randomness, so that a
    thousand clients of a server that starts again do not come at once. After `patience` seconds
    without a connection the session is given up.
    """

    def __init__(
        self,
        reactor: Any,
        connection: ChatConnection,
        endpoint: IStreamClientEndpoint,
        patience: float,
    ) -> None:
        self._reactor = reactor
        self._connection = connection
        self._session = connection.session
        self._endpoint = endpoint
        self._patience = patience
        self._delay = backoffPolicy(RETRY_DELAY, MAX_RETRY_DELAY)
        self._attempts = 0
        self._away_since: float | None = None
        self._stopped = False
        self._call: IDelayedCall | None = None
        self._connecting: Deferred[Any] | None = None
        if patience > 0:
            self._session.survive()
            connection.on_lost = self._lost

    def stop(self) -> None:
        """Try no more."""
        self._stopped = True
        self._disarm()
        if self._connecting is not None:
            self._connecting.cancel()

    def _lost(self) -> None:
        self._disarm()
        if self._stopped or self._session.state is not State.AWAY:
            return
        now = self._reactor.seconds()
        if self._away_since is None:
            self._away_since = now
        if now - self._away_since > self._patience:
            self._session.give_up()
            self._connection.flush()
            return
        delay = self._delay(self._attempts)
        self._attempts += 1
        self._call = self._reactor.callLater(delay, self._connect)

    def _connect(self) -> None:
        self._call = None
        if self._session.state is State.AWAY:
            factory = Factory.forProtocol(lambda: self._connection)
            self._connecting = self._endpoint.connect(factory)
            self._connecting.addCallbacks(self._connected, self._failed)

    def _failed(self, failure: Failure) -> None:
        self._connecting = None
        if isinstance(failure.value, Stop) and failure.value.status is Exit.NOT_TRUSTED:
            # It will not get better, and a person must know.
            sentence = " ".join(failure.value.sentence.split())
            self._session.give_up(Problem("not-trusted", sentence))
            self._connection.flush()
        else:
            self._lost()

    def _connected(self, connection: ChatConnection) -> None:
        self._connecting = None
        if self._stopped or self._session.state is not State.AWAY:
            connection.drop()
            return
        self._session.rejoin(connection.peer, connection.password)
        connection.flush()
        self._call = self._reactor.callLater(ANSWER_TIMEOUT, self._check)

    def _check(self) -> None:
        """By now we should be in; a server that says nothing is no better than none."""
        self._call = None
        if self._session.state is State.JOINED:
            self._attempts = 0
            self._away_since = None
        else:
            self._connection.drop()

    def _disarm(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
