"""What operators do: put people out, ban and mute them, and undo it.

Who is an operator says a file of names, read again when it has changed. A name alone is no proof.
With accounts, operators are known by their passwords; without, only who comes from the server's own
machine can have such a name at all.

What an operator orders takes the same road as what people say: it is appended to the log, and once
it is committed, everybody hears of it and it takes effect. So in a room of several servers it takes
effect on all of them, in one order with everything else; each keeps its own table and file. The
server that the operator is connected to writes the audit log: who did what to whom, when, from
where, with what outcome. Nothing is ever removed from that.

Operators cannot be put out, banned or muted, so that no two of them can lock each other out; take
somebody off the list first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Final

from twisted.logger import Logger

from chatbox.addresses import network_of
from chatbox.chat.accounts import account_of
from chatbox.chat.codes import Code, sentence
from chatbox.chat.gate import Admission, Gate, Origin, Refusal, Visitor
from chatbox.chat.names import ADDRESS_OF, Name, parse_name
from chatbox.chat.orders import MAX_SECONDS, Action, Order, read_order
from chatbox.chat.sanctions import (
    MAX_SANCTIONS,
    Sanction,
    SanctionKind,
    Sanctions,
    Target,
    parse_target,
)
from chatbox.chat.wire import MAX_REASON_CHARACTERS, Message, check_text, format_fields
from chatbox.errors import LocalError, RemoteError
from chatbox.files import Stamp, stamp

if TYPE_CHECKING:
    from chatbox.chat.room import Room
    from chatbox.log import Record

__all__ = [
    "MAX_LISTED",
    "IsMeant",
    "ModeratedGate",
    "Moderation",
    "Operators",
]

MAX_LISTED: Final = 1000
"""Bans and mutes in one answer, the newest; the file has them all."""

CHECK_SECONDS: Final = 1.0
"""How old the list of operators may be."""

MAX_OPERATORS_BYTES: Final = 1 << 20

_log = Logger()


_KINDS: Final = {
    Action.BAN: SanctionKind.BAN,
    Action.UNBAN: SanctionKind.BAN,
    Action.MUTE: SanctionKind.MUTE,
    Action.UNMUTE: SanctionKind.MUTE,
}


IsMeant = Callable[[str, str], bool]
"""Whether somebody is meant, by the key of their account and the address that they come from."""


class Operators:
    """The file of names, a line each; ``#`` begins a remark. Without a file there are none."""

    def __init__(self, path: str | None, now: Callable[[], float]) -> None:
        self._path = path
        self._now = now
        self._checked_at: float | None = None
        self._stamp: Stamp = None
        self._keys: frozenset[str] = frozenset()

    def load(self) -> None:
        """Read the file if it has changed. Raises OSError, or LocalError with the line."""
        if self._path is None:
            return
        seen = stamp(self._path)
        if seen is not None and seen == self._stamp:
            return
        with open(self._path, encoding="utf-8", errors="replace") as file:
            lines = file.read(MAX_OPERATORS_BYTES).split("\n")
        keys = set()
        for number, line in enumerate(lines, 1):
            if (name := line.strip()) and not name.startswith("#"):
                try:
                    keys.add(account_of(parse_name(name)).key)
                except RemoteError as error:
                    why = (error.detail or sentence(error.code)).rstrip(".")
                    raise LocalError(f"line {number} of {self._path}: {why}") from None
        self._keys, self._stamp = frozenset(keys), seen

    def __contains__(self, account: str) -> bool:
        now = self._now()
        if self._checked_at is None or not 0 <= now - self._checked_at < CHECK_SECONDS:
            self._checked_at = now
            try:
                self.load()
            except (OSError, LocalError) as error:
                _log.error("the operators are who they were: {error}", error=error)
        return account in self._keys


