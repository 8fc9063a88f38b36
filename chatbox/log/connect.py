"""Connections to a Redis: by TCP or TLS, straight to it or to where its sentinels say it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.abstract import isIPAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectingCancelledError, ConnectionAborted, ConnectionClosed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import (
    Certificate,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from chatbox.errors import LocalError
from chatbox.log.place import Place
from chatbox.text import printable

__all__ = ["COMMAND_SECONDS", "Complaint", "Connections", "endpoint_for"]

COMMAND_SECONDS: Final = 4.0
"""The longest that a command may take, and a connection to be made."""

_STOPPING: Final = (CancelledError, ConnectingCancelledError)
"""How an attempt ends that we have given up ourselves."""

_log = Logger()


def endpoint_for(place: Place, reactor: Any) -> IStreamClientEndpoint:
    """Where to connect to. Raises OSError or LocalError if a certificate cannot be used."""
    tls = _tls(place)
    if place.service:
        return _Sentinels(place, reactor, tls)
    [(host, port)] = place.hosts
    return _Straight(reactor, host, port, tls, Complaint())


def _endpoint(
    reactor: Any, host: str, port: int, tls: Callable[[str], Any] | None
) -> IStreamClientEndpoint:
    plain: Any
    if isIPAddress(host):
        plain = TCP4ClientEndpoint(reactor, host, port, timeout=COMMAND_SECONDS)
    else:
        plain = HostnameEndpoint(reactor, host, port, timeout=COMMAND_SECONDS)
    return plain if tls is None else wrapClientTLS(tls(host), plain)


def _tls(place: Place) -> Callable[[str], Any] | None:
    """Return what makes the options for TLS to a host."""
    if not place.tls:
        return None
    try:
        trusted = own = None
        if place.ca is not None:
            with open(place.ca, "rb") as file:
                blocks = file.read().split(b"-----BEGIN")[1:]
            trusted = trustRootFromCertificates(
                [Certificate.loadPEM(b"-----BEGIN" + block) for block in blocks]
            )
        if place.cert is not None and place.key is not None:
            with open(place.cert, "rb") as cert, open(place.key, "rb") as key:
                own = PrivateCertificate.loadPEM(key.read() + cert.read())
    except OSError:
        raise
    except Exception as error:  # OpenSSL's own
        raise LocalError(f"The certificates for Redis cannot be used: {error}") from error
    return lambda host: optionsForClientTLS(host, trusted, own)


MAX_REASONS: Final = 50
"""How many are told of before it is over: a reason may have a number in it that is always new."""


_SCRIPT: Final = re.compile(r" script: [0-9a-f]{40}, on @user_script:\d+\.$")
"""Where in our script it was, which Redis adds to its reason from version 7 on."""


class Complaint:
    """What is wrong with Redis or the way to it: each told once until it is over, however often it
    is tried and in whatever order they come."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def about(self, what: str, why: object) -> None:
        """Something is in the way."""
        complaint = what, printable(_SCRIPT.sub("", str(why)))
        if complaint not in self._told and len(self._told) < MAX_REASONS:
            self._told.add(complaint)
            _log.error("{what}: {why}", what=what, why=complaint[1])

    def over(self, what: str = "") -> None:
        """Nothing is. `what` is told if something was."""
        if self._told and what:
            _log.info("{what}", what=what)
        self._told.clear()


@implementer(IStreamClientEndpoint)
class _Straight:
    """The endpoint of one Redis."""

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        tls: Callable[[str], Any] | None,
        complaint: Complaint,
    ) -> None:
        self._where = f"Redis at {host}:{port}"
        self._endpoint = _endpoint(reactor, host, port, tls)
        self._complaint = complaint

    def __repr__(self) -> str:
        return self._where  # Twisted's own log of what it tries

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Connect; say why if that cannot be."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: Any) -> Any:
        try:
            connection = await self._endpoint.connect(factory)
        except _STOPPING:
            raise
        except Exception as error:
            self._complaint.about(f"{self._where} cannot be reached", error)
            raise
        self._complaint.over(f"{self._where} is reached again")
        return connection


