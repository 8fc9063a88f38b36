"""A real redis-server for tests, on a port of its own, and a reactor to talk to it with."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from chatbox.log import Record, bus, connect, lease, open_log, redis
from chatbox.log.keep import EVERYTHING, Keep
from chatbox.log.redis import RedisLog
from tests.helpers.processes import PATIENCE
from tests.helpers.server import free_port

MISSING = None if shutil.which("redis-server") else "there is no redis-server on this machine"
"""Why tests that need one are skipped."""


LET_PASS: Final = """
local passed = tonumber(ARGV[1])
local function earlier(id)
    local at, rest = string.match(id, '^(%d+)(.*)$')
    return string.format('%.0f', math.max(at - passed, 0))..rest
end
for _, key in ipairs(redis.call('KEYS', 'chatbox:*')) do
    local kind, left = string.match(key, ':(%w+)'), redis.call('PTTL', key)
    if kind == 'said' or kind == 'was' or kind == 'ends' then
        local ids = redis.call('HGETALL', key)
        for i = 1, #ids, 2 do redis.call('HSET', key, ids[i], earlier(ids[i+1])) end
    elseif kind == 'kept' or kind == 'mail' then
        local rows = redis.call('XRANGE', key, '-', '+')
        redis.call('DEL', key)
        for _, row in ipairs(rows) do redis.call('XADD', key, earlier(row[1]), unpack(row[2])) end
    elseif kind == 'from' then
        redis.call('SET', key, earlier(redis.call('GET', key)))
    end
    if left > 0 and kind ~= 'node' then
        redis.call('PEXPIRE', key, left - passed)
    end
end
"""
"""Has Redis, whose clock cannot be set, believe that it has everything, but leases, for longer."""


class RedisServer:
    """One `redis-server` that keeps its files in `folder`; it can be killed and started again."""

    def __init__(self, folder: Path, *options: str, tls: bool = False) -> None:
        self.port = free_port(socket.SOCK_STREAM)
        self.tls_port = free_port(socket.SOCK_STREAM) if tls else 0
        self.url = f"redis://127.0.0.1:{self.port}/0"
        folder.mkdir(parents=True, exist_ok=True)
        self.command = [
            *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--dir", str(folder), "--save", "", "--appendonly", "yes"),
            *("--appendfsync", "always", *options, "--tls-port", str(self.tls_port)),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if self.ask(b"PING\r\n") == b"+PONG\r\n":
                return
            time.sleep(0.01)
        raise AssertionError("redis-server does not answer")

    def ask(self, command: bytes) -> bytes:
        """Send it an inline command and return the beginning of the answer."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
                connection.sendall(command)
                return connection.recv(1 << 16)
        except OSError:
            return b""

    def let_pass(self, seconds: float) -> None:
        """Let time pass for all that a log has there."""
        words = ("EVAL", LET_PASS, "0", f"{seconds * 1000:.0f}")
        command = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        assert self.ask(f"*{len(words)}\r\n{command}".encode()) == b"$-1\r\n"

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def be_patient(patch: Callable[[Any, str, object], object]) -> None:
    """Have `patch` see to it that logs give nothing up, however slow the machine is."""
    for module in (bus, connect):
        patch(module, "COMMAND_SECONDS", PATIENCE)
    patch(redis, "APPEND_SECONDS", PATIENCE)
    patch(redis, "STOP_SECONDS", PATIENCE)
    patch(lease, "LEASE_SECONDS", 10 * PATIENCE)
    patch(lease, "FENCE_SECONDS", 8 * PATIENCE)


def own_reactor() -> Any:
    """A reactor that is nobody else's, and runs when we say so."""
    from twisted.internet.epollreactor import EPollReactor

    return EPollReactor()


def run_until(reactor: Any, done: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Let a reactor work until something is true."""
    until = time.monotonic() + patience
    while not done():
        assert time.monotonic() < until, "it takes too long"
        reactor.iterate(0.01)


def open_redis(url: str, reactor: Any = None, keep: Keep = EVERYTHING) -> RedisLog:
    """Make a log as a server does for ``--log``, so that what works here works there."""
    log = open_log(url, keep=keep, reactor=reactor)
    assert isinstance(log, RedisLog)
    return log


def stored(url: str) -> list[tuple[int, str]]:
    """What everybody may read in the log there: places and texts."""
    reactor = own_reactor()
    log = open_redis(url, reactor)
    log.subscribe(lambda records: None, lambda entries: None)
    log.start()
    run_until(reactor, lambda: log.connected)
    answers: list[Sequence[Record] | None] = []
    log.history(0, 10_000_000, "", answers.append)
    run_until(reactor, lambda: bool(answers))
    stopped: list[bool] = []
    log.stop(lambda: stopped.append(True))
    run_until(reactor, lambda: bool(stopped))
    return [(record.id, record.text) for record in answers[0] or ()]
