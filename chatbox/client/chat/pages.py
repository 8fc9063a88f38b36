"""The last messages, put together from pages: one answer holds only so much of them."""

from __future__ import annotations

from chatbox.client.chat.events import HistoryPage, Said

__all__ = ["LastMessages"]


class LastMessages:
    """The last `wanted` messages; whoever wants them asks for `missing`, page after page."""

    def __init__(self, wanted: int) -> None:
        self.missing = wanted
        """How many have not come."""
        self.unknown = False
        """Whether the server has not said if there are older ones."""
        self._oldest: int | None = None
        self._pages: list[tuple[Said, ...]] = []

    def take(self, page: HistoryPage) -> int | None:
        """Add a page, older than all before. Say before which place to ask for another one.

        None means that all is here that can be had.
        """
        if page.said:
            self._pages.append(page.said)
        self.missing -= len(page.said)
        before, oldest, self._oldest = page.before, self._oldest, page.before
        self.unknown = before is None
        if not before or self.missing <= 0 or (oldest is not None and before >= oldest):
            return None
        return before

    @property
    def said(self) -> tuple[Said, ...]:
        """What has come, oldest first."""
        return tuple(said for page in reversed(self._pages) for said in page)
