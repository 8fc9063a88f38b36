"""
What losses mean to BBR: which are a signal that too much was in flight, and which are not.

This is where we leave draft-ietf-ccwg-bbr. The draft shrinks a flow after any round with a loss,
and takes more than 2 % as a sign that too much was in flight. On a radio link or a bad cable, which
lose without being full, a flow then crawls, though sending less does not save one packet.

The theory. Overflow shows in one of two ways: a queue stands (the round trip is clearly above its
minimum), or more is lost the faster we send. Loss that shows neither is *background*:

- It is learnt (`BackgroundLoss`) only in rounds in which we sent no faster than the path had been
  seen to deliver, while no queue stood. Nobody would be helped if we had sent less. A round is
  judged before it is learnt from, so losses that are new are a signal for a round or two.
- From then on only what exceeds the background, and what chance adds to it, is a signal. A probe
  that overflows a queue too short to be seen in the round trip loses more than the background, and
  is noticed by that.
- A probe that loses more than the background while no queue stands proves that losses depend on
  our rate, as those of a policer and of a very short queue do. Then the background may be of the
  same kind, and is forgotten: it has to be learnt again, at a rate that is lower by then.
- It is never taken for more than `MAX_BACKGROUND_LOSS`, which bounds the harm of a mistake.

A queue is what the mean round trip of a round is above the minimum, less the *jitter*: by how much
the mean is above the smallest of the same round anyway. It is learnt in the same rounds. A queue
that stands, ours or that of others, lifts all round trips of a round alike, and does not spread
them; a path whose delay varies, as that of a radio link does, spreads them in every round. Without
this such a path would look as if it always had a queue: all its losses would be signals.

In exchange, a signal that comes with a standing queue counts for more than in the draft: see
`chatbox.rdt.congestion.bbr.bounds`.

What the background eats is sent in addition, or a link that loses 5 % would never be more than
95 % full: while no queue stands, CRUISE and REFILL send bandwidth / (1 - COMPENSATION * it). At a
policer that would be fatal: what is sent beyond its rate is lost, counts as background, and is sent
again in addition. So it is not done after a probe that lost more without a queue, until one does
not; and with four fifths of it, each memory of `MEMORY_PACKETS` holds a fifth less of such losses
than the one before. Those of a bad cable, which do not follow from the rate, stay what they are.
"""

from __future__ import annotations

import math

from chatbox.rdt.congestion import Acked, Lost
from chatbox.rdt.congestion.bbr.min_rtt import MinRtt

LOSS_THRESHOLD = 0.02
"""
The share of a round that a probe may lose, beyond the background ("Core Algorithm Design
Parameters", LossThresh).
"""

STARTUP_LOSS_PIECES = 6
"""
Separate losses that it takes to end Startup: not a burst or two ("Exiting Startup Based on Packet
Loss", BBRStartupFullLossCnt).
"""

MAX_BACKGROUND_LOSS = 0.15
"""
No loss beyond this is ever taken for the path's own. Radio links that lose more are not worth what
it would cost others if it is a policer.
"""

COMPENSATION = 0.8
"""The share of the background loss that is made up for by sending in addition."""

MEMORY_PACKETS = 2000
"""What `BackgroundLoss` remembers: enough to tell 1 % from 2 %, and seconds at ordinary rates."""

PRIOR_PACKETS = 100
"""It begins as if so many packets had come without loss: a first loss alone proves no rate."""

JITTER_GAIN = 0.25
"""What the spread of a round weighs in the jitter, as a deviation in that of RFC 6298."""

NOISE_DEVIATIONS = 3.0
"""How far chance may carry the losses of a round above the mean, in standard deviations."""


class BackgroundLoss:
    """
    The loss that the path has anyway.

    The memory is a count of packets and of losses among them, both shrunk together when they grow
    beyond `MEMORY_PACKETS`: it learns fast at first and forgets a bad minute in a few seconds.
    """

    __slots__ = ("_lost", "_total", "packet")

    def __init__(self, datagram_bytes: int) -> None:
        self.packet = datagram_bytes
        """Bytes of a packet, which is what gets lost."""
        self.forget()

    def forget(self) -> None:
        """Start anew: the losses turned out to be ours."""
        self._lost = 0.0
        self._total = float(PRIOR_PACKETS)

    @property
    def rate(self) -> float:
        """The share of packets that is lost whatever we do."""
        return min(self._lost / self._total, MAX_BACKGROUND_LOSS)

    def learn(self, lost: int, total: int) -> None:
        """Of `total` bytes in a calm round, `lost` were lost."""
        self._lost += lost / self.packet
        self._total += total / self.packet
        excess = self._total / MEMORY_PACKETS
        if excess > 1:
            self._lost /= excess
            self._total /= excess

    def allowance(self, total: int) -> float:
        """How many bytes of `total` may be lost without that meaning anything."""
        return self.room_for(self.rate * total)

    def room_for(self, expected: float) -> float:
        """
        So many bytes, and what chance adds to them. Losses are rare events: their number scatters
        by its own square root.
        """
        return expected + NOISE_DEVIATIONS * math.sqrt(expected * self.packet)


