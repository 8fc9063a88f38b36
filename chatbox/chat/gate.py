"""Who may come in: what a session asks before it asks the room for a name.

A gate answers with an `Admission` or with a `Refusal`, at once or later. Without accounts the gate
is open: whoever comes has the name that is free, or whose token they show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from chatbox.addresses import read_address
from chatbox.chat.codes import Code
from chatbox.chat.names import Name

__all__ = [
    "NOWHERE",
    "Admission",
    "Gate",
    "OpenGate",
    "Origin",
    "Refusal",
    "Visitor",
]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection comes from."""

    host: str
    """The peer's IP address; empty for a Unix socket."""
    encrypted: bool = False
    """Whether it is TLS."""

    @property
    def is_local(self) -> bool:
        """Whether it comes from this machine, where nobody listens in."""
        if not self.host:
            return True
        address = read_address(self.host)
        return address is not None and address.is_loopback


NOWHERE: Final = Origin("")


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who wants to come in, with what they show."""

    name: Name
    key: str | None
    """A token from an earlier time."""
    password: str | None
    origin: Origin


@dataclass(frozen=True, slots=True)
class Admission:
    """Somebody may come in, if the name is free or theirs."""

    token: str | None
    """The token to claim the name with."""
    key: str | None = None
    """What the client is given to come back with; None if that is the token of the claim."""
    unused: Callable[[], None] = lambda: None
    """What to call if they do not come in after all, and nobody hears of them."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Somebody may not come in."""

    code: Code
    wait: int | None = None
    """After how many seconds it is worth trying again, if that is known."""


class Gate(Protocol):
    """Lets people in, or not."""

    def start(self) -> None:
        """Begin to work. Raises OSError or LocalError, in words, if that is impossible."""

    def admit(self, visitor: Visitor, answer: Callable[[Admission | Refusal], None]) -> None:
        """Decide whether somebody may have the name, as far as that is not a matter of others."""


class OpenGate:
    """A gate for everybody."""

    def start(self) -> None:
        """There is nothing to do."""

    def admit(self, visitor: Visitor, answer: Callable[[Admission | Refusal], None]) -> None:
        """Let everybody in; there are no accounts, and so no passwords."""
        answer(Admission(visitor.key))
