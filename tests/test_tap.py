"""Tests of the options of ``twistd chatbox`` and of the service made from them."""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import cast
from unittest import mock

from platformdirs import user_state_dir
from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import IService
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from chatbox import __version__
from chatbox.ahead import HashAhead
from chatbox.chat.limits import Limits
from chatbox.chat.server import ChatFactory
from chatbox.chat.service import ChatService
from chatbox.downloads import ShelfDownloads
from chatbox.errors import LocalError, RemoteError
from chatbox.lan.announce import AnnounceService
from chatbox.log import KINDS
from chatbox.log.keep import EVERYTHING, Keep
from chatbox.openfiles import OpenFiles
from chatbox.option_values import MAX_UDP_PORTS, common_interface
from chatbox.rdt.admissions import MAX_TRANSFERS, MAX_TRANSFERS_PER_USER, Taker
from chatbox.rdt.congestion.cubic import Cubic
from chatbox.rdt.service import TransferService
from chatbox.shelf import SharedFile, Shelf
from chatbox.tap import Options, makeService
from chatbox.tls import BACKLOG, ListeningService

HOST = "192.0.2.7"


class TapTestCase(SynchronousTestCase):
    """A folder to share."""

    def setUp(self) -> None:
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)

    def options(self, *arguments: str) -> Options:
        """Parse `arguments` beside a valid --files."""
        options = Options()
        options.parseOptions(["--files", self.folder, *arguments])
        return options

    def complaint(self, *arguments: str) -> str:
        """What is said about `arguments`, which are wrong."""
        return str(self.assertRaises(UsageError, self.options, *arguments))


