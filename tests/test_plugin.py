"""The plugin, from its discovery to real ``twistd`` and ``twist`` processes that talk."""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import socket
from pathlib import Path

import pytest
from twisted.application.service import IService, IServiceMaker
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from tests.helpers.processes import (
    PATIENCE,
    Running,
    kept,
    script,
    see_daemon_end,
    stop_other,
)

STARTED = r"Chat starting on (\d+)"


def service_maker() -> IServiceMaker:
    """Find our plugin as twistd finds it."""
    [maker] = [maker for maker in getPlugins(IServiceMaker) if maker.tapname == "chatbox"]
    return maker


class PluginTests(SynchronousTestCase):
    """What twistd finds."""

    def test_plugin_is_found_with_a_description(self) -> None:
        """There is one command called chatbox, and `twistd --help` can say what it is."""
        self.assertTrue(service_maker().description)

    def test_bad_option_is_a_usage_error(self) -> None:
        """Its options refuse nonsense in a way that twistd shows as a sentence."""
        options = service_maker().options()
        self.assertRaises(UsageError, options.parseOptions, ["--udp-ports", "many"])

    def test_service_is_built(self) -> None:
        """The module behind the plugin exists and makes a service from its options."""
        folder = self.mktemp()
        os.mkdir(folder)
        maker = service_maker()
        options = maker.options()
        options.parseOptions(["--files", folder, "--udp-ports", "0", "--listen", "tcp:0"])
        self.assertTrue(IService.providedBy(maker.makeService(options)))


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> Path:
    """An empty folder but for the folder to share."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.txt").write_bytes(b"hello")
    return tmp_path


OPTIONS = ["chatbox", "--listen", "tcp:0:interface=127.0.0.1", "--udp-ports", "0"]
"""A server on ports of the system's choice, of the folder files."""


