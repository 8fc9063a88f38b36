"""How far the server's conversation with a client has come, and where it may go from there."""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["TRANSITIONS", "State"]


class State(Enum):
    """How far the conversation has come."""

    NAMELESS = "nameless"
    JOINING = "joining"
    HERE = "here"
    GONE = "gone"


TRANSITIONS: Final = {
    State.NAMELESS: frozenset({State.JOINING, State.GONE}),
    State.JOINING: frozenset({State.HERE, State.NAMELESS, State.GONE}),
    State.HERE: frozenset({State.GONE}),
    State.GONE: frozenset[State](),
}
"""From which state to which a conversation may go. A refused name leads back to NAMELESS."""
