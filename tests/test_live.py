"""The console on a terminal: the real client of a real server, read by a terminal emulator."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from chatbox.chat.wire import Message, format_line, format_list, parse_line
from chatbox.client.console.live import RECENT
from chatbox.client.exits import Exit
from tests.helpers.processes import PATIENCE, Running, environment, patient
from tests.helpers.server import Served, serving
from tests.helpers.terminal import Person, at_terminal

CLIENT = patient("chatbox")
USUAL = (80, 24)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server for all tests that leave it alive."""
    with serving(tmp_path_factory.mktemp("server")) as served:
        yield served


def joining(
    server: Served, folder: Path, size: tuple[int, int] = USUAL, **environ: str
) -> AbstractContextManager[Person]:
    """Alice joins."""
    command = [*CLIENT, "join", server.host, "--name", "alice"]
    return at_terminal(command, folder, size, **environ)


@contextmanager
def talking(server: Served, folder: Path, name: str = "bob") -> Iterator[Running]:
    """Somebody else is in the room, through a pipe."""
    command = [*CLIENT, "join", server.host, "--name", name]
    with Running(command, cwd=folder, env=environment()) as other:
        other.read_until("You are in")
        yield other


@contextmanager
def both(
    server: Served, folder: Path, size: tuple[int, int] = USUAL, **environ: str
) -> Iterator[tuple[Person, Running]]:
    """Alice at her terminal, and bob, who has come after her."""
    with joining(server, folder, size, **environ) as alice:
        alice.see(" alice on ")
        with talking(server, folder) as bob:
            alice.see("bob joined")
            yield alice, bob


def test_typing_while_messages_pour_in(server: Served, tmp_path: Path) -> None:
    """The line that is being typed stays whole, and every message is there, once, in order."""
    text = "This line is typed letter by letter. "
    with both(server, tmp_path) as (alice, bob):
        for number, letter in enumerate(text):
            bob.write("".join(f"message {number}.{part}\n" for part in range(5)))
            alice.type(letter)
        last = f"message {len(text) - 1}.4"
        rows = alice.see(
            lambda rows: (
                any(last in row for row in rows)
                and rows[-1] == f"> {text}"[:-1]
                and alice.emulator.cursor == (23, len(text) + 2)
            )
        )
        shown = re.findall(r"message \d+\.\d", "\n".join([*alice.emulator.scrolled_off, *rows]))
        assert shown == [
            f"message {number}.{part}" for number in range(len(text)) for part in range(5)
        ]
        alice.type("\r")
        alice.see(f"alice: {text[:-1]}")
        bob.read_until(f"alice: {text}")


@pytest.mark.parametrize("size", [(20, 6), (80, 24), (200, 50)])
def test_sizes(server: Served, tmp_path: Path, size: tuple[int, int]) -> None:
    """On narrow, usual and wide terminals, and when they change, all is in its place."""
    with both(server, tmp_path, size) as (alice, bob):
        end = f"end{size[0]}"  # alice is also shown what was said on another terminal before
        bob.write(f"one two three four five six seven eight 日本語 👍🏽 {end}\n")
        alice.type("typed 日本")
        alice.see(end)
        for changed in ((30, 8), (120, 40), size):
            alice.resize(*changed)
            seen = alice.see(
                lambda seen: (
                    alice.is_repainted
                    and any(end in row for row in seen)
                    and seen[-1] == "> typed 日本"
                    and seen[-2].startswith(" alice on ")
                    and alice.emulator.cursor == (len(seen) - 1, 12)
                )
            )
            # On a low terminal the beginning has scrolled off.
            starts = [index for index, row in enumerate(seen) if "bob: one" in row]
            rows = seen[starts[-1] :] if starts else ["", *seen]
            if starts:
                words = " ".join(row.strip() for row in rows[:-2])
                assert "one two three four five six seven eight 日本語" in words
            assert all(row.startswith("      ") for row in rows[1:-2])


