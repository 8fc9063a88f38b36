"""The ticket: what a client gets over the chat connection and shows on the UDP side."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from chatbox.errors import RemoteError

SECRET_BYTES = 32
"""Enough that nobody guesses it, and the length of HKDF-SHA256's own output (RFC 5869)."""

_ID_BYTES = 4


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to one transfer: which one (`connection_id`, 32 bits) and the secret that its keys
    come from.
    """

    connection_id: int
    secret: bytes = field(repr=False)

    def __str__(self) -> str:
        """The text of the ``k`` field: 48 characters of URL-safe base64."""
        raw = self.connection_id.to_bytes(_ID_BYTES, "big") + self.secret
        return base64.urlsafe_b64encode(raw).decode("ascii")

    @classmethod
    def parse(cls, text: str) -> Ticket:
        """
        Read the text form.

        :raises RemoteError: ``bad-ticket`` if it is not one.
        """
        try:
            raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            raw = b""
        ticket = cls(int.from_bytes(raw[:_ID_BYTES], "big"), raw[_ID_BYTES:])
        # Base64 as Python reads it has more than one text for the same bytes; a ticket has one.
        if len(ticket.secret) != SECRET_BYTES or str(ticket) != text:
            raise RemoteError("bad-ticket", "The server sent a ticket that is not one.")
        return ticket
