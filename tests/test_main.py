"""The command line: its arguments, its errands against a real server, and its exit statuses."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import signal
import socket
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

import chatbox
from chatbox.client import main as main_module
from chatbox.client.chat.events import UserList
from chatbox.client.connect.access import Access
from chatbox.client.connect.connection import ANSWER_TIMEOUT, LEAVE_TIMEOUT, join_server
from chatbox.client.connect.hosts import endpoint_for, split_host
from chatbox.client.connect.secure import SecureEndpoint
from chatbox.client.errands import oneshots
from chatbox.client.errands.oneshots import Visit, print_history
from chatbox.client.exits import Exit, Stop
from chatbox.client.main import arguments
from chatbox.client.words import MAYBE_MORE
from chatbox.descriptions import DEFAULT_PORT
from tests.helpers.client import Server
from tests.helpers.processes import PATIENCE, Running, environment, patient
from tests.helpers.server import Served, serving
from tests.helpers.talk import Talker


class HostTests(SynchronousTestCase):
    """What HOST may be."""

    def test_hosts(self) -> None:
        """Names and addresses, with a port or the usual one."""
        cases = {
            "example.org": ("example.org", DEFAULT_PORT),
            "example.org:6000": ("example.org", 6000),
            "192.0.2.1:1": ("192.0.2.1", 1),
            "::1": ("::1", DEFAULT_PORT),
            "2001:db8::1": ("2001:db8::1", DEFAULT_PORT),
            "[2001:db8::1]": ("2001:db8::1", DEFAULT_PORT),
            "[2001:db8::1]:6000": ("2001:db8::1", 6000),
        }
        for text, expected in cases.items():
            self.assertEqual(split_host(text), expected, text)

    def test_endpoints(self) -> None:
        """What is none of these may be an endpoint string."""
        for text in ("tls:example.org:6000", "unix:/run/chatbox", "tcp:host=h:port=1", ""):
            self.assertIsNone(split_host(text), text)
        endpoint, place = endpoint_for(MemoryReactorClock(), "example.org:6000")
        self.assertIsInstance(endpoint, HostnameEndpoint)
        self.assertEqual(place, "example.org, TCP port 6000")
        endpoint_for(MemoryReactorClock(), "unix:/run/chatbox")
        # An address that means something on one link only goes to the socket as it is.
        reactor = MemoryReactorClock()
        endpoint, _ = endpoint_for(reactor, "[fe80::1%lo]:6000")
        endpoint.connect(Factory())
        self.assertEqual(reactor.tcpClients[0][:2], ("fe80::1%lo", 6000))

    def test_nonsense(self) -> None:
        """What is not an address ends with a sentence that says what would be one."""
        for text in (
            "h:0",
            "h:65536",
            "[::1]:x",
            "h:99999999999",
            "foo:bar:baz",
            "",
            "tls:",
            "a:b",
            "tls:example.org",
            "unix:a:b:c:d:e",
        ):
            stop = self.assertRaises(Stop, endpoint_for, MemoryReactorClock(), text)
            self.assertEqual(stop.status, Exit.USAGE, text)
            self.assertTrue(stop.sentence)
            self.assertNotIn("()", stop.sentence)
            self.assertNotIn("endpoint type", stop.sentence)

    def test_fingerprint_takes_tls(self) -> None:
        """Who says which key the server must have does not get to one that shows none."""
        expected = "0" * 64
        for text in ("h", "h:1", "fe80::1%lo", "unix:/run/chatbox", "tcp:h:1"):
            access = Access(fingerprint=expected)
            stop = self.assertRaises(Stop, endpoint_for, MemoryReactorClock(), text, access)
            self.assertEqual(stop.status, Exit.USAGE, text)
            self.assertIn("--tls", stop.sentence)
        for text, tls in (("tls:h:1", False), ("h", True)):
            access = Access(tls=tls, fingerprint=expected)
            endpoint, _ = endpoint_for(MemoryReactorClock(), text, access)
            self.assertIsInstance(endpoint, SecureEndpoint)

    def test_why_it_cannot_be_reached(self) -> None:
        """The system's words, without Twisted's and the number."""
        reactor: Any = MemoryReactorClock()
        joining = Deferred.fromCoroutine(join_server(reactor, "unix:/run/chatbox", "ann"))
        failure = Failure(ConnectError(errno.ENOENT, "some words"))
        reactor.unixClients[0][1].clientConnectionFailed(None, failure)
        stop = self.failureResultOf(joining, Stop).value
        self.assertEqual(
            stop.sentence,
            "unix:/run/chatbox: it cannot be reached (No such file or directory)."
            " Is the address right?",
        )

    def test_no_such_link(self) -> None:
        """A number that is none of the system's errors is not read as one."""
        reactor: Any = MemoryReactorClock()
        no_such = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        with mock.patch.object(reactor, "connectTCP", side_effect=no_such):
            joining = Deferred.fromCoroutine(join_server(reactor, "fe80::1%nowhere", "ann"))
        stop = self.failureResultOf(joining, Stop).value
        self.assertIn("there is no such host", stop.sentence)

    def test_no_name_of_a_host(self) -> None:
        """What cannot be the name of any host is told as a host that is not there."""
        for text in ("a b", "-x", "a" * 70, "a..b", "tls:a b:1"):
            joining = Deferred.fromCoroutine(join_server(MemoryReactorClock(), text, "ann"))
            stop = self.failureResultOf(joining, Stop).value
            self.assertEqual(stop.status, Exit.NO_CONNECTION)
            self.assertIn("there is no such host", stop.sentence)