class OptionsTests(TapTestCase):
    """Options are converted, and refused with words that say what to do."""

    def test_defaults(self) -> None:
        """Without options the usual ports are used, and messages stay, all of them."""
        options = self.options()
        self.assertEqual(options["listen"], ["tcp:50000"])
        self.assertEqual(options["udp-ports"], range(55000, 55020))
        self.assertEqual(options["udp-interface"], "")
        self.assertEqual(options["log"], "sqlite:")
        self.assertEqual(options["keep"], EVERYTHING)
        self.assertEqual(options["state-dir"], user_state_dir("chatbox"))

    def test_state_dir_becomes_absolute(self) -> None:
        """A daemon changes its working folder; its state must not move."""
        self.assertEqual(self.options("--state-dir", "x")["state-dir"], os.path.abspath("x"))

    def test_keep(self) -> None:
        """Limits are read, and nonsense is refused in words."""
        self.assertEqual(self.options("--keep", "2d,5")["keep"], Keep(age=172_800, count=5))
        self.assertIn("--keep lots: 'lots' is no limit", self.complaint("--keep", "lots"))

    def test_listen_may_be_repeated(self) -> None:
        """Each --listen adds one place to listen, instead of the default one."""
        options = self.options("--listen", "tcp:1", "--listen", r"tcp:2:interface=\:\:1")
        self.assertEqual(options["listen"], ["tcp:1", r"tcp:2:interface=\:\:1"])
        self.assertEqual(Options()["listen"], [], "parsers do not share what they read")

    def test_self_signed(self) -> None:
        """The flag adds a place with TLS, on the interface that the others have in common."""
        self.assertEqual(
            self.options("--tls-self-signed")["listen"],
            ["tcp:50000", "tls-self-signed:tcp:50001"],
        )
        options = self.options("--listen", r"tcp:1:interface=\:\:1", "--tls-self-signed")
        self.assertEqual(options["listen"][1], r"tls-self-signed:tcp:50001:interface=\:\:1")
        self.assertEqual(options["udp-interface"], "::1")
        options = self.options("--listen", "tls-self-signed:tcp:1:interface=127.0.0.1")
        self.assertEqual(options["udp-interface"], "127.0.0.1")

    def test_bad_endpoints_are_refused(self) -> None:
        """What does not say where to listen is refused before anything starts."""
        for text in (
            "",
            "tcp",
            "tcp:",
            "tcp:fifty",
            "tcp:1:color=red",
            "pigeon:1",
            "systemd:domain=INET:name=no-such-socket",
            "tls-self-signed:50001",
        ):
            said = self.complaint("--listen", text)
            self.assertIn(f"--listen {text}: this does not", said)
            self.assertNotRegex(said, r"int\(\)|_parse", "words of the code")
        said = self.complaint("--listen", "ssl:1:privateKey=/does/not/exist.pem")
        self.assertIn("/does/not/exist.pem: No such file or directory. privateKey=", said)

    def test_useless_checkers(self) -> None:
        """A checker that would let nobody in is refused at the start."""
        missing = f"file:{self.folder}/missing"
        self.assertIn(f"--auth {missing}: there is no such file", self.complaint("--auth", missing))
        with mock.patch("chatbox.checkers.find_spec", lambda _: None):
            self.assertIn("up to version 3.12 only.", self.complaint("--auth", "unix"))
        with mock.patch("chatbox.checkers.find_spec", lambda name: name):
            self.assertEqual(len(self.options("--auth", "unix")["credCheckers"]), 1)

    def test_nothing_for_a_terminal_to_obey(self) -> None:
        """What was typed comes back as what can be printed."""
        for option in ("--listen", "--files", "--keep", "--auth", "--x\x1b[2J"):
            self.assertNotIn("\x1b", self.complaint(option, "x\x1b[2J"), option)

    def test_bare_port_and_high_port_get_advice(self) -> None:
        """The two usual slips have answers of their own."""
        self.assertIn("write tcp:50000", self.complaint("--listen", "50000"))
        for text in ("tcp:65536", "tcp:port=70000:interface=127.0.0.1", "haproxy:tcp:65536"):
            self.assertIn("highest TCP port is 65535", self.complaint("--listen", text))

    def test_an_interface_is_no_name(self) -> None:
        """It is said of the option in which it is, whatever stands in front and beside it."""
        for text in (
            *("tcp:1:interface=localhost", "haproxy:tcp:1:interface=localhost"),
            *("tls-self-signed:tcp:1:interface=localhost", r"tcp:1:interface=fe80\:\:x"),
        ):
            for more in ((), ("--udp-interface", "127.0.0.1"), ("--listen", "tcp:2")):
                said = self.complaint("--listen", text, *more)
                self.assertIn(f"--listen {text}: the interface is an IP address", said)

    def test_files_becomes_absolute(self) -> None:
        """A daemon changes its working folder; the shared folder must not move."""
        options = Options()
        options.parseOptions(["--files", os.path.relpath(self.folder)])
        self.assertEqual(options["files"], self.folder)

    def test_files_must_be_a_folder(self) -> None:
        """A missing folder or a file is refused with the reason and the way out."""
        file = os.path.join(self.folder, "file")
        with open(file, "wb"):
            pass
        missing = os.path.join(self.folder, "missing")
        self.assertIn("No such file or directory", self.complaint("--files", missing))
        self.assertIn("Not a directory", self.complaint("--files", file))
        self.assertIn("Name an existing folder", self.complaint("--files", file))

    def test_default_folder_is_files(self) -> None:
        """Without --files the folder called files is shared, which is made if nothing is wrong."""
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        self.assertRaises(UsageError, Options().parseOptions, ["--cc", "reno"])
        self.assertRaises(UsageError, Options().parseOptions, ["--files", "files"])
        self.assertFalse(os.path.exists("files"))
        for _ in range(2):
            options = Options()
            options.parseOptions([])
            self.assertEqual(options["files"], os.path.join(self.folder, "files"))
            self.assertTrue(os.path.isdir("files"))
        os.rmdir("files")
        os.symlink("nowhere", "files")
        error = self.assertRaises(UsageError, Options().parseOptions, [])
        self.assertIn("--files files: ", str(error))

    def test_udp_ports(self) -> None:
        """One port, a range, and 0 for any."""
        for text, ports in {
            "55000-55019": range(55000, 55020),
            "7": range(7, 8),
            "7-7": range(7, 8),
            "65535": range(65535, 65536),
            "0": range(1),
        }.items():
            self.assertEqual(self.options("--udp-ports", text)["udp-ports"], ports)

    def test_bad_udp_ports_are_refused(self) -> None:
        """Nonsense, ports that do not exist, and more sockets than can be had."""
        for text in ("", "x", "-1", "1-", "1-2-3", "1,2", "1 - 2", "٣", "100000", "1.5"):
            self.assertIn("write one port", self.complaint(f"--udp-ports={text}"), text)
        for text in ("65536", "0-5", "1-65536"):
            self.assertIn("ports go from 1 to 65535", self.complaint("--udp-ports", text), text)
        self.assertIn("before the first", self.complaint("--udp-ports", "9-8"))
        self.assertEqual(len(self.options("--udp-ports", "1-1000")["udp-ports"]), MAX_UDP_PORTS)
        self.assertIn("at most 1000", self.complaint("--udp-ports", "1-1001"))

    def test_downloads(self) -> None:
        """What downloads may take is read; left out, there are the usual bounds and no rate."""
        options = self.options()
        names = ("max-rate", "downloads", "downloads-per-user", "cc", "no-gso")
        self.assertEqual(
            [options[name] for name in names],
            [math.inf, MAX_TRANSFERS, MAX_TRANSFERS_PER_USER, "bbr", 0],
        )
        given = ("--max-rate", "8Mbit", "--downloads", "5", "--downloads-per-user=2")
        options = self.options(*given, "--cc", "cubic", "--no-gso")
        self.assertEqual([options[name] for name in names], [1_000_000, 5, 2, "cubic", 1])

    def test_bad_downloads_are_refused(self) -> None:
        """Nonsense about downloads is refused with words that say what to write."""
        self.assertIn("--max-rate: '5 apples' is no rate", self.complaint("--max-rate", "5 apples"))
        for text in ("0", "-1", "many", "1.5", "1000000", "٣", ""):
            for option in ("--downloads", "--downloads-per-user"):
                self.assertIn("from 1 to 999999", self.complaint(f"{option}={text}"), text)
        self.assertIn("one of: bbr, cubic", self.complaint("--cc", "reno"))

    def test_bad_limits_are_refused(self) -> None:
        """Nonsense about clients is refused with words that say what to write."""
        self.assertIn("from 1 to 65536", self.complaint("--max-text=65537"))
        self.assertIn("from 1 to 32", self.complaint("--max-name=0"))
        for option in ("--max-connections", "--max-connections-per-address", "--max-users"):
            self.assertEqual(self.options(f"{option}=0")[option[2:]], 0)
            self.assertIn("from 0 to 999999", self.complaint(f"{option}=-1"))
        for option in ("--burst", "--join-burst"):
            self.assertIn(f"{option} 0: write a number from 1", self.complaint(option, "0"))
        for option in ("--rate", "--join-rate", "--login-timeout"):
            self.assertEqual(self.options(f"{option}=0.5")[option[2:]], 0.5)
            for text in ("-1", "nan", "inf", "fast", ""):
                self.assertIn(f"{option} {text}: write", self.complaint(f"{option}={text}"))

    def test_bad_log_is_refused(self) -> None:
        """A kind of log that is not there is a mistake of the user, not a traceback."""
        for text in ("", "memory", "papyrus:/scroll", "memory:/with/a/path", "sqlite:x?sync=off"):
            self.assertIn(f"--log {text}:", self.complaint("--log", text), text)

    def test_every_kind_of_log(self) -> None:
        """What the manual promises can be said."""
        for scheme in ("redis", "rediss", "redis+sentinel", "rediss+sentinel"):
            url = f"{scheme}://host/0"
            self.assertEqual(self.options("--log", url)["log"], url)

    def test_arguments_are_refused(self) -> None:
        """What is not an option is named."""
        self.assertIn("'50000'", self.complaint("50000"))

    def test_unknown_options_are_refused(self) -> None:
        """A misspelt option is named."""
        self.assertIn("--file-s", self.complaint("--file-s", "x").replace("option ", ""))

    def test_bad_files_are_refused(self) -> None:
        """What is no list of operators, no checker and no certificate comes with advice."""
        self.assertIn("a name a line", self.complaint("--operators", self.mktemp()))
        self.assertIn("--auth sphinx: there is no such kind", self.complaint("--auth", "sphinx"))
        said = self.complaint("--listen", "tls:/does/not/exist:port=1")
        self.assertIn("--listen tls:/does/not/exist:port=1: no certificate there has", said)
        self.assertIn("--tls-self-signed", said)

    def test_version(self) -> None:
        """It is ours that is told, and that of Twisted."""
        with redirect_stdout(io.StringIO()) as said:
            end = self.assertRaises(SystemExit, Options().parseOptions, ["--version"])
        self.assertEqual(end.code, 0)
        self.assertIn(f"chatbox {__version__}, with Twisted ", said.getvalue())

    def test_help_has_no_gaps(self) -> None:
        """No line of it has blanks in a row but those in front of it and behind an option."""
        for line in str(Options()).splitlines():
            text = re.sub(r"^ *(-\w, )?(--\S+)? *", "", line)
            self.assertNotIn("  ", text)

    def test_help_names_every_option(self) -> None:
        """--help has each option with its default."""
        text = re.sub(r"\s+", " ", str(Options()))
        for words in (
            "--listen=",
            "[default: tcp:50000]",
            "--files=",
            "[default: files, made if need be]",
            "--udp-ports=",
            "[default: 55000-55019]",
            "--udp-interface=",
            "--max-rate=",
            "--downloads=",
            "[default: 512]",
            "--downloads-per-user=",
            "[default: 8]",
            "--cc=",
            "[default: bbr]",
            "--no-gso",
            f"--log= Where messages are kept: {KINDS}. [default: sqlite:]",
            "--keep=",
            "[default: all]",
            "--state-dir=",
            "--room=",
            "--announce=",
            "--no-announce",
        ):
            self.assertIn(words, text)


