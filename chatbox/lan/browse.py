"""The client's side: hear which servers are on the local network.

All that blocks happens in a thread (see `beside`), which ends with the `Browser`. What zeroconf
hears goes into a mailbox of bounded size; the thread takes one name after the other from it, asks
for its particulars, and tells the reactor. What does not fit is not asked for. Who does not answer
is asked again, behind those who were not asked yet: an answer may be lost.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred

from chatbox.lan import MAX_SERVERS, SERVICE_TYPE, Server, Servers, server_from
from chatbox.lan.beside import Beside
from chatbox.lan.multicast import open_zeroconf, own_networks
from chatbox.text import printable

__all__ = ["FIND_SECONDS", "Agenda", "Browser", "CannotBrowse", "find_servers"]

FIND_SECONDS: Final = 1.5
"""How long to listen for answers: a query leaves within 0.12 s (RFC 6762 section 5.2), answers come
within 0.5 s (section 6), and a lost packet is asked for again after a second."""

RESOLVE_MS: Final = 1000
"""Milliseconds that a server may take to tell its particulars, which most send along unasked."""

AGAIN_AFTER: Final = (1.0, 3.0)
"""Seconds from the first question to each further one: a second, and then twice as long (RFC 6762
section 5.2). Who has not answered then is asked no more before it is heard of again."""

News = tuple[str, bool]
"""A name, and whether it is there or gone."""


class CannotBrowse(Exception):
    """There is no way to listen; the argument says why, in a sentence."""


class Agenda:
    """What is to be done about which name, and when. At most `MAX_SERVERS` wait of each kind."""

    def __init__(self) -> None:
        self._names: deque[News] = deque()
        self._asked: dict[str, tuple[float, int]] = {}
        """When they were first asked who have not answered, and how often."""

    def put(self, name: str, here: bool) -> None:
        """Somebody came or went."""
        self._asked.pop(name, None)
        if len(self._names) < MAX_SERVERS:
            self._names.append((name, here))

    def take(self, now: float) -> News | None:
        """What is due first; None if nothing is."""
        if self._names:
            name, here = self._names.popleft()
            if here and len(self._asked) < MAX_SERVERS:
                self._asked[name] = now, 1
            return name, here
        for name, (since, times) in self._asked.items():
            if now >= since + AGAIN_AFTER[times - 1]:
                if times < len(AGAIN_AFTER):
                    self._asked[name] = since, times + 1
                else:
                    del self._asked[name]
                return name, True
        return None

    def answered(self, name: str) -> None:
        """It need not be asked again."""
        self._asked.pop(name, None)

    def due_in(self, now: float) -> float | None:
        """Seconds until `take` has something, if nothing else happens; None if it never has."""
        if self._names:
            return 0.0
        due = [since + AGAIN_AFTER[times - 1] for since, times in self._asked.values()]
        return max(0.0, min(due) - now) if due else None


class _Mailbox:
    """The `Agenda` of the thread, to which another one adds."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._agenda = Agenda()
        self._closed = False

    def put(self, name: str, here: bool) -> None:
        """Somebody came or went; may be called from any thread."""
        with self._changed:
            self._agenda.put(name, here)
            self._changed.notify()

    def take(self) -> News | None:
        """Wait for the next; None when it is closed."""
        with self._changed:
            while not self._closed:
                if news := self._agenda.take(time.monotonic()):
                    return news
                self._changed.wait(self._agenda.due_in(time.monotonic()))
            return None

    def answered(self, name: str) -> None:
        """It need not be asked again."""
        with self._changed:
            self._agenda.answered(name)

    def close(self) -> None:
        """Let no one wait any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()


class Browser:
    """Knows the servers that are there, from `start` to `stop`.

    `changed` is called in the reactor's turn with all of them whenever that has changed, and
    `failed` once if there is no way to listen, with a sentence. `interface` is the one address
    whose network is looked at; "" for all of this machine.
    """

    def __init__(
        self,
        reactor: Any,
        changed: Callable[[list[Server]], None],
        failed: Callable[[str], None] = lambda why: None,
        interface: str = "",
    ) -> None:
        self._reactor = reactor
        self._changed = changed
        self._failed = failed
        self._interface = interface
        self._servers = Servers()
        self._mailbox = _Mailbox()
        self._thread = Beside(reactor, self._listen, self._fail)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> Deferred[None]:
        """Listen no more, and tell of no change. Fires when the thread has ended, or is given up;
        that there is no way to listen may turn out until then.
        """
        self._changed = lambda servers: None
        self._mailbox.close()
        return self._thread.ended()

    def _listen(self) -> None:
        """The thread."""
        zeroconf = open_zeroconf(self._interface)
        try:
            zeroconf.add_service_listener(SERVICE_TYPE, _Listener(self._mailbox))
            while (news := self._mailbox.take()) is not None:
                name, here = news
                try:
                    server = _ask(zeroconf, name) if here else None
                except TimeoutError:
                    continue  # what was known of it is more than nothing
                self._mailbox.answered(name)
                self._reactor.callFromThread(self._hear, name, server)
        finally:
            zeroconf.close()

    def _hear(self, name: str, server: Server | None) -> None:
        new = self._servers.drop(name) if server is None else self._servers.put(name, server)
        if new:
            self._changed(self._servers.listed())

    def _fail(self, error: Exception) -> None:
        if isinstance(error, ImportError):
            self._failed("that takes the package zeroconf: pip install 'chatbox[lan]'.")
        else:
            self._failed(f"{printable(str(error)) or type(error).__name__}.")


class _Listener:
    """What zeroconf calls, in its own thread."""

    def __init__(self, mailbox: _Mailbox) -> None:
        self._mailbox = mailbox

    def add_service(self, _zeroconf: Any, _kind: str, name: str) -> None:
        """Somebody is there."""
        self._mailbox.put(name, here=True)

    def update_service(self, _zeroconf: Any, _kind: str, name: str) -> None:
        """Somebody says something else of itself."""
        self._mailbox.put(name, here=True)

    def remove_service(self, _zeroconf: Any, _kind: str, name: str) -> None:
        """Somebody is gone."""
        self._mailbox.put(name, here=False)


def _ask(zeroconf: Any, name: str) -> Server | None:
    """The particulars of a server, None if they make no sense. TimeoutError if it does not tell."""
    from zeroconf import ServiceInfo

    info = ServiceInfo(SERVICE_TYPE, name)
    if not info.load_from_cache(zeroconf) and not info.request(zeroconf, RESOLVE_MS):
        raise TimeoutError(name)
    return server_from(info.properties, info.parsed_addresses(), info.port, own_networks())


async def find_servers(
    reactor: Any, interface: str = "", wait: float = FIND_SECONDS
) -> list[Server]:
    """Listen for `wait` seconds. Raises `CannotBrowse`."""
    found: list[Server] = []
    problems: list[str] = []
    heard: Deferred[None] = Deferred()

    def changed(servers: list[Server]) -> None:
        found[:] = servers

    def failed(why: str) -> None:
        problems.append(why)
        if not heard.called:
            heard.callback(None)

    browser = Browser(reactor, changed, failed, interface)
    timer = reactor.callLater(wait, heard.callback, None)
    try:
        browser.start()
        await heard
    finally:
        if timer.active():
            timer.cancel()
        await browser.stop()
    if problems:
        raise CannotBrowse(problems[0])
    return found
