"""What may happen between a server and its Redis: stalls, breaks, clocks, TLS, another master."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twisted.logger import LogEvent, capturedLogs, formatEvent, globalLogPublisher

from chatbox.log import Attempt, Kind, bus, redis
from chatbox.log.keep import EVERYTHING, Keep
from chatbox.log.redis import RedisLog
from chatbox.steady import keep_steady
from tests.helpers.faults import Proxy
from tests.helpers.log import Heard, say, texts
from tests.helpers.processes import PATIENCE
from tests.helpers.redis import RedisServer, open_redis
from tests.test_redis import RedisTestCase

SEED = 7


class ProxyTestCase(RedisTestCase):
    """Logs behind a proxy."""

    def setUp(self) -> None:
        """Make a way that can fail, and have Redis answer soon that there is no news."""
        super().setUp()
        self.patch(bus, "BLOCK_SECONDS", 0.05)
        self.patch(redis, "MAX_RETRY_SECONDS", 0.1)
        self.proxy = Proxy(self.reactor, self.server.port)
        self.addCleanup(self.proxy.close)

    def behind(self) -> tuple[RedisLog, Heard]:
        """Start a log whose Redis is behind the proxy."""
        log = open_redis(f"redis://127.0.0.1:{self.proxy.port}/0", self.reactor)
        self.logs.append(log)
        heard = Heard(log)
        log.start()
        self.run_until(lambda: log.connected)
        return log, heard


class ProxyTests(ProxyTestCase):
    """The way to Redis fails."""

    def test_cut_in_the_middle_of_a_reply(self) -> None:
        """Wherever a reply is cut off, everything is said once, in order."""
        rng = random.Random(SEED)
        log, heard = self.behind()
        for turn in range(40):
            self.proxy.cut_after(rng.randrange(1, 10_000))
            log.append([say(f"{turn} a"), say("x" * rng.randrange(4000))])
            before = self.proxy.cuts
            self.run_until(lambda before=before: self.proxy.cuts > before or not log.busy)
            log.append([say(f"{turn} b")])
        self.run_until(lambda: log.connected and not log.busy)
        self.assertGreater(self.proxy.cuts, 10)
        expected = [f"{turn} {letter}" for turn in range(40) for letter in "ab"]
        said = texts(heard.records) or []
        self.assertEqual([text for text in said if text.strip("x")], expected, f"seed {SEED}")
        self.assertEqual((len(said), heard.failed), (120, []))

    def test_slow_answers(self) -> None:
        """A Redis that does not answer in time is left, and what it did meanwhile counts once."""
        log, heard = self.behind()
        for turn in range(3):
            self.proxy.stalled = True
            log.append([say(str(turn))])
            self.run_out_until(lambda: log._commands is None and not log._bus.epoch)
            self.proxy.go_on()
            self.run_until(lambda: log.connected and not log.busy)
        self.assertEqual((texts(heard.records), heard.failed), (["0", "1", "2"], []))

    def test_a_name_whose_answer_is_lost(self) -> None:
        """A name that Redis gave to nobody, as the connection broke, is free again."""
        log, _ = self.behind()
        outcomes: list[str] = []
        self.proxy.stalled = True
        log.lease.claim("bob", HOLDER, lambda: False, lambda outcome, _: outcomes.append(outcome))
        self.run_until(lambda: self.server.ask(b"HLEN chatbox:people\r\n") == b":1\r\n")
        self.run_out_until(lambda: bool(outcomes))
        self.assertEqual(outcomes, ["unavailable"])
        self.proxy.go_on()
        self.run_until(lambda: self.server.ask(b"HLEN chatbox:people\r\n") == b":0\r\n")

    def test_a_farewell_while_redis_is_away(self) -> None:
        """A name that is let go of meanwhile is free when Redis is back."""
        log, _ = self.behind()
        outcomes: list[str] = []
        log.lease.claim("bob", HOLDER, bool, lambda outcome, _: outcomes.append(outcome))
        self.run_until(lambda: outcomes)
        self.proxy.stalled = True
        log.lease.release("bob", HOLDER["proof"], lambda: False)
        self.run_out_until(lambda: log._commands is None)
        self.proxy.go_on()
        self.run_until(lambda: self.server.ask(b"HLEN chatbox:people\r\n") == b":0\r\n")

    def test_redis_stands_still(self) -> None:
        """SIGSTOP: Redis is given up for dead, and found again when it goes on."""
        log, heard = self.behind()
        self.server.signal(signal.SIGSTOP)
        log.append([say("a")])
        try:
            self.run_out_until(lambda: log._commands is None and not log._bus.epoch)
            turns = iter(range(20))  # nor does it answer who comes back meanwhile
            self.run_out_until(lambda: next(turns, None) is None)
        finally:
            self.server.signal(signal.SIGCONT)
        self.run_until(lambda: log.connected and not log.busy)
        self.assertEqual((texts(heard.records), heard.failed), (["a"], []))


class RefusalTests(ProxyTestCase):
    """Redis is there, and takes nothing."""

    def test_a_master_without_replicas(self) -> None:
        """What is said waits, the operator is told, and it is tried by new connections: another
        Redis may be the master by now."""
        log, heard = self.node()
        first = log._commands
        self.addCleanup(self.server.ask, b"CONFIG SET min-replicas-to-write 0\r\n")
        self.server.ask(b"CONFIG SET min-replicas-to-write 1\r\n")
        with capturedLogs() as logs:
            log.append([say("a")])
            self.run_until(lambda: log._commands not in (None, first))
            second = log._commands
            self.run_until(lambda: log._commands not in (None, second))
            self.server.ask(b"CONFIG SET min-replicas-to-write 0\r\n")
            self.run_until(lambda: log.connected and not log.busy)
        self.assertEqual((texts(heard.records), heard.failed), (["a"], []))
        told = [str(formatEvent(event)) for event in logs if "what" in event]
        of_messages = [sentence for sentence in told if "messages" in sentence]
        self.assertIn("Redis refuses messages: NOREPLICAS", of_messages[0])
        self.assertEqual(of_messages[1:], ["Redis takes messages again"])
        self.assertEqual(len(told), len(set(told)))
        self.assertNotIn("let us in", "".join(told), "nobody complains of what we have ended")

    def test_nobody_speaks(self) -> None:
        """That Redis takes messages again is told though nobody says anything, and so is that the
        bus is read."""
        log, _ = self.node()
        self.addCleanup(self.server.ask, b"CONFIG SET min-replicas-to-write 0\r\n")
        self.server.ask(b"CONFIG SET min-replicas-to-write 1\r\n")
        with capturedLogs() as logs:
            log.lease.renew()
            self.run_until(lambda: log._refusals._told and log._bus._refusals._told)
            self.server.ask(b"CONFIG SET min-replicas-to-write 0\r\n")
            self.run_until(lambda: not (log._refusals._told or log._bus._refusals._told))
        told = [str(formatEvent(event)) for event in logs if "what" in event]
        self.assertEqual(len(told), len(set(told)))
        self.assertLessEqual({"Redis takes messages again", "the bus is read again"}, {*told})

    def test_refused_alone(self) -> None:
        """Where messages alone are refused, only a message that is taken ends that."""
        log, _ = self.node()
        log._complain("NOPERM this user has no permissions to run the 'xadd' command")
        log._renewed()
        self.assertTrue(log._refusals._told)
        log.append([say("a")])
        self.run_until(lambda: not log._refusals._told)
        log._complain("OOM command not allowed when used memory > 'maxmemory'.")
        log._renewed()
        self.assertFalse(log._refusals._told)


HOLDER = {"name": "bob", "identity": "b", "proof": "p"}


class LeaseTests(ProxyTestCase):
    """A node is alive as long as it says so. Its own clock passes when the test says so."""

    def setUp(self) -> None:
        """Look at the lease often. It ends late enough for Redis, whose clock is the real one."""
        super().setUp()
        self.patch(redis, "TICK_SECONDS", 0.1)
        self.passed = 0.0
        self.patch(redis, "steady_seconds", lambda: time.monotonic() + self.passed)

    def left(self, log: RedisLog) -> float:
        """For how many seconds Redis takes a node for alive, if it says nothing more."""
        return int(self.server.ask(f"TTL chatbox:node:{log.lease.node}\r\n".encode())[1:])

    def alive(self, log: RedisLog) -> bool:
        """Whether Redis takes a node for alive."""
        return self.alive_as(log.lease.node)

    def alive_as(self, node: str) -> bool:
        """Whether Redis takes a node of this name for alive."""
        return self.server.ask(f"EXISTS chatbox:node:{node}\r\n".encode()) == b":1\r\n"

    def let_pass(self, log: RedisLog, seconds: float) -> None:
        """Let time pass for a node and its Redis."""
        self.passed += seconds
        left = round(self.left(log) - seconds)
        self.server.ask(f"EXPIRE chatbox:node:{log.lease.node} {left}\r\n".encode())

    def test_kept(self) -> None:
        """It is renewed in time."""
        log, _ = self.behind()
        node = log.lease.node
        self.let_pass(log, 4 * PATIENCE)
        self.assertLess(self.left(log), 7 * PATIENCE)
        self.run_until(lambda: self.left(log) > 7 * PATIENCE)
        self.assertEqual((log.lease.node, log.lease.held), (node, True))

    def test_cut_off(self) -> None:
        """Who cannot renew lets go before the others may give its names away."""
        log, _ = self.behind()
        lost: list[bool] = []
        log.on_lost = lambda: lost.append(self.alive_as(node))
        node = log.lease.node
        self.proxy.stalled = True
        self.let_pass(log, 8.5 * PATIENCE)
        self.run_until(lambda: lost)
        self.assertEqual(lost, [True])
        self.assertNotEqual(log.lease.node, node)
        self.proxy.go_on()
        self.run_until(lambda: log.connected and self.alive(log))

    def test_fenced(self) -> None:
        """A node whose lease has ended says nothing more for its people."""
        log, heard = self.behind()
        lost: list[int] = []
        log.on_lost = lambda: lost.append(len(heard.failed))
        self.server.ask(f"DEL chatbox:node:{log.lease.node}\r\n".encode())
        log.append([say("from the grave")])
        self.run_until(lambda: heard.failed)
        self.assertEqual((lost, texts(heard.records)), ([0], []))
        self.run_until(lambda: log.connected)
        log.append([say("alive")])
        self.run_until(lambda: not log.busy)
        self.assertEqual(texts(heard.records), ["alive"])

    def test_a_machine_that_slept(self) -> None:
        """The clock that counts goes on in sleep: who wakes up too late knows it."""
        log, _ = self.behind()
        lost: list[int] = []
        log.on_lost = lambda: lost.append(1)
        self.passed = 20 * PATIENCE
        self.run_until(lambda: lost)
        self.run_until(lambda: log.connected)

    def test_the_clock_is_set(self) -> None:
        """The clock of the machine jumps by an hour: nobody loses a name, a message or a lease."""
        self.reactor.seconds = lambda: time.time() + self.jumped
        keep_steady(self.reactor)  # as the server does
        log, heard = self.behind()
        log.on_lost = lambda: self.fail("the lease is lost")
        for jump in (3600.0, -3600.0, -7200.0, 0.0):
            log.append([say(str(jump))])
            self.jumped = jump
            self.run_until(lambda: log.connected and not log.busy)
            self.let_pass(log, 4 * PATIENCE)
            self.run_until(lambda: self.left(log) > 7 * PATIENCE)
        self.assertEqual(texts(heard.records), ["3600.0", "-3600.0", "-7200.0", "0.0"])
        self.assertEqual(heard.failed, [])

    def claim(self, log: RedisLog) -> None:
        """Have a log hold bob's name."""
        outcomes: list[str] = []
        log.lease.claim("bob", HOLDER, bool, lambda outcome, _: outcomes.append(outcome))
        self.run_until(lambda: outcomes)

    def test_an_end(self) -> None:
        """A node that stops gives back the names of those who have left, at once."""
        for leaves in (True, False):
            log, _ = self.behind()
            self.claim(log)
            node, stopped = log.lease.node, list[bool]()
            if leaves:
                log.lease.release("bob", HOLDER["proof"], lambda: False)
            log.stop(partial(stopped.append, True))
            self.run_until(partial(len, stopped))
            self.assertEqual(self.alive_as(node), not leaves)
            names = self.server.ask(b"HLEN chatbox:people\r\n")
            self.assertEqual(names, b":0\r\n" if leaves else b":1\r\n")


