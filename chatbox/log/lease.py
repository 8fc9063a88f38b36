"""What a node holds in Redis as long as it shows that it is alive: a lease, and its people's names.

A node that cannot renew its lease for `LEASE_SECONDS` is dead for the others: whichever of them
finds that out first announces its people as gone, and gives their names away. So a node that cannot
renew must let go before that, at `FENCE_SECONDS` by its own clock. It goes on as a new node, under
another name, so that nothing of the old one can be mistaken for its own.

There is one lease for all names of a node. A lease for each name would expire in just the same
cases, and cost a command for each person every few seconds.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Final

from twisted.logger import Logger

from chatbox.log.scripts import CLAIM, RELEASE, RENEW

__all__ = ["FENCE_SECONDS", "LEASE_SECONDS", "Lease"]

LEASE_SECONDS: Final = 15.0
"""How long the others keep a silent node's people. It is renewed at a third of that."""

FENCE_SECONDS: Final = 12.0
"""When a node that cannot renew gives up its names: before the others may give them away."""

RELEASE_SECONDS: Final = 0.01
"""How long after its owner a name leaves: longer than a turn of the reactor."""

_log = Logger()


class Lease:
    """One node's lease, and the names that go with it: a registry for whoever gives names out.

    `ask` runs a script and gives its reply to a function, or None if there is none; `now` is a
    clock in seconds, and `later` calls a function after some of them.
    """

    def __init__(
        self,
        ask: Callable[[str, list[object], Callable[[object], None]], None],
        now: Callable[[], float],
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._ask = ask
        self._now = now
        self._later = later
        self._renewed_at: float | None = None
        self._renewing = False
        self.node = secrets.token_hex(8)
        """What the lease is called."""
        self.on_lost: Callable[[], None] = lambda: None
        """Called when the lease is lost, and all names with it."""

    @property
    def held(self) -> bool:
        """Whether names can be given out."""
        return self._renewed_at is not None

    def claim(self, key: str, holder: dict[str, str], answer: Callable[[str], None]) -> None:
        """Try to hold a name for a person of this node: new, moved, taken, or anything else if not.

        `holder` has the name, the identity, and as proof a word that only this person knows.
        """
        text = json.dumps({**holder, "node": self.node})
        values: list[object] = [self.node, key, text, holder["proof"]]
        self._ask(
            CLAIM,
            values,
            lambda reply: answer(reply.decode() if isinstance(reply, bytes) else "unavailable"),
        )

    def release(self, key: str, proof: str, held: Callable[[], bool]) -> None:
        """Let go of a name, unless it is `held` again a moment later.

        By then it is on its way that its owner has left, so everybody hears that before the name
        can be another's.
        """
        node = self.node

        def let_go() -> None:
            if not held():
                self._ask(RELEASE, [node, key, proof], lambda _: None)

        self._later(RELEASE_SECONDS, let_go)

    def check(self) -> None:
        """Renew the lease if it is time, or let go if it is too late. Call this twice a second."""
        age = None if self._renewed_at is None else self._now() - self._renewed_at
        if age is not None and age > FENCE_SECONDS:
            self._lose()
        # A clock that was set back must not keep us from renewing.
        elif age is None or not 0 <= age <= LEASE_SECONDS / 3:
            self.renew()

    def renew(self) -> None:
        """Renew the lease now."""
        if self._renewing:
            return
        self._renewing = True
        # It counts from before it was asked for: Redis may be slow to hear of it.
        asked_at = self._now()
        fresh = int(self._renewed_at is None)

        def renewed(reply: object) -> None:
            self._renewing = False
            if reply == 1:
                self._renewed_at = asked_at
            elif reply == 0:
                self._lose()

        self._ask(RENEW, [self.node, int(LEASE_SECONDS * 1000), fresh], renewed)

    def _lose(self) -> None:
        _log.error("this server could not keep its people's names; they must come again")
        self._renewed_at = None
        self.node = secrets.token_hex(8)
        self.on_lost()
        self.renew()
