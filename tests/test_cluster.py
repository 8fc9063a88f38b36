"""Several servers on one Redis are one room: names, presence, private messages, and crashes."""

from __future__ import annotations

import math
import random
import re
import shutil
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from chatbox.chat.wire import Message, parse_list, parse_request
from tests.helpers.crash import Server, Talker, check, drive, talk_through_kills
from tests.helpers.processes import patient
from tests.helpers.redis import MISSING, RedisServer, stored
from tests.helpers.server import free_port

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

SEED = 4

PATIENT = patient("twistd")


@contextmanager
def cluster(
    folder: Path, nodes: int, *options: str, program: Sequence[str] = PATIENT
) -> Iterator[tuple[RedisServer, list[Server]]]:
    """A Redis and some servers on it, not started."""
    redis = RedisServer(folder / "redis")
    redis.start()
    servers = [
        Server(
            folder / f"node{n}",
            free_port(socket.SOCK_STREAM),
            *("--log", redis.url, *options),
            program=program,
        )
        for n in range(nodes)
    ]
    try:
        yield redis, servers
    finally:
        for server in servers:
            server.kill()
        redis.kill()


class Person(Talker):
    """A talker who says nothing by itself, and remembers all lines."""

    def __init__(self, name: str, *places: int) -> None:
        super().__init__(name, places, quiet=True)
        self.lines: list[Message] = []

    def _hear(self, message: Message) -> None:
        self.lines.append(message)
        super()._hear(message)

    def ask(self, line: str) -> None:
        """Send a line."""
        self._send(parse_request(line.encode()))

    def answer(self, response: str, text: str | None = None) -> bool:
        """Whether such a line has come."""
        return any(m.response == response and text in (None, m.text) for m in self.lines)


def bring(*people: Person) -> None:
    """Connect these, and wait until they are in."""
    drive(people, lambda: all(p.token and not p.catching_up for p in people))


def leases(redis: RedisServer) -> set[bytes]:
    """What shows that a server is alive, for each that is."""
    return set(re.findall(rb"chatbox:node:\w+", redis.ask(b"KEYS chatbox:node:*\r\n")))


def test_one_room(tmp_path: Path) -> None:
    """Who is at one server is known at the others, and hears what is said there."""
    with cluster(tmp_path, 2) as (_, servers):
        for server in servers:
            server.start()
        ann, bob = (Person(n, s.port) for n, s in zip(("ann", "bob"), servers, strict=True))
        bring(ann)
        bring(bob)
        drive([ann, bob], lambda: any(m.sender == "bob" for m in ann.lines))
        for person in (ann, bob):
            person.ask("<t:get_user_list>")
        drive([ann, bob], lambda: ann.answer("user_list") and bob.answer("user_list"))
        for person in (ann, bob):
            [users] = [m.text for m in person.lines if m.response == "user_list"]
            assert sorted(parse_list(users or "")) == ["ann", "bob"]
        ann.ask("<r:BOB><t:message_request><m:psst><q:1>")
        drive([ann, bob], lambda: bob.answer("message_received", "psst"))
        drive([ann, bob], lambda: ann.answer("message_response", "True"))
        assert not ann.answer("message_received", "psst")
        # The name is taken everywhere; its owner may move, and the old connection hears so.
        thief = Person("Ann", servers[1].port)
        drive([thief], lambda: thief.answer("connect_response", "False"))
        again = Person("ann", servers[1].port)
        again.token = ann.token
        ann.retry_at = math.inf  # she does not fight back
        drive([ann, again], lambda: again.answer("connect_response", "True") and not ann.connection)
        assert any(m.error == "replaced" for m in ann.lines)
        again.ask("<t:disconnect>")
        drive([bob, again], lambda: any((m.sender, m.text) == ("ann", "left") for m in bob.lines))
        bob.ask("<r:ann><t:message_request><m:psst><q:2>")
        drive([bob], lambda: any(m.error == "no-such-user" for m in bob.lines))