class ArgumentTests(SynchronousTestCase):
    """The command line."""

    def refused(self, *argv: str) -> str:
        """What is said about a wrong command line."""
        output = io.StringIO()
        with contextlib.redirect_stderr(output):
            status = self.assertRaises(SystemExit, arguments().parse_args, list(argv))
        self.assertEqual(status.code, Exit.USAGE)
        return output.getvalue()

    def test_help_lists_every_status_and_command(self) -> None:
        """--help is the manual: all commands and all exit statuses are in it."""
        text = arguments().format_help()
        for status in Exit:
            self.assertRegex(text, rf"(?m)^ +{status.value}  {re.escape(status.meaning)}$")
        for command in main_module._SUBCOMMANDS:
            self.assertRegex(text, rf"(?m)^ +{command} ")

    def test_help_fits(self) -> None:
        """No line of any help is wider than a terminal of 80 columns, but for a long path."""
        patched = {"COLUMNS": "80", "XDG_CONFIG_HOME": "/x"}
        for command in ("", *main_module._SUBCOMMANDS):
            with (
                mock.patch.dict(os.environ, patched),
                contextlib.redirect_stdout(io.StringIO()) as out,
            ):
                argv = [*([command] if command else []), "--help"]
                self.assertRaises(SystemExit, arguments().parse_args, argv)
            wide = [line for line in out.getvalue().splitlines() if len(line) > 80]
            self.assertEqual(wide, [], command)

    def test_too_many_words(self) -> None:
        """What a command does not know comes with how that command is used."""
        for argv in (("who", "h", "x"), ("history", "h", "--x"), ("get", "h", "f", "-z")):
            self.assertIn(f"usage: chatbox {argv[0]} ", self.refused(*argv))

    def test_every_command_has_its_function(self) -> None:
        """The table of commands leads to functions that exist."""
        import importlib

        for command, module in main_module._SUBCOMMANDS.items():
            self.assertTrue(callable(getattr(importlib.import_module(module), command)))

    def test_get(self) -> None:
        """All options of get."""
        options = arguments().parse_args(
            [
                "get",
                "h",
                "f",
                "-o",
                "p",
                "--overwrite",
                "--name",
                "n",
                "--pause",
                "--limit",
                "8Mbit",
                "-q",
                "--udp-via",
                "127.0.0.1:9",
            ]
        )
        expected = Namespace(
            config=None,
            command="get",
            host="h",
            files=["f"],
            output="p",
            overwrite=True,
            name="n",
            pause=True,
            limit=1_000_000,
            quiet=True,
            tls=False,
            fingerprint=None,
            password_file=None,
            allow_plain_auth=False,
            udp_via=("127.0.0.1", 9),
        )
        self.assertEqual(options, expected)

    def test_options_anywhere(self) -> None:
        """Options may stand before, between and behind all else; behind -- there are none."""
        for words in ("h a b -o d", "h -o d a b", "h a -o d b", "-o d h a b", "-o d -- h a b"):
            options = arguments().parse_args(["get", *words.split()])
            self.assertEqual((options.host, options.files), ("h", ["a", "b"]), words)
            self.assertEqual(options.output, "d")
        for words in ("h --to bob hi", "--to bob h hi", "h hi --to bob"):
            options = arguments().parse_args(["say", *words.split()])
            self.assertEqual((options.host, options.words, options.to), ("h", ["hi"], "bob"))
        options = arguments().parse_args(["say", "--", "-x"])
        self.assertEqual((options.host, options.words), (None, ["-x"]))
        for words in ("h -- -x y --to", "-- h -x y --to"):
            options = arguments().parse_args(["say", *words.split()])
            self.assertEqual((options.host, options.words), ("h", ["-x", "y", "--to"]), words)
        for words in ("h a b --to bob", "h a --to bob b", "--to bob h a b"):
            options = arguments().parse_args(["say", *words.split()])
            self.assertEqual((options.host, options.words), ("h", ["a", "b"]), words)
            self.assertEqual(options.to, "bob")
        options = arguments().parse_args(["passwd", "accounts", "--delete", "bob"])
        self.assertEqual((options.file, options.name, options.delete), ("accounts", "bob", True))

    def test_wrong_arguments(self) -> None:
        """They end with status 2 and a word about what is wrong."""
        self.refused()
        self.assertIn("wave", self.refused("wave"))
        self.assertIn("FILE", self.refused("get"))
        self.assertIn("--nope", self.refused("get", "h", "--nope", "f"))
        self.assertIn("number", self.refused("history", "h", "-n", "x", "--after", "1"))
        self.assertIn("number", self.refused("join", "h", "--reconnect", "soon"))
        for relay in ("name:1", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1"):
            self.assertIn("IP:PORT", self.refused("join", "h", "--udp-via", relay))
        self.assertIn("number", self.refused("history", "h", "-n", "many"))
        self.assertIn("./-", self.refused("get", "h", "f", "-o", "-"))
        self.assertIn("such as 800kB", self.refused("get", "h", "f", "--limit", "fast"))

    def test_text_that_is_not_utf8(self) -> None:
        """Bytes of the command line that are no text are replaced, since they cannot be sent."""
        options = arguments().parse_args(["say", "h", "caf\udce9"])
        self.assertEqual(options.words, ["caf\N{REPLACEMENT CHARACTER}"])


class VisitTests(SynchronousTestCase):
    """One errand at a time, in virtual time."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.server = Server()
        self.visitor = Visit(self.clock, self.server.connection)

    def ask(self) -> Deferred[UserList]:
        """Ask who is there."""
        number = self.visitor.session.ask_users()
        return Deferred.fromCoroutine(self.visitor.ask(UserList, number))

    def stopped(self, asked: Deferred[UserList]) -> Exit:
        """The status of an errand that failed; no timer is left."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        status: Exit = self.failureResultOf(asked, Stop).value.status
        return status

    def test_answer(self) -> None:
        """The answer ends the wait; what others say does not."""
        asked = self.ask()
        self.server.answer(None, "message_received", sender="bob", recipient="all", text="hi")
        self.assertNoResult(asked)
        self.server.answer(self.server.requests()[0].sequence, "user_list", text="['bob']")
        self.assertEqual(self.successResultOf(asked).names, ("bob",))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_asked_ahead(self) -> None:
        """What was asked together with the name may be answered before anybody waits for it."""
        server = Server()
        number = server.connection.session.ask_users()
        server.answer(number, "user_list", text="['bob']")
        visitor = Visit(self.clock, server.connection, number)
        asked = Deferred.fromCoroutine(visitor.ask(UserList, visitor.first))
        self.assertEqual(self.successResultOf(asked).names, ("bob",))

    def test_refusal(self) -> None:
        """A refusal is told by its status."""
        asked = self.ask()
        number = self.server.requests()[0].sequence
        self.server.answer(number, "error", text="No.", error="busy")
        self.assertEqual(self.stopped(asked), Exit.REFUSED)

    def test_lost(self) -> None:
        """A connection lost before or while waiting is told."""
        asked = self.ask()
        self.server.close()
        self.assertEqual(self.stopped(asked), Exit.LOST)
        again = Deferred.fromCoroutine(self.visitor.ask(UserList, 99))
        self.assertEqual(self.stopped(again), Exit.LOST)

    def test_silence(self) -> None:
        """A server that does not answer is not waited for without end."""
        asked = self.ask()
        self.clock.advance(ANSWER_TIMEOUT)
        self.assertEqual(self.stopped(asked), Exit.LOST)

    def test_a_late_answer_is_not_the_next(self) -> None:
        """What comes after its time is up is not taken for the goodbye, nor for another answer."""
        for leaving in (True, False):
            self.setUp()
            asked = self.ask()
            [late] = self.server.requests()
            self.clock.advance(ANSWER_TIMEOUT)
            self.assertEqual(self.stopped(asked), Exit.LOST)
            self.server.answer(late.sequence, "user_list", text="['bob']")
            if leaving:
                left = Deferred.fromCoroutine(self.visitor.leave())
                self.assertNoResult(left)
                [goodbye] = self.server.requests()
                self.server.answer(goodbye.sequence, "disconnect_response", text="True")
                self.successResultOf(left)
            else:
                again = self.ask()
                self.assertNoResult(again)
                number = self.server.requests()[0].sequence
                self.server.answer(number, "user_list", text="['carol']")
                self.assertEqual(self.successResultOf(again).names, ("carol",))

    def test_history_in_pages(self) -> None:
        """More than one answer holds is asked for in pages; what is gone is no result."""
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        printed = Deferred.fromCoroutine(print_history(self.visitor, 3, 5))
        for after, ids, more in ((5, (8, 9), 9), (9, (10,), 10)):
            (asked,) = self.server.requests()
            self.assertEqual((asked.after, asked.count), (after, 3 if after == 5 else 1))
            if after == 5:
                self.server.answer(7, "gap", sender="server", text="")
            for id in ids:
                self.server.answer(id, "message_received", sender="bob", recipient="all", text="x")
            text = str(len(ids))
            self.server.answer(asked.sequence, "history_response", text=text, after=more)
        self.successResultOf(printed)
        lines = out.getvalue().splitlines()
        self.assertEqual([line.split("\t")[0] for line in lines], ["8", "9", "10"])
        self.assertEqual(err.getvalue().count("missing"), 1)

    def print_last(self, wanted: int, *pages: tuple[tuple[int, ...], int | None]) -> str:
        """Print the last messages, from pages of their numbers and of what is said before them.

        What is printed is left in `printed`, and what is complained of is returned.
        """
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        done = Deferred.fromCoroutine(print_history(self.visitor, wanted, None))
        expected_before = None
        for ids, before in pages:
            self.assertEqual(out.getvalue(), "")
            (asked,) = self.server.requests()
            self.assertEqual((asked.count, asked.before), (wanted, expected_before))
            for id in ids:
                self.server.answer(id, "message_received", sender="bob", recipient="all", text="x")
            text = str(len(ids))
            self.server.answer(asked.sequence, "history_response", text=text, before=before)
            wanted, expected_before = wanted - len(ids), before
        self.successResultOf(done)
        self.assertEqual(self.server.requests(), [])
        self.printed = [int(line.split("\t")[0]) for line in out.getvalue().splitlines()]
        return err.getvalue()

    def test_last_messages_in_pages(self) -> None:
        """The last messages are asked for backwards, and printed oldest first."""
        self.assertEqual(self.print_last(5, ((7, 9), 7), ((4, 5), 4), ((3,), 3)), "")
        self.assertEqual(self.printed, [3, 4, 5, 7, 9])

    def test_fewer_messages_than_wanted(self) -> None:
        """If the server says that these are all, that is no fault; if it says nothing, that is."""
        self.assertEqual(self.print_last(5, ((7, 9), 7), ((4,), 0)), "")
        self.assertEqual(self.printed, [4, 7, 9])
        self.assertEqual(self.print_last(5, ((7, 9), None)), MAYBE_MORE + "\n")
        self.assertEqual(self.print_last(2, ((7, 9), None)), "")

    def test_pages_that_lead_nowhere(self) -> None:
        """A server that shows the same page for ever is not asked for ever."""
        self.print_last(9, ((7, 9), 7), ((), 7))
        self.assertEqual(self.printed, [7, 9])

    def test_more_messages_than_can_be_had(self) -> None:
        """There is a bound, and it is told."""
        self.patch(oneshots, "MAX_LAST", 2)
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        Deferred.fromCoroutine(print_history(self.visitor, 3, None))
        (asked,) = self.server.requests()
        self.assertEqual(asked.count, 2)
        for id in (7, 9):
            self.server.answer(id, "message_received", sender="bob", recipient="all", text="x")
        self.server.answer(asked.sequence, "history_response", text="2", before=7)
        self.assertEqual(len(out.getvalue().splitlines()), 2)
        self.assertEqual(err.getvalue(), "These are the last 2. For more: --after NUMBER\n")

    def test_leave(self) -> None:
        """The goodbye is waited for a moment, and then the connection is closed."""
        for answers in (True, False):
            self.setUp()
            left = Deferred.fromCoroutine(self.visitor.leave())
            (request,) = self.server.requests()
            self.assertEqual(request.request, "disconnect")
            if answers:
                self.server.answer(request.sequence, "disconnect_response", text="True")
            else:
                self.clock.advance(LEAVE_TIMEOUT)
            self.successResultOf(left)
            self.assertTrue(self.server.transport.disconnected)
            self.assertEqual(self.clock.getDelayedCalls(), [])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all errands."""
    with serving(tmp_path_factory.mktemp("server")) as served:
        yield served


def errand(
    *argv: str, cwd: Path | None = None, typed: str = "", **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; `typed` is what its standard input has."""
    return subprocess.run(
        [*patient("chatbox"), *argv],
        input=typed,
        capture_output=True,
        encoding="utf-8",
        env=environment(CHATBOX_NAME="zoe", **settings),
        cwd=cwd,
        timeout=PATIENCE,
        check=False,
    )


def outcome(*argv: str, cwd: Path | None = None) -> tuple[int, str]:
    """The status and the standard output of an errand."""
    done = errand(*argv, cwd=cwd)
    return done.returncode, done.stdout


def test_version() -> None:
    """--version says which."""
    assert outcome("--version") == (0, f"chatbox {chatbox.__version__}\n")


def test_files(server: Served) -> None:
    """Names and sizes, with TAB between them."""
    assert outcome("files", server.host) == (0, "a note.txt\t6\nfilm.bin\t300000\n")


def test_who_does_not_count_the_visitor(server: Served) -> None:
    """An empty room looks empty to a visitor."""
    assert outcome("who", server.host) == (0, "")


def test_say_and_history(server: Served) -> None:
    """What was said is in the log, and comes out as one line of five fields."""
    assert outcome("say", server.host, "one\ttwo\nthree \\ <4>", "--name", "zoe") == (0, "")
    status, text = outcome("history", server.host, "-n", "1")
    number, at, sender, recipient, said = text.rstrip("\n").split("\t")
    assert (status, sender, recipient, said) == (0, "zoe", "all", r"one\ttwo\nthree \\ <4>")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", at)
    assert outcome("history", server.host, "--after", number) == (0, "")


def test_say_in_words(server: Served) -> None:
    """Several words are one message; a dash stands for standard input, or for the host."""
    as_zoe = ("--name", "zoe")

    def last() -> str:
        return outcome("history", server.host, "-n", "1")[1].rstrip("\n").split("\t")[4]

    assert outcome("say", server.host, *as_zoe, "two", "words") == (0, "")
    assert last() == "two words"
    assert outcome("say", server.host, *as_zoe, "--", "-dash", "-") == (0, "")
    assert last() == "-dash -"
    for host in ((server.host,), ("-",), ()):
        text = f"from {len(host)}\nin {host} caf\xe9"
        done = errand("say", *host, "-", *as_zoe, typed=f"{text}\n", CHATBOX_HOST=server.host)
        assert (done.returncode, done.stderr) == (0, "")
        assert last() == text.replace("\n", r"\n")
    done = errand("say", server.host, "-", *as_zoe, typed="\n")
    assert (done.returncode, "nothing to say" in done.stderr) == (Exit.USAGE, True)
    done = errand("say", server.host, "-", *as_zoe, typed="x" * 100_000)
    assert (done.returncode, "more than 65536 bytes" in done.stderr) == (Exit.USAGE, True)
    done = errand("say", server.host, "-", *as_zoe, typed="x" * 65_536)
    refusal = "The message is too long: it has 65536 bytes, and may have 4096."
    assert (done.returncode, done.stderr) == (Exit.REFUSED, f"chatbox: {refusal}\n")


def test_words_for_a_host(server: Served) -> None:
    """Who has settled a server and forgets that the first word is one is told of it."""
    for words, advice in {
        ("say", "127.0.0.1:1", "b"): f"a word to say on {server.host}, put a dash before it",
        ("who", "127.0.0.1:1"): f"Without 127.0.0.1:1 it goes to {server.host}.",
    }.items():
        done = errand(*words, CHATBOX_HOST=server.host)
        assert done.returncode == Exit.NO_CONNECTION
        assert advice in done.stderr


def test_a_word_alone_is_no_host() -> None:
    """Who says a server, and nothing to say there, is told what their word was taken for."""
    for words, place in (
        ("127.0.0.1:1", " before 127.0.0.1:1,"),
        ("x" * 99, ","),
        ("-", " before -,"),
    ):
        done = errand("say", words, typed="hello\n")
        assert done.returncode == Exit.USAGE
        assert f"Which server? Say HOST{place} or settle one" in done.stderr


def test_long_history(tmp_path: Path) -> None:
    """As many of the last messages are printed as are wanted, however many pages that takes."""
    texts = [str(number) for number in range(1150)] + ["x" * 4000] * 100
    with serving(tmp_path) as server:
        for index, start in enumerate(range(0, len(texts), 400)):  # no more than is read at once
            with Talker(server.tcp_port, f"talker {index}") as one:
                lines = [f"<r:all><t:message_request><m:{x}>" for x in texts[start : start + 400]]
                one.send("\r\n".join(lines))
                for _ in lines:
                    assert one.read_until("message_response").text == "True"
        for wanted in (5000, 1200):
            done = errand("history", server.host, "-n", str(wanted))
            assert (done.returncode, done.stderr) == (0, "")
            found = [line.split("\t")[4] for line in done.stdout.splitlines()]
            assert found == texts[-wanted:]


def test_say_to_nobody(server: Served) -> None:
    """A private message to somebody who is not here fails, and says so."""
    done = errand("say", server.host, "hi", "--to", "nobody")
    assert done.returncode == Exit.NOT_THERE
    assert done.stderr == "chatbox: Nobody here has that name.\n"


def test_refused_name(server: Served) -> None:
    """A name that the server refuses is told with what to do about it."""
    done = errand("who", server.host, "--name", "all")
    assert done.returncode == Exit.NOT_LET_IN
    assert "The name is reserved." in done.stderr
    assert "--name" in done.stderr


def test_no_server() -> None:
    """Nobody listening, and no such host, are told apart in words."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        done = errand("who", f"127.0.0.1:{port}")
    assert done.returncode == Exit.NO_CONNECTION
    assert f"127.0.0.1, TCP port {port}: nobody listens there." in done.stderr
    done = errand("join", "no-such-host.invalid")
    assert done.returncode == Exit.NO_CONNECTION
    assert "there is no such host" in done.stderr


def test_nothing_is_said_after_a_signal() -> None:
    """What comes of it that a command is cancelled is not told as if it had gone wrong."""
    program = """
import sys
from chatbox.client.main import run
from chatbox.client.exits import Exit, Stop
from twisted.internet.defer import CancelledError, Deferred

async def wait(reactor, options):
    print("here", flush=True)
    try:
        await Deferred()
    except CancelledError:
        raise Stop(Exit.NO_CONNECTION, "there is no such host")

sys.exit(run(wait, None))
"""
    with Running([sys.executable, "-c", program]) as waiting:
        waiting.read_until("here")
        assert waiting.stop(signal.SIGTERM) == Exit.TERMINATED
        assert waiting.said == ["here\n"]


def test_interrupted_while_joining() -> None:
    """Ctrl-C ends the wait for a server that does not answer, without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        host = f"127.0.0.1:{listening.getsockname()[1]}"
        command = [sys.executable, "-m", "chatbox.client.main", "who", host]
        with Running(command) as visitor:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(PATIENCE)
                assert b"<t:connect>" in connection.recv(1000)
                assert visitor.stop(signal.SIGINT) == Exit.INTERRUPTED
            assert visitor.said == []


def test_plain_server_and_tls_client(server: Served) -> None:
    """The wrong kind of connection ends with a sentence."""
    done = errand("who", f"tls:{server.host}")
    assert done.returncode == Exit.NO_CONNECTION
    assert "Traceback" not in done.stderr


def test_closed_output(server: Served) -> None:
    """A reader that goes away early is no reason for a traceback."""
    command = [sys.executable, "-m", "chatbox.client.main", "files", server.host]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=writing,
        stderr=subprocess.PIPE,
        env=environment(),
        timeout=PATIENCE,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (Exit.FAILED, b"")


def test_chatting_does_not_load_the_transfer_code() -> None:
    """The prompt is there early because nothing is loaded that only a download needs."""
    program = (
        "import sys; import chatbox.client.console.join, chatbox.client.errands.oneshots;"
        "sys.exit(any(name.startswith('chatbox.rdt') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=environment(), timeout=PATIENCE)
