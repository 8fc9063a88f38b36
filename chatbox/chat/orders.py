"""What an operator wants done, in the log and as people hear of it.

In the log an order is ``ACTION SECONDS REASON``, with its target as the recipient. People hear who
did what to whom, but addresses of nobody: for a network the recipient is empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from chatbox.addresses import is_network
from chatbox.chat.wire import format_fields
from chatbox.errors import LocalError
from chatbox.log import Record

__all__ = ["MAX_SECONDS", "Action", "Order", "heard_order", "read_order"]


MAX_SECONDS: Final = 10 * 366 * 86_400
"""How long a ban or a mute with an end may last; longer is for good."""


class Action(Enum):
    """What an operator can do; the value is the request."""

    KICK = "kick"
    BAN = "ban"
    MUTE = "mute"
    UNBAN = "unban"
    UNMUTE = "unmute"

    @property
    def done(self) -> str:
        """The news that it was done."""
        return _DONE[self]


_DONE: Final = {
    Action.KICK: "kicked",
    Action.BAN: "banned",
    Action.MUTE: "muted",
    Action.UNBAN: "unbanned",
    Action.UNMUTE: "unmuted",
}


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done to whom."""

    action: Action
    target: str
    seconds: int | None = None
    """How long; None for good, and where that means nothing."""
    reason: str = ""

    @property
    def text(self) -> str:
        """How it stands in the log, beside its target."""
        return f"{self.action.value} {self.seconds or 0} {self.reason}"


def read_order(record: Record) -> Order:
    """Read what stands in the log. Raises LocalError if it is no order."""
    action, _, rest = record.text.partition(" ")
    length, _, reason = rest.partition(" ")
    try:
        seconds = int(length) or None
        if seconds is not None and not 0 < seconds <= MAX_SECONDS:
            raise ValueError
        return Order(Action(action), record.recipient, seconds, reason)
    except ValueError as error:
        raise LocalError(f"{record.text!r} is no order") from error


def heard_order(record: Record) -> bytes:
    """Return the line in which everybody hears of an order; none if it makes no sense."""
    try:
        order = read_order(record)
    except LocalError:
        return b""
    return format_fields(
        sender=record.sender,
        recipient="" if is_network(order.target) else order.target,
        text=order.reason,
        response=order.action.done,
        sequence=record.id,
        time=record.at,
        count=order.seconds,
    )
