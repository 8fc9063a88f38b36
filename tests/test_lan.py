"""Servers nearby: what is announced, what is believed, and what happens where it does not work."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from chatbox.lan import (
    MAX_SERVERS,
    SERVICE_TYPE,
    Announcement,
    Server,
    Servers,
    announcement_for,
    browse,
    instance_label,
    invite,
    nearest,
    server_from,
)
from chatbox.lan.announce import AnnounceService
from chatbox.lan.beside import STOP_TIMEOUT
from chatbox.lan.browse import Agenda, Browser
from chatbox.lan.invite import InviteService
from chatbox.text import is_printable
from tests.helpers.processes import PATIENCE, ROOT

NETWORKS = ["127.0.0.1/8", "192.0.2.7/24", "fd00::7/64"]


class AnnouncementTests(SynchronousTestCase):
    """What a server says of itself."""

    def said(self, *listen: str, interface: str = "") -> tuple[int, bool, str, bool] | None:
        """The port, TLS, the one address, and IPv6."""
        said = announcement_for(listen, "room", "1.0", interface)
        return None if said is None else (said.port, said.tls, said.interface, said.ipv6)

    def test_where_it_listens(self) -> None:
        """Each kind of endpoint that others can reach, with its port and address."""
        self.assertEqual(self.said("tcp:50000"), (50000, False, "", False))
        self.assertEqual(self.said("tcp:port=6000"), (6000, False, "", False))
        self.assertEqual(self.said("tcp:1:interface=0.0.0.0"), (1, False, "", False))
        self.assertEqual(self.said("tcp:1:interface=192.0.2.1"), (1, False, "192.0.2.1", False))
        self.assertEqual(self.said(r"tcp:1:interface=\:\:"), (1, False, "", True))
        self.assertEqual(self.said(r"tcp6:1:interface=fd00\:\:1"), (1, False, "fd00::1", True))
        self.assertEqual(self.said("ssl:443:privateKey=k"), (443, True, "", False))
        self.assertEqual(self.said("tls:/etc/certs:port=50001"), (50001, True, "", False))
        self.assertEqual(self.said("tls-self-signed:tcp:50001"), (50001, True, "", False))

    def test_the_safer_one(self) -> None:
        """Of a plain and a TLS port, the one with TLS."""
        self.assertEqual(
            self.said("tcp:50000", "tls-self-signed:tcp:50001"), (50001, True, "", False)
        )

    def test_not_what_nobody_can_reach(self) -> None:
        """Loopback, sockets without a known port, and what is none of TCP."""
        for listen in (
            "tcp:50000:interface=127.0.0.1",
            r"tcp:50000:interface=\:\:1",
            "tcp:0",
            "unix:/run/chatbox",
            "systemd:domain=INET:name=chat",
            "tls:/etc/certs",
            "tcp:1:interface=localhost",
        ):
            self.assertIsNone(self.said(listen), listen)

    def test_one_network_only(self) -> None:
        """An address that was asked for, loopback too, if something listens there."""
        self.assertEqual(
            self.said("tcp:1:interface=127.0.0.1", interface="127.0.0.1"),
            (1, False, "127.0.0.1", False),
        )
        self.assertEqual(self.said("tcp:1", interface="192.0.2.1"), (1, False, "192.0.2.1", False))
        self.assertIsNone(self.said("tcp:1:interface=192.0.2.1", interface="127.0.0.1"))

    def test_addresses(self) -> None:
        """Those that others may reach; IPv6 only where the server listens on it."""
        own = ["127.0.0.1", "192.0.2.7", "169.254.1.1", "::1", "fe80::1", "fd00::7"]
        plain = Announcement("room", 1, False, "1.0")
        self.assertEqual(plain.addresses(own), ["192.0.2.7"])
        both = Announcement("room", 1, False, "1.0", ipv6=True)
        self.assertEqual(both.addresses(own), ["192.0.2.7", "fd00::7"])
        one = Announcement("room", 1, False, "1.0", interface="127.0.0.1")
        self.assertEqual(one.addresses(own), ["127.0.0.1"])

    def test_properties(self) -> None:
        """They come back as they were said, and fit into the record."""
        said = Announcement("Räume " * 60, 1, True, "1.0").properties()
        self.assertTrue(all(len(f"{key}={value}".encode()) <= 255 for key, value in said.items()))
        encoded = {key.encode(): value.encode() for key, value in said.items()}
        found = server_from(encoded, ["192.0.2.1"], 1, NETWORKS)
        assert found is not None
        self.assertEqual((found.tls, found.version), (True, "1.0"))
        self.assertTrue(said["room"].startswith(found.room))

    @given(st.text())
    def test_label(self, room: str) -> None:
        """Whatever the room is called, its name is one label of DNS."""
        label = instance_label(room)
        self.assertTrue(0 < len(label.encode()) <= 63)
        self.assertNotIn(".", label)
        self.assertTrue(is_printable(label))


def test_documented() -> None:
    """The document has the type of the service, and every property."""
    text = (ROOT / "docs" / "protocol.rst").read_text()
    assert f"``{SERVICE_TYPE}``" in text
    for name in Announcement("room", 1, False, "1.0").properties():
        assert f"``{name}``, " in text


class FoundTests(SynchronousTestCase):
    """What a client makes of what anybody may announce."""

    def test_a_server(self) -> None:
        """Room, address, port, TLS and version."""
        properties = {b"room": "Café".encode(), b"tls": b"YES", b"version": b"1.2"}
        found = server_from(properties, ["192.0.2.1"], 50001, NETWORKS)
        self.assertEqual(found, Server("Café", "192.0.2.1", 50001, True, "1.2"))

    def test_without_properties(self) -> None:
        """A server that says nothing is called as its address."""
        found = server_from({b"room": None}, ["fd00::9"], 50000, NETWORKS)
        self.assertEqual(found, Server("fd00::9", "fd00::9", 50000, False, ""))
        assert found is not None
        self.assertEqual(found.host, "[fd00::9]:50000")

    @given(
        st.dictionaries(st.sampled_from([b"room", b"tls", b"version"]), st.none() | st.binary()),
        st.lists(st.text() | st.ip_addresses().map(str)),
        st.none() | st.integers(),
    )
    def test_anything(
        self, properties: dict[bytes, bytes | None], addresses: list[str], port: int | None
    ) -> None:
        """Whatever arrives is a server that can be shown, or none."""
        found = server_from(properties, addresses, port, NETWORKS)
        if found is not None:
            self.assertTrue(is_printable(found.room + found.version))
            self.assertLessEqual(len(found.room), 60)
            self.assertIn(found.address, addresses)

    def test_escape_sequences(self) -> None:
        """A name cannot move the cursor."""
        found = server_from({b"room": b"\x1b[2Jroom"}, ["192.0.2.1"], 1, NETWORKS)
        assert found is not None
        self.assertEqual(found.room, "\N{REPLACEMENT CHARACTER}[2Jroom")

    def test_nearest(self) -> None:
        """An address in a network of ours, before the others; IPv4 before IPv6."""
        cases = {
            ("198.51.100.1", "192.0.2.1"): "192.0.2.1",
            ("fd00::1", "198.51.100.1"): "fd00::1",
            ("fd00::1", "192.0.2.1"): "192.0.2.1",
            ("198.51.100.1", "203.0.113.1"): "198.51.100.1",
            ("nonsense", "224.0.0.1", "0.0.0.0", "fe80::1", "fd00::7%\x1b[2J"): None,
            (): None,
        }
        for addresses, expected in cases.items():
            self.assertEqual(nearest(addresses, NETWORKS), expected)

    def test_useless(self) -> None:
        """Without an address or a port there is nothing to show."""
        self.assertIsNone(server_from({}, [], 50000, NETWORKS))
        for port in (None, 0, -1, 65536):
            self.assertIsNone(server_from({}, ["192.0.2.1"], port, NETWORKS))

    def test_set(self) -> None:
        """Servers come, change and go; what is not new is not told."""
        servers = Servers()
        one = Server("b", "192.0.2.1", 1, False, "")
        two = Server("A", "192.0.2.2", 1, False, "")
        self.assertTrue(servers.put("one", one))
        self.assertFalse(servers.put("one", one))
        self.assertTrue(servers.put("two", two))
        self.assertEqual(servers.listed(), [two, one])
        self.assertTrue(servers.put("same place", one))
        self.assertEqual(servers.listed(), [two, one])
        self.assertTrue(servers.drop("two"))
        self.assertFalse(servers.drop("two"))
        self.assertEqual(servers.listed(), [one])

    def test_bound(self) -> None:
        """A flood of servers is not kept."""
        servers = Servers()
        taken = [
            servers.put(str(n), Server("r", "192.0.2.1", n, False, ""))
            for n in range(1, 2 * MAX_SERVERS)
        ]
        self.assertEqual(taken.count(True), MAX_SERVERS)
        self.assertEqual(len(servers.listed()), MAX_SERVERS)
        self.assertTrue(servers.put("1", Server("changed", "192.0.2.1", 1, False, "")))


class AgendaTests(SynchronousTestCase):
    """Whom to ask, and when."""

    def setUp(self) -> None:
        """Nobody has been heard of yet."""
        self.agenda = Agenda()
        self.assertIsNone(self.agenda.take(5.0))
        self.assertIsNone(self.agenda.due_in(5.0))

    def taken(self, now: float) -> list[tuple[str, bool]]:
        """All that is to be done now."""
        return list(iter(lambda: self.agenda.take(now), None))

    def test_silent(self) -> None:
        """Who does not answer is asked again after a second, and after two more; then no more."""
        self.agenda.put("a", here=True)
        self.assertEqual(self.agenda.due_in(5.0), 0.0)
        self.assertEqual(self.taken(5.0), [("a", True)])
        for now, due_in in ((6.0, 2.0), (8.0, None)):
            self.assertEqual(self.taken(now - 0.25), [])
            self.assertEqual(self.agenda.due_in(now - 0.25), 0.25)
            self.assertEqual(self.taken(now), [("a", True)])
            self.assertEqual(self.agenda.due_in(now), due_in)
        self.assertEqual(self.taken(1000.0), [])

    def test_who_answers_is_left_alone(self) -> None:
        """And so is who has gone; who is heard of again is asked at once, and begins anew."""
        for name in "abc":
            self.agenda.put(name, here=True)
        self.assertEqual(len(self.taken(0.0)), 3)
        self.agenda.answered("a")
        self.agenda.put("b", here=False)
        self.assertEqual(self.taken(0.5), [("b", False)])
        self.agenda.put("c", here=True)
        self.assertEqual(self.taken(0.5), [("c", True)])
        self.assertEqual(self.agenda.due_in(0.5), 1.0)
        self.assertEqual(self.taken(1.0), [])
        self.assertEqual(self.taken(1.5), [("c", True)])

    def test_new_ones_first(self) -> None:
        """Nobody waits for those who do not answer, however many they are."""
        for number in range(2 * MAX_SERVERS):
            self.agenda.put(str(number), here=True)
        self.assertEqual(len(self.taken(0.0)), MAX_SERVERS)
        self.agenda.put("new", here=True)
        again = self.taken(1.0)
        self.assertEqual(again[0], ("new", True))
        self.assertEqual(len(again), 1 + MAX_SERVERS)


class BrowserTests(SynchronousTestCase):
    """The thread that asks."""

    def test_asks_again(self) -> None:
        """A server whose answer was lost is known in the end; what was known stays until then."""
        asked: list[str] = []
        server = Server("room", "192.0.2.1", 1, False, "")

        def ask(_zeroconf: object, name: str) -> Server:
            asked.append(name)
            if len(asked) in (1, 3):
                raise TimeoutError(name)
            return server

        self.patch(browse, "AGAIN_AFTER", (0.0, 0.0))
        self.patch(browse, "_ask", ask)
        self.patch(browse, "open_zeroconf", lambda interface: mock.Mock())
        reactor = FakeReactor()
        seen: list[list[Server]] = []
        browser = Browser(reactor, seen.append)
        browser.start()
        for _ in range(2):
            browser._mailbox.put("a", here=True)
            reactor.run(1)
        self.assertEqual((asked, seen), (["a"] * 4, [[server]]))
        stopped = browser.stop()
        reactor.run(1)
        self.successResultOf(stopped)

    def test_fails_late(self) -> None:
        """Where it takes longer to find no way to listen than to listen, that is said as well."""
        over = threading.Event()

        def refuse(_interface: str) -> None:
            over.wait(PATIENCE)
            raise OSError("no such device")

        self.patch(browse, "open_zeroconf", refuse)
        reactor = FakeReactor()
        found = Deferred.fromCoroutine(browse.find_servers(reactor, wait=1.0))
        reactor.advance(1.0)
        over.set()
        reactor.run(2)
        error = self.failureResultOf(found, browse.CannotBrowse).value
        self.assertEqual(str(error), "no such device.")


class FakeReactor(Clock):
    """A clock that runs what threads ask for when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: list[Callable[[], None]] = []
        self._arrived = threading.Semaphore(0)

    def callFromThread(self, function: Callable[..., None], *arguments: Any) -> None:
        """Keep it."""
        self._asked.append(lambda: function(*arguments))
        self._arrived.release()

    def run(self, count: int) -> None:
        """Wait until so many calls have come, and make them."""
        for _ in range(count):
            assert self._arrived.acquire(timeout=PATIENCE)
            self._asked.pop(0)()