def test_talk_before(tmp_path: Path) -> None:
    """Whoever comes in sees what was said last, once, and then what is said."""
    with serving(tmp_path) as server:
        with joining(server, tmp_path) as alice:
            alice.see("Nothing has been said yet.")
        with talking(server, tmp_path) as bob:
            bob.write("".join(f"message {number}.\n" for number in range(RECENT + 2)))
            bob.read_until(f"message {RECENT + 1}.")
            with joining(server, tmp_path) as alice:
                rows = alice.see(lambda rows: "| 2 here" in rows[-2])
                assert [row.partition(" bob: ")[2] or row for row in rows[1:-2]] == [
                    f"The last {RECENT}:",
                    *(f"message {number}." for number in range(2, RECENT + 2)),
                ]
                bob.write("Welcome.\n")
                alice.see("bob: Welcome.")


def test_ctrl_c(server: Served, tmp_path: Path) -> None:
    """It gives up the line; on an empty one it leaves, and the terminal is as it was."""
    with joining(server, tmp_path) as alice:
        alice.see(" alice on ")
        assert alice.settings() != alice.before
        alice.type("half a line")
        alice.see("> half a line")
        alice.type("\x03")
        alice.see(lambda rows: rows[-1] == ">")
        alice.type("\x03")
        assert alice.wait() == Exit.INTERRUPTED
        assert alice.settings() == alice.before
        assert alice.emulator.rows[-1] == "Goodbye."
        assert alice.emulator.cursor == (len(alice.emulator.rows), 0)


def test_ctrl_d(server: Served, tmp_path: Path) -> None:
    """It ends the input: what was said arrives, then we leave."""
    with joining(server, tmp_path) as alice:
        alice.see(" alice on ")
        alice.type("last words\r\x04")
        assert alice.wait() == Exit.OK
        assert alice.settings() == alice.before
        assert [row[6:] for row in alice.emulator.rows[-2:-1]] == ["alice: last words"]


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, Exit.TERMINATED), (signal.SIGHUP, Exit.HUNG_UP)],
)
def test_signals(server: Served, tmp_path: Path, number: signal.Signals, status: Exit) -> None:
    """Whoever ends us, the terminal is given back."""
    with joining(server, tmp_path) as alice:
        alice.see(" alice on ")
        alice.process.send_signal(number)
        assert alice.wait() == status
        assert alice.settings() == alice.before
        assert alice.emulator.rows[-1] == "Goodbye."


def test_no_patience(tmp_path: Path) -> None:
    """A second Ctrl-C does not wait for a server that does not answer; all is given back."""
    with serving(tmp_path) as server, joining(server, tmp_path) as alice:
        alice.see("1 here")
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            alice.type("\x03")
            alice.see(" leaving | alice on ")
            alice.type("\x03")
            assert alice.wait() == Exit.INTERRUPTED
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        assert alice.settings() == alice.before
        assert alice.written.endswith("\x1b[?2004l\x1b[?7h")


def test_suspended(server: Served, tmp_path: Path) -> None:
    """Ctrl-Z gives the shell its terminal, fg brings us back, and bg is no place for us."""
    with (
        at_terminal(
            # So wide that a command is one row, wherever it is.
            ["bash", "--norc", "--noprofile", "-i"],
            tmp_path,
            (1000, 30),
            PS1="$ ",
        ) as person,
        talking(server, tmp_path) as bob,
    ):
        person.see("$")
        person.type(f"{shlex.join(CLIENT)} join {server.host} --name alice\r")
        person.see("2 here")
        person.type("half a line\x1a")
        person.see("Stopped")
        bob.write("while you were away\n")
        bob.read_until("bob: while")
        person.type("echo sh''ell\r")
        rows = person.see("\nshell\n")
        assert not any(row.startswith(" alice on ") for row in rows)
        person.type("fg\r")
        person.see(
            lambda rows: "bob: while you were away" in rows[-3] and rows[-1] == "> half a line"
        )
        person.type("\r")
        person.see("alice: half a line")
        person.type("\x1a")
        person.see(lambda rows: rows[-1] == "$" and "Stopped" in rows[-2])
        person.type("clear; bg; wait %1; echo wai''ted; jobs\r")
        rows = person.see(lambda rows: "waited" in rows and rows[-1] == "$")
        assert any("Stopped" in row for row in rows[rows.index("waited") :])
        person.type("kill %1; wait; echo do''ne\r")
        person.see("\ndone\n")
        bob.read_until("alice left")


