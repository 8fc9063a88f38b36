"""The log of several processes that are one room: streams in Redis, or Valkey.

Every process, a *node*, appends to one stream and reads the same stream; it delivers only what it
has read back, its own messages too. So all nodes deliver everything in one order::

    append -> pending -> [commands: APPEND] -> Redis -> [bus: XREAD BLOCK] -> subscriber

Here are the commands; the reader of the bus is in `chatbox.log.bus`. Each has a connection, which
comes back by itself, with a delay that grows to `MAX_RETRY_SECONDS`.

- *Nothing twice.* An append whose answer got lost may have happened. So everything that is pending
  is numbered, and is appended again under its numbers when the connection is back (see
  `chatbox.log.pending`); the script knows the last number of each node. A message that is not read
  back within `APPEND_SECONDS` has failed. It may still turn up later, as somebody else's message
  would: Redis may have had it all the time.
- *Nothing lost in a cut.* The bus is read on from the last place read, and people see it if
  something is missing. Nothing is appended before that is known.
- *Everything has a limit.* A command that is not answered in `COMMAND_SECONDS` means that the
  connection is dead, whatever TCP thinks.
- *A lease* says that this node is alive: see `chatbox.log.lease`. Who comes and goes is told as
  long as it lasts. When it is lost, that is not told by us but by whoever finds the lease ended.
- *History* is read beside all this: see `chatbox.log.lookup`.

Places are those of Redis, milliseconds and a number, as one integer. Our own times are of a clock
that nobody sets.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet.defer import gatherResults, maybeDeferred
from twisted.logger import Logger, LogPublisher

from chatbox.errors import LocalError
from chatbox.log import Entry, Record
from chatbox.log.attempts import ATTEMPT_SECONDS, MAX_ATTEMPTS_EACH
from chatbox.log.bus import Bus
from chatbox.log.connect import Complaint, Connections, endpoint_for
from chatbox.log.fitness import warnings
from chatbox.log.keep import EVERYTHING, Keep
from chatbox.log.lease import Lease
from chatbox.log.lookup import Lookup
from chatbox.log.pending import Pending
from chatbox.log.place import parse_place
from chatbox.log.scripts import APPEND, FORGET, HASHES
from chatbox.log.streams import PREFIX, place_of, words_of
from chatbox.log.subscriber import OneSubscriber
from chatbox.steady import steady_seconds

__all__ = ["RedisLog"]

APPEND_SECONDS: Final = 10.0
"""How long an entry may wait: long enough for a Redis that starts again or fails over."""

MAX_RETRY_SECONDS: Final = 2.0
"""The longest delay before another attempt to connect, but for some randomness."""

TICK_SECONDS: Final = 0.5
"""How often to look at deadlines and at the lease."""

BUS_LENGTH: Final = 100_000
"""Records on the bus: what a node may miss and still catch up. A few minutes of a busy cluster."""

MAIL_LENGTH: Final = 10_000
"""Private messages kept of each person."""

STOP_SECONDS: Final = 5.0
"""How long an end may wait for what is pending."""

_PASSING: Final = ("READONLY", "LOADING", "MASTERDOWN", "NOREPLICAS", "BUSY ", "NOSCRIPT")
"""What Redis says if another Redis, or another moment, would do: it is tried by a new connection.
A master that is being replaced has lost its replicas before it knows that it is none any more."""

_ALONE: Final = ("PLACES", "NOPERM")
"""What it says if it may refuse messages and yet take other things."""

_log = Logger()


class _Reconnecting(ClientService):
    """Comes back without Twisted's line for each attempt: `Complaint` says once what is wrong."""

    _log = Logger(observer=LogPublisher())  # to nobody


