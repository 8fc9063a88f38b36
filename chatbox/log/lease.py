"""What a node holds in Redis as long as it shows that it is alive: a lease, and its people's names.

A node that cannot renew its lease for `LEASE_SECONDS` is dead for the others: whichever of them
finds that out first announces its people as gone, and gives their names away. So a node that cannot
renew must let go before that, at `FENCE_SECONDS` by its own clock. It goes on as a new node, under
another name, so that nothing of the old one can be mistaken for its own. Redis takes nothing from a
node whose lease has ended, so one that slept over its end cannot speak for its people either.

There is one lease for all names of a node. A lease for each name would expire in just the same
cases, and cost a command for each person every few seconds.

What Redis must be told is told until it has answered: a name that is let go of, and one that was
asked for when the connection broke, which Redis may have given.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from twisted.logger import Logger

from chatbox.log.scripts import CLAIM, LEAVE, RELEASE, RENEW
from chatbox.log.streams import place_of

__all__ = ["FENCE_SECONDS", "LEASE_SECONDS", "Lease"]

LEASE_SECONDS: Final = 15.0
"""How long the others keep a silent node's people. It is renewed at a third of that."""

FENCE_SECONDS: Final = 12.0
"""When a node that cannot renew gives up its names: before the others may give them away."""

RELEASE_SECONDS: Final = 0.01
"""How long after its owner a name leaves: longer than a turn of the reactor."""

_log = Logger()

Held = Callable[[], bool]
"""Whether a name is held, or asked for, by somebody here."""


class _Debt:
    """A name that Redis is to take back, as soon as that is `due`, unless it is `held` by then.

    `unsaid` tells whether nobody could be told that its owner leaves; `asked` that Redis has been
    asked and has not answered.
    """

    __slots__ = ("asked", "due", "held", "unsaid")

    def __init__(self, held: Held, *, unsaid: bool) -> None:
        self.held = held
        self.unsaid = self.due = unsaid
        self.asked = False


class Lease:
    """One node's lease, and the names that go with it: a registry for whoever gives names out.

    `ask` runs a script and gives its reply to a function, or None if there is none; `now` is a
    clock in seconds that nobody sets, and `later` calls a function after some of them. `on_lost` is
    called when the lease is lost, and all names with it; `on_renewed` whenever it is renewed.
    """

    def __init__(
        self,
        ask: Callable[[str, list[object], Callable[[object], None]], None],
        now: Callable[[], float],
        later: Callable[[float, Callable[[], None]], object],
        on_lost: Callable[[], None] = lambda: None,
        on_renewed: Callable[[], None] = lambda: None,
    ) -> None:
        self._ask = ask
        self._now = now
        self._later = later
        self._on_lost = on_lost
        self._on_renewed = on_renewed
        self._renewed_at: float | None = None
        self._renewing = ""
        """The node that a renewal without an answer is for."""
        self._owed: dict[tuple[str, str], _Debt] = {}
        """What is to be released, by name and proof. As long as Redis answers that is not much, and
        when it does not, the lease and all this soon ends."""
        self.node = secrets.token_hex(8)
        """What the lease is called."""

    @property
    def held(self) -> bool:
        """Whether names can be given out."""
        return self._renewed_at is not None

    def claim(
        self, key: str, holder: dict[str, str], held: Held, answer: Callable[[str, int], None]
    ) -> None:
        """Try to hold a name for a person of this node: new, moved, taken, or anything else if not.

        `holder` has the name, the identity, and as proof a word that only this person knows. The
        `answer` also gets the place in the log since when the name is held.
        """
        if not self.held:
            answer("no-lease", 0)
            return
        node, proof = self.node, holder["proof"]

        def claimed(reply: object) -> None:
            since = None
            with suppress(ValueError):  # until what others wrote beyond all places is removed
                since = place_of(reply[1]) if isinstance(reply, list) else None
            if node != self.node:
                answer("no-lease", 0)  # any more
            elif isinstance(reply, list) and since is not None:
                answer(reply[0].decode(), since)
            else:
                answer("unavailable", 0)
                self._owed[key, proof] = _Debt(held, unsaid=True)

        self._ask(CLAIM, [node, key, json.dumps({**holder, "node": node}), proof], claimed)

    def release(self, key: str, proof: str, held: Held) -> None:
        """Let go of a name, unless it is `held` again a moment later.

        By then it is on its way that its owner has left, so everybody hears that before the name
        can be another's.
        """
        debt = self._owed[key, proof] = _Debt(held, unsaid=False)
        self._later(RELEASE_SECONDS, partial(self._settle_one, (key, proof), debt))

    def leave(self, left: Callable[[], None]) -> None:
        """End the lease, unless people are to come back. `left` is called once Redis knows."""
        for one, debt in list(self._owed.items()):
            self._settle_one(one, debt)
        self._renewed_at = None
        self._ask(LEAVE, [self.node], lambda _: left())

    def check(self) -> None:
        """Renew the lease if it is time, or let go if it is too late. Call this twice a second."""
        age = None if self._renewed_at is None else self._now() - self._renewed_at
        if age is not None and age > FENCE_SECONDS:
            self.lose()
        elif age is None or age > LEASE_SECONDS / 3:
            self.renew()

    def renew(self) -> None:
        """Renew the lease now."""
        node = self.node
        if self._renewing == node:
            return
        self._renewing = node
        # It counts from before it was asked for: Redis may be slow to hear of it.
        asked_at = self._now()
        fresh = int(self._renewed_at is None)

        def renewed(reply: object) -> None:
            if self._renewing == node:
                self._renewing = ""
            if node != self.node:
                return
            if reply == 1:
                self._renewed_at = asked_at
                self._settle()
                self._on_renewed()
            elif reply == 0:
                self.lose()

        self._ask(RENEW, [node, int(LEASE_SECONDS * 1000), fresh], renewed)

    def lose(self) -> None:
        """All names are lost, or cannot be relied on; go on as a new node."""
        _log.error("this server could not keep its people's names; they must come again")
        self._renewed_at = None
        self._owed.clear()
        self.node = secrets.token_hex(8)
        self._on_lost()
        self.renew()

    def _settle(self) -> None:
        """Release what is due, and nobody has told Redis of."""
        for one, debt in list(self._owed.items()):
            if debt.due:
                self._settle_one(one, debt)

    def _settle_one(self, one: tuple[str, str], debt: _Debt) -> None:
        """Release this, if it is still to be released."""
        debt.due = True
        if debt.asked or self._owed.get(one) is not debt:
            return
        if debt.held():
            del self._owed[one]
            return

        def released(reply: object) -> None:
            debt.asked = False
            if reply is not None and self._owed.get(one) is debt:
                del self._owed[one]

        debt.asked = True
        self._ask(RELEASE, [self.node, *one, int(debt.unsaid)], released)
