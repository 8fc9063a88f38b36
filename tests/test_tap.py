"""The service that is made from the options, and where it listens."""

from __future__ import annotations

import os
from collections.abc import Callable
from unittest import mock

from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import IService
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.python import usage

from chatbox.ahead import HashAhead
from chatbox.chat.limits import Limits
from chatbox.chat.server import ChatFactory
from chatbox.chat.service import ChatService
from chatbox.errors import CannotStart, RemoteError
from chatbox.lan.announce import AnnounceService
from chatbox.lan.invite import InviteService
from chatbox.openfiles import OpenFiles
from chatbox.rdt.admissions import Taker
from chatbox.rdt.congestion.cubic import Cubic
from chatbox.rdt.service import TransferService
from chatbox.tap import makeService
from chatbox.tls import BACKLOG, ListeningService
from tests.test_options import OptionsTestCase


class Reactor(MemoryReactorClock):
    """A reactor in memory that has other threads, which could call it."""

    def callInThread(self, call: Callable[..., object], *arguments: object) -> None:
        """Call it some time."""
        self.callLater(0, call, *arguments)

    def callFromThread(self, call: Callable[..., object], *arguments: object) -> None:
        """Call it some time."""
        self.callLater(0, call, *arguments)


class MakeServiceTests(OptionsTestCase):
    """The service is whole, and building it touches no network."""

    def test_services(self) -> None:
        """Transfers and chat are there, and files may be opened, before the places to listen."""
        reactor = Reactor()
        options = self.options("--listen", "tcp:1", "--listen", "tcp:2:interface=127.0.0.1")
        server = makeService(options, reactor)
        self.assertTrue(IService.providedBy(server))
        kinds = [type(part) for part in server]
        self.assertEqual(kinds[:3], [TransferService, ChatService, OpenFiles])
        self.assertEqual(
            kinds[3:], [ListeningService] * 2 + [HashAhead, InviteService, AnnounceService]
        )
        self.assertEqual(reactor.tcpServers, [])
        self.assertEqual(reactor.getDelayedCalls(), [])

    def test_what_twistd_writes(self) -> None:
        """It is seen to first, and left as it is."""
        place = self.mktemp()
        os.mkdir(place)
        pid, log = os.path.join(place, "pid"), os.path.join(place, "log")
        with open(log, "w") as file:
            file.write("before")
        options = self.options()
        asked: dict[str, object] = {"pidfile": pid, "logfile": log, "nodaemon": 0, "syslog": 0}
        options.parent = twistd = usage.Options()
        for change in ({}, {"pidfile": "", "logfile": "-"}, {"logfile": None, "syslog": 1}):
            twistd.update({**asked, **change})
            makeService(options, Reactor())
        self.assertEqual(os.listdir(place), ["log"])
        self.assertEqual(os.path.getsize(log), 6)
        for option in ("pidfile", "logfile"):
            twistd.update({**asked, option: os.path.join(log, "nowhere")})
            error = self.assertRaises(CannotStart, makeService, options, Reactor())
            self.assertIn(f"another --{option}", str(error))

    def test_announced(self) -> None:
        """A server that only this machine can reach is not announced unless that is wanted."""
        here = ("--listen", "tcp:2:interface=127.0.0.1")
        for argv, expected in {
            (): True,
            ("--no-announce",): False,
            here: False,
            (*here, "--announce", "127.0.0.1"): True,
            (*here, "--announce", "127.0.0.1", "--no-announce"): False,
        }.items():
            server = makeService(self.options(*argv), Reactor())
            kinds = [type(part) for part in server]
            self.assertEqual(AnnounceService in kinds, expected, argv)
        self.assertIn("--announce x: write the IP", self.complaint("--announce", "x"))

    def test_hash_ahead(self) -> None:
        """Shared files are read ahead of downloads unless that is not wanted."""
        for argv, expected in {(): True, ("--no-hash-ahead",): False}.items():
            server = makeService(self.options(*argv), Reactor())
            self.assertEqual(HashAhead in map(type, server), expected)

    def test_downloads(self) -> None:
        """What the options say about downloads reaches the transfers."""
        given = ("--max-rate", "5MB", "--downloads", "3", "--downloads-per-user", "2")
        with mock.patch("chatbox.tap.TransferService", wraps=TransferService) as made:
            makeService(self.options(*given, "--cc", "cubic", "--no-gso"), Reactor())
        said = made.call_args.kwargs
        self.assertEqual((said["max_rate"], said["gso"]), (5_000_000, False))
        self.assertIs(said["make_controller"], Cubic)
        for user in ("alice", "alice", "bob"):
            said["admissions"].check(Taker(user))
            said["admissions"].enter(Taker(user))
        for user in ("alice", "carol"):
            self.assertRaises(RemoteError, said["admissions"].check, Taker(user))

    def test_limits(self) -> None:
        """What the options say about clients reaches the chat."""
        given = [
            "--max-connections",
            "7",
            "--max-connections-per-address",
            "0",
            "--login-timeout",
            "1.5",
        ]
        given += ["--rate", "10", "--burst", "20", "--join-rate", "3", "--join-burst", "4"]
        given += ["--max-users", "5", "--max-text", "65536", "--max-name", "9"]
        with mock.patch("chatbox.tap.ChatFactory", wraps=ChatFactory) as made:
            makeService(self.options(*given), Reactor())
        limits = Limits(7, 0, 1.5, 10, 20, 3, 4, 5, 65536, 9)
        self.assertEqual(made.call_args.kwargs["limits"], limits)
        self.assertEqual(made.call_args.args[0]._max_users, 5)

    def test_open_files(self) -> None:
        """Besides clients: each UDP port, and of each download the file, to send and to hash."""
        with mock.patch("chatbox.tap.OpenFiles", wraps=OpenFiles) as made:
            makeService(self.options("--udp-ports", "50001-50003", "--downloads", "5"), Reactor())
        self.assertEqual(made.call_args.args[1], 3 + 2 * 5)

    def test_listeners_share_one_room(self) -> None:
        """Wherever people come in, they meet in the same room."""
        options = self.options("--listen", "tcp:1", "--listen", "tcp:2")
        server = makeService(options, Reactor())
        factories = {
            id(part.factory) for part in server if isinstance(part, StreamServerEndpointService)
        }
        self.assertEqual(len(factories), 1)
        for part in server:
            if isinstance(part, StreamServerEndpointService):
                self.assertIsInstance(part.factory, ChatFactory)


class BacklogTests(OptionsTestCase):
    """How many connections may wait to be accepted."""

    def test_backlog(self) -> None:
        """Many, unless the description says how many; one that knows no backlog is left alone."""
        reactor = MemoryReactorClock()
        for description in (
            "tcp:1",
            "tcp:2:interface=127.0.0.1",
            "tcp:3:backlog=7",
            "haproxy:tcp:4",
        ):
            self.options("--listen", description)
            ListeningService(description, Factory(), reactor, self.folder).startService()
        self.assertEqual(
            [server[2] for server in reactor.tcpServers], [BACKLOG, BACKLOG, 7, BACKLOG]
        )
        path = os.path.join(self.folder, "socket")
        ListeningService(f"unix:{path}", Factory(), reactor, self.folder).startService()
        self.assertEqual(len(reactor.unixServers), 1)
