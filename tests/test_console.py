"""The console: on a terminal and in a pipe, first with fakes, then for real."""

from __future__ import annotations

import contextlib
import os
import pty
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.wire import Message, format_line
from chatbox.client.arguments import apply_settings, arguments
from chatbox.client.chat.session import MAX_PENDING
from chatbox.client.config import Settings
from chatbox.client.connect.connection import LEAVE_TIMEOUT
from chatbox.client.console import join as join_module
from chatbox.client.console.console import FLUSH_TIMEOUT, MAX_TYPED_BYTES, Console
from chatbox.client.exits import Exit
from chatbox.client.files.progress_line import REDRAW_EVERY, STANDS_AFTER
from chatbox.rdt.ends import End
from chatbox.rdt.receiver import Ended, Opened, Paused, Resumed
from tests.helpers.client import FakeFetch, FakeTransfer, Server
from tests.helpers.processes import PATIENCE, Running, environment, patient
from tests.helpers.server import Served, serving


class ConsoleTestCase(SynchronousTestCase):
    """A console between a fake standard input and output and a fake server."""

    terminal = False

    def setUp(self) -> None:
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)
        self.clock = Clock()
        self.server = Server()
        self.fetch = FakeFetch()
        self.stdio = StringTransport()
        self.console = Console(
            self.clock,
            self.server.connection,
            self.fetch,
            terminal=self.terminal,
            columns=lambda: 40,
        )
        self.done = Deferred.fromCoroutine(self.console.until_done())
        self.console.makeConnection(self.stdio)
        self.printed()

    def printed(self) -> str:
        """What was written to standard output since this was last called."""
        text: str = self.stdio.value().decode()
        self.stdio.clear()
        return text

    def hear(self, text: str) -> None:
        """Somebody says something."""
        self.server.send(
            Message(sender="bob", recipient="all", text=text, response="message_received")
        )

    def download(self, size: int = 1000) -> FakeTransfer:
        """Let a download begin."""
        self.console.dataReceived(f"/download b.iso {self.folder}/\n".encode())
        self.server.offer(self.server.requests()[-1].sequence, size)
        self.fetch.begun[-1].listener(Opened(size))
        self.printed()
        return self.fetch.begun[-1]

    def disconnects(self) -> bool:
        """Whether the client has said goodbye since the requests were last looked at."""
        return "disconnect" in [one.request for one in self.server.requests()]

    def end(self) -> Exit:
        """The server hangs up and standard output is flushed: the status, with no timer left."""
        self.server.close()
        self.assertTrue(self.stdio.disconnecting)
        self.console.connectionLost()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        status: Exit = self.successResultOf(self.done)
        return status


