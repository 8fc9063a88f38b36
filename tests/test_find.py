"""Servers are found on the network: real multicast DNS, over loopback."""

from __future__ import annotations

import os
import pty
import re
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

import chatbox
from chatbox.client.connect import find as find_module
from chatbox.client.connect.find import choose, describe
from chatbox.client.exits import Exit, Stop
from chatbox.lan import Server
from chatbox.lan.browse import Browser, CannotBrowse, find_servers
from tests.helpers.processes import PATIENCE, Running, environment, finished, patient
from tests.helpers.server import free_port

LOOPBACK = "127.0.0.1"
ROOM = f"test of {os.getpid()}"
"""Other tests on this machine may announce rooms at the same time."""

SERVERS = [
    Server("attic", "192.0.2.1", 50000, False, "1.0"),
    Server("Café", "192.0.2.2", 50001, True, "1.0"),
]


class ChoiceTests(SynchronousTestCase):
    """A person chooses by number."""

    def choose(self, servers: list[Server], *answers: str) -> Server:
        """What comes of these answers."""
        with mock.patch.object(find_module, "ask_line", side_effect=answers) as asked:
            chosen = choose(servers)
        self.assertEqual(asked.call_count, len(answers))
        return chosen

    def test_number(self) -> None:
        """Anything but a number of the list is asked again."""
        answers = ("x\n", "\n", "0\n", "3\n", "99999999999\n", " 2 \n")
        self.assertEqual(self.choose(SERVERS, *answers), SERVERS[1])

    def test_the_only_one(self) -> None:
        """Enter takes the only one."""
        self.assertEqual(self.choose(SERVERS[:1], "\n"), SERVERS[0])
        self.assertEqual(self.choose(SERVERS[:1], "1\n"), SERVERS[0])

    def test_asked_again(self) -> None:
        """In words that fit: a number of several, or whether it is to be the only one."""
        for servers, again in ((SERVERS, "A number from 1 to 2: "), (SERVERS[:1], None)):
            with mock.patch.object(find_module, "ask_line", side_effect=("x\n", "1\n")) as asked:
                choose(servers)
            first, second = (call.args[0] for call in asked.call_args_list)
            self.assertEqual(second, again or first)

    def test_list(self) -> None:
        """The list has a number, the room, the address, and TLS."""
        self.assertEqual(
            describe(SERVERS),
            ["  1  attic  192.0.2.1:50000", "  2  Café   192.0.2.2:50001, TLS"],
        )


@contextmanager
def announced(folder: Path, *options: str) -> Iterator[str]:
    """A server on loopback that announces itself there; its HOST."""
    (folder / "files").mkdir()
    tcp_port, udp_port = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    command = [
        *(*patient("twistd"), "-n", "--pidfile=", "chatbox", "--log", "memory:"),
        *("--listen", f"tcp:{tcp_port}:interface={LOOPBACK}", "--udp-ports", str(udp_port)),
        *("--room", ROOM, "--announce", LOOPBACK, *options),
    ]
    with Running(command, cwd=folder) as process:
        process.read_until(f"starting on {tcp_port}")
        if not options:
            process.read_until(f"announced on the local network as {ROOM}")
        yield f"{LOOPBACK}:{tcp_port}"
        process.stop()