def test_stopped_unasked(server: Served, tmp_path: Path) -> None:
    """Whoever goes on after a SIGSTOP shows everything once; so does who did not stop at all."""
    with both(server, tmp_path) as (alice, bob):
        bob.write("before\n")
        alice.see("bob: before")
        alice.type("half a line")
        alice.see("> half a line")
        for number, stop in enumerate((True, False)):
            alice.resize(*USUAL)  # to the same size, which is no change
            if stop:
                alice.process.send_signal(signal.SIGSTOP)
            alice.process.send_signal(signal.SIGCONT)
            alice.see(lambda _: alice.is_repainted)
            bob.write(f"after {number}\n")
            rows = alice.see(
                lambda rows: f"bob: after {number}" in rows[-3] and rows[-1] == "> half a line"  # noqa: B023  # it is this one
            )
            assert sum(row.startswith(" alice on ") for row in rows) == 1
            assert sum("bob: before" in row for row in rows) == 1


def test_server_killed(tmp_path: Path) -> None:
    """A server that is killed is missed in words, what is typed stays, and it leaves when it is
    back."""
    with serving(tmp_path) as server, joining(server, tmp_path) as alice:
        alice.see("1 here")
        alice.type("half a line")
        alice.see("> half a line")
        server.process.kill()
        alice.see(
            lambda rows: "connection cut, coming back" in rows[-2] and rows[-1] == "> half a line"
        )
        alice.type("\r")
        alice.see("connection cut, coming back; 1 to be sent | alice on ")
        with server.start():
            alice.see("alice: half a line")
            alice.see(lambda rows: rows[-2].startswith(" alice on ") and "* Back again." in rows)


def test_downloads(server: Served, tmp_path: Path) -> None:
    """Each has a row while it is on its way, and stands half way until it may go on."""
    with joining(server, tmp_path) as alice:
        alice.see("1 here")
        alice.type("/download fi\t")
        alice.see("> /download film.bin")
        alice.type('\r/download "a n\t\r')
        alice.see(
            lambda rows: (
                re.search(
                    r"film.bin +\[=+ +\] +50 %  half way: /proceed or /cancel\n"
                    r"a note.txt +\[=+ +\] +50 %  half way: /proceed or /cancel\n",
                    "\n".join(rows),
                )
                is not None
            )
        )
        alice.type("/proceed film.bin\r/proceed 'a note.txt'\r")
        alice.see(
            lambda rows: (
                sum("is complete:" in row for row in rows) == 2
                and "[" not in rows[-3]
                and rows[-1] == ">"
            )
        )
        alice.type("/quit\r")
        assert alice.wait() == 0
    assert (tmp_path / "film.bin").read_bytes() == server.film.read_bytes()


def test_folder_to_save_to(server: Served, tmp_path: Path) -> None:
    """Tab knows the folders of this machine."""
    (tmp_path / "My Films" / "new").mkdir(parents=True)
    (tmp_path / "my file").write_text("")
    with joining(server, tmp_path) as alice:
        alice.see("1 here")
        alice.type("/get fi\tmy\t")
        alice.see('> /get film.bin "My Films/"')
        alice.type("\t")
        alice.see('> /get film.bin "My Films/new/"')
        alice.type("\r")
        alice.see("is complete:")
        alice.type("/quit\r")
        assert alice.wait() == 0
    assert (tmp_path / "My Films" / "new" / "film.bin").read_bytes() == server.film.read_bytes()


def test_paste(server: Served, tmp_path: Path) -> None:
    """Several pasted lines are one message, which is sent by Enter and not before."""
    with both(server, tmp_path) as (alice, bob):
        alice.type("\x1b[200~one\n/quit\n\tthree\n\x1b[201~")
        alice.see(lambda rows: rows[-3:] == ["> one", "  /quit", "      three"])
        alice.type("\r")
        alice.see("alice: one")
        bob.read_until("alice: one")
        bob.read_until(r"\|     three")


