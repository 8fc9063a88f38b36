"""The server's side of the file transfers: a range of UDP ports, and tickets for them."""

from __future__ import annotations

import math
import os
import random
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from chatbox.errors import RemoteError
from chatbox.rdt.admissions import Admissions, Taker
from chatbox.rdt.congestion import ControllerFactory
from chatbox.rdt.congestion.bbr.machine import Bbr
from chatbox.rdt.congestion.cubic import Cubic
from chatbox.rdt.demux import Allowance, Demux, File, Transfer
from chatbox.rdt.ends import End
from chatbox.rdt.probe import ProbeFile
from chatbox.rdt.pump import Pump
from chatbox.rdt.seal import TrainSealer
from chatbox.rdt.sender import Ended, Opened
from chatbox.rdt.sender_states import State
from chatbox.rdt.ticket import Ticket
from chatbox.sparing import SparingLog
from chatbox.units import port_ranges

CLOSE_SECONDS = 1.0
"""How long the clients may take to hear that the server stops: a few round trips. One that does not
hear it finds out by the silence."""

MAX_LOGGED = 50
"""Lines in ten seconds about downloads that begin and end: a client may begin as many in one."""

LOGGED_PROBE = 1 << 16
"""Bytes of a probe that the log tells of, when it has ended: each look at the path has one that is
long, and a short one for each port."""

_log = Logger()


def _bbr(datagram_bytes: int, now: float) -> Bbr:
    # Chance only spreads the probes of flows that began together (draft-ietf-ccwg-bbr).
    return Bbr(datagram_bytes, now, random.Random())


CONTROLLERS: dict[str, ControllerFactory] = {"bbr": _bbr, "cubic": Cubic}
"""The congestion controllers by the names that `--cc` takes; bbr is the default."""


_UNDER_WAY = frozenset({State.WAITING, State.SENDING, State.SENT})


class _ServedPort:
    """One UDP port of a server and its transfers."""

    def __init__(
        self, reactor: Any, demux: Demux, log: SparingLog, on_events: Callable[[], None]
    ) -> None:
        self.demux = demux
        self.pump = Pump(reactor, demux, self._deliver)
        self.number = 0
        self._reactor = reactor
        self._log = log
        self._on_events = on_events

    def turn(self) -> None:
        """Send and tell what there is. What breaks in one transfer is nobody else's trouble."""
        with _log.failuresHandled("sending broke"):
            self.pump.pump()

    def _deliver(self) -> None:
        while (happened := self.demux.next_event()) is not None:
            transfer, event = happened
            self._note(transfer, event)
            if isinstance(event, Opened) and not transfer.sender.ended:
                self._start_hashing(transfer)
        self._on_events()

    def _note(self, transfer: Transfer, event: Opened | Ended) -> None:
        """Tell the operator."""
        file, user = transfer.file, transfer.taker.user
        is_probe = isinstance(file, ProbeFile)
        if isinstance(event, Opened):
            if not is_probe:
                self._log("a download of {user} has begun", user=user)
        elif not is_probe or file.size >= LOGGED_PROBE:
            self._log(
                "a {what} of {user} has ended: {end}, {sent} bytes sent",
                what="probe" if is_probe else "download",
                user=user,
                end=event.end.name,
                sent=event.sent,
            )

    def _start_hashing(self, transfer: Transfer) -> None:
        try:
            transfer.file.start_hashing(partial(self._wake, transfer))
        except OSError:  # no descriptors are left, or threads, so there will be no digest
            self.demux.digest_ready(transfer, self.pump.now())

    def _wake(self, transfer: Transfer) -> None:
        self._reactor.callFromThread(self._digest_ready, transfer)

    def _digest_ready(self, transfer: Transfer) -> None:
        self.demux.digest_ready(transfer, self.pump.now())
        self.turn()


