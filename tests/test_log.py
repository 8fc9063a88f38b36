"""What every log promises, and the bounds of the one in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

from chatbox.errors import LocalError
from chatbox.log import Attempt, Entry, Kind, MessageLog, Record, open_log
from chatbox.log.attempts import ATTEMPT_SECONDS, Attempts
from chatbox.log.keep import EVERYTHING, Keep, parse_keep
from chatbox.log.memory import MemoryLog
from chatbox.log.place import SCHEMES
from chatbox.log.redis import RedisLog
from tests.helpers.chat import NOON, DelayedLog
from tests.helpers.log import presence, say, texts

NOON_MS = int(NOON * 1000)

if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object


class LogConformance(_Base):
    """What every kind of log does. Its tests have `make_log`, and `settle` that lets it finish."""

    def make_log(self, keep: Keep = EVERYTHING) -> MessageLog:
        """Make a log that is neither subscribed to nor started."""
        raise NotImplementedError

    def forget(self) -> None:
        """Have the log forget all that it may, if it does not by itself."""

    def begin(self, keep: Keep = EVERYTHING) -> None:
        """Start a log, and listen to it."""
        self.batches.clear()
        self.log = self.make_log(keep)
        self.log.subscribe(self.on_commit, self.failed.extend)
        self.log.start()

    def place(self, record: Record) -> int:
        """Where a record is that was there before any time passed."""
        return record.id

    def settle(self) -> None:
        """Let the log commit what it was given and answer what it was asked."""

    def settle_stop(self, stopped: list[bool]) -> None:
        """Let the log end."""
        self.settle()
        self.assertEqual(stopped, [True])

    def let_pass(self, seconds: float) -> None:
        """Let time pass for the log."""
        self.passed += seconds

    def now(self) -> float:
        """The clock of a log that has none of its own."""
        return NOON + self.passed

    def setUp(self) -> None:
        """Start a log that nothing has been said in."""
        self.passed = 0.0
        self.batches: list[list[Record]] = []
        self.failed: list[Entry] = []
        self.begin()

    def on_commit(self, records: Sequence[Record]) -> None:
        """Remember each batch."""
        self.batches.append(list(records))

    @property
    def records(self) -> list[Record]:
        """Everything committed."""
        return [record for batch in self.batches for record in batch]

    def append(self, *entries: Entry) -> None:
        """Append and let the log finish."""
        self.log.append(entries)
        self.settle()

    def found(
        self, after: int | None, count: int, reader: str = "", before: int | None = None
    ) -> list[Record] | None:
        """Ask for history and let the log answer, once."""
        answers: list[Sequence[Record] | None] = []
        self.log.history(after, count, reader, answers.append, before)
        self.settle()
        [answer] = answers
        return None if answer is None else list(answer)

    def history(
        self, after: int | None, count: int, reader: str = "", before: int | None = None
    ) -> list[str] | None:
        """What was said, by history."""
        return texts(self.found(after, count, reader, before))

    def test_entries_become_records(self) -> None:
        """A record is its entry, with a place, a time and the very origin."""
        origin = object()
        self.append(Entry(Kind.MESSAGE, "alice", "bob", "hi", ("a", "b"), origin))
        [record] = self.records
        self.assertEqual(
            (record.kind, record.sender, record.recipient, record.text, record.readers),
            (Kind.MESSAGE, "alice", "bob", "hi", ("a", "b")),
        )
        self.assertIs(record.origin, origin)
        self.assertGreater(record.id, 0)
        self.assertGreater(record.at, 1_600_000_000_000)

    def test_order(self) -> None:
        """Records come in the order of appending, and their numbers grow."""
        for number in range(10):
            self.log.append([say(f"{number}a"), presence(f"{number}b")])
        self.settle()
        self.assertEqual(
            texts(self.records), [f"{number}{letter}" for number in range(10) for letter in "ab"]
        )
        ids = [record.id for record in self.records]
        self.assertEqual(ids, sorted(set(ids)))

    def test_append_from_the_subscriber(self) -> None:
        """What is appended while a batch is reported comes after that batch, in one order."""
        seen: list[str] = []

        def echo(records: Sequence[Record]) -> None:
            for record in records:
                seen.append(record.text)
                if len(record.text) < 3:
                    self.log.append([say(record.text + "!")])
            seen.append("|")

        self.log = self.make_log()
        self.log.subscribe(echo, self.failed.extend)
        self.log.start()
        self.append(say("a"), say("b"))
        self.assertEqual(
            [word for word in seen if word != "|"], ["a", "b", "a!", "b!", "a!!", "b!!"]
        )
        self.assertEqual(seen[:3], ["a", "b", "|"])

    def test_nothing_appended(self) -> None:
        """An empty batch harms nobody."""
        self.append()
        self.append(say("a"))
        self.assertEqual(texts(self.records), ["a"])

    def test_one_subscriber(self) -> None:
        """A second subscriber is a mistake of the caller's."""
        self.assertRaises(LocalError, self.log.subscribe, self.on_commit, self.failed.extend)

    def test_last_messages(self) -> None:
        """Without a place, history is the last messages, oldest first."""
        self.append(*map(say, "abcde"))
        self.assertEqual(self.history(None, 3), ["c", "d", "e"])
        self.assertEqual(self.history(None, 100), ["a", "b", "c", "d", "e"])
        self.assertEqual(self.history(None, 0), [])

    def test_messages_after_a_place(self) -> None:
        """With a place, history is what follows it, from the first on."""
        self.append(*map(say, "abcde"))
        b = self.records[1].id
        self.assertEqual(self.history(b, 2), ["c", "d"])
        self.assertEqual(self.history(b, 100), ["c", "d", "e"])
        self.assertEqual(self.history(0, 100), ["a", "b", "c", "d", "e"])
        self.assertEqual(self.history(self.records[-1].id, 100), [])
        self.assertEqual(self.history((1 << 63) - 1, 100), [])

    def test_messages_before_a_place(self) -> None:
        """With a place to end at, history is what comes right before it, oldest first."""
        self.append(*map(say, "ab"), say("secret", "ann"), *map(say, "cde"))
        a, b, _, _, d, e = (record.id for record in self.records)
        self.assertEqual(self.history(None, 2, before=d), ["b", "c"])
        self.assertEqual(self.history(None, 2, "ann", before=d), ["secret", "c"])
        self.assertEqual(self.history(None, 9, before=b), ["a"])
        for place in (e + 1, (1 << 63) - 1):
            self.assertEqual(self.history(None, 2, before=place), ["d", "e"])
        for place in (a, 1, 0):
            self.assertEqual(self.history(None, 9, "ann", before=place), [])
        self.assertEqual(self.history(b, 9, before=e), ["c", "d", "e"])

    def test_history_of_nothing(self) -> None:
        """An empty log has an empty history."""
        self.assertEqual(self.history(None, 10), [])
        self.assertEqual(self.history(0, 10), [])

    def test_private_messages(self) -> None:
        """A message with readers is shown to them only, and does not count for others."""
        self.append(say("open"), say("secret", "ann", "bob"), say("open too"))
        for reader in ("ann", "bob"):
            self.assertEqual(self.history(None, 9, reader), ["open", "secret", "open too"])
            self.assertEqual(self.history(0, 2, reader), ["open", "secret"])
        for reader in ("", "eve", "an"):
            self.assertEqual(self.history(None, 2, reader), ["open", "open too"])
            self.assertEqual(self.history(0, 2, reader), ["open", "open too"])

    def test_to_oneself(self) -> None:
        """Who writes to themselves, as from one device to another, reads it once, and it is in
        nobody's way."""
        self.append(say("before"), say("note", "ann", "ann"), say("after"))
        self.assertEqual(texts(self.records), ["before", "note", "after"])
        self.assertEqual(self.failed, [])
        self.assertEqual(self.history(None, 9, "ann"), ["before", "note", "after"])
        self.assertEqual(self.history(None, 9, "bob"), ["before", "after"])

    def test_presence_is_not_kept(self) -> None:
        """Coming and going is committed in its place, and not shown in history."""
        self.append(presence("joined"), say("a"), presence("left"), say("b"))
        self.assertEqual(texts(self.records), ["joined", "a", "left", "b"])
        self.assertEqual(self.history(None, 9), ["a", "b"])
        self.assertEqual(self.history(self.records[0].id, 9), ["a", "b"])

    def test_any_text(self) -> None:
        """Texts come back as they were."""
        odd = ["", "\n", "'; drop table", "\x00\x1b", "\N{GRINNING FACE}\u202e", "a" * 4096]
        self.append(*map(say, odd))
        self.assertEqual(self.history(0, 9), odd)

    def test_history_has_no_origin(self) -> None:
        """What is kept does not keep its origin."""
        answers: list[Sequence[Record] | None] = []
        self.append(say("a", origin=object()))
        self.log.history(None, 1, "", answers.append)
        self.settle()
        [[record]] = [answer or () for answer in answers]
        self.assertIs(record.origin, None)

    def test_repeated_attempt(self) -> None:
        """What is attempted again is answered with its first place, and not said again."""
        first, second = Attempt("alice", b"1"), Attempt("alice", b"2")
        self.append(say("a", attempt=first), say("b", attempt=second))
        self.append(say("b", attempt=second, origin="again"), say("c"))
        self.assertEqual([r.text for r in self.records if not r.repeated], ["a", "b", "c"])
        [again] = [record for record in self.records if record.repeated]
        self.assertEqual((again.id, again.text, again.origin), (self.records[1].id, "b", "again"))
        self.assertEqual(self.history(None, 9), ["a", "b", "c"])

    def test_repeated_in_one_batch(self) -> None:
        """Two attempts may even be appended together."""
        attempt = Attempt("alice", b"1")
        self.append(say("a", attempt=attempt), say("a", attempt=attempt))
        self.assertEqual([r.repeated for r in self.records], [False, True])
        self.assertEqual(self.records[0].id, self.records[1].id)
        self.assertEqual(self.history(None, 9), ["a"])

    def test_the_same_mark_by_the_same_connection(self) -> None:
        """Nobody who still has the connection tries again: it is another message."""
        one, other = Attempt("alice", b"1", "one"), Attempt("alice", b"1", "other")
        self.append(say("a", attempt=one), say("a", attempt=one), say("a", attempt=other))
        self.append(say("a", attempt=one))
        self.append(say("a", attempt=other))
        self.assertEqual([r.repeated for r in self.records], [False, False, True, False, True])
        self.assertEqual(len(self.history(None, 9) or ()), 3)

    def test_an_attempt_long_ago(self) -> None:
        """It is known for its own time, whatever else is said meanwhile, and then is a new one."""
        half, repeated = ATTEMPT_SECONDS / 2, []
        for turn, seconds in enumerate((0, half - 60, half, 120, half, half + 60)):
            self.let_pass(seconds)
            self.append(say("good morning", attempt=Attempt("alice", b"1", f"connection {turn}")))
            repeated.append(self.records[-1].repeated)
            self.append(say("other", attempt=Attempt("alice", b"%d" % turn)))
        self.assertEqual(repeated, [False, True, True, False, True, False])

    def test_marks_of_different_people(self) -> None:
        """The same mark means another message if it is somebody else's."""
        self.append(say("a", attempt=Attempt("alice", b"1")))
        self.append(say("a", attempt=Attempt("bob", b"1")), say("a"))
        self.assertEqual([r.repeated for r in self.records], [False, False, False])
        self.assertEqual(self.history(None, 9), ["a", "a", "a"])

    def check_forgotten(self, said: Sequence[str], first: int, reader: str = "") -> list[Record]:
        """See that only the last of all that was `said` is left; answer what is.

        Who asks for what follows the place `first`, which is gone, finds a mark ahead of it; and
        who asks for what follows something that is left does not.
        """
        left = self.found(0, 10_000, reader)
        assert left is not None
        self.assertLess(len(left), len(said))
        self.assertEqual(texts(left), [*said[len(said) - len(left) :]])
        marked = self.found(first, 10_000, reader)
        assert marked is not None
        self.assertEqual([r.kind for r in marked[:1]], [Kind.GAP])
        self.assertEqual(marked[1:], left)
        self.assertGreater(marked[0].id, first)
        for number, record in enumerate(left[:3], 1):
            self.assertLess(marked[0].id, record.id)
            self.assertEqual(self.found(record.id, 10_000, reader), left[number:])
        self.assertEqual(self.found(None, 10_000, reader), left)
        return left

    def test_told_to_keep_less(self) -> None:
        """What is more than the operator wants is forgotten, the oldest first."""
        said = [f"{number} {'x' * 100}" for number in range(3000)]
        for keep in (Keep(count=700), Keep(size=300_000)):
            self.begin(keep)
            self.append(*map(say, said))
            self.forget()
            left = self.check_forgotten(said, self.records[0].id)
            self.assertGreaterEqual(len(left), keep.count or 1)

    def test_too_many_letters(self) -> None:
        """What a few may read has its mark, too, and it stands right behind what is gone."""
        said = [str(number) for number in range(900)]
        self.begin(Keep(count=200))
        self.append(*(say(text, "ann", "bob") for text in said))
        self.forget()
        for reader in ("ann", "bob"):
            left = self.check_forgotten(said, self.records[0].id, reader)
            gone = self.records[-len(left) - 1]
            self.assertEqual(self.found(gone.id, 1000, reader), left)

    def test_too_old(self) -> None:
        """What is too old is forgotten, be it for everybody, for a few, or some of each."""
        for said in ([()], [("ann", "bob")], [(), ("ann", "bob")]):
            self.passed = 0
            self.begin(Keep(age=60))
            self.append(*(say(str(number), *said[number % len(said)]) for number in range(150)))
            first, *_, last = self.records
            self.assertEqual(len(self.history(self.place(first), 1000, "ann") or ()), 149)
            self.let_pass(61)
            self.forget()
            self.assertEqual(self.check_forgotten(["old"], self.place(first), "ann"), [])
            self.append(*(say("new", *readers) for readers in said))
            self.forget()
            left = self.check_forgotten(["old"] + ["new"] * len(said), self.place(first), "ann")
            self.assertEqual(len(left), len(said))
            self.assertEqual(self.found(self.place(last), 1000, "ann"), left)

    def test_letters_grow_old(self) -> None:
        """Of the letters to somebody who is written to again and again, the old ones go."""
        self.begin(Keep(age=60))
        said = ["one", "two", "three", "four"]
        for text, seconds in zip(said, (10, 40, 30, 0), strict=True):
            self.append(say(text, "ann"))
            self.let_pass(seconds)
        self.forget()
        left = self.check_forgotten(said, self.place(self.records[0]), "ann")
        self.assertEqual(texts(left), ["three", "four"])

    def test_stop(self) -> None:
        """Once stopped, what was appended before is settled, and what comes later fails."""
        stopped: list[bool] = []
        self.log.append([say("before")])
        self.log.stop(lambda: stopped.append(True))
        self.settle_stop(stopped)
        self.assertEqual(texts(self.records), ["before"])
        self.append(say("after"))
        self.assertEqual(texts(self.records), ["before"])
        self.assertEqual([entry.text for entry in self.failed], ["after"])
        self.assertIn(self.history(None, 9), (None, ["before"]))