class InterfaceTests(TapTestCase):
    """Files are sent from where the chat listens."""

    def test_downloads_behind_a_proxy(self) -> None:
        """It is told if they come from where nobody is who comes through it."""
        here = "haproxy:tcp:1:interface=127.0.0.1"
        for given, warned in (
            (["--listen", here], True),
            (["--listen", f"tls-self-signed:{here}"], True),
            (["--listen", r"haproxy:tcp:1:interface=\:\:1"], True),
            (["--listen", here, "--udp-interface", "127.0.0.1"], False),
            (["--listen", here, "--listen", "tcp:2"], False),
            (["--listen", "tcp:1:interface=127.0.0.1"], False),
            (["--listen", "haproxy:tcp:1:interface=192.0.2.1"], False),
        ):
            with capturedLogs() as logs:
                self.options(*given)
            told = ["--udp-interface" in formatEvent(event) for event in logs]
            self.assertEqual(told, [True] * warned, given)

    def test_one_interface(self) -> None:
        """If the chat is bound to one address, so are the downloads."""
        self.assertEqual(common_interface(["tcp:1:interface=127.0.0.1"]), "127.0.0.1")
        two = [r"tcp:1:interface=\:\:1", r"ssl:2:interface=\:\:1"]
        self.assertEqual(common_interface(two), "::1")
        options = self.options("--listen", "tcp:1:interface=127.0.0.1")
        self.assertEqual(options["udp-interface"], "127.0.0.1")

    def test_several_interfaces(self) -> None:
        """Otherwise any address will do, of IPv6 too if the chat has one of these."""
        self.assertEqual(common_interface(["tcp:1"]), "")
        self.assertEqual(common_interface(["tls:/pem:port=1"]), "::")
        self.assertEqual(common_interface(["tls:/pem:port=1:interface=10.0.0.1"]), "10.0.0.1")
        self.assertEqual(common_interface(["tcp:1:interface=127.0.0.1", "tcp:2"]), "")
        both = ["tcp:1:interface=127.0.0.1", r"tcp:1:interface=\:\:1"]
        self.assertEqual(common_interface(both), "::")
        self.assertEqual(common_interface(["tcp:1", r"tcp:1:interface=\:\:"]), "::")
        self.assertEqual(common_interface([r"unix:/tmp/a\:interface=b"]), "")

    def test_both_kinds(self) -> None:
        """What takes addresses of IPv6 takes those of IPv4, too, and so do the downloads."""
        for listen in (
            ["tcp6:1"],
            ["tcp:1", "tcp6:2"],
            ["haproxy:tcp6:1"],
            ["tls-self-signed:tcp6:1"],
            ["tls-from:/pem:haproxy:tcp6:1"],
            ["systemd:domain=INET6:index=0"],
            ["systemd:INET6:index=0"],
            ["tcp6:1", "unix:/run/chat"],
        ):
            self.assertEqual(common_interface(listen), "::", listen)
        self.assertEqual(common_interface([r"tcp6:1:interface=\:\:1"]), "::1")
        self.assertEqual(common_interface(["haproxy:tcp:1:interface=10.0.0.1"]), "10.0.0.1")
        self.assertEqual(common_interface(["systemd:domain=INET:index=0"]), "")
        twin = self.options("--listen", "tcp6:1", "--tls-self-signed")["listen"][1]
        self.assertEqual(twin, r"tls-self-signed:tcp:50001:interface=\:\:")

    def test_unix(self) -> None:
        """Nobody comes from another machine over a socket in the file system."""
        here = "tcp:1:interface=127.0.0.1"
        for socket in ("unix:/run/chat", "haproxy:unix:/run/chat", "systemd:domain=UNIX:index=0"):
            self.assertEqual(common_interface([socket, here]), "127.0.0.1")
            self.assertEqual(common_interface([socket]), "")

    def test_given_interface_wins(self) -> None:
        """--udp-interface is taken as it is."""
        listen = "tcp:1:interface=127.0.0.1"
        options = self.options("--listen", listen, "--udp-interface", "10.0.0.1")
        self.assertEqual(options["udp-interface"], "10.0.0.1")

    def test_a_name_is_no_interface(self) -> None:
        """An address is asked for."""
        words = "--udp-interface localhost: write an IP address"
        self.assertIn(words, self.complaint("--udp-interface", "localhost"))


