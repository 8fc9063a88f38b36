"""``twistd chatbox``: the options, and the services made from them.

This module assembles and decides nothing. It is the one place on the server where the chat, the
log and the file transfers meet, and their only common fact passes through `ShelfDownloads`: a
transfer's ticket, minted by the one and carried to the client by the other.

What the options say is checked here, before anything starts, because `twistd` shows a `UsageError`
as a sentence and any other error as a traceback. No reactor is imported while options are read:
``twist --reactor`` chooses one only after that.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
import secrets
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from platformdirs import user_state_dir
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.strcred import AuthOptionMixin
from twisted.internet import task
from twisted.python import usage

from chatbox import __version__
from chatbox.chat.accounts import AccountGate
from chatbox.chat.cluster import SharedNames
from chatbox.chat.gate import Gate, OpenGate
from chatbox.chat.limits import Limits
from chatbox.chat.names import LocalNames
from chatbox.chat.outbox import Turn
from chatbox.chat.register import Register
from chatbox.chat.room import Room
from chatbox.chat.server import ChatFactory, ChatService
from chatbox.chat.session import Offer
from chatbox.chat.sharing import Probe
from chatbox.checkers import checking
from chatbox.inherited import INHERITED, datagram_sockets, stream_endpoints
from chatbox.lan import announcement_for
from chatbox.lan.announce import AnnounceService, machine_name
from chatbox.log import MessageLog, open_log
from chatbox.log.keep import parse_keep
from chatbox.log.redis import RedisLog
from chatbox.log.sqlite import SqliteLog
from chatbox.openfiles import OpenFiles
from chatbox.rdt.demux import MAX_TRANSFERS, MAX_TRANSFERS_PER_USER, Admissions
from chatbox.rdt.probe import PROBE_BYTES, ProbeFile
from chatbox.rdt.service import CONTROLLERS, TransferService
from chatbox.shelf import Shelf
from chatbox.stopping import DEFAULT_GRACE, Server
from chatbox.tls import DEFAULT_TLS_PORT, SELF_SIGNED, ListeningService, check_endpoint
from chatbox.units import parse_rate

__all__ = ["Options", "ShelfDownloads", "makeService"]

DEFAULT_LISTEN: Final = "tcp:50000"

MAX_UDP_PORTS: Final = 1000
"""Each port is a socket for as long as the server runs. One carries many downloads, so a few are
plenty; the usual limit of open files is 1024."""

MAX_GRACE: Final = 86_400.0
"""Seconds: whoever wants to wait for longer than a day need not restart at all."""

_LIMITS: Final = Limits()

_INTERFACE: Final = re.compile(r"(?<!\\):interface=((?:\\.|[^:\\])*)")


class Options(usage.Options, AuthOptionMixin):
    """What can be said after ``twistd chatbox``."""

    synopsis = "[options]"
    longdesc = (
        "Serves a chat room over TCP, to chatbox clients and to anyone with netcat, and a folder "
        "of files that they download over UDP."
    )
    optParameters: list[list[object]] = [
        ["files", None, "files", "The folder whose files are shared."],
        [
            "udp-ports",
            None,
            "55000-55019",
            "The UDP ports for downloads: one, FIRST-LAST, or systemd.",
        ],
        ["udp-interface", None, None, "The address to send files from [default: as --listen]."],
        [
            "max-rate",
            None,
            None,
            "What all downloads together may take, as 10MB or 100Mbit a second.",
        ],
        ["downloads", None, MAX_TRANSFERS, "How many downloads may run at once."],
        [
            "downloads-per-user",
            None,
            MAX_TRANSFERS_PER_USER,
            "How many of them may be one person's.",
        ],
        ["cc", None, "bbr", f"The congestion control of downloads: {' or '.join(CONTROLLERS)}."],
        [
            "log",
            None,
            "sqlite:",
            "Where messages are kept: sqlite:PATH, redis://HOST/DB or memory:.",
        ],
        ["keep", None, "all", "How much is kept, such as 90d,1000000,2GB."],
        [
            "room",
            None,
            None,
            "What the room is called on the local network [default: the machine].",
        ],
        ["announce", None, "", "Announce the server on the network of this address only."],
        [
            "max-connections",
            None,
            _LIMITS.connections,
            "How many clients may be connected at once; 0 for as many as the system lets us have.",
        ],
        [
            "max-connections-per-address",
            None,
            _LIMITS.connections_per_address,
            "How many of them may come from one IP address; 0 for no limit.",
        ],
        [
            "login-timeout",
            None,
            _LIMITS.login_timeout,
            "Seconds in which a client must say who it is; 0 for no limit.",
        ],
        [
            "rate",
            None,
            _LIMITS.rate,
            "Requests a second that are read from one client; 0 for no limit.",
        ],
        ["burst", None, _LIMITS.burst, "How many it may send at once before that."],
        [
            "state-dir",
            None,
            None,
            "Where the server's own files are [default: as the system has it].",
        ],
        [
            "grace",
            None,
            DEFAULT_GRACE,
            "How many seconds downloads have to end when the server stops.",
        ],
    ]

    optFlags: list[list[object]] = [
        ["no-announce", None, "Do not announce the server on the local network."],
        ["no-gso", None, "Hand packets to the system one by one (for drivers that damage trains)."],
        [
            "tls-self-signed",
            None,
            f"Speak TLS too, on port {DEFAULT_TLS_PORT}, with a certificate that the server makes.",
        ],
        [
            "allow-plain-auth",
            None,
            "Take passwords over connections without TLS, where others can read them.",
        ],
    ]

    supportedInterfaces = (IUsernamePassword,)

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["credCheckers"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Listen for chat here; may be given several times. A port such as tcp:50000 or
        tcp:50000:interface=127.0.0.1, or any other Twisted server endpoint (tls:FOLDER:port=50001,
        ssl:, systemd:, unix:...); with tls-self-signed: in front it speaks TLS with a certificate
        that the server makes; systemd alone means all sockets that it passes. [default: tcp:50000]
        """
        self["listen"].append(endpoint)

    def opt_auth(self, description: str) -> None:
        """Let people in with a password only, as the checker KIND:ARGUMENT says, such as
        argon2:FILE for a file of `chatbox passwd`. May be given several times: who satisfies one
        may come in. --help-auth lists the kinds.
        """
        try:
            super().opt_auth(description)
        except usage.UsageError as error:
            reason = str(error).removeprefix("Unexpected error: ")
            raise usage.UsageError(f"--auth {description}: {reason}") from error

    def parseArgs(self, *rest: str) -> None:
        """Refuse what is not an option."""
        if rest:
            raise usage.UsageError(f"chatbox takes options only; it has no use for {rest[0]!r}.")

    def postOptions(self) -> None:
        """Check and convert everything, the defaults too."""
        self["listen"] = [
            _endpoint(text)
            for texts in map(_expand, self["listen"] or [DEFAULT_LISTEN])
            for text in texts
        ]
        if self["tls-self-signed"]:
            # Where nobody listens for the chat, nobody expects its twin to listen.
            interface = common_interface(self["listen"]).replace(":", r"\:")
            twin = f"{SELF_SIGNED}tcp:{DEFAULT_TLS_PORT}"
            self["listen"].append(f"{twin}:interface={interface}" if interface else twin)
        self["files"] = _folder(self["files"])
        self["udp-ports"] = _ports(self["udp-ports"])
        self["grace"] = _grace(self["grace"])
        if self["udp-interface"] is None:
            self["udp-interface"] = common_interface(self["listen"])
        self._check_downloads()
        self["announce"] = _address(self["announce"])
        self._check_limits()
        try:
            self["keep"] = parse_keep(self["keep"])
        except ValueError as error:
            raise usage.UsageError(f"--keep {self['keep']}: {error}") from error
        self["state-dir"] = os.path.abspath(self["state-dir"] or user_state_dir("chatbox"))
        try:
            # It does nothing before it is started.
            open_log(self["log"], state_dir=self["state-dir"])
        except ValueError as error:
            raise usage.UsageError(f"--log {self['log']}: {error}") from error

    def _check_downloads(self) -> None:
        """Check and convert what is said about downloads."""
        try:
            self["max-rate"] = (
                math.inf if self["max-rate"] is None else parse_rate(self["max-rate"])
            )
        except ValueError as error:
            raise usage.UsageError(f"--max-rate: {error}") from error
        for name in ("downloads", "downloads-per-user"):
            self[name] = _count(name, self[name])
        if self["cc"] not in CONTROLLERS:
            raise usage.UsageError(
                f"--cc {self['cc']}: there is no such congestion control. Write one of:"
                f" {', '.join(CONTROLLERS)}."
            )

    def _check_limits(self) -> None:
        """Check and convert what is said about clients."""
        for name in ("max-connections", "max-connections-per-address"):
            self[name] = _count(name, self[name], 0)
        self["burst"] = _count("burst", self["burst"])
        for name in ("login-timeout", "rate"):
            self[name] = _quantity(name, self[name])