class FailingLogConformance(LogConformance):
    """And what those do that can fail. Their tests can break the log, and mend it."""

    def break_log(self) -> None:
        """From now on nothing can be kept."""
        raise NotImplementedError

    def mend_log(self) -> None:
        """From now on it can be."""
        raise NotImplementedError

    def test_it_recovers(self) -> None:
        """While nothing can be kept everybody hears so, once; afterwards all is as before."""
        self.append(say("before"))
        self.break_log()
        lost = [say("a", origin=object()), presence("joined"), say("letter", "ann"), say("b")]
        self.append(*lost[:3])
        self.append(lost[3])
        self.assertEqual(self.failed, lost)
        self.mend_log()
        self.append(say("after"))
        self.assertEqual((texts(self.records), self.failed), (["before", "after"], lost))
        self.assertGreater(self.records[1].id, self.records[0].id)
        self.assertEqual(self.history(0, 9, "ann"), ["before", "after"])
        self.assertEqual(self.history(self.records[0].id, 9, "ann"), ["after"])

    def test_what_failed_is_said_again(self) -> None:
        """It is no attempt that anybody would know; what was said before that still is."""
        said, lost = (Attempt("alice", mark, "one") for mark in (b"said", b"lost"))
        self.append(say("said", attempt=said))
        self.break_log()
        self.append(say("lost", attempt=lost))
        self.mend_log()
        again = [attempt._replace(via="other") for attempt in (said, lost)]
        self.append(say("said", attempt=again[0]), say("lost", attempt=again[1]))
        self.append(say("lost", attempt=again[1]._replace(via="another")))
        found = [(r.text, r.repeated) for r in self.records]
        self.assertCountEqual(
            found, [("said", False), ("said", True), ("lost", False), ("lost", True)]
        )
        self.assertEqual(self.history(0, 9), ["said", "lost"])

    def test_stop_while_it_fails(self) -> None:
        """What cannot be kept does not hold up the end."""
        self.break_log()
        stopped: list[bool] = []
        self.append(say("a"))
        self.log.stop(lambda: stopped.append(True))
        self.settle_stop(stopped)
        self.assertEqual([entry.text for entry in self.failed], ["a"])


