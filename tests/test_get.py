"""``chatbox get``: in virtual time, and as a command against a real server."""

from __future__ import annotations

import errno
import io
import os
import socket
import sys
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.wire import Message, format_line, parse_line
from chatbox.client.arguments import apply_settings, arguments
from chatbox.client.config import Settings
from chatbox.client.connect.connection import LEAVE_TIMEOUT
from chatbox.client.errands import get as get_module
from chatbox.client.errands.get import RETURN_DELAY, RETURN_PATIENCE, _Errand, get
from chatbox.client.exits import Exit, Stop
from chatbox.client.files import fetcher as fetcher_module
from chatbox.rdt.ends import End
from chatbox.rdt.receiver import Ended, Opened, Paused
from tests.helpers.client import FakeFetch, FakeTransfer
from tests.helpers.server import Served, serving
from tests.helpers.terminal import at_terminal
from tests.test_console import CLIENT
from tests.test_main import errand


class Fetcher(FakeFetch):
    """Fake transfers for a whole visit."""

    async def tell_ends(self) -> None:
        """They need not be told."""


class TellEndsTests(SynchronousTestCase):
    """The server hears how transfers ended."""

    def setUp(self) -> None:
        self.clock = Clock()
        fetcher = fetcher_module.Fetcher(self.clock, "192.0.2.1")
        self.closed: Deferred[None] = Deferred()
        fetcher._ending.append(self.closed)
        self.telling = Deferred.fromCoroutine(fetcher.tell_ends())
        self.assertNoResult(self.telling)

    def test_told(self) -> None:
        """As soon as all are closed, or after a moment."""
        self.closed.callback(None)
        self.successResultOf(self.telling)
        self.setUp()
        self.clock.advance(LEAVE_TIMEOUT)
        self.successResultOf(self.telling)
        self.closed.callback(None)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_interrupted(self) -> None:
        """Ctrl-C ends that, and is not forgotten over it."""
        self.telling.cancel()
        self.failureResultOf(self.telling, CancelledError)
        self.closed.callback(None)