class ShelfDownloads:
    """Joins the shelf and the transfers into what the chat calls its downloads."""

    def __init__(self, shelf: Shelf, transfers: TransferService) -> None:
        self._shelf = shelf
        self._transfers = transfers

    def offer(self, user: str, name: str) -> Offer:
        """Open the file called `name` and make ready to send it to `user`. Raises RemoteError."""
        file = self._shelf.open(name)
        size, digest = file.size, file.digest()
        mtime_ms = file.mtime_ns // 1_000_000 if file.mtime_ns >= 0 else None
        try:
            port, ticket = self._transfers.offer(user, file)
        except BaseException:
            file.close()
            raise
        return Offer(port, str(ticket), size, mtime_ms, digest.hex() if digest else None)

    def probe(self, user: str, size: int | None, which: int | None) -> Probe:
        """Make a look at the path ready for `user`. Raises RemoteError."""
        file = ProbeFile(PROBE_BYTES if size is None else size)
        port, ticket = self._transfers.offer(user, file, which)
        return Probe(port, str(ticket), file.size, len(self._transfers.ports))


def makeService(options: Options, reactor: Any = None) -> Server:
    """Build the server that `options` describe.

    Its parts start in the order in which they need each other and stop in the opposite one.
    """
    if reactor is None:
        from twisted.internet import reactor
    shelf = Shelf(options["files"])
    transfers = TransferService(
        reactor,
        options["udp-interface"],
        _adopted(options["udp-ports"]),
        make_controller=CONTROLLERS[options["cc"]],
        admissions=Admissions(options["downloads"], options["downloads-per-user"]),
        max_rate=options["max-rate"],
        gso=not options["no-gso"],
    )
    log = open_log(
        options["log"],
        call_from_thread=reactor.callFromThread,
        state_dir=options["state-dir"],
        keep=options["keep"],
    )
    names = LocalNames(secrets.token_urlsafe)
    room = _make_room(log, names, Turn(partial(reactor.callLater, 0)))
    downloads = ShelfDownloads(shelf, transfers)
    gate = _make_gate(options, reactor)
    factory = ChatFactory(room, shelf, downloads, reactor, gate, limits=_make_limits(options))
    register = None
    if isinstance(log, SqliteLog):
        # Only who comes back to the same log can have missed nothing.
        register = Register(f"{log.path}-people", names.reserve, reactor.seconds)

    server = Server(
        reactor,
        transfers,
        ChatService(factory, log, register),
        factory,
        grace=options["grace"],
        sockets_stay=any(f"{INHERITED}:" in text for text in options["listen"]),
    )
    other_files = len(options["udp-ports"]) + options["downloads"]
    OpenFiles(options["max-connections"], other_files, factory.connections.limit).setServiceParent(
        server
    )
    for description in options["listen"]:
        ListeningService(description, factory, reactor, options["state-dir"]).setServiceParent(
            server
        )
    said = announcement_for(
        options["listen"], options["room"] or machine_name(), __version__, options["announce"]
    )
    if said is not None and not options["no-announce"]:
        AnnounceService(reactor, said).setServiceParent(server)
    return server


