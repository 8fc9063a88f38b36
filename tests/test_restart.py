"""Real servers that are stopped and started while people talk: nobody is refused, little seen."""

from __future__ import annotations

import re
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.helpers.certificates import Authority
from tests.helpers.processes import Running, environment, script
from tests.helpers.server import free_port
from tests.helpers.talk import Talker
from tests.test_console import CLIENT
from tests.test_tls import chatbox

# What systemd does between fork and exec: the sockets are 3 and up, and the environment says so.
ACTIVATE = """
import os, sys
count = int(sys.argv[1])
for number, descriptor in enumerate(map(int, sys.argv[2 : 2 + count])):
    os.dup2(descriptor, 3 + number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=sys.argv[1])
os.environ["LISTEN_FDNAMES"] = sys.argv[2 + count]
os.execv(sys.argv[3 + count], sys.argv[3 + count :])
"""


class Supervisor:
    """Keeps the sockets of a server open, and runs one server at a time with them."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        (folder / "files").mkdir()
        (folder / "files" / "film.bin").write_bytes(bytes(3_000_000))
        self.tcp = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.port: int = self.tcp.getsockname()[1]
        self.passed = [(self.udp, "chatbox.socket"), (self.tcp, "chatbox.socket")]
        """Sockets and their names."""
        self.options = options or ("--listen", "systemd", "--udp-ports", "systemd")

    def start(self) -> Running:
        """Start a server."""
        # Descriptors from 10 on, so that none is overwritten when it is put into its place.
        descriptors = [10 + number for number in range(len(self.passed))]
        import fcntl

        with ExitStack() as stack:
            passed = []
            for (one, _), least in zip(self.passed, descriptors, strict=True):
                descriptor = fcntl.fcntl(one.fileno(), fcntl.F_DUPFD, least)
                stack.callback(socket.close, descriptor)
                passed.append(descriptor)
            command = [
                *(sys.executable, "-c", ACTIVATE, str(len(passed)), *map(str, passed)),
                ":".join(name for _, name in self.passed),
                *script("twistd"),
                *("-n", "--pidfile=", "chatbox", *self.options, "--state-dir", "state"),
            ]
            return Running(command, cwd=self.folder, pass_fds=passed)

    def close(self) -> None:
        """Let the sockets go."""
        for one, _ in self.passed:
            one.close()


@pytest.fixture(name="supervisor")
def _supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path)
    yield supervisor
    supervisor.close()


def said(server: Running) -> str:
    """All that a server has said, none of which may be a traceback."""
    text = "".join(server.said)
    assert "Traceback" not in text, text
    return text


def test_restart(supervisor: Supervisor) -> None:
    """Nobody is refused at any time, nothing is lost, and nobody is seen to come or go."""
    with supervisor.start() as server, ExitStack() as stack:
        alice = stack.enter_context(Talker(supervisor.port, "alice"))
        bob = stack.enter_context(Talker(supervisor.port, "bob"))
        alice.read_until("presence", "joined")
        alice.say("before", 1)
        bob.read_until("message_received", "before")
        server.send(signal.SIGTERM)
        *_, last = alice.read_to_end()
        assert (last.response, last.error) == ("error", "restarting")
        assert [m.error for m in bob.read_to_end()] == ["restarting"]
        assert server.wait() == -signal.SIGTERM, "as twistd ends; systemd takes it for success"
        said(server)

        # Between two servers a connection waits, and so does what is said on it.
        dave = stack.enter_context(Talker(supervisor.port))
        dave.send("<s:dave><r:server:x><t:connect>")
        again = stack.enter_context(Talker(supervisor.port))
        again.send(f"<s:alice><r:server:x><k:{alice.token}><t:connect>")
        with supervisor.start() as server:
            assert again.read_until("connect_response").text == "True"
            assert dave.read_until("connect_response").text == "True"
            again.send("<t:get_user_list>")
            assert "'bob'" in (again.read_until("user_list").text or "")
            bob = stack.enter_context(Talker(supervisor.port, "bob", bob.token))
            bob.say("after", 2)
            again.read_until("message_received", "after")
            came = [(m.sender, m.text) for m in again.heard if m.response == "presence"]
            assert came == [("dave", "joined")]
            again.send("<t:history><n:10>")
            again.read_until("history_response", "2")
            server.stop()
            assert "expected back: 2" in said(server)


def test_downloads_over_sockets_that_were_passed(supervisor: Supervisor) -> None:
    """Files come from the UDP socket that was passed, from a second server as from the first."""
    for name in ("one", "two"):
        with supervisor.start() as server:
            target = supervisor.folder / name
            command = [*CLIENT, "get", f"127.0.0.1:{supervisor.port}", "film.bin"]
            with Running([*command, "-o", str(target)], cwd=supervisor.folder) as client:
                assert client.wait() == 0, client.said
            assert target.stat().st_size == 3_000_000
            server.stop()
            started = re.search(r"RDT on UDP starting on (\d+)", said(server))
            assert started and int(started[1]) == supervisor.udp.getsockname()[1]


def test_people_and_downloads_come_back(tmp_path: Path) -> None:
    """A console and a download go on by themselves; each is told of it in one line."""
    supervisor = Supervisor(tmp_path, "--listen", "systemd", "--udp-ports", "systemd")
    usual = supervisor.options
    # So slowly that both are on their way at the same time, on however slow a machine.
    supervisor.options = (*usual, "--max-rate", "20kB", "--grace", "0")
    host = f"127.0.0.1:{supervisor.port}"
    with ExitStack() as stack:
        stack.callback(supervisor.close)
        server = stack.enter_context(supervisor.start())
        stack.enter_context(Talker(supervisor.port))  # the server is there
        folder = tmp_path / "mine"
        folder.mkdir()
        alice = stack.enter_context(Running([*CLIENT, "join", host, "--name", "alice"], cwd=folder))
        alice.read_until("You are in")
        alice.write("before\n/get film.bin one\n")
        alice.read_until("film.bin: 3.00 MB")
        get = Running([*CLIENT, "get", host, "film.bin", "-o", "two"], cwd=folder)
        stack.enter_context(get)
        for _ in range(2):
            server.read_until("has begun")
        server.stop()
        said(server)
        alice.write("meanwhile\n")
        supervisor.options = usual
        server = stack.enter_context(supervisor.start())
        alice.read_until_all("alice: meanwhile", "film.bin is complete")
        assert get.wait() == 0
        alice.write("/quit\n")
        assert alice.wait() == 0
        server.stop()
        said(server)
    film = (tmp_path / "files" / "film.bin").read_bytes()
    assert (folder / "one").read_bytes() == film
    assert (folder / "two").read_bytes() == film
    quiet = [line for line in alice.said if re.search("restart|[Bb]ack|alice (joined|left)", line)]
    assert quiet == ["* The server restarts; back in a moment.\n"]
    assert sum("film.bin goes on, at" in line for line in alice.said) <= 1
    assert sum("alice: before" in line for line in alice.said) == 1
    assert sum("alice: meanwhile" in line for line in alice.said) == 1


def test_by_twisteds_own_description(tmp_path: Path) -> None:
    """What Twisted can say about a passed socket can be said to us."""
    options = ("--listen", "systemd:domain=INET:name=chatbox.socket", "--udp-ports", "0")
    supervisor = Supervisor(tmp_path, *options)
    try:
        with supervisor.start() as server, Talker(supervisor.port, "alice"):
            server.stop()
            said(server)
    finally:
        supervisor.close()


def test_by_name(tmp_path: Path) -> None:
    """Each socket is what its name says: plain, with TLS, for files, or for somebody else."""
    authority = Authority(tmp_path)
    (tmp_path / "a:b").mkdir()
    authority.issue(tmp_path / "a:b" / "both.pem")
    supervisor = Supervisor(
        tmp_path,
        *("--listen", "systemd:name=plain"),
        *("--listen", f"tls-from:{tmp_path}/a\\:b:systemd:name=secure"),
        *("--udp-ports", "systemd:name=files"),
    )
    secure = socket.create_server(("127.0.0.1", 0))
    others = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for other in others:
        other.bind(("127.0.0.1", 0))
    supervisor.passed = [
        *((others[0], "files"), (secure, "secure"), (others[1], "other")),
        *((supervisor.tcp, "plain"), (supervisor.udp, "files")),
    ]
    place = f"localhost:{secure.getsockname()[1]}"
    trusting = {"SSL_CERT_FILE": str(authority.path)}
    try:
        with supervisor.start() as server, Talker(supervisor.port, "alice"):
            who = chatbox(tmp_path, "who", place, "--tls", **trusting)
            assert (who.returncode, who.stdout, who.stderr) == (0, "alice\n", "")
            assert chatbox(tmp_path, "who", f"127.0.0.1:{supervisor.port}").stdout == "alice\n"
            got = chatbox(tmp_path, "get", place, "film.bin", "-q", "--tls", **trusting)
            assert (got.returncode, got.stderr) == (0, "")
            server.stop()
            started = re.search(r"RDT on UDP starting on ([\d, -]+)", said(server))
            assert started
            ports = {int(port) for port in re.findall(r"\d+", started[1])}
        assert ports == {one.getsockname()[1] for one in (supervisor.udp, others[0])}
    finally:
        supervisor.close()


def test_nothing_was_passed(tmp_path: Path) -> None:
    """Without such sockets the options are refused, in words that say what is missing."""
    (tmp_path / "files").mkdir()
    for options, word in (
        (["--listen", "systemd"], "ListenStream="),
        (["--udp-ports", "systemd"], "ListenDatagram="),
        (["--listen", "tls-self-signed:systemd:name=x"], "FileDescriptorName=x"),
        (["--udp-ports", "systemd:name=files"], "FileDescriptorName=files"),
    ):
        with Running([*script("twistd"), "-n", "chatbox", *options], cwd=tmp_path) as server:
            assert server.wait() == 1
            assert word in said(server)


@contextmanager
def slow_server(folder: Path, *options: str) -> Iterator[tuple[Running, int]]:
    """A server that sends a file for many seconds."""
    (folder / "files").mkdir()
    (folder / "files" / "film.bin").write_bytes(bytes(3_000_000))
    tcp, udp = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    command = [
        *script("twistd"),
        *("-n", "--pidfile=", "chatbox", "--max-rate", "20kB", "--state-dir", "state"),
        *("--listen", f"tcp:{tcp}:interface=127.0.0.1", "--udp-ports", str(udp), *options),
    ]
    with Running(command, cwd=folder, env=environment()) as server:
        server.read_until(f"Chat starting on {tcp}")
        yield server, tcp


def get(folder: Path, port: int) -> Running:
    """Fetch the film."""
    return Running([*CLIENT, "get", f"127.0.0.1:{port}", "film.bin"], cwd=folder)


def test_grace(tmp_path: Path) -> None:
    """While a download comes to its end, people talk on; only new downloads are refused."""
    with slow_server(tmp_path, "--grace", "60") as (server, port), get(tmp_path, port) as client:
        server.read_until("has begun")
        with Talker(port, "alice") as alice:
            server.send(signal.SIGTERM)
            server.read_until("60 s for downloads to end, 1 under way; another signal ends this")
            alice.send("<t:download><m:film.bin>")
            assert alice.read_until("download_response").error == "restarting"
            alice.say("still here", 1)
            with Talker(port, "bob"):
                alice.read_until("presence", "joined")
            # A second signal: nobody is waited for.
            server.send(signal.SIGTERM)
            server.read_until("stopping at once")
            assert server.wait() == -signal.SIGTERM
            said(server)
            client.send(signal.SIGINT)
            client.wait()


def test_ctrl_c(tmp_path: Path) -> None:
    """Who stops a server at a terminal is not taken to start it again."""
    with slow_server(tmp_path, "--grace", "0") as (server, port), Talker(port, "alice") as alice:
        with get(tmp_path, port) as client:
            server.read_until("has begun")
            server.send(signal.SIGINT)
            assert [m.error for m in alice.read_to_end()][-1] == "server-stopping"
            server.wait()
            client.send(signal.SIGINT)
            client.wait()
        said(server)


def test_wrong_grace(tmp_path: Path) -> None:
    """A grace that is none is refused in words."""
    (tmp_path / "files").mkdir()
    for text in ("-1", "long", "nan", "1e9"):
        options: Sequence[str] = ("--grace", text)
        with Running([*script("twistd"), "-n", "chatbox", *options], cwd=tmp_path) as server:
            assert server.wait() == 1
            assert "write a number of seconds" in said(server)