class PipeTests(ConsoleTestCase):
    """Plain text in, plain text out."""

    def test_talk(self) -> None:
        """Lines go to the server in order, in whatever pieces they come; news is printed."""
        for piece in (b"hel", b"lo\nwor", b"ld\r\n"):
            self.console.dataReceived(piece)
        self.assertEqual([one.text for one in self.server.requests()], ["hello", "world"])
        self.hear("hi")
        self.assertEqual(self.printed(), "--:-- bob: hi\n")

    def test_end_of_input(self) -> None:
        """The last line counts without its LF; after the answers comes the goodbye."""
        self.console.dataReceived(b"one\ntwo")
        self.console.readConnectionLost()
        first, second = self.server.requests()
        self.assertEqual(second.text, "two")
        self.server.answer(first.sequence, "message_response", text="True")
        self.assertFalse(self.disconnects())
        self.server.answer(second.sequence, "message_response", text="True")
        self.assertTrue(self.disconnects())
        self.assertEqual(self.end(), Exit.OK)

    def test_not_utf8(self) -> None:
        """Bytes that are no text are replaced, not fatal."""
        self.console.dataReceived(b"caf\xe9\n")
        self.assertEqual(self.server.requests()[0].text, "caf\N{REPLACEMENT CHARACTER}")

    def test_far_too_long(self) -> None:
        """A line without end is refused without being kept, and the next one is said."""
        self.console.dataReceived(b"x" * (MAX_TYPED_BYTES + 1))
        self.console.dataReceived(b"x\nok\n")
        self.assertEqual([one.text for one in self.server.requests()], ["ok"])
        self.assertIn("That line is too long: no server takes", self.printed())

    def test_fast_input_waits(self) -> None:
        """Input is read only as fast as the server answers, and none of it is lost."""
        lines = [str(number) for number in range(MAX_PENDING + 10)]
        self.console.dataReceived("".join(f"{line}\n" for line in lines).encode())
        asked = self.server.requests()
        self.assertEqual(len(asked), MAX_PENDING)
        self.assertEqual(self.stdio.producerState, "paused")
        self.console.readConnectionLost()
        for request in asked:
            self.server.answer(request.sequence, "message_response", text="True")
        asked += self.server.requests()
        self.assertEqual([one.text for one in asked], lines)

    def test_many_answers_at_once(self) -> None:
        """However much has piled up, each answer makes room for a line, one after the other."""
        lines = [str(number) for number in range(20 * MAX_PENDING)]
        self.console.dataReceived("".join(f"{line}\n" for line in lines).encode())
        said: list[str | None] = []
        while asked := self.server.requests():
            said += [one.text for one in asked]
            answers = (
                Message(response="message_response", text="True", sequence=one.sequence)
                for one in asked
            )
            self.server.connection.dataReceived(b"".join(map(format_line, answers)))
        self.assertEqual(said, lines)

    def test_reading_resumes(self) -> None:
        """When the server has answered, input is read again."""
        self.console.dataReceived(b"x\n" * (MAX_PENDING + 1))
        request = self.server.requests()[0]
        self.server.answer(request.sequence, "message_response", text="True")
        self.assertEqual(self.stdio.producerState, "producing")

    def test_slow_output_holds_the_server(self) -> None:
        """Standard output that takes no more stops the reading from the server."""
        producer = self.stdio.producer
        assert producer is not None
        producer.pauseProducing()
        self.assertEqual(self.server.transport.producerState, "paused")
        producer.resumeProducing()
        self.assertEqual(self.server.transport.producerState, "producing")
        self.assertTrue(self.stdio.streaming)

    def test_download_milestones(self) -> None:
        """Quarters are told once each, and no terminal code is ever written."""
        transfer = self.download()
        for confirmed, expected in (
            (100, ""),
            (260, "b.iso 26 % of 1.00 kB, 100 bytes/s, 0:05 left\n"),
            (400, ""),
            (900, "b.iso 90 % of 1.00 kB, 100 bytes/s, 0:05 left\n"),
            (950, ""),
        ):
            transfer.confirmed = confirmed
            self.clock.advance(REDRAW_EVERY)
            self.assertEqual(self.printed(), expected)

    def test_milestone_of_a_pause(self) -> None:
        """Where it stands is told once, by saying that it stands."""
        transfer = self.download()
        transfer.confirmed = 500
        transfer.listener(Paused(half_way=True))
        self.assertIn("half way", self.printed())
        self.clock.advance(REDRAW_EVERY)
        transfer.listener(Resumed())
        self.clock.advance(REDRAW_EVERY)
        self.assertEqual(self.printed(), "b.iso goes on.\n")

    def pass_time(self, seconds: float) -> str:
        """Let the screen look at the downloads for so long; what it has printed."""
        self.clock.pump([REDRAW_EVERY] * round(seconds / REDRAW_EVERY))
        return self.printed()

    def test_why_nothing_moves(self) -> None:
        """Nobody sees a line that is redrawn, so a reason that stays is told, and its end."""
        transfer = self.download()
        transfer.reason = "no packet"
        self.assertEqual(self.pass_time(STANDS_AFTER - 1), "")
        self.assertEqual(self.pass_time(2), "b.iso 0 % of 1.00 kB, no packet\n")
        transfer.reason = "no data"
        self.assertEqual(self.pass_time(100), "")
        transfer.confirmed, transfer.reason = 100, ""
        self.assertEqual(self.pass_time(100), "b.iso moves again, at 10 %.\n")

    def test_on_and_off(self) -> None:
        """What stands again and again is told a few times a minute, what stops at once never."""
        transfer = self.download()
        told = ""
        for _ in range(10):
            transfer.reason = "no packet"
            told += self.pass_time(STANDS_AFTER + 1)
            transfer.reason = ""
            told += self.pass_time(1)
        twice = ["b.iso 0 % of 1.00 kB, no packet", "b.iso moves again, at 0 %."] * 2
        self.assertEqual(told.splitlines(), twice)  # in 70 s
        for _ in range(100):
            transfer.reason = "no packet"
            self.assertEqual(self.pass_time(STANDS_AFTER - 1), "")
            transfer.reason = ""
            self.assertEqual(self.pass_time(1), "")

    def test_stands_and_then_otherwise(self) -> None:
        """What is said of a pause, or of the end, need not be said twice."""
        transfer = self.download()
        transfer.reason = "paused"
        transfer.listener(Paused(half_way=True))
        self.printed()
        self.assertEqual(self.pass_time(100), "")
        transfer.listener(Resumed())
        transfer.reason = "no packet"
        self.assertIn("no packet", self.pass_time(STANDS_AFTER + 1))
        transfer.listener(Paused(half_way=False))
        self.assertNotIn("moves", self.printed())
        transfer.reason = ""
        self.assertEqual(self.pass_time(100), "")

    def test_no_timer_without_a_download(self) -> None:
        """The timer runs while there is a download, and not after it."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        transfer = self.download()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        transfer.listener(Ended(End.DONE, "", "p", bytes(32)))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody_reads(self) -> None:
        """When standard output is closed there is no use in staying."""
        self.console.writeConnectionLost()
        self.assertTrue(self.disconnects())
        self.server.close()
        self.assertEqual(self.successResultOf(self.done), Exit.OK)


class LimitTests(SynchronousTestCase):
    """What downloads may take is said on the command line, or settled."""

    def test_limit(self) -> None:
        """What is said goes before what is settled."""
        self.patch(join_module, "is_terminal", lambda _: False)
        for argv, expected in (([], 1000), (["--limit", "5MB"], 5_000_000)):
            options = arguments().parse_args(["join", "h", *argv])
            apply_settings(options, Settings(limit=1000))
            fetch, server = FakeFetch(), Server()
            console = join_module._console(Clock(), server.connection, fetch, "h", options)
            console.makeConnection(StringTransport())
            console.dataReceived(f"/get b.iso {self.mktemp()}\n".encode())
            server.offer(server.requests()[-1].sequence)
            self.assertEqual(fetch.begun[0].rate_limit, expected)


class LeavingTests(ConsoleTestCase):
    """How the console ends."""

    def test_quit(self) -> None:
        """/quit ends with status 0."""
        self.console.dataReceived(b"/quit\n")
        self.assertTrue(self.disconnects())
        self.assertEqual(self.end(), Exit.OK)

    def test_what_follows_quit(self) -> None:
        """Lines after /quit mean nothing."""
        self.console.dataReceived(b"/quit\nhello\n")
        self.console.dataReceived(b"hello\n")
        self.assertEqual([one.request for one in self.server.requests()], ["disconnect"])
        self.assertEqual(self.printed(), "")

    def test_lost(self) -> None:
        """A connection that is cut says so, and the status tells."""
        self.server.close()
        self.assertEqual(self.printed(), "The connection to the server is lost.\n")
        self.assertEqual(self.end(), Exit.LOST)

    def test_server_that_does_not_say_goodbye(self) -> None:
        """A goodbye that is not answered is waited for only so long."""
        self.console.dataReceived(b"/quit\n")
        self.clock.advance(LEAVE_TIMEOUT)
        self.assertTrue(self.server.transport.disconnected)
        self.assertEqual(self.end(), Exit.OK)

    def test_stuck_output(self) -> None:
        """Standard output that takes nothing any more holds the end up only so long."""
        self.server.close()
        self.assertNoResult(self.done)
        self.clock.advance(FLUSH_TIMEOUT)
        self.assertEqual(self.successResultOf(self.done), Exit.LOST)
        self.console.connectionLost()

    def test_cancelled(self) -> None:
        """Ctrl-C says goodbye, names the download that it cuts short, and keeps its file."""
        transfer = self.download()
        transfer.confirmed = 310
        self.done.cancel()
        self.assertTrue(self.disconnects())
        self.assertEqual(transfer.asked, ["interrupt"])
        self.assertEqual(self.printed(), "b.iso stops at 31 %; ask again, and it goes on there.\n")
        self.assertNoResult(self.done)
        self.server.close()
        self.console.connectionLost()
        self.failureResultOf(self.done, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_standard_input_breaks(self) -> None:
        """If Twisted closes us for a reason of its own, the server is not left hanging."""
        self.console.connectionLost(Failure(OSError("broken")))
        self.assertTrue(self.server.transport.disconnected)
        self.assertEqual(self.successResultOf(self.done), Exit.FAILED)


class TerminalTests(ConsoleTestCase):
    """A line that is redrawn in place."""

    terminal = True

    def test_progress_line(self) -> None:
        """It is redrawn when it has changed, cut to the width of the terminal."""
        transfer = self.download()
        transfer.confirmed = 100
        self.clock.advance(REDRAW_EVERY)
        self.assertEqual(self.printed(), "\r\x1b[Kb.iso 10 % of 1.00 kB, 100 bytes/s, 0:0")
        self.clock.advance(REDRAW_EVERY)
        self.assertEqual(self.printed(), "")
        transfer.confirmed = 200
        self.clock.advance(REDRAW_EVERY)
        self.assertIn("20 %", self.printed())

    def test_redrawn_at_its_own_pace(self) -> None:
        """A lively room does not make the line flicker."""
        transfer = self.download()
        self.clock.advance(REDRAW_EVERY)
        for confirmed in (100, 200, 300):
            transfer.confirmed = confirmed
            self.hear("hi")
        text = self.printed()
        self.assertEqual(text.count("b.iso 0 %"), 3)
        self.assertNotIn("10 %", text)

    def test_message_above_the_progress_line(self) -> None:
        """A message takes the place of the line, which comes back below it."""
        self.download()
        self.clock.advance(REDRAW_EVERY)
        self.hear("hi")
        self.assertRegex(self.printed(), r"\r\x1b\[K--:-- bob: hi\nb\.iso 0 %[^\n]*$")

    def test_line_goes_when_it_stands(self) -> None:
        """A download that stands or has ended leaves no line behind."""
        transfer = self.download()
        transfer.listener(Paused(half_way=False))
        self.assertTrue(self.printed().endswith("gives it up.\n"))
        transfer.listener(Resumed())
        self.assertIn("b.iso 0 %", self.printed())
        transfer.listener(Ended(End.CANCELLED, "", None, None))
        self.assertTrue(self.printed().endswith("\r\x1b[K"))

    def test_no_codes_without_a_download(self) -> None:
        """Talk alone is plain text even on a terminal."""
        self.hear("hi")
        self.assertEqual(self.printed(), "--:-- bob: hi\n")


CLIENT = patient("chatbox")


def joining(server: Served, folder: Path, *options: str) -> Running:
    """Alice's client, with pipes for standard input and output."""
    return Running([*CLIENT, "join", server.host, "--name", "alice", *options], cwd=folder)


