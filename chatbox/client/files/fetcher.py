"""The transfers of a real client, from the server that it talks to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, TimeoutError

from chatbox.client.chat.events import Offer
from chatbox.client.connect.connection import LEAVE_TIMEOUT
from chatbox.client.files.transfers import Transfer
from chatbox.threads import start_thread

if TYPE_CHECKING:
    from chatbox.client.files.download import PartFile

__all__ = ["Fetcher"]


class Fetcher:
    """Begins transfers from the server at the IP `address`: the `Fetch` of a real client.

    `via` is the IP and UDP port of a relay to send to instead.
    """

    def __init__(self, reactor: Any, address: str, via: tuple[str, int] | None = None) -> None:
        self._reactor = reactor
        self._address = address
        self._via = via
        self._ending: list[Deferred[None]] = []

    def __call__(
        self,
        offer: Offer,
        target: PartFile,
        listener: Callable[[object], None],
        *,
        pause_half_way: bool,
        rate_limit: int | None,
        rtt: float,
    ) -> Transfer:
        """Begin one. Raises RemoteError or OSError."""
        # The transfer's code, and the cryptography with it, is loaded when it is needed.
        from chatbox.rdt.ends import End
        from chatbox.rdt.fetch import fetch
        from chatbox.rdt.receiver import Ended
        from chatbox.rdt.ticket import Ticket

        def hear(event: object) -> None:
            if isinstance(event, Ended) and event.end is not End.PEER_SILENT:
                self._ending.append(transfer.closed)
            listener(event)

        transfer = fetch(
            self._reactor,
            self._via or (self._address, offer.port),
            Ticket.parse(offer.ticket),
            offer.size,
            target,
            hear,
            pause_half_way=pause_half_way,
            rate_limit=rate_limit,
            rtt=rtt,
        )
        return transfer

    def prepare(self, target: PartFile, size: int, then: Callable[[], None]) -> None:
        """Let a thread wait for the disk; call `then` when `target` can begin, or says why not."""

        def run() -> None:
            try:
                target.prepare(size)
            finally:  # a mistake is made again where somebody is told of it
                self._reactor.callFromThread(then)

        try:
            start_thread(run, "prepare file")
        except OSError:
            then()  # there it needs another, and says so

    async def tell_ends(self) -> None:
        """Let the server hear how the transfers ended, before this process is gone."""
        ending, self._ending = self._ending, []
        told: Deferred[object] = Deferred()
        # Not that list itself, for which to be cancelled is one more way to be complete: whoever
        # presses Ctrl-C now would be ignored.
        DeferredList(ending, consumeErrors=True).addCallback(told.callback)
        with suppress(TimeoutError):
            await told.addTimeout(LEAVE_TIMEOUT, self._reactor)
