"""``chatbox get``: in virtual time, and as a command against a real server."""

from __future__ import annotations

import os
import socket
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.download import PartFile
from chatbox.client.events import Kind, Offer, Request
from chatbox.client.exits import Exit, Stop, Stopping
from chatbox.client.get import RETURN_PATIENCE, _Errand
from chatbox.client.transfers import Stage
from chatbox.rdt.ends import End
from chatbox.rdt.receiver import Ended, Opened
from tests.helpers.client import FakeFetch
from tests.helpers.server import Served, serving
from tests.test_main import errand


class ErrandTests(SynchronousTestCase):
    """The one download of ``chatbox get``."""

    def test_options_reach_the_transfer(self) -> None:
        """What the command line says about the download is what the transfer is told."""
        options = Namespace(file="f", pause=True, limit=5000, quiet=True)
        target = PartFile(os.path.abspath(self.mktemp()))
        clock, fetcher = Clock(), FakeFetch()
        errand = _Errand(clock, options, target, target.path)
        clock.advance(0.2)
        offer = Offer(Request(1, Kind.DOWNLOAD, text="f"), 55000, "ticket", 10)
        running = Deferred.fromCoroutine(errand.run(offer, fetcher, "example.org"))
        (begun,) = fetcher.begun
        self.assertEqual((begun.pause_half_way, begun.rate_limit), (True, 5000))
        self.assertAlmostEqual(begun.rtt, 0.2)
        begun.listener(Opened(10))
        begun.listener(Ended(End.DONE, "", target.path, bytes(32)))
        self.successResultOf(running)
        self.assertEqual(errand.download.status, Exit.OK)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_server_that_goes_away(self) -> None:
        """The errand waits for it, for a minute, and then says why it ends."""
        options = Namespace(file="f", pause=False, limit=None, quiet=True)
        target = PartFile(os.path.abspath(self.mktemp()))
        clock, fetcher = Clock(), FakeFetch()
        errand = _Errand(clock, options, target, target.path)
        offer = Offer(Request(1, Kind.DOWNLOAD, text="f"), 55000, "ticket", 10)
        refused = Stop(Exit.NO_CONNECTION, "Nobody listens there.")
        self.failureResultOf(Deferred.fromCoroutine(errand.wait_or_raise(refused)), Stop)
        for _ in range(2):
            running = Deferred.fromCoroutine(errand.run(offer, fetcher, "example.org"))
            fetcher.begun[-1].listener(Opened(10))
            fetcher.begun[-1].listener(Ended(End.SERVER_STOPPING, "", None, None))
            self.assertNoResult(running)
            clock.advance(1)
            self.successResultOf(running)
            self.assertIs(errand.download.stage, Stage.ASKED)
            waits = 0
            while True:
                waiting = Deferred.fromCoroutine(errand.wait_or_raise(refused))
                clock.advance(1)
                if isinstance(waiting.result, Failure):
                    break
                waits += 1
            self.failureResultOf(waiting, Stop)
            self.assertEqual(waits, RETURN_PATIENCE - 1)

    def test_refusal_that_will_pass(self) -> None:
        """A server that is about to restart is asked again; one that has no such file is not."""
        options = Namespace(file="f", pause=False, limit=None, quiet=True)
        target = PartFile(os.path.abspath(self.mktemp()))
        clock = Clock()
        errand = _Errand(clock, options, target, target.path)
        gone = Stop(Exit.NOT_THERE, "There is no such file.")
        self.failureResultOf(Deferred.fromCoroutine(errand.wait_or_raise(gone)), Stop)
        passing = Stopping(Exit.LOST, "The server restarts.")
        waiting = Deferred.fromCoroutine(errand.wait_or_raise(passing))
        clock.advance(1)
        self.successResultOf(waiting)
        self.failureResultOf(Deferred.fromCoroutine(errand.wait_or_raise(gone)), Stop)


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


def test_get_with_a_pause(server: Served, tmp_path: Path) -> None:
    """It asks half way, and goes on when nobody is there to answer."""
    done = errand("get", server.host, "film.bin", "--pause", cwd=tmp_path)
    assert done.returncode == 0
    assert "half way, at 50 %. Press Enter" in done.stderr
    assert "goes on by itself" in done.stderr


def test_get_what_does_not_exist(server: Served, tmp_path: Path) -> None:
    """No such file, or no file's name: the same status, and nothing is left behind."""
    for name in ("nope", "../film.bin"):
        done = errand("get", server.host, name, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (Exit.NOT_THERE, "")
        assert done.stderr.startswith("chatbox: ")
    assert list(tmp_path.iterdir()) == []