@implementer(IStreamClientEndpoint)
class _Sentinels:
    """The endpoint of whichever Redis the sentinels call the master now.

    https://redis.io/docs/latest/develop/reference/sentinel-clients/
    """

    def __init__(self, place: Place, reactor: Any, tls: Callable[[str], Any] | None) -> None:
        self._place = place
        self._reactor = reactor
        self._tls = tls
        self._hosts = list(place.hosts)
        self._complaint = Complaint()

    def __repr__(self) -> str:
        return f"the Redis that sentinels call {self._place.service}"

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Ask one sentinel after the other, beginning with the one that knew last."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: Any) -> Any:
        why: Exception = LookupError("no sentinel was asked")
        for host, port in list(self._hosts):
            try:
                master = await self._ask(host, port)
            except _STOPPING:
                raise
            except Exception as error:  # whatever is wrong with this one, the next may know
                why = error
                continue
            self._hosts.remove((host, port))
            self._hosts.insert(0, (host, port))
            straight = _Straight(self._reactor, *master, self._tls, self._complaint)
            return await straight.connect(factory)
        self._complaint.about("no sentinel says where Redis is", why)
        raise why

    async def _ask(self, host: str, port: int) -> tuple[str, int]:
        import txredisapi

        asking = _protocol(self._reactor, self._place)
        factory = Factory.forProtocol(lambda: asking)
        factory.noisy = False  # it is asked again and again while Redis is away
        endpoint = _endpoint(self._reactor, host, port, self._tls)
        sentinel: Any = await endpoint.connect(factory)
        try:
            if self._place.sentinel_password is not None:
                await sentinel.auth(self._place.sentinel_password, self._place.sentinel_username)
            words = ("SENTINEL", "get-master-addr-by-name", self._place.service)
            found = await sentinel.execute_command(*words)
        except txredisapi.ConnectionError as error:
            raise LookupError(asking.ended or str(error)) from error
        finally:
            sentinel.transport.abortConnection()
        if not found:
            raise LookupError(f"the sentinel at {host}:{port} knows no {self._place.service}")
        return found[0].decode(), int(found[1])


def _protocol(reactor: Any, place: Place, **login: object) -> Any:
    """Make one end of a connection to Redis, or to a sentinel.

    `is_in` says whether Redis has let us in, and `ended` why it has ended.
    """
    import txredisapi  # it imports the reactor

    protocol = txredisapi.RedisProtocol(
        charset=None, replyTimeout=COMMAND_SECONDS, convertNumbers=False, **login
    )
    protocol.callLater = reactor.callLater
    protocol.is_in, protocol.ended = False, ""
    lost = protocol.connectionLost

    def connection_lost(why: Failure) -> None:
        protocol.ended = _reason(why, place)
        lost(why)

    protocol.connectionLost = connection_lost
    return protocol


def _reason(why: Failure, place: Place) -> str:
    """Say in words why a connection has ended."""
    if isinstance(why.value, SSL.Error) and why.value.args:
        return "TLS: " + "; ".join(str(reason) for _, _, reason in why.value.args[0])
    if isinstance(why.value, ConnectionAborted):  # by us
        return "there is no answer"
    if isinstance(why.value, ConnectionClosed) and not place.tls:
        return "the connection is closed at once; is it one for TLS (rediss:)?"
    return why.getErrorMessage()


class Connections(Factory):
    """Makes connections, and hands over each when Redis has let us in."""

    noisy = False
    isLazy = False

    def __init__(
        self, place: Place, reactor: Any, complaint: Complaint, use: Callable[[Any], None]
    ) -> None:
        self._place = place
        self._reactor = reactor
        self._complaint = complaint
        self._use = use
        self._latest: Any = None

    def buildProtocol(self, addr: object) -> Any:
        """Make one."""
        place = self._place
        connection = self._latest = _protocol(
            self._reactor,
            place,
            password=place.password,
            username=place.username,
            dbid=place.database,
        )
        connection.factory = self
        connection.whenConnected().addCallback(self._let_in)
        return connection

    def _let_in(self, connection: Any) -> None:
        connection.is_in = True
        self._complaint.over("Redis lets us in again")
        self._use(connection)

    def stopTrying(self) -> None:
        """txredisapi calls this when Redis does not let us in. We go on trying."""

    def connectionError(self, why: object) -> None:
        """txredisapi calls this to say why; once is enough to be told of it."""
        ended = self._latest and self._latest.ended  # txredisapi says "Lost connection" then
        self._complaint.about("Redis does not let us in", ended or why)
