"""The log in Redis: what others who may write there could put into it.

A line of the input is something that Redis has, or says; the first letter says what:

- ``b`` a record on the bus, ``k`` one of the history, ``m`` a letter: fields and values between
  tabs. An id may stand ahead, as in ``@5-7``; Redis takes none that is not the next one.
- ``p`` one of the people, ``f`` the place from which on there is a history, ``e`` the ends of
  bob's letters, ``i`` what Redis says of itself.
- ``a`` what APPEND says of a message, and ``x`` the error that the next script ends with.

What must hold: all that makes sense is heard, once and in order, whatever stands around it, and is
there in the history; and who is here can speak in the end.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

from twisted.internet.error import ConnectionLost
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from chatbox.chat.cluster import SharedNames
from chatbox.chat.moderation import Moderation
from chatbox.chat.names import Claim, parse_name
from chatbox.chat.room import Room
from chatbox.chat.server import ChatFactory
from chatbox.chat.turn import Turn
from chatbox.chat.wire import Message
from chatbox.log import Kind
from chatbox.log.bus import BLOCK_SECONDS
from chatbox.log.redis import RedisLog
from chatbox.log.scripts import APPEND, CLAIM, HASHES
from tests.fuzz.target import Check, Target, memory_folder
from tests.helpers.chat import NOON, FakeShelf, tokens
from tests.test_server import Connection

_SCRIPTS: Final = {hashed.encode(): script for script, hashed in HASHES.items()}
_find_id: Final = re.compile(rb"@(\d{1,20})-(\d{1,20})\t").match
_MAX_PART: Final = (1 << 64) - 1

_NOTHING: Final = b"$-1\r\n"

Id = tuple[int, int]
Row = tuple[Id, list[bytes]]


class Redis:
    """As much of one as the log needs, with what the input has put into it."""

    def __init__(self, data: bytes) -> None:
        self.bus: list[Row] = []
        self.kept: list[Row] = []
        self.mail: list[Row] = []
        self.people: list[bytes] = []
        self.start: bytes | None = None
        self.ends: list[bytes | None] = [None, None]
        self.info = b"redis_version:7.2.0\r\naof_enabled:1"
        self.errors: deque[Exception] = deque()
        """How the next scripts end."""
        self.said: deque[bytes] = deque()
        """What APPEND says of the next messages with a number."""
        self.heard: list[str] = []
        """What was put on the bus that makes sense."""
        self.remembered: list[str] = []
        """The same in the history."""
        self._to_come: list[bytes] = []
        self._last: Id = (5, 0)
        self._before: Id = (1, 0)
        for line in data.split(b"\n")[:20]:
            self._put(line[:1], line[1:])

    def _put(self, what: bytes, said: bytes) -> None:
        match what:
            case b"b":
                self._to_come.append(said)
            case b"k":
                self.kept.append(self._row_before(said))
                text = f"old {len(self.kept)}"
                self.kept.append(self._row_before(b"d\t" + _said(text)))
                if _is_place(self._before):
                    self.remembered.append(text)
            case b"m":
                self.mail.append(self._row_before(said))
            case b"p":
                self.people.append(said)
            case b"f":
                self.start = said
            case b"e":
                gone, _, last = said.partition(b"\t")
                self.ends = [gone or None, last or None]
            case b"i":
                self.info = said
            case b"a":
                self.said.append(said)
            case b"x":
                self.errors.append(ValueError(said.decode(errors="replace").replace("\r", "")))

    def publish(self) -> None:
        """Put on the bus what others have for it, and something that makes sense after each."""
        for said in self._to_come:
            at, fields = _row(said, self._last)
            self._last = at
            self.bus.append((at, fields))
            text = f"new {len(self.bus)}"
            self.add([b"n", b"other", b"s", b"1", b"k", b"message", b"d", _said(text)])
            if _is_place(self._last):
                self.heard.append(text)

    def add(self, fields: list[bytes]) -> None:
        """Put something on the bus, as XADD does: after all else, and in time for a place."""
        at, number = self._last
        self._last = (at, number + 1) if _is_place((at, number + 1)) else (at + 1, 0)
        self.bus.append((self._last, fields))

    def _row_before(self, said: bytes) -> Row:
        """A row of the history, all of which is older than what is on the bus."""
        row = _row(said, self._before)
        if row[0] >= (5, 0):
            row = (self._before[0], self._before[1] + 1), row[1]
        self._before = row[0]
        return row

    def answer(self, words: Sequence[bytes]) -> bytes:
        """Answer a command."""
        return b"".join(_encoded(self._reply(words)))

    def _reply(self, words: Sequence[bytes]) -> object:
        match words[0]:
            case b"EVAL":
                return [b"epoch", b"whole", b"1-0", b"5-0", self.people, 0]
            case b"EVALSHA":
                return self._run(_SCRIPTS[words[1]], words[4:])
            case b"XREAD":
                rows = self._between(self.bus, b"(" + words[-1], b"+")[:3]
                return [[b"chatbox:log", rows]] if rows else None
            case b"XRANGE":
                rows = self._between(self._stream(words[1]), words[2], words[3])
                return rows[: int(words[5])]
            case b"XREVRANGE":
                rows = self._between(self._stream(words[1]), words[3], words[2])
                return rows[::-1][: int(words[5])]
            case b"INFO":
                return self.info
            case b"EXISTS":
                return int(bool(self.mail))
            case b"HMGET":
                return self.ends
            case b"GET":
                return self.start
        return b"OK"

    def _run(self, script: str, values: Sequence[bytes]) -> object:
        if self.errors:
            return self.errors.popleft()
        if script == CLAIM:
            return [b"new", b"5-0"]
        if script != APPEND:
            return 1
        run, first = values[:2]
        answers: list[object] = []
        for at in range(10, len(values), 6):
            if self.said and values[at + 3]:
                answers.append(self.said.popleft())
                continue
            number = b"%d" % (int(first) + (at - 10) // 6)
            self.add([b"n", run, b"s", number, b"k", values[at], b"d", values[at + 5]])
            answers.append(b"")
        return answers

    def _stream(self, key: bytes) -> list[Row]:
        return self.kept if key == b"chatbox:kept" else self.mail

    def _between(self, rows: list[Row], first: bytes, last: bytes) -> list[object]:
        low = (0, 0) if first == b"-" else _id_of(first.lstrip(b"("))
        high = (_MAX_PART, _MAX_PART) if last == b"+" else _id_of(last)
        beyond = first.startswith(b"(")
        return [
            [b"%d-%d" % at, fields]
            for at, fields in rows
            if low <= at <= high and not (beyond and at == low)
        ]


def _said(text: str) -> bytes:
    return json.dumps(["ann", "all", text, [], ""]).encode()


def _row(said: bytes, last: Id) -> Row:
    """The fields in a line, with the id that it asks for, or the next one."""
    found = _find_id(said)
    fields = said[found.end() if found else 0 :].split(b"\t")
    fields += [b""] * (len(fields) % 2)
    at = last[0], last[1] + 1
    if found and at < (asked := (int(found[1]), int(found[2]))):
        # At the end of time the bus would be of no use any more.
        at = asked if asked[0] < 1 << 42 and asked[1] < 1 << 63 else at
    return at, fields


def _is_place(at: Id) -> bool:
    return at[0] < 1 << 43 and at[1] < 1 << 20


def _id_of(text: bytes) -> Id:
    at, _, number = text.partition(b"-")
    return int(at), int(number)


def _encoded(value: object) -> Iterator[bytes]:
    match value:
        case None:
            yield _NOTHING
        case int():
            yield b":%d\r\n" % value
        case bytes():
            yield b"$%d\r\n%b\r\n" % (len(value), value)
        case Exception():
            yield b"-ERR %b\r\n" % str(value).encode()
        case list():
            yield b"*%d\r\n" % len(value)
            for one in value:
                yield from _encoded(one)


def _commands(data: bytes) -> Iterator[list[bytes]]:
    """What a client of Redis has written."""
    at = 0

    def line() -> bytes:
        nonlocal at
        end = data.index(b"\r\n", at)
        found, at = data[at:end], end + 2
        return found

    while at < len(data):
        words = []
        for _ in range(int(line()[1:])):
            size = int(line()[1:])
            words.append(data[at : at + size])
            at += size + 2
        yield words


class World(MemoryReactorClock):
    """A reactor in which connections go to a `Redis` that answers at once."""

    def __init__(self, redis: Redis) -> None:
        super().__init__()
        self._redis = redis
        self._open: list[tuple[Any, StringTransport]] = []
        self._waiting: dict[StringTransport, tuple[float, list[bytes]]] = {}
        """Who waits for news of the bus, until when."""

    def settle(self, seconds: float = 0.0) -> None:
        """Let everything happen that does, and some time pass."""
        for _ in range(200):
            while self.tcpClients:
                protocol: Any = self.tcpClients.pop()[2].buildProtocol(None)
                transport = StringTransport()
                self._open.append((protocol, transport))
                protocol.makeConnection(transport)
            moved = False
            for protocol, transport in list(self._open):
                moved |= self._serve(protocol, transport)
            self.advance(0)
            if not moved and not self.tcpClients:
                if not seconds:
                    return
                self.advance(min(seconds, 0.5))
                seconds = max(0.0, seconds - 0.5)
        raise AssertionError("it never comes to rest")

    def _serve(self, protocol: Any, transport: StringTransport) -> bool:
        asked = [(self.seconds() + BLOCK_SECONDS, words) for words in _commands(transport.value())]
        transport.clear()
        if transport in self._waiting:
            asked.append(self._waiting.pop(transport))
        moved = False
        for until, words in asked:
            answer = self._redis.answer(words)
            if answer == _NOTHING and words[0] == b"XREAD" and self.seconds() < until:
                self._waiting[transport] = until, words
            elif not transport.disconnecting:
                moved = True
                protocol.dataReceived(answer)
        if transport.disconnecting:
            self._waiting.pop(transport, None)
            self._open.remove((protocol, transport))
            protocol.connectionLost(Failure(ConnectionLost()))
            moved = True
        return moved


def _redis() -> Check:
    folder = memory_folder()

    def check(data: bytes) -> None:
        redis = Redis(data)
        world = World(redis)
        world.advance(NOON)
        log = RedisLog("redis://192.0.2.1/0", reactor=world)
        log._now = world.seconds
        names = SharedNames(log.lease, tokens())
        room = Room(log, names, Turn(lambda work: world.callLater(0, work)))
        moderation = Moderation(folder, world.seconds)
        moderation.serve(room)
        shelf = FakeShelf()
        factory = ChatFactory(room, shelf, shelf, world)
        with capturedLogs() as logs:
            log.start()
            bob = join("bob", factory, world)
            redis.publish()
            world.settle(1)
            lines = bob.messages()
            if bob.transport.disconnecting:  # an order, perhaps, or news of bob's other server
                bob = join("bob", factory, world)
            else:
                assert said_by_ann(lines, "new") == redis.heard
            bob.send("<t:history><a:1><n:1000>", "<r:all><t:message_request><m:hi><q:3>")
            lines = []
            while "message_response" not in [one.response for one in lines]:
                assert world.seconds() < NOON + 100
                world.settle(1)
                lines += bob.messages()
            assert said_by_ann(lines, "old") == redis.remembered
            bob.send("<r:all><t:message_request><m:still here>")
            world.settle(1)
            assert "still here" in [one.text for one in bob.messages()]
            moderation.sanctions.flush()
        for event in logs:
            assert "log_failure" not in event, event

    return check


def said_by_ann(lines: Sequence[Message], when: str) -> list[str]:
    """What makes sense."""
    said = [one.text or "" for one in lines if one.sender == "ann"]
    return [text for text in said if text.startswith(f"{when} ")]


def join(name: str, factory: ChatFactory, world: World) -> Connection:
    """Come in, as soon as Redis answers as it should."""
    connection = Connection(factory)
    for _ in range(60):
        connection.send(f"<s:{name}><t:connect>")
        world.settle(1)
        if any(one.text == "True" for one in connection.messages()):
            return connection
    raise AssertionError(f"{name} cannot come in")


_OTHER = b"n\tother\ts\t1\tk\t"
_KINDS = [kind.value.encode() for kind in Kind]
_DATA = [
    *(b'["ann","all","hi",[],"aa"]', b'["ann","all","left",{},"aa"]'),
    *(b'["ann","bob","hi",["aa","bb"],"aa"]', b'["olga","bob","kick 0 spam",[],""]'),
    b'["olga","192.0.2.0/24","ban 60 spam",[],""]',
]
_BOBS = [Claim(parse_name("bob"), f"token-{number:0>16}").identity for number in (1, 2)]
"""Who bob may be, by the token that he got."""
_TO_BOB = json.dumps(["olga", "bob", "hi", _BOBS, ""]).encode()
_PERSON = b'p{"name":"ann","identity":"aa","proof":"p","node":"n","known":true}'

TARGETS = {
    "redis": Target(
        _redis,
        [
            *(b"b%b%b\td\t%b" % (_OTHER, kind, data) for kind in _KINDS for data in _DATA[:3]),
            *(b"b%border\td\t%b" % (_OTHER, data) for data in _DATA[3:]),
            *(b"b%b%b\td\t%b" % (_OTHER, kind, _TO_BOB) for kind in _KINDS),
            *(b"kd\t%b\nkg\t\nmd\t%b" % (data, data) for data in _DATA[:3]),
            b"f2-0\ne1-7\t1-9\n" + _PERSON,
            b"a5-1\nxNOSCRIPT No matching script\nxFENCED dead\nxEPOCH another",
            b"iredis_version:6.0.1\r\naof_enabled:0\nb@9-5\t" + _OTHER,
            b"b@9-1048576\t" + _OTHER,
        ],
        [
            *(b"\t", b"\n", b"\nb", b"\nk", b"\nm", b"\tk\t", b"\td\t", b"@6-1\t"),
            *(b"[", b"]", b'"', b"{}", b'","', b"null", b"\\ud800", b"1048576", b"8796093022208"),
            *(*_KINDS, *_DATA, _TO_BOB),
        ],
        1024,
    ),
}
"""What is fuzzed here."""
