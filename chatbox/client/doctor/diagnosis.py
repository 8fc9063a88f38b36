"""From what was measured on the way to a server to what is wrong with it, and what to do.

Each ``judge_`` function takes the facts of one check and returns a `Finding`: a line for a person,
with a piece of advice if something is wrong. Nothing here measures anything, which is the work of
`chatbox.client.doctor.examination`. So every sentence can be tested without breaking a network.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from chatbox.client.exits import Exit
from chatbox.client.words import rate_text, size_text
from chatbox.rdt.packet import BASE_DATAGRAM
from chatbox.rdt.socket_options import IP_AND_UDP_BYTES, IPV6_AND_UDP_BYTES
from chatbox.text import printable
from chatbox.units import port_ranges

__all__ = [
    "SAYS_AT",
    "Attempt",
    "Buffers",
    "Finding",
    "Offload",
    "Outcome",
    "PortProbe",
    "ProbeResult",
    "Verdict",
    "judge_buffers",
    "judge_certificate",
    "judge_chat",
    "judge_clock",
    "judge_names",
    "judge_offload",
    "judge_packets",
    "judge_ports",
    "judge_rate",
    "judge_tcp",
]

CLOCK_TOLERANCE: Final = 60.0
"""Seconds that two clocks may differ before the times of messages look wrong to people."""

EXPIRY_NOTICE: Final = 14
"""Days before a certificate's end at which it is time to renew it."""

LOSS_NOTICE: Final = 0.02
"""The share of lost packets that people notice in other programs: TCP slows down far below it."""


class Verdict(Enum):
    """How a check went."""

    OK = "OK"
    WARNING = "WARNING"
    """It works, but not as well as it could."""
    PROBLEM = "PROBLEM"


SAYS_AT: Final = 21
"""The column where the words of a finding begin."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was checked, how it went, what was seen, and what to do about it."""

    check: str
    verdict: Verdict
    says: str
    advice: str = ""
    status: Exit = Exit.OK
    """What the command ends with because of it."""

    def __str__(self) -> str:
        return f"{self.verdict.value:8} {self.check:11} {self.says} {self.advice}".rstrip()


def _ok(check: str, says: str) -> Finding:
    return Finding(check, Verdict.OK, says)


def _warning(check: str, says: str, advice: str) -> Finding:
    return Finding(check, Verdict.WARNING, says, advice)


def _problem(check: str, status: Exit, says: str, advice: str) -> Finding:
    return Finding(check, Verdict.PROBLEM, says, advice, status)


def judge_names(host: str, addresses: Sequence[str], error: str) -> Finding:
    """What became of looking `host` up; `error` says why there are no addresses."""
    host = printable(host)
    if not addresses:
        return _problem(
            "name",
            Exit.NO_CONNECTION,
            f"there is no address for {host} ({printable(error)}).",
            "Check the spelling and this machine's name server, or give the IP address.",
        )
    if list(addresses) == [host]:
        return _ok("name", f"{host} is an address.")
    return _ok("name", f"{host} is {_and(addresses)}.")


