"""One client's conversation: lines in, answers out.

A session knows no sockets. Its owner hands it lines and tells it when the connection is lost; it
puts its answers into an outbox and asks its owner to hang up. What may be asked, and when, is the
table `REQUESTS`; how far a conversation has come is the table `chatbox.chat.states.TRANSITIONS`.

- Every answer begins with the server's name and the client's. Before the client has one, that is
  the valid name that it last asked for, or nothing.
- The number of a request (``q``) comes back in its answer, a refusal included.
- Once named, a client may leave its name out of its requests. If it is there it must be its own.
- A password in a connect (``m``) goes to the gate, which may let somebody in or not.
- A refusal costs nothing but the answer: the connection stays, and so do all others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from twisted.logger import Logger

from chatbox.chat.accounts import account_of
from chatbox.chat.codes import Code, sentence
from chatbox.chat.gate import NOWHERE, Admission, Gate, OpenGate, Origin, Refusal, Visitor
from chatbox.chat.history import page, wanted
from chatbox.chat.limits import ANSWER_BYTES, NO_LIMITS, Limits
from chatbox.chat.moderation import Moderation
from chatbox.chat.names import Name, is_same_name, parse_name
from chatbox.chat.orders import Action
from chatbox.chat.outbox import Outbox
from chatbox.chat.people import Person, Seat
from chatbox.chat.pipeline import Job, Pipeline
from chatbox.chat.room import Room
from chatbox.chat.sharing import Downloads, Files, Found
from chatbox.chat.states import TRANSITIONS, State
from chatbox.chat.wire import Message, check_text, format_fields, format_list, parse_request
from chatbox.errors import LocalError, RemoteError
from chatbox.log import Record
from chatbox.text import printable

__all__ = [
    "REQUESTS",
    "Asked",
    "Request",
    "Session",
]

_log = Logger()


class Session:
    """One client's conversation.

    `gate` says who may come in (without one everybody may), `moderation` who is an operator
    (without one nobody is), and `origin` where the client comes from. `server` is the name that the
    server goes by, such as ``server:192.0.2.1``, and `peer` what the client is called in the
    operator's log. `hang_up` closes the connection after what is in the outbox; `on_change` is
    called when `busy` may have changed; `complain` hears of lines that a well-behaved client would
    not send. `on_long_answer` hears of answers of `ANSWER_BYTES` or more, with their size in bytes.
    `on_visit` hears which name has ``joined`` or ``left``, and `on_unavailable` why the system has
    no download to offer. `limits` are what the client must keep to, and is told; without them it
    keeps to `NO_LIMITS`.
    """

    def __init__(
        self,
        room: Room,
        files: Files,
        downloads: Downloads,
        outbox: Outbox,
        *,
        gate: Gate | None = None,
        moderation: Moderation | None = None,
        origin: Origin = NOWHERE,
        server: str,
        peer: str,
        hang_up: Callable[[], None],
        on_change: Callable[[], None],
        complain: Callable[[RemoteError], None],
        on_long_answer: Callable[[int], None] = lambda _: None,
        on_visit: Callable[[str, str], None] = lambda name, what: None,
        on_unavailable: Callable[[OSError], None] = lambda _: None,
        limits: Limits | None = None,
    ) -> None:
        self._room = room
        self._files = files
        self._downloads = downloads
        self._outbox = outbox
        self._gate = gate or OpenGate()
        self._moderation = moderation
        self._origin = origin
        self._server = server
        self._peer = peer
        self._hang_up = hang_up
        self._on_change = on_change
        self._complain = complain
        self._on_long_answer = on_long_answer
        self._on_visit = on_visit
        self._on_unavailable = on_unavailable
        self._limits = limits or NO_LIMITS
        self._told = limits and limits.told()
        self._state = State.NAMELESS
        self._called = ""
        self._addressed: tuple[str | None, bytes] = None, b""
        """The beginning of each answer, and for which name it holds."""
        self._seat: Seat | None = None
        self._input_ended = False
        self._on_answered: Callable[[], None] | None = None
        self._pipeline = Pipeline(outbox.put, self._progress, congested=lambda: outbox.congested)

    @property
    def state(self) -> State:
        """How far the conversation has come."""
        return self._state

    @property
    def is_operator(self) -> bool:
        """Whether this is one of those who keep order."""
        return self._state is State.HERE and self._would_be_operator(parse_name(self._called))

    @property
    def busy(self) -> bool:
        """Whether no more should be read: too much is in progress, or the end has come."""
        return self._pipeline.full or self._on_answered is not None

    # What the owner tells.

    def receive(self, line: bytes) -> None:
        """A line has come, with or without its end."""
        try:
            message = parse_request(line)
        except RemoteError as error:
            self.refuse(error)
        else:
            request = REQUESTS.get(message.request or "", _STRANGE)
            self._ask(Asked(self, request, message, size=len(line)))

    def go_on(self) -> None:
        """The client may have read what it has to read before more is done for it."""
        self._pipeline.go_on()

    def refuse(self, error: RemoteError) -> None:
        """A line has come that makes no sense, or cannot even be handed over."""
        self._complain(error)
        self._ask(Asked(self, _STRANGE, Message(), error))

    def _ask(self, asked: Asked) -> None:
        if self._state is not State.GONE and not self._input_ended and not self._on_answered:
            self._pipeline.add(asked)

    def input_ended(self) -> None:
        """The client sends no more, but may still read: answer what it asked, then hang up."""
        self._input_ended = True
        self._progress()

    def finish(self, on_answered: Callable[[], None]) -> None:
        """Take no more requests; `on_answered` is called when all that were made are answered.

        A request that comes now has no answer, so a client that comes back makes it again.
        """
        self._on_answered = on_answered
        self._progress()

    def connection_lost(self) -> None:
        """The client is gone."""
        self._leave()

    def dismiss(self, code: Code, reason: str = "") -> None:
        """Say why, and hang up."""
        if self._state is not State.GONE:
            text = f"{code.sentence[:-1]}: {reason}" if reason else code.sentence
            self._outbox.put(self._line(None, "error", text=text, error=code.value))
            self._leave()
            self._hang_up()

    # What requests do.

    def begin(self, asked: Asked) -> None:
        """Do what was asked, or refuse it."""
        try:
            if asked.error is not None:
                raise asked.error
            self._admit(asked)
            asked.request.handler(self, asked)
        except RemoteError as error:
            self._refuse(asked, error)
        except Exception:
            _log.failure("a request of {peer} failed: {asked}", peer=self._peer, asked=asked)
            if asked.answer is None:
                self._refuse(asked, RemoteError(Code.INTERNAL_ERROR))

    def _admit(self, asked: Asked) -> None:
        """Check what every request must pass. Raises RemoteError."""
        if self._state not in asked.request.states:
            here = self._state is State.HERE
            raise RemoteError(Code.ALREADY_CONNECTED if here else Code.NOT_CONNECTED)
        sender = asked.message.sender
        if self._state is State.HERE and sender and not is_same_name(sender, self._called):
            raise RemoteError(Code.WRONG_SENDER)
        if asked.request.operator and not self.is_operator:
            raise RemoteError(Code.NOT_ALLOWED)

    def connect(self, asked: Asked) -> None:
        """Ask for a name, and to be here under it."""
        self._called = ""
        name = parse_name(asked.message.sender or "")
        if len(account_of(name).text) > self._limits.name:
            raise RemoteError(Code.NAME_TOO_LONG)
        self._called = name.text
        self._become(State.JOINING)
        visitor = Visitor(name, asked.message.key, asked.message.text, self._origin)
        self._gate.admit(visitor, partial(self._admitted, asked, name))

    def _admitted(self, asked: Asked, name: Name, outcome: Admission | Refusal) -> None:
        if self._state is not State.JOINING:
            if isinstance(outcome, Admission):
                outcome.unused()
            return  # The client did not wait.
        if isinstance(outcome, Refusal):
            if outcome.code is Code.WRONG_PASSWORD:
                self._complain(RemoteError(outcome.code, account_of(name).text))
            self._turn_away(asked, outcome)
            return
        self._seat = Seat(
            self._outbox,
            answer=partial(self._joined, asked, outcome),
            replaced=partial(self.dismiss, Code.REPLACED),
            expelled=partial(self.dismiss, Code.LOG_UNAVAILABLE),
            put_out=self.dismiss,
            unused=outcome.unused,
            origin=self._origin,
            operator=self._would_be_operator(name),
        )
        self._room.join(name, outcome.token, self._seat)

    def _would_be_operator(self, name: Name) -> bool:
        moderation = self._moderation
        return moderation is not None and moderation.is_operator(name, self._origin)

    def _turn_away(self, asked: Asked, refusal: Refusal) -> None:
        self._become(State.NAMELESS)
        self._answer(
            asked, text=asked.request.refused, error=refusal.code.value, count=refusal.wait
        )

    def _joined(self, asked: Asked, admission: Admission, outcome: Person | Code) -> None:
        if isinstance(outcome, Code):
            self._turn_away(asked, Refusal(outcome))
            return
        self._become(State.HERE)
        self._called = outcome.name.text
        self._on_visit(self._called, "joined")
        key = admission.key or outcome.claim.token
        self._answer(asked, text="True", key=key, limits=self._told)

    def disconnect(self, asked: Asked) -> None:
        """Say goodbye."""
        self._answer(asked, text="True")
        self._bow_out()

    def list_users(self, asked: Asked) -> None:
        """Tell who is here."""
        self._answer(asked, text=self._room.name_list())

    def list_files(self, asked: Asked) -> None:
        """Tell what can be downloaded, and how large it is."""
        self._files.list(partial(self._listed, asked))

    def _listed(self, asked: Asked, found: Found) -> None:
        if isinstance(found, RemoteError):
            self._refuse(asked, found)
        else:
            names = format_list(file.name for file in found)
            self._answer(asked, text=names, size=tuple(file.size for file in found))

    def say(self, asked: Asked) -> None:
        """Say something to everybody, or to somebody."""
        recipient, text = asked.message.recipient, asked.message.text
        if not recipient:
            raise RemoteError(Code.MISSING_FIELD, "A message needs its recipient, r.")
        check_text(text or "", self._limits.text)
        if self._moderation is not None:
            self._moderation.check_may_speak(parse_name(self._called), self._origin)
        answer = partial(self._said, asked)
        self._room.say(
            self._own_seat(), recipient, text or "", answer, number=asked.message.sequence
        )

    def _said(self, asked: Asked, refusal: Code | None) -> None:
        if refusal is None:
            self._answer(asked, text="True")
        else:
            self._refuse(asked, RemoteError(refusal))

    def download(self, asked: Asked) -> None:
        """Make a file ready to be fetched."""
        name = asked.message.text
        if not name:
            raise RemoteError(Code.MISSING_FIELD, "A download needs the file's name, m.")
        try:
            offer = self._downloads.offer(self._called, self._origin.host, name)
        except OSError as error:
            self._on_unavailable(error)
            raise RemoteError(Code.UNAVAILABLE) from error
        self._answer(
            asked,
            text=str(offer.port),
            key=offer.ticket,
            time=offer.mtime_ms,
            size=offer.size,
            digest=offer.digest,
        )

    def probe(self, asked: Asked) -> None:
        """Make a look at the path ready to be fetched."""
        size = asked.message.size
        if isinstance(size, tuple):
            raise RemoteError(Code.BAD_FIELD, "A probe has one size, z.")
        who, count = (self._called, self._origin.host), asked.message.count
        probe = self._downloads.probe(*who, size, count)
        self._answer(
            asked, text=str(probe.port), key=probe.ticket, size=probe.size, count=probe.ports
        )

    def history(self, asked: Asked) -> None:
        """Show what was said."""
        count = wanted(asked.message) + 1  # To know whether there is more.
        self._room.history(
            self._own_seat(),
            asked.message.after,
            count,
            partial(self._remembered, asked),
            asked.message.before,
        )

    def _remembered(self, asked: Asked, found: Sequence[Record] | None) -> None:
        if found is None:
            self._refuse(asked, RemoteError(Code.LOG_UNAVAILABLE))
            return
        lines, said, after, before = page(found, asked.message.after, wanted(asked.message))
        self._answer(asked, *lines, text=str(said), after=after, before=before)

    def moderate(self, asked: Asked) -> None:
        """Do what an operator wants done to somebody."""
        moderation = self._moderation
        assert moderation is not None  # else nobody is an operator
        audit = partial(moderation.audit, asked.message, self._called, self._peer)

        def ordered(refusal: Code | None) -> None:
            audit("done" if refusal is None else refusal.value)
            self._said(asked, refusal)

        try:
            order = moderation.read(asked.message, self._room.origin_of)
            self._room.order(self._own_seat(), order, ordered)
        except RemoteError as error:
            audit(error.code)
            raise

    def list_bans(self, asked: Asked) -> None:
        """Tell an operator who is banned or muted."""
        moderation = self._moderation
        assert moderation is not None
        lines = moderation.heard_bans()
        self._answer(asked, *lines, text=str(len(lines)))

    def ping(self, asked: Asked) -> None:
        """Say that we are here."""
        self._answer(asked)

    # Answers.

    def _answer(self, asked: Asked, *lines: bytes, **fields: Any) -> None:
        """Answer with `fields`, and with some lines ahead of them."""
        answer = self._line(asked.message.sequence, asked.request.response, **fields)
        if lines:
            answer = b"".join((*lines, answer))
        if len(answer) >= ANSWER_BYTES:
            self._on_long_answer(len(answer))
        self._pipeline.end(asked, answer)

    def _refuse(self, asked: Asked, error: RemoteError) -> None:
        refused = asked.request.refused
        response = asked.request.response if refused else "error"
        text = refused or error.detail or sentence(error.code)
        line = self._line(asked.message.sequence, response, text=text, error=str(error.code))
        self._pipeline.end(asked, line)

    def _line(
        self,
        sequence: int | None,
        response: str,
        *,
        text: str | None = None,
        error: str | None = None,
        **fields: Any,
    ) -> bytes:
        if self._addressed[0] != self._called:
            # The same for every answer, so it is written once.
            start = format_fields(sender=self._server, recipient=self._called)
            self._addressed = self._called, start.removesuffix(b"\r\n")
        return self._addressed[1] + format_fields(
            text=text, error=error, response=response, sequence=sequence, **fields
        )

    # Coming and going.

    def _progress(self) -> None:
        """Answers have left, or no more requests come."""
        if self._on_answered is not None and self._pipeline.idle:
            self._on_answered()
        elif self._input_ended and self._pipeline.idle:
            self._bow_out()
        else:
            self._on_change()

    def _bow_out(self) -> None:
        if self._state is not State.GONE:
            self._leave()
            self._hang_up()

    def _leave(self) -> None:
        if self._state is State.GONE:
            return
        if self._state is State.HERE:
            self._on_visit(self._called, "left")
        self._become(State.GONE)
        self._pipeline.clear()
        if self._seat is not None:
            self._room.leave(self._seat)

    def _own_seat(self) -> Seat:
        if self._seat is None:
            raise LocalError("Only somebody with a name has a seat")
        return self._seat

    def _become(self, state: State) -> None:
        if state not in TRANSITIONS[self._state]:
            raise LocalError(f"No way from {self._state.value} to {state.value}")
        self._state = state


@dataclass(frozen=True, slots=True)
class Request:
    """What can be asked: who does it, in which states, and how it is answered."""

    handler: Callable[[Session, Asked], None]
    states: frozenset[State]
    response: str
    """The `p` of its answer."""
    refused: str | None = None
    """The `m` of a refusal; None if a refusal is a plain error."""
    alone: bool = False
    """Whether it waits for all before it, and all behind wait for it: see `Pipeline`."""
    operator: bool = False
    """Whether only operators may ask for it."""


class Asked(Job):
    """A request as one client has made it. `error` says what is wrong with it from the outset."""

    __slots__ = ("error", "message", "request", "session")

    def __init__(
        self,
        session: Session,
        request: Request,
        message: Message,
        error: RemoteError | None = None,
        size: int = 0,
    ) -> None:
        super().__init__(request.alone, size)
        self.session = session
        self.request = request
        self.message = message
        self.error = error

    def __repr__(self) -> str:
        return f"<Asked {printable(self.message.request or '?')}>"

    def begin(self) -> None:
        """Have the session do it."""
        self.session.begin(self)


_HERE: Final = frozenset({State.HERE})
_NAMELESS: Final = frozenset({State.NAMELESS})
# While JOINING nothing begins, for connect is alone; once GONE nothing is heard.
_ANY: Final = _HERE | _NAMELESS

REQUESTS: Final = {
    "connect": Request(Session.connect, _NAMELESS, "connect_response", "False", alone=True),
    "disconnect": Request(Session.disconnect, _ANY, "disconnect_response", alone=True),
    "get_user_list": Request(Session.list_users, _HERE, "user_list", alone=True),
    "get_file": Request(Session.list_files, _HERE, "file_list"),
    "message_request": Request(Session.say, _HERE, "message_response", "False"),
    "download": Request(Session.download, _HERE, "download_response", "ERR"),
    "probe": Request(Session.probe, _HERE, "probe_response", "ERR"),
    "history": Request(Session.history, _HERE, "history_response", alone=True),
    "ping": Request(Session.ping, _ANY, "ping_response"),
    **{
        action.value: Request(
            Session.moderate,
            _HERE,
            f"{action.value}_response",
            "False",
            alone=True,
            operator=True,
        )
        for action in Action
    },
    "get_ban_list": Request(Session.list_bans, _HERE, "ban_list", alone=True, operator=True),
}
"""Everything that can be asked, by the value of `t`."""


def _unknown(_: Session, asked: Asked) -> None:
    if asked.message.request is None:
        raise RemoteError(Code.MISSING_FIELD, "A request needs its kind, t.")
    raise RemoteError(Code.UNKNOWN_REQUEST)


_STRANGE: Final = Request(_unknown, _ANY, "error")
"""What cannot be understood, as a line or as a request."""
