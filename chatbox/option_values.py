"""What the options of ``twistd chatbox`` mean: each function reads one, or says what is wrong.

All of them raise `UsageError` with a sentence, which twistd shows as such.
"""

from __future__ import annotations

import ipaddress
import os
import re
import time
from collections.abc import Sequence
from typing import Final

from twisted.logger import Logger
from twisted.python import usage

from chatbox.addresses import read_address as parse_address
from chatbox.chat.moderation import Operators
from chatbox.descriptions import Description, read_description
from chatbox.errors import LocalError
from chatbox.inherited import INHERITED, datagram_sockets, stream_endpoints, which
from chatbox.shelf import Shelf
from chatbox.tls import check_endpoint

__all__ = [
    "DEFAULT_FOLDER",
    "MAX_COUNT",
    "MAX_GRACE",
    "MAX_UDP_PORTS",
    "common_interface",
    "expand_endpoint",
    "read_address",
    "read_count",
    "read_endpoint",
    "read_folder",
    "read_grace",
    "read_operators",
    "read_ports",
    "read_quantity",
    "read_udp_interface",
    "warn_of_proxy",
]

DEFAULT_FOLDER: Final = "files"
"""What is shared, where the command is given, unless something else is said."""

MAX_UDP_PORTS: Final = 1000
"""Each port is a socket for as long as the server runs. One carries many downloads, so a few are
plenty; the usual limit of open files is 1024."""

MAX_GRACE: Final = 86_400.0
"""Seconds: whoever wants to wait for longer than a day need not restart at all."""

MAX_COUNT: Final = 999_999
"""More of anything than one server can serve."""

# Twisted takes no sockets whose names it is not told (LISTEN_FDNAMES).
_SOMETHING_LIKE_IT: Final = (
    "or by something like it that names its sockets, such as systemd-socket-activate --fdname=NAME."
)

_log = Logger()


def common_interface(descriptions: Sequence[str]) -> str:
    """Return the address on which UDP is reachable wherever `descriptions` listen for TCP.

    A client sends its UDP to the address where it reached the chat. So if the chat is bound to one
    address the downloads need no other; else it is "" for any address of IPv4, or "::" for any of
    both kinds if one of them is IPv6. Who comes over a ``unix:`` socket has no address.
    """
    addresses = {
        _interface(one)
        for one in map(_without_proxy, map(read_description, descriptions))
        if not _says(one, "unix", "UNIX")
    }
    if len(addresses) == 1:
        return addresses.pop()
    return "::" if any(":" in address for address in addresses) else ""


def warn_of_proxy(descriptions: Sequence[str], interface: str) -> None:
    """Say so if downloads come from an address of this machine only, and people through a proxy."""
    address = parse_address(interface)
    proxied = any(read_description(text).is_proxied for text in descriptions)
    if proxied and address is not None and address.is_loopback:
        _log.warn(
            "downloads come from {interface} only, where nobody is who comes through the proxy;"
            " --udp-interface says where from instead",
            interface=interface,
        )


def _without_proxy(said: Description) -> Description:
    return read_description(said.endpoint) if said.is_proxied else said


def _says(said: Description, kind: str, domain: str) -> bool:
    """Whether it is of a kind, or a socket of systemd's of this kind of addresses."""
    domains = (*said.values[:1], said.options.get("domain"))
    return said.kind == kind or (said.kind == INHERITED and domain in domains)


def _interface(said: Description) -> str:
    """The address; these kinds are for both kinds of addresses by themselves."""
    both = said.kind == "tls" or _says(said, "tcp6", "INET6")
    return said.interface or "::" * both


def read_endpoint(description: str) -> str:
    """Check an endpoint's description; return it as it is."""
    if re.fullmatch(r"\d+", description):
        raise usage.UsageError(f"--listen {description}: write tcp:{description} for a TCP port.")
    try:
        check_endpoint(description)
    except LocalError as error:  # about a certificate, and in words
        words = str(error).removeprefix(f"no TLS on {description}: ")
        raise usage.UsageError(
            f"--listen {description}: {words}. Or let the server make one: --tls-self-signed."
        ) from error
    except OSError as error:  # about a file of a certificate
        raise usage.UsageError(
            f"--listen {description}: {error.filename}: {error.strerror}. privateKey= and certKey="
            " name files that can be read. Or let the server make them: --tls-self-signed."
        ) from error
    except Exception as error:  # each kind of endpoint has its own parser, with its own errors
        # What is missing, or no number, Python says in words of the code.
        in_code = isinstance(error, TypeError) or str(error).startswith("invalid literal")
        why = "" if in_code else f" ({error})"
        raise usage.UsageError(
            f"--listen {description}: this does not describe where to listen{why}. "
            "A TCP port is written like tcp:50000 or tcp:50000:interface=127.0.0.1."
        ) from error
    said = _without_proxy(read_description(description))
    if said.port.isdigit() and int(said.port) > 65535:
        raise usage.UsageError(f"--listen {description}: the highest TCP port is 65535.")
    if said.port and said.interface and parse_address(said.interface) is None:
        # Files are sent from there, too, and a name may be another address for TCP than for UDP.
        raise usage.UsageError(
            f"--listen {description}: the interface is an IP address of this machine, such as"
            " 127.0.0.1, no name."
        )
    return description