class RedisLog(OneSubscriber):
    """A `MessageLog` in the Redis that `url` names: see `parse_place`; `lease` has the names."""

    def __init__(self, url: str, keep: Keep = EVERYTHING, reactor: Any = None) -> None:
        super().__init__()
        self._place = parse_place(url)
        self._keep = keep
        self._reactor = reactor
        self._now = steady_seconds
        self.lease = Lease(self._ask, steady_seconds, self._later, self._lost_lease, self._renewed)
        self.on_lost: Callable[[], None] = lambda: None
        """Called when the lease is lost: nobody here holds a name any more."""
        self._run = secrets.token_hex(8)
        """What the numbers of our entries belong to. It stays when a lease is lost."""
        self._pending = Pending()
        self._refusals = Complaint()
        """Why messages are refused, if they are."""
        self._refused_alone = False
        """Whether one of these reasons is for messages alone."""
        self._bus = Bus(self._run, self._pending, self.lease, self._report, self._send_all)
        self._lookup = Lookup(PREFIX, self._may_ask, lambda: self._bus.position, self._later)
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
        return bool(self._pending) or self._lookup.busy

    @property
    def connected(self) -> bool:
        """Whether both connections stand and the lease is ours."""
        return self._commands is not None and self.lease.held and bool(self._bus.epoch)

    def start(self) -> None:
        """Connect, and go on trying. Raises LocalError if the extra ``redis`` is not installed."""
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = reactor
        # One for both, so that they complain once.
        endpoint, complaint = endpoint_for(self._place, self._reactor), Complaint()
        for use in (self._use_for_commands, self._bus.use):
            service = _Reconnecting(
                endpoint,
                Connections(self._place, self._reactor, complaint, use),
                retryPolicy=backoffPolicy(0.05, MAX_RETRY_SECONDS),
                clock=self._reactor,
            )
            service.startService()
            self._services.append(service)
        self._tick()

    def stop(self, stopped: Callable[[], None]) -> None:
        """Take no more; wait for what is pending, but not for ever."""
        self._stopping = stopped
        self._pending.hurry(self._now() + STOP_SECONDS)
        self._check_stopped()

    def append(self, entries: Sequence[Entry]) -> None:
        """Have these appended."""
        if self._on_failure is None:
            raise LocalError("This log has no subscriber")
        if self._stopping is not None or not self._services:
            self._on_failure(entries)
            return
        first = self._pending.add(entries, self._now() + APPEND_SECONDS)
        if entries and self._commands is not None and self._bus.epoch:
            self._send(first)

    def history(
        self,
        after: int | None,
        count: int,
        reader: str,
        answer: Callable[[Sequence[Record] | None], None],
        before: int | None = None,
    ) -> None:
        """Have this looked up; None is the answer if Redis cannot be asked."""
        self._lookup.ask(after, count, reader, answer, before)

    def _may_ask(self) -> Any:
        """The connection for questions, while what it says can be relied on."""
        return self._commands if self._bus.epoch and self._stopping is None else None

    # The connection for commands.

    def _ask(self, script: str, values: list[object], answer: Callable[[object], None]) -> None:
        """Run a script, and give its reply to `answer`, or None if there is none."""
        if self._commands is None:
            answer(None)
            return
        d = self._run_script(script, values)
        d.addErrback(self._not_asked)
        d.addCallback(answer)
        d.addErrback(lambda failure: _log.failure("what Redis said was not understood", failure))

    def _run_script(self, script: str, values: list[object]) -> Any:
        return self._commands.execute_command("EVALSHA", HASHES[script], 1, PREFIX, *values)

    def _not_asked(self, failure: Any) -> None:
        """A script has not been run."""
        import txredisapi

        if failure.check(txredisapi.ConnectionError):
            return
        text = failure.getErrorMessage()
        self._complain(text)
        if any(word in text for word in _PASSING):
            self._drop_connections()

    def _use_for_commands(self, connection: Any) -> None:
        self._commands = connection
        connection.whenDisconnected().addCallback(self._lost_commands)
        for script in HASHES:
            connection.execute_command("SCRIPT", "LOAD", script).addErrback(self._not_asked)
        connection.execute_command("INFO").addCallbacks(self._check_redis, lambda _: None)
        self.lease.renew()
        if self._bus.epoch:
            self._send(0)

    def _lost_commands(self, connection: Any) -> None:
        if self._commands is connection:
            self._commands = None

    def _check_redis(self, reply: bytes) -> None:
        """Warn of a Redis that does not keep what it is given; once."""
        for sentence in () if self._warned else warnings(reply):
            _log.warn("{sentence}", sentence=sentence)
        self._warned = True

    def _send_all(self) -> None:
        """Append what is pending, if anything can be."""
        if self._commands is not None:
            self._send(0)

    def _send(self, first: int) -> None:
        """Append what is pending, from a number on, in calls of a bounded size."""
        for run in self._pending.runs(first):
            node = self.lease.node
            values: list[object] = [self._run, run[0], self._bus.epoch, node]
            values += [BUS_LENGTH, self._keep.count or 0, MAIL_LENGTH]
            values += [MAX_ATTEMPTS_EACH, ATTEMPT_SECONDS, self._keep.age or 0]
            for n in run:
                values += words_of(self._pending[n])
            d = self._run_script(APPEND, values)
            d.addCallbacks(self._appended, self._refused, (run,), None, (run, node))
            d.addErrback(lambda failure: _log.failure("the log failed", failure))

    def _appended(self, answers: list[bytes], run: list[int]) -> None:
        self._accepted()
        senseless = []
        for n, said in zip(run, answers, strict=True):
            try:
                if said:
                    self._pending.repeat(n, place_of(said))
            except ValueError:
                _log.error("the log has a place that makes no sense: {said}", said=repr(said))
                senseless.append(n)
        self._bus.report_repeats()
        self._fail(senseless)

    def _refused(self, failure: Any, run: list[int], node: str) -> None:
        import txredisapi

        text = failure.getErrorMessage()
        if failure.check(txredisapi.ConnectionError):
            return  # It is sent again when the connection is back.
        if "PLACES" in text:
            self._complain(f"{text}; does Redis have the right time?")
            self._drop_connections()
        elif any(word in text for word in _PASSING):
            self._complain(text)
            self._drop_connections()
        elif "EPOCH" in text:
            # The reader must find out first what is missing, so that nobody reads a gap as silence.
            self._drop_connections()
        elif "FENCED" in text:
            if node == self.lease.node:
                self.lease.lose()
        else:
            self._complain(text)
            self._fail(run)

    def _complain(self, text: str) -> None:
        self._refused_alone |= any(word in text for word in _ALONE)
        self._refusals.about("Redis refuses messages", text)

    def _accepted(self) -> None:
        self._refused_alone = False
        self._refusals.over("Redis takes messages again")

    def _drop_connections(self) -> None:
        for service in self._services:
            service.whenConnected(failAfterFailures=1).addCallbacks(
                lambda one: one.is_in and one.transport.abortConnection(), lambda _: None
            )

    def _lost_lease(self) -> None:
        self.on_lost()
        # Nobody waits for these any more. Whoever finds the lease ended tells who has gone.
        self._pending.take_presence()
        self._fail(list(self._pending))

    def _renewed(self) -> None:
        """Redis has written down that we live: so it would write down what people say, too."""
        if not self._refused_alone:
            self._accepted()
        self._forget()

    def _forget(self) -> None:
        if self._keep.age or self._keep.size:
            limits: list[object] = [self._keep.age or 0, self._keep.size or 0]
            self._ask(FORGET, limits, lambda _: None)

    def _fail(self, numbers: Sequence[int]) -> None:
        entries = self._pending.take_all(numbers)
        assert self._on_failure is not None
        if entries:
            self._on_failure(entries)
        self._check_stopped()

    def _report(self, records: Sequence[Record]) -> None:
        assert self._on_commit is not None
        if records:
            self._on_commit(records)
        self._check_stopped()

    # Time.

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        if not self._stopped:
            self._reactor.callLater(seconds, call)

    def _tick(self) -> None:
        """See what is due."""
        self._ticking = self._reactor.callLater(TICK_SECONDS, self._tick)
        late = self._pending.late(self._now())
        if late and self._commands is None:
            self._complain("it cannot be reached")
        self._fail(late)
        if self._commands is not None or self.lease.held:
            self.lease.check()

    def _check_stopped(self) -> None:
        if self._stopping is None or self._stopped or self._pending:
            return
        self._stopped = True
        self._bus.stop()
        if self._ticking is not None:
            self._ticking.cancel()
        self.lease.leave(self._disconnect)

    def _disconnect(self) -> None:
        stopped = self._stopping
        assert stopped is not None
        d: Any = gatherResults([maybeDeferred(service.stopService) for service in self._services])
        d.addBoth(lambda _: stopped())
