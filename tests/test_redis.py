"""The log in Redis: it is a log, it is one for several nodes, and it survives what may happen."""

from __future__ import annotations

import atexit
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from twisted.application.internet import backoffPolicy
from twisted.internet.error import ConnectionDone
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from chatbox.log import Attempt, Kind, MessageLog, Record, bus, redis
from chatbox.log.keep import EVERYTHING, Keep
from chatbox.log.redis import RedisLog
from chatbox.log.streams import END_OF_TIME, id_of, place_of
from tests.helpers.log import Heard, presence, say, texts
from tests.helpers.processes import PATIENCE
from tests.helpers.redis import (
    MISSING,
    RedisServer,
    be_patient,
    open_redis,
    own_reactor,
    run_until,
)
from tests.test_log import FailingLogConformance

LAST_PART = (1 << 64) - 1
"""The largest number in an id of Redis."""
NO_PROOF = b"{'name':'x','identity':'x','node':'y'}"


class RedisTestCase(SynchronousTestCase):
    """A server for all tests of a class, and logs that are stopped after each.

    However slow the machine is, nothing is given up before the test says that time has passed.
    """

    server: ClassVar[RedisServer]

    @classmethod
    def start_server(cls) -> None:
        """Start the server of this class, if there is none. (Trial calls no `setUpClass`.)"""
        if MISSING:
            raise SkipTest(MISSING)
        if "server" not in vars(cls):
            folder = tempfile.mkdtemp(prefix="chatbox-redis-")
            cls.server = RedisServer(Path(folder))
            cls.server.start()
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            atexit.register(cls.server.kill)

    @classmethod
    def tearDownClass(cls) -> None:
        """End it early, where there is somebody who says when."""
        if "server" in vars(cls):
            cls.server.kill()

    def setUp(self) -> None:
        """Begin with an empty Redis, for a reactor of our own."""
        self.start_server()
        self.server.ask(b"FLUSHALL\r\n")
        be_patient(self.patch)
        # Of those who come back after a cut, each waits up to a second more than told.
        self.patch(redis, "backoffPolicy", partial(backoffPolicy, jitter=lambda: 0.0))
        self.reactor: Any = own_reactor()
        self.jumped = 0.0
        """How far the reactor's clock has been set forward, in seconds."""
        self.reactor.seconds = lambda: time.monotonic() + self.jumped
        self.logs: list[RedisLog] = []
        self.addCleanup(self.end)

    def make_redis_log(self, keep: Keep = EVERYTHING) -> RedisLog:
        """Make a log."""
        log = open_redis(self.server.url, self.reactor, keep)
        self.logs.append(log)
        return log

    def node(self, keep: Keep = EVERYTHING) -> tuple[RedisLog, Heard]:
        """Start a log, and wait until it is connected."""
        log = self.make_redis_log(keep)
        heard = Heard(log)
        log.start()
        self.run_until(lambda: log.connected)
        return log, heard

    def ask(self, log: RedisLog, after: int | None, reader: str = "") -> list[Record]:
        """What history says."""
        answers: list[Sequence[Record] | None] = []
        log.history(after, 100, reader, answers.append)
        self.run_until(lambda: answers)
        assert answers[0] is not None
        return list(answers[0])

    def hold(self, log: RedisLog) -> None:
        """Keep a log from its Redis."""
        for service in log._services:
            service.stopService()
        self.run_until(lambda: log._commands is None and not log._bus.epoch)

    def let_go(self, log: RedisLog) -> None:
        """Let it connect again."""
        for service in log._services:
            service.startService()

    def run_until(self, done: Any) -> None:
        """Let things happen until something is true."""
        run_until(self.reactor, done)

    def run_out_until(self, done: Callable[[], bool]) -> None:
        """The same, and whoever waits for an answer loses patience."""

        def hurried() -> bool:
            self.jumped += PATIENCE
            return done()

        self.run_until(hurried)

    def stop_logs(self) -> None:
        """Stop all logs."""
        stopped: list[int] = []
        for log in self.logs:
            if log._services and log._stopping is None:
                log.stop(lambda: stopped.append(1))
            else:
                stopped.append(1)
        self.run_until(lambda: len(stopped) == len(self.logs))
        self.logs.clear()

    def end(self) -> None:
        """Stop all logs, and the reactor."""
        self.stop_logs()
        for reader in self.reactor.removeAll():
            reader.connectionLost(Failure(ConnectionDone()))
        self.reactor._poller.close()