class Outcome(Enum):
    """How an attempt to connect ended."""

    OPEN = "open"
    REFUSED = "refused"
    SILENT = "silent"
    REJECTED = "rejected"
    """Something on the way says no (ICMP), or this machine's own firewall does."""
    NO_ROUTE = "no route"

    @classmethod
    def of_errno(cls, number: int) -> Outcome:
        """What the system's error means."""
        return {
            errno.ECONNREFUSED: cls.REFUSED,
            errno.ETIMEDOUT: cls.SILENT,
            errno.EHOSTUNREACH: cls.REJECTED,
            errno.EACCES: cls.REJECTED,
            errno.EPERM: cls.REJECTED,
        }.get(number, cls.NO_ROUTE)


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt to connect to one address."""

    address: str
    outcome: Outcome


def judge_tcp(port: int, attempts: Sequence[Attempt]) -> Finding:
    """Whether somebody accepts connections."""
    open_ = [one.address for one in attempts if one.outcome is Outcome.OPEN]
    failed = [one for one in attempts if one.outcome is not Outcome.OPEN]
    if open_:
        says = f"{_and(open_)} accept{'s' if len(open_) == 1 else ''} connections at port {port}."
        missed = [one.address for one in failed if one.outcome is not Outcome.NO_ROUTE]
        if not missed:
            return _ok("TCP", says)
        return _warning(
            "TCP",
            f"{says} {_and(missed)} {_REASONS[failed[0].outcome]}.",
            "Clients come in by the other address, a moment later. Let the server listen there too"
            " (--listen tcp6:...), or take the address out of the name server.",
        )
    outcome = failed[0].outcome if failed else Outcome.NO_ROUTE
    return _problem(
        "TCP",
        Exit.NO_CONNECTION,
        f"{_and([one.address for one in attempts])} {_REASONS[outcome]} (port {port}).",
        _TCP_ADVICE[outcome].format(port=port),
    )


_REASONS: Final = {
    Outcome.REFUSED: "answered that nobody listens",
    Outcome.SILENT: "did not answer",
    Outcome.REJECTED: "cannot be reached: something on the way says no",
    Outcome.NO_ROUTE: "cannot be reached: this machine has no way there",
}

_TCP_ADVICE: Final = {
    Outcome.REFUSED: "Is the server running, and is the port right? A firewall that drops packets"
    " would not have answered.",
    Outcome.SILENT: "Is the machine on? If so, a firewall drops the packets, most likely on the"
    " server's machine or its router: open TCP port {port} (ufw allow {port}/tcp, or firewall-cmd"
    " --add-port={port}/tcp), and forward it on a home router.",
    Outcome.REJECTED: "A machine that is off on one's own network, or a firewall that rejects, such"
    " as firewalld on the server: firewall-cmd --add-port={port}/tcp.",
    Outcome.NO_ROUTE: "Is this machine on the network, and a VPN up if it takes one?",
}


def judge_certificate(days_left: float, fingerprint: str, *, pinned: bool) -> Finding:
    """The certificate of a server that was let through: how long it holds, and its key."""
    says = f"the key is {fingerprint[:16]}..., {'as expected' if pinned else 'trusted here'};"
    if days_left < 0:
        return _warning(
            "TLS",
            f"{says} the certificate ended {-days_left:.0f} days ago.",
            "Renew it on the server. The key is what this client trusts.",
        )
    says = f"{says} the certificate holds for {days_left:.0f} days."
    if days_left < EXPIRY_NOTICE:
        return _warning("TLS", says, "Renew it on the server.")
    return _ok("TLS", says)


def judge_chat(server: str, round_trip: float) -> Finding:
    """A server that let us in, and the shortest time of an answer, in seconds."""
    return _ok("chat", f"{printable(server)} answers, in {_span(round_trip)}.")


def judge_clock(ahead: float | None, round_trip: float) -> Finding:
    """How many seconds the server's clock is ahead of ours; None if it does not tell."""
    if ahead is None:
        return _ok("clock", "the server does not tell its time.")
    if abs(ahead) <= CLOCK_TOLERANCE:
        close = abs(ahead) < max(1.0, round_trip)
        says = "no more than a second" if close else f"{abs(ahead):.0f} s"
        return _ok("clock", f"the server's differs from this machine's by {says}.")
    which = "ahead of" if ahead > 0 else "behind"
    return _warning(
        "clock",
        f"the server's is {abs(ahead):.0f} s {which} this machine's.",
        "The times of messages look wrong. Set the clock of one of them: timedatectl set-ntp true.",
    )


@dataclass(frozen=True, slots=True)
class PortProbe:
    """One UDP port of the server, and whether anything came back from it."""

    port: int
    answered: bool