class TransferService(Service):
    """The server's side: a range of UDP ports, and tickets for transfers over them."""

    def __init__(
        self,
        reactor: Any,
        interface: str,
        ports: Sequence[int | socket.socket],
        *,
        make_controller: ControllerFactory | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
        admissions: Admissions | None = None,
        max_rate: float = math.inf,
        gso: bool = True,
    ) -> None:
        """
        Each of the `ports` is a number to listen on at `interface`, or a socket that is bound
        already. `max_rate` is for all transfers together, in bytes per second.
        """
        self._reactor = reactor
        self._interface = interface
        self._wanted = tuple(ports)
        self._make_controller = make_controller or CONTROLLERS["bbr"]
        self._random_bytes = random_bytes
        self._admissions = admissions if admissions is not None else Admissions()
        self._gso = gso
        self._allowance = Allowance(max_rate)
        self._log_download = SparingLog(
            _log.info, reactor.seconds, MAX_LOGGED, "{count} more downloads have begun or ended"
        )
        self._ports: list[_ServedPort] = []
        self._refusal: RemoteError | None = None
        self._closing: Deferred[None] | None = None

    @property
    def ports(self) -> list[int]:
        """The port numbers that are listened on."""
        return [port.number for port in self._ports]

    @property
    def under_way(self) -> int:
        """How many transfers send, or may begin to. Those that pause may do so for ever."""
        return sum(
            transfer.sender.state in _UNDER_WAY
            for port in self._ports
            for transfer in port.demux.transfers
        )

    def startService(self) -> None:
        """
        Listen on every port of the range that can be had.

        :raises twisted.internet.error.CannotListenError: if none of them can.
        """
        super().startService()
        self._refusal = self._closing = None
        failures: list[CannotListenError] = []
        sealer = TrainSealer()
        for wanted in self._wanted:
            demux = Demux(
                self._make_controller,
                self._admissions,
                self._random_bytes,
                self._allowance,
                self._reactor.seconds(),
                sealer,
            )
            port = _ServedPort(self._reactor, demux, self._log_download, self._check_closed)
            try:
                port.number = port.pump.listen(wanted, self._interface, gso=self._gso)
            except CannotListenError as error:
                failures.append(error)
            else:
                self._ports.append(port)
        if failures and not self._ports:
            raise failures[0]
        _log.info("RDT on UDP starting on {ports}", ports=port_ranges(self.ports))
        for failure in failures:
            _log.warn(
                "UDP port {port} cannot be had ({why}): going on without it",
                port=failure.port,
                why=getattr(failure.socketError, "strerror", failure.socketError),
            )

    def refuse(self, code: str, sentence: str) -> None:
        """From now on begin no transfer; say why. Those under way go on."""
        self._refusal = RemoteError(code, sentence)

    def withdraw(self, is_meant: Callable[[Taker], bool]) -> None:
        """End the transfers of those who may have nothing any more."""
        for port in self._ports:
            port.demux.abort(End.REFUSED, port.pump.now(), is_meant)
            port.turn()

    def stopService(self) -> Deferred[list[None]]:
        """Tell every client that this is the end, and close the ports when all have heard it.

        That takes `CLOSE_SECONDS` at most.
        """
        super().stopService()
        self.refuse("unavailable", "The server does not send files at the moment.")
        self._closing = Deferred()
        for port in self._ports:
            port.demux.abort(End.SERVER_STOPPING, port.pump.now())
            port.turn()
        too_late = self._reactor.callLater(CLOSE_SECONDS, self.cut)
        self._check_closed()

        def closed(_: None) -> Deferred[list[None]]:
            if too_late.active():
                too_late.cancel()
            _log.info("RDT on UDP {ports} has ended", ports=port_ranges(self.ports))
            ports, self._ports = self._ports, []
            return gatherResults([port.pump.stop() for port in ports])

        return self._closing.addCallback(closed)

    def cut(self) -> None:
        """Wait for nobody any more, once the service stops."""
        if self._closing is not None and not self._closing.called:
            self._closing.callback(None)

    def _check_closed(self) -> None:
        if self._closing is not None and not any(len(port.demux) for port in self._ports):
            self.cut()

    def offer(self, taker: Taker, file: File, which: int | None = None) -> tuple[int, Ticket]:
        """
        Make ready to send `file` to `taker`: the port and the ticket that they need. The file is
        ours to close. `which` of `ports` to use, from 1 on; None for the one with least to do.

        :raises RemoteError: ``too-many-downloads``, ``unavailable`` while no port is open,
            ``bad-field`` if there is no such port, or what `refuse` was told.
        """
        try:
            if self._refusal is not None:
                raise self._refusal
            if not self._ports:
                raise RemoteError("unavailable", "The server does not send files at the moment.")
            self._make_room(taker)
            if which is None:
                port = min(self._ports, key=lambda port: len(port.demux))
            elif 0 < which <= len(self._ports):
                port = self._ports[which - 1]
            else:
                raise RemoteError("bad-field", f"There are {len(self._ports)} UDP ports.")
            ticket = port.demux.admit(taker, file, port.pump.now())
        except RemoteError:
            file.close()
            raise
        port.turn()
        return port.number, ticket

    def _make_room(self, taker: Taker) -> None:
        """
        If there are as many transfers as there may be, end the one that has been idle for longest,
        of all that may have to make room.
        """
        if self._admissions.has_room(taker):
            return
        silent = [
            (transfer.sender.idle_since, index, transfer)
            for index, port in enumerate(self._ports)
            for transfer in port.demux.silent(taker, port.pump.now())
        ]
        if silent:
            _, index, transfer = min(silent, key=lambda one: one[0])
            port = self._ports[index]
            port.demux.evict(transfer, port.pump.now())
            port.turn()
