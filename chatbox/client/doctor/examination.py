"""``chatbox doctor HOST``: measure the way to a server, step by step, and say what is wrong.

Each check needs the one before it, so the first that fails in earnest ends the examination; what
concerns this machine alone is looked at in any case. What was measured goes to
`chatbox.client.doctor.diagnosis`, which finds the words. All of it takes a few seconds and at most
`chatbox.rdt.probe.PROBE_BYTES` of the server.
"""

from __future__ import annotations

import ipaddress
import shutil
import socket
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from twisted.internet import error
from twisted.internet.defer import Deferred, TimeoutError, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThreadPool

from chatbox.client.chat.events import Event, Offer, Presence, Succeeded
from chatbox.client.config import required_host
from chatbox.client.connect.access import Access
from chatbox.client.connect.connection import LEAVE_TIMEOUT, ChatConnection, join_server
from chatbox.client.connect.hosts import target_of
from chatbox.client.doctor.diagnosis import (
    SAYS_AT,
    Attempt,
    Finding,
    Outcome,
    PortProbe,
    ProbeResult,
    Verdict,
    judge_buffers,
    judge_certificate,
    judge_chat,
    judge_clock,
    judge_names,
    judge_offload,
    judge_packets,
    judge_ports,
    judge_rate,
    judge_tcp,
)
from chatbox.client.errands.oneshots import Visit, visitor_name
from chatbox.client.exits import Exit, Stop
from chatbox.client.width import fitted
from chatbox.errors import NoSocket, RemoteError
from chatbox.rdt.probe import PROBE_BYTES

if TYPE_CHECKING:
    from chatbox.rdt.packet import Train
    from chatbox.rdt.receiver import Verdict as SinkVerdict