def test_piped_to_a_real_server(tmp_path: Path) -> None:
    """What is piped in is said, listed and downloaded, and the end of the input is the end."""
    with serving(tmp_path) as server, joining(server, tmp_path) as alice:
        alice.write("hello\n/online\n/files\n/download film.bin\n/msg bob hi\nbye\n")
        alice.end_input()
        assert alice.wait() == 0
    text = "".join(alice.said)
    assert "\x1b" not in text and "\r" not in text
    for part in (
        "You are in, as alice.",
        " alice: hello\n",
        "Online (1): alice\n",
        "film.bin",
        "Not sent to bob (hi): Nobody here has that name. /online lists who is here.",
        " alice: bye\n",
        "goes on by itself",
        f"sha-256 {server.digest}",
        "Goodbye.",
    ):
        assert text.count(part) >= 1, (part, text)
    assert text.count("alice: hello") == 1
    assert (tmp_path / "film.bin").read_bytes() == server.film.read_bytes()
    assert not (tmp_path / "film.bin.part").exists()


def test_files_as_standard_input_and_output(tmp_path: Path) -> None:
    """Regular files, which cannot be polled, do as well as pipes."""
    (tmp_path / "in").write_text("hello\n")
    with (
        serving(tmp_path) as server,
        open(tmp_path / "in") as stdin,
        open(tmp_path / "out", "w") as stdout,
    ):
        command = [*CLIENT, "join", server.host, "--name", "alice"]
        subprocess.run(
            command, stdin=stdin, stdout=stdout, env=environment(), timeout=PATIENCE, check=True
        )
    assert "alice: hello\n" in (tmp_path / "out").read_text()


