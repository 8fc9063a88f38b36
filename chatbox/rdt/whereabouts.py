"""
Where the client is, as far as that is proven.

A packet's seal says that it is the client's. It does not say that the client is *there*: whoever
has a ticket may write somebody else's address on OPEN, to have a file sent to people who never
asked, and somebody may have copied a packet and sent it from elsewhere. So an address is believed
at once only if it is the one that the client's chat comes from, which TCP has proven. To any other
goes nothing but a STATUS for each packet that comes from it, until a challenge in it comes back.

The client's newest packet may also come from another address than those before: new Wi-Fi, a router
that forgot (RFC 9000 section 9). That has to be proven in the same way, and the old address is
served meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable

from chatbox.addresses import canonical


class Whereabouts:
    """The address of one client, which may move."""

    __slots__ = ("_candidate", "_challenges", "_due", "_host", "_secret", "address")

    def __init__(self, secret: bytes, host: str) -> None:
        """`host` is the address that the client's chat comes from, "" if it has none."""
        self.address: Hashable = None
        """Where the client is; None before it is known."""
        self._secret = secret
        self._host = canonical(host)
        self._candidate: Hashable = None
        """Another address that the client seems to have moved to."""
        self._challenges = 0
        self._due = False

    def follow(self, address: Hashable, challenge: int) -> bool:
        """
        The client's newest packet came from `address` and gave `challenge` back: whether that
        proves that it has moved there.
        """
        if self.address is None and self._host and _host_of(address) == self._host:
            self.address = address
        if address == self.address:
            self._candidate = None
        elif self._candidate == address and challenge == self._challenge:
            self.address, self._candidate = address, None
            return True
        else:
            if self._candidate != address:
                self._candidate = address
                self._challenges += 1
            self._due = True
        return False

    def take_challenge(self) -> tuple[int, Hashable] | None:
        """The challenge to send now, and where to; None if there is none."""
        due, self._due = self._due, False
        return (self._challenge, self._candidate) if due and self._candidate is not None else None

    @property
    def _challenge(self) -> int:
        """
        What proves that one can read what goes to the candidate. It follows from the secret, so
        nobody guesses it; it changes with the candidate, and is told to no other address.
        """
        challenge = hashlib.sha256(self._secret + self._challenges.to_bytes(8, "big")).digest()
        return int.from_bytes(challenge[:8], "big")


def _host_of(address: Hashable) -> str:
    """The host of a socket's address."""
    return canonical(str(address[0] if isinstance(address, tuple) else address))