__all__ = ["doctor"]

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for a connection: SYNs are repeated after one and three."""

MAX_ADDRESSES: Final = 8
"""Addresses that are tried; a name with more of them is a service of another kind."""

PINGS: Final = 3
"""The shortest of a few says how long the way is; the others say how busy the server was."""

ANSWER_TIMEOUT: Final = 3.0
"""Seconds for the first answer over UDP, which is asked for several times meanwhile."""

PROBE_SECONDS: Final = 3.0
"""Seconds of the long probe: enough round trips to find a rate on any path."""

MAX_PORTS: Final = 64
"""UDP ports that are tried. A server needs a few, and one that says it has more than these may be
making them up to keep us busy."""

AT_ONCE: Final = 7
"""Short probes at a time: what one user may usually have, less the long one, which may still count.
A server that allows fewer says so, and is asked again when these have ended."""


async def doctor(reactor: Any, options: Namespace) -> Exit:
    """Examine the way to a server; say a line for each check."""
    examination = _Examination(reactor, options)
    try:
        await examination.run()
    except Stop as stopped:
        check = "TLS" if stopped.status is Exit.NOT_TRUSTED else "chat"
        examination.tell(Finding(check, Verdict.PROBLEM, stopped.sentence, "", stopped.status))
    return examination.status


class _Examination:
    """One examination, and how it went so far."""

    def __init__(self, reactor: Any, options: Namespace) -> None:
        self.status = Exit.OK
        self._reactor = reactor
        self._options = options
        self._access = Access.from_options(options)

    def tell(self, *findings: Finding) -> None:
        """Say what was found."""
        for finding in findings:
            said = str(finding)
            if sys.stdout.isatty():
                said = fitted(said, shutil.get_terminal_size().columns, SAYS_AT)
            print(said, flush=True)
            if self.status is Exit.OK:
                self.status = finding.status

    async def run(self) -> None:
        """All checks. Raises Stop if the server does not let us in."""
        self._check_machine()
        host = required_host(self._options.host)
        place = target_of(host, self._access)
        # An endpoint of another kind, such as a Unix socket, has neither a name nor a port.
        if place is not None and not await self._check_way(*place):
            return
        name = visitor_name(self._options)
        connection = await join_server(self._reactor, host, name, self._access)
        patient = _Patient(self._reactor, connection)
        try:
            self._check_certificate(connection)
            await self._check_chat(patient)
            await self._check_udp(patient)
        finally:
            await patient.leave()

    def _check_machine(self) -> None:
        """What is the same for every server."""
        from chatbox.client.doctor.offload import measure_buffers, try_offload

        self.tell(judge_buffers(measure_buffers()))
        with suppress(OSError):  # without loopback there is nothing to say about trains
            self.tell(judge_offload(*try_offload()))

    async def _check_way(self, host: str, port: int) -> bool:
        """The name and TCP. False if there is no way in."""
        addresses, problem = await self._look_up(host)
        self.tell(judge_names(host, addresses, problem))
        if not addresses:
            return False
        tried = addresses[:MAX_ADDRESSES]
        attempts = await gatherResults(
            [Deferred.fromCoroutine(self._try_tcp(address, port)) for address in tried]
        )
        self.tell(judge_tcp(port, attempts))
        return any(attempt.outcome is Outcome.OPEN for attempt in attempts)

    async def _look_up(self, host: str) -> tuple[list[str], str]:
        """The addresses of a host, or why there are none."""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            pass
        else:
            return [host], ""
        try:
            found = await deferToThreadPool(
                self._reactor,
                self._reactor.getThreadPool(),
                socket.getaddrinfo,
                *(host, None, 0, socket.SOCK_STREAM),
            )
        except (OSError, UnicodeError) as problem:
            return [], getattr(problem, "strerror", None) or str(problem)
        return list(dict.fromkeys(str(one[4][0]) for one in found)), ""

    async def _try_tcp(self, address: str, port: int) -> Attempt:
        """Connect, and close again."""
        kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        endpoint = kind(self._reactor, address, port, timeout=CONNECT_TIMEOUT)
        try:
            connection = await endpoint.connect(Factory.forProtocol(Protocol))
        except (error.TimeoutError, error.TCPTimedOutError):
            return Attempt(address, Outcome.SILENT)
        except error.ConnectError as problem:
            # Twisted keeps the system's number, whatever class it makes of it.
            number = problem.osError
            return Attempt(address, Outcome.of_errno(number if isinstance(number, int) else 0))
        except OSError as problem:
            return Attempt(address, Outcome.of_errno(problem.errno or 0))
        transport: Any = connection.transport  # type: ignore[union-attr]  # a Protocol's
        transport.abortConnection()
        return Attempt(address, Outcome.OPEN)

    def _check_certificate(self, connection: ChatConnection) -> None:
        """The certificate of a server with TLS, which has let us in and is trusted."""
        get = getattr(connection.transport, "getPeerCertificate", None)
        certificate = get() if get is not None else None
        if certificate is None:
            return
        from chatbox.certificates import fingerprint

        seen = certificate.to_cryptography()
        left = seen.not_valid_after_utc - datetime.now(timezone.utc)
        pinned = self._access.fingerprint is not None
        self.tell(judge_certificate(left.total_seconds() / 86400, fingerprint(seen), pinned=pinned))

    async def _check_chat(self, patient: _Patient) -> None:
        """The answers of the server, and its clock."""
        round_trips = []
        for _ in range(PINGS):
            asked_at = self._reactor.seconds()
            await patient.ask(Succeeded, patient.session.ping())
            round_trips.append(self._reactor.seconds() - asked_at)
        patient.round_trip = min(round_trips)
        self.tell(judge_chat(patient.peer, patient.round_trip))
        self.tell(judge_clock(patient.clock_ahead, patient.round_trip))

    async def _check_udp(self, patient: _Patient) -> None:
        """One long probe, and a short one for each other port."""
        try:
            first = await patient.probe(PROBE_BYTES, 1, self._options.udp_via)
        except Stop as stopped:
            self.tell(judge_ports([], 0, stopped.sentence))
            return
        probes = [PortProbe(first.port, first.answered)]
        last = min(first.ports, MAX_PORTS)
        refused = f"{last} say enough." if last < first.ports else ""
        if last > AT_ONCE and sys.stderr.isatty():
            print(f"Trying {last} UDP ports...", file=sys.stderr)
        which = 2
        while which <= last:
            begun: list[_Probe] = []
            try:
                while which <= last and len(begun) < AT_ONCE:
                    begun.append(await patient.begin(1, which, self._options.udp_via))
                    which += 1
            except Stop as stopped:  # the server may allow more when these have ended
                if not begun:
                    refused = stopped.sentence
                    break
            await gatherResults([Deferred.fromCoroutine(one.run(0.0)) for one in begun])
            probes += [PortProbe(one.port, one.answered) for one in begun]
        self.tell(judge_ports(probes, first.ports, refused, ipv6=":" in patient.peer))
        if first.answered:
            result = first.result()
            if result.received:  # else there is nothing to take a rate of
                self.tell(judge_rate(result))
            self.tell(judge_packets(result))


class _Patient(Visit):
    """A visit that listens for the server's time, and begins probes."""

    clock_ahead: float | None = None
    """Seconds that the server's clock is ahead of ours."""
    round_trip = 0.0

    def _hear(self, event: Event) -> None:
        if isinstance(event, Presence) and event.name == self.session.name and event.at:
            self.clock_ahead = event.at / 1000 - time.time()
        super()._hear(event)

    async def begin(self, size: int, which: int, via: tuple[str, int] | None) -> _Probe:
        """Begin to fetch `size` bytes from the UDP port `which`, from 1 on. Raises Stop."""
        offer = await self.ask(Offer, self.session.probe(size, which))
        if offer.size > size:
            raise Stop(Exit.BAD_DATA, "the server wants to send more than was asked for.")
        try:
            return _Probe(self._reactor, offer, via or (self.peer, offer.port), self.round_trip)
        except RemoteError as problem:
            raise Stop(Exit.BAD_DATA, f"the server's ticket is none ({problem}).") from None
        except NoSocket as problem:
            raise Stop(Exit.NO_UDP, f"no UDP socket can be had here ({problem}).") from None

    async def probe(self, size: int, which: int, via: tuple[str, int] | None) -> _Probe:
        """The same, to its end."""
        probe = await self.begin(size, which, via)
        await probe.run(PROBE_SECONDS)
        return probe


