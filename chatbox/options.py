"""What can be said after ``twistd chatbox``: every option, its default, and that it makes sense.

All is checked and converted here, before anything starts, because `twistd` shows a `UsageError` as
a sentence and any other error as a traceback; what one option means is in `chatbox.option_values`.
Nothing that runs is made here. No reactor is imported either: ``twist --reactor`` chooses one only
after the options are read.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from typing import Final

import twisted
from platformdirs import user_state_dir
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.strcred import AuthOptionMixin
from twisted.python import usage

from chatbox import __version__
from chatbox.chat.limits import Limits
from chatbox.chat.names import MAX_NAME_CHARACTERS
from chatbox.chat.wire import TEXT_BYTES_CEILING
from chatbox.checkers import refuse_useless
from chatbox.descriptions import (
    DEFAULT_PORT,
    DEFAULT_TLS_PORT,
    DEFAULT_UDP_PORTS,
    self_signed,
)
from chatbox.errors import LocalError
from chatbox.log import KINDS, open_log
from chatbox.log.keep import parse_keep
from chatbox.log.place import without_passwords
from chatbox.option_values import (
    DEFAULT_FOLDER,
    common_interface,
    expand_endpoint,
    read_address,
    read_count,
    read_endpoint,
    read_folder,
    read_grace,
    read_operators,
    read_ports,
    read_quantity,
    read_udp_interface,
    warn_of_proxy,
)
from chatbox.rdt.admissions import MAX_TRANSFERS, MAX_TRANSFERS_PER_USER
from chatbox.rdt.service import CONTROLLERS
from chatbox.stopping import DEFAULT_GRACE
from chatbox.text import printable
from chatbox.units import parse_rate

__all__ = ["Options"]

DEFAULT_LISTEN: Final = f"tcp:{DEFAULT_PORT}"

_LIMITS: Final = Limits()


class Options(usage.Options, AuthOptionMixin):
    """What can be said after ``twistd chatbox``."""

    synopsis = "[options]"
    longdesc = (
        "Serves a chat room over TCP, to chatbox clients and to anyone with netcat, and a folder "
        "of files that they download over UDP."
    )
    optParameters: list[list[object]] = [
        [
            "files",
            None,
            None,
            f"The folder whose files are shared [default: {DEFAULT_FOLDER}, made if need be].",
        ],
        [
            "udp-ports",
            None,
            DEFAULT_UDP_PORTS,
            "The UDP ports for downloads: one, FIRST-LAST, systemd, or systemd:name=NAME.",
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
            "How many downloads one person may run at once.",
        ],
        ["cc", None, "bbr", f"The congestion control of downloads: {' or '.join(CONTROLLERS)}."],
        [
            "log",
            None,
            "sqlite:",
            f"Where messages are kept: {KINDS}.",
        ],
        ["keep", None, "all", "How much is kept, such as 90d,1000000,2GB."],
        [
            "room",
            None,
            None,
            "What the room is called on the local network [default: the machine].",
        ],
        ["announce", None, None, "Announce the server on the network of this address only."],
        ["operators", None, None, "A file with the names of those who may kick, ban and mute."],
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
        ["max-users", None, _LIMITS.users, "How many may be in the room at once; 0 for no limit."],
        ["max-text", None, _LIMITS.text, "How many bytes one message may have."],
        ["max-name", None, _LIMITS.name, "How many characters a name may have."],
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
        [
            "burst",
            None,
            _LIMITS.burst,
            "Requests that a client may send before --rate holds it back.",
        ],
        [
            "join-rate",
            None,
            _LIMITS.join_rate,
            "People a second who may come in from one IP address; 0 for no limit.",
        ],
        [
            "join-burst",
            None,
            _LIMITS.join_burst,
            "People from one IP address who may come in before --join-rate holds them back.",
        ],
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
        ["no-hash-ahead", None, "Read no shared file before somebody downloads it."],
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
        self._refused = False
        # Docstrings of ours and of Twisted's come with the blanks that indent them.
        self.docs = {name: " ".join((text or "").split()) for name, text in self.docs.items()}

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Remember whether something is wrong; what was typed is repeated as a terminal may."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            self._refused = True
            raise usage.UsageError(printable(str(error))) from error

    def getUsage(self, width: int | None = None) -> str:
        """The options; if one is wrong, where they are: the words about it come behind this."""
        if not self._refused:
            return super().getUsage(width)
        program = os.path.basename(sys.argv[0])
        return f"See {'twist' if program == '__main__.py' else program} chatbox --help.\n"

    def opt_listen(self, endpoint: str) -> None:
        """Listen for chat here; may be given several times. A port such as tcp:50000 or
        tcp:50000:interface=127.0.0.1, or any other Twisted server endpoint (tls:FOLDER:port=50001,
        ssl:, systemd:, unix:...). With tls-self-signed: in front it speaks TLS with a certificate
        that the server makes, with tls-from:FOLDER: with those in FOLDER. systemd means all sockets
        that it passes, systemd:name=NAME those of that name. [default: tcp:50000]
        """
        self["listen"].append(endpoint)

    def opt_auth(self, description: str) -> None:
        """Let people in with a password only, as the checker KIND:ARGUMENT says, such as
        argon2:FILE for a file of `chatbox passwd`. May be given several times: who satisfies one
        may come in. --help-auth lists the kinds.
        """
        try:
            super().opt_auth(description)
            refuse_useless(self["credCheckers"][-1])
        except LocalError as error:
            raise usage.UsageError(f"--auth {description}: {error}.") from error
        except usage.UsageError as error:
            reason = str(error).removeprefix("Unexpected error: ")
            if reason.startswith("Auth plugin not recognized"):
                reason = "there is no such kind of checker; --help-auth lists them."
            raise usage.UsageError(f"--auth {description}: {reason}") from error

    def opt_version(self) -> None:
        """Display the versions and exit."""
        print(f"chatbox {__version__}, with Twisted {twisted.__version__}")
        sys.exit(0)

    def parseArgs(self, *rest: str) -> None:
        """Refuse what is not an option."""
        if rest:
            raise usage.UsageError(f"chatbox takes options only; it has no use for {rest[0]!r}.")

    def postOptions(self) -> None:
        """Check and convert everything, the defaults too."""
        self["listen"] = [
            read_endpoint(text)
            for texts in map(expand_endpoint, self["listen"] or [DEFAULT_LISTEN])
            for text in texts
        ]
        if self["tls-self-signed"]:
            # Where nobody listens for the chat, nobody expects its twin to listen.
            self["listen"].append(self_signed(common_interface(self["listen"])))
        if self["operators"] is not None:
            self["operators"] = read_operators(self["operators"])
        self["udp-ports"] = read_ports(self["udp-ports"])
        self["grace"] = read_grace(self["grace"])
        if self["udp-interface"] is None:
            self["udp-interface"] = interface = common_interface(self["listen"])
            if isinstance(self["udp-ports"], range):  # sockets that were passed are where they are
                warn_of_proxy(self["listen"], interface)
        self["udp-interface"] = read_udp_interface(self["udp-interface"])
        self._check_downloads()
        self["announce"] = read_address(self["announce"])
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
            raise usage.UsageError(without_passwords(f"--log {self['log']}: {error}")) from error
        # The last one, since it may make a folder.
        self["files"] = read_folder(self["files"])

    def _check_downloads(self) -> None:
        """Check and convert what is said about downloads."""
        try:
            self["max-rate"] = (
                math.inf if self["max-rate"] is None else parse_rate(self["max-rate"])
            )
        except ValueError as error:
            raise usage.UsageError(f"--max-rate: {error}") from error
        for name in ("downloads", "downloads-per-user"):
            self[name] = read_count(name, self[name])
        if self["cc"] not in CONTROLLERS:
            raise usage.UsageError(
                f"--cc {self['cc']}: there is no such congestion control. Write one of:"
                f" {', '.join(CONTROLLERS)}."
            )

    def _check_limits(self) -> None:
        """Check and convert what is said about clients."""
        for name in ("max-connections", "max-connections-per-address", "max-users"):
            self[name] = read_count(name, self[name], 0)
        self["max-text"] = read_count("max-text", self["max-text"], most=TEXT_BYTES_CEILING)
        self["max-name"] = read_count("max-name", self["max-name"], most=MAX_NAME_CHARACTERS)
        for name in ("burst", "join-burst"):
            self[name] = read_count(name, self[name])
        for name in ("login-timeout", "rate", "join-rate"):
            self[name] = read_quantity(name, self[name])
