"""Names that several servers give out together, each to one person in all of them.

Who holds a name is known to a `Registry` that the servers share; who speaks for a name, and with
which token, is known only to the server that the person is connected to. The registry gets a hash
of the token, so that it can tell the owner of a name from others and could not pass for the owner.

It is asked for every claim, also of a name that is held here: a server that has not heard the news
yet must not decide by what it remembers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Protocol

from chatbox.chat.codes import Code
from chatbox.chat.names import Claim, Name, is_token

__all__ = ["Registry", "SharedNames"]


class Registry(Protocol):
    """Where the servers look up who holds a name."""

    def claim(
        self,
        key: str,
        holder: dict[str, str],
        held: Callable[[], bool],
        answer: Callable[[str, int], None],
    ) -> None:
        """Hold a name: ``new``; ``moved``, from another server; ``taken``; or not to be had now.

        The second part of the answer is the place in the log since when. `held` tells whether the
        name is wanted here, should it turn out later that it was given.
        """

    def release(self, key: str, proof: str, held: Callable[[], bool]) -> None:
        """Let go of a name soon, unless it is `held` again by then."""


class SharedNames:
    """`Names` of all servers that have the same registry."""

    def __init__(self, registry: Registry, make_token: Callable[[], str]) -> None:
        self._registry = registry
        self._make_token = make_token
        self._claims: dict[str, Claim] = {}
        self._asking: dict[str, int] = {}
        """How many claims of a name are on their way."""

    def claim(self, name: Name, token: str | None, answer: Callable[[Claim | Code], None]) -> None:
        """Give `name` to whoever comes first anywhere, or has its token."""
        if token is not None and not is_token(token):
            answer(Code.BAD_TOKEN)
            return
        claim = Claim(name, token or self._make_token())
        holder = {"name": name.text, "identity": claim.identity, "proof": _proof(claim)}
        self._asking[name.key] = self._asking.get(name.key, 0) + 1
        self._registry.claim(
            name.key, holder, partial(self._holds, name.key), partial(self._claimed, claim, answer)
        )

    def release(self, claim: Claim) -> None:
        """Make the name free, if this claim is the one that holds it."""
        key = claim.name.key
        if self._claims.get(key) is claim:
            del self._claims[key]
            self._registry.release(key, _proof(claim), partial(self._holds, key))

    def forget_all(self) -> None:
        """All names are lost."""
        self._claims.clear()

    def _holds(self, key: str) -> bool:
        return key in self._claims or key in self._asking

    def _claimed(
        self, claim: Claim, answer: Callable[[Claim | Code], None], outcome: str, since: int
    ) -> None:
        key = claim.name.key
        self._asking[key] -= 1
        if not self._asking[key]:
            del self._asking[key]
        if outcome not in ("new", "moved"):
            answer(Code.NAME_TAKEN if outcome == "taken" else Code.LOG_UNAVAILABLE)
            return
        held = self._claims.get(key)
        resumed = held is not None and held.token == claim.token
        name = held.name if held is not None and resumed else claim.name
        self._claims[key] = Claim(name, claim.token, resumed, outcome == "moved", since)
        answer(self._claims[key])


def _proof(claim: Claim) -> str:
    return hashlib.sha256(b"chatbox proof " + claim.token.encode()).hexdigest()