class _Probe:
    """A transfer of which only the packets matter."""

    def __init__(
        self, reactor: Any, offer: Offer, address: tuple[str, int], round_trip: float
    ) -> None:
        """Begin it. Raises RemoteError if there is no such ticket; NoSocket."""
        from chatbox.rdt.fetch import fetch
        from chatbox.rdt.packet import HEADER
        from chatbox.rdt.socket_options import longest_to
        from chatbox.rdt.ticket import Ticket

        self.port = offer.port
        self.ports = offer.ports or 1
        self.answered = False
        self._reactor = reactor
        self._header = HEADER
        self._ticket = Ticket.parse(offer.ticket)
        self._ipv6 = ":" in address[0]
        self._limit = longest_to(address)
        self._began_at = self._ended_at = 0.0
        self._arrived = self._sent = self._largest = 0
        self._received = 0
        self._heard: Deferred[None] = Deferred()
        self._ended: Deferred[None] = Deferred()
        self._transfer = fetch(
            reactor,
            address,
            self._ticket,
            offer.size,
            _Nowhere(),
            self._listen,
            pause_half_way=False,
            rtt=round_trip,
            watch=self._watch,
        )

    async def run(self, seconds: float) -> None:
        """Wait for an answer, then at most `seconds` for the rest; end it."""
        with suppress(TimeoutError):
            await self._heard.addTimeout(ANSWER_TIMEOUT, self._reactor)
            with suppress(TimeoutError):
                await self._ended.addTimeout(max(seconds, 0.001), self._reactor)
        self._received = self._transfer.progress().confirmed
        self._ended_at = self._reactor.seconds()
        self._transfer.cancel()
        if self.answered:
            with suppress(TimeoutError):
                await self._transfer.closed.addTimeout(LEAVE_TIMEOUT, self._reactor)

    def result(self) -> ProbeResult:
        """What was seen."""
        from chatbox.rdt import pmtu, skips

        tries = pmtu.tries_above(self._limit, self._largest)
        return ProbeResult(
            self._received,
            self._ended_at - self._began_at,
            self._arrived,
            self._sent,
            self._largest,
            tries + skips.most(self._sent),
            self._ipv6,
        )

    def _listen(self, event: object) -> None:
        from chatbox.rdt.receiver import Ended, Opened

        if isinstance(event, Opened):
            self.answered = True
            self._began_at = self._reactor.seconds()
            if not self._heard.called:
                self._heard.callback(None)
        elif isinstance(event, Ended) and not self._ended.called:
            self._ended.callback(None)

    def _watch(self, train: Train) -> None:
        """Count the packets of this transfer; their numbers tell how many were sent."""
        for datagram in train.datagrams():
            if len(datagram) < self._header.size:
                continue
            _, connection_id, number = self._header.unpack_from(datagram)
            if connection_id == self._ticket.connection_id:
                self._arrived += 1
                self._largest = max(self._largest, len(datagram))
                self._sent = max(self._sent, number + 1)


class _Nowhere:
    """A target that keeps nothing, and is content with everything."""

    have: Sequence[tuple[int, int]] = ()

    def __init__(self) -> None:
        self._verdict: SinkVerdict | None = None
        self._wake = lambda: None

    def start(self, size: int, wake: Any) -> None:
        """There is always room."""
        self._wake = wake

    def recognise(self, mtime_ns: int) -> bool:
        """There is nothing from before that could differ."""
        return True

    def write(self, offset: int, data: memoryview) -> None:
        """Forget it."""

    def reached(self, prefix: int) -> None:
        """Nothing is hashed: each packet was sealed, which is proof enough for zeros."""

    def finish(self, digest: bytes) -> None:
        """It is whole."""
        from chatbox.rdt.ends import End
        from chatbox.rdt.receiver import Verdict as SinkVerdict

        self._verdict = SinkVerdict(End.DONE, digest=digest)
        self._wake()

    def verdict(self) -> SinkVerdict | None:
        """All is well once it is whole."""
        return self._verdict

    def close(self, end: Any) -> None:
        """There is nothing to close."""
