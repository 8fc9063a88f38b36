"""The client's side of the chat: bytes in, events out, requests as method calls.

What it owns: which requests are unanswered, and how far the conversation has come. It never opens a
socket, reads a clock or decides what a person sees. A driver keeps the cycle

    session.receive_data(data) or a request   ->   session.next_event() until None
                                              ->   transport.write(session.data_to_send())

Every request method returns the number that goes out in `q`; the server gives it back in the
answer, so any number of requests (up to `MAX_PENDING`) may be on their way at once. A server that
does not give numbers back is understood too: its answer belongs to the oldest request of its kind.

A server is a peer like any other. What it may make grow is bounded, a key or a response that we do
not know is ignored, and a line that makes no sense costs a warning, not the connection.

A session may outlive its connection (`survive`). When that is cut, the session is AWAY; the driver
brings another one, and `rejoin` takes the name over again. What was missed is asked for from
`last_id` on and handed out once, in order; then what has not been answered is sent again, under its
old numbers, by which the server knows it. What is said while away leaves then, too.

Ways not taken: a Deferred for each request (the console and the window want events in their order,
and what was sent but never answered must outlive a connection); one callback for each event (a
dozen names to wire where one `match` reads better).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from chatbox.chat import wire
from chatbox.chat.codes import Code
from chatbox.chat.wire import Message
from chatbox.client.chat import answers
from chatbox.client.chat.events import (
    EVERYONE,
    Back,
    BanList,
    Banned,
    Cut,
    Event,
    Failed,
    Gap,
    Garbled,
    HistoryPage,
    Joined,
    JoinRefused,
    Kind,
    Left,
    Lost,
    Problem,
    Request,
    Said,
    Succeeded,
)
from chatbox.client.chat.inorder import MAX_HISTORY, InOrder, News
from chatbox.client.chat.lines import LineBuffer
from chatbox.client.chat.states import AHEAD, ASKABLE, ASKABLE_ELSE, TRANSITIONS, Cause, State
from chatbox.errors import LocalError, RemoteError

__all__ = ["MAX_LINE", "MAX_PENDING", "TRANSITIONS", "Cause", "ClientSession", "State"]

MAX_LINE: Final = wire.MAX_ANSWER_BYTES
"""Bytes of the longest line that a server of ours sends: a list of many files."""

MAX_PENDING: Final = 256
"""More unanswered requests than anybody needs; the driver stops reading its input there."""

CATCH_UP_PAGE: Final = 1000
"""Messages that are asked for at once when some were missed; a server of ours sends no more."""

_NOTHING: Final = Message()

_PASSING: Final = frozenset(
    {
        Code.LOG_UNAVAILABLE,
        Code.BUSY,
        Code.INTERNAL_ERROR,
        Code.SERVER_STOPPING,
        Code.TRY_LATER,
        Code.TOO_MANY_JOINS,
        Code.ROOM_FULL,
        Code.ACCOUNTS_UNAVAILABLE,
        Code.RESTARTING,
    }
)
"""Refusals that may be over by the next attempt."""

_FINAL: Final = frozenset({Code.REPLACED, Code.KICKED, Code.BANNED})
"""Last words after which nobody should come back by themselves: two connections would replace each
other for ever, and who was put out is not wanted."""

_SENTENCES: Final = frozenset(
    {Kind.HISTORY, Kind.CATCH_UP, Kind.USERS, Kind.FILES, Kind.PING, Kind.BANS}
)
"""What is refused by an error of no kind of its own."""


class ClientSession:
    """One client's conversation with a server, from the first byte to the last.

    The first request has the number after `last_number`. That should be another one in each run of
    a program: who comes again with the token of an earlier run must not use its numbers.
    """

    def __init__(self, last_number: int = 0) -> None:
        self.state = State.FRESH
        self.name = ""
        """What we are called, as the server spells it; empty until joined."""
        self.key = ""
        """What takes our name over again after a cut connection."""
        self.limits: Mapping[str, int] = {}
        """What the server would have us keep to: see `Joined`."""
        self.survives = False
        """Whether the session waits for another connection when one is cut."""
        self.ignored = 0
        """How many lines made no sense."""
        self._restarting = False
        """Whether the server has said that it restarts."""
        self._numbered = False
        """Whether the server gives numbers back."""
        self._pending: dict[int, Request] = {}
        self._last_number = last_number
        self._bans: deque[Banned] = deque(maxlen=MAX_HISTORY)
        self._events: deque[Event] = deque()
        self._news = InOrder(self._events.append)
        self._lines = LineBuffer(MAX_LINE)
        self._outgoing: list[bytes] = []

    # What the driver calls

    def receive_data(self, data: bytes) -> None:
        """Take what the server sent, in pieces of any size."""
        if self.state in (State.AWAY, State.ENDED):
            return
        for line in self._lines.feed(data):
            if line is None:
                self._ignore("a line that is far too long")
            else:
                self._receive_line(line)

    def connection_lost(self) -> None:
        """The connection is gone, for whatever reason. Nothing happens after this."""
        if self.state is State.ENDED:
            return
        if self.survives and self.state in (State.JOINED, State.REJOINING):
            self._cut()
        elif self.state is not State.AWAY:
            self.give_up()

    def survive(self) -> None:
        """From now on, wait for another connection when this one is cut."""
        self.survives = True

    def rejoin(self, server: str, password: str = "") -> None:
        """There is a connection again: take our name over, and ask what was missed.

        The password, if we came in with one, is for a server that does not take the key any more.
        """
        self._move(Cause.REJOIN)
        self._connect(self.name, server, self.key, password)

    def give_up(self, problem: Problem | None = None) -> None:
        """There is no connection and will be none, because of `problem` if there is one.

        Nothing happens after this.
        """
        if problem is not None:
            self._events.append(JoinRefused(self.name, problem))
        expected = self.state is State.LEAVING
        self._news.release()
        self._move(Cause.LOST)
        self._events.append(Lost(expected, self.pending))
        self._pending.clear()
        self._outgoing.clear()

    def next_event(self) -> Event | None:
        """The oldest event not yet taken."""
        return self._events.popleft() if self._events else None

    def data_to_send(self) -> bytes:
        """What has to go to the server since this was last asked."""
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        return data

    @property
    def last_id(self) -> int:
        """The place in the log of the newest thing handed out."""
        return self._news.last_id

    @property
    def pending(self) -> tuple[Request, ...]:
        """The unanswered requests, oldest first."""
        return tuple(self._pending.values())

    @property
    def is_full(self) -> bool:
        """Whether a request made now would break the bound `MAX_PENDING`."""
        return len(self._pending) >= MAX_PENDING

    # Requests. Each returns its number; LocalError where the state or the bound forbids it.

    def join(self, name: str, server: str, *, key: str = "", password: str = "") -> int:
        """Ask to be called `name` on the server whose address is `server`.

        `key` takes the name over from a connection of ours that was cut.
        """
        self._move(Cause.JOIN)
        return self._connect(name, server, key, password)

    def leave(self) -> int:
        """Say goodbye; the server answers what it still owes, then closes."""
        self._move(Cause.LEAVE)
        return self._ask(Kind.DISCONNECT)

    def say(self, text: str, recipient: str = EVERYONE) -> int:
        """Say something to everyone or to one person; while away, as soon as we are back."""
        return self._ask(
            Kind.SAY, Message(recipient=recipient, text=text), recipient=recipient, text=text
        )

    def ask_users(self) -> int:
        """Ask who is here."""
        return self._ask(Kind.USERS)

    def ask_files(self) -> int:
        """Ask what is on the shelf."""
        return self._ask(Kind.FILES)

    def ask_history(
        self, count: int, after: int | None = None, *, before: int | None = None
    ) -> int:
        """Ask for `count` messages: those that follow the message `after`, or else the last ones,
        of all or of those that came before the message `before`."""
        return self._ask(Kind.HISTORY, Message(count=count, after=after, before=before))

    def download(self, name: str) -> int:
        """Ask for a file's port and ticket."""
        return self._ask(Kind.DOWNLOAD, Message(text=name), text=name)

    def probe(self, size: int, which: int) -> int:
        """Ask for `size` bytes from the server's UDP port number `which`, from 1 on."""
        return self._ask(Kind.PROBE, Message(size=size, count=which))

    def moderate(
        self, kind: Kind, whom: str, *, seconds: int | None = None, reason: str = ""
    ) -> int:
        """Do what operators may do to somebody; `kind` is one of `answers.ORDERS`."""
        message = Message(recipient=whom, text=reason or None, count=seconds)
        return self._ask(kind, message, recipient=whom, text=reason)

    def ask_bans(self) -> int:
        """Ask who is banned or muted."""
        return self._ask(Kind.BANS)

    def ping(self) -> int:
        """Ask whether the server is there."""
        return self._ask(Kind.PING)

    # How it works

    def _move(self, cause: Cause) -> None:
        """The one place where `state` changes."""
        state = TRANSITIONS[self.state].get(cause)
        if state is None:
            raise LocalError(f"{cause} does not fit a session that is {self.state}")
        self.state = state

    def _ask(
        self, kind: Kind, message: Message = _NOTHING, *, recipient: str = "", text: str = ""
    ) -> int:
        """Send a request, and remember it until it is answered."""
        if self.state not in ASKABLE.get(kind, ASKABLE_ELSE):
            raise LocalError(f"a {kind.value} request does not fit a session that is {self.state}")
        if self.is_full and kind is not Kind.DISCONNECT:
            raise LocalError(f"{MAX_PENDING} requests wait for their answers")
        number = self._last_number + 1
        # Before it is remembered: what cannot be written as a line has not been asked.
        line = wire.format_line(message._replace(request=kind.wire, sequence=number))
        self._last_number = number
        self._pending[number] = Request(number, kind, recipient, text)
        if kind is not Kind.SAY or self.state in AHEAD:
            self._outgoing.append(line)
        return number

    def _connect(self, name: str, server: str, key: str, password: str) -> int:
        message = Message(
            sender=name, recipient=f"server:{server}", text=password or None, key=key or None
        )
        return self._ask(Kind.CONNECT, message, text=name)

    def _cut(self) -> None:
        """Wait for another connection. Only messages are worth keeping until then."""
        if self.state is State.JOINED:
            self._news.release()
            self._events.append(Cut(self._restarting))
        self._news.drop()  # what came before all that was missed will be asked for again
        self._move(Cause.CUT)
        self._outgoing.clear()
        self._lines = LineBuffer(MAX_LINE)
        for request in self.pending:
            if request.kind is not Kind.SAY:
                del self._pending[request.number]
                if request.kind not in (Kind.CONNECT, Kind.CATCH_UP):
                    problem = Problem("", "The connection was lost before the server answered.")
                    self._events.append(Failed(request, problem))

    def _catch_up(self) -> None:
        self._ask(Kind.CATCH_UP, Message(count=CATCH_UP_PAGE, after=self.last_id))

    def _caught_up(self, count: int, more: bool) -> None:
        """A page of what was missed has come: hand it out, and go on."""
        # What everybody hears may have come before the page that has it, too; it stays held.
        page = self._news.take_page(count)
        for place, one in page:
            self._news.hand_out(place, one)
        if more and page:
            self._catch_up()
            return
        self._move(Cause.CAUGHT_UP)
        self._news.release()
        for request in self.pending:
            message = Message(recipient=request.recipient, text=request.text)
            line = message._replace(request=request.kind.wire, sequence=request.number)
            self._outgoing.append(wire.format_line(line))
        self._events.append(Back(self._restarting))
        self._restarting = False

    def _receive_line(self, line: bytes) -> None:
        """Take one line of the server."""
        if not line or self.state is State.AWAY:
            return  # of a connection that is given up: by the next one it comes again
        try:
            message = wire.parse_line(line)
            match message.response:
                case "message_received":
                    self._hear(message.sequence or 0, answers.said(message))
                case "presence":
                    news = answers.presence(message)
                    if self.state is State.REJOINING and news.here and news.name == self.name:
                        self._news.begin_at(message.sequence or 0)
                    self._hear(message.sequence or 0, news)
                case "headcount":
                    self._events.append(answers.headcount(message))
                case "gap":
                    self._hear(message.sequence or 0, Gap())
                case str(response) if response in answers.ORDERED:
                    self._hear(message.sequence or 0, answers.moderated(message))
                case "ban" | "mute":
                    self._bans.append(answers.banned(message))
                case "error":
                    self._receive_error(message)
                case str(response) if response in answers.KINDS:
                    self._receive_answer(answers.KINDS[response], message)
                case _:
                    pass  # a newer server may say more
        except RemoteError as error:
            self._ignore(error.detail or error.code)

    def _hear(self, place: int, news: News) -> None:
        """Something is said now, or it is part of the history that was asked for."""
        hold = self.state is State.REJOINING or self._awaits(Kind.HISTORY)
        self._news.hear(place, news, hold=hold)

    def _awaits(self, *kinds: Kind) -> bool:
        return any(request.kind in kinds for request in self._pending.values())

    def _receive_error(self, message: Message) -> None:
        """A refusal that is no answer of its own kind, or a word about the connection itself."""
        problem = answers.problem(message)
        if problem.code in _FINAL:
            self.survives = False
        if problem.code == Code.RESTARTING and message.sequence is None and self.survives:
            self._restarting = True  # and no more need be said
            return
        number = message.sequence
        if problem.code == Code.TOO_LONG and number is None and self.state is not State.JOINING:
            number = self._longest()
        if number is None and not self._numbered and self.state in (State.JOINED, State.REJOINING):
            number = next((one.number for one in self.pending if one.kind in _SENTENCES), None)
        request = self._pending.pop(number or 0, None)
        if self.state is State.JOINING and (request is None or request.kind is Kind.CONNECT):
            request = request or self._take(Kind.CONNECT, None)
        self._fail(request, problem)

    def _receive_answer(self, kind: Kind, message: Message) -> None:
        """An answer: hand out what it says about the request that it belongs to."""
        request = self._take(kind, message.sequence)
        if request is None:
            return  # nobody asked
        self._pass_over_history(request.number)
        self._numbered |= message.sequence is not None
        if answers.is_refusal(kind, message):
            self._fail(request, answers.problem(message))
            return
        try:
            if request.kind is Kind.CATCH_UP:
                self._caught_up(answers.history_count(message), message.after is not None)
            elif self.state is State.REJOINING and request.kind is Kind.CONNECT:
                self.key = message.key or self.key
                self.limits = answers.limits(message)
                self._catch_up()
            else:
                self._events.append(self._read(request, message))
        except RemoteError as error:
            self._fail(request, Problem(error.code, error.detail))
            self._ignore(error.detail)

    def _take(self, kind: Kind, number: int | None) -> Request | None:
        """Remove the request that an answer of this kind and number belongs to."""
        if number is None:
            number = next((one.number for one in self.pending if one.kind.wire == kind.wire), 0)
        request = self._pending.get(number)
        if request is None or request.kind.wire != kind.wire:
            return None
        return self._pending.pop(number)

    def _pass_over_history(self, number: int) -> None:
        """Answers come in order. A server that answers a later request first knows no history, and
        what is held until that comes is none."""
        for one in self.pending:
            if one.kind is Kind.HISTORY and one.number < number:
                del self._pending[one.number]
                self._fail(one, Problem("", "This server knows no history."))

    def _longest(self) -> int:
        """The number of the longest message without an answer, 0 if there is none.

        A line that is too long was not read, and its refusal has no number. But the lines that are
        too long are the longest ones.
        """
        said = [request for request in self.pending if request.kind is Kind.SAY]
        lengths = {one.number: len(wire.format_fields(text=one.text)) for one in said}
        return max(lengths, key=lengths.__getitem__, default=0)

    def _fail(self, request: Request | None, problem: Problem) -> None:
        """Say that a request was refused."""
        problem = answers.measured(problem, request, self.limits)
        if self.state is State.REJOINING and request and request.kind is not Kind.SAY:
            self._fail_to_rejoin(request, problem)
            return
        if not self._awaits(Kind.HISTORY, Kind.CATCH_UP):
            self._news.release()
        if request is not None and request.kind is Kind.CONNECT:
            self._move(Cause.REFUSED)
            self._events.append(JoinRefused(request.text, problem))
        else:
            self._events.append(Failed(request, problem))

    def _fail_to_rejoin(self, request: Request, problem: Problem) -> None:
        """Try again later, unless that would be the same every time: the name is somebody else's
        now, or the server knows no history."""
        if problem.code in _PASSING or request.kind not in (Kind.CONNECT, Kind.CATCH_UP):
            self._cut()
        elif request.kind is Kind.CATCH_UP:
            self._caught_up(0, more=False)
        else:
            self.survives = False
            self.give_up(problem)

    def _ignore(self, why: str) -> None:
        """Go on after a line that makes no sense; say so the first time."""
        self.ignored += 1
        if self.ignored == 1:
            self._events.append(Garbled(why))

    def _read(self, request: Request, message: Message) -> Event:
        """What a good answer says. Raises RemoteError if it does not say it."""
        match request.kind:
            case Kind.CONNECT:
                return self._joined(request, message)
            case Kind.DISCONNECT:
                return Left()
            case Kind.USERS:
                return answers.users(request, message)
            case Kind.FILES:
                return answers.files(request, message)
            case Kind.DOWNLOAD | Kind.PROBE:
                return answers.offer(request, message)
            case Kind.HISTORY:
                return self._history(request, message)
            case Kind.BANS:
                bans = tuple(self._bans)
                self._bans.clear()
                return BanList(request, bans)
            case Kind.CATCH_UP:
                raise LocalError("What was missed is no event of its own")
            case _:
                return Succeeded(request, message.time)

    def _joined(self, request: Request, message: Message) -> Joined:
        """We are in."""
        self._move(Cause.ACCEPTED)
        self.name = message.recipient or request.text
        self.key = message.key or ""
        self.limits = answers.limits(message)
        return Joined(self.name, self.key, self.limits)

    def _history(self, request: Request, message: Message) -> HistoryPage:
        """What was asked for; where something is missing in it, that is said before."""
        page = self._news.take_page(answers.history_count(message))
        self._news.release()
        self._events.extend(news for _, news in page if isinstance(news, Gap))
        said = tuple(news for _, news in page if isinstance(news, Said))
        return HistoryPage(request, said, message.after, message.before)
