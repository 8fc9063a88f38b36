"""
How large a packet the path carries (DPLPMTUD, RFC 8899).

Larger packets are fewer packets, and packets are what costs. Nobody tells us how large they may be:
routers drop what is too large, and the messages in which they say so are filtered as often as not.
So we try: a PROBE is a packet of nothing, as long as we would like packets to be. If it is
acknowledged, the path carries that much. If it is lost, nothing is lost with it, and it says
nothing of congestion either (section 3, requirement 8).

One bound is known: the client's system knows how long a packet may be on the interface that leads
to us, and the client says so when it opens. (Ours knows the same of its own interfaces, but not for
a socket that many clients share, and refuses on the spot what is too long.) What the interface of a
client carries is most likely what the path carries, for that is where tunnels begin, and so it is a
size worth trying, be it as odd as it may.

Where the path is narrower in the middle, the sizes that networks really have are few: jumbo frames,
plain Ethernet, and what is left of it inside common tunnels. One PROBE of each is sent, and the
largest that arrives is the size to use, one round trip after the start. To find more exactly what
fits takes round trip after round trip (section 5.3.2), and gains little: up to Ethernet's, each of
these sizes is at most 8 % more than the one before. The wide gap between Ethernet's and jumbo
frames has next to nothing in it. What was missed goes out again, in case that it was bad luck. Data
flows meanwhile, in packets of the size that is known to work.

A path can also change under a transfer, so that packets that used to arrive vanish while small ones
go on arriving: a black hole (section 4.3). It shows when only large packets are lost, again and
again, with none of them arriving in between. Then we are back at the size that every path carries,
and the search begins again, a while later.
"""

from __future__ import annotations

from chatbox.rdt.packet import BASE_DATAGRAM, MAX_DATAGRAM

SIZES = (
    MAX_DATAGRAM,  # loopback, whose MTU is 64 KiB
    8972,  # jumbo frames of 9000 bytes under IPv4
    8952,  # and under IPv6
    1472,  # Ethernet, 1500 bytes, under IPv4
    1452,  # and under IPv6; PPPoE under IPv4 is 1464
    1412,  # PPPoE or a light tunnel under IPv6
    1372,  # WireGuard's 1420 bytes under IPv6
    1272,  # IPsec and the like
)
"""UDP payloads worth trying, the largest first: an MTU less the headers of IP and UDP."""

ROUNDS = 3
"""Tries for each size (RFC 8899 section 5.1.2, MAX_PROBES): where one packet in ten is lost, one
transfer in a thousand misses the best size until `RAISE_DELAY`.
"""

RAISE_DELAY = 600.0
"""Seconds until a finished search starts over, in case that the path has improved
(PMTU_RAISE_TIMER).
"""

BLACK_HOLE_SIGNS = 3
"""Losses of large packets only, with none arriving between them, that make a black hole."""

RETRY_DELAY = 5.0
"""Seconds after a black hole until the search begins again."""


def sizes(limit: int) -> list[int]:
    """What to try for a client that takes up to `limit` bytes, the largest first."""
    return [limit, *(size for size in SIZES if size < limit)]


def tries_above(limit: int, datagram: int) -> int:
    """How many PROBEs may get lost if `datagram` is the longest that arrives."""
    return ROUNDS * sum(size > datagram for size in sizes(limit))


class PmtuSearch:
    """The search on one path. `datagram` is the size to use now."""

    __slots__ = ("_at", "_pending", "_rounds", "_signs", "_sizes", "_to_send", "datagram")

    def __init__(self, limit: int) -> None:
        self.datagram = BASE_DATAGRAM
        """Bytes of a packet that the path is known to carry."""
        self._sizes = sizes(limit)
        self._to_send: list[int] = []
        self._pending: set[int] = set()
        self._rounds = 0
        self._at = 0.0
        self._signs = 0

    def probe(self, now: float) -> int | None:
        """The size to send a PROBE of now, or None."""
        if not self._to_send and not self._pending and now >= self._at:
            self._begin_round(now)
        if not self._to_send:
            return None
        size = self._to_send.pop()
        self._pending.add(size)
        return size

    def on_probe_acked(self, size: int) -> bool:
        """A PROBE arrived; True if packets may be larger from now on."""
        self._pending.discard(size)
        if size <= self.datagram:
            return False
        self.datagram = size
        self._signs = 0
        return True

    def on_probe_lost(self, size: int) -> None:
        """A PROBE did not arrive."""
        self._pending.discard(size)

    def on_large_arrived(self) -> None:
        """A packet larger than every path carries arrived: there is no black hole."""
        self._signs = 0

    def on_trouble(self, smallest_lost: int, now: float) -> bool:
        """
        Packets were lost, or nothing was heard for a probe timeout; the smallest lost had so many
        bytes. True if that makes a black hole, and packets are to be small again.
        """
        if smallest_lost <= BASE_DATAGRAM or self.datagram == BASE_DATAGRAM:
            return False
        self._signs += 1
        if self._signs < BLACK_HOLE_SIGNS:
            return False
        self.datagram = BASE_DATAGRAM
        self._signs = self._rounds = 0
        self._to_send.clear()
        self._pending.clear()
        self._at = now + RETRY_DELAY
        return True

    def _begin_round(self, now: float) -> None:
        if self._rounds < ROUNDS:
            self._rounds += 1
            # Taken from the end: the smallest leaves first, which is the likeliest to be of use.
            self._to_send = [size for size in self._sizes if size > self.datagram]
        if not self._to_send:
            self._rounds = 0
            self._at = now + RAISE_DELAY
