"""The way to a Redis: where it is, how it is reached, and whether it keeps what it is given."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactor, MemoryReactorClock, StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from chatbox.log import connect, redis
from chatbox.log.fitness import warnings
from chatbox.log.place import Place, parse_place
from chatbox.log.redis import RedisLog
from tests.helpers.log import Heard


class PlaceTests(SynchronousTestCase):
    """Where a Redis is."""

    def test_places(self) -> None:
        """Host, port, database, user and password."""
        place = parse_place("redis://example.org")
        self.assertEqual(place, Place((("example.org", 6379),)))
        place = parse_place("rediss://ann:p%40ss@[::1]:7/3")
        self.assertEqual((place.hosts, place.database, place.tls), ((("::1", 7),), 3, True))
        self.assertEqual((place.username, place.password), ("ann", "p@ss"))
        self.assertEqual(parse_place("redis://:x@h").username, None)
        self.assertEqual(parse_place("redis://nopass@h").password, "")
        place = parse_place("redis+sentinel://:x@a,[::1]:7/my%20master/2")
        self.assertEqual(place.hosts, (("a", 26379), ("::1", 7)))
        self.assertEqual((place.service, place.database, place.tls), ("my master", 2, False))
        self.assertEqual((place.sentinel_username, place.sentinel_password), (None, None))
        place = parse_place(f"rediss+sentinel://a/m?ca={__file__}&sentinel-password=p%40%26")
        self.assertEqual((place.tls, place.ca, place.cert), (True, __file__, None))
        self.assertEqual((place.sentinel_username, place.sentinel_password), (None, "p@&"))
        place = parse_place("redis+sentinel://a/m?sentinel-user=ann&sentinel-password=x")
        self.assertEqual((place.sentinel_username, place.sentinel_password), ("ann", "x"))

    def test_nonsense(self) -> None:
        """What is no place is refused with an example."""
        for url in ("redis:", "redis://", "redis://h:x", "redis://h/a", "redis://h:0", "http://h"):
            self.assertIn("redis://HOST", str(self.assertRaises(ValueError, parse_place, url)), url)
        for url, why in {
            "redis+sentinel://h": "SERVICE",
            "redis://h?ca=x": "means nothing",
            "rediss://h?x=y": "means nothing",
            "rediss://h?ca": "means nothing",
            "redis+sentinel://h/m?ca=x": "means nothing",
            "rediss://h?sentinel-password=x": "means nothing",
            "redis+sentinel://h/m?sentinel-user=x": "needs a sentinel-password",
            f"rediss://h?cert={__file__}": "together",
            "rediss://h?ca=/nowhere/at/all": "cannot be read",
        }.items():
            self.assertIn(why, str(self.assertRaises(ValueError, parse_place, url)), url)


class PasswordTests(SynchronousTestCase):
    """Passwords that nobody sees in a list of processes."""

    def test_in_files(self) -> None:
        """The first line is the password; a file that is not there is named, and one too many."""
        secret = os.path.abspath(self.mktemp())
        with open(secret, "w", encoding="utf-8") as file:
            file.write("s3cret @\nnot this\n")
        place = parse_place(f"redis://chat@h?password-file={secret}")
        self.assertEqual((place.username, place.password), ("chat", "s3cret @"))
        place = parse_place(f"redis://h?password-file={secret}")
        self.assertEqual((place.username, place.password), (None, "s3cret @"))
        url = f"redis+sentinel://:x@h/m?sentinel-user=ann&sentinel-password-file={secret}"
        place = parse_place(url)
        self.assertEqual((place.password, place.sentinel_password), ("x", "s3cret @"))
        for wrong, why in {
            f"redis://:x@h?password-file={secret}": "exclude each other",
            f"{url}&sentinel-password=x": "exclude each other",
            f"redis://h?sentinel-password-file={secret}": "means nothing",
            "redis://h?password-file=/nowhere/at/all": "/nowhere/at/all cannot be read",
        }.items():
            self.assertIn(why, str(self.assertRaises(ValueError, parse_place, wrong)), wrong)


class WayTests(SynchronousTestCase):
    """The way to a Redis."""

    def fail_at(self, endpoint: Any, reactor: Any) -> None:
        """Try to connect, in vain."""
        d = endpoint.connect(Factory.forProtocol(Protocol))
        reactor.tcpClients[-1][2].clientConnectionFailed(None, Failure(ConnectError()))
        self.failureResultOf(d, ConnectError)

    def succeed_at(self, endpoint: Any, reactor: Any) -> None:
        """Connect."""
        d = endpoint.connect(Factory.forProtocol(Protocol))
        reactor.tcpClients[-1][2].buildProtocol(None).makeConnection(StringTransport())
        self.successResultOf(d)

    def test_why_it_cannot_be_reached(self) -> None:
        """It is told once for all that try, and that it is over; and not that we ended a try."""
        reactor: Any = MemoryReactor()
        endpoint = connect.endpoint_for(parse_place("redis://192.0.2.1/0"), reactor)
        with capturedLogs() as logs:
            for _ in range(2):
                self.fail_at(endpoint, reactor)
            d = endpoint.connect(Factory.forProtocol(Protocol))
            d.cancel()
            self.failureResultOf(d)
            for _ in range(2):
                self.succeed_at(endpoint, reactor)
        said = [formatEvent(event) for event in logs]
        where = "Redis at 192.0.2.1:6379"
        wrong = f"{where} cannot be reached: An error occurred while connecting."
        self.assertEqual(said, [wrong, f"{where} is reached again"])
        self.assertEqual(repr(endpoint), where)

    def test_no_line_for_each_attempt(self) -> None:
        """However long it cannot be reached, and by both connections, the log has one line."""
        reactor: Any = MemoryReactorClock()
        log = RedisLog("redis://192.0.2.1/0", reactor=reactor)
        log._now = reactor.seconds
        Heard(log)
        with capturedLogs() as logs:
            log.start()
            for _ in range(5):
                for client in reactor.tcpClients:
                    client[2].clientConnectionFailed(None, Failure(ConnectError()))
                reactor.tcpClients.clear()
                reactor.advance(2 * redis.MAX_RETRY_SECONDS)
            self.assertEqual(len(reactor.tcpClients), 2)
        [said] = [formatEvent(event) for event in logs]
        self.assertIn("Redis at 192.0.2.1:6379 cannot be reached", said)

    def test_why_a_master_cannot_be_reached(self) -> None:
        """It is told as well where the sentinels know who it is; and who stops asks no further."""
        reactor: Any = MemoryReactorClock()
        place = parse_place("redis+sentinel://192.0.2.2,192.0.2.3/room")
        endpoint: Any = connect.endpoint_for(place, reactor)

        async def ask(host: str, port: int) -> tuple[str, int]:
            return "192.0.2.1", 6379

        with capturedLogs() as logs:
            d = endpoint.connect(Factory.forProtocol(Protocol))
            d.cancel()
            self.failureResultOf(d)
            self.assertEqual(len(reactor.tcpClients), 1)
            endpoint._ask = ask
            for _ in range(2):
                self.fail_at(endpoint, reactor)
            self.succeed_at(endpoint, reactor)
        said = [formatEvent(event) for event in logs]
        where = "Redis at 192.0.2.1:6379"
        wrong = f"{where} cannot be reached: An error occurred while connecting."
        self.assertEqual(said, [wrong, f"{where} is reached again"])

    def test_no_line_for_each_question(self) -> None:
        """Sentinels are asked as often as Redis is tried; the log has nothing of that."""
        reactor: Any = MemoryReactorClock()
        endpoint = connect.endpoint_for(parse_place("redis+sentinel://192.0.2.2/room"), reactor)
        d = endpoint.connect(Factory.forProtocol(Protocol))
        with capturedLogs() as logs:
            factory = reactor.tcpClients[-1][2]
            factory.doStart()
            factory.doStop()
        self.assertEqual(logs, [])
        d.cancel()
        self.failureResultOf(d)

    def test_where_it_was_in_a_script(self) -> None:
        """That is left out of the reason: nobody can do anything with it."""
        where = f" script: {40 * 'a'}, on @user_script:27."
        with capturedLogs() as logs:
            connect.Complaint().about("Redis refuses messages", "NOREPLICAS Not enough." + where)
        said = [formatEvent(event) for event in logs]
        self.assertEqual(said, ["Redis refuses messages: NOREPLICAS Not enough."])

    def test_reasons_that_take_turns(self) -> None:
        """Each is told once until it is over, and no more than so many of them."""
        complaint = connect.Complaint()
        with capturedLogs() as logs:
            for _ in range(2):
                for _ in range(3):
                    complaint.about("no sentinel says where Redis is", "a")
                    complaint.about("Redis cannot be reached", "a")
                    complaint.about("Redis cannot be reached", "b")
                complaint.over("it is")
                complaint.over("it is")
            for number in range(2 * connect.MAX_REASONS):
                complaint.about("Redis cannot be reached", number)
        said = [formatEvent(event) for event in logs]
        once = [
            *("no sentinel says where Redis is: a", "Redis cannot be reached: a"),
            *("Redis cannot be reached: b", "it is"),
        ]
        self.assertEqual(said[:8], once * 2)
        self.assertEqual(len(said), 8 + connect.MAX_REASONS)

    def test_why_it_lets_nobody_in(self) -> None:
        """It is told once for both connections, and again when it had let us in."""
        place, complaint = parse_place("redis://192.0.2.1/0"), connect.Complaint()
        with capturedLogs() as logs:
            for _ in range(2):
                for _ in range(2):
                    way = connect.Connections(place, None, complaint, lambda connection: None)
                    way.connectionError("no")
                way._let_in(SimpleNamespace())
        said = [formatEvent(event) for event in logs]
        self.assertEqual(said, ["Redis does not let us in: no", "Redis lets us in again"] * 2)


class FitnessTests(SynchronousTestCase):
    """A Redis that does not keep what it is given is named."""

    def test_warnings(self) -> None:
        """An old one, one without a file of its own, and one that may forget."""
        fit = {"redis_version": "7.0.15", "aof_enabled": "1", "maxmemory": "0"}
        for facts, words in (
            ({}, []),
            ({"maxmemory": "9", "maxmemory_policy": "noeviction"}, []),
            ({"maxmemory_policy": "allkeys-lru"}, []),
            ({"redis_version": "6.0.16"}, ["6.2 or newer"]),
            ({"redis_version": "255.255.255"}, []),
            ({"aof_enabled": "0"}, ["appendonly is off"]),
            ({"maxmemory": "9", "maxmemory_policy": "allkeys-lru"}, ["set noeviction"]),
        ):
            info = "# Server\r\n" + "".join(f"{k}:{v}\r\n" for k, v in {**fit, **facts}.items())
            found = list(warnings(info.encode()))
            self.assertEqual(len(found), len(words), facts)
            for sentence, word in zip(found, words, strict=True):
                self.assertIn(word, sentence)
        self.assertEqual(list(warnings(b"")), [])
