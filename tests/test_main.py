"""The command: its errands against a real server, its exit statuses, and signals."""

from __future__ import annotations

import importlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import chatbox
from chatbox.client import main as main_module
from chatbox.client.exits import Exit
from tests.helpers.processes import PATIENCE, Running, environment, finished, patient
from tests.helpers.server import Served, serving
from tests.helpers.talk import Talker


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all errands."""
    with serving(tmp_path_factory.mktemp("server")) as served:
        yield served


def errand(
    *argv: str, cwd: Path | None = None, typed: str = "", **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; `typed` is what its standard input has."""
    command = [*patient("chatbox"), *argv]
    return finished(command, typed=typed, cwd=cwd, CHATBOX_NAME="zoe", **settings)


def outcome(*argv: str, cwd: Path | None = None) -> tuple[int, str]:
    """The status and the standard output of an errand."""
    done = errand(*argv, cwd=cwd)
    return done.returncode, done.stdout


def test_every_command_has_its_function() -> None:
    """The table of commands leads to functions that exist."""
    for command, module in main_module._SUBCOMMANDS.items():
        assert callable(getattr(importlib.import_module(module), command))


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
    assert done.stderr == "chatbox: Nobody here has that name. `chatbox who` lists who is.\n"


def test_refused_name(server: Served) -> None:
    """A name that the server refuses is told with what to do about it."""
    done = errand("who", server.host, "--name", "all")
    assert done.returncode == Exit.NOT_LET_IN
    assert "The name is reserved. Choose another name with --name." in done.stderr
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


def test_interrupted_while_loading() -> None:
    """Ctrl-C ends the program without a traceback before there is much of it, too."""
    program = """
import builtins, sys
from chatbox.__main__ import main

real = builtins.__import__

def interrupted(name, *rest):
    if name == MODULE:
        raise KeyboardInterrupt
    return real(name, *rest)

builtins.__import__ = interrupted
main()
"""
    for module in ("chatbox.client.main", "argparse", "chatbox.client"):
        done = subprocess.run(
            [sys.executable, "-c", program.replace("MODULE", repr(module)), "who", "h"],
            capture_output=True,
            text=True,
            env=environment(),
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode, done.stderr) == (Exit.INTERRUPTED, ""), module


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
