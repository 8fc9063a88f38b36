"""Who may be in a room: persons, and the connections that speak for them.

The log may take its time, and so may whoever gives out the names. So between asking and being here
lies a `Place`, and a connection may be gone before its answer comes:

- A `Person` is somebody who holds a name. It outlives connections: whoever shows the person's token
  takes the place of the connection that speaks for it, silently; for the others nothing changes.
- A `Seat` is one connection's stake in the room: it speaks for a person, or did.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

from chatbox.chat.codes import Code
from chatbox.chat.gate import NOWHERE, Origin
from chatbox.chat.names import Claim, Name
from chatbox.chat.outbox import Outbox
from chatbox.errors import LocalError
from chatbox.log import Entry

__all__ = ["PLACES", "Person", "Place", "Seat"]


class Place(Enum):
    """Where a person is."""

    COMING = "coming"
    """The name is held; that they joined is on its way through the log."""
    HERE = "here"
    GONE = "gone"


PLACES: Final = {
    Place.COMING: frozenset({Place.HERE, Place.GONE}),
    Place.HERE: frozenset({Place.GONE}),
    Place.GONE: frozenset[Place](),
}
"""From where to where a person may move."""


class Seat:
    """One connection's stake in the room.

    `replaced` is called when another connection with the same token takes the place of this one,
    `expelled` when the name could not be kept, and `put_out` with a code and a reason when an
    operator wants that. `unused` is called, once, if nobody hears of it that the person comes in,
    for they do not, whether or not the connection still waits. `origin` is where the connection
    comes from, and `operator` whether an operator asks for it.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        answer: Callable[[Person | Code], None],
        replaced: Callable[[], None],
        expelled: Callable[[], None] = lambda: None,
        put_out: Callable[[Code, str], None] = lambda _, __: None,
        unused: Callable[[], None] = lambda: None,
        origin: Origin = NOWHERE,
        operator: bool = False,
    ) -> None:
        self.outbox = outbox
        self.answer = answer
        self.replaced = replaced
        self.expelled = expelled
        self.put_out = put_out
        self._unused: Callable[[], None] | None = unused
        self.origin = origin
        self.operator = operator
        self.person: Person | None = None
        self.left = False
        self.number = ""
        """Which of the room's seats this is, for `Attempt.via`."""

    def unused(self) -> None:
        """Nobody hears of it that the person comes in."""
        unused, self._unused = self._unused, None
        if unused is not None:
            unused()


class Person:
    """Somebody who holds a name.

    `seat` speaks for them; None once that connection is gone, or while they are expected back.
    `asked` is the seat that they come in by, until others hear that they are here.
    """

    def __init__(self, claim: Claim, seat: Seat | None = None, asked: Seat | None = None) -> None:
        self.claim = claim
        self.identity = claim.identity
        self.seat = seat
        self.asked = asked
        self.place = Place.COMING
        self.former_left: Entry | None = None
        """That who had the name before has left, if the log did not take it."""

    @property
    def name(self) -> Name:
        """What they are called."""
        return self.claim.name

    def become(self, place: Place) -> None:
        """Move to another place. Raises LocalError if there is no way."""
        if place not in PLACES[self.place]:
            raise LocalError(f"Nobody who is {self.place.value} can be {place.value}")
        self.place = place