class Moderation:
    """The operators and their orders.

    `state_dir` has the table of bans and the audit log. `now` is in seconds since the epoch.
    `accounts` says whether names are proven by passwords.
    """

    def __init__(
        self,
        state_dir: str,
        now: Callable[[], float],
        *,
        operators: str | None = None,
        accounts: bool = False,
    ) -> None:
        self.operators = Operators(operators, now)
        self.sanctions = Sanctions(os.path.join(state_dir, "bans.json"), _not_written)
        self._audit_path = os.path.join(state_dir, "audit.jsonl")
        self._now = now
        self._accounts = accounts
        self.on_ban: Callable[[IsMeant], None] = lambda is_meant: None
        """Hears whom a ban means that has just taken effect."""

    def start(self) -> None:
        """Read the files. Raises OSError or LocalError."""
        self.operators.load()
        self.sanctions.load()

    def is_operator(self, name: Name, origin: Origin) -> bool:
        """Whether somebody who was let in under this name is an operator."""
        return self._is_operator(account_of(name).key, origin)

    def _is_operator(self, account: str, origin: Origin) -> bool:
        return self.has_proof(origin) and account in self.operators

    def has_proof(self, origin: Origin) -> bool:
        """Whether a name proves who somebody is who comes from there."""
        return self._accounts or origin.is_local

    def check_may_speak(self, name: Name, origin: Origin) -> None:
        """Raise RemoteError if somebody is muted."""
        account = account_of(name).key
        muted = self.sanctions.find(SanctionKind.MUTE, account, origin.host, self._now())
        if muted is not None and not self.is_operator(name, origin):
            raise RemoteError(Code.MUTED)

    def ban_of(self, account: str, host: str) -> Sanction | None:
        """The ban that holds against somebody, None if there is none."""
        return self.sanctions.find(SanctionKind.BAN, account, host, self._now())

    def bans(self) -> list[Sanction]:
        """All that hold now, of both kinds, oldest first."""
        now = self._now() * 1000
        holding = [one for one in self.sanctions if one.until is None or now < one.until]
        return sorted(holding, key=lambda one: one.at)

    def heard_bans(self) -> list[bytes]:
        """The lines in which an operator reads `bans`, the newest ones if they are many."""
        return [
            format_fields(
                sender=one.by,
                recipient=one.target,
                text=one.reason,
                response=one.kind,
                time=one.at,
                count=self.left(one),
            )
            for one in self.bans()[-MAX_LISTED:]
        ]

    def left(self, sanction: Sanction) -> int | None:
        """How many seconds one goes on; None if for good."""
        return sanction.left(self._now())

    # Orders.

    def read(self, message: Message, find: Callable[[str], Origin | None]) -> Order:
        """Make an order of a request. Raises RemoteError if it cannot be carried out.

        `find` says where somebody comes from who is connected to this server.
        """
        action = Action(message.request or "")
        whom, reason, seconds = message.recipient, message.text or "", message.count or None
        if not whom:
            raise RemoteError(Code.MISSING_FIELD)
        if reason:
            check_text(reason)
        if len(reason) > MAX_REASON_CHARACTERS:
            raise RemoteError(Code.TEXT_TOO_LONG)
        if action is Action.KICK:
            name = parse_name(whom)
            self._spare_operators(account_of(name).key)
            return Order(action, name.text, None, reason)
        target = self._target(whom, find)
        kind = _KINDS[action]
        if action in (Action.UNBAN, Action.UNMUTE):
            if not self.sanctions.has(kind, target, self._now()):
                raise RemoteError(Code.NO_SUCH_BAN)
            return Order(action, target.text, None, reason)
        if target.network is None:
            self._spare_operators(target.key)
        if len(self.sanctions) >= MAX_SANCTIONS and not self.sanctions.has(
            kind, target, self._now()
        ):
            raise RemoteError(Code.TOO_MANY_BANS)
        if seconds is not None and seconds > MAX_SECONDS:
            seconds = None
        return Order(action, target.text, seconds, reason)

    def _target(self, whom: str, find: Callable[[str], Origin | None]) -> Target:
        if not whom.lower().startswith(ADDRESS_OF):
            return parse_target(whom)
        origin = find(whom[len(ADDRESS_OF) :])
        if origin is None:
            raise RemoteError(Code.NO_SUCH_USER)
        if not origin.host:
            raise RemoteError(Code.BAD_TARGET)
        return parse_target(network_of(origin.host))

    def _spare_operators(self, account: str) -> None:
        if account in self.operators:
            raise RemoteError(Code.IS_OPERATOR)

    def serve(self, room: Room) -> None:
        """Let what the room hears of orders take effect."""
        room.on_order = partial(self._enact, room)

    def _enact(self, room: Room, record: Record) -> None:
        """An order is in the log: it counts from now on, here as on every other server."""
        try:
            order = read_order(record)
            self._change(order, record)
            self._put_out(room, order)
        except (LocalError, RemoteError) as error:
            _log.error("an order in the log makes no sense: {error}", error=error)

    def _change(self, order: Order, record: Record) -> None:
        """Change the table, and its file."""
        kind = _KINDS.get(order.action)
        if kind is None:
            return
        if order.action in (Action.BAN, Action.MUTE):
            at, by = record.at, record.sender
            until = at + order.seconds * 1000 if order.seconds else None
            self.sanctions.add(Sanction(kind.value, order.target, by, at, until, order.reason))
        else:
            self.sanctions.remove(kind, parse_target(order.target))
        self.sanctions.save(self._now())

    def _put_out(self, room: Room, order: Order) -> None:
        """Let those go who are meant and here."""
        if order.action is Action.KICK:
            key = parse_name(order.target).key
            room.put_out(lambda name, _: name.key == key, Code.KICKED, order.reason)
        elif order.action is Action.BAN:
            target = parse_target(order.target)

            def is_meant(account: str, host: str) -> bool:
                return target.means(account, host) and not self._is_operator(account, Origin(host))

            room.put_out(
                lambda name, origin: is_meant(account_of(name).key, origin.host),
                Code.BANNED,
                order.reason,
            )
            self.on_ban(is_meant)

    def audit(self, message: Message, by: str, peer: str, outcome: str) -> None:
        """Write down what an operator has asked for, and what came of it."""
        line = json.dumps(
            {
                "at": f"{datetime.fromtimestamp(self._now(), timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
                "who": by,
                "from": peer,
                "what": message.request,
                "whom": message.recipient,
                "seconds": message.count,
                "why": message.text,
                "outcome": outcome,
            }
        )
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            os.makedirs(os.path.dirname(self._audit_path), 0o700, exist_ok=True)
            handle = os.open(self._audit_path, flags, 0o600)
            try:
                os.write(handle, line.encode() + b"\n")
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            _log.error("no audit of {line}: {error}", line=line, error=error)


def _not_written(error: OSError) -> None:
    _log.error("the bans will not survive a restart: {error}", error=error)


class ModeratedGate:
    """A `Gate` with another one behind it, past which nobody comes who is banned."""

    def __init__(self, moderation: Moderation, inner: Gate) -> None:
        self._moderation = moderation
        self._inner = inner

    def start(self) -> None:
        """Read the files."""
        self._moderation.start()
        self._inner.start()

    def admit(self, visitor: Visitor, answer: Callable[[Admission | Refusal], None]) -> None:
        """Refuse who is banned, and who wants an operator's name without being one."""
        refusal = self._refusal(visitor)
        if refusal is not None:
            answer(refusal)
        else:
            # Checking a password takes its time, in which somebody may have been banned.
            self._inner.admit(visitor, lambda outcome: answer(self._refusal(visitor) or outcome))

    def _refusal(self, visitor: Visitor) -> Refusal | None:
        account = account_of(visitor.name).key
        if account in self._moderation.operators:
            proven = self._moderation.has_proof(visitor.origin)
            return None if proven else Refusal(Code.NAME_RESERVED)
        ban = self._moderation.ban_of(account, visitor.origin.host)
        return None if ban is None else Refusal(Code.BANNED, self._moderation.left(ban))
