"""`chatbox doctor` against real servers, and against what is not there."""

from __future__ import annotations

import re
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import pytest_twisted

from chatbox.client.arguments import apply_settings, arguments
from chatbox.client.config import Settings
from chatbox.client.demo import BadLink
from chatbox.client.doctor import examination as doctor_module
from chatbox.client.exits import Exit
from chatbox.rdt import fetch as fetch_module
from tests.helpers.processes import PATIENCE, Running, finished, script
from tests.helpers.server import free_port

PORTS = 3


def udp_ports() -> int:
    """The first of `PORTS` UDP ports in a row that nobody uses at the moment."""
    for _ in range(100):
        first = free_port(socket.SOCK_DGRAM)
        held = []
        try:
            for port in range(first, first + PORTS):
                held.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                held[-1].bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            continue
        else:
            return first
        finally:
            for one in held:
                one.close()
    raise AssertionError("no UDP ports in a row are free")


@contextmanager
def serving(folder: Path, *, tls: bool = False, ports: int = PORTS) -> Iterator[tuple[str, int]]:
    """A server with some UDP ports: its HOST, and the first of them."""
    (folder / "files").mkdir()
    tcp, udp = free_port(socket.SOCK_STREAM), udp_ports()
    endpoint = f"tcp:{tcp}:interface=127.0.0.1"
    command = [
        *(*script("twistd"), "-n", "--pidfile=", "chatbox", "--log", "memory:"),
        *("--listen", f"tls-self-signed:{endpoint}" if tls else endpoint),
        *("--udp-ports", f"{udp}-{udp + ports - 1}"),
    ]
    with Running(command, cwd=folder) as process:
        process.read_until(rf"RDT on UDP starting on {udp}\b")
        yield f"127.0.0.1:{tcp}", udp


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """One server for all examinations."""
    with serving(tmp_path_factory.mktemp("doctor")) as served:
        yield served


@pytest.fixture
def dead() -> Iterator[int]:
    """A UDP port of this machine that never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        yield silent.getsockname()[1]


def examine(*argv: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """The status, and by the name of each check its verdict and the rest of its line."""
    command = [sys.executable, "-m", "chatbox.client.main", "doctor", *argv]
    done = finished(command, CHATBOX_NAME="zoe")
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, read(done.stdout)


def read(output: str) -> dict[str, tuple[str, str]]:
    """Take the lines apart."""
    found = {}
    for line in output.splitlines():
        verdict, check, rest = re.split(" +", line, maxsplit=2)
        assert verdict in ("OK", "WARNING", "PROBLEM"), line
        found[check] = verdict, rest
    return found


MACHINE = ["buffers", "trains"]
"""Checks of the machine, which may be worse than the way."""

WAY = ["name", "TCP", "chat", "clock", "UDP", "rate", "packets"]

ATTEMPTS = 10
"""A machine that is busy with something else for some seconds is a bad way for as long."""


def test_all_is_well(server: tuple[str, int]) -> None:
    """A good way has every check, each of them good, and status 0."""
    host, udp = server
    for _ in range(ATTEMPTS):
        status, found = examine(host)
        good = {check for check, (verdict, _) in found.items() if verdict == "OK"}
        # What a machine's buffers do not hold is lost as on a bad way, however often one tries.
        if good >= {*WAY} - {"rate"}:
            break
    else:
        raise AssertionError(f"never good: {found}")
    assert status == 0
    assert list(found) == MACHINE + WAY
    assert f"UDP ports {udp}-{udp + PORTS - 1}." in found["UDP"][1]
    assert re.search(r"\d [kM]B in \d", found["rate"][1])
    assert int(re.findall(r"up to (\d+) bytes", found["packets"][1])[0]) > 1472


async def examine_here(
    host: str,
    via: tuple[str, int] | None = None,
    patience: float = PATIENCE,
    seconds: float = PATIENCE,
) -> Exit:
    """The same in this process, so that the test can be the network, and say what is waited for."""
    from twisted.internet import reactor

    options = arguments().parse_args(["doctor", host])
    apply_settings(options, Settings())
    options.udp_via = via
    with (
        mock.patch.object(doctor_module, "ANSWER_TIMEOUT", patience),
        mock.patch.object(doctor_module, "PROBE_SECONDS", seconds),
    ):
        return await doctor_module.doctor(reactor, options)


@pytest_twisted.ensureDeferred
async def test_udp_blocked(
    server: tuple[str, int], dead: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """No port answers: they are named, the chat is fine, and the status says that it is UDP."""
    host, udp = server
    status = await examine_here(host, ("127.0.0.1", dead), patience=1.0)
    found = read(capsys.readouterr().out)
    assert status is Exit.NO_UDP
    assert found["chat"][0] == "OK"
    assert found["UDP"][0] == "PROBLEM"
    assert f"nothing comes back from UDP ports {udp}-{udp + PORTS - 1}." in found["UDP"][1]
    assert "rate" not in found


@pytest_twisted.ensureDeferred
async def test_too_many_ports(server: tuple[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    """A server may say that it has as many ports as it likes; only so many are tried."""
    host, udp = server
    with mock.patch.object(doctor_module, "MAX_PORTS", 2):
        assert await examine_here(host) is Exit.OK
    found = read(capsys.readouterr().out)
    expected = f"answers come from UDP ports {udp}-{udp + 1}. 1 more were not tried: 2 say enough."
    assert found["UDP"] == ("OK", expected)


class BadWire(BadLink):
    """A link of the usual MTU that loses every tenth datagram each way, by no chance."""

    longest = 1472

    def __init__(self, reactor: Any, server: tuple[str, int]) -> None:
        super().__init__(reactor, 0, server)
        self._counts: Counter[object] = Counter()

    def _carry(self, side: Any, data: bytes, address: tuple[str, int]) -> None:
        if len(data) <= self.longest:
            self._counts[side] += 1
            if self._counts[side] % 10:
                side.send(data, address)


class NarrowWire(BadWire):
    """One of an MTU that is too small for anybody's packets."""

    longest = 1199