def read_address(text: str | None) -> str:
    """Check the address of a network to announce on; "" is for all."""
    return _read_ip_address(
        "announce", text or "", "the IP address of this machine in that network"
    )


def read_udp_interface(text: str) -> str:
    """Check the address to send files from, whether it is given or that of the chat."""
    return _read_ip_address("udp-interface", text, "an IP address of this machine, no name")


def _read_ip_address(option: str, text: str, what: str) -> str:
    try:
        return str(ipaddress.ip_address(text)) if text else ""
    except ValueError:
        raise usage.UsageError(f"--{option} {text}: write {what}.") from None


def read_quantity(name: str, text: object) -> float:
    """Read a number of seconds or the like: 0 or more."""
    try:
        number = float(str(text))
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1e6:
        raise usage.UsageError(f"--{name} {text}: write a number such as 0, 0.5 or 60.")
    return number


def read_folder(path: str | None) -> str:
    """Return the absolute path of a folder that can be shared; None is the usual one, made if need
    be.

    Absolute, because `twistd` may change its working folder before it starts.
    """
    folder = DEFAULT_FOLDER if path is None else path
    try:
        if path is None and not os.path.lexists(folder):
            os.mkdir(folder)
            _log.info(
                "there was no folder {folder}: it is made, and shared",
                folder=os.path.abspath(folder),
            )
        return Shelf(folder).folder
    except OSError as error:
        raise usage.UsageError(
            f"--files {folder}: {error.strerror}. Name an existing folder; its files will be"
            " shared."
        ) from error


def read_count(option: str, given: str | int, least: int = 1, most: int = MAX_COUNT) -> int:
    """Read how many there may be, which is some, or from so many to so many."""
    text = str(given)
    if not (re.fullmatch(r"\d{1,6}", text, re.ASCII) and least <= int(text) <= most):
        raise usage.UsageError(f"--{option} {text}: write a number from {least} to {most}.")
    return int(text)


def expand_endpoint(description: str) -> list[str]:
    """Return the endpoint that is meant, or all that were passed to us."""
    said = read_description(description)
    name = which(said.inner)
    if name is None:
        return [description]
    found = stream_endpoints(name)
    if not found:
        raise usage.UsageError(
            f"--listen {description}: no such socket was passed to this process. It must be started"
            f" by a socket unit of systemd with ListenStream={_called(name)}, {_SOMETHING_LIKE_IT}"
        )
    return [f"{said.front}{one}" for one in found]


def _called(name: str) -> str:
    return f" and FileDescriptorName={name}" if name else ""


def read_grace(text: object) -> float:
    """Read a number of seconds."""
    try:
        seconds = float(str(text))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_GRACE:
        raise usage.UsageError(f"--grace {text}: write a number of seconds, such as 30; 0 is none.")
    return seconds


def read_ports(text: str) -> range | list[int]:
    """Read ``FIRST-LAST`` or ``PORT``; a lone 0 lets the system choose a port.

    ``systemd`` and ``systemd:name=NAME`` mean sockets that were passed to us, by descriptor.
    """
    name = which(text)
    if name is not None:
        found = datagram_sockets(name)
        if not found:
            raise usage.UsageError(
                f"--udp-ports {text}: no such UDP socket was passed to this process. It must be"
                f" started by a socket unit of systemd with ListenDatagram={_called(name)},"
                f" {_SOMETHING_LIKE_IT}"
            )
        return found
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


def read_operators(path: str) -> str:
    """Return the absolute path of a file of operators that makes sense."""
    path = os.path.abspath(path)
    try:
        Operators(path, time.time).load()
    except OSError as error:
        raise usage.UsageError(
            f"--operators {path}: {error.strerror}. It is a file with a name a line."
        ) from error
    except LocalError as error:
        raise usage.UsageError(f"--operators: {error}.") from error
    return path
