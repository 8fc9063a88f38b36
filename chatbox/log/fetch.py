"""Writes what a log in Redis has into a new SQLite log: the way back from `chatbox.log.export`.

Messages keep their places, so a client that was connected before goes on where it was. A letter is
in the mail of each of its readers, and becomes one; who has lost theirs, as their mail was too
long, has it again if the other one has kept it. Marks of what Redis had lost do not come along.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.task import react

from chatbox.errors import LocalError
from chatbox.log import Kind, Record
from chatbox.log.connect import Complaint, Connections, endpoint_for
from chatbox.log.place import parse_place, without_passwords
from chatbox.log.store import Writer
from chatbox.log.streams import PREFIX, floor_of, records_of

__all__ = ["fetch", "run"]

_PAGE: Final = 1000

_MAIL: Final = PREFIX + "mail:"


async def fetch(url: str, path: str, reactor: Any) -> int:
    """Make the log `path` of what is in the Redis of `url`; return how many messages that is.

    Raises LocalError, in words, if that makes no sense, and whatever Redis or the disk is up to.
    """
    if os.path.exists(path):
        raise LocalError(f"there is a file already: {path}")
    part = path + ".part"
    _remove(part)
    try:
        connection = await _connect(url, reactor)
        number = await _write(connection, part)
        connection.transport.abortConnection()
        os.rename(part, path)
    finally:
        _remove(part)
    return number


def _remove(path: str) -> None:
    for end in ("", "-wal", "-shm", ".lock"):
        with suppress(FileNotFoundError):
            os.unlink(path + end)


class _Refused(Complaint):
    """Ends the wait for a Redis that does not let us in."""

    def __init__(self, waiting: Deferred[Any]) -> None:
        super().__init__()
        self._waiting = waiting

    def about(self, what: str, why: object) -> None:
        """Something is in the way."""
        if not self._waiting.called:
            self._waiting.errback(LocalError(f"{what}: {why}"))


async def _connect(url: str, reactor: Any) -> Any:
    place = parse_place(url)
    connected: Deferred[Any] = Deferred()
    factory = Connections(place, reactor, _Refused(connected), connected.callback)
    await endpoint_for(place, reactor).connect(factory)
    return await connected


async def _write(connection: Any, path: str) -> int:
    """Write all that a Redis has into a new log."""
    ask: Callable[..., Any] = connection.execute_command
    newest = await ask("XREVRANGE", PREFIX + "log", "+", "-", "COUNT", 1)
    last = max((floor_of(id) for id, _ in newest or ()), default=0)
    floor = floor_of(await ask("GET", PREFIX + "from") or b"0-1") - 1
    writer, number = Writer(path), 0
    writer.open()
    try:
        async for records in _all(ask):
            if records:
                last = max(last, *(record.id for record in records))
                # Letters may be older than all that everybody could read.
                floor = min(floor, *(record.id - 1 for record in records))
                number += len(records)
                writer.take_over(records, last, floor)
        if not number:
            raise LocalError("there are no messages")
    finally:
        writer.close()
    return number


async def _all(ask: Callable[..., Any]) -> AsyncIterator[list[Record]]:
    """Yield all messages, each once, in pages."""
    async for page in _pages(ask, PREFIX + "kept"):
        yield page
    keys, cursor = set[bytes](), b"0"
    while True:
        cursor, some = await ask("SCAN", cursor, "MATCH", _MAIL + "*", "COUNT", _PAGE)
        keys.update(some)
        if cursor == b"0":
            break
    letters = set[int]()
    for key in sorted(keys):
        async for page in _pages(ask, key.decode()):
            fresh = [record for record in page if record.id not in letters]
            letters.update(record.id for record in fresh)
            yield fresh


async def _pages(ask: Callable[..., Any], key: str) -> AsyncIterator[list[Record]]:
    """Yield the messages of one stream."""
    start = "-"
    while rows := await ask("XRANGE", key, start, "+", "COUNT", _PAGE):
        yield [record for record in records_of(rows) if record.kind is Kind.MESSAGE]
        start = "(" + rows[-1][0].decode()


def run(url: str, path: str) -> NoReturn:
    """Do that as a program, which says in a sentence what is wrong or how much it was."""
    react(partial(_run, url, os.path.abspath(path)))


def _run(url: str, path: str, reactor: Any) -> Deferred[None]:
    return Deferred.fromCoroutine(_fetch_or_say(url, path, reactor))


async def _fetch_or_say(url: str, path: str, reactor: Any) -> None:
    try:
        from txredisapi import RedisError
    except ImportError as error:
        raise SystemExit("It needs txredisapi: pip install 'chatbox[redis]'.") from error
    known = LocalError, OSError, ValueError, LookupError, sqlite3.Error, ConnectError, RedisError
    try:
        number = await fetch(url, path, reactor)
    except known as error:
        raise SystemExit(f"{without_passwords(url)}: {error}") from error
    sys.stderr.write(f"{path}: {number} messages\n")
