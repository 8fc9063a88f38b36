"""Who may be called what, and who is called what now."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.chat.codes import Code
from chatbox.chat.names import MAX_NAME_CHARACTERS, Claim, LocalNames, Name, parse_name
from chatbox.errors import RemoteError
from tests.helpers.chat import tokens

SMILE = "\N{GRINNING FACE}"


class ParseNameTests(SynchronousTestCase):
    """The nickname profile, and what we add to it."""

    def refuses(self, code: Code, *names: str) -> None:
        """Check that each name is refused with `code`."""
        for name in names:
            error = self.assertRaises(RemoteError, parse_name, name)
            self.assertEqual((error.code, name), (code.value, name))

    def test_shown_and_compared(self) -> None:
        """People see the case; comparing does not."""
        self.assertEqual(parse_name("Alice"), Name("Alice", "alice"))

    def test_allowed(self) -> None:
        """Names are nearly anything, the wire's own special characters too."""
        for name in (
            "a",
            "Éloïse",
            "Foo Bar",
            "<b>",
            "a\\",
            "שלום",
            SMILE,
            "山田",
            "o'neill",
            "a,b",
        ):
            self.assertEqual(parse_name(name).text, name)

    def test_look_alikes(self) -> None:
        """Names that compare equal under the profile are one name."""
        for first, *others in (
            ["alice", "ALICE", " alice ", "\uff41lice", "\u3000alice"],
            ["foo bar", "Foo  Bar", "foo\u00a0bar"],
            ["\u00e9loise", "e\u0301loise"],
            ["office", "o\ufb03ce"],
        ):
            for other in others:
                self.assertEqual(parse_name(first).key, parse_name(other).key)
        self.assertNotEqual(parse_name("alice").key, parse_name("alicia").key)

    def test_empty(self) -> None:
        """A name of nothing, or of spaces, is empty."""
        self.refuses(Code.NAME_EMPTY, "", " ", "\u00a0\u3000")

    def test_too_long(self) -> None:
        """Names are bounded in characters and in bytes, before and after the profile."""
        parse_name("a" * 32)
        parse_name(SMILE * 24)
        parse_name("山" * 32)
        self.refuses(
            Code.NAME_TOO_LONG,
            "a" * 33,
            SMILE * 25,
            "a" * 1_000_000,
            "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}" * 2,
        )

    def test_how_long(self) -> None:
        """The sentence of the refusal says it."""
        self.assertIn(f" {MAX_NAME_CHARACTERS} characters", Code.NAME_TOO_LONG.sentence)

    def test_invalid(self) -> None:
        """Control characters, invisible ones and half characters are in no name."""
        self.refuses(
            Code.NAME_INVALID,
            "a\x00",
            "a\nb",
            "\x1b[31m",
            "a\x7f",
            "a\u0085",
            "a\u200bb",
            "\u202egnp",
            "a\u200e",
            "a\u2028",
            "a\ufeff",
            "a\u00adb",
            "a\ud800",
            "\ue000",
        )

    def test_quoted(self) -> None:
        """A name cannot stand in quotes, for nobody could address it."""
        self.refuses(Code.NAME_INVALID, "'al'", '"al"', "''", "\uff07al\uff07")
        parse_name("'al")
        parse_name("'al\"")

    def test_reserved(self) -> None:
        """Nobody is everybody, and nobody is the server, however it is written."""
        self.refuses(
            Code.NAME_RESERVED,
            "all",
            "ALL",
            " all ",
            "\uff41\uff4c\uff4c",
            "server",
            "Server",
            "server:",
            "server:1.2.3.4",
            "SERVER\uff1ax",
        )
        parse_name("servers")
        parse_name("wall")

    def test_shown_alike_is_the_same(self) -> None:
        """What decides is the name as it is shown, whatever letters it was written with."""
        lunate, sigma = parse_name("\u03f9:"), parse_name("\u03a3:")
        self.assertEqual(lunate, sigma)

    def test_no_addresses(self) -> None:
        """Nobody has a name that means somebody else where an operator bans it."""
        self.refuses(
            Code.NAME_RESERVED,
            *(
                "192.0.2.7",
                "192.0.2.0/24",
                "\uff11\uff19\uff12.0.2.7",
                "::1",
                "f::",
                "2001:DB8::/32",
            ),
            *("2001:DB8::/32", "address:alice", "Address:x"),
        )
        for name in ("192.0.2", "192.0.2.7.", "192.0.2.7+x", "f:", "addresses", "1/2"):
            parse_name(name)

    @given(st.text(max_size=40))
    def test_any_text(self, raw: str) -> None:
        """Any text is a name or is refused; a name read again is the same name."""
        try:
            name = parse_name(raw)
        except RemoteError as error:
            self.assertIn(error.code, list(Code))
            return
        again = parse_name(name.text)
        self.assertEqual(again.key, name.key)
        self.assertEqual(again.text, name.text)


class LocalNamesTests(SynchronousTestCase):
    """Names of one process."""

    def setUp(self) -> None:
        """Begin with nobody."""
        self.names = LocalNames(tokens())

    def claim(self, name: str, token: str | None = None) -> Claim | Code:
        """Claim and return the answer."""
        answers: list[Claim | Code] = []
        self.names.claim(parse_name(name), token, answers.append)
        [answer] = answers
        return answer

    def held(self, name: str, token: str | None = None) -> Claim:
        """Claim with success."""
        answer = self.claim(name, token)
        assert isinstance(answer, Claim), answer
        return answer

    def test_free_name(self) -> None:
        """A free name is given with a new token."""
        first, second = self.held("alice"), self.held("bob")
        self.assertEqual((first.name.text, first.resumed), ("alice", False))
        self.assertNotEqual(first.token, second.token)

    def test_taken(self) -> None:
        """A held name is refused, also in another spelling and with a wrong token."""
        self.held("alice")
        self.assertEqual(self.claim("Alice"), Code.NAME_TAKEN)
        self.assertEqual(self.claim("alice", "x" * 22), Code.NAME_TAKEN)

    def test_resume(self) -> None:
        """The right token takes a held name over, as it was spelt."""
        first = self.held("Alice")
        second = self.held("alice", first.token)
        self.assertEqual((second.name.text, second.resumed), ("Alice", True))
        self.assertEqual((second.token, second.identity), (first.token, first.identity))

    def test_release(self) -> None:
        """A released name is free."""
        self.names.release(self.held("alice"))
        self.assertFalse(self.held("alice").resumed)

    def test_release_of_what_was_taken_over(self) -> None:
        """Whoever was replaced cannot make the name free."""
        first = self.held("alice")
        second = self.held("alice", first.token)
        self.names.release(first)
        self.assertEqual(self.claim("alice"), Code.NAME_TAKEN)
        self.names.release(second)
        self.names.release(second)
        self.held("alice")

    def test_identity_follows_the_token(self) -> None:
        """Who comes back with a token is the same person, under any name; others are not."""
        first = self.held("alice")
        self.names.release(first)
        self.assertEqual(self.held("alicia", first.token).identity, first.identity)
        self.assertNotEqual(self.held("alice").identity, first.identity)
        self.assertNotIn(first.token, first.identity)

    def test_bad_tokens(self) -> None:
        """A token too short to be secret, or of other characters, is no token."""
        for token in ("", "short", "x" * 21, "x" * 65, "ü" * 22, "x" * 21 + " ", "x" * 22 + "\n"):
            self.assertEqual(self.claim("alice", token), Code.BAD_TOKEN)
        self.held("alice", "x" * 22)
