"""What the protocol promises, as a client and a bystander of the log can see it.

- `Client` is one connection seen from its far end. It knows what it has asked, and takes apart what
  comes: each request has one answer, in order, of the right kind and with its number, and nothing
  comes after the last words.
- `Annals` is what the log has committed, in order. Whatever a client hears is held against it:
  everybody hears all of it from the moment at which they are here, once and in its order, and of
  private messages what is theirs.

Neither looks into the server, but for who is here at the moment of a commit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from chatbox.chat.names import Claim, parse_name
from chatbox.chat.wire import Message, parse_line, parse_list
from chatbox.log import Entry, Kind, Record

NEWS: Final = frozenset(
    {"message_received", "presence", "gap", "headcount"}
    | {"kicked", "banned", "muted", "unbanned", "unmuted"}
)
ROWS: Final = frozenset({"ban", "mute"})
LAST_WORDS: Final = frozenset(
    {"too-slow", "kicked", "banned", "replaced", "server-stopping", "restarting", "too-long"}
    | {"login-timeout", "too-many-connections", "too-many-from-address"}
)
ORDERS: Final = ("kick", "ban", "mute", "unban", "unmute")

_ALWAYS: Final = "not-connected wrong-sender"
_NAME: Final = "name-empty name-too-long name-invalid name-reserved"
_RESPONSES: Final = {
    "connect": ("connect_response", f"{_NAME} already-connected name-taken bad-token"
                " too-many-joins room-full log-unavailable banned"),
    "disconnect": ("disconnect_response", "wrong-sender"),
    "get_user_list": ("user_list", _ALWAYS),
    "get_file": ("file_list", _ALWAYS),
    "message_request": ("message_response", f"{_ALWAYS} missing-field text-empty text-too-long"
                        " control-character no-such-user busy log-unavailable muted"),
    "download": ("download_response", f"{_ALWAYS} missing-field no-such-file"),
    "probe": ("probe_response", f"{_ALWAYS} bad-field"),
    "history": ("history_response", f"{_ALWAYS} log-unavailable"),
    "ping": ("ping_response", "wrong-sender"),
    **{
        one: (f"{one}_response", f"{_ALWAYS} {_NAME} not-allowed missing-field text-too-long"
              " control-character no-such-user is-operator bad-target no-such-ban too-many-bans"
              " log-unavailable")
        for one in ORDERS
    },
    "get_ban_list": ("ban_list", f"{_ALWAYS} not-allowed"),
}  # fmt: skip
"""For each request its answer, and with which words it may be refused."""

_REFUSED: Final = {"download": "ERR", "probe": "ERR"}
_SENTENCES: Final = frozenset(
    {"disconnect", "get_user_list", "get_file", "history", "ping", "get_ban_list"}
)
"""Requests whose refusal is a plain error."""


@dataclass
class Asked:
    """A request on its way. What makes no sense has no `kind`, and is refused with `word`."""

    kind: str
    fields: Message
    word: str = ""
    forbidden: frozenset[str] = frozenset()
    """What somebody may not do from before it was sent: words of refusals."""
    floor: int = 0
    """The place of the last record when it was sent."""


@dataclass
class Annals:
    """What the log has committed."""

    records: dict[int, Record] = field(default_factory=dict)
    by_text: dict[str, list[Record]] = field(default_factory=dict)
    last: int = 0
    public: list[int] = field(default_factory=list)
    """Places of what everybody hears."""
    messages: list[Record] = field(default_factory=list)
    """What history may show."""
    here: dict[str, str] = field(default_factory=dict)
    """Who is here, by the key of the name, the longest here first."""
    unheard: set[str] = field(default_factory=set)
    """Keys of names whose leaving the log has refused."""
    sanctions: set[tuple[str, str]] = field(default_factory=set)
    """What holds for good: banned or muted, and the key of the account."""

    def commit(self, records: Sequence[Record]) -> None:
        """Take these in; what they say must fit what is known."""
        for one in records:
            if one.repeated:
                assert self.records[one.id].text == one.text, f"repeated is something else: {one}"
                continue
            assert one.id > self.last, f"out of order: {one}"
            self.last = one.id
            self.records[one.id] = one
            match one.kind:
                case Kind.MESSAGE:
                    self.messages.append(one)
                    self.by_text.setdefault(one.text, []).append(one)
                case Kind.PRESENCE:
                    self._come_or_go(one)
                case Kind.ORDER:
                    self._order(one)
            if not one.readers:
                self.public.append(one.id)

    def refuse(self, entries: Sequence[Entry]) -> None:
        """Take in what was not committed."""
        for one in entries:
            if one.text == "left" and one.kind is Kind.PRESENCE:
                self.unheard.add(parse_name(one.sender).key)

    def _come_or_go(self, one: Record) -> None:
        key = parse_name(one.sender).key
        if one.text == "joined":
            if key in self.unheard:  # that they left; the log did not take it
                self.unheard.discard(key)
                self.here.pop(key, None)
            assert key not in self.here, f"{one.sender} comes twice"
            self.here[key] = one.sender
        else:
            self.unheard.discard(key)
            assert self.here.pop(key, None) is not None, f"{one.sender} goes without having come"

    def _order(self, one: Record) -> None:
        action, _, rest = one.text.partition(" ")
        words = {"ban": "banned", "unban": "banned", "mute": "muted", "unmute": "muted"}
        if action in words and not one.recipient[:1].isdigit():
            key = words[action], account_key(one.recipient)
            self.sanctions.discard(key)
            if action in ("ban", "mute") and rest.startswith("0 "):
                self.sanctions.add(key)

    def holding(self, name: str) -> frozenset[str]:
        """What somebody of this name may not do now, as words of refusals."""
        return frozenset(word for word, key in self.sanctions if key == account_key(name))


def account_key(name: str) -> str:
    """The key of the account that a name belongs to."""
    try:
        return parse_name(name.partition("+")[0]).key
    except Exception:
        return name


def identity_of(token: str) -> str:
    """Who the log takes somebody with this token for."""
    return Claim(parse_name("x"), token).identity


class Client:
    """The far end of one connection."""

    def __init__(
        self,
        annals: Annals,
        tell: Callable[[Client, Asked, Message], None],
        is_local: bool,
    ) -> None:
        """`tell` hears of each answer that was granted; who is local may be an operator."""
        self._is_local = is_local
        self._annals = annals
        self._tell = tell
        self.owed: deque[Asked] = deque()
        self.name = ""
        """What it is called, once it is here."""
        self.token = ""
        self.ended = ""
        """The last words; `bye` after a disconnect."""
        self.news: list[Message] = []
        self.pages: list[tuple[Asked, list[Message], Message]] = []
        """What was asked of the history, what came, and the answer."""
        self.retries: set[str] = set()
        """Texts that were said before, perhaps under another name."""
        self._rows = 0
        self.people: set[str] | None = None
        self._since = 0
        """The place of the last record when it heard that it is here."""
        self._fresh = False
        self._rest = b""
        self.due = 0
        """The place of what everybody heard last while it was here."""
        self.letters: set[int] = set()
        """Places of the private messages that are for it."""

    def ask(self, asked: Asked) -> None:
        """A request is on its way."""
        self.owed.append(asked)

    def receive(self, data: bytes) -> None:
        """Take apart what has come."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            assert line.endswith(b"\r"), line
            self._hear(parse_line(line))

    def _hear(self, line: Message) -> None:
        assert not self.ended, f"after the last words, {self.ended}: {line}"
        if line.response in NEWS:
            assert self.name, f"not here, and hears {line}"
            self.news.append(line)
            if line.response == "presence" and self.people is not None:
                change = self.people.add if line.text == "joined" else self.people.discard
                change(parse_name(line.sender or "").key)
        elif line.response in ROWS:
            self._rows += 1
        elif self._is_last(line):
            self.ended = line.error or ""
        else:
            assert self.owed, f"nobody has asked: {line}"
            self._answer(self.owed.popleft(), line)

    def _is_last(self, line: Message) -> bool:
        if line.response != "error" or line.sequence is not None or line.error not in LAST_WORDS:
            return False
        head = self.owed[0] if self.owed else None
        return head is None or head.word != line.error

    def _answer(self, asked: Asked, line: Message) -> None:
        what = f"{asked} was answered {line}"
        assert line.sequence == (asked.fields.sequence if asked.kind or not asked.word else None), (
            what
        )
        assert (line.sender or "").startswith("server:"), what
        if self.name:
            assert line.recipient == self.name, what
        if asked.word:
            assert (line.response, line.error) == ("error", asked.word), what
            return
        response, words = _RESPONSES[asked.kind]
        if line.error is not None:
            assert line.error in words.split(), what
            plain = asked.kind in _SENTENCES
            assert line.response == ("error" if plain else response), what
            assert plain or line.text == _REFUSED.get(asked.kind, "False"), what
            assert (line.error == "not-connected") <= (not self.name), what
            return
        assert line.response == response, what
        assert self.name or asked.kind in ("connect", "disconnect", "ping"), what
        if self.name and asked.fields.sender and asked.kind != "connect":
            assert parse_name(asked.fields.sender).key == parse_name(self.name).key, what
        if asked.kind in (*ORDERS, "get_ban_list"):
            assert self._is_local and account_key(self.name) == "olga", what
        self._granted(asked, line)
        self._tell(self, asked, line)

    def _granted(self, asked: Asked, line: Message) -> None:
        what = f"{asked} was answered {line}"
        match asked.kind:
            case "connect":
                assert line.text == "True" and not self.name, what
                assert "banned" not in asked.forbidden & self._annals.holding(
                    line.recipient or ""
                ), what
                self.name, self.token = line.recipient or "", line.key or ""
                assert asked.fields.key in (None, self.token), what
                self._since, self._fresh = self._annals.last, asked.fields.key is None
            case "disconnect":
                self.ended = "bye"
            case "message_request":
                assert "muted" not in asked.forbidden & self._annals.holding(self.name), what
                [said] = self._annals.by_text[asked.fields.text or ""]
                assert (
                    parse_name(said.sender).key == parse_name(self.name).key
                    or asked.fields.sequence
                ), what
                if said.readers:
                    assert identity_of(self.token) in said.readers, what
                else:
                    assert said.recipient == "all" == (asked.fields.recipient or "").lower(), what
            case "get_user_list":
                self.people = {parse_name(name).key for name in parse_list(line.text or "")}
            case "history":
                self._take_page(asked, line)
            case "get_ban_list":
                assert self._rows == int(line.text or ""), what
                self._rows = 0
            case one if one in ORDERS:
                assert line.text == "True", what

    def _take_page(self, asked: Asked, line: Message) -> None:
        """The lines ahead of the answer are history, and must be what was to be found."""
        count, page = int(line.text or ""), []
        wanted = min(100 if asked.fields.count is None else asked.fields.count, 1000)
        assert count <= wanted, f"{count} for {asked}"
        while self.news and (count or self.news[-1].response == "gap"):
            one = self.news.pop()
            assert one.response in ("gap", "message_received"), f"amid history: {one}"
            count -= one.response != "gap"
            page.append(one)
        assert not count, f"history lacks {count}"
        page.reverse()
        self.pages.append((asked, page, line))
        shown = [one.sequence or 0 for one in page if one.response != "gap"]
        gone = max((one.sequence or 0 for one in page if one.response == "gap"), default=0)
        mine = identity_of(self.token)
        may_read = [
            one.id for one in self._annals.messages if not one.readers or mine in one.readers
        ]
        what = f"of {asked} {shown}, gone {gone}, {line}"
        after, before = asked.fields.after, asked.fields.before
        if after is not None:
            may_read = [one for one in may_read if one > max(after, gone)]
            if not after:  # which is no place, so nothing is said to be gone after it
                may_read = may_read[may_read.index(shown[0]) :] if shown else []
            assert shown == may_read[: len(shown)], f"{what}: of {may_read}"
            if line.after is None:
                rest = may_read[len(shown) :]
                assert not rest or rest[0] > asked.floor, f"{what}: lacks {rest}"
        elif shown:
            if before is not None:
                may_read = [one for one in may_read if one < before]
            end = may_read.index(shown[-1]) + 1
            assert shown == may_read[end - len(shown) : end], f"{what}: of {may_read}"
            if asked.fields.count != 0:
                rest = may_read[end:]
                assert not rest or rest[0] > asked.floor, f"{what}: lacks {rest}"
        for one in page:
            if one.response != "gap":
                self._compare(one)

    def _compare(self, line: Message) -> None:
        record = self._annals.records.get(line.sequence or 0)
        assert record is not None, f"is not in the log: {line}"
        assert line.sender == record.sender, f"{line} is {record}"
        if record.kind is not Kind.ORDER:
            assert (line.text, line.recipient) == (record.text, record.recipient), (
                f"{line} {record}"
            )

    def check(self, *, all_of_it: bool) -> None:
        """Hold what was heard against the annals: `all_of_it` if it should have heard all."""
        if self.owed and self.owed[0].kind == "history":
            return  # whose lines may be some of the news
        places = [one.sequence or 0 for one in self.news]
        assert all(one < other for one, other in pairwise(places)), f"disorder: {places}"
        for line in self.news:
            self._compare(line)
        records = self._annals.records
        mine = identity_of(self.token) if self.token else ""
        letters = {one for one in places if records[one].readers}
        for one in letters:
            assert mine in records[one].readers, f"reads others' letters: {records[one]}"
            assert parse_name(records[one].recipient).key == parse_name(self.name).key
        heard = [one for one in places if not records[one].readers]
        public = self._annals.public
        if heard:
            start = public.index(heard[0])
            assert heard == public[start : start + len(heard)], f"holes: {heard} of {public}"
            if self._fresh:
                first = records[heard[0]]
                assert (first.kind, first.text) == (Kind.PRESENCE, "joined"), first
                assert first.sender == self.name, first
        if all_of_it and self.name:
            assert heard or not self._fresh, "has not heard that it came"
            self._check_pages(set(places))
            end = heard[-1] if heard else self._since
            assert not public or public[-1] <= end, f"has heard up to {end} of {public[-3:]}"
            assert not self.letters - letters, f"letters lost: {self.letters - letters}"

    def check_end(self) -> None:
        """All was answered, and up to the last words all was heard."""
        if not self.ended:
            assert not self.owed, f"no answer: {self.owed}"
        elif self.ended != "too-slow" and self.name:
            records = self._annals.records
            heard = [one.sequence or 0 for one in self.news]
            public = [one for one in heard if not records[one].readers]
            end = public[-1] if public else self._since
            assert end >= self.due, f"has heard up to {end}, not {self.due}"
            assert not self.letters - set(heard), f"letters lost: {self.letters}"

    def _check_pages(self, heard: set[int]) -> None:
        """Who is here and asks what came before has all of it."""
        for asked, page, answer in self.pages:
            if asked.fields.after is None or answer.after is not None:
                continue
            shown = {one.sequence or 0 for one in page}
            if not shown and not asked.fields.after:
                continue  # nothing is kept, and 0 is no place after which something is gone
            floor = max((one.sequence or 0 for one in page if one.response == "gap"), default=0)
            floor = max(floor, asked.fields.after, min(shown, default=0) - 1)
            for said in self._annals.messages:
                if said.id > floor and not said.readers:
                    assert said.id in shown | heard, f"neither heard nor found: {said}"
