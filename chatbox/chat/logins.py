"""Who has no name yet has it in time, or is sent away. One timer sees to all of them."""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chatbox.chat.codes import Code
from chatbox.chat.session import Session
from chatbox.chat.states import State

__all__ = ["Logins"]


class Logins:
    """Sends away whoever has no name in `timeout` seconds; 0 is no limit."""

    def __init__(self, clock: IReactorTime, timeout: float) -> None:
        self._clock = clock
        self._timeout = timeout
        self._due: dict[Session, float] = {}
        """By when each must have one, in the order in which they came."""
        self._timer: IDelayedCall | None = None

    def begin(self, session: Session) -> None:
        """Wait for this client to have a name."""
        if self._timeout:
            self._due[session] = self._clock.seconds() + self._timeout
            self._arm()

    def end(self, session: Session) -> None:
        """Wait no more."""
        self._due.pop(session, None)
        if not self._due and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is None and self._due:
            delay = next(iter(self._due.values())) - self._clock.seconds()
            self._timer = self._clock.callLater(max(delay, 0), self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        while self._due:
            session, due = next(iter(self._due.items()))
            if due > now:
                break
            del self._due[session]
            match session.state:
                case State.NAMELESS:
                    session.dismiss(Code.LOGIN_TIMEOUT)
                case State.JOINING:
                    self._due[session] = now + self._timeout  # it is we who take so long
        self._arm()
