"""Finding servers nearby: what one says of itself by DNS-SD over mDNS, and what is believed of it.

A server announces a service of the type `SERVICE_TYPE` (RFC 6763) with its addresses, its port and
three properties; clients ask for that type. It all stays on the local network: neither side needs
the Internet, a name server or a router. An address that is typed works without any of this.

Anybody on that network can announce anything. So what arrives is cut to size, stripped of control
characters and counted here before anyone sees it, and it says only where to look: who the server is
shows when one connects.

This module has the values and the rules and does no I/O. `announce` and `browse` give them to the
library zeroconf, which the extra ``lan`` installs. It speaks over IPv4; the addresses that it tells
may be of either kind.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from chatbox.descriptions import read_description
from chatbox.text import printable

__all__ = [
    "MAX_SERVERS",
    "SERVICE_TYPE",
    "Announcement",
    "Server",
    "Servers",
    "announcement_for",
    "instance_label",
    "nearest",
    "server_from",
]

SERVICE_TYPE: Final = "_chatbox._tcp.local."
"""The service type in DNS (RFC 6763 section 7)."""

MAX_SERVERS: Final = 64
"""Servers that a client remembers. A person chooses among a few; a network with more of them has
somebody on it who makes them up."""

MAX_ADDRESSES: Final = 16
"""Addresses of one server that are looked at: those of a machine with several networks."""

MAX_ROOM: Final = 60
"""Characters of a room's name that are shown: as many as fit on a line with the address."""

MAX_LABEL_BYTES: Final = 63
"""Bytes in one label of a DNS name (RFC 1035 section 2.3.4)."""

MAX_VALUE_BYTES: Final = 200
"""Bytes of a property; a whole one, key included, has at most 255 (RFC 6763 section 6.1)."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a server says of itself."""

    room: str
    """What the room is called."""
    port: int
    """The TCP port of the chat."""
    tls: bool
    version: str
    """Of chatbox."""
    interface: str = ""
    """The one address that it is announced on, of those it listens on; "" for each but loopback."""
    ipv6: bool = False
    """Whether it listens on IPv6 too."""

    def properties(self) -> dict[str, str]:
        """The TXT record (RFC 6763 section 6)."""
        return {
            "version": self.version,
            "room": _cut(self.room, MAX_VALUE_BYTES),
            "tls": "yes" if self.tls else "no",
        }

    def addresses(self, own: Iterable[str]) -> list[str]:
        """Where it can be reached, given all `own` addresses of this machine."""
        if self.interface:
            return [self.interface]
        found = [ipaddress.ip_address(text) for text in own]
        return [
            str(one)
            for one in found
            if not one.is_loopback and not one.is_link_local and (one.version == 4 or self.ipv6)
        ]

    def host(self, address: str) -> str:
        """What to type as HOST, where the server is reached at `address`."""
        return _host(address, self.port)


_EVERYWHERE: Final = ("", "0.0.0.0", "::")


def announcement_for(
    listen: Iterable[str], room: str, version: str, interface: str = ""
) -> Announcement | None:
    """What to say of a server that listens at the endpoints `listen`; None if nothing.

    That is where others can reach it: at a TCP port that is known, and not on this machine only
    unless `interface` asks for that. Of two such ports the one with TLS is announced.
    """
    found = []
    for description in map(read_description, listen):
        port, where = description.port, description.interface
        wanted = where in _EVERYWHERE or (where == interface if interface else _is_shared(where))
        if wanted and port.isdigit() and 0 < int(port) <= 65535:
            only = interface or ("" if where in _EVERYWHERE else where)
            is_v6 = description.kind == "tcp6" or ":" in where
            found.append(Announcement(room, int(port), description.has_tls, version, only, is_v6))
    return max(found, key=lambda one: one.tls, default=None)


def _is_shared(address: str) -> bool:
    """Whether other machines may be able to reach an address of this one."""
    try:
        return not ipaddress.ip_address(address).is_loopback
    except ValueError:  # a name, of which there is nothing to say
        return False


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was found. The texts are safe to show."""

    room: str
    address: str
    port: int
    tls: bool
    version: str

    @property
    def host(self) -> str:
        """What to type as HOST."""
        return _host(self.address, self.port)


def instance_label(room: str) -> str:
    """The first label of the service's name, which people see in browsers of services."""
    # A dot would begin another label.
    return _cut(printable(room).strip().replace(".", "-"), MAX_LABEL_BYTES) or "chatbox"


def server_from(
    properties: Mapping[bytes, bytes | None],
    addresses: Sequence[str],
    port: int | None,
    own_networks: Iterable[str],
) -> Server | None:
    """Make of an announcement what is worth showing; None if one could not connect to it."""
    address = nearest(addresses[:MAX_ADDRESSES], own_networks)
    if address is None or port is None or not 0 < port <= 65535:
        return None
    room = _text(properties.get(b"room"))[:MAX_ROOM].strip()
    return Server(
        room or address,
        address,
        port,
        _text(properties.get(b"tls")).casefold() == "yes",
        _text(properties.get(b"version"))[:MAX_ROOM],
    )


def nearest(addresses: Iterable[str], own_networks: Iterable[str]) -> str | None:
    """The address to try: one in a network that we are in if there is one, IPv4 before IPv6.

    A machine has addresses that only it can reach, such as those of its virtual machines, and
    announces them too. `own_networks` are written like 192.0.2.1/24.
    """
    networks = [ipaddress.ip_interface(text).network for text in own_networks]
    found = []
    for text in addresses:
        try:
            one = ipaddress.ip_address(text)
        except ValueError:
            continue
        # A link-local address is of no use without the name of the link, which is not ours to know,
        # and not for others to say: ip_address takes anything for it.
        bound = one.version == 6 and (one.is_link_local or one.scope_id is not None)
        if not (one.is_multicast or one.is_unspecified or bound):
            found.append(one)
    if not found:
        return None
    return str(min(found, key=lambda one: (not any(one in net for net in networks), one.version)))


class Servers:
    """The servers that are there now, by the names that they announce; a bounded number."""

    def __init__(self) -> None:
        self._by_name: dict[str, Server] = {}

    def put(self, name: str, server: Server) -> bool:
        """A server is there, or has changed. False if there is no room for it, or nothing new."""
        if self._by_name.get(name) == server:
            return False
        if name not in self._by_name and len(self._by_name) >= MAX_SERVERS:
            return False
        self._by_name[name] = server
        return True

    def drop(self, name: str) -> bool:
        """A server is gone. False if it was not known."""
        return self._by_name.pop(name, None) is not None

    def listed(self) -> list[Server]:
        """All of them, each address once, by the names of their rooms."""
        servers = {server.host: server for server in self._by_name.values()}
        return sorted(servers.values(), key=lambda server: (server.room.casefold(), server.host))


def _host(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _text(value: bytes | None) -> str:
    return printable((value or b"")[:MAX_VALUE_BYTES].decode("utf-8", "replace"))


def _cut(text: str, most: int) -> str:
    """As much of `text` as `most` bytes of UTF-8 hold."""
    return text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")