class FakeResponder:
    """Notes what is asked of it. It may fail, or hang until `free` is set."""

    def __init__(self, error: Exception | None = None, *, hangs: bool = False) -> None:
        self.asked: list[str] = []
        self.free = threading.Event()
        self._error = error
        if not hangs:
            self.free.set()

    def __call__(self, interface: str) -> FakeResponder:
        """Make it: what the service is given."""
        self.asked.append(f"made on {interface}")
        return self

    def announce(self, announcement: Announcement) -> str:
        """Begin, or fail."""
        if self._error is not None:
            raise self._error
        self.asked.append(f"announced {announcement.port}")
        return "the room._chatbox._tcp.local."

    def close(self) -> None:
        """End."""
        self.free.wait(PATIENCE)
        self.asked.append("closed")


class AnnounceServiceTests(SynchronousTestCase):
    """The announcement lives as long as the server, and never harms it."""

    def start(self, responder: Callable[[str], Any]) -> None:
        """Start a service with this responder."""
        self.reactor = FakeReactor()
        said = Announcement("the room", 50000, False, "1.0", "192.0.2.1")
        self.service = AnnounceService(self.reactor, said, responder)
        self.service.startService()

    def test_life(self) -> None:
        """It is announced at the start and taken back at the end, which waits for that."""
        responder = FakeResponder()
        self.start(responder)
        self.reactor.run(1)
        self.assertEqual(responder.asked, ["made on 192.0.2.1", "announced 50000"])
        stopped = self.service.stopService()
        self.reactor.run(1)
        self.successResultOf(stopped)
        self.assertEqual(responder.asked[-1], "closed")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_failures(self) -> None:
        """Whatever fails is one line in the log, and nothing is left to stop."""
        for error, level in {
            OSError("no such device"): "warn",
            RuntimeError(): "warn",
            ImportError("zeroconf"): "info",
        }.items():
            responder = FakeResponder(error)
            with capturedLogs() as events:
                self.start(responder)
                self.reactor.run(2)
            self.assertEqual([one["log_level"].name for one in events], [level])
            self.successResultOf(self.service.stopService())

    def test_hang(self) -> None:
        """A farewell that does not end delays the end of the server for a moment only."""
        responder = FakeResponder(hangs=True)
        self.start(responder)
        self.reactor.run(1)
        stopped = self.service.stopService()
        self.assertNoResult(stopped)
        self.reactor.advance(STOP_TIMEOUT)
        self.successResultOf(stopped)
        responder.free.set()
        self.reactor.run(1)

    def test_stopped_before_it_began(self) -> None:
        """A server that ends at once takes its announcement back too."""
        responder = FakeResponder()
        self.start(responder)
        stopped = self.service.stopService()
        self.reactor.run(2)
        self.successResultOf(stopped)
        self.assertEqual(responder.asked[-1], "closed")


