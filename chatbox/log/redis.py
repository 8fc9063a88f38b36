"""The log of several processes that are one room: streams in Redis, or Valkey.

Every process, a *node*, appends to one stream and reads the same stream; it delivers only what it
has read back, its own messages too. So all nodes deliver everything in one order::

    append -> pending -> [commands: APPEND] -> Redis -> [bus: XREAD BLOCK] -> subscriber

Two connections, since a connection that waits in XREAD cannot do anything else. Both come back by
themselves, with a delay that grows to `MAX_RETRY_SECONDS`.

- *Nothing twice.* An append whose answer got lost may have happened. So everything that is pending
  is numbered, and is appended again under its numbers when the connection is back; the script knows
  the last number of each node. What is not read back within `APPEND_SECONDS` has failed. It may
  still turn up later, as somebody else's message would: Redis may have had it all the time.
- *Nothing lost in a cut.* The bus is read on from the last place read. If Redis has forgotten what
  follows it, or everything (the epoch is another one), a GAP is reported, and people see it.
- *Everything has a limit.* A command that is not answered in `COMMAND_SECONDS`, or a read that does
  not come back in time, means that the connection is dead, whatever TCP thinks.
- *A lease* says that this node is alive: see `chatbox.log.lease`.

Places are those of Redis, milliseconds and a number, as one integer.
"""

from __future__ import annotations

import json
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import clientFromString, wrapClientTLS
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from chatbox.errors import LocalError
from chatbox.log import Entry, Kind, Record, gap
from chatbox.log.attempts import MAX_ATTEMPTS_EACH
from chatbox.log.keep import EVERYTHING, Keep
from chatbox.log.lease import Lease
from chatbox.log.scripts import APPEND, SYNC
from chatbox.log.streams import (
    Place,
    entry_of,
    id_of,
    page_of,
    parse_place,
    place_of,
    record_of,
    words_of,
)
from chatbox.text import printable

__all__ = ["RedisLog"]

PREFIX: Final = "chatbox:"

COMMAND_SECONDS: Final = 4.0
"""The longest that a command may take."""

BLOCK_SECONDS: Final = 5.0
"""How long Redis keeps a reader waiting for news before it says that there is none."""

APPEND_SECONDS: Final = 10.0
"""How long an entry may wait: long enough for a Redis that starts again or fails over."""

MAX_RETRY_SECONDS: Final = 2.0
"""The longest delay before another attempt to connect, but for some randomness."""

BEHIND_SECONDS: Final = 0.05
BEHIND_TRIES: Final = 20
"""How often, and how many times, to look whether we have caught up with a question: a second."""

MAX_APPEND: Final = 200
"""Entries in one call of the script, which stops all others: some 2 ms."""

MAX_READ: Final = 1000
"""Records read from the bus at once."""

BUS_LENGTH: Final = 100_000
"""Records on the bus: what a node may miss and still catch up. A few minutes of a busy cluster."""

_log = Logger()