@pytest_twisted.ensureDeferred
async def test_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a bad link loses is measured; it has one port only, so the server has, too."""
    from twisted.internet import reactor

    with serving(tmp_path, ports=1) as (host, udp):
        link = BadWire(reactor, ("127.0.0.1", udp))
        try:
            with mock.patch.object(doctor_module, "PROBE_BYTES", 4 << 20):
                status = await examine_here(host, ("127.0.0.1", link.port))
        finally:
            link.close()
    found = read(capsys.readouterr().out)
    assert status == 0
    assert found["rate"][0] == "WARNING"
    # Some packets are taken for those that look for the limit; the kernel may drop some more.
    assert float(re.findall(r"([\d.]+)% of", found["rate"][1])[0]) > 9
    # Each size is tried twice, so the largest ones may have had bad luck.
    assert 1200 <= int(re.findall(r"(\d+) bytes arrive", found["packets"][1])[0]) <= 1472


@pytest_twisted.ensureDeferred
async def test_narrow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where words come through and data does not, that is said, and not how fast it was."""
    from twisted.internet import reactor

    with serving(tmp_path, ports=1) as (host, udp):
        link = NarrowWire(reactor, ("127.0.0.1", udp))
        try:
            status = await examine_here(host, ("127.0.0.1", link.port), seconds=1.0)
        finally:
            link.close()
    found = read(capsys.readouterr().out)
    assert status is Exit.NO_UDP
    assert found["UDP"][0] == "OK"
    assert "rate" not in found
    assert found["packets"][0] == "PROBLEM"
    assert "carries no packets of 1200 bytes" in found["packets"][1]


def test_nobody_listens() -> None:
    """TCP is refused: nothing after that is tried."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        status, found = examine(f"127.0.0.1:{unused.getsockname()[1]}")
    assert status == Exit.NO_CONNECTION
    assert list(found) == [*MACHINE, "name", "TCP"]
    assert found["TCP"][0] == "PROBLEM"
    assert "nobody listens" in found["TCP"][1]


def test_no_such_name() -> None:
    """A name without an address ends it."""
    status, found = examine("no-such-host.invalid")
    assert status == Exit.NO_CONNECTION
    assert list(found)[-1] == "name"
    assert found["name"][0] == "PROBLEM"


def test_not_let_in(server: tuple[str, int]) -> None:
    """A server that refuses the name is told in its words."""
    status, found = examine(server[0], "--name", "all")
    assert status == Exit.NOT_LET_IN
    assert found["chat"][0] == "PROBLEM"
    assert "reserved" in found["chat"][1]


def test_tls(tmp_path: Path) -> None:
    """With TLS there is a line about the certificate."""
    with serving(tmp_path, tls=True) as (host, _):
        _, found = examine(host, "--tls")
    assert found["TLS"][0] == found["chat"][0] == "OK"
    assert "days" in found["TLS"][1]


@pytest_twisted.ensureDeferred
async def test_one_port_blocked(
    server: tuple[str, int], dead: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of several ports, the one that a firewall blocks is found."""
    host, udp = server
    fetch = fetch_module.fetch

    def through_a_firewall(reactor: Any, address: tuple[str, int], *rest: Any, **more: Any) -> Any:
        blocked = address[1] == udp + 1
        # One after the other, so that the others have all the time that they need.
        doctor_module.ANSWER_TIMEOUT = 1.0 if blocked else PATIENCE  # type: ignore[misc]
        way = (address[0], dead) if blocked else address
        return fetch(reactor, way, *rest, **more)

    with (
        mock.patch.object(fetch_module, "fetch", through_a_firewall),
        mock.patch.object(doctor_module, "AT_ONCE", 1),
    ):
        status = await examine_here(host)
    found = read(capsys.readouterr().out)
    assert status is Exit.NO_UDP
    assert found["UDP"][0] == "PROBLEM"
    assert f"2 of 3 ports answer; nothing comes back from UDP port {udp + 1}." in found["UDP"][1]
    assert "rate" in found
