"""Clocks that do not jump, the reactor's among them.

Twisted measures time by the clock on the wall, and people and programs set that. Set back by an
hour, whatever should be called in a second is called in an hour: downloads stand still. Set ahead,
as on a small machine that learns the time from the network when it has started, everybody has been
silent for too long.

So the programs let their reactor count on from where it begins. What is about dates, such as how
long somebody is banned or a certificate holds, asks for the clock on the wall.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

__all__ = ["keep_steady", "steady_seconds", "wall_clock"]


def steady_seconds() -> float:
    """Seconds since some instant, those included in which the machine slept."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def keep_steady(reactor: Any) -> None:
    """Let `reactor.seconds` go on evenly from now on, whatever becomes of the clock on the wall."""
    if hasattr(reactor, "wall_seconds"):
        return
    begun = reactor.seconds() - steady_seconds()
    reactor.wall_seconds = reactor.seconds
    reactor.seconds = lambda: begun + steady_seconds()


def wall_clock(reactor: Any) -> Callable[[], float]:
    """Return what tells the seconds since 1970, however they jump."""
    clock: Callable[[], float] = getattr(reactor, "wall_seconds", reactor.seconds)
    return clock