def talk(port: int) -> None:
    """Connect, list the files, and leave."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(
            b"<s:ann><r:server:127.0.0.1><t:connect>\r\n<t:get_file>\n<t:disconnect>\n"
        )
        with connection.makefile("rb") as answers:
            said = answers.read().decode()  # to the end: the server closes after disconnect
    assert "<s:server:127.0.0.1><r:ann><m:True>" in said
    assert "<p:connect_response>" in said
    assert "<m:['a.txt']>" in said
    assert "<p:disconnect_response>" in said


def test_twistd_in_the_foreground(place: Path) -> None:
    """`twistd -n chatbox` serves, and ends at SIGINT with everything closed."""
    with Running([*script("twistd"), "--nodaemon", *OPTIONS], cwd=place) as server:
        port = int(server.read_until(STARTED)[1])
        server.read_until(r"RDT on UDP starting on \d+")
        talk(port)
        assert (place / "twistd.pid").read_text() == str(server.pid)
        server.stop(signal.SIGINT)
        assert "Server Shut Down." in "".join(server.said)
        assert "Traceback" not in "".join(server.said)
    assert not (place / "twistd.pid").exists()


def test_twistd_as_a_daemon(place: Path) -> None:
    """`twistd chatbox` goes to the background when it serves, with a pid file and a log."""
    with kept(place / "twistd.pid", [*script("twistd"), *OPTIONS]) as started:
        assert started.said[-1] == "0\n", started.said
        pid = int((place / "twistd.pid").read_text())
        log = (place / "twistd.log").read_text()
        [port] = [line.split()[-1] for line in log.splitlines() if "Chat starting" in line]
        talk(int(port))
        stop_other(pid)
    assert not (place / "twistd.pid").exists()
    log = (place / "twistd.log").read_text()
    assert "Server Shut Down." in log
    assert "Traceback" not in log


def test_twist(place: Path) -> None:
    """`twist chatbox` serves too; its log goes to stdout."""
    with Running([*script("twist"), "--log-format=text", *OPTIONS], cwd=place) as server:
        talk(int(server.read_until(STARTED)[1]))
        server.stop()
        assert "Traceback" not in "".join(server.said)


def test_wrong_option_is_told_in_a_sentence(place: Path) -> None:
    """twistd shows our words, no traceback, and fails."""
    for name in ("twistd", "twist"):
        with Running([*script(name), "chatbox", "--udp-ports", "9-8"], cwd=place) as server:
            assert server.wait() != 0
            said = "".join(server.said)
        assert "the last port comes before the first" in said
        assert "Traceback" not in said
        assert f"See {name} chatbox --help." in said
        assert "--max-rate" not in said


def test_in_an_empty_folder(tmp_path: Path) -> None:
    """It shares a folder that it makes, and says so."""
    for name in ("twistd -n", "twist --log-format=text"):
        program, *rest = name.split()
        place = tmp_path / program
        place.mkdir()
        with Running([*script(program), *rest, *OPTIONS], cwd=place) as server:
            server.read_until(STARTED)
            server.stop()
            assert "".join(server.said).count(f"no folder {place / 'files'}: it is made") == 1


def test_no_daemon_stays(tmp_path: Path) -> None:
    """A daemon that a test has started ends with the test, whatever becomes of that."""
    pid_file = tmp_path / "pid"
    with kept(pid_file, ["sh", "-c", f"sleep 3600 <&- >&- 2>&- & echo $! >{pid_file}"]):
        descriptor = os.pidfd_open(int(pid_file.read_text()))
    gone, _, _ = select.select([descriptor], [], [], PATIENCE)
    os.close(descriptor)
    assert gone


@pytest.mark.parametrize("command", ["twistd -n", "twistd", "twist"])
def test_a_server_that_cannot_start(place: Path, command: str) -> None:
    """It says why in one sentence and ends, in the background as in the foreground."""
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        socket.socket(type=socket.SOCK_DGRAM) as taken_udp,
    ):
        taken_udp.bind(("127.0.0.1", 0))
        tcp, udp = taken.getsockname()[1], taken_udp.getsockname()[1]
        in_use = f"[Errno {errno.EADDRINUSE}] Address already in use"
        no_folder = f"{place}/files/a.txt/socket"
        for option, value, words, advice in (
            ("--listen", f"tcp:{tcp}:interface=127.0.0.1", f"127.0.0.1:{tcp}: {in_use}", "Other"),
            ("--listen", f"unix:{no_folder}", "chatbox cannot start: Not a directory: ", no_folder),
            ("--udp-ports", f"{udp}", f"127.0.0.1:{udp}: {in_use}", "Other ports: --listen"),
            ("--state-dir", f"{place}/files/a.txt", "chatbox cannot let people in: ", "See --st"),
            ("--log", f"sqlite:{place}/files", "chatbox cannot keep messages: ", "See --log"),
        ):
            name, *rest = command.split()
            with Running([*script(name), *rest, *OPTIONS, option, value], cwd=place) as server:
                assert server.wait() == 1
                said = "".join(server.said)
            assert words in said
            assert advice in said or command == "twistd"  # which passes on the first 100 bytes
            assert "Traceback" not in said
            see_daemon_end(place / "twistd.pid")


def test_where_twistd_may_not_write(place: Path) -> None:
    """What twistd would end with a traceback for is told in a sentence, with what to do."""
    nowhere = f"{place}/files/a.txt/twistd"
    for *mode, option in (
        ("--nodaemon", "--pidfile"),
        ("--nodaemon", "--logfile"),
        ("--pidfile=", "--logfile"),
    ):
        command = [*script("twistd"), *mode, option, nowhere, *OPTIONS]
        with Running(command, cwd=place) as server:
            assert server.wait() == 1
            said = "".join(server.said)
        assert f"twistd cannot write {nowhere}: Not a directory." in said
        assert f"another {option}" in said
        assert "Traceback" not in said


def test_netcat_talks(place: Path) -> None:
    """Two lines typed into netcat log in and speak; the answers can be read."""
    if shutil.which("nc") is None:
        pytest.skip("nc is not installed")
    with Running([*script("twistd"), "--nodaemon", *OPTIONS], cwd=place) as server:
        port = server.read_until(STARTED)[1]
        with Running(["nc", "127.0.0.1", port]) as netcat:
            netcat.write("<s:a><r:server:x><t:connect>\n<s:a><r:all><t:message_request><m:hi>\n")
            netcat.read_until(r"<s:server:127\.0\.0\.1><r:a><m:True>.*<p:connect_response>")
            netcat.read_until(r"<s:a><r:all><m:hi><p:message_received>")
            netcat.write("<t:disconnect>\n")
            netcat.read_until(r"<p:disconnect_response>")
            netcat.end_input()  # it waits for that, even when the server has closed
            assert netcat.wait() == 0
        server.stop()
