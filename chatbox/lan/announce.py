"""The server's side: say on the local network that it is there, for as long as it runs.

The library zeroconf blocks, waits and has threads of its own. So the whole announcement is the life
of one thread of ours: it begins it, waits for the end, takes it back. The reactor only starts that
thread, tells it to end, and hears by `callFromThread` what became of it. Whatever goes wrong there,
such as a machine without multicast, is one line in the log: a server that cannot be found is still
a server. The thread is a daemon, so not even a hang in it keeps the process.
"""

# mypy: allow-untyped-calls
# Twisted's Service has no annotations yet.

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from chatbox.lan import SERVICE_TYPE, Announcement, instance_label
from chatbox.lan.multicast import open_zeroconf, own_networks
from chatbox.text import printable

__all__ = ["STOP_TIMEOUT", "AnnounceService", "Responder", "zeroconf_responder"]

STOP_TIMEOUT: Final = 3.0
"""Seconds that taking the announcement back may delay the end of the server: the farewell takes a
quarter of a second, an announcement that has only begun up to two."""

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
        self._running = False
        self._stopped: Deferred[None] | None = None
        self._patience: IDelayedCall | None = None

    def startService(self) -> None:
        """Begin to announce; what comes of it is said in the log."""
        super().startService()
        self._over.clear()
        self._running = True
        threading.Thread(target=self._live, name="announcement", daemon=True).start()

    def stopService(self) -> Deferred[None] | None:
        """Take the announcement back. Fires when that is done, or has taken too long."""
        super().stopService()
        self._over.set()
        if not self._running:
            return None
        self._stopped = Deferred()
        self._patience = self._reactor.callLater(STOP_TIMEOUT, self._ended)
        return self._stopped

    def _live(self) -> None:
        """The thread."""
        call = self._reactor.callFromThread
        try:
            responder = self._make_responder(self._announcement.interface)
            try:
                call(self._begun, responder.announce(self._announcement))
                self._over.wait()
            finally:
                responder.close()
        except ImportError:
            call(self._not_installed)
        except Exception as error:  # zeroconf has many, and sockets more
            call(self._cannot, str(error) or type(error).__name__)
        finally:
            call(self._ended)

    def _begun(self, name: str) -> None:
        _log.info(
            "announced on the local network as {name}",
            name=printable(name.removesuffix(f".{SERVICE_TYPE}")),
        )

    def _not_installed(self) -> None:
        # Whoever did not ask for it does not miss it.
        _log.info("not announced on the local network: pip install 'chatbox[lan]' is for that")

    def _cannot(self, why: str) -> None:
        _log.warn(
            "this server cannot be found by itself on the local network: {why}."
            " Its address works all the same; --no-announce says that this is wanted.",
            why=printable(why),
        )

    def _ended(self) -> None:
        self._running = False
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        self._patience = None
        stopped, self._stopped = self._stopped, None
        if stopped is not None:
            stopped.callback(None)


class _ZeroconfResponder:
    """The real one."""

    def __init__(self, interface: str) -> None:
        """Raises ImportError, OSError, and what zeroconf raises."""
        self._zeroconf = open_zeroconf(interface)

    def announce(self, announcement: Announcement) -> str:
        """Probe for the name, then announce; takes two seconds."""
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
        self._zeroconf.register_service(info, allow_name_change=True)
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