class MemoryConformanceTests(LogConformance, SynchronousTestCase):
    """The log in memory is a log."""

    def make_log(self, keep: Keep = EVERYTHING) -> MessageLog:
        """Open it as the server does."""
        return open_log("memory:", now=self.now, keep=keep)


class DelayedConformanceTests(FailingLogConformance, SynchronousTestCase):
    """The log that other tests use is a log."""

    def make_log(self, keep: Keep = EVERYTHING) -> MessageLog:
        """Make one, and remember it to be settled."""
        self.delayed = DelayedLog(self.now, keep)
        return self.delayed

    def settle(self) -> None:
        """Let it catch up."""
        while self.delayed.appended and not self.delayed.reachable:
            self.delayed.fail()
        self.delayed.settle()

    def break_log(self) -> None:
        """Let it fail whatever comes."""
        self.delayed.reachable = False

    def mend_log(self) -> None:
        """Let it commit again."""
        self.delayed.reachable = True


class MemoryLogTests(SynchronousTestCase):
    """The log in memory forgets."""

    def make(self, max_records: int, max_bytes: int) -> MemoryLog:
        """Make a small one."""
        log = MemoryLog(lambda: NOON, max_records=max_records, max_bytes=max_bytes)
        log.subscribe(lambda records: None, lambda entries: None)
        return log

    def kept(self, log: MemoryLog) -> list[str] | None:
        """Return all that it keeps."""
        answers: list[Sequence[Record] | None] = []
        log.history(0, 1_000_000, "", answers.append)
        return texts(answers[0])

    def test_bounded_by_count(self) -> None:
        """The oldest message goes first."""
        log = self.make(3, 1 << 20)
        log.append([say(letter) for letter in "abcde"])
        self.assertEqual(self.kept(log), ["c", "d", "e"])

    def test_bounded_by_bytes(self) -> None:
        """A long message costs several old ones their place."""
        log = self.make(1000, 4000)
        log.append([say(letter) for letter in "abcdefgh"])
        self.assertEqual(self.kept(log), ["a", "b", "c", "d", "e", "f", "g", "h"])
        log.append([say("x" * 500)])
        self.assertEqual(self.kept(log), ["d", "e", "f", "g", "h", "x" * 500])

    def test_told_to_keep_less(self) -> None:
        """What the operator wants forgotten is, by number, by size and by age."""
        now = [NOON]
        for keep, kept in {
            Keep(count=2): ["d", "e"],
            Keep(size=10**6): ["a", "b", "c", "d", "e"],
            Keep(age=60): ["c", "d", "e"],
        }.items():
            now[0] = NOON
            log = open_log("memory:", now=lambda: now[0], keep=keep)
            assert isinstance(log, MemoryLog)
            log.subscribe(lambda records: None, lambda entries: None)
            log.append([say("a"), say("b")])
            now[0] += 1
            log.append([say("c"), say("d"), say("e")])
            now[0] += 60
            self.assertEqual(self.kept(log), kept, keep)

    def test_numbers_go_on(self) -> None:
        """Forgetting does not make a number come twice."""
        log = self.make(1, 4000)
        log.append([say("a"), say("b")])
        log.append([say("c")])
        answers: list[Sequence[Record] | None] = []
        log.history(2, 5, "", answers.append)
        self.assertEqual([record.id for record in answers[0] or ()], [3])

    def test_time(self) -> None:
        """The time is the clock's, in milliseconds."""
        heard: list[Record] = []
        log = MemoryLog(lambda: 12.3456)
        log.subscribe(heard.extend, lambda entries: None)
        log.append([say("a")])
        self.assertEqual(heard[0].at, 12345)

    def test_gap(self) -> None:
        """Who asks for what follows something forgotten is told that there is a gap."""
        log = self.make(2, 4000)
        log.append([say(letter) for letter in "abcde"])
        for after, kinds in {
            0: [Kind.MESSAGE, Kind.MESSAGE],
            2: [Kind.GAP, Kind.MESSAGE, Kind.MESSAGE],
            3: [Kind.MESSAGE, Kind.MESSAGE],
            5: [],
        }.items():
            answers: list[Sequence[Record] | None] = []
            log.history(after, 9, "", answers.append)
            self.assertEqual([record.kind for record in answers[0] or ()], kinds, after)

    def test_no_subscriber(self) -> None:
        """Appending to a log that nobody hears is a mistake of the caller's."""
        self.assertRaises(LocalError, MemoryLog(lambda: NOON).append, [say("a")])