def chatbox_command(*argv: str) -> list[str]:
    """A command line that looks on loopback only."""
    return [sys.executable, "-m", "chatbox.client.main", *argv, "--on", LOOPBACK]


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end, with nobody at the keyboard."""
    return finished(chatbox_command(*argv), CHATBOX_NAME="zoe")


ATTEMPTS = 20
"""Who is busy with something else for some seconds cannot be found in so little time."""


def say(pattern: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run it until it says something."""
    for _ in range(ATTEMPTS):
        done = run(*argv)
        if re.search(pattern, done.stdout + done.stderr):
            return done
    raise AssertionError(f"it never says {pattern!r}: {done}")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The HOST of a server that is announced."""
    with announced(tmp_path_factory.mktemp("announced")) as host:
        yield host


def test_find(host: str) -> None:
    """`chatbox find` prints what the server announced, for people and for scripts."""
    done = say(host, "find")
    assert done.returncode == 0
    assert f"{host}\t{ROOM}\tplain\t{chatbox.__version__}\n" in done.stdout


def test_join_with_nobody_to_ask(host: str) -> None:
    """Without a terminal a script is told what there is, and nothing is joined."""
    done = say(host, "join")
    assert done.returncode == Exit.USAGE
    assert re.search(r"Which server\? Say HOST; on this network there is .*" + host, done.stderr)


def test_join_by_number(host: str) -> None:
    """On a terminal the server is chosen by its number, and joined."""
    for _ in range(ATTEMPTS):
        with at_terminal("join") as (client, terminal):
            shown = read_until(terminal, r"Which one\?|Enter, or Ctrl-C:|No server was found")
            if number := re.search(rf"(\d+)  {ROOM}", shown):
                os.write(terminal, f"{number[1]}\n".encode())
                read_until(terminal, "You are in, as zoe")
                os.write(terminal, b"/quit\n")
                assert client.wait(PATIENCE) == 0
                return
    raise AssertionError("it is never found")


@contextmanager
def at_terminal(*argv: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a command on a terminal; the process, and our end of it."""
    ours, theirs = pty.openpty()
    env = environment(CHATBOX_NAME="zoe", TERM="dumb")
    with subprocess.Popen(
        chatbox_command(*argv), stdin=theirs, stdout=theirs, stderr=theirs, env=env
    ) as client:
        os.close(theirs)
        try:
            yield client, ours
        finally:
            client.kill()
            os.close(ours)


def read_until(terminal: int, pattern: str) -> str:
    """What a terminal shows, until the pattern is in it."""
    shown = ""
    while not re.search(pattern, shown, re.DOTALL):
        ready, _, _ = select.select([terminal], [], [], PATIENCE)
        assert ready, shown
        shown += os.read(terminal, 4096).decode("utf-8", "replace")
    return shown


def test_no_announce(tmp_path: Path) -> None:
    """--no-announce is silence."""
    with announced(tmp_path, "--no-announce") as host:
        assert host not in run("find").stdout


@pytest_twisted.ensureDeferred
async def test_browser_sees_it_come_and_go(tmp_path: Path) -> None:
    """A login box hears of a server when it starts, and when it stops."""
    from twisted.internet import reactor

    seen: list[list[Server]] = []
    waiting: list[Deferred[None]] = []

    def changed(servers: list[Server]) -> None:
        seen.append([server for server in servers if server.room == ROOM])
        for one in waiting:
            if not one.called:
                one.callback(None)

    async def until(there: bool, host: str) -> None:
        while (host in [server.host for server in (seen or [[]])[-1]]) is not there:
            waiting[:] = [Deferred()]
            await waiting[0].addTimeout(PATIENCE, reactor)

    browser = Browser(reactor, changed, interface=LOOPBACK)
    browser.start()
    try:
        with announced(tmp_path) as host:
            await until(True, host)
        await until(False, host)
    finally:
        await browser.stop()


@pytest_twisted.ensureDeferred
async def test_no_way_to_listen() -> None:
    """Where nothing can be listened to, that is said at once; nothing hangs."""
    from twisted.internet import reactor

    with (
        mock.patch("chatbox.lan.browse.open_zeroconf", side_effect=OSError("no such device")),
        pytest.raises(CannotBrowse, match="no such device"),
    ):
        await find_servers(reactor, LOOPBACK, PATIENCE)
    with (
        mock.patch("chatbox.lan.browse.open_zeroconf", side_effect=ImportError),
        pytest.raises(CannotBrowse, match="pip install"),
    ):
        await find_servers(reactor, LOOPBACK, PATIENCE)


@pytest_twisted.ensureDeferred
async def test_not_our_address() -> None:
    """An address that this machine does not have is said to be one."""
    from twisted.internet import reactor

    with pytest.raises(CannotBrowse, match="this machine has no address"):
        await find_servers(reactor, "192.0.2.7", PATIENCE)


@pytest_twisted.ensureDeferred
async def test_nobody_there() -> None:
    """Somebody who joins without HOST where there is no server is told what always works."""
    from argparse import Namespace

    from twisted.internet import reactor

    with (
        mock.patch("chatbox.client.connect.find.find_servers", return_value=[]),
        pytest.raises(Stop, match="chatbox join HOST always works"),
    ):
        await find_module.choose_server(reactor, Namespace(host=None, on=LOOPBACK))
