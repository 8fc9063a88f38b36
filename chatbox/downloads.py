"""Where the chat's downloads come from: the shelf and the transfers, joined.

What passes through is a transfer's ticket, minted by the one side and carried to the client by the
other.
"""

from __future__ import annotations

from collections.abc import Callable

from chatbox.addresses import network_of
from chatbox.chat.accounts import account_of
from chatbox.chat.moderation import IsMeant
from chatbox.chat.names import parse_name
from chatbox.chat.sharing import Offer, Probe
from chatbox.rdt.admissions import Taker
from chatbox.rdt.probe import PROBE_BYTES, ProbeFile
from chatbox.rdt.service import TransferService
from chatbox.shelf import Shelf

__all__ = ["ShelfDownloads"]


class ShelfDownloads:
    """Joins the shelf and the transfers into what the chat calls its downloads."""

    def __init__(
        self,
        shelf: Shelf,
        transfers: TransferService,
        on_offer: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_offer` is called when something is going to be sent, and the transfers know of it."""
        self._shelf = shelf
        self._transfers = transfers
        self._on_offer = on_offer

    def offer(self, name: str, host: str, file_name: str) -> Offer:
        """Open a file and make ready to send it to somebody. Raises RemoteError."""
        file = self._shelf.open(file_name)
        size, digest = file.size, file.digest()
        # A STATUS tells it modulo 2^64. What is not the same here and there would be another file.
        mtime_ms = file.mtime_ns // 1_000_000 if 0 <= file.mtime_ns < 1 << 64 else None
        try:
            port, ticket = self._transfers.offer(_taker(name, host), file)
        except BaseException:
            file.close()
            raise
        self._on_offer()
        return Offer(port, str(ticket), size, mtime_ms, digest.hex() if digest else None)

    def probe(self, name: str, host: str, size: int | None, which: int | None) -> Probe:
        """Make a look at the path ready for somebody. Raises RemoteError."""
        file = ProbeFile(PROBE_BYTES if size is None else size)
        port, ticket = self._transfers.offer(_taker(name, host), file, which)
        self._on_offer()
        return Probe(port, str(ticket), file.size, len(self._transfers.ports))

    def withdraw(self, is_meant: IsMeant) -> None:
        """End what is being sent to those who are banned now."""
        self._transfers.withdraw(lambda taker: is_meant(taker.user, taker.host))


def _taker(name: str, host: str) -> Taker:
    """Who somebody is for the transfers: all devices of an account are one."""
    return Taker(account_of(parse_name(name)).key, network_of(host), host)