class AttemptsTests(SynchronousTestCase):
    """What was said already is known for a while."""

    def test_of_one_person(self) -> None:
        """Each person's oldest attempt goes first."""
        attempts = Attempts(most=100, most_each=2)
        for number in range(3):
            attempts.add(Attempt("ann", bytes([number])), number + 1, 0)
        found = [attempts.find(Attempt("ann", bytes([number])), 0) for number in range(3)]
        self.assertEqual(found, [None, 2, 3])

    def test_of_all_people(self) -> None:
        """Whoever has been silent for the longest time is forgotten first."""
        attempts = Attempts(most=4, most_each=2)
        said = [("a", b"1"), ("b", b"1"), ("b", b"2"), ("a", b"2"), ("c", b"1")]
        for id, (who, mark) in enumerate(said, 1):
            attempts.add(Attempt(who, mark), id, 0)
        known = [attempts.find(Attempt(who, b"1"), 0) for who in "abc"]
        self.assertEqual(known, [1, None, 5])

    def test_the_same_again(self) -> None:
        """An attempt is counted once."""
        attempts = Attempts(most=2, most_each=2)
        for mark in (b"1", b"2", b"2", b"2"):
            attempts.add(Attempt("ann", mark), 7, 0)
        self.assertEqual(attempts.find(Attempt("ann", b"1"), 0), 7)

    def test_an_old_mark_said_anew(self) -> None:
        """It is the newest then, and the last to be forgotten."""
        attempts = Attempts(most_each=2)
        for id, mark in enumerate((b"1", b"2", b"1", b"3"), 1):
            attempts.add(Attempt("ann", mark, "one"), id, 0)
        found = [attempts.find(Attempt("ann", mark, "two"), 0) for mark in (b"1", b"2", b"3")]
        self.assertEqual(found, [3, None, 4])

    def test_long_ago(self) -> None:
        """What was said hours ago may be said again; a clock that was set back changes nothing."""
        attempts = Attempts()
        attempts.add(Attempt("ann", b"1"), 7, NOON_MS)
        for passed, found in {-1e6: 7, 0: 7, ATTEMPT_SECONDS: 7, ATTEMPT_SECONDS + 1: None}.items():
            at = NOON_MS + int(passed * 1000)
            self.assertEqual(attempts.find(Attempt("ann", b"1"), at), found, passed)

    def test_none(self) -> None:
        """An entry without an attempt is always new."""
        attempts = Attempts()
        attempts.add(None, 1, 0)
        self.assertIs(attempts.find(None, 0), None)


