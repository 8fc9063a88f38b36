"""The states of one transfer at the server: see `chatbox.rdt.sender`."""

from __future__ import annotations

from enum import Enum

from chatbox.rdt.packet import Phase


class State(Enum):
    """Where the transfer stands."""

    WAITING = "waiting"
    SENDING = "sending"
    PAUSED = "paused"
    SENT = "sent"
    ENDING = "ending"
    CLOSED = "closed"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.WAITING: frozenset({State.SENDING, State.CLOSED}),
    State.SENDING: frozenset({State.PAUSED, State.SENT, State.ENDING}),
    State.PAUSED: frozenset({State.SENDING, State.ENDING}),
    State.SENT: frozenset({State.ENDING}),
    State.ENDING: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}

PHASES: dict[State, Phase] = {
    State.SENDING: Phase.SENDING,
    State.PAUSED: Phase.PAUSED,
    State.SENT: Phase.SENT,
    State.ENDING: Phase.ENDED,
}
"""What the client is told of them."""