class ForgetTests(RedisTestCase):
    """What is too old or too much goes."""

    def test_letters_stay(self) -> None:
        """Letters that outlive what everybody could read come before its mark, and none is lost."""
        log, heard = self.node(Keep(count=10))
        log.append([say(f"letter {n}", "ann") for n in range(3)])
        log.append([say(str(n)) for n in range(500)])
        self.run_until(lambda: not log.busy)
        found = self.ask(log, heard.records[0].id, "ann")
        self.assertEqual(texts(found[:3]), ["letter 1", "letter 2", ""])
        self.assertEqual(found[2].kind, Kind.GAP)
        left = range(int(found[3].text), 500)
        self.assertEqual(texts(found[3:]), [str(n) for n in left][: 100 - 3])

    def test_a_limit_that_is_lifted(self) -> None:
        """A mailbox that was to go with its age stays, when nothing is to go any more."""
        for keep, ends in ((Keep(age=60), True), (EVERYTHING, False)):
            log, _ = self.node(keep)
            log.append([say("private", "ann")])
            self.run_until(partial(self.idle, log))
            for key in (b"mail", b"ends"):
                left = self.server.ask(b"TTL chatbox:%s:ann\r\n" % key)
                self.assertEqual(left != b":-1\r\n", ends)

    def idle(self, log: RedisLog) -> bool:
        """Whether a log has no more to do."""
        return not log.busy


