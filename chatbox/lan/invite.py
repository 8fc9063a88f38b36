"""How others come to a server: what its log tells whoever has started it, to pass on."""

# mypy: allow-untyped-calls
# Twisted's Service has no annotations yet.

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress

from twisted.application.service import Service
from twisted.logger import Logger

from chatbox.lan import Announcement
from chatbox.lan.multicast import own_networks

__all__ = ["InviteService", "own_address"]

_log = Logger()


class InviteService(Service):
    """Says once, when the server has started, what people on the network type."""

    def __init__(self, announcement: Announcement) -> None:
        self._announcement = announcement

    def startService(self) -> None:
        """Say it."""
        super().startService()
        said = self._announcement
        _log.info(
            "others on this network come in with: chatbox join {options}{host}",
            options="--tls " * said.tls,
            host=said.host(said.interface or own_address()),
        )


def own_address() -> str:
    """The address under which the network knows this computer, as well as can be told."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        # Nothing is sent: the system only chooses the way. The address is one for documents.
        probe.connect(("192.0.2.1", 9))
        address: str = probe.getsockname()[0]
        return address
    # There is no way out of this network; the extra "lan" can tell how we are called in it.
    with suppress(ImportError, OSError):
        for one in map(ipaddress.ip_interface, own_networks()):
            if one.version == 4 and not (one.ip.is_loopback or one.ip.is_link_local):
                return str(one.ip)
    return socket.gethostname()