def _make_limits(options: Options) -> Limits:
    return Limits(
        options["max-connections"],
        options["max-connections-per-address"],
        options["login-timeout"],
        options["rate"],
        options["burst"],
    )


def _make_gate(options: Options, reactor: Any) -> Gate:
    """Make the gate: open, or for those who have a password."""
    if not options["credCheckers"]:
        return OpenGate()
    return AccountGate(
        checking(options["credCheckers"]),
        options["state-dir"],
        reactor.seconds,
        allow_plain=bool(options["allow-plain-auth"]),
    )


def _make_room(log: MessageLog, local: LocalNames, turn: Turn) -> Room:
    """Make a room; if the log is one for several servers, its names are not local."""
    if not isinstance(log, RedisLog):
        return Room(log, local, turn)
    names = SharedNames(log.lease, secrets.token_urlsafe)
    room = Room(log, names, turn)

    def lost() -> None:
        names.forget_all()
        room.expel_all()

    log.lease.on_lost = lost
    return room


def common_interface(descriptions: Sequence[str]) -> str:
    """Return the address on which UDP is reachable wherever `descriptions` listen for TCP.

    A client sends its UDP to the address where it reached the chat. So if the chat is bound to one
    address the downloads need no other; else it is "" for any address of IPv4, or "::" for any of
    both kinds if one of them is IPv6.
    """
    found = {match[1] if (match := _INTERFACE.search(text)) else "" for text in descriptions}
    addresses = {re.sub(r"\\(.)", r"\1", address) for address in found}
    if len(addresses) == 1:
        return addresses.pop()
    return "::" if any(":" in address for address in addresses) else ""


