"""When to say something again, and when to stop believing that anybody listens."""

from __future__ import annotations

from enum import Enum

FIRST_RETRY = 0.25
"""Seconds until something unanswered is said again, if the round trip is not known to be longer."""

MAX_RETRY = 3.0
"""
Seconds between repetitions at most: ten of them in half a minute get through a link that loses half
of all.
"""

POLL_AFTER = 1.0
"""
Seconds without a packet, while some are expected, after which the server is asked whether it is
there.
"""

KEEP_ALIVE = 15.0
"""
Seconds between packets while paused: home routers forget a UDP flow after 30 (RFC 4787 section 4.3
wants more).
"""

OPEN_TIMEOUT = 15.0
"""Seconds without any answer at all after which UDP counts as blocked..."""

OPEN_QUESTIONS = 4
"""... and how often it was asked again: a machine that stood still has not."""

SILENCE_TIMEOUT = 30.0
"""Seconds without an answer, counted from the first question, after which the server is gone..."""

SILENCE_QUESTIONS = 10
"""... but only if it was asked so often: a laptop that slept for an hour has not asked anything."""

DOUBT_TIMEOUT = 2.5
"""The same as SILENCE_TIMEOUT, for a server that has closed the chat connection..."""

DOUBT_QUESTIONS = 4
"""... and how often it was asked: on a far path that takes longer."""

DOUBT_AFTERMATH = 1.0
"""
Seconds after that in which what comes may still be from before: it says nothing about the server.
"""

END_TRIES = 5
"""How often the end is told to a server that does not answer."""


class Expecting(Enum):
    """What the client waits for."""

    FIRST_ANSWER = "first answer"
    DATA = "data"
    NOTHING = "nothing"
    GOODBYE = "goodbye"


class Asking:
    """
    The patience of one end of a transfer.

    A question is any packet that wants an answer. Unanswered, it is asked again after a while that
    doubles each time. Any answer, to whatever, makes it patient again.
    """

    __slots__ = (
        "_asked_at",
        "_doubted_at",
        "_first_retry",
        "_heard_at",
        "_questions",
        "_retry_at",
        "_retry_delay",
    )

    def __init__(self, rtt: float, now: float) -> None:
        self._first_retry = min(max(FIRST_RETRY, 3 * rtt), MAX_RETRY)
        self._retry_delay = self._first_retry
        self._retry_at = now + self._retry_delay
        self._asked_at = now
        self._heard_at = now
        self._questions = 0
        self._doubted_at: float | None = None

    def heard(self, now: float) -> None:
        """Something genuine came."""
        self._heard_at = now
        self._questions = 0
        if self._doubted_at is not None and now - self._doubted_at > DOUBT_AFTERMATH:
            self._doubted_at = None

    def silent_for(self, now: float) -> float:
        """Seconds since something came."""
        return now - self._heard_at

    def begin(self, now: float) -> None:
        """Something new has just been said that must be confirmed."""
        self._questions = 0
        self._asked_at = now
        self._retry_delay = self._first_retry
        self._retry_at = now + self._retry_delay

    def doubt(self, now: float) -> None:
        """There is reason to think that nobody is there, and that has just been asked."""
        self.begin(now)
        self._doubted_at = now

    def trust(self) -> None:
        """It no longer matters."""
        self._doubted_at = None

    def due_at(self, expecting: Expecting, *, unconfirmed: bool) -> float:
        """When to ask (again). What is `unconfirmed` is repeated though other things are heard."""
        urgent = unconfirmed or self._doubted_at is not None
        if urgent or expecting in (Expecting.FIRST_ANSWER, Expecting.GOODBYE):
            return self._retry_at
        wait = KEEP_ALIVE if expecting is Expecting.NOTHING else POLL_AFTER
        return max(self._heard_at + wait, self._retry_at)

    def ask(self, expecting: Expecting, now: float) -> bool:
        """It is due: whether to ask once more. False if there is nobody to hear it."""
        asking_for = now - self._asked_at
        if expecting is Expecting.GOODBYE:
            hopeless = self._questions >= END_TRIES
        elif self._doubted_at is not None:
            hopeless = self._questions >= DOUBT_QUESTIONS and asking_for >= DOUBT_TIMEOUT
        elif expecting is Expecting.FIRST_ANSWER:
            hopeless = self._questions >= OPEN_QUESTIONS and asking_for >= OPEN_TIMEOUT
        else:
            hopeless = self._questions >= SILENCE_QUESTIONS and asking_for >= SILENCE_TIMEOUT
        if hopeless:
            return False
        if not self._questions and expecting in (Expecting.DATA, Expecting.NOTHING):
            self._asked_at = now
            self._retry_delay = self._first_retry
        elif self._doubted_at is None or expecting is Expecting.GOODBYE:
            self._retry_delay = min(self._retry_delay * 2, MAX_RETRY)
        self._questions += 1
        self._retry_at = now + self._retry_delay
        return True
