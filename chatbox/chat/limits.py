"""How much one client, one address and all clients together may take.

A limit that a peer meets has a code in `chatbox.chat.codes`, and what a client can keep to is told
to it when it joins (`Limits.told`). Whoever sends faster than its `Bucket` fills is not refused
anything: it is not read from until it may go on, so nothing is lost and its answers stay in order.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

from chatbox.chat.codes import Code
from chatbox.chat.names import MAX_NAME_CHARACTERS
from chatbox.chat.pipeline import MAX_IN_PROGRESS
from chatbox.chat.wire import MAX_REQUEST_BYTES, MAX_TEXT_BYTES

__all__ = [
    "ANSWER_BYTES",
    "LONGEST_WAIT",
    "MAX_TURNED_AWAY",
    "NO_LIMITS",
    "Bucket",
    "ConnectionCount",
    "Limits",
]

ANSWER_BYTES: Final = MAX_TEXT_BYTES
"""So much of an answer counts as one request more, as if the client had said it. What costs a
server time is what it has to find and to write: a page of history, a list of people or files."""

LONGEST_WAIT: Final = 10.0
"""Seconds that one answer makes its client wait at most: a client gives a server up after 30."""

MAX_TURNED_AWAY: Final = 20
"""Refused connections that may stay until they have heard why, which takes a handshake in TLS. They
are no more than the open files that a server has to spare (see `chatbox.openfiles`)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator allows. 0 means that there is no such limit; of `text` and `name` there
    always is one."""

    connections: int = 10_000
    """Clients connected at once: some 120 MB of memory."""
    connections_per_address: int = 200
    """Of those, how many may come from one IP address, or network /64 of IPv6: a school behind one
    router, but not all."""
    login_timeout: float = 60.0
    """Seconds from connecting to having a name. Enough to type a connect request into netcat."""
    rate: float = 50.0
    """Requests a second of one client, in the long run: more than anybody types or reads."""
    burst: int = 500
    """How many may come at once: a paste, or what a client says again when it comes back."""
    join_rate: float = 2.0
    """People a second who come in from one network, in the long run. Everybody hears of each."""
    join_burst: int = 200
    """How many may come in at once: as many as may be connected from one address by default, after
    a restart."""
    users: int = 0
    """People in the room. Whoever is connected may come in, unless an operator wants it smaller."""
    text: int = MAX_TEXT_BYTES
    """Bytes of one message's text."""
    name: int = MAX_NAME_CHARACTERS
    """Characters of a name, as far as it is that of an account."""

    @property
    def line(self) -> int:
        """Bytes of a line from a client. A text that is a bit too long is still read, so that the
        refusal can say what is too long."""
        return MAX_REQUEST_BYTES + 2 * max(self.text - MAX_TEXT_BYTES, 0)

    def told(self) -> str:
        """What a client is told: words ``name=number``."""
        facts = {
            "line": self.line,
            "text": self.text,
            "name": self.name,
            "open": MAX_IN_PROGRESS,
        }
        if self.users:
            facts["users"] = self.users
        if self.rate:
            facts |= {"rate": round(self.rate) or 1, "burst": self.burst, "answer": ANSWER_BYTES}
        return " ".join(f"{name}={number}" for name, number in facts.items())


NO_LIMITS: Final = Limits(0, 0, 0, 0, 0, 0, 0)
"""For tests and for what is not open to strangers."""


class ConnectionCount:
    """Counts connections, in all and by network (see `network_of`)."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._total = 0
        self._by_network: Counter[str] = Counter()
        self._turned_away = 0

    def limit(self, connections: int) -> None:
        """Have no more connections in all than this, if that is less than the limit."""
        if not 0 < self._limits.connections <= connections:
            self._limits = replace(self._limits, connections=connections)

    def enter(self, network: str) -> Code | None:
        """Count a connection in, or answer why it may not come in; then it is not counted.

        `network` is "" for what has none, such as a UNIX socket; those are not counted by it.
        """
        limits = self._limits
        if limits.connections and self._total >= limits.connections:
            return Code.TOO_MANY_CONNECTIONS
        most = limits.connections_per_address
        if most and self._by_network[network] >= most:
            return Code.TOO_MANY_FROM_ADDRESS
        self._total += 1
        if network:
            self._by_network[network] += 1
        return None

    def leave(self, network: str) -> None:
        """Count a connection out that was counted in."""
        self._total -= 1
        if network:
            self._by_network[network] -= 1
            if not self._by_network[network]:
                del self._by_network[network]

    def turn_away(self) -> bool:
        """Let a refused connection stay until it has heard why, if not too many do already."""
        may_stay = self._turned_away < MAX_TURNED_AWAY
        self._turned_away += may_stay
        return may_stay

    def see_off(self) -> None:
        """One that was turned away is gone."""
        self._turned_away -= 1


class Bucket:
    """A token bucket: holds up to `burst`, and fills by `rate` a second of a clock nobody sets."""

    __slots__ = ("_at", "_burst", "_most", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = max(burst, 1)
        self._most = max(min(self._burst, rate * LONGEST_WAIT), 1)
        self._tokens = float(self._burst)
        self._at = now

    def take(self, now: float, tokens: int = 1) -> float:
        """Take some, which may leave less than none; so many at most as are few enough to wait for.

        Answers the seconds until the next one may be taken; 0 if that is now.
        """
        self._tokens = min(self._tokens + (now - self._at) * self._rate, self._burst)
        self._at = now
        self._tokens -= min(tokens, self._most)
        return max(1 - self._tokens, 0.0) / self._rate