def _endpoint(description: str) -> str:
    """Check an endpoint's description; return it as it is."""
    if re.fullmatch(r"\d+", description):
        raise usage.UsageError(f"--listen {description}: write tcp:{description} for a TCP port.")
    try:
        # Parsing keeps the reactor for later; a stand-in is enough to see whether it would work.
        check_endpoint(task.Clock(), description)
    except Exception as error:  # each kind of endpoint has its own parser, with its own errors
        raise usage.UsageError(
            f"--listen {description}: this does not describe where to listen ({error}). "
            "A TCP port is written like tcp:50000 or tcp:50000:interface=127.0.0.1."
        ) from error
    port = re.match(r"(?:tcp6?|ssl):(?:port=)?(\d+)", description)
    if port and int(port[1]) > 65535:
        raise usage.UsageError(f"--listen {description}: the highest TCP port is 65535.")
    return description


def _address(text: str) -> str:
    """Check the address of a network to announce on; "" is for all."""
    try:
        return str(ipaddress.ip_address(text)) if text else ""
    except ValueError:
        raise usage.UsageError(
            f"--announce {text}: write the IP address of this machine in that network."
        ) from None


def _quantity(name: str, text: object) -> float:
    """Read a number of seconds or the like: 0 or more."""
    try:
        number = float(str(text))
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1e6:
        raise usage.UsageError(f"--{name} {text}: write a number such as 0, 0.5 or 60.")
    return number


def _folder(path: str) -> str:
    """Return the absolute path of a folder that can be shared.

    Absolute, because `twistd` may change its working folder before it starts.
    """
    try:
        return Shelf(path).folder
    except OSError as error:
        raise usage.UsageError(
            f"--files {path}: {error.strerror}. Name an existing folder; its files will be shared."
        ) from error


def _count(option: str, given: str | int, least: int = 1) -> int:
    """Read how many there may be, which is some, or at least so many."""
    text = str(given)
    if not (re.fullmatch(r"\d{1,6}", text, re.ASCII) and int(text) >= least):
        raise usage.UsageError(f"--{option} {text}: write a number from {least} to 999999.")
    return int(text)


def _expand(description: str) -> list[str]:
    """Return the endpoint that is meant, or all that were passed to us."""
    if description != INHERITED:
        return [description]
    found = stream_endpoints()
    if not found:
        raise usage.UsageError(
            "--listen systemd: no socket was passed to this process. It must be started by a"
            " socket unit of systemd with ListenStream=, or by something like it."
        )
    return found


def _adopted(ports: range | str) -> Sequence[int | socket.socket]:
    """Return the ports to listen on, or the sockets that were passed to us."""
    if isinstance(ports, range):
        return ports
    return [socket.socket(fileno=descriptor) for descriptor in datagram_sockets()]


def _grace(text: object) -> float:
    """Read a number of seconds."""
    try:
        seconds = float(str(text))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_GRACE:
        raise usage.UsageError(f"--grace {text}: write a number of seconds, such as 30; 0 is none.")
    return seconds


def _ports(text: str) -> range | str:
    """Read ``FIRST-LAST`` or ``PORT``; a lone 0 lets the system choose a port.

    ``systemd`` means all sockets of this kind that were passed to us.
    """
    if text == INHERITED:
        if not datagram_sockets():
            raise usage.UsageError(
                "--udp-ports systemd: no UDP socket was passed to this process. It must be started"
                " by a socket unit of systemd with ListenDatagram=, or by something like it."
            )
        return text
    match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", text, re.ASCII)
    if not match:
        raise usage.UsageError(
            f"--udp-ports {text}: write one port, or the first and the last as in 55000-55019."
        )
    first, last = int(match[1]), int(match[2] or match[1])
    if last > 65535 or (first == 0 and match[2]):
        raise usage.UsageError(f"--udp-ports {text}: ports go from 1 to 65535.")
    if last < first:
        raise usage.UsageError(f"--udp-ports {text}: the last port comes before the first.")
    if last - first >= MAX_UDP_PORTS:
        raise usage.UsageError(f"--udp-ports {text}: at most {MAX_UDP_PORTS} ports can be used.")
    return range(first, last + 1)