class RedisConformanceTests(RedisTestCase, FailingLogConformance):
    """The log in Redis is a log."""

    def setUp(self) -> None:
        """Start a log that nothing has been said in."""
        RedisTestCase.setUp(self)
        self.patch(redis, "MAIL_LENGTH", 200)
        FailingLogConformance.setUp(self)
        self.settle()

    def make_log(self, keep: Keep = EVERYTHING) -> MessageLog:
        """Make one, and let it begin with nothing."""
        self.stop_logs()
        self.server.ask(b"FLUSHALL\r\n")
        return self.make_redis_log(keep)

    def forget(self) -> None:
        """Do now what is done every few seconds."""
        self.settle()
        self.logs[-1]._forget()

    def break_log(self) -> None:
        """Let Redis have no memory left."""
        self.addCleanup(self.mend_log)
        self.server.ask(b"CONFIG SET maxmemory 1\r\n")

    def mend_log(self) -> None:
        """Let it have some."""
        self.server.ask(b"CONFIG SET maxmemory 0\r\n")

    def settle_stop(self, stopped: list[bool]) -> None:
        """Let it say goodbye."""
        self.run_until(lambda: stopped)

    def place(self, record: Record) -> int:
        """As it is after `let_pass`."""
        return record.id - place_of(b"%d" % (self.passed * 1000))

    def let_pass(self, seconds: float) -> None:
        """Let Redis, whose clock is its own, have everything since so much longer."""
        super().let_pass(seconds)
        self.server.let_pass(seconds)

    def settle(self) -> None:
        """Let them talk to the server."""
        for log in self.logs:
            if log._services and log._stopping is None:
                self.run_until(lambda one=log: one.connected)
            self.run_until(lambda one=log: not one.busy)


class NodesTests(RedisTestCase):
    """Several nodes are one room."""

    def test_one_order(self) -> None:
        """All nodes hear everything in the same order, whoever says it."""
        nodes = [self.node() for _ in range(3)]
        for turn in range(20):
            for number, (log, _) in enumerate(nodes):
                log.append([say(f"{number} {turn} a"), presence(f"{number} {turn} b")])
        self.run_until(lambda: all(len(heard.records) == 120 for _, heard in nodes))
        first, *others = [[(r.id, r.kind, r.text) for r in heard.records] for _, heard in nodes]
        for other in others:
            self.assertEqual(other, first)
        for number in range(3):
            own = [text for _, _, text in first if text.startswith(f"{number} ")]
            self.assertEqual(own, [f"{number} {turn} {x}" for turn in range(20) for x in "ab"])

    def test_attempt_at_another_node(self) -> None:
        """Who comes back at another node says nothing twice either."""
        (one, heard_one), (two, heard_two) = self.node(), self.node()
        attempt = Attempt("ann", b"x")
        one.append([say("a", attempt=attempt)])
        self.run_until(lambda: heard_one.records)
        two.append([say("a", attempt=attempt, origin="again")])
        self.run_until(lambda: not two.busy)
        self.assertEqual(
            [(r.text, r.repeated) for r in heard_two.records], [("a", False), ("a", True)]
        )
        self.assertEqual(heard_two.records[1].origin, "again")
        self.assertEqual(len({r.id for r in heard_two.records}), 1)

    def test_a_new_node_hears_what_is_new(self) -> None:
        """What was said before it came is history, and it has that."""
        one, heard_one = self.node()
        one.append([say("old")])
        self.run_until(lambda: heard_one.records)
        two, heard_two = self.node()
        one.append([say("new")])
        self.run_until(lambda: heard_two.records)
        self.assertEqual(texts(heard_two.records), ["new"])
        answers: list[Any] = []
        two.history(0, 9, "", answers.append)
        self.run_until(lambda: answers)
        self.assertEqual(texts(answers[0]), ["old", "new"])

    def test_what_waits_goes_first(self) -> None:
        """What the subscriber appends at the first word of the bus comes after what waits."""
        other, _ = self.node()
        other.lease.claim("bob", {"name": "bob", "identity": "b", "proof": "p"}, bool, print)
        self.run_until(lambda: self.server.ask(b"HLEN chatbox:people\r\n") == b":1\r\n")
        log = self.make_redis_log()
        heard: list[Record] = []

        def hear(records: Sequence[Record]) -> None:
            if not heard:
                log.append([say("second")])
            heard.extend(records)

        log.subscribe(hear, lambda entries: None)
        log.start()
        log.append([say("first")])
        self.run_until(lambda: log.connected and not log.busy)
        self.assertEqual((heard[0].kind, heard[0].sender), (Kind.HERE, "bob"))
        self.assertEqual([r.text for r in heard if r.kind is Kind.MESSAGE], ["first", "second"])