class InviteServiceTests(SynchronousTestCase):
    """Whoever starts a server reads what to tell the others."""

    def told(self, *listen: str) -> str:
        """What the log says of a server that listens there."""
        announcement = announcement_for(listen, "room", "1.0")
        assert announcement is not None
        with capturedLogs() as events:
            InviteService(announcement).startService()
        return str(formatEvent(events[0])).rpartition(": ")[2]

    def test_command(self) -> None:
        """It is what they type, whole; with TLS where there is TLS."""
        self.patch(invite, "own_address", lambda: "192.0.2.7")
        self.assertEqual(self.told("tcp:50000"), "chatbox join 192.0.2.7:50000")
        self.assertEqual(
            self.told("tcp:50000", "tls-self-signed:tcp:50001"),
            "chatbox join --tls 192.0.2.7:50001",
        )
        self.assertEqual(
            self.told(r"tcp6:6000:interface=2001\:db8\:\:1"), "chatbox join [2001:db8::1]:6000"
        )

    def test_own_address(self) -> None:
        """Where nothing leads out of the network, the address in it is what others type."""
        self.patch(socket, "gethostname", lambda: "machine")
        with mock.patch.object(socket.socket, "connect", side_effect=OSError):
            for networks, address in (
                (["127.0.0.1/8", "fe80::1/64", "169.254.1.2/16", "192.0.2.7/24"], "192.0.2.7"),
                (["127.0.0.1/8", "2001:db8::1/64"], "machine"),
            ):
                self.patch(invite, "own_networks", lambda networks=networks: networks)
                self.assertEqual(invite.own_address(), address)
