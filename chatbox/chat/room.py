"""Who is here and who hears what.

The room never sends what it was handed. What somebody says is appended to the log; what the log has
committed is heard, and only then is the speaker told. Coming and going take the same road, so that
everybody sees all of it in one order::

    say, join, leave  ->  gathered until the turn ends  ->  log.append  ...  committed  ->  outboxes

Who may be here, and how far they have come, is in `chatbox.chat.people`.

A person who leaves is gone at once and the name is free at once. The others may hear of it later,
but always before they hear of somebody new under that name.

When a server stops nobody leaves. The next one is told who was here (`Room.expect`) and takes them
for here until they have come back with their tokens, which nobody notices, or until it is told to
expect them no longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from itertools import count
from typing import Final, NamedTuple

from twisted.logger import Logger

from chatbox.chat.codes import Code
from chatbox.chat.gate import Origin
from chatbox.chat.heard import heard
from chatbox.chat.names import Claim, Name, Names, parse_name
from chatbox.chat.orders import Action, Order, heard_order
from chatbox.chat.outbox import Fanout
from chatbox.chat.people import Person, Place, Seat
from chatbox.chat.presence import Presences
from chatbox.chat.turn import Turn
from chatbox.chat.wire import EVERYBODY, format_list
from chatbox.errors import LocalError, RemoteError
from chatbox.log import Attempt, Entry, Kind, MessageLog, Record

__all__ = ["JOINED", "LEFT", "MAX_UNCOMMITTED_BYTES", "OPERATOR_PLACES", "Room"]

JOINED: Final = "joined"
LEFT: Final = "left"

MAX_UNCOMMITTED_BYTES: Final = 32 << 20
"""Text that may wait for the log, all speakers together. A stalled disk must not fill the memory:
each connection may have dozens of messages on their way, and there are thousands of connections."""

OPERATOR_PLACES: Final = 10
"""Places beyond `max_users` for operators: who keeps order must get in when a room is full, most of
all if somebody fills it on purpose. Ten, since devices of one operator count each."""

_ENTRY_BYTES: Final = 500
"""What one message that waits takes besides its text, roughly."""

_NOT_HEARD: Final = "what the log has committed, or not, could not be told to everybody"
"""A mistake with what one has said. It must cost nobody else what comes behind it."""

_ANYBODY: Final[tuple[str, ...]] = ()
"""The readers of what everybody may read."""

_log = Logger()


class _Asked(NamedTuple):
    """The origin of a message or an order: whom to tell what became of it."""

    answer: Callable[[Code | None], None]
    cost: int = 0
    """What it counts for while it waits: see `MAX_UNCOMMITTED_BYTES`."""


class Room:
    """One room. `turn` is shared with `fanout`, which carries what everybody hears.

    At most `max_users` may be here, and up to `OPERATOR_PLACES` operators more; 0 is no limit.
    """

    def __init__(self, log: MessageLog, names: Names, turn: Turn, max_users: int = 0) -> None:
        self._log = log
        self._names = names
        self._turn = turn
        self._max_users = max_users
        self.fanout = Fanout(turn)
        self._presences = Presences(self.fanout)
        self._list: str | None = None
        """The names of those who are here as a list, if nobody has come or gone since it was made.
        """
        self._people: dict[str, Person] = {}
        """Everybody who is coming or here, by the key of their name."""
        self._elsewhere: dict[str, tuple[str, str]] = {}
        """Whom other servers of the same room have: name and identity, by the key of the name."""
        self._gathered: list[Entry] = []
        self._unheard: list[Entry] = []
        """Departures that the log did not take; they go ahead of what comes next."""
        self._uncommitted_bytes = 0
        self._closed = False
        self._seats = count(1)
        self.on_order: Callable[[Record], None] = lambda _: None
        """Called with each order of an operator that is in the log, from whatever server."""
        log.subscribe(self._committed, self._failed)

    def names(self) -> list[str]:
        """Return the names of those who are here, the longest here first."""
        here = [p.name.text for p in self._people.values() if p.place is Place.HERE]
        return here + [name for name, _ in self._elsewhere.values()]

    @property
    def size(self) -> int:
        """How many are here, or just coming."""
        return len(self._people) + len(self._elsewhere)

    def name_list(self) -> str:
        """Return `names` as they are written on the wire.

        Thousands of clients may ask for thousands of names, so it is made once.
        """
        if self._list is None:
            self._list = format_list(self.names())
        return self._list

    def join(self, name: Name, token: str | None, seat: Seat) -> None:
        """Ask to be here. `seat.answer` gets the person, once here, or the code of a refusal.

        The codes are those of `Names.claim`, room-full and log-unavailable. `token` is what an
        earlier connection of the same person was given, or None.
        """
        seat.number = str(next(self._seats))
        self._names.claim(name, token, partial(self._claimed, seat))

    def leave(self, seat: Seat) -> None:
        """This connection is gone or wants to be; whatever it waits for will not be answered."""
        if seat.left:
            return
        seat.left = True
        person = seat.person
        if person is None:
            return
        seat.outbox.stop_listening()
        person.seat = None
        if person.place is Place.HERE and not self._closed:
            self._depart(person)

    def say(
        self,
        seat: Seat,
        recipient: str,
        text: str,
        answer: Callable[[Code | None], None],
        number: int | None = None,
    ) -> None:
        """Say something to everybody or to one person.

        Whoever says the same thing to the same person under the same `number` as over an earlier
        connection, with the same token, tries again; it is not heard twice. `answer` gets None once
        it is in the log, or log-unavailable. Raises RemoteError (no-such-user or busy) if it cannot
        even be tried.
        """
        speaker = seat.person
        if speaker is None or speaker.place is not Place.HERE:
            raise LocalError("Only somebody who is here can speak")
        cost = _ENTRY_BYTES + len(text)
        if self._uncommitted_bytes + cost > MAX_UNCOMMITTED_BYTES:
            raise RemoteError(Code.BUSY)
        if recipient.lower() == EVERYBODY:
            to, key, readers = EVERYBODY, EVERYBODY, _ANYBODY
        else:
            to, key, identity = self._look_up(recipient)
            readers = (speaker.identity, identity)
        self._uncommitted_bytes += cost
        origin = _Asked(answer, cost)
        attempt = None
        if number is not None:
            attempt = Attempt(speaker.identity, _mark(number, key, text), seat.number)
        self._gather(Entry(Kind.MESSAGE, speaker.name.text, to, text, readers, origin, attempt))

    def order(self, seat: Seat, order: Order, answer: Callable[[Code | None], None]) -> None:
        """Have an operator's order told to everybody, and heeded: see `on_order`.

        `answer` gets None once it is in the log, or log-unavailable. Raises RemoteError
        (no-such-user) if it is to put out somebody who is not here.
        """
        if seat.person is None:
            raise LocalError("Only somebody who is here can give orders")
        if order.action is Action.KICK:
            self._look_up(order.target)
        by = seat.person.name.text
        self._gather(Entry(Kind.ORDER, by, order.target, order.text, origin=_Asked(answer)))

    def put_out(self, is_meant: Callable[[Name, Origin], bool], code: Code, reason: str) -> None:
        """Put out those who are meant, by their name and where they come from."""
        for person in list(self._people.values()):
            seat = person.seat
            if seat is not None and is_meant(person.name, seat.origin):
                seat.put_out(code, reason)

    def origin_of(self, name: str) -> Origin | None:
        """Where somebody comes from who is connected to this server, None for anybody else."""
        person = self._find(name)
        return None if person is None or person.seat is None else person.seat.origin

    def history(
        self,
        seat: Seat,
        after: int | None,
        count: int,
        answer: Callable[[Sequence[Record] | None], None],
        before: int | None = None,
    ) -> None:
        """Look up what was said, as far as it concerns this person: see `MessageLog.history`."""
        if seat.person is None:
            raise LocalError("Only somebody who is here can read the log")
        self._log.history(after, count, seat.person.identity, answer, before)

    def expect(self, claims: Iterable[Claim]) -> None:
        """Take those who hold these names for here: they were, and are expected back."""
        for claim in claims:
            person = self._people[claim.name.key] = Person(claim)
            person.become(Place.HERE)
        self._list = None

    def stop_expecting(self) -> None:
        """Whoever has not come back has left."""
        for person in list(self._people.values()):
            if person.seat is None and person.place is Place.HERE:
                self._depart(person)

    def close(self) -> list[tuple[Name, str]]:
        """From now on nobody leaves, though connections may end: they are all expected back.

        Return the names and identities of those who are here.
        """
        self._closed = True
        here = [person for person in self._people.values() if person.place is Place.HERE]
        return [(person.name, person.identity) for person in here]

    def expel_all(self) -> None:
        """No name could be kept: everybody here must come again. Others tell that they are gone."""
        self._unheard.clear()
        for person in list(self._people.values()):
            self._expel(person, lambda seat: seat.expelled())

    # From the names.

    def _claimed(self, seat: Seat, outcome: Claim | Code) -> None:
        if isinstance(outcome, Code):
            self._refuse(seat, outcome)
            return
        person = self._people.get(outcome.name.key) if outcome.resumed else None
        if person is not None:
            person.claim = outcome
            if not seat.left:
                self._take_over(person, seat)
            else:
                seat.unused()
        elif seat.left and not outcome.moved:
            self._names.release(outcome)
            seat.unused()
        elif self._is_full_for(seat) and not outcome.moved:
            self._names.release(outcome)
            self._refuse(seat, Code.ROOM_FULL)
        else:
            if former := self._people.get(outcome.name.key):
                self._expel(former, lambda seat: seat.replaced())
            person = Person(outcome, None if seat.left else seat, seat)
            if not seat.left:
                seat.person = person
            self._people[person.name.key] = person
            self._gather(_presence(person, JOINED, Kind.HERE if outcome.moved else Kind.PRESENCE))

    def _is_full_for(self, seat: Seat) -> bool:
        places = self._max_users + (OPERATOR_PLACES if seat.operator else 0)
        return bool(self._max_users) and self.size >= places

    def _refuse(self, seat: Seat, code: Code) -> None:
        seat.unused()
        if not seat.left:
            seat.answer(code)

    def _take_over(self, person: Person, seat: Seat) -> None:
        ghost, person.seat = person.seat, seat
        seat.person = person
        if ghost is not None:
            ghost.left = True
            ghost.outbox.stop_listening()
            ghost.replaced()
        if person.place is Place.HERE:
            self._seated(person, seat)
            self._presences.catch_up(seat.outbox, self.size)

    # From the log.

    def _committed(self, records: Sequence[Record]) -> None:
        for record in records:
            try:
                self._hear(record)
            except Exception:
                _log.failure(_NOT_HEARD)
            if isinstance(record.origin, _Asked):
                try:
                    self._answer(record.origin, None)
                except Exception:
                    _log.failure(_NOT_HEARD)

    def _failed(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            try:
                self._fail(entry)
            except Exception:
                _log.failure(_NOT_HEARD)

    def _hear(self, record: Record) -> None:
        """Tell those whom it concerns what is in the log."""
        origin = record.origin
        if isinstance(origin, Person) and record.text == JOINED:
            self._arrive(origin, record)
        elif record.repeated:
            pass  # Everybody heard it the first time.
        elif record.kind is Kind.MESSAGE:
            if record.readers:
                self._deliver(record)
            else:
                self.fanout.share(heard(record))
        else:
            if origin is None:
                self._note_elsewhere(record)
            self._tell_all(record)

    def _fail(self, entry: Entry) -> None:
        """Take back what the log did not take."""
        origin = entry.origin
        if isinstance(origin, _Asked):
            self._answer(origin, Code.LOG_UNAVAILABLE)
        elif isinstance(origin, Person) and entry.text == JOINED:
            if origin.asked is not None:
                origin.asked.unused()
            if origin.place is Place.COMING:
                self._forget(origin)
                if origin.former_left is not None:
                    self._unheard.append(origin.former_left)
            if origin.seat is not None:
                seat, origin.seat = origin.seat, None
                seat.person = None
                self._refuse(seat, Code.LOG_UNAVAILABLE)
        elif isinstance(origin, Person):
            self._left_unheard(origin, entry)

    def _answer(self, asked: _Asked, refusal: Code | None) -> None:
        self._uncommitted_bytes -= asked.cost
        asked.answer(refusal)

    def _left_unheard(self, person: Person, entry: Entry) -> None:
        """Nobody has heard that a person left. It must not be told of who has the name now."""
        successor = self._people.get(person.name.key)
        if successor is None:
            self._unheard.append(entry)
        elif successor.place is Place.COMING:
            successor.former_left = entry

    def _note_elsewhere(self, record: Record) -> None:
        """Another server has told who comes and goes there."""
        if record.kind is Kind.ROLL:
            self._elsewhere.clear()
        if not record.identity:
            return
        try:
            key = parse_name(record.sender).key
        except RemoteError:  # another version of ours, or of Unicode, has other rules for names
            key = record.sender
        person = self._people.get(key)
        if (
            record.kind is Kind.MOVED
            and person is not None
            and person.identity == record.identity
            and person.claim.since < record.id
        ):
            self._expel(person, lambda seat: seat.replaced())
        if record.text == LEFT or record.kind is Kind.GONE:
            if self._elsewhere.get(key, ("", ""))[1] == record.identity:
                del self._elsewhere[key]
        elif key not in self._people:
            self._elsewhere[key] = record.sender, record.identity
        self._list = None

    def _arrive(self, person: Person, record: Record) -> None:
        self._list = None
        self._elsewhere.pop(person.name.key, None)
        person.asked = None
        if person.place is Place.GONE:
            return  # Expelled meanwhile; others tell it.
        if person.seat is not None:
            seat = person.seat
            person.become(Place.HERE)
            self._seated(person, seat)
            if record.kind is Kind.PRESENCE:
                self._presences.welcome(seat.outbox, heard(record), self.size)
            else:
                self._presences.catch_up(seat.outbox, self.size)
        elif not self._closed:
            self._tell_all(record)
            self._depart(person)

    def _tell_all(self, record: Record) -> None:
        if record.kind is Kind.PRESENCE:
            self._presences.announce(heard(record), self.size)
        elif record.kind is Kind.ORDER:
            self.fanout.share(heard_order(record))
            self.on_order(record)
        elif record.kind is Kind.GAP:
            self.fanout.share(heard(record))

    def _deliver(self, record: Record) -> None:
        listener = self._find(record.recipient)
        if listener is None or listener.seat is None or listener.place is not Place.HERE:
            return
        # Who holds the name now need not be who was spoken to.
        if listener.identity in record.readers:
            listener.seat.outbox.put(heard(record))

    # The common part.

    def _seated(self, person: Person, seat: Seat) -> None:
        seat.answer(person)
        if not seat.left:
            seat.outbox.listen()

    def _depart(self, person: Person) -> None:
        self._forget(person)
        self._gather(_presence(person, LEFT))

    def _forget(self, person: Person) -> None:
        person.become(Place.GONE)
        del self._people[person.name.key]
        self._list = None
        self._names.release(person.claim)

    def _find(self, raw: str) -> Person | None:
        try:
            return self._people.get(parse_name(raw).key)
        except RemoteError:
            return None

    def _look_up(self, raw: str) -> tuple[str, str, str]:
        """Return the name, its key and the identity of somebody in the room. Raises RemoteError."""
        listener = self._find(raw)
        if listener is not None and listener.place is Place.HERE:
            return listener.name.text, listener.name.key, listener.identity
        with suppress(RemoteError):
            key = parse_name(raw).key
            if elsewhere := self._elsewhere.get(key):
                name, identity = elsewhere
                return name, key, identity
        raise RemoteError(Code.NO_SUCH_USER)

    def _expel(self, person: Person, tell: Callable[[Seat], None]) -> None:
        """Let somebody go without a word to the others."""
        seat, person.seat = person.seat, None
        self._forget(person)
        if seat is not None:
            seat.left = True
            seat.outbox.stop_listening()
            tell(seat)

    def _gather(self, entry: Entry) -> None:
        self._gathered.append(entry)
        self._turn.gather(self._append)

    def _append(self) -> None:
        entries = self._unheard + self._gathered
        self._unheard, self._gathered = [], []
        self._log.append(entries)


def _mark(number: int, recipient: str, text: str) -> bytes:
    """Tell messages of one person apart. `recipient` is a key: names may be spelled in many ways.

    The number alone would do if every client counted on when it comes back. One that begins at 1
    again would lose what it says; so what is said counts too.
    """
    return blake2b(f"{number} {recipient} {text}".encode(), digest_size=8).digest()


def _presence(person: Person, what: str, kind: Kind = Kind.PRESENCE) -> Entry:
    return Entry(kind, person.name.text, EVERYBODY, what, origin=person, identity=person.identity)