class Reactor(MemoryReactorClock):
    """A reactor in memory that other threads could call."""

    def callFromThread(self, call: Callable[..., object], *arguments: object) -> None:
        """Call it some time."""
        self.callLater(0, call, *arguments)


class MakeServiceTests(TapTestCase):
    """The service is whole, and building it touches no network."""

    def test_services(self) -> None:
        """Transfers and chat are there, and files may be opened, before the places to listen."""
        reactor = Reactor()
        options = self.options("--listen", "tcp:1", "--listen", "tcp:2:interface=127.0.0.1")
        server = makeService(options, reactor)
        self.assertTrue(IService.providedBy(server))
        kinds = [type(part) for part in server]
        self.assertEqual(kinds[:3], [TransferService, ChatService, OpenFiles])
        self.assertEqual(kinds[3:], [ListeningService] * 2 + [HashAhead, AnnounceService])
        self.assertEqual(reactor.tcpServers, [])
        self.assertEqual(reactor.getDelayedCalls(), [])

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


class BacklogTests(TapTestCase):
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


class FakeTransfers:
    """Notes what it is to send, or refuses it."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.offers: list[tuple[Taker, SharedFile]] = []
        self.ports = [55007]
        self._refusal = refusal

    def offer(self, taker: Taker, file: SharedFile, which: int | None = None) -> tuple[int, object]:
        """Take a file."""
        self.offers.append((taker, file))
        if self._refusal:
            raise self._refusal
        return 55007, "the-ticket"


class ShelfDownloadsTests(TapTestCase):
    """The chat's downloads are the shelf's files, sent by the transfers."""

    def setUp(self) -> None:
        super().setUp()
        with open(os.path.join(self.folder, "file"), "wb") as file:
            file.write(b"12345")

    def test_on_offer(self) -> None:
        """Whoever wants to know when something is going to be sent is told once that is so."""
        told: list[int] = []
        transfers = FakeTransfers()
        downloads = self.downloads(transfers, lambda: told.append(len(transfers.offers)))
        downloads.offer("alice", HOST, "file")
        self.assertEqual(told, [1])
        transfers.offers[0][1].close()
        downloads.probe("alice", HOST, None, None)
        self.assertEqual(told, [1, 2])

    def test_nothing_offered(self) -> None:
        """A download that is refused is none."""
        told: list[None] = []
        refusing = FakeTransfers(RemoteError("too-many-downloads"))
        downloads = self.downloads(refusing, lambda: told.append(None))
        for name in ("file", "none"):
            self.assertRaises(RemoteError, downloads.offer, "alice", HOST, name)
        self.assertEqual(told, [])

    def downloads(
        self, transfers: FakeTransfers, on_offer: Callable[[], None] = lambda: None
    ) -> ShelfDownloads:
        """Join our folder with `transfers`."""
        return ShelfDownloads(Shelf(self.folder), cast(TransferService, transfers), on_offer)

    def test_offer(self) -> None:
        """The answer has the port, the ticket as text and the size; the file goes on open."""
        transfers = FakeTransfers()
        offer = self.downloads(transfers).offer("alice", HOST, "file")
        self.assertEqual((offer.port, offer.ticket, offer.size), (55007, "the-ticket", 5))
        [(taker, file)] = transfers.offers
        self.addCleanup(file.close)
        self.assertEqual(taker, Taker("alice", HOST, HOST))
        self.assertEqual((file.name, file.changed()), ("file", False))

    def test_who_takes_it(self) -> None:
        """All devices of an account are one user, and all of a network of IPv6 are one."""
        transfers = FakeTransfers()
        for name, host in (("Alice+x", "2001:db8::1"), ("alice+y", "2001:db8::2"), ("al", "")):
            self.downloads(transfers).offer(name, host, "file")
        takers = [taker for taker, _ in transfers.offers]
        network = "2001:db8::/64"
        self.assertEqual(
            takers,
            [
                Taker("alice", network, "2001:db8::1"),
                Taker("alice", network, "2001:db8::2"),
                Taker("al"),
            ],
        )
        for _, file in transfers.offers:
            file.close()

    def test_offer_tells_which_file_it_is(self) -> None:
        """The answer says when the file was changed, and its digest once that is known."""
        path = os.path.join(self.folder, "file")
        os.utime(path, ns=(0, 1_234_567_890))
        transfers = FakeTransfers()
        downloads = self.downloads(transfers)
        offer = downloads.offer("alice", HOST, "file")
        self.assertEqual((offer.mtime_ms, offer.digest), (1234, None))
        digest = hashlib.sha256(b"12345").digest()
        # As if it had been hashed for a download that is long over.
        with mock.patch("chatbox.hashing.Hasher.remembered", lambda *_: digest):
            self.assertEqual(downloads.offer("alice", HOST, "file").digest, digest.hex())
        for _, file in transfers.offers:
            file.close()

    def test_times_that_statuses_have_no_room_for(self) -> None:
        """They are told modulo 2^64 nanoseconds there, so they are not told here.

        Not every file system takes a file of the year 2554 or later; a file in memory is one.
        """
        shelf, transfers = Shelf(self.folder), FakeTransfers()
        downloads = ShelfDownloads(shelf, cast(TransferService, transfers))
        for mtime_ns, told in (
            (0, 0),
            (-1, None),
            (2**64 - 1, (2**64 - 1) // 1_000_000),
            (2**64, None),
            (2**62 * 10**9, None),
        ):
            file = shelf.open("file")
            self.addCleanup(file.close)
            self.patch(file, "mtime_ns", mtime_ns)
            with mock.patch.object(shelf, "open", return_value=file):
                self.assertEqual(downloads.offer("alice", HOST, "file").mtime_ms, told, mtime_ns)

    def test_refused_file(self) -> None:
        """What the shelf refuses never reaches the transfers."""
        transfers = FakeTransfers()
        for name, code in {"missing": "no-such-file", "../file": "bad-file-name"}.items():
            error = self.assertRaises(
                RemoteError, self.downloads(transfers).offer, "alice", HOST, name
            )
            self.assertEqual(error.code, code)
        self.assertEqual(transfers.offers, [])

    def test_refused_transfer(self) -> None:
        """A file that cannot be sent is closed again."""
        transfers = FakeTransfers(RemoteError("too-many-downloads"))
        error = self.assertRaises(
            RemoteError, self.downloads(transfers).offer, "alice", HOST, "file"
        )
        self.assertEqual(error.code, "too-many-downloads")
        self.assertRaises(LocalError, transfers.offers[0][1].changed)
