"""The reader of a Redis log: it reads the one stream that all nodes append to, the bus.

It has a connection of its own, since one that waits in XREAD cannot do anything else, and goes on
from the last place read over each that it is given:

1. It *synchronises*: the script SYNC says which log this is, whether Redis still has our place and
   all that follows it, and who holds which name now. What is missing is reported as a GAP, which
   people see.
2. Only then may anything be appended (`on_ready`), so nobody's message lands in a gap.
3. It waits for what comes, and reports it. What is our own is known by its number, and leaves
   `Pending` as it went in; the rest is made of what the stream has of it.

A read that does not come back in time means that the connection is dead, whatever TCP thinks. What
makes no sense, as of another version of ours, is passed over.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.logger import Logger

from chatbox.log import Kind, Record, gap
from chatbox.log.connect import COMMAND_SECONDS, Complaint
from chatbox.log.lease import Lease
from chatbox.log.pending import Pending
from chatbox.log.scripts import SYNC
from chatbox.log.streams import PREFIX, entry_of, holder_of, id_of, place_of, record_of

__all__ = ["BLOCK_SECONDS", "Bus"]

BLOCK_SECONDS: Final = 4.0
"""How long Redis keeps a reader waiting for news before it says that there is none, which shows
that the connection is alive."""

MAX_READ: Final = 1000
"""Records read at once."""

_log = Logger()


class Bus:
    """Reads the bus for the node that has this `lease`, and gives all of it to `report`, in order.

    `pending` has what this node has appended under the numbers of its `run`. `on_ready` is called
    whenever it is known what was missed, just before it is read on.
    """

    def __init__(
        self,
        run: str,
        pending: Pending,
        lease: Lease,
        report: Callable[[Sequence[Record]], None],
        on_ready: Callable[[], None],
    ) -> None:
        self._run = run
        self._pending = pending
        self._lease = lease
        self._report = report
        self._on_ready = on_ready
        self._refusals = Complaint()
        """Why Redis does not let it be read, if so."""
        self.epoch = b""
        """Which log this is, as long as it is read."""
        self._known_epoch = b""
        self.position = 0
        """The newest place that was read."""
        self._read_to = ""
        """The id of what was read last, which may be one for which there is no place."""
        self._stopped = False

    def use(self, connection: Any) -> None:
        """Read on over a new connection, once it is known what was missed."""
        connection.whenDisconnected().addCallback(self._lost)
        values = [secrets.token_hex(8), self._known_epoch, id_of(self.position)]
        d = connection.execute_command("EVAL", SYNC, 1, PREFIX, *values)
        d.addCallback(self._synchronise, connection)
        d.addErrback(self._failed, connection)

    def stop(self) -> None:
        """Read no more."""
        self._stopped = True

    def report_repeats(self) -> None:
        """Report what was said before, and would have been read by now were it ours."""
        self._report(self._pending.take_repeats(self.position))

    def _lost(self, _: Any) -> None:
        self.epoch = b""

    def _synchronise(self, reply: list[Any], connection: Any) -> None:
        epoch, state, first, last, people, removed = reply
        records = []
        if removed:
            _log.error(
                "what had ids that are beyond all places was removed from the log ({count}), as"
                " nothing that is said could have come after it",
                count=removed,
            )
        if state == b"trimmed":
            records.append(gap(place_of(first) - 1))
            _log.error("some messages were missed: Redis was away for too long")
        if self._known_epoch:
            # Who is where is known as of now, and what will be read next may repeat some of it.
            records.append(Record(self.position, 0, Kind.ROLL, "", "", ""))
        else:
            self.position = place_of(last)
        for text in people:
            try:
                name, identity, node = holder_of(text)
            except ValueError:
                _log.error("the log has a person that makes no sense: {text}", text=repr(text))
                continue
            if node != self._lease.node:
                records.append(
                    Record(self.position, 0, Kind.HERE, name, "all", "", identity=identity)
                )
        self._known_epoch = epoch
        self._report(records)
        if state == b"lost":
            # There is a mark ahead, which people will see. Who holds which name is lost as well.
            _log.error("Redis has lost messages that had been delivered")
            self._lease.lose()
        self._read_to = id_of(self.position)
        self.epoch = epoch  # What is appended from now on is sent behind all that waits.
        self._on_ready()
        self._read(connection)

    def _read(self, connection: Any) -> None:
        watch = connection.callLater(
            BLOCK_SECONDS + COMMAND_SECONDS, connection.transport.abortConnection
        )
        d = connection.execute_command(
            *("XREAD", "COUNT", MAX_READ, "BLOCK", int(BLOCK_SECONDS * 1000)),
            *("STREAMS", PREFIX + "log", self._read_to),
            apply_timeout=False,
        )

        def unwatch(outcome: object) -> object:
            if watch.active():
                watch.cancel()
            return outcome

        d.addBoth(unwatch)
        d.addCallback(self._heard, connection)
        d.addErrback(self._failed, connection)

    def _heard(self, reply: Any, connection: Any) -> None:
        self._refusals.over("the bus is read again")
        for _, rows in reply or ():
            records = []
            for id, fields in rows:
                self._read_to = id.decode()
                try:
                    self.position = place_of(id)
                    record = self._read_back(self.position, fields)
                except (KeyError, ValueError):  # of another version of ours, perhaps
                    _log.error("the log has a record that makes no sense: {id}", id=id.decode())
                    continue
                if record.kind is not Kind.MOVED or record.text != self._lease.node:
                    records.append(record)
            self._report(records)
            self.report_repeats()
        if self._stopped:
            return
        if reply or self._read_to == id_of(self.position):
            self._read(connection)
        else:  # What comes would have no place either, or comes before it.
            connection.transport.abortConnection()

    def _read_back(self, place: int, fields: list[bytes]) -> Record:
        facts = dict(zip(fields[::2], fields[1::2], strict=True))
        kind = Kind(facts[b"k"].decode())
        if kind is Kind.GAP:
            return gap(place)
        entry = None
        if facts[b"n"] == self._run.encode():
            entry = self._pending.take(int(facts[b"s"]))
        return record_of(place, entry or entry_of(kind, facts[b"d"]))

    def _failed(self, failure: Any, connection: Any) -> None:
        import txredisapi

        if not failure.check(txredisapi.ConnectionError) and not self._stopped:
            self._refusals.about("the bus cannot be read", failure.value)
        if connection.transport is not None:
            connection.transport.abortConnection()