class StrangerTests(RedisTestCase):
    """Others write into the same Redis, and what they write makes no sense."""

    def tell(self, *commands: bytes) -> None:
        """Have Redis do something that it can do."""
        for command in commands:
            self.assertIn(self.server.ask(command + b"\r\n")[:1], (b"+", b":", b"$"), command)

    def test_on_the_bus_and_in_the_history(self) -> None:
        """What makes sense is heard and remembered, whatever stands around it; in the history a
        mark is in its place.
        """
        log, heard = self.node()
        odd = [b"[1]", b"[", b'["a","all","x",{"a":1},""]', b"[[],1,2,3,4]"]
        for number, data in enumerate(odd):
            self.tell(b"XADD chatbox:kept 1-%d d '%b'" % (number + 1, data))
        for number, data in enumerate(odd):
            self.tell(b"XADD chatbox:log * n other s 1 k message d '%b'" % data)
            log.append([say(str(number))])
        self.tell(b"XADD chatbox:log * odd odd")
        log.append([say("last")])
        self.run_until(lambda: not log.busy)
        said = ["0", "1", "2", "3", "last"]
        self.assertEqual(texts(heard.records), said)
        marks = [""] * len(odd)
        self.assertEqual(texts(self.ask(log, 0)), marks + said)
        self.tell(b"SET chatbox:from odd")
        self.assertEqual(texts(self.ask(log, 1)), marks + said)

    def test_no_place(self) -> None:
        """An id that is beyond all places is passed over; a place follows it."""
        log, heard = self.node()
        at = int(time.time() * 1000) + 60_000
        self.tell(b"XADD chatbox:log %d-1048576 k message d []" % at)
        self.tell(
            b'XADD chatbox:log %d-0 n other s 1 k message d \'["a","all","b",[],""]\'' % (at + 1)
        )
        self.run_until(lambda: heard.records)
        log.append([say("a")])
        self.run_until(lambda: not log.busy)
        self.assertEqual(texts(heard.records), ["b", "a"])
        self.assertEqual(heard.failed, [])

    def test_starts_beyond_all_places(self) -> None:
        """What nothing could follow any more is removed, and told of; what was before it stays."""
        said = b'["a","all","before",[],""]'
        for end in (b"%d-0" % END_OF_TIME, b"%d-%d" % (LAST_PART, LAST_PART)):
            self.tell(b"FLUSHALL", b"XADD chatbox:kept 5-0 d '%b'" % said)
            if end[-1:] == b"0":  # else there is nothing before it
                self.tell(b"XADD chatbox:log 5-0 n other s 1 k message d '%b'" % said)
            for key in (b"log", b"kept"):
                self.tell(b"XADD chatbox:%b %b odd odd" % (key, end))
            with capturedLogs() as logs:
                log, heard = self.node()
            told = [formatEvent(event) for event in logs if event["log_level"] is LogLevel.error]
            self.assertEqual(len(told), 1, told)
            self.assertIn("removed from the log (2)", told[0])
            log.append([say("after")])
            self.run_until(lambda: not log.busy)  # noqa: B023  # it is this one
            self.assertEqual((texts(heard.records), heard.failed), (["after"], []))
            self.assertEqual(texts(self.ask(log, 1)), ["before", "after"])
            self.stop_logs()

    def test_comes_beyond_all_places(self) -> None:
        """Servers that run, and have read what nothing can follow, go on as well."""
        self.patch(bus, "BLOCK_SECONDS", 0.1)
        end = b"%d-0" % END_OF_TIME
        nodes = [self.node() for _ in range(2)]
        nodes[0][0].append([say("1")])
        self.run_until(lambda: all(heard.records for _, heard in nodes))
        self.tell(b"XADD chatbox:log %b odd odd" % end)
        nodes[1][0].append([say("2")])
        self.run_until(lambda: all(len(heard.records) == 2 for _, heard in nodes))
        nodes[0][0].append([say("3")])
        self.run_until(lambda: all(len(heard.records) == 3 for _, heard in nodes))
        for log, heard in nodes:
            self.assertEqual((texts(heard.records), heard.failed), (["1", "2", "3"], []))
            self.assertEqual(texts(self.ask(log, 0)), ["1", "2", "3"])

    def test_nothing_is_said_beyond_all_places(self) -> None:
        """What can have no place is not kept either, where nobody could read what follows."""
        log, heard = self.node()
        at = time.time() * 1000 + 3_600_000
        self.tell(b"XADD chatbox:log %d-%d odd odd" % (at, 1 << 20))
        log.append([say("a"), say("b")])
        self.run_until(lambda: not log.busy)
        self.assertEqual((texts(heard.records), heard.failed), (["a", "b"], []))
        self.assertEqual(texts(self.ask(log, 0)), ["a", "b"])

    def test_among_the_people(self) -> None:
        """Nobody is who makes no sense: names are given, and dead nodes are buried."""
        odd = (b"{", b"[]", b"5", b"{'node':'dead'}", b"{'node':1}", NO_PROOF)
        for number, text in enumerate(odd):
            text = text.replace(b"'", b'\\"')
            self.tell(b'HSET chatbox:people %d "%b"' % (number, text))
        log, heard = self.node()
        person = rb"{\"name\":\"eve\",\"identity\":\"e\",\"proof\":\"p\",\"node\":\"dead\"}"
        self.tell(b'HSET chatbox:people eve "%b"' % person, b"SADD chatbox:nodes dead")

        def buried() -> bool:
            log.lease.renew()  # the first may have been before
            return bool(heard.records)

        self.run_until(buried)
        self.assertEqual([(one.sender, one.text) for one in heard.records], [("eve", "left")])
        self.assertNotIn("x", [one.sender for one in heard.silent])
        self.assertEqual(self.server.ask(b"SISMEMBER chatbox:nodes dead\r\n"), b":0\r\n")
        answers: list[str] = []
        for number in range(len(odd)):
            holder = {"name": "bob", "identity": "b", "proof": "p"}
            log.lease.claim(str(number), holder, bool, lambda outcome, _: answers.append(outcome))
        self.run_until(lambda: len(answers) == len(odd))
        self.assertEqual(answers, ["new"] * len(odd))

    def test_among_the_attempts(self) -> None:
        """A message that was said at no place was not said."""
        log, heard = self.node()
        for number, place in enumerate((b"odd", b"1-", b"x 1")):
            attempt = Attempt("ann", b"x%d" % number)
            self.tell(b"HSET chatbox:said:ann %b '%b via'" % (attempt.mark.hex().encode(), place))
            log.append([say(str(number), attempt=attempt)])
        self.run_until(lambda: not log.busy)
        self.assertEqual(texts(heard.records), ["0", "1", "2"])
        attempt = Attempt("ann", b"far")
        place = b"99999999999999999999-1"
        self.tell(b"HSET chatbox:said:ann %b '%b via'" % (attempt.mark.hex().encode(), place))
        log.append([say("far", attempt=attempt)])
        self.run_until(lambda: not log.busy)
        self.assertEqual(texts(heard.records), ["0", "1", "2"])
        self.assertEqual([entry.text for entry in heard.failed], ["far"])