class KeepTests(SynchronousTestCase):
    """What is kept is said in words."""

    def test_limits(self) -> None:
        """Ages, numbers and sizes, in any order."""
        for text, keep in {
            "all": EVERYTHING,
            "90d": Keep(age=90 * 86400),
            "2h": Keep(age=7200),
            "1000": Keep(count=1000),
            "2GB": Keep(size=2 * 10**9),
            "1kb": Keep(size=10**6),
            "1w, 5000000 ,3tb": Keep(7 * 86400, 5_000_000, 3 * 10**12),
        }.items():
            self.assertEqual(parse_keep(text), keep, text)

    def test_nonsense(self) -> None:
        """What is no limit is named."""
        for text in ("", "0", "-1", "1x", "d", "1d,", "1.5GB", "١"):
            self.assertIn("is no limit", str(self.assertRaises(ValueError, parse_keep, text)), text)
        for text in ("1d,2d", "1,2", "1GB,1KB"):
            self.assertIn("two limits", str(self.assertRaises(ValueError, parse_keep, text)))


class OpenLogTests(SynchronousTestCase):
    """Logs are named by URLs."""

    def test_unknown(self) -> None:
        """A URL of no known kind is refused in words."""
        for url in ("", "memory", "memory:x", "sqlite", "http://example.org"):
            error = self.assertRaises(ValueError, open_log, url)
            self.assertIn(repr(url), str(error))
            for kind in ("memory:", "sqlite:", *SCHEMES):
                self.assertIn(f" {kind}", f" {error}", kind)

    def test_every_scheme(self) -> None:
        """All that a URL of a Redis may begin with is a log; where it is, is not asked yet."""
        for scheme in ("redis", "rediss", "redis+sentinel", "rediss+sentinel"):
            log = open_log(f"{scheme}://host/0")
            self.assertIsInstance(log, RedisLog, scheme)
