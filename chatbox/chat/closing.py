"""The end of a chat: what was asked is answered, then everybody is told why and sent away.

From its beginning on nothing new is taken from anybody. All are sent away at the same moment, after
the last answer, so that all of them hear all that was said; a log that stands still is waited for
only so long. It is over when the last connection is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chatbox.chat.codes import Code
from chatbox.chat.names import Name
from chatbox.chat.room import Room
from chatbox.chat.session import Session

__all__ = ["ANSWER_SECONDS", "Closing", "Note"]

ANSWER_SECONDS: Final = 5.0
"""How long a server that stops waits for the answers that it owes. They wait for the log, which may
have a slow disk."""

Note = Callable[[list[tuple[Name, str]]], None]
"""Is told who is here, by name and identity, when the server stops."""


class Closing:
    """Closes `room`, in which `sessions` are under way: begins at once.

    Everybody is told `code`, and `note` who is here when it comes to that.
    """

    def __init__(
        self,
        room: Room,
        sessions: Iterable[Session],
        clock: IReactorTime,
        code: Code,
        note: Note | None,
    ) -> None:
        self.done: Deferred[None] = Deferred()
        """Fires when the connections of all sessions are gone."""
        self._room = room
        self._sessions = set(sessions)
        self._unanswered = set(self._sessions)
        self._code = code
        self._note = note
        self._dismissal: IDelayedCall | None = clock.callLater(ANSWER_SECONDS, self._dismiss)
        """There while answers are owed."""
        for session in list(self._sessions):
            session.finish(partial(self._answered, session))
        self._check_answered()

    def came(self, session: Session) -> None:
        """One has come too late, as from behind a proxy; it goes at once."""
        self._sessions.add(session)
        session.dismiss(self._code)

    def gone(self, session: Session) -> None:
        """The connection of a session is gone."""
        self._sessions.discard(session)
        self._answered(session)
        self._check_done()

    def hurry(self) -> None:
        """Wait for no answer any more."""
        if self._dismissal is not None:
            self._dismissal.cancel()
            self._dismiss()

    def _answered(self, session: Session) -> None:
        self._unanswered.discard(session)
        self._check_answered()

    def _check_answered(self) -> None:
        if not self._unanswered and self._dismissal is not None:
            self._dismissal.reset(0)  # what was committed with the last answer has yet to be heard

    def _dismiss(self) -> None:
        """Everybody at once, after the last answer: so all hear all that was said."""
        self._dismissal = None
        here = self._room.close()
        if self._note is not None:
            self._note(here)
        for session in list(self._sessions):
            session.dismiss(self._code)
        self._check_done()

    def _check_done(self) -> None:
        if not self._sessions and self._dismissal is None and not self.done.called:
            self.done.callback(None)
