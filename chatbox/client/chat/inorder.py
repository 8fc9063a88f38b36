"""What has its place in the log, told apart from history, and handed out once and in order.

What is said now and the history that was asked for look the same. History comes in one piece right
before its answer, which says how many messages it was; so while that answer is awaited, news is
held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from chatbox.client.chat.events import Gap, Moderated, Presence, Said

__all__ = ["MAX_HISTORY", "InOrder", "News"]

MAX_HISTORY: Final = 10_000
"""What one answer to `history` may hold; a server of ours sends less."""

News = Said | Presence | Moderated | Gap
"""What has its place in the log."""


class InOrder:
    """News on its way to somebody: `tell` is called with each, once."""

    def __init__(self, tell: Callable[[News], None]) -> None:
        self.last_id = 0
        """The place of the newest that was handed out."""
        self._tell = tell
        self._held: deque[tuple[int, News]] = deque()

    def hear(self, place: int, news: News, *, hold: bool) -> None:
        """Something has come; `hold` it if it may be history."""
        self._held.append((place, news))
        if len(self._held) > MAX_HISTORY or not hold:
            self.hand_out(*self._held.popleft())

    def take_page(self, count: int) -> list[tuple[int, News]]:
        """Of what is held, the end is history: `count` messages, and marks among and before."""
        page = []
        while self._held:
            _, newest = self._held[-1]
            if not isinstance(newest, Gap):
                if not count or not isinstance(newest, Said):
                    break
                count -= 1
            page.append(self._held.pop())
        page.reverse()
        return page

    def release(self) -> None:
        """What is held is no history."""
        while self._held:
            self.hand_out(*self._held.popleft())

    def drop(self) -> None:
        """What is held will come again."""
        self._held.clear()

    def hand_out(self, place: int, news: News) -> None:
        """Hand out what has not been: places grow, so what lies behind us has come before."""
        if not place or place > self.last_id or isinstance(news, Gap):
            self._tell(news)
            self.last_id = max(self.last_id, place)

    def begin_at(self, place: int) -> None:
        """The newest place is this one. A server that lost its log, such as one in memory, begins
        to count anew: then all of it is new, and what was before is gone.
        """
        if 0 < place <= self.last_id:
            self._tell(Gap())
            self.last_id = 0