class LossRound:
    """
    Losses judged together: from one mark to the end of the first round trip after the first loss.
    """

    __slots__ = (
        "_answered_at",
        "_ends_at",
        "_last_mean",
        "_rtt_count",
        "_rtt_low",
        "_rtt_sum",
        "acked",
        "app_limited",
        "bw_latest",
        "inflight_latest",
        "lost",
        "over",
        "pieces",
        "seen",
    )

    def __init__(self) -> None:
        self.over = False
        """Whether the last acknowledgement ended a round (BBR.loss_round_start)."""
        self.seen = False
        """Whether anything was lost in it (BBR.is_loss_in_round)."""
        self.bw_latest = 0.0
        """The largest delivery rate in it."""
        self.inflight_latest = 0
        """The most that was delivered in a round trip in it."""
        self._ends_at = 0
        self._answered_at = -math.inf
        self._last_mean = math.inf
        self._rtt_count = 0
        self.begin()

    def begin(self) -> None:
        """Set the mark here; what was delivered latest stays."""
        self._last_mean = self.mean_rtt
        self.seen = False
        self.lost = 0
        self.pieces = 0
        self.acked = 0
        self.app_limited = False
        self._rtt_sum = 0.0
        self._rtt_low = math.inf
        self._rtt_count = 0

    def forget(self) -> None:
        """Set the mark here, and forget even that ("ResetCongestionSignals")."""
        self.begin()
        self.bw_latest = 0.0
        self.inflight_latest = 0

    def answered(self, now: float) -> None:
        """Something was done about what has left until now: if it was lost, that says no more."""
        self._answered_at = now
        self.forget()

    def on_lost(self, lost: Lost) -> bool:
        """Count a piece; say whether it was the first in the round."""
        if lost.sent_at <= self._answered_at:
            return False
        self.lost += lost.size
        self.pieces += not lost.follows
        first, self.seen = not self.seen, True
        if first:
            self._ends_at = lost.delivered
        return first

    def on_acked(self, acked: Acked) -> None:
        """Count an acknowledgement ("UpdateLatestDeliverySignals")."""
        sample = acked.rate
        self.acked += acked.newly_acked
        if acked.rtt is not None:
            self._rtt_sum += acked.rtt
            self._rtt_low = min(self._rtt_low, acked.rtt)
            self._rtt_count += 1
        self.bw_latest = max(self.bw_latest, sample.delivery_rate)
        self.app_limited |= sample.app_limited
        self.inflight_latest = max(self.inflight_latest, sample.delivered)
        self.over = sample.prior_delivered >= self._ends_at
        if self.over:
            self._ends_at = acked.delivered

    def finish(self, acked: Acked) -> None:
        """The acknowledgement that ended a round is dealt with ("AdvanceLatest...")."""
        self.begin()
        self.bw_latest = acked.rate.delivery_rate
        self.inflight_latest = acked.rate.delivered

    @property
    def total(self) -> int:
        """Bytes whose fate was decided in it."""
        return self.acked + self.lost

    @property
    def mean_rtt(self) -> float:
        """Of the round before, if there was no sample yet."""
        return self._rtt_sum / self._rtt_count if self._rtt_count else self._last_mean

    @property
    def spread(self) -> float | None:
        """By how much the mean is above the smallest round trip; None without a sample."""
        return self.mean_rtt - self._rtt_low if self._rtt_count else None


class Losses:
    """Tells signals from background."""

    __slots__ = ("_min_rtt", "background", "jitter", "ours", "round")

    def __init__(self, datagram_bytes: int, min_rtt: MinRtt) -> None:
        self.background = BackgroundLoss(datagram_bytes)
        self.round = LossRound()
        self.jitter = 0.0
        """By how much the mean round trip of a round is above its smallest anyway, in seconds."""
        self.ours = False
        """Whether the last probe lost more though no queue stood: losses follow from our rate."""
        self._min_rtt = min_rtt

    @property
    def calm(self) -> bool:
        """Whether the present round sees no standing queue."""
        return self.is_calm(self.round.mean_rtt)

    def is_calm(self, rtt: float) -> bool:
        """Whether a round trip of `rtt` met no queue, but at most the path's jitter."""
        return self._min_rtt.is_calm(rtt - self.jitter)

    @property
    def made_up_for(self) -> float:
        """The share of what is sent that is sent in addition, for the background to lose."""
        return COMPENSATION * self.background.rate if self.calm and not self.ours else 0.0

    def blame_us(self) -> None:
        """A probe lost more though no queue stood."""
        self.background.forget()
        self.ours = True

    def learn(self) -> None:
        """Call this at the end of a round in which nothing was probed."""
        calm, spread = self.calm, self.round.spread
        if spread is not None:
            self.jitter += JITTER_GAIN * (spread - self.jitter)
        if calm:
            self.background.learn(self.round.lost, self.round.total)

    def is_signal(self) -> bool:
        """Whether the round, in which nothing was probed, lost more than the background."""
        if not self.round.seen:
            return False
        slack = self.background.packet if self.calm else 0
        return self.round.lost > self.background.allowance(self.round.total) + slack

    def ends_startup(self) -> bool:
        """
        Whether the round lost so much that the path must be full ("Exiting Startup Based on Packet
        Loss"). Little is learnt by then, so without a queue it takes more than any background, and
        what chance adds to that.
        """
        losses = self.round
        background = MAX_BACKGROUND_LOSS if self.calm else self.background.rate
        tolerated = self._tolerated(losses.total, background)
        return losses.pieces >= STARTUP_LOSS_PIECES and losses.lost > tolerated

    def is_too_high(self, lost: int, in_flight: int) -> bool:
        """Whether losing `lost` of `in_flight` bytes says that this was too much in flight."""
        return lost > self._tolerated(in_flight, self.background.rate)

    def inflight_at(self, lost: Lost) -> float:
        """How much was in flight where, within its train, losses became too many."""
        before = lost.tx_in_flight - lost.size
        lost_before = lost.lost_since_sent - lost.size
        tolerated = self._tolerated(lost.tx_in_flight, self.background.rate)
        share = tolerated / max(lost.tx_in_flight, 1)
        prefix = (share * before - lost_before) / (1 - share) if share < 1 else lost.size
        return before + min(max(prefix, 0.0), lost.size)

    def _tolerated(self, total: int, background: float) -> float:
        return LOSS_THRESHOLD * total + self.background.room_for(background * total)