def judge_ports(
    probes: Sequence[PortProbe], total: int, refused: str, *, ipv6: bool = False
) -> Finding:
    """Which of the server's `total` UDP ports can be reached; `refused` says why not all were
    tried, `ipv6` whether it was over IPv6.
    """
    closed = [probe.port for probe in probes if not probe.answered]
    tried = f" {total - len(probes)} more were not tried: {refused}" if refused else ""
    if not probes:
        return _problem(
            "UDP",
            Exit.REFUSED,
            f"no port could be tried: {refused}",
            "Try again in a minute; a server of an older version has no probes at all.",
        )
    if len(closed) == len(probes):
        ports = _ports(closed)
        return _problem(
            "UDP",
            Exit.NO_UDP,
            f"nothing comes back from UDP port{_s(closed)} {ports}.{tried}",
            "Downloads cannot work, the chat does. A firewall drops UDP, most likely on the"
            f" server's machine or its router, or on this network: open UDP {ports} there"
            f" (ufw allow {ports.replace('-', ':')}/udp, or firewall-cmd"
            f" {' '.join(f'--add-port={run}/udp' for run in ports.split(','))}),"
            " and forward it on a home router."
            + " Or the server has no UDP over IPv6: try its IPv4 address."
            * ipv6,
        )
    if closed:
        return _problem(
            "UDP",
            Exit.NO_UDP,
            f"{len(probes) - len(closed)} of {len(probes)} ports answer; nothing comes back from"
            f" UDP port{_s(closed)} {port_ranges(closed, ',')}.{tried}",
            "Some downloads will not work. Open those ports in the firewall too, or let the server"
            " use only the others (--udp-ports).",
        )
    ports = _ports([probe.port for probe in probes])
    return _ok("UDP", f"answers come from UDP port{_s(probes)} {ports}.{tried}")


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What the probe has brought."""

    received: int
    """Bytes of the file."""
    seconds: float
    """From the first answer to the last byte."""
    arrived: int
    """Packets."""
    sent: int
    """Packets that the server has sent, as far as the numbers of those that arrived tell."""
    largest: int
    """Bytes of the longest one."""
    spent: int = 0
    """Packets that were not meant to arrive: those that were sent to find the longest, and numbers
    that were left out.
    """
    ipv6: bool = False

    @property
    def loss(self) -> float:
        """The share of packets that got lost, of those that were meant to arrive."""
        lost = max(0, self.sent - self.arrived - self.spent)
        return lost / self.sent if self.sent else 0.0


def judge_rate(probe: ProbeResult) -> Finding:
    """How fast it was, and what got lost."""
    rate = probe.received / probe.seconds if probe.seconds > 0 else 0.0
    says = (
        f"{size_text(probe.received)} in {_span(probe.seconds)}, {rate_text(rate)}, from a standing"
        f" start; {probe.loss:.1%} of {probe.sent} packets got lost."
    )
    if probe.loss > LOSS_NOTICE:
        return _warning(
            "rate",
            says,
            "Downloads cope with that, other programs hardly. On Wi-Fi, try a cable; else a line on"
            " the way is bad or too full.",
        )
    return _ok("rate", says)


def judge_packets(probe: ProbeResult) -> Finding:
    """How long packets may be."""
    headers = IPV6_AND_UDP_BYTES if probe.ipv6 else IP_AND_UDP_BYTES
    mtu = probe.largest + headers
    if probe.largest > BASE_DATAGRAM:
        return _ok("packets", f"up to {probe.largest} bytes arrive, so the MTU is at least {mtu}.")
    if not probe.received:
        return _problem(
            "packets",
            Exit.NO_UDP,
            f"the path carries no packets of {BASE_DATAGRAM} bytes: words arrive, files do not.",
            "Downloads cannot work. A tunnel or a VPN on the way has too small an MTU: it must be"
            f" at least {BASE_DATAGRAM + headers}, and 1280 will do (ip link set DEV mtu 1280).",
        )
    return _warning(
        "packets",
        f"none longer than {probe.largest} bytes arrived.",
        "It works, with more effort. On a usual network 1472 would arrive: is there a tunnel or a"
        " VPN on the way? A probe that ended early has not looked for longer ones yet.",
    )


@dataclass(frozen=True, slots=True)
class Buffers:
    """The socket buffers that were asked for and granted, in bytes."""

    asked: int
    receive: int
    send: int


def judge_buffers(buffers: Buffers) -> Finding:
    """Whether the system lets sockets have what a fast download takes."""
    short = [
        (name, granted)
        for name, granted in (("rmem_max", buffers.receive), ("wmem_max", buffers.send))
        if granted < buffers.asked
    ]
    if not short:
        return _ok("buffers", f"sockets may hold {size_text(buffers.asked)} each way.")
    granted = min(size for _, size in short)
    commands = " ".join(f"net.core.{name}={buffers.asked}" for name, _ in short)
    return _warning(
        "buffers",
        f"sockets may hold {size_text(granted)} only, not {size_text(buffers.asked)}.",
        f"Fast downloads lose packets here. As root: sysctl -w {commands}; to keep it, put the same"
        " into a file in /etc/sysctl.d.",
    )


class Offload(Enum):
    """Whether the system cuts up (GSO) and joins (GRO) trains of packets for us."""

    WORKS = "works"
    MISSING = "is missing"
    BROKEN = "is broken"


def judge_offload(gso: Offload, gro: Offload) -> Finding:
    """Whether trains of packets go through this machine's system in one piece."""
    states = f"GSO {gso.value}, GRO {gro.value} on this machine"
    if Offload.BROKEN in (gso, gro):
        return _warning(
            "trains",
            f"{states}: what was sent is not what arrived.",
            "That is a fault of its kernel or driver. A server here should run with --no-gso.",
        )
    if Offload.MISSING in (gso, gro):
        return _warning(
            "trains",
            f"{states}.",
            "Packets go one by one, which takes more of the processor. Linux has both from 5.0 on.",
        )
    return _ok("trains", f"{states}.")


def _span(seconds: float) -> str:
    """A time that may be short."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"


def _and(items: Sequence[str]) -> str:
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def _s(items: Sequence[object]) -> str:
    return "" if len(items) == 1 else "s"


def _ports(ports: Sequence[int]) -> str:
    """Ports as firewalls are told them: 55000-55003,55007."""
    return port_ranges(ports, ",")
