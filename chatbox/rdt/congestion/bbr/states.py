"""
The states of BBR as tables (draft-ietf-ccwg-bbr, "State Machine"). What they are for is told in
`chatbox.rdt.congestion.bbr`; `chatbox.rdt.congestion.bbr.machine` goes by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """What the sender is finding out ("State Machine")."""

    STARTUP = "Startup"
    DRAIN = "Drain"
    DOWN = "ProbeBW_DOWN"
    CRUISE = "ProbeBW_CRUISE"
    REFILL = "ProbeBW_REFILL"
    UP = "ProbeBW_UP"
    PROBE_RTT = "ProbeRTT"


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.STARTUP: frozenset({State.DRAIN, State.PROBE_RTT}),
    # To Startup from anywhere: after a long silence, or because the loss that ended it was none.
    State.DRAIN: frozenset({State.DOWN, State.PROBE_RTT, State.STARTUP}),
    State.DOWN: frozenset({State.CRUISE, State.REFILL, State.PROBE_RTT, State.STARTUP}),
    State.CRUISE: frozenset({State.REFILL, State.PROBE_RTT, State.STARTUP}),
    State.REFILL: frozenset({State.UP, State.PROBE_RTT, State.STARTUP}),
    State.UP: frozenset({State.DOWN, State.PROBE_RTT, State.STARTUP}),
    State.PROBE_RTT: frozenset({State.DOWN, State.STARTUP}),
}
"""Which state may follow which."""

PROBE_BW = frozenset({State.DOWN, State.CRUISE, State.REFILL, State.UP})
STEADY = frozenset({State.CRUISE, State.REFILL})
"""States that send what the path delivers."""
ACCELERATING = frozenset({State.STARTUP, State.REFILL, State.UP})
"""States that try for more: in these a loss is the answer, not a change ("IsProbingBW")."""


@dataclass(frozen=True, slots=True)
class Gains:
    """Multiples of the bandwidth and of the BDP."""

    pacing: float
    window: float


GAINS: Mapping[State, Gains] = {
    # 4 ln 2 is the least that doubles the rate each round; 0.5 drains a window of 2 in one round;
    # 0.9 after 1.25 is what lets flows of different rates approach each other.
    State.STARTUP: Gains(2.77, 2.0),
    State.DRAIN: Gains(0.5, 2.0),
    State.DOWN: Gains(0.9, 2.0),
    State.CRUISE: Gains(1.0, 2.0),
    State.REFILL: Gains(1.0, 2.0),
    State.UP: Gains(1.25, 2.25),
    State.PROBE_RTT: Gains(1.0, 0.5),
}
"""How fast and how much in each state ("Summary of Control Behavior in the State Machine")."""


class Feedback(Enum):
    """What acknowledgements at present tell of the last probe (BBR.ack_phase)."""

    NONE = "ACKS_INIT"
    REFILLING = "ACKS_REFILLING"
    STARTING = "ACKS_PROBE_STARTING"
    COMING = "ACKS_PROBE_FEEDBACK"
    STOPPING = "ACKS_PROBE_STOPPING"