class RedisLog:
    """A `MessageLog` in the Redis that `url` names: see `parse_place`; `lease` has the names."""

    def __init__(
        self, url: str, keep: Keep = EVERYTHING, reactor: Any = None, prefix: str = PREFIX
    ) -> None:
        self._place = parse_place(url)
        self._keep = keep
        self._reactor = reactor
        self._prefix = prefix
        self.lease = Lease(self._ask, self._now, self._later)
        self._run = secrets.token_hex(8)
        """What the numbers of our entries belong to. It stays when a lease is lost."""
        self._on_commit: Callable[[Sequence[Record]], None] | None = None
        self._on_failure: Callable[[Sequence[Entry]], None] | None = None
        self._epoch = b""
        """Which log this is, as long as that is known."""
        self._known_epoch = b""
        self._read_from = "0-0"
        self._position = 0
        """The newest place that was read from the bus."""
        self._number = 0
        self._pending: OrderedDict[int, Entry] = OrderedDict()
        """What was appended and not read back, by its number."""
        self._deadlines: dict[int, float] = {}
        self._repeats: dict[int, int] = {}
        """Of these, what is in the log already, and where."""
        self._questions = 0
        self._commands: Any = None
        """The connection for commands, while there is one."""
        self._services: list[ClientService] = []
        self._stopping: Callable[[], None] | None = None
        self._stopped = False
        self._ticking: Any = None
        self._warned = False

    @property
    def busy(self) -> bool:
        """Whether an entry or a question waits for its answer."""
        return bool(self._pending) or self._questions > 0

    @property
    def connected(self) -> bool:
        """Whether both connections stand and the lease is ours."""
        return self._commands is not None and self.lease.held and bool(self._epoch)

    def subscribe(
        self,
        on_commit: Callable[[Sequence[Record]], None],
        on_failure: Callable[[Sequence[Entry]], None],
    ) -> None:
        """Name the one subscriber."""
        if self._on_commit is not None:
            raise LocalError("This log has its subscriber already")
        self._on_commit = on_commit
        self._on_failure = on_failure

    def start(self) -> None:
        """Connect, and go on trying. Raises LocalError if the extra ``redis`` is not installed."""
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = reactor
        for use in (self._use_for_commands, self._use_for_bus):
            service = ClientService(
                _endpoint(self._place, self._reactor),
                _Connections(self._place, self._reactor, use),
                retryPolicy=backoffPolicy(0.05, MAX_RETRY_SECONDS),
                clock=self._reactor,
            )
            service.startService()
            self._services.append(service)
        self._tick()

    def stop(self, stopped: Callable[[], None]) -> None:
        """Take no more; wait for what is pending, as long as it may take."""
        self._stopping = stopped
        self._check_stopped()

    def append(self, entries: Sequence[Entry]) -> None:
        """Have these appended."""
        if self._on_failure is None:
            raise LocalError("This log has no subscriber")
        if self._stopping is not None or not self._services:
            self._on_failure(entries)
            return
        first = self._number + 1
        deadline = self._reactor.seconds() + APPEND_SECONDS
        for entry in entries:
            self._number += 1
            self._pending[self._number] = entry
            self._deadlines[self._number] = deadline
        if entries and self._commands is not None and self._epoch:
            self._send(first)

    def history(
        self,
        after: int | None,
        count: int,
        reader: str,
        answer: Callable[[Sequence[Record] | None], None],
    ) -> None:
        """Have this looked up; None is the answer if Redis cannot be asked."""
        self._questions += 1
        self._look_up(after, count, reader, partial(self._answer, answer))

    def _look_up(
        self,
        after: int | None,
        count: int,
        reader: str,
        answer: Callable[[list[Record] | None], None],
        patience: int = BEHIND_TRIES,
    ) -> None:
        connection = self._commands
        if connection is None or not self._epoch or self._stopping is not None:
            answer(None)
            return
        if after is not None and after > self._position and patience:
            # Who asks has been at a node that is ahead of us, and must not hear again from here
            # what comes before that place.
            again = partial(self._look_up, after, count, reader, answer, patience - 1)
            self._reactor.callLater(BEHIND_SECONDS, again)
            return
        until = id_of(self._position)  # What is not reported yet is not shown.
        if after is not None and (not count or after >= self._position):
            streams = []
        else:
            streams = ["kept", f"mail:{reader}"] if count else []
        asked = []
        for stream in streams:
            key = self._prefix + stream
            if after is None:
                words: tuple[object, ...] = ("XREVRANGE", key, until, "-")
            else:
                words = ("XRANGE", key, "(" + id_of(after), until)
            asked.append(connection.execute_command(*words, "COUNT", count))
        info = connection.execute_command("XINFO", "STREAM", self._prefix + "kept")
        asked.append(info.addErrback(_no_stream))
        d = gatherResults(asked, consumeErrors=True)
        d.addCallback(page_of, after, count)
        d.addErrback(lambda _: None)
        d.addCallback(answer)
        d.addErrback(lambda failure: _log.failure("history failed", failure))

    def _answer(
        self, answer: Callable[[Sequence[Record] | None], None], found: list[Record] | None
    ) -> None:
        self._questions -= 1
        answer(found)

    # The connection for commands.

    def _ask(self, script: str, values: list[object], answer: Callable[[object], None]) -> None:
        """Run a script, and give its reply to `answer`, or None if there is none."""
        if self._commands is None:
            answer(None)
            return
        d = self._commands.eval(script, [self._prefix], values)
        d.addErrback(lambda _: None)
        d.addCallback(answer)
        d.addErrback(lambda failure: _log.failure("what Redis said was not understood", failure))

    def _use_for_commands(self, connection: Any) -> None:
        self._commands = connection
        connection.whenDisconnected().addCallback(self._lost_commands)
        d = connection.execute_command("CONFIG", "GET", "appendonly")
        d.addCallbacks(self._check_durability, lambda _: None)
        self.lease.renew()
        if self._epoch:
            self._send(0)

    def _lost_commands(self, connection: Any) -> None:
        if self._commands is connection:
            self._commands = None

    def _check_durability(self, reply: list[bytes]) -> None:
        if not self._warned and reply[1:] == [b"no"]:
            self._warned = True
            _log.warn(
                "Redis keeps nothing but snapshots (appendonly is off): "
                "if it fails, minutes of messages may be lost"
            )

    def _send(self, first: int) -> None:
        """Append what is pending, from a number on, in calls of a bounded size."""
        # Numbers in one call follow each other; what has failed has left a hole.
        runs: list[list[int]] = []
        for n in self._pending if not first else range(first, self._number + 1):
            if runs and runs[-1][-1] == n - 1 and len(runs[-1]) < MAX_APPEND:
                runs[-1].append(n)
            else:
                runs.append([n])
        for run in runs:
            values: list[object] = [self._run, run[0], self._epoch, BUS_LENGTH]
            values += [self._keep.count or 0, MAX_ATTEMPTS_EACH]
            for n in run:
                values += words_of(self._pending[n])
            d = self._commands.eval(APPEND, [self._prefix], values)
            d.addCallbacks(self._appended, self._refused, callbackArgs=(run,), errbackArgs=(run,))
            d.addErrback(lambda failure: _log.failure("the log failed", failure))

    def _appended(self, answers: list[bytes], run: list[int]) -> None:
        for n, said in zip(run, answers, strict=True):
            if said and n in self._pending:
                self._repeats[n] = place_of(said)
        self._settle_repeats()

    def _refused(self, failure: Any, run: list[int]) -> None:
        import txredisapi

        if failure.check(txredisapi.ConnectionError):
            return  # It is sent again when the connection is back.
        text = failure.getErrorMessage()
        if "EPOCH" in text:
            # The reader must find out first, so that nobody reads a gap as silence.
            self._epoch = b""
            self._drop_connections()
            return
        _log.error("Redis refuses messages: {error}", error=printable(text))
        self._fail([n for n in run if n in self._pending])

    def _settle_repeats(self) -> None:
        """Report what was in the log before, once it must have been read back were it ours."""
        done = [n for n, place in self._repeats.items() if place <= self._position]
        records = []
        for n in done:
            place = self._repeats.pop(n)
            entry = self._take(n)
            if entry is not None:
                records.append(record_of(place, entry, repeated=True))
        self._report(records)

    def _take(self, number: int) -> Entry | None:
        self._deadlines.pop(number, None)
        self._repeats.pop(number, None)
        return self._pending.pop(number, None)

    def _fail(self, numbers: Sequence[int]) -> None:
        entries = [entry for n in numbers if (entry := self._take(n)) is not None]
        assert self._on_failure is not None
        if entries:
            self._on_failure(entries)
        self._check_stopped()

    def _report(self, records: Sequence[Record]) -> None:
        assert self._on_commit is not None
        if records:
            self._on_commit(records)
        self._check_stopped()

    # The connection for the bus.

    def _use_for_bus(self, connection: Any) -> None:
        d = connection.eval(SYNC, [self._prefix], [secrets.token_hex(8), ""])
        d.addCallback(self._synchronise, connection)
        d.addErrback(self._bus_failed, connection)

    def _synchronise(self, reply: list[Any], connection: Any) -> None:
        epoch, last, deleted, people = reply
        first = not self._known_epoch
        records = []
        if first:
            self._position = place_of(last)
            for text in people:
                holder = json.loads(text)
                name, identity = holder["name"], holder["identity"]
                records.append(
                    Record(self._position, 0, Kind.HERE, name, "all", "", identity=identity)
                )
        elif epoch != self._known_epoch or place_of(last) < self._position:
            # Everything after our place is from another beginning; read it from there.
            records.append(gap(self._position))
            _log.error("Redis has lost messages that had been delivered")
            self._read_from = "0-0"
        elif self._position < place_of(deleted):
            records.append(gap(place_of(deleted)))
        self._known_epoch = self._epoch = epoch
        if first or not records:
            self._read_from = id_of(self._position)
        self._report(records)
        if self._commands is not None:
            self._send(0)
        self._read(connection)

    def _read(self, connection: Any) -> None:
        watch = self._reactor.callLater(
            BLOCK_SECONDS + COMMAND_SECONDS, connection.transport.abortConnection
        )
        d = connection.execute_command(
            *("XREAD", "COUNT", MAX_READ, "BLOCK", int(BLOCK_SECONDS * 1000)),
            *("STREAMS", self._prefix + "log", self._read_from),
            apply_timeout=False,
        )

        def unwatch(outcome: object) -> object:
            if watch.active():
                watch.cancel()
            return outcome

        d.addBoth(unwatch)
        d.addCallback(self._heard, connection)
        d.addErrback(self._bus_failed, connection)

    def _heard(self, reply: Any, connection: Any) -> None:
        for _, rows in reply or ():
            records = []
            for id, fields in rows:
                self._read_from = id.decode()
                place = place_of(id)
                if place > self._position:
                    self._position = place
                    record = self._read_back(place, fields)
                    if record.kind is not Kind.MOVED or record.recipient != self.lease.node:
                        records.append(record)
            self._report(records)
            self._settle_repeats()
        if not self._stopped:
            self._read(connection)

    def _read_back(self, place: int, fields: list[bytes]) -> Record:
        facts = dict(zip(fields[::2], fields[1::2], strict=True))
        entry = None
        if facts[b"n"] == self._run.encode():
            entry = self._take(int(facts[b"s"]))
        if entry is not None:
            return record_of(place, entry)
        return record_of(place, entry_of(Kind(facts[b"k"].decode()), facts[b"d"]))

    def _bus_failed(self, failure: Any, connection: Any) -> None:
        import txredisapi

        if not failure.check(txredisapi.ConnectionError) and not self._stopped:
            _log.error("the bus cannot be read: {error}", error=printable(str(failure.value)))
        if connection.transport is not None:
            connection.transport.abortConnection()

    def _drop_connections(self) -> None:
        for service in self._services:
            service.whenConnected(failAfterFailures=1).addCallbacks(
                lambda connection: connection.transport.abortConnection(), lambda _: None
            )

    # Time.

    def _now(self) -> float:
        return float(self._reactor.seconds())

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        if not self._stopped:
            self._reactor.callLater(seconds, call)

    def _tick(self) -> None:
        self._ticking = self._reactor.callLater(0.5, self._tick)
        now = self._reactor.seconds()
        self._fail([n for n, deadline in [*self._deadlines.items()] if deadline < now])
        if self._commands is not None or self.lease.held:
            self.lease.check()

    def _check_stopped(self) -> None:
        if self._stopping is None or self._stopped or self._pending:
            return
        self._stopped = True
        if self._ticking is not None:
            self._ticking.cancel()
        stopped, left = self._stopping, [len(self._services)]

        def one_stopped(_: object) -> None:
            left[0] -= 1
            if not left[0]:
                stopped()

        if not self._services:
            stopped()
        for service in self._services:
            d: Any = service.stopService()
            d = d if isinstance(d, Deferred) else Deferred()
            d.addBoth(one_stopped)


