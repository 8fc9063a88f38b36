"""How far a client's conversation has come, what moves it on, and what it may ask when."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from chatbox.client.chat.events import Kind

__all__ = ["AHEAD", "ASKABLE", "ASKABLE_ELSE", "AWAY", "TRANSITIONS", "Cause", "State"]


class State(Enum):
    """How far the conversation has come."""

    FRESH = "fresh"  # connected, without a name
    JOINING = "joining"  # asked for a name
    JOINED = "joined"
    AWAY = "away"  # the connection is cut, and another one may come
    REJOINING = "rejoining"  # asked for our name, and for what was missed
    LEAVING = "leaving"  # said goodbye; the server has yet to close
    ENDED = "ended"


class Cause(Enum):
    """What moves the conversation on."""

    JOIN = "join"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    LEAVE = "leave"
    CUT = "cut"
    REJOIN = "rejoin"
    CAUGHT_UP = "caught up"
    LOST = "lost"


TRANSITIONS: Final[Mapping[State, Mapping[Cause, State]]] = {
    State.FRESH: {Cause.JOIN: State.JOINING, Cause.LOST: State.ENDED},
    State.JOINING: {
        Cause.ACCEPTED: State.JOINED,
        Cause.REFUSED: State.FRESH,
        Cause.LOST: State.ENDED,
    },
    State.JOINED: {Cause.LEAVE: State.LEAVING, Cause.CUT: State.AWAY, Cause.LOST: State.ENDED},
    State.AWAY: {Cause.REJOIN: State.REJOINING, Cause.LOST: State.ENDED},
    State.REJOINING: {
        Cause.CAUGHT_UP: State.JOINED,
        Cause.CUT: State.AWAY,
        Cause.LOST: State.ENDED,
    },
    State.LEAVING: {Cause.LOST: State.ENDED},
    State.ENDED: {},
}

AWAY: Final = frozenset({State.AWAY, State.REJOINING})
"""When there is no connection to the room, but will be one."""

AHEAD: Final = frozenset({State.JOINING, State.JOINED})
"""When things may be asked in the same breath as a name, to be answered once we have it."""

ASKABLE: Final[Mapping[Kind, frozenset[State]]] = {
    # The state has changed already when these are asked.
    Kind.CONNECT: frozenset({State.JOINING, State.REJOINING}),
    Kind.DISCONNECT: frozenset({State.LEAVING}),
    Kind.CATCH_UP: frozenset({State.REJOINING}),
    Kind.USERS: AHEAD,
    Kind.FILES: AHEAD,
    Kind.HISTORY: AHEAD,
    Kind.DOWNLOAD: AHEAD,
    # What is said while away is sent when we are back.
    Kind.SAY: AHEAD | AWAY,
}
"""In which states a request may be made..."""

ASKABLE_ELSE: Final = frozenset({State.JOINED})
"""... and in which, if it is not in the table."""
