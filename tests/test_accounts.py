"""Accounts: passwords at the gate, tokens to come back with, and guessing that gets nowhere."""

from __future__ import annotations

import os
import random
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from chatbox.addresses import network_of
from chatbox.chat import accounts
from chatbox.chat.accounts import (
    ADDRESS_BURST,
    ADDRESS_SECONDS,
    MAX_CHECKING,
    MAX_WAITING,
    NAME_BURST,
    NAME_SECONDS,
    TOKEN_SECONDS,
    AccountGate,
    Seals,
    account_of,
)
from chatbox.chat.codes import Code
from chatbox.chat.gate import Admission, OpenGate, Origin, Refusal, Visitor
from chatbox.chat.names import Name, is_token, parse_name
from chatbox.chat.throttle import Throttle
from chatbox.errors import LocalError
from tests.helpers.chat import NOON

TLS = Origin("192.0.2.1", encrypted=True)


class ThrottleTests(SynchronousTestCase):
    """Buckets that fill in virtual time."""

    def test_burst_then_one_at_a_time(self) -> None:
        """So many are free, then one an interval, and a rest brings them all back."""
        throttle = Throttle(3, 10.0)
        for _ in range(3):
            self.assertEqual(throttle.wait("a", 0.0), 0.0)
            throttle.take("a", 0.0)
        self.assertEqual(throttle.wait("a", 0.0), 10.0)
        self.assertEqual(throttle.wait("a", 4.0), 6.0)
        self.assertEqual(throttle.wait("b", 4.0), 0.0)
        throttle.take("a", 10.0)
        self.assertEqual(throttle.wait("a", 10.0), 10.0)
        self.assertEqual(throttle.wait("a", 40.0), 0.0)
        for _ in range(3):
            throttle.take("a", 40.0)
        self.assertGreater(throttle.wait("a", 40.0), 0.0)

    def test_given_back(self) -> None:
        """What was given back was never taken."""
        throttle = Throttle(1, 10.0)
        throttle.take("a", 0.0)
        throttle.give_back("a", 0.0)
        throttle.give_back("a", 0.0)
        throttle.give_back("stranger", 0.0)
        self.assertEqual(throttle.wait("a", 0.0), 0.0)

    def test_table_is_bounded(self) -> None:
        """Full buckets are forgotten, and however many keys there are, the table stays small."""
        throttle = Throttle(2, 10.0, most=5)
        for number in range(100):
            throttle.take(number, 0.0)
        self.assertEqual(len(throttle), 5)
        throttle.take("late", 1000.0)
        self.assertEqual(len(throttle), 1)

    def test_clock_set_back(self) -> None:
        """Nobody waits longer for it than whoever has used up everything."""
        throttle = Throttle(2, 10.0)
        for _ in range(2):
            throttle.take("a", 1e9)
        self.assertEqual(throttle.wait("a", 0.0), 10.0)

    def test_rate_in_the_long_run(self) -> None:
        """Who tries at all times gets through at the rate of the bucket, no faster."""
        seed = 5
        rng = random.Random(seed)
        throttle, now, passed = Throttle(10, 60.0), 0.0, 0
        while now < 86_400:
            now += rng.expovariate(1.0)
            if not throttle.wait("victim", now):
                throttle.take("victim", now)
                passed += 1
        self.assertLessEqual(passed, 10 + 86_400 // 60, f"seed {seed}")
        self.assertGreater(passed, 0.95 * 86_400 / 60, f"seed {seed}")


class SealTests(SynchronousTestCase):
    """Tokens that only one server makes."""

    def setUp(self) -> None:
        self.seals = Seals(b"s" * 32)

    def test_good_for_a_day(self) -> None:
        """A token to come back with works until its time is over."""
        token = self.seals.resume("alice", NOON)
        self.assertTrue(is_token(token))
        self.assertTrue(self.seals.opens(token, "alice", NOON + TOKEN_SECONDS - 1))
        self.assertFalse(self.seals.opens(token, "alice", NOON + TOKEN_SECONDS))

    def test_for_one_account_of_one_server(self) -> None:
        """Another account or another secret makes it worthless."""
        token = self.seals.resume("alice", NOON)
        self.assertFalse(self.seals.opens(token, "bob", NOON))
        self.assertFalse(Seals(b"t" * 32).opens(token, "alice", NOON))

    def test_no_change_passes(self) -> None:
        """Changing any letter, also of the time, makes it worthless; so does any nonsense."""
        token = self.seals.resume("alice", NOON)
        for at in range(len(token)):
            changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
            self.assertFalse(self.seals.opens(changed, "alice", NOON), at)
        for text in ("", "=", "a" * 22, "\u0660" * 32, token + "AAAA", token[:-4], token + "="):
            self.assertFalse(self.seals.opens(text, "alice", NOON), text)

    def test_token_inside_is_another(self) -> None:
        """What claims a name inside is well formed, stays the same, and opens nothing."""
        inside = self.seals.token("alice")
        self.assertTrue(is_token(inside))
        self.assertEqual(inside, Seals(b"s" * 32).token("alice"))
        self.assertNotEqual(inside, self.seals.token("bob"))
        self.assertFalse(self.seals.opens(inside, "alice", NOON))


class OriginTests(SynchronousTestCase):
    """Where people come from."""

    def test_local(self) -> None:
        """This machine, in all the ways to write it."""
        for host in ("", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
            self.assertTrue(Origin(host).is_local, host)
        for host in ("192.0.2.1", "::", "0.0.0.0", "::ffff:192.0.2.1", "nonsense", "fe80::1%lo"):
            self.assertFalse(Origin(host).is_local, host)

    def test_networks(self) -> None:
        """An address of IPv4 is one; one of IPv6 stands for its network."""
        for host, network in {
            "192.0.2.1": "192.0.2.1",
            "::ffff:192.0.2.1": "192.0.2.1",
            "2001:db8::1": "2001:db8::/64",
            "2001:db8:0:0:ffff::": "2001:db8::/64",
            "fe80::1%eth0": "fe80::/64",
            "": "",
        }.items():
            self.assertEqual(network_of(host), network)


class GateTestCase(SynchronousTestCase):
    """A gate whose checks the test answers."""

    def setUp(self) -> None:
        self.now = NOON
        self.folder = os.path.abspath(self.mktemp())
        self.checks: list[tuple[str, str, Callable[[bool | None], None]]] = []
        self.gate = self.make_gate()
        self.answers: list[Admission | Refusal] = []

    def make_gate(self, **options: bool) -> AccountGate:
        """A gate that has started."""
        gate = AccountGate(
            lambda *check: self.checks.append(check), self.folder, lambda: self.now, **options
        )
        gate.start()
        return gate

    def come(
        self,
        name: str = "alice",
        password: str | None = "right",
        *,
        key: str | None = None,
        origin: Origin = TLS,
    ) -> None:
        """Ask to be let in."""
        visitor = Visitor(parse_name(name), key, password, origin)
        self.gate.admit(visitor, self.answers.append)

    def check(self) -> int:
        """Check all passwords, of which one is right, and return how many there were."""
        count = 0
        while self.checks:
            _, password, answer = self.checks.pop(0)
            answer(password == "right")
            count += 1
        return count

    def outcome(self) -> Admission | Refusal:
        """The one answer that came since this was last called."""
        self.check()
        [answer] = self.answers
        self.answers.clear()
        return answer

    def refusal(self) -> Code:
        """Why somebody was refused."""
        outcome = self.outcome()
        assert isinstance(outcome, Refusal)
        return outcome.code

    def key(self) -> str:
        """What somebody was given to come back with."""
        outcome = self.outcome()
        assert isinstance(outcome, Admission) and outcome.key is not None
        return outcome.key


class GateTests(GateTestCase):
    """Who is let in."""

    def test_open(self) -> None:
        """Without accounts everybody is, with the token that they show; passwords are ignored."""
        visitor = Visitor(Name("a", "a"), "token", "x", Origin("192.0.2.1"))
        OpenGate().admit(visitor, self.answers.append)
        self.assertEqual(self.outcome(), Admission("token"))

    def test_password(self) -> None:
        """The right one lets in, a wrong one or none does not; nobody learns which names exist."""
        self.come()
        self.assertTrue(self.key())
        self.come(password="wrong")
        self.assertEqual(self.refusal(), Code.WRONG_PASSWORD)
        self.come(password=None)
        self.assertEqual(self.refusal(), Code.PASSWORD_NEEDED)
        self.come(password="")
        self.assertEqual(self.refusal(), Code.WRONG_PASSWORD)

    def test_one_identity(self) -> None:
        """However people log in, one token claims their names, and they never see it."""
        seen = []
        for name in ("alice", "ALICE", "alice+phone", "alice+a+b"):
            self.come(name)
            outcome = self.outcome()
            assert isinstance(outcome, Admission)
            seen.append(outcome)
        self.assertEqual(len({one.token for one in seen}), 1)
        self.assertNotIn(seen[0].token, [one.key for one in seen])

    def test_accounts_name_is_asked_for(self) -> None:
        """The checker hears the account as it was written, without what follows the plus."""
        self.come("Alice+phone")
        self.assertEqual(self.checks[0][:2], ("Alice", "right"))
        self.assertEqual(account_of(parse_name("Bob")), parse_name("bob").__class__("Bob", "bob"))
        for name in ("+x", "all+x"):
            self.assertEqual(account_of(parse_name(name)), parse_name(name))

    def test_coming_back(self) -> None:
        """The key is enough for a day, after a restart too; then the password is needed again."""
        self.come()
        key = self.key()
        self.gate = self.make_gate()
        self.come("alice+phone", None, key=key)
        self.assertEqual(self.key(), key)
        self.come("bob", None, key=key)
        self.assertEqual(self.refusal(), Code.PASSWORD_NEEDED)
        self.now += TOKEN_SECONDS
        self.come(password=None, key=key)
        self.assertEqual(self.refusal(), Code.PASSWORD_NEEDED)
        self.come(key=key)
        self.assertNotEqual(self.key(), key)

    def test_no_password_check_for_who_has_a_key(self) -> None:
        """Ten thousand come back at once without one hash."""
        self.come()
        key = self.key()
        for _ in range(10_000):
            self.come(password="wrong", key=key)
        self.assertEqual(self.checks, [])
        self.assertEqual({type(answer) for answer in self.answers}, {Admission})

    def test_only_where_nobody_listens(self) -> None:
        """Without TLS it takes this machine, or the operator's word; a key does not help."""
        self.come()
        key = self.key()
        far, here = Origin("192.0.2.1"), Origin("127.0.0.1")
        for password in ("right", None):
            self.come(password=password, key=key, origin=far)
            self.assertEqual(self.refusal(), Code.TLS_NEEDED)
        self.come(origin=here)
        self.assertTrue(self.key())
        self.come(origin=Origin(""))
        self.assertTrue(self.key())
        self.gate = self.make_gate(allow_plain=True)
        self.come(origin=far)
        self.assertTrue(self.key())

    def test_checker_out_of_order(self) -> None:
        """That nothing could be checked is nobody's wrong guess."""
        for _ in range(2 * ADDRESS_BURST):
            self.come()
            self.checks.pop()[2](None)
            self.assertEqual(self.refusal(), Code.ACCOUNTS_UNAVAILABLE)

    def test_secret(self) -> None:
        """Its file is for the owner alone, and a damaged one is not replaced behind their back."""
        path = Path(self.folder, "accounts.secret")
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        path.write_text("nonsense")
        self.assertRaises(LocalError, self.make_gate)
        self.assertEqual(path.read_text(), "nonsense")

    def test_not_before_the_start(self) -> None:
        """A gate without its secret lets nobody in."""
        gate = AccountGate(lambda *_: None, self.folder, lambda: self.now)
        visitor = Visitor(parse_name("alice"), None, "right", TLS)
        self.assertRaises(LocalError, gate.admit, visitor, self.answers.append)


class GuessingTests(GateTestCase):
    """What somebody gets who guesses, in virtual time."""

    def guess(self, name: str, host: str, password: str = "wrong") -> Code | None:
        """Guess once, and wait for the answer; None if it was right."""
        self.come(name, password, origin=Origin(host, encrypted=True))
        outcome = self.outcome()
        return outcome.code if isinstance(outcome, Refusal) else None

    def test_one_address(self) -> None:
        """It may be wrong so often, whatever the names, and is then told when to try again."""
        for number in range(ADDRESS_BURST):
            self.assertEqual(self.guess(f"name{number}", "192.0.2.9"), Code.WRONG_PASSWORD)
        self.come("other", "wrong", origin=Origin("192.0.2.9", encrypted=True))
        self.assertEqual(self.answers, [Refusal(Code.TRY_LATER, ADDRESS_SECONDS)])
        self.assertEqual(self.checks, [], "it is not even checked")
        self.answers.clear()
        self.assertEqual(self.guess("other", "192.0.2.8"), Code.WRONG_PASSWORD)
        self.now += ADDRESS_SECONDS
        self.assertEqual(self.guess("other", "192.0.2.9"), Code.WRONG_PASSWORD)
        self.assertEqual(self.guess("other", "192.0.2.9"), Code.TRY_LATER)

    def test_a_network_of_ipv6_is_one_address(self) -> None:
        """Who has 2^64 addresses gets no more guesses."""
        for number in range(ADDRESS_BURST):
            self.assertEqual(
                self.guess(f"name{number}", f"2001:db8::{number:x}"), Code.WRONG_PASSWORD
            )
        self.assertEqual(self.guess("x", "2001:db8::ffff:1"), Code.TRY_LATER)
        self.assertEqual(self.guess("x", "2001:db8:0:1::1"), Code.WRONG_PASSWORD)

    def test_one_name(self) -> None:
        """From however many addresses, a name is guessed at so fast only, in all its forms."""
        for number in range(NAME_BURST):
            name = ("alice", "ALICE", "alice+x")[number % 3]
            self.assertEqual(self.guess(name, f"192.0.2.{number}"), Code.WRONG_PASSWORD)
        self.assertEqual(self.guess("alice", "192.0.2.200"), Code.TRY_LATER)
        self.assertEqual(self.guess("alice", "192.0.2.200", "right"), Code.TRY_LATER)
        self.now += NAME_SECONDS
        self.assertIsNone(self.guess("alice", "192.0.2.200", "right"))

    def test_nobody_is_locked_out_by_others(self) -> None:
        """Who has been let in from an address before is let in there, whatever others guess."""
        self.assertIsNone(self.guess("alice", "192.0.2.1", "right"))
        for number in range(2 * NAME_BURST):
            self.guess("alice", f"198.51.100.{number}")
        self.assertIsNone(self.guess("alice", "192.0.2.1", "right"))

    def test_right_passwords_cost_nothing(self) -> None:
        """A large office behind one address logs in at once."""
        for number in range(10 * ADDRESS_BURST):
            self.assertIsNone(self.guess(f"name{number}", "192.0.2.1", "right"))

    def test_at_once_is_no_way_round(self) -> None:
        """Guesses are paid for in advance, so a thousand at once are as few as in a row."""
        for number in range(1000):
            self.come(f"name{number}", "wrong", origin=TLS)
        self.assertEqual(self.check(), ADDRESS_BURST)
        codes = Counter(answer.code for answer in self.answers if isinstance(answer, Refusal))
        expected = {Code.WRONG_PASSWORD: ADDRESS_BURST, Code.TRY_LATER: 1000 - ADDRESS_BURST}
        self.assertEqual(codes, expected)

    def test_few_at_a_time(self) -> None:
        """So many are checked at a time, so many wait, and the rest are told to come again."""
        for number in range(1000):
            self.come(f"name{number}", origin=Origin(f"10.0.{number >> 8}.{number & 255}", True))
        self.assertEqual(len(self.checks), MAX_CHECKING)
        self.assertEqual(self.answers, [Refusal(Code.BUSY)] * (1000 - MAX_CHECKING - MAX_WAITING))
        self.answers.clear()
        self.assertEqual(self.check(), MAX_CHECKING + MAX_WAITING)
        self.assertEqual({type(answer) for answer in self.answers}, {Admission})

    def test_a_day_of_guessing(self) -> None:
        """What a thousand addresses get done in a day against one account."""
        checked, self.now = 0, NOON
        for second in range(0, 86_400, 10):
            self.now = NOON + second
            self.come("alice", "wrong", origin=Origin(f"10.1.{second % 4}.{second % 251}", True))
            checked += self.check()
        self.assertLessEqual(checked, NAME_BURST + 86_400 // NAME_SECONDS)
        self.assertGreater(checked, 1400)

    def test_tables_are_bounded(self) -> None:
        """Who has been let in where is forgotten some day."""
        self.patch(accounts, "MAX_BUCKETS", 3)
        for number in range(10):
            self.assertIsNone(self.guess("alice", f"192.0.2.{number}", "right"))
        self.assertEqual(len(self.gate._welcome), 3)
