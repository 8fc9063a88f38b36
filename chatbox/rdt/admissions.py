"""
Who may have how many transfers, over all ports of a server.

Each transfer holds an open file, keys and what is known of a path, so their number has a bound in
all, and one for each user, or one user could take all of it. Names may be made up, so there is a
bound for each network, too. It is a matter of counting alone: which transfer may have to make room
for another, because its client is silent, is for the `Demux` to say, and whether that would help is
asked here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from chatbox.errors import RemoteError

MAX_TRANSFERS = 512
"""Transfers at once in one server: each holds an open file and some kilobytes."""

MAX_TRANSFERS_PER_USER = 8
"""Enough for somebody who fetches a folder, too few to take all of the above."""


@dataclass(frozen=True, slots=True)
class Taker:
    """For whom a transfer is."""

    user: str
    """Whose it is, under whatever name they go by at the moment."""
    network: str = ""
    """What counts as one address, of those that they may come from; "" if that is not counted."""
    host: str = ""
    """The address that they come from, if they have one."""


class Admissions:
    """
    Who has how many.

    One network may have half of what there is, so that whoever makes up names cannot have all. If
    names are not `proven`, a user is whoever goes by a name in one network: else somebody else
    could use up what is theirs.
    """

    def __init__(
        self,
        most: int = MAX_TRANSFERS,
        most_per_user: int = MAX_TRANSFERS_PER_USER,
        *,
        proven: bool = True,
    ) -> None:
        self._most = most
        self._most_per_user = most_per_user
        self._most_per_network = (most + 1) // 2
        self._proven = proven
        self._users: Counter[tuple[str, str]] = Counter()
        self._networks: Counter[str] = Counter()

    def check(self, taker: Taker) -> None:
        """
        See whether `taker` may have one more.

        :raises RemoteError: ``too-many-downloads``.
        """
        if self._user_full(taker):
            many = self._users[self._user(taker)]
            sentence = f"You have {many} downloads already; wait for one or cancel it."
        elif self._network_full(taker):
            sentence = "There are too many downloads from your address; try again in a while."
        elif self._full:
            sentence = "The server is busy; try again in a while."
        else:
            return
        raise RemoteError("too-many-downloads", sentence)

    def has_room(self, taker: Taker) -> bool:
        """Whether `taker` may have one more."""
        return not (self._user_full(taker) or self._network_full(taker) or self._full)

    def makes_room(self, other: Taker, taker: Taker) -> bool:
        """Whether `taker`, who has no room for one more, has it once `other` has one less."""
        return (not self._user_full(taker) or self.same_user(other, taker)) and (
            not self._network_full(taker) or other.network == taker.network
        )

    def same_user(self, one: Taker, other: Taker) -> bool:
        """Whether two count as one user."""
        return self._user(one) == self._user(other)

    def enter(self, taker: Taker) -> None:
        """`taker` has one more."""
        self._users[self._user(taker)] += 1
        self._networks[taker.network] += 1

    def leave(self, taker: Taker) -> None:
        """`taker` has one less."""
        user, network = self._user(taker), taker.network
        self._users[user] -= 1
        self._networks[network] -= 1
        if not self._users[user]:
            del self._users[user]
        if not self._networks[network]:
            del self._networks[network]

    def __len__(self) -> int:
        return self._networks.total()

    @property
    def _full(self) -> bool:
        return len(self) >= self._most

    def _user_full(self, taker: Taker) -> bool:
        return self._users[self._user(taker)] >= self._most_per_user

    def _network_full(self, taker: Taker) -> bool:
        network = taker.network
        return bool(network) and self._networks[network] >= self._most_per_network

    def _user(self, taker: Taker) -> tuple[str, str]:
        return taker.user, "" if self._proven else taker.network