def test_killed_while_people_talk(tmp_path: Path) -> None:
    """Servers and Redis die; everything acknowledged is there once, and all see one order."""
    rng = random.Random(SEED)
    with cluster(tmp_path, 3) as (redis, servers):

        def kill(number: int) -> None:
            if number == 2:
                redis.kill()
                redis.start()
            else:
                server = rng.choice(servers)
                server.kill()
                server.start()

        talkers = talk_through_kills(servers, people=9, kills=5, rng=rng, kill=kill)
        check(talkers, stored(redis.url))
        assert min(len(t.acknowledged) for t in talkers) > 3


def test_what_redis_has_lost(tmp_path: Path) -> None:
    """A Redis that comes back with less, as a replica may: people come again, and see a gap."""
    with cluster(tmp_path, 2) as (redis, servers):
        for server in servers:
            server.start()
        people = [Person(n, s.port) for n, s in zip(("ann", "bob"), servers, strict=True)]
        bring(*people)

        def say(text: str) -> None:
            people[0].ask(f"<r:all><t:message_request><m:{text}>")
            drive(people, lambda: all(text in [t for _, t in p.heard] for p in people))

        say("before")
        shutil.copytree(tmp_path / "redis", tmp_path / "replica")
        say("lost")
        redis.kill()
        shutil.rmtree(tmp_path / "redis")
        shutil.copytree(tmp_path / "replica", tmp_path / "redis")
        redis.start()
        drive(people, lambda: all(p.answer("gap") and p.cuts for p in people))
        bring(*people)
        say("after")
        for person in people:
            assert [text for _, text in person.heard] == ["before", "lost", "after"]
            news = [m.response for m in person.lines if m.response in ("message_received", "gap")]
            assert news == ["message_received"] * 2 + ["gap", "message_received"]


def test_dead_server(tmp_path: Path) -> None:
    """When a server dies or stands still, its people are announced as gone, once."""
    with cluster(tmp_path, 3) as (redis, servers):
        ann, bob, cat = (Person(n, s.port) for n, s in zip("abc", servers, strict=True))
        servers[0].start()
        bring(ann)
        living = leases(redis)
        for server in servers[1:]:
            server.start()
        bring(bob)
        bring(cat)
        servers[1].kill()
        servers[2].signal(signal.SIGSTOP)
        for lease in leases(redis) - living:  # as if they had been silent for too long
            redis.ask(b"DEL " + lease + b"\r\n")
        # Whoever wants such a name finds that out; else it is looked at every few seconds.
        new = [Person(name, servers[0].port) for name in "bc"]
        bring(*new)

        def news(name: str) -> list[str | None]:
            return [m.text for m in ann.lines if m.response == "presence" and m.sender == name]

        drive([ann, *new], lambda: len(news("b")) == len(news("c")) == 3)
        # Who was asleep knows that its names are gone as soon as somebody uses one, and says so.
        servers[2].signal(signal.SIGCONT)
        cat.ask("<r:all><t:message_request><m:hello?>")
        drive([cat], lambda: cat.answer("error"))
        ann.ask("<t:ping>")
        drive([ann], lambda: ann.answer("ping_response"))
        assert news("b") == news("c") == ["joined", "left", "joined"]
        assert not ann.answer("message_received")


def test_operators_of_one_room(tmp_path: Path) -> None:
    """An operator at one server puts out and bans somebody at another, and all of them heed it."""
    operators = tmp_path / "operators"
    operators.write_text("olga\n")
    with cluster(tmp_path, 2, "--operators", str(operators)) as (_, servers):
        for server in servers:
            server.start()
        olga, bob = Person("olga", servers[0].port), Person("bob", servers[1].port)
        ann = Person("ann", servers[1].port)
        bring(olga, bob, ann)
        olga.ask("<t:kick><r:bob><m:enough>")
        drive(
            [olga, ann, bob],
            lambda: (
                ann.answer("kicked", "enough")
                and ann.answer("presence", "left")
                and any(line.error == "kicked" for line in bob.lines)
            ),
        )
        olga.ask("<t:ban><r:bob><n:3600>")
        drive([olga, ann], lambda: olga.answer("ban_response", "True") and ann.answer("banned"))
        for server in servers:
            server.stop()
            assert '"bob"' in (server.folder / "chatbox" / "bans.json").read_text()
