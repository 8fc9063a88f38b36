"""The ticket's text form."""

from __future__ import annotations

import base64
import string

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.errors import RemoteError
from chatbox.rdt.ticket import SECRET_BYTES, Ticket
from tests.helpers import vectors

tickets = st.builds(
    Ticket,
    connection_id=st.integers(0, 0xFFFFFFFF),
    secret=st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES),
)


class TicketTests(SynchronousTestCase):
    """Tickets as text, and text that is no ticket."""

    @given(tickets)
    def test_round_trip(self, ticket: Ticket) -> None:
        """Every ticket is read back from its text, which needs no escapes anywhere."""
        text = str(ticket)
        self.assertEqual(Ticket.parse(text), ticket)
        self.assertEqual(len(text), 48)
        self.assertTrue(set(text) <= set(string.ascii_letters + string.digits + "-_"))

    @given(st.text() | st.text(string.ascii_letters + string.digits + "-_=", max_size=60))
    def test_any_text(self, text: str) -> None:
        """Any text is a ticket or raises RemoteError, and nothing else."""
        try:
            ticket = Ticket.parse(text)
        except RemoteError as error:
            self.assertEqual(error.code, "bad-ticket")
        else:
            self.assertEqual(str(ticket), text)

    def test_wrong_length(self) -> None:
        """Too short, too long, empty, padded and damaged texts are refused."""
        good = vectors.TICKET_TEXT
        for bad in (
            "",
            good[:-1],
            good[:-4],
            good + "AAAA",
            good + "=",
            good[:-1] + "!",
            " " + good,
        ):
            error = self.assertRaises(RemoteError, Ticket.parse, bad)
            self.assertEqual((error.code, bad), ("bad-ticket", bad))

    def test_other_alphabet(self) -> None:
        """Plain base64 is not base64url."""
        text = str(Ticket(0xFFFFFFFF, b"\xff" * SECRET_BYTES))
        self.assertEqual(set(text), {"_"})
        self.assertRaises(RemoteError, Ticket.parse, text.replace("_", "/"))

    def test_layout(self) -> None:
        """The text is base64url of the connection id, big-endian, and the secret."""
        self.assertEqual(str(vectors.TICKET), vectors.TICKET_TEXT)
        raw = base64.urlsafe_b64decode(vectors.TICKET_TEXT)
        self.assertEqual(raw, bytes.fromhex("c0ffee01") + bytes(range(32)))

    def test_secret_is_not_shown(self) -> None:
        """What a log may show of a ticket does not have the secret in it."""
        shown = repr(vectors.TICKET)
        self.assertNotIn(repr(vectors.TICKET.secret), shown)
        self.assertNotIn("secret", shown)