class SentinelTests(RedisTestCase):
    """Sentinels say which Redis it is."""

    def setUp(self) -> None:
        """Start a master, its replica, and a sentinel that wants a password."""
        super().setUp()
        at = Path(self.mktemp()).absolute()
        soon = ("--repl-diskless-sync-delay", "0")
        self.one, self.two, sentinel = (
            RedisServer(at / name, *soon) for name in ("one", "two", "sentinel")
        )
        for server in (self.one, self.two, sentinel):
            self.addCleanup(server.kill)
        self.one.start()
        self.two.start()
        self.two.ask(f"REPLICAOF 127.0.0.1 {self.one.port}\r\n".encode())
        self.run_until(lambda: b"state=online" in self.one.ask(b"INFO replication\r\n"))
        (at / "sentinel.conf").write_text(
            f"port {sentinel.port}\nbind 127.0.0.1\ndir {at}\n"
            f"sentinel monitor room 127.0.0.1 {self.one.port} 1\n"
            f"sentinel down-after-milliseconds room {PATIENCE * 1000:.0f}\n"
            f"sentinel failover-timeout room {PATIENCE * 1000:.0f}\n"
        )
        sentinel.command = ["redis-server", str(at / "sentinel.conf"), "--sentinel"]
        sentinel.start()
        # Else it looks every ten seconds, makes a former master a replica after eight, and does
        # nothing for half a minute when it had no time for two seconds.
        sentinel.ask(b"SENTINEL DEBUG INFO-PERIOD 100 PUBLISH-PERIOD 100 TILT-TRIGGER 120000\r\n")
        fit = b"master-link-status\r\n$2\r\nok"
        self.run_until(lambda: fit in sentinel.ask(b"SENTINEL replicas room\r\n"))
        sentinel.ask(b"ACL SETUSER watch on >secret +@all\r\n")
        sentinel.ask(b"ACL SETUSER default off\r\n")
        self.sentinel = sentinel
        nobody = self.server.port  # a Redis that is no sentinel is passed over
        self.url = f"redis+sentinel://127.0.0.1:{nobody},127.0.0.1:{sentinel.port}/room/0"

    def begin(self, password: str) -> tuple[RedisLog, Heard]:
        """Start a log that asks the sentinel."""
        return self.begin_at(f"{self.url}?sentinel-user=watch&sentinel-password={password}")

    def begin_at(self, url: str) -> tuple[RedisLog, Heard]:
        """Start a log that goes by this URL."""
        log = open_redis(url, self.reactor)
        self.logs.append(log)
        heard = Heard(log)
        log.start()
        return log, heard

    def fail_over(self) -> None:
        """Have the sentinel make the replica the master.

        It is asked again if it took the replica for unfit, having heard nothing of it for a moment.
        """

        def is_done() -> bool:
            known = self.ask_sentinel(b"SENTINEL MASTER room")
            if b"role:master" in self.two.ask(b"INFO replication\r\n"):
                return True
            if b"flags" in known and b"failover_in_progress" not in known:
                self.ask_sentinel(b"SENTINEL FAILOVER room")
            return False

        self.run_until(is_done)

    def ask_sentinel(self, command: bytes) -> bytes:
        """Ask it as somebody whom it knows."""
        return self.sentinel.ask(b"AUTH watch secret\r\n" + command + b"\r\n")

    def hold_back_the_replica(self) -> None:
        """From now on the replica learns nothing new from its master."""
        self.two.ask(b"CONFIG SET masteruser nobody\r\nCONFIG SET masterauth wrong\r\n")
        self.one.ask(b"CLIENT KILL TYPE replica\r\n")
        down = b"master_link_status:down"
        self.run_until(lambda: down in self.two.ask(b"INFO replication\r\n"))

    def test_the_master_dies(self) -> None:
        """Once the sentinels have made the replica the master, the log goes on there."""
        log, heard = self.begin("secret")
        self.run_until(lambda: log.connected)
        self.assertEqual(self.port_of(log), self.one.port)
        log.append([say("before")])
        self.run_until(lambda: not log.busy)
        self.run_until(lambda: b"before" in self.two.ask(b"XRANGE chatbox:log - +\r\n"))
        self.one.kill()
        log.append([say("meanwhile")])
        self.fail_over()
        self.run_until(lambda: log.connected and self.port_of(log) == self.two.port)
        log.append([say("after")])
        self.run_until(lambda: not log.busy)
        self.assertEqual(texts(heard.records), ["before", "meanwhile", "after"])
        self.assertEqual(heard.failed, [])
        self.assertEqual([r.text for r in self.ask(log, 0)], ["before", "meanwhile", "after"])

    def lose(self, fail_over: Callable[[], None]) -> tuple[list[RedisLog], list[Heard]]:
        """Have two nodes hear something that the replica does not, and come to the replica."""
        nodes = [self.begin("secret") for _ in range(2)]
        logs, all_heard = [log for log, _ in nodes], [heard for _, heard in nodes]
        log, lost = logs[0], set[RedisLog]()
        for one in logs:
            one.on_lost = partial(lost.add, one)
        self.run_until(lambda: all(one.connected for one in logs))
        log.append([say("before")])
        self.run_until(lambda: all(heard.records for heard in all_heard))
        self.run_until(lambda: b"before" in self.two.ask(b"XRANGE chatbox:log - +\r\n"))
        self.hold_back_the_replica()
        log.append([say("lost"), say("letter", "ann")])
        self.run_until(lambda: all(len(heard.records) == 3 for heard in all_heard))
        self.run_until(lambda: not log.busy)
        fail_over()
        self.run_until(lambda: len(lost) == 2)
        self.run_until(lambda: all(one.connected for one in logs))
        self.assertEqual({self.port_of(one) for one in logs}, {self.two.port})
        return logs, all_heard

    def check_lost(self, logs: Sequence[RedisLog], all_heard: Sequence[Heard]) -> None:
        """Everybody has seen one gap and then what was said after it, now and in the history."""
        for heard in all_heard:
            self.assertEqual(texts(heard.records), ["before", "lost", "letter", "", "after"])
            self.assertEqual(heard.records[3].kind, Kind.GAP)
            places = [record.id for record in heard.records]
            self.assertEqual(places, sorted(set(places)))
        before, lost = all_heard[0].records[:2]
        for log in logs:
            for reader in ("", "ann"):
                self.assertEqual(texts(self.ask(log, 0, reader)), ["before", "", "after"])
                self.assertEqual(texts(self.ask(log, before.id, reader)), ["", "after"])
                self.assertEqual(texts(self.ask(log, lost.id, reader)), ["", "after"])

    def test_a_replica_that_has_missed_something(self) -> None:
        """Where acknowledged messages were that it never had, everybody sees a gap."""
        meanwhile = say("after", attempt=Attempt("ann", b"after"))

        def fail_over() -> None:
            self.one.kill()
            logs[0].append([meanwhile])
            self.fail_over()

        logs = self.logs
        _, all_heard = self.lose(fail_over)
        self.assertEqual(all_heard[0].failed, [meanwhile])
        logs[0].append([meanwhile])
        self.run_until(lambda: all(len(heard.records) > 4 for heard in all_heard))
        self.check_lost(logs, all_heard)

    def test_a_master_that_is_replaced_while_it_works(self) -> None:
        """What only the old one has taken is lost, and people see that as well."""
        logs, all_heard = self.lose(self.fail_over)
        logs[1].append([say("after")])
        self.run_until(lambda: all(len(heard.records) > 4 for heard in all_heard))
        self.check_lost(logs, all_heard)

    def test_passwords_without_users(self) -> None:
        """The sentinels have one and Redis has another, and each gets its own."""
        self.ask_sentinel(b"ACL SETUSER default on resetpass >watchword")
        self.one.ask(b"CONFIG SET requirepass master\r\n")
        url = self.url.replace("://", "://:master@")
        log, heard = self.begin_at(f"{url}?sentinel-password=watchword")
        self.run_until(lambda: log.connected)
        log.append([say("a")])
        self.run_until(lambda: not log.busy)
        self.assertEqual((self.port_of(log), texts(heard.records)), (self.one.port, ["a"]))

    def test_the_wrong_password(self) -> None:
        """Who cannot ask the sentinels is told why."""
        said: list[str] = []

        def note(event: LogEvent) -> None:
            if "why" in event:
                said.append(str(event["why"]))

        publisher: Any = globalLogPublisher
        publisher.addObserver(note)
        self.addCleanup(publisher.removeObserver, note)
        log, _ = self.begin("wrong")
        self.run_until(lambda: said)
        self.assertIn("WRONGPASS", said[0])
        self.assertFalse(log.connected)

    def port_of(self, log: RedisLog) -> int:
        """Where a log is connected to."""
        port: int = log._commands.transport.getPeer().port
        return port