class FaultTests(RedisTestCase):
    """Redis and the way to it fail."""

    def setUp(self) -> None:
        """Have a server for this test alone."""
        self.start_server()
        self.server.kill()
        self.server.start()
        super().setUp()

    def test_killed(self) -> None:
        """Redis dies and comes back: what was appended meanwhile is there, once and in order."""
        nodes = [self.node() for _ in range(2)]
        (one, heard), (two, _) = nodes
        one.append([say("0")])
        self.run_until(lambda: not one.busy)
        for turn in range(1, 4):
            one.append([say(f"{turn} a")])
            two.append([say(f"{turn} b")])
            self.reactor.iterate(0.001)
            self.server.kill()
            one.append([say(f"{turn} c")])
            self.reactor.iterate(0.001)
            self.server.start()
            self.run_until(lambda: not one.busy and not two.busy)
        self.run_until(lambda: all(len(heard.records) >= 10 for _, heard in nodes))
        for _, heard in nodes:
            self.assertEqual(len(heard.records), 10)
            self.assertEqual(heard.failed, [])
            said = [r.text for r in heard.records]
            self.assertEqual(
                [t for t in said if "b" not in t],
                ["0"] + [f"{t} {x}" for t in (1, 2, 3) for x in "ac"],
            )
        self.assertEqual(nodes[0][1].records[-1].id, nodes[1][1].records[-1].id)

    def test_connections_cut(self) -> None:
        """Connections that break at any moment, in the middle of answers too, lose nothing."""
        one, heard = self.node()
        for turn in range(30):
            one.append([say(f"{turn}"), say("x" * 4000)])
            for _ in range(turn % 4):
                self.reactor.iterate(0.0005)
            self.server.ask(b"CLIENT KILL TYPE normal SKIPME yes\r\n")
        self.run_until(lambda: not one.busy)
        self.assertEqual(
            [t for t in texts(heard.records) or () if t[0] != "x"], [str(n) for n in range(30)]
        )
        self.assertEqual(heard.failed, [])

    def test_stopped_for_a_while(self) -> None:
        """A Redis that stands still is given up for dead, and found again when it goes on."""
        one, heard = self.node()
        self.server.signal(signal.SIGSTOP)
        one.append([say("a")])
        try:
            self.run_out_until(lambda: one._commands is None)
        finally:
            self.server.signal(signal.SIGCONT)
        self.run_until(lambda: not one.busy)
        self.assertEqual((texts(heard.records), heard.failed), (["a"], []))

    def test_gone_for_too_long(self) -> None:
        """What cannot be appended in time has failed, and what comes later is well again."""
        one, heard = self.node()
        self.server.kill()
        one.append([say("a")])
        one._pending.hurry(one._now() + 0.1)
        self.run_until(lambda: heard.failed)
        self.assertEqual([entry.text for entry in heard.failed], ["a"])
        answers: list[Any] = []
        one.history(0, 9, "", answers.append)
        self.assertEqual(answers, [None])
        self.server.start()
        one.append([say("b")])
        self.run_until(lambda: not one.busy)
        self.assertEqual(texts(heard.records), ["b"])

    def test_everything_lost(self) -> None:
        """If Redis forgets all it had, people see a gap, and what is said then reaches them."""
        (one, heard_one), (_, heard_two) = self.node(), self.node()
        one.append([say("a")])
        self.run_until(lambda: heard_one.records and heard_two.records)
        [a] = heard_one.records
        lost: list[int] = []
        one.on_lost = lambda: lost.append(1)
        self.server.ask(b"FLUSHALL\r\n")
        one.append([say("refused")])  # before anybody has noticed
        self.run_until(lambda: not one.busy and one.connected and lost)
        self.assertEqual([entry.text for entry in heard_one.failed], ["refused"])
        one.append([say("b")])
        self.run_until(lambda: len(heard_two.records) == 3 and len(heard_one.records) == 3)
        for heard in (heard_one, heard_two):
            kinds = [(r.kind, r.text) for r in heard.records]
            self.assertEqual(kinds, [(Kind.MESSAGE, "a"), (Kind.GAP, ""), (Kind.MESSAGE, "b")])
        # Who comes back later learns it as well, here or at a server that starts afterwards.
        for log in (one, self.node()[0]):
            found = self.ask(log, a.id)
            self.assertEqual([r.kind for r in found], [Kind.GAP, Kind.MESSAGE])
            self.assertEqual([r.text for r in self.ask(log, 0)], ["b"])

    def test_a_little_lost(self) -> None:
        """A Redis that comes back without the last messages: a mark stands where they were."""
        (one, heard_one), (two, heard_two) = self.node(), self.node()
        for text in "abcd":
            one.append([say(text)])
            self.run_until(lambda: not one.busy)
        self.run_until(lambda: len(heard_two.records) == 4)
        a, b = heard_one.records[:2]
        last = heard_one.records[-1].id
        # As if what came after b had not reached the disk, and the clock were behind.
        for stream in ("log", "kept"):
            for record in heard_one.records[2:]:
                self.server.ask(f"XDEL chatbox:{stream} {id_of(record.id)}\r\n".encode())
        self.server.ask(b"CLIENT KILL TYPE normal SKIPME yes\r\n")
        self.run_until(lambda: not one.connected)
        self.run_until(lambda: one.connected and two.connected)
        two.append([say("e")])
        self.run_until(lambda: heard_one.records[-1].text == "e" == heard_two.records[-1].text)
        for heard in (heard_one, heard_two):
            self.assertEqual([r.text for r in heard.records], ["a", "b", "c", "d", "", "e"])
            self.assertEqual(heard.records[4].kind, Kind.GAP)
            self.assertGreater(heard.records[4].id, last)
        self.assertEqual([r.text for r in self.ask(one, a.id)], ["b", "", "e"])
        self.assertEqual([r.text for r in self.ask(one, last)], ["", "e"])
        self.assertEqual(self.ask(one, b.id)[0].kind, Kind.GAP)

    def test_a_node_that_was_away_for_too_long(self) -> None:
        """What the bus has forgotten meanwhile is missing for this node, and it says so."""
        (one, heard_one), (two, heard_two) = self.node(), self.node()
        one.append([say("a")])
        self.run_until(lambda: heard_two.records)
        self.hold(two)
        for text in "bcd":
            one.append([say(text)])
            self.run_until(lambda: not one.busy)
        self.server.ask(b"XTRIM chatbox:log MAXLEN 1\r\n")
        self.let_go(two)
        self.run_until(lambda: len(heard_two.records) == 3)
        self.assertEqual([r.text for r in heard_two.records], ["a", "", "d"])
        gap = heard_two.records[1]
        self.assertEqual(gap.kind, Kind.GAP)
        c, d = heard_one.records[2:]
        self.assertTrue(c.id <= gap.id < d.id)