def test_no_terminal_codes(server: Served, tmp_path: Path) -> None:
    """A dumb terminal gets plain text, and NO_COLOR no colours."""
    with joining(server, tmp_path, TERM="dumb") as alice:
        alice.see("You are in")
        alice.type("hello\r/quit\r")
        assert alice.wait() == 0
        assert "alice: hello" in alice.written
        assert "\x1b" not in alice.written
    with joining(server, tmp_path, NO_COLOR="1") as alice:
        alice.see("1 here")
        alice.type("hello\r")
        alice.see("alice: hello")
        assert re.findall(r"\x1b\[[0-9;]+m", alice.written.removesuffix("\x1b[0m")) == []


def test_colours(server: Served, tmp_path: Path) -> None:
    """Names have colours, and a message for us a mark and a bell."""
    with both(server, tmp_path) as (alice, bob):
        bob.write("hello\nAlice, are you there?\n")
        rows = alice.see(
            lambda rows: "1 for you: bob | alice on" in rows[-2] and alice.emulator.bells > 0
        )
        assert "» bob: Alice, are you there?" in rows[-3]
        colours = alice.emulator.styles(len(rows) - 4)
        assert len(colours) == 2 and "default" in colours
        assert alice.emulator.bells == 1


HOSTILE = "\x1b[2J\x1b[H\x1b]0;owned\x07\x9b31m\r\u202e\u2067\x08\x08x\x1b[31mred\x1b[?1049h"


@contextmanager
def hostile_server() -> Iterator[str]:
    """A server that lets everybody in and answers everything with what terminals obey."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer, peer.makefile("rb") as asked:
                joining = parse_line(asked.readline())
                said = partial(Message, recipient="all", response="message_received")
                answers = [
                    Message(
                        recipient="alice",
                        text="True",
                        response="connect_response",
                        sequence=joining.sequence,
                        key="key",
                    ),
                    *(said(sender=HOSTILE, text=HOSTILE, sequence=one) for one in range(1, 4)),
                    Message(sender=HOSTILE, text="joined", response="presence"),
                    said(sender="bob", text=f"hi\n12:00 carol: faked alice {HOSTILE}"),
                    said(sender="bob", text="the end"),
                ]
                peer.sendall(b"".join(map(format_line, answers)))
                what, who = (parse_line(asked.readline()) for _ in range(2))
                lists = [
                    Message(
                        text=format_list([HOSTILE]), response="file_list", sequence=what.sequence
                    ),
                    Message(
                        text=format_list([HOSTILE, "ok"]),
                        response="user_list",
                        sequence=who.sequence,
                    ),
                ]
                peer.sendall(b"".join(map(format_line, lists)))
                with suppress(ConnectionResetError):
                    while (line := asked.readline()) and b"<t:disconnect>" not in line:
                        pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    thread.join(PATIENCE)


def test_hostile_text(tmp_path: Path) -> None:
    """Nothing that a server or other people send moves the cursor, rings, or colours anything."""
    with hostile_server() as host:
        command = [*CLIENT, "join", host, "--name", "alice", "--reconnect", "0"]
        with at_terminal(command, tmp_path, NO_COLOR="1") as alice:
            rows = alice.see(lambda rows: rows[-1] == ">" and "bob: the end" in rows[-3])
            assert rows[0].startswith("You are in, as alice.")
            assert rows[-1] == ">"
            assert alice.emulator.styles(0) | alice.emulator.styles(2) == {"default"}
            assert not any(row.startswith("12:00 carol") for row in rows)
            alice.see("| 2 here")
            assert alice.emulator.bells == 1  # ours, since alice is named
            assert "\x1b]" not in alice.written and "\x1b[2J" not in alice.written
            alice.type("o\t")
            alice.see("> ok:")
            alice.type("\x15/quit\r")
            alice.wait()