class ErrandTests(SynchronousTestCase):
    """Several files, one after another, in virtual time; the test is the server."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.fetcher = Fetcher()
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)
        self.patch(get_module, "Fetcher", lambda *_: self.fetcher)

    def options(self, *argv: str) -> Namespace:
        """What ``chatbox get HOST`` is told with these words."""
        options = arguments().parse_args(["get", "tcp:192.0.2.1:50000", *argv])
        apply_settings(options, Settings(name="zoe", downloads=os.path.join(self.folder, "")))
        return options

    def get(self, *argv: str) -> Deferred[Exit]:
        """Run it."""
        return Deferred.fromCoroutine(get(self.reactor, self.options(*argv)))

    def test_no_host(self) -> None:
        """That is said before anything of the files."""
        options = arguments().parse_args(["get", "a.bin", "-o", "/no/such/folder"])
        options.host = None
        stop = self.failureResultOf(Deferred.fromCoroutine(get(self.reactor, options)), Stop).value
        self.assertIn("Which server? Say HOST before a.bin, or", stop.sentence)

    def accept(self) -> None:
        """Let the client in."""
        (_, _, factory, _, _) = self.reactor.tcpClients.pop()
        self.transport = StringTransport()
        protocol: Any = factory.buildProtocol(None)
        self.protocol = protocol
        self.protocol.makeConnection(self.transport)
        connect, *self.waiting = self.requests()
        self.answer(connect.sequence, "connect_response", text="True", key="token")

    def requests(self) -> list[Message]:
        """What the client has asked since this was last called."""
        lines = self.transport.value().splitlines()
        self.transport.clear()
        return [parse_line(line) for line in lines]

    def answer(self, number: int | None, response: str, **fields: Any) -> None:
        """Answer a request."""
        message = Message(response=response, sequence=number, **fields)
        self.protocol.dataReceived(format_line(message))

    def asked_for(self) -> Message:
        """The one file that the client asks for now."""
        (request,) = self.waiting + self.requests()
        self.waiting = []
        self.assertEqual(request.request, "download")
        return request

    def offer(self, name: str) -> FakeTransfer:
        """Offer the file `name`, which must be what the client wants; it begins."""
        request = self.asked_for()
        self.assertEqual(request.text, name)
        self.answer(request.sequence, "download_response", text="55000", key="ticket", size=10)
        begun = self.fetcher.begun[-1]
        self.assertEqual(begun.offer.request.text, name)
        begun.listener(Opened(10))
        return begun

    def refuse(self, name: str, code: str) -> None:
        """Refuse the file `name`, which must be what the client wants."""
        request = self.asked_for()
        self.assertEqual(request.text, name)
        self.answer(request.sequence, "download_response", text="False", error=code)

    def finish(self, transfer: FakeTransfer) -> str:
        """Let a transfer end well; returns what is to be printed of it."""
        path = transfer.target.path
        transfer.listener(Ended(End.DONE, "", path, bytes(32)))
        return f"{bytes(32).hex()}  {path}\n"

    def break_off(self, transfer: FakeTransfer, end: End) -> None:
        """Let a transfer end badly."""
        transfer.listener(Ended(end, end.sentence, None, None))

    def left(self, running: Deferred[Exit], status: Exit) -> None:
        """The client says goodbye, and ends with that status; no timer is left."""
        (goodbye,) = self.requests()
        self.assertEqual(goodbye.request, "disconnect")
        self.answer(goodbye.sequence, "disconnect_response", text="True")
        self.assertIs(self.successResultOf(running), status)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertTrue(self.transport.disconnected)

    def test_options_reach_the_transfer(self) -> None:
        """What the command line says about a download is what each transfer is told."""
        running = self.get("a", "b", "--pause", "--limit", "5000")
        self.reactor.advance(0.2)
        self.accept()
        for name in "ab":
            self.reactor.advance(0.1)
            transfer = self.offer(name)
            self.assertEqual((transfer.pause_half_way, transfer.rate_limit), (True, 5000))
            self.assertAlmostEqual(transfer.rtt, 0.1)
            self.finish(transfer)
        self.left(running, Exit.OK)

    def test_one_visit(self) -> None:
        """Each is asked for when the one before has come, over the same connection."""
        running = self.get("a", "b", "c")
        self.accept()
        printed = ""
        for name in "abc":
            printed += self.finish(self.offer(name))
            self.assertEqual(self.out.getvalue(), printed)
        self.left(running, Exit.OK)
        self.assertEqual(self.reactor.tcpClients, [])

    def test_nobody_answers(self) -> None:
        """A question that nobody can answer is not waited for."""
        answers: list[str] = []
        for trouble in (OSError(errno.EIO, "Input/output error"), ValueError("no UTF-8")):
            self.patch(sys, "stdin", mock.Mock(readline=mock.Mock(side_effect=trouble)))
            reactor = mock.Mock(callFromThread=lambda call, *args: call(*args))
            errand = _Errand(reactor, self.options("a"))
            self.patch(errand, "_act_on_wish", answers.append)
            errand._read_wish()
        self.assertEqual(answers, ["", ""])

    def test_told_once(self) -> None:
        """On a terminal the digest is in one line, unless --quiet keeps that line away."""
        self.patch(get_module, "is_terminal", lambda fd: True)
        for quiet in ([], ["-q"]):
            running = self.get("a", *quiet)
            self.accept()
            printed = self.finish(self.offer("a"))
            self.left(running, Exit.OK)
            self.assertEqual(self.out.getvalue(), printed if quiet else "")
            self.assertEqual(self.err.getvalue().count(bytes(32).hex()), 1)  # from the first

    def test_what_cannot_be_had_is_left_out(self) -> None:
        """A line says what is wrong with each, and the status is that of the first."""
        taken = os.path.join(self.folder, "taken")
        with open(taken, "w", encoding="utf-8"):
            pass
        running = self.get("taken", "a", "nope", "../b", "c", "-q")
        self.accept()
        printed = self.finish(self.offer("a"))
        self.refuse("nope", "no-such-file")
        self.break_off(self.offer("c"), End.FILE_CHANGED)
        self.left(running, Exit.CANNOT_SAVE)
        self.assertEqual(self.out.getvalue(), printed)
        exists, missing, no_name, changed = self.err.getvalue().splitlines()
        self.assertIn(f"chatbox: There is such a file already: {taken}. Use -o", exists)
        self.assertRegex(missing, "^chatbox: nope: .*no such file")
        self.assertRegex(no_name, r"^chatbox: \.\./b: .*name")
        self.assertIn("c", changed)

    def test_what_the_server_withdraws(self) -> None:
        """Who is not to have it asks why, and takes the server's last words; or goes on."""
        running = self.get("a", "b")
        self.accept()
        self.break_off(self.offer("a"), End.REFUSED)
        (ping,) = self.requests()
        self.answer(ping.sequence, "ping_response")
        self.break_off(self.offer("b"), End.REFUSED)
        self.requests()
        self.answer(None, "error", text="You are banned: shouting", error="banned")
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertIs(self.successResultOf(running), Exit.REFUSED)
        self.assertEqual(self.err.getvalue().splitlines()[-1], "chatbox: You are banned: shouting")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_withdrawn_after_the_last_words(self) -> None:
        """It is the same if those come first, and the connection is gone by then."""
        running = self.get("a", "b")
        self.accept()
        transfer = self.offer("a")
        self.answer(None, "error", text="You are banned: shouting", error="banned")
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.break_off(transfer, End.REFUSED)
        self.assertIs(self.successResultOf(running), Exit.REFUSED)
        told = self.err.getvalue().splitlines()
        self.assertEqual(told[-2:], ["chatbox: You are banned: shouting", "chatbox: not tried: b"])

    def test_nothing_that_can_be_saved(self) -> None:
        """Nobody is bothered then."""
        self.assertIs(self.successResultOf(self.get("../a", "../b")), Exit.NOT_THERE)
        self.assertEqual(self.reactor.tcpClients, [])

    def test_several_need_a_folder(self) -> None:
        """They cannot all become one file; what is wrong is said before anything is done."""
        path = os.path.join(self.folder, "one")
        stop = self.failureResultOf(self.get("a", "b", "-o", path), Stop).value
        self.assertEqual(stop.status, Exit.USAGE)
        self.assertIn(path, stop.sentence)
        running = self.get("a", "b", "-o", self.folder)
        self.accept()
        for name in "ab":
            transfer = self.offer(name)
            self.assertEqual(transfer.target.path, os.path.join(self.folder, name))
            self.finish(transfer)
        self.left(running, Exit.OK)

    def test_server_that_comes_back(self) -> None:
        """The file that was on its way goes on in another visit, and the others follow."""
        running = self.get("a", "b", "c")
        self.accept()
        self.finish(self.offer("a"))
        self.break_off(self.offer("b"), End.SERVER_STOPPING)
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.reactor.advance(RETURN_DELAY)
        self.accept()
        self.finish(self.offer("b"))
        # This time it goes while nothing is on its way.
        self.asked_for()
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.reactor.advance(RETURN_DELAY)
        self.accept()
        self.finish(self.offer("c"))
        self.left(running, Exit.OK)

    def test_server_that_does_not_come_back(self) -> None:
        """It is waited for, for a minute each time that it goes; the rest is not tried."""
        running = self.get("a", "b", "c", "-q")
        for returns in (True, False):
            self.accept()
            self.break_off(self.offer("a"), End.SERVER_STOPPING)
            self.protocol.connectionLost(Failure(ConnectionDone()))
            for _ in range(int(RETURN_PATIENCE / RETURN_DELAY) - 1):
                self.reactor.advance(RETURN_DELAY)
                self.refuse_connection()
                self.assertNoResult(running)
            self.reactor.advance(RETURN_DELAY)
            if not returns:
                self.refuse_connection()
        self.assertIs(self.successResultOf(running), Exit.NO_CONNECTION)
        self.assertEqual(self.err.getvalue().splitlines()[-1], "chatbox: not tried: b, c")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_server_that_is_killed(self) -> None:
        """When the chat is cut the transfer looks at once whether the server is there, and the file
        is asked for again if not; even if no byte has come since the last time.
        """
        running = self.get("a")
        self.accept()
        transfer = self.offer("a")
        self.assertEqual(transfer.asked, [])
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(transfer.asked, ["doubt"])
        self.break_off(transfer, End.PEER_SILENT)
        self.reactor.advance(RETURN_DELAY)
        self.accept()
        request = self.asked_for()
        self.answer(request.sequence, "download_response", text="55000", key="ticket", size=10)
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.break_off(self.fetcher.begun[-1], End.PEER_SILENT)
        self.reactor.advance(RETURN_DELAY)
        self.accept()
        self.finish(self.offer("a"))
        self.left(running, Exit.OK)

    def test_chat_that_is_cut(self) -> None:
        """A server that still sends is left to it; nobody asks about a file that has come."""
        running = self.get("a", "b")
        self.accept()
        first = self.offer("a")
        self.finish(first)
        transfer = self.offer("b")
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual((first.asked, transfer.asked), ([], ["doubt"]))
        self.finish(transfer)
        self.assertIs(self.successResultOf(running), Exit.OK)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def refuse_connection(self) -> None:
        """Nobody listens."""
        (_, _, factory, _, _) = self.reactor.tcpClients.pop()
        connector: Any = None
        factory.clientConnectionFailed(connector, Failure(ConnectionRefusedError()))

    def test_no_server(self) -> None:
        """One that has never been there is not waited for."""
        running = self.get("a")
        self.refuse_connection()
        self.assertIs(self.successResultOf(running), Exit.NO_CONNECTION)
        self.assertIn("chatbox: ", self.err.getvalue())

    def test_refusal_that_will_pass(self) -> None:
        """A server that is about to restart is asked again."""
        running = self.get("a")
        self.accept()
        self.refuse("a", "restarting")
        (_goodbye,) = self.requests()
        self.protocol.connectionLost(Failure(ConnectionDone()))
        for _ in range(3):
            self.reactor.advance(RETURN_DELAY)
            self.refuse_connection()
        self.reactor.advance(RETURN_DELAY)
        self.accept()
        self.finish(self.offer("a"))
        self.left(running, Exit.OK)

    def test_no_way_for_datagrams(self) -> None:
        """Where no data comes through, no other file would fare better."""
        running = self.get("a", "b")
        self.accept()
        request = self.asked_for()
        self.answer(request.sequence, "download_response", text="55000", key="ticket", size=10)
        self.break_off(self.fetcher.begun[-1], End.PEER_SILENT)
        self.left(running, Exit.NO_UDP)
        self.assertIn("chatbox: not tried: b", self.err.getvalue())

    def test_interrupted(self) -> None:
        """Ctrl-C ends the transfer, says goodbye, and asks for nothing more."""
        running = self.get("a", "b")
        self.accept()
        transfer = self.offer("a")
        running.cancel()
        self.assertEqual(transfer.asked, ["interrupt"])
        (goodbye,) = self.requests()
        self.assertEqual(goodbye.request, "disconnect")
        self.answer(goodbye.sequence, "disconnect_response", text="True")
        self.failureResultOf(running, CancelledError)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_given_up(self) -> None:
        """What somebody gives up half way, or then while the server is away, does not end the rest.

        What is typed when nothing was asked about the present file does nothing to it.
        """
        self.patch(_Errand, "_read_wish", lambda _: None)  # the test says what is typed
        errand = _Errand(self.reactor, self.options("a", "b", "c"))
        running = Deferred.fromCoroutine(errand.run())
        self.accept()
        transfer = self.offer("a")
        transfer.listener(Paused(half_way=True))
        errand._act_on_wish("c\n")
        self.assertEqual(transfer.asked, ["cancel"])
        self.break_off(transfer, End.CANCELLED)
        transfer = self.offer("b")
        transfer.listener(Paused(half_way=True))
        self.break_off(transfer, End.SERVER_STOPPING)
        self.protocol.connectionLost(Failure(ConnectionDone()))
        errand._act_on_wish("c\n")
        self.reactor.advance(RETURN_DELAY)
        self.accept()
        transfer = self.offer("c")
        errand._act_on_wish("c\n")
        errand._act_on_wish("")
        self.assertEqual(transfer.asked, [])
        transfer.listener(Paused(half_way=True))
        errand._act_on_wish("\n")
        self.assertEqual(transfer.asked, ["proceed"])
        self.finish(transfer)
        (goodbye,) = self.requests()
        self.answer(goodbye.sequence, "disconnect_response", text="True")
        self.successResultOf(running)
        self.assertIs(errand.status, Exit.CANCELLED)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all errands."""
    with serving(tmp_path_factory.mktemp("server")) as served:
        yield served


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_get_over_ipv6(tmp_path: Path) -> None:
    """The chat and the download both take place over IPv6."""
    with serving(tmp_path, "::1") as served:
        done = errand("get", served.host, "film.bin", cwd=tmp_path)
    assert done.returncode == Exit.OK, done.stderr
    assert (tmp_path / "film.bin").read_bytes() == served.film.read_bytes()


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_get_over_both(tmp_path: Path) -> None:
    """A server on any address of both kinds sends files to who comes over either."""
    with serving(tmp_path, kind="tcp6") as served:
        for address in ("[::1]", "127.0.0.1"):
            path = tmp_path / address
            done = errand("get", f"{address}:{served.tcp_port}", "film.bin", "-o", str(path))
            assert done.returncode == Exit.OK, done.stderr
            assert path.read_bytes() == served.film.read_bytes()


def test_get(server: Served, tmp_path: Path) -> None:
    """The file arrives; standard output is what sha256sum --check reads."""
    done = errand("get", server.host, "film.bin", cwd=tmp_path)
    path = tmp_path / "film.bin"
    assert (done.returncode, done.stdout) == (0, f"{server.digest}  {path}\n")
    assert path.read_bytes() == server.film.read_bytes()
    assert "film.bin is complete" in done.stderr
    assert "\r" not in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["film.bin"]


def test_get_as_settled(server: Served, tmp_path: Path) -> None:
    """The server and the folder need not be said when they are settled."""
    done = errand(
        *("get", "film.bin", "-q"),
        CHATBOX_HOST=server.host,
        CHATBOX_DOWNLOADS=str(tmp_path),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "film.bin").read_bytes() == server.film.read_bytes()


def test_get_what_is_there_already(server: Served, tmp_path: Path) -> None:
    """An existing file is not touched unless --overwrite is given; -q says nothing."""
    path = tmp_path / "mine"
    path.write_text("precious")
    done = errand("get", server.host, "film.bin", "-o", str(path))
    assert (done.returncode, done.stdout) == (Exit.CANNOT_SAVE, "")
    assert "--overwrite" in done.stderr
    assert path.read_text() == "precious"
    done = errand("get", server.host, "film.bin", "-o", str(path), "--overwrite", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    assert path.read_bytes() == server.film.read_bytes()


def test_get_several(server: Served, tmp_path: Path) -> None:
    """They arrive together; one that is not there is told, and is what the status says."""
    done = errand("get", server.host, "a note.txt", "nope", "film.bin", "-o", str(tmp_path))
    assert done.returncode == Exit.NOT_THERE
    printed = [line.split("  ") for line in done.stdout.splitlines()]
    assert [path for _, path in printed] == [
        str(tmp_path / name) for name in ("a note.txt", "film.bin")
    ]
    assert printed[1][0] == server.digest
    assert (tmp_path / "film.bin").read_bytes() == server.film.read_bytes()
    assert "chatbox: nope: " in done.stderr


def test_get_into_no_folder(server: Served, tmp_path: Path) -> None:
    """Where there is no folder, nothing can be overwritten."""
    done = errand("get", server.host, "film.bin", "-o", f"{tmp_path}/nosuch/")
    assert done.returncode == Exit.CANNOT_SAVE
    assert "no such folder" in done.stderr
    assert "--overwrite" not in done.stderr


def test_get_what_cannot_be(server: Served, tmp_path: Path) -> None:
    """What no file on a shelf can be called is not there, whoever sees that first."""
    for name in ("../../etc/passwd", "a\x1b[2J", ".hidden", "nope"):
        assert errand("get", server.host, name, cwd=tmp_path).returncode == Exit.NOT_THERE, name


def test_get_with_a_pause(server: Served, tmp_path: Path) -> None:
    """It asks half way, and goes on when nobody is there to answer."""
    done = errand("get", server.host, "film.bin", "--pause", cwd=tmp_path)
    assert done.returncode == 0
    assert "half way, at 50 %. Press Enter" in done.stderr
    assert "goes on by itself" in done.stderr


def test_get_several_as_settled(server: Served, tmp_path: Path) -> None:
    """A dash stands for the server that is settled; who forgets it is told of it."""
    settled = partial(errand, CHATBOX_HOST=server.host, CHATBOX_DOWNLOADS=str(tmp_path))
    done = settled("get", "film.invalid", "a note.txt")
    assert (done.returncode, done.stdout) == (Exit.NO_CONNECTION, "")
    assert f"If film.invalid is a file on {server.host}, put a dash before it" in done.stderr
    done = settled("get", "-", "film.bin", "a note.txt", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a note.txt", "film.bin"]


def test_typed_too_early(server: Served, tmp_path: Path) -> None:
    """At a terminal, what is typed before the question about a file is shown does not answer it."""
    command = [*CLIENT, "get", server.host, "film.bin", "a note.txt", "--pause"]
    with at_terminal(command, tmp_path, size=(200, 24)) as person:
        person.see("film.bin stands half way")
        person.type("\rc\r")
        person.see("a note.txt stands half way")
        person.type("\r")
        assert person.wait() == 0
    assert (tmp_path / "a note.txt").read_text() == "hello\n"


def test_get_what_does_not_exist(server: Served, tmp_path: Path) -> None:
    """No such file, or no file's name: the same status, and nothing is left behind."""
    for name in ("nope", "../film.bin"):
        done = errand("get", server.host, name, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (Exit.NOT_THERE, "")
        assert done.stderr.startswith("chatbox: ")
    assert list(tmp_path.iterdir()) == []
