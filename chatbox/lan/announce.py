"""The server's side: say on the local network that it is there, for as long as it runs.

The whole announcement is the life of one thread (see `beside`): it begins it, waits for the end,
takes it back. Whatever goes wrong there, such as a machine without multicast, is one line in the
log: a server that cannot be found is still a server.
"""

# mypy: allow-untyped-calls
# Twisted's Service has no annotations yet.

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chatbox.lan import SERVICE_TYPE, Announcement, instance_label
from chatbox.lan.beside import Beside
from chatbox.lan.multicast import open_zeroconf, own_networks
from chatbox.text import printable

__all__ = ["AnnounceService", "Responder", "machine_name", "zeroconf_responder"]

_log = Logger()


class Responder(Protocol):
    """What answers for us on the network. Its methods block, and may raise anything."""

    def announce(self, announcement: Announcement) -> str:
        """Begin; returns the name, which is another one if the first was taken."""

    def close(self) -> None:
        """Take it back, and end."""


class AnnounceService(Service):
    """Announces a server from its start to its end."""

    def __init__(
        self,
        reactor: Any,
        announcement: Announcement,
        make_responder: Callable[[str], Responder] | None = None,
    ) -> None:
        """`make_responder` makes one for an interface, in a thread; see `zeroconf_responder`."""
        self._reactor = reactor
        self._announcement = announcement
        self._make_responder = make_responder or zeroconf_responder
        self._over = threading.Event()
        self._thread = Beside(reactor, self._live, self._cannot)

    def startService(self) -> None:
        """Begin to announce; what comes of it is said in the log."""
        super().startService()
        self._over.clear()
        self._thread.start()

    def stopService(self) -> Deferred[None]:
        """Take the announcement back. Fires when that is done, or has taken too long."""
        super().stopService()
        self._over.set()
        return self._thread.ended()

    def _live(self) -> None:
        """The thread."""
        responder = self._make_responder(self._announcement.interface)
        try:
            name = responder.announce(self._announcement)
            self._reactor.callFromThread(self._begun, name)
            self._over.wait()
        finally:
            responder.close()

    def _begun(self, name: str) -> None:
        _log.info(
            "announced on the local network as {name}",
            name=printable(name.removesuffix(f".{SERVICE_TYPE}")),
        )

    def _cannot(self, error: Exception) -> None:
        if isinstance(error, ImportError):
            # Whoever did not ask for it does not miss it.
            _log.info("not announced on the local network: pip install 'chatbox[lan]' is for that")
            return
        _log.warn(
            "this server cannot be found by itself on the local network: {why}."
            " Its address works all the same; --no-announce says that this is wanted.",
            why=printable(str(error) or type(error).__name__),
        )


class _ZeroconfResponder:
    """The real one."""

    def __init__(self, interface: str) -> None:
        """Raises ImportError, OSError, and what zeroconf raises."""
        self._zeroconf = open_zeroconf(interface)

    def announce(self, announcement: Announcement) -> str:
        """Probe for the name, then announce; takes two seconds."""
        import asyncio

        from zeroconf import ServiceInfo

        addresses = announcement.addresses(network.partition("/")[0] for network in own_networks())
        if not addresses:
            raise OSError("this machine has no address on a network")
        info = ServiceInfo(
            SERVICE_TYPE,
            f"{instance_label(announcement.room)}.{SERVICE_TYPE}",
            port=announcement.port,
            properties=dict(announcement.properties()),
            parsed_addresses=addresses,
        )

        async def register() -> None:
            await (await self._zeroconf.async_register_service(info, allow_name_change=True))

        # Its own `register_service` gives up after ten seconds, for good: on a machine that has
        # stood still meanwhile, such as one that has just been started or woken up.
        asyncio.run_coroutine_threadsafe(register(), self._zeroconf.loop).result()
        return str(info.name)

    def close(self) -> None:
        """Say goodbye and close the sockets."""
        self._zeroconf.close()


def zeroconf_responder(interface: str) -> Responder:
    """Make a responder on the network of one address, or on all if that is ""."""
    return _ZeroconfResponder(interface)


def machine_name() -> str:
    """What this machine is called, without its domain."""
    return socket.gethostname().partition(".")[0] or "chatbox"
