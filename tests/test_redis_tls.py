"""Redis by TLS, with an authority of our own, a certificate of ours, and a user with few rights."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, globalLogPublisher

from chatbox.log import Record
from chatbox.log.keep import Keep
from chatbox.log.redis import RedisLog
from tests.helpers.certificates import Authority
from tests.helpers.log import Heard, say, texts
from tests.helpers.processes import PATIENCE
from tests.helpers.redis import MISSING, RedisServer, be_patient, open_redis

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

RIGHTS = "~chatbox:* -@all +@read +@write +@scripting +@connection +@fast -@dangerous +info"
"""What docs/operations.rst advises."""


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient(monkeypatch.setattr)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[str]:
    """Where a Redis is that asks for certificates, and how to get in, but for the user."""
    authority = Authority(tmp_path)
    for name in ("server", "client"):
        authority.issue(tmp_path / name)
    server = RedisServer(
        tmp_path / "redis",
        *("--tls-cert-file", str(tmp_path / "server"), "--tls-key-file", str(tmp_path / "server")),
        *("--tls-ca-cert-file", str(authority.path)),
        *("--user", "chat", "on", ">secret", *RIGHTS.split()),
        tls=True,
    )
    server.start()
    own = tmp_path / "client"
    yield f"localhost:{server.tls_port}/0?ca={authority.path}&cert={own}&key={own}"
    server.kill()


@pytest.fixture
def sentinel(place: str, tmp_path: Path) -> Iterator[str]:
    """Where a sentinel is that knows that Redis, which asks for certificates, too."""
    (address, _, query), folder = place.partition("?"), tmp_path / "sentinel"
    port = address[len("localhost:") : -len("/0")]
    server = RedisServer(folder, tls=True)
    (folder / "sentinel.conf").write_text(
        f"port {server.port}\nbind 127.0.0.1\ndir {folder}\ntls-port {server.tls_port}\n"
        f"tls-cert-file {tmp_path / 'server'}\ntls-key-file {tmp_path / 'server'}\n"
        f"tls-ca-cert-file {tmp_path / 'authority.crt'}\ntls-replication yes\n"
        "sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n"
        f"sentinel monitor room localhost {port} 1\n"
    )
    server.command = ["redis-server", str(folder / "sentinel.conf"), "--sentinel"]
    server.start()
    yield f"localhost:{server.tls_port}/room/0?{query}"
    server.kill()


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What the operator is told."""
    said: list[str] = []

    def note(event: LogEvent) -> None:
        said.extend(str(event[key]) for key in ("why", "error", "sentence") if key in event)

    publisher: Any = globalLogPublisher
    publisher.addObserver(note)
    yield said
    publisher.removeObserver(note)


async def until(done: Callable[[], object]) -> None:
    """Wait until something is true."""
    give_up = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < give_up, "it takes too long"
        await deferLater(reactor, 0.01)


@asynccontextmanager
async def started(url: str) -> AsyncIterator[tuple[RedisLog, Heard]]:
    """A log that has been started."""
    log = open_redis(url)
    heard = Heard(log)
    log.start()
    try:
        yield log, heard
    finally:
        stopped: Deferred[None] = Deferred()
        log.stop(lambda: stopped.callback(None))
        await stopped


@ensureDeferred
async def test_with_certificates(place: str, told: list[str]) -> None:
    """All that a log does can be done with the rights that are advised."""
    async with started(f"rediss://chat:secret@{place}") as (log, heard):
        await until(lambda: log.connected)
        log.append([say("a"), say("b", "ann", "bob")])
        await until(lambda: not log.busy)
        assert texts(heard.records) == ["a", "b"]
        answers: list[Sequence[Record] | None] = []
        log.history(0, 9, "ann", answers.append)
        await until(lambda: answers)
        assert texts(answers[0]) == ["a", "b"]
        log._keep = Keep(age=10, size=10**6)
        log._forget()
        outcomes: list[str] = []
        holder = {"name": "bob", "identity": "b", "proof": "p"}
        log.lease.claim("bob", holder, bool, lambda outcome, _: outcomes.append(outcome))
        log.lease.release("bob", "p", lambda: False)
        await until(lambda: outcomes and not log.lease._owed)
        assert (outcomes, told) == (["new"], [])


@ensureDeferred
async def test_through_a_sentinel(sentinel: str) -> None:
    """The sentinel is asked by TLS, and so is the Redis that it knows."""
    async with started(f"rediss+sentinel://chat:secret@{sentinel}") as (log, heard):
        await until(lambda: log.connected)
        log.append([say("a")])
        await until(lambda: not log.busy)
        assert texts(heard.records) == ["a"]


@ensureDeferred
async def test_a_wrong_password(place: str, told: list[str]) -> None:
    """The operator is told, and the log waits."""
    async with started(f"rediss://chat:wrong@{place}") as (log, _):
        await until(lambda: told)
        assert all("WRONGPASS" in text for text in told)
        assert not log.connected


@ensureDeferred
async def test_who_cannot_shake_hands(place: str, told: list[str]) -> None:
    """Nobody connects without believing the certificate, or without TLS; why is told, once."""
    bare = place.partition("?")[0]
    for scheme, why in {
        "rediss": "TLS: certificate verify failed",
        "redis": "the connection is closed at once; is it one for TLS (rediss:)?",
    }.items():
        told.clear()
        async with started(f"{scheme}://chat:secret@{bare}") as (log, _):
            for service in log._services:
                d: Any = service.whenConnected()
                connection = await d
                await connection.whenDisconnected()
            assert not log.connected
        assert told == [why]


@ensureDeferred
async def test_a_sentinel_that_is_not_believed(sentinel: str, told: list[str]) -> None:
    """It is told why nobody can be asked."""
    async with started(f"rediss+sentinel://chat:secret@{sentinel.partition('?')[0]}") as (log, _):
        await until(lambda: told)
        assert not log.connected
    assert set(told) == {"TLS: certificate verify failed"}
