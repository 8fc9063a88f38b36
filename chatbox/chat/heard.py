"""What was said, as the line in which people hear it, now or later."""

from __future__ import annotations

from typing import Final

from chatbox.chat.presence import SERVER
from chatbox.chat.wire import EVERYBODY, format_fields
from chatbox.log import Kind, Record

__all__ = ["heard"]

GAP: Final = "Messages up to here are gone."

_RESPONSES: Final = {
    Kind.MESSAGE: "message_received",
    Kind.PRESENCE: "presence",
    Kind.GAP: "gap",
}


def heard(record: Record) -> bytes:
    """Return the line in which a record is heard."""
    return format_fields(
        sender=record.sender or SERVER,
        recipient=record.recipient or EVERYBODY,
        text=record.text or GAP,
        response=_RESPONSES[record.kind],
        sequence=record.id,
        time=record.at or None,
    )
