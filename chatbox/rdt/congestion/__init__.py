"""
How much may be in flight, and how fast it leaves: the congestion controllers and the interface that
they share.

The interface is narrow on purpose: bytes, instants and round-trip times, never packets or trains.
So a controller is tested with a handful of numbers, and recovery and controllers know nothing of
each other's insides. A controller owns three outputs (`window`, `pacing_rate`, `quantum`) and hears
of five kinds of things: data left, an acknowledgement came, data was lost, a loss turned out not to
be one, the sender was idle.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from chatbox.rdt.rate import RateSample
from chatbox.rdt.rtt import RttEstimator

INITIAL_WINDOW_PACKETS = 58
"""
The window before anything is known, in packets. RFC 6928 says ten, for bursts that nothing paces.
Fifty-eight let a file of 64 KB pass in one flight, which on a long path is what a person waits for.
That flight is paced by the round trip that the chat has measured (`chatbox.rdt.path.FIRST_SPAN`).
"""

QUANTUM_SECONDS = 0.001
"""
A train should be no longer than this at the pacing rate (draft-ietf-ccwg-bbr, "Send Quantum").
"""

QUANTUM_MAX_BYTES = 64 * 1024
"""
The most that one send of a segmented train can carry, and the cap of the same section of the draft.
"""

QUANTUM_MIN_PACKETS = 2
"""The least that a train may always hold (same section)."""


def train_size(pacing_rate: float, datagram_bytes: int) -> int:
    """How many bytes should leave at once at `pacing_rate` bytes per second."""
    if math.isinf(pacing_rate):
        return QUANTUM_MAX_BYTES
    wanted = min(pacing_rate * QUANTUM_SECONDS, QUANTUM_MAX_BYTES)
    return max(int(wanted), QUANTUM_MIN_PACKETS * datagram_bytes)


@dataclass(slots=True)
class Acked:
    """One acknowledgement that acknowledged something new."""

    now: float
    newly_acked: int
    """Bytes."""
    newly_lost: int
    """Bytes declared lost because of this acknowledgement; `Lost` was reported for each before."""
    in_flight: int
    """Bytes in flight after this acknowledgement and its losses."""
    delivered: int
    """Bytes delivered since the transfer began, these included."""
    rtt: float | None
    """The round-trip time of the path that this acknowledgement measured, if it did."""
    rate: RateSample
    held: float = 0.0
    """How long the two machines kept it waiting, in addition to `rtt`."""


@dataclass(slots=True)
class Lost:
    """A piece of one train that was declared lost."""

    now: float
    size: int
    """Bytes."""
    sent_at: float
    """When it left: losses of what left before the last reduction belong to the same episode."""
    tx_in_flight: int
    """Bytes in flight when its train had left, the train included."""
    lost_since_sent: int
    """Bytes declared lost since its train left, `size` included."""
    delivered: int
    """Bytes delivered since the transfer began."""
    app_limited: bool
    """Whether the sender was short of data when it left."""
    follows: bool = False
    """Whether nothing arrived between it and the piece that was lost before it: the same burst."""


class Controller(Protocol):
    """
    What every congestion controller is. Sizes in bytes, times in seconds, rates in bytes per
    second.
    """

    @property
    def window(self) -> int:
        """How much may be in flight."""

    @property
    def pacing_rate(self) -> float:
        """How fast data leaves; infinite before there is anything to go by."""

    @property
    def quantum(self) -> int:
        """The largest train that should leave at once."""

    def on_sent(self, now: float, size: int, in_flight: int, app_limited: bool) -> None:
        """`size` bytes leave; `in_flight` were in flight before."""

    def on_late(self, in_flight: int) -> None:
        """
        Data could have left a good part of a round trip ago, but nobody found the time; `in_flight`
        still are.
        """

    def on_acked(self, acked: Acked, rtt: RttEstimator) -> None:
        """An acknowledgement came; `rtt` is updated already."""

    def on_lost(self, lost: Lost) -> None:
        """Data was declared lost; called before the `on_acked` of the same acknowledgement."""

    def on_persistent_congestion(self, now: float) -> None:
        """Everything sent over a long period was lost (RFC 9002 section 7.6)."""

    def on_spurious_loss(self, now: float) -> None:
        """
        All that the latest loss episode counted as lost has arrived after all: undo what it did.
        """

    def on_idle(self, now: float, idle: float) -> None:
        """Sending begins again after `idle` seconds with nothing in flight."""

    def set_datagram_size(self, size: int) -> None:
        """Packets are of `size` bytes from now on."""


ControllerFactory = Callable[[int, float], Controller]
"""Makes a controller from the datagram size in bytes and the present instant."""