def _no_stream(failure: Any) -> list[Any]:
    import txredisapi

    failure.trap(txredisapi.ResponseError)
    return []


def _endpoint(place: Place, reactor: Any) -> Any:
    """Where to connect to."""
    make: Any = clientFromString
    host = place.host.replace(":", r"\:")
    plain = make(reactor, f"tcp:{host}:{place.port}:timeout={COMMAND_SECONDS:.0f}")
    if not place.tls:
        return plain
    from twisted.internet.ssl import optionsForClientTLS

    return wrapClientTLS(optionsForClientTLS(place.host), plain)


class _Connections(Factory):
    """Makes connections, and hands over each when Redis has let us in."""

    noisy = False
    isLazy = True

    def __init__(self, place: Place, reactor: Any, use: Callable[[Any], None]) -> None:
        self._place = place
        self._reactor = reactor
        self._use = use

    def buildProtocol(self, addr: object) -> Any:
        """Make one."""
        import txredisapi  # it imports the reactor

        connection = txredisapi.RedisProtocol(
            charset=None,
            replyTimeout=COMMAND_SECONDS,
            password=self._place.password,
            dbid=self._place.database,
            convertNumbers=False,
            username=self._place.username,
        )
        connection.factory = self
        connection.callLater = self._reactor.callLater
        connection.whenConnected().addCallback(self._use)
        return connection

    def stopTrying(self) -> None:
        """txredisapi calls this when Redis does not let us in. We go on trying."""

    def connectionError(self, why: object) -> None:
        """txredisapi calls this to say why."""
        _log.error("Redis does not let us in: {why}", why=printable(str(why)))
