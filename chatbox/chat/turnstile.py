"""Comings in measure: everybody hears of each, and of the leaving after it.

So a client that comes and goes as fast as it can would make all others read nothing else. Each
network (see `network_of`) has a bucket of joins. When it is empty, those who come from there wait
in a row, and one goes on to the `Gate` behind whenever there is a token: nothing else is done for
them meanwhile, and no more is read from them than may be asked at once. Who would have to wait for
too long is refused, and told for how long. Of whom nobody hears, because of the name or the
password or because they are gone before those are known, has their token back.

Way not taken: to tell less of who comes and goes. In a room of more than 500 that is done (see
`chatbox.chat.presence`); in others people want to know it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from twisted.logger import Logger

from chatbox.addresses import network_of
from chatbox.chat.codes import Code
from chatbox.chat.gate import Admission, Gate, Refusal, Visitor
from chatbox.chat.throttle import Throttle

__all__ = ["LONGEST_ROW_SECONDS", "Turnstile"]

LONGEST_ROW_SECONDS: Final = 20.0
"""How long the last of a row may have to wait: a client gives a server up after 30."""

_log = Logger()

Answer = Callable[[Admission | Refusal], None]


class Turnstile:
    """A `Gate` with another one behind it, which each network passes at a rate.

    It lets in `burst` at once, and then `rate` a second. `now` is in seconds, and `call_later` has
    something called after some.
    """

    def __init__(
        self,
        inner: Gate,
        rate: float,
        burst: int,
        now: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._inner = inner
        self._rate = rate
        self._throttle = Throttle(burst, 1 / rate)
        self._longest = int(rate * LONGEST_ROW_SECONDS)
        self._now = now
        self._call_later = call_later
        self._rows: dict[str, deque[tuple[Visitor, Answer]]] = {}
        """Who waits, by network."""

    def start(self) -> None:
        """Start what is behind."""
        self._inner.start()

    def admit(self, visitor: Visitor, answer: Answer) -> None:
        """Let somebody go on, now or later; who comes from this machine by a UNIX socket, now."""
        network = network_of(visitor.origin.host)
        row = self._rows.get(network)
        ahead = len(row or ())
        wait = 0.0 if ahead else self._throttle.wait(network, self._now())
        if not network:
            self._inner.admit(visitor, answer)
        elif not ahead and not wait:
            self._let_pass(network, visitor, answer)
        elif ahead >= self._longest:
            answer(Refusal(Code.TOO_MANY_JOINS, math.ceil((ahead + 1) / self._rate)))
        elif row is not None:
            row.append((visitor, answer))
        else:
            self._rows[network] = deque([(visitor, answer)])
            self._call_later(wait, partial(self._go_on, network))

    def _go_on(self, network: str) -> None:
        """There may be a token: let the first of a row go on, or more of them."""
        row = self._rows[network]
        while not (wait := self._throttle.wait(network, self._now())):
            try:
                self._let_pass(network, *row.popleft())
            except Exception:
                _log.failure("one of those who wait could not come in")  # the others can
            if not row:
                del self._rows[network]
                return
        self._call_later(wait, partial(self._go_on, network))

    def _let_pass(self, network: str, visitor: Visitor, answer: Answer) -> None:
        self._throttle.take(network, self._now())
        self._inner.admit(visitor, partial(self._decided, network, answer))

    def _decided(self, network: str, answer: Answer, outcome: Admission | Refusal) -> None:
        if isinstance(outcome, Refusal):
            self._give_back(network)
            answer(outcome)
        else:
            answer(replace(outcome, unused=partial(self._give_back, network)))

    def _give_back(self, network: str) -> None:
        self._throttle.give_back(network, self._now())