@contextlib.contextmanager
def in_a_terminal(
    command: list[str], folder: Path
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run a command on a pseudo-terminal: our end of it, and the process."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(TERM="xterm", NO_COLOR="1"),
        cwd=folder,
        start_new_session=True,
    )
    os.close(theirs)

    def kill() -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # with what it has started

    watchdog = threading.Timer(PATIENCE, kill)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield ours, process
    finally:
        watchdog.cancel()
        kill()
        process.wait()
        os.close(ours)


def read_until(terminal: int, expected: str, seen: str = "") -> str:
    """Read what the terminal shows until it has shown `expected`; the watchdog ends it if not."""
    while expected not in seen:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the process is gone
            data = b""
        if not data:
            raise AssertionError(f"the terminal has not shown {expected!r}:\n{seen}")
        seen += data.decode("utf-8", "replace")
    return seen


def test_on_a_real_terminal(tmp_path: Path) -> None:
    """Talk, a download that stops half way and goes on, and /quit, as a person does it."""
    with serving(tmp_path) as server:
        command = [*CLIENT, "join", server.host, "--name", "alice"]
        with in_a_terminal(command, tmp_path) as (terminal, process):
            read_until(terminal, "You are in, as alice.")
            os.write(terminal, b"hello\n")
            read_until(terminal, "alice: hello\r\n")
            os.write(terminal, b"/download film.bin\n")
            read_until(terminal, "half way, at 50 %")
            os.write(terminal, b"/proceed\n")
            read_until(terminal, server.digest)
            os.write(terminal, b"/quit\n")
            read_until(terminal, "Goodbye.")
            assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.TERMINATED)],
)
def test_signals_leave_cleanly(tmp_path: Path, number: signal.Signals, status: Exit) -> None:
    """Ctrl-C and SIGTERM say goodbye and end with the shell's status for them."""
    with serving(tmp_path) as server:
        command = [*CLIENT, "join", server.host, "--name", "alice"]
        with in_a_terminal(command, tmp_path) as (terminal, process):
            read_until(terminal, "You are in")
            process.send_signal(number)
            read_until(terminal, "Goodbye.")
            assert process.wait(PATIENCE) == status


def test_terminal_is_given_back(tmp_path: Path) -> None:
    """The terminal that the shell shares with us blocks again after we are gone."""
    with serving(tmp_path) as server:
        shell = f"{shlex.join(CLIENT)} join {server.host} --name alice; echo gone; exec cat"
        with in_a_terminal(["sh", "-c", shell], tmp_path) as (terminal, _):
            read_until(terminal, "You are in")
            os.write(terminal, b"/quit\n")
            read_until(terminal, "gone")
            os.write(terminal, b"meow\n")
            read_until(terminal, "meow\r\nmeow\r\n")


def test_server_goes_away(tmp_path: Path) -> None:
    """A server that is killed is told of clearly, if nobody wants to wait for its return."""
    with serving(tmp_path) as server, joining(server, tmp_path, "--reconnect", "0") as alice:
        alice.read_until("You are in")
        server.process.kill()
        alice.read_until("The connection to the server is lost.")
        assert alice.wait() == Exit.LOST
