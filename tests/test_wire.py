"""Lines and messages, lists, and what may be said."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox import shelf
from chatbox.chat import wire
from chatbox.chat.codes import Code, sentence
from chatbox.chat.wire import (
    MAX_NUMBER,
    MAX_REQUEST_BYTES,
    MAX_TEXT_BYTES,
    Message,
    check_text,
    format_line,
    format_list,
    parse_line,
    parse_list,
    parse_request,
)
from chatbox.errors import LocalError, RemoteError

texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers(0, MAX_NUMBER)
messages = st.builds(
    Message,
    **dict.fromkeys(("sender", "recipient", "request", "text", "error", "key"), st.none() | texts),
    response=st.none() | texts.filter(lambda text: text != "messagee_response"),
    **dict.fromkeys(("sequence", "time", "after", "before", "count"), st.none() | numbers),
    size=st.none() | numbers | st.lists(numbers).map(tuple),
    digest=st.none() | st.text("0123456789abcdef", min_size=64, max_size=64),
).filter(lambda message: message != Message())


def code_of(error: RemoteError) -> str:
    """Return the word of a refusal."""
    return str(error.code)


class ParseTests(SynchronousTestCase):
    """What a line means."""

    def refuses(self, code: Code, *lines: bytes) -> None:
        """Check that each line is refused with `code`, and in words."""
        for line in lines:
            error = self.assertRaises(RemoteError, parse_line, line)
            self.assertEqual((code_of(error), line), (code.value, line))
            self.assertTrue(error.detail)

    def test_message_request(self) -> None:
        """A line of the protocol's listing."""
        self.assertEqual(
            parse_line(b"<s:alice><r:all><t:message_request><m:hi><q:7>"),
            Message(
                sender="alice", recipient="all", request="message_request", text="hi", sequence=7
            ),
        )

    def test_every_field(self) -> None:
        """Each key has its attribute."""
        line = b"<s:a><r:b><t:c><m:d><e:f><p:g><q:1><k:h><d:2><z:3>"
        line += b"<h:%s><a:4><b:6><n:5>" % (b"0a" * 32)
        expected = Message("a", "b", "c", "d", "f", "g", 1, "h", 2, 3, "0a" * 32, 4, 6, 5)
        self.assertEqual(parse_line(line), expected)
        self.assertEqual(format_line(expected), line + b"\r\n")

    def test_line_ends(self) -> None:
        """CRLF, LF and nothing are the same."""
        for end in (b"\r\n", b"\n", b"\r", b""):
            self.assertEqual(parse_line(b"<m:x>" + end), Message(text="x"))

    def test_any_order_and_unknown_keys(self) -> None:
        """Fields come in any order, and keys that nobody knows are skipped, twice too."""
        self.assertEqual(parse_line(b"<y:1><m:x><y:2><s:a><x:\\<>"), Message(sender="a", text="x"))

    def test_escapes(self) -> None:
        r"""\< \> \\ \n \r stand for what they look like."""
        self.assertEqual(parse_line(rb"<m:\<\>\\\n\r\\n>").text, "<>\\\n\r\\n")

    def test_empty_value(self) -> None:
        """A field may be empty, which is not the same as missing."""
        self.assertEqual(parse_line(b"<m:>"), Message(text=""))

    def test_bad_lines(self) -> None:
        """What is not a run of fields is refused, wherever it goes wrong."""
        self.refuses(
            Code.BAD_LINE,
            b"",
            b"\r\n",
            b"hello",
            b"<m:x",
            b"m:x>",
            b"<m:x>>",
            b"<<m:x>",
            b"<m:a<b>",
            b"<m:a>b>",
            b"<m:x> <s:a>",
            b" <m:x>",
            b"<m:x>junk",
            b"<mm:x>",
            b"<M:x>",
            b"<1:x>",
            b"<:x>",
            b"<m>",
            b"<m:\\>",
            b"<m:\\x>",
            b"<m:a\\",
            b"<m:a\rb>",
            b"<m:a\nb>",
            "<\N{LATIN SMALL LETTER LONG S}:x>".encode(),
        )

    def test_where(self) -> None:
        """The refusal says where the line went wrong."""
        error = self.assertRaises(RemoteError, parse_line, b"<m:x><s:a")
        self.assertIn("6", error.detail)

    def test_duplicates(self) -> None:
        """A key that means something comes once."""
        self.refuses(Code.DUPLICATE_FIELD, b"<m:x><m:x>", b"<s:a><m:x><s:b>")

    def test_not_utf8(self) -> None:
        """Bytes that are not UTF-8 are refused, overlong forms and surrogates too."""
        self.refuses(Code.NOT_UTF8, b"<m:\xff>", b"\x80", b"<m:\xc0\xbc>", b"<m:\xed\xa0\x80>")

    def test_numbers(self) -> None:
        """Numbers are decimal, not negative, and fit into 63 bits."""
        self.assertEqual(parse_line(b"<q:0>").sequence, 0)
        self.assertEqual(parse_line(b"<q:007>").sequence, 7)
        self.assertEqual(parse_line(b"<q:9223372036854775807>").sequence, MAX_NUMBER)
        for value in (
            b"",
            b"-1",
            b"+1",
            b" 1",
            b"1 ",
            b"1_0",
            b"0x1",
            b"1e3",
            b"1.0",
            b"9223372036854775808",
            b"9" * 5000,
            "\N{ARABIC-INDIC DIGIT ONE}".encode(),
            "\N{SUPERSCRIPT TWO}".encode(),
        ):
            self.refuses(
                Code.BAD_FIELD, *(b"<%s:%s>" % (key, value) for key in b"q d z a n".split())
            )

    def test_sizes(self) -> None:
        """A size is a number, or a list of them."""
        self.assertEqual(parse_line(b"<z:5>").size, 5)
        self.assertEqual(parse_line(b"<z:[]>").size, ())
        self.assertEqual(parse_line(b"<z:[1]>").size, (1,))
        self.assertEqual(parse_line(b"<z:[1,2, 3]>").size, (1, 2, 3))
        self.refuses(
            Code.BAD_FIELD,
            *(
                b"<z:[%s]>" % value
                for value in (b",", b"1,", b"a", b"-1", b"[1]", b"1 2", b"9" * 19)
            ),
            b"<z:[1>",
        )

    def test_digest(self) -> None:
        """A digest is 64 lower-case hexadecimal digits."""
        self.refuses(Code.BAD_FIELD, b"<h:>", b"<h:%s>" % (b"A" * 64), b"<h:%s>" % (b"a" * 63))

    def test_response_spelling(self) -> None:
        """The listing's other spelling of one response is understood."""
        self.assertEqual(parse_line(b"<p:messagee_response>").response, "message_response")

    def test_quotes(self) -> None:
        """A server takes quotes around s, r and t for notation; nobody takes others so."""
        message = Message(sender="al", recipient="server:::1", request="connect", text="'hi'")
        for quote in (b"'", b'"'):
            line = b"<s:qalq><r:qserver:::1q><t:qconnectq><m:'hi'>".replace(b"q", quote)
            self.assertEqual(parse_request(line), message)
            self.assertEqual(parse_line(line).sender, f"{quote.decode()}al{quote.decode()}")
        for odd in (b"'al", b"al'", b"'al\"", b"'", b"a'l"):
            self.assertEqual(parse_request(b"<s:%s>" % odd).sender, odd.decode())
        self.assertEqual(parse_request(b"<s:''>").sender, "")

    def test_hostile_lines(self) -> None:
        """A megabyte of false starts is given up at once; to try each would take hours."""
        self.refuses(Code.BAD_LINE, b"<m:" + b"\\<a:" * 250_000, b"<m:" + b"\\\\" * 500_000)

    @given(st.binary())
    @example(b"<m:" + b"\\<a:" * 2000)
    def test_any_bytes(self, line: bytes) -> None:
        """Any bytes parse or raise RemoteError with a code of the table, nothing else."""
        for parse in (parse_line, parse_request):
            try:
                parse(line)
            except RemoteError as error:
                self.assertIn(error.code, list(Code))

    @given(st.lists(st.sampled_from(["<", ">", ":", "\\", "m", "s", "q", "z", "1", "[", "'", "é"])))
    def test_any_nearly_right_line(self, pieces: list[str]) -> None:
        """The same of lines that look like ours."""
        self.test_any_bytes.hypothesis.inner_test(self, "".join(pieces).encode())  # type: ignore[attr-defined]  # hypothesis puts the plain function there


class FormatTests(SynchronousTestCase):
    """How messages are written."""

    def test_order(self) -> None:
        """Fields are written in one order, whatever message it is."""
        self.assertEqual(
            format_line(Message(response="presence", text="joined", recipient="all", sender="bob")),
            b"<s:bob><r:all><m:joined><p:presence>\r\n",
        )

    def test_escapes(self) -> None:
        """What would end a field or a line is escaped, and nothing else."""
        self.assertEqual(
            format_line(Message(text="<>\\\n\r\t'é")), "<m:\\<\\>\\\\\\n\\r\t'é>\r\n".encode()
        )

    def test_our_own_mistakes(self) -> None:
        """What no line can hold is our caller's mistake."""
        for message in (
            Message(text="\ud800"),
            Message(sequence=-1),
            Message(count=MAX_NUMBER + 1),
            Message(size=(1, -1)),
        ):
            self.assertRaises(LocalError, format_line, message)

    @given(messages)
    def test_round_trip(self, message: Message) -> None:
        """What is written reads as what it was, in one line."""
        line = format_line(message)
        self.assertEqual(parse_line(line), message)
        self.assertEqual(line.count(b"\n"), 1)
        self.assertEqual(line.count(b"\r"), 1)

    @given(messages)
    def test_missing_fields(self, message: Message) -> None:
        """A field is on the line exactly if it is not None."""
        written = sum(value is not None for value in message)
        line = format_line(message)
        self.assertEqual(line.replace(b"\\<", b"").count(b"<"), written)

    def test_keys_and_fields(self) -> None:
        """Each key has its field, in the order in which they are written."""
        self.assertEqual(tuple(wire._ATTRIBUTES.values()), Message._fields)

    def test_longest_request(self) -> None:
        """The longest text fits into the longest line, whatever it is made of."""
        for text in ("<" * MAX_TEXT_BYTES, "\U0001f600" * (MAX_TEXT_BYTES // 4)):
            check_text(text)
            line = format_line(
                Message(
                    "\U0001f600" * 24,
                    "\U0001f600" * 24,
                    "message_request",
                    text,
                    sequence=MAX_NUMBER,
                )
            )
            self.assertLess(len(line), MAX_REQUEST_BYTES)


class ListTests(SynchronousTestCase):
    """Lists of names."""

    def test_examples(self) -> None:
        """They look like Python's."""
        self.assertEqual(format_list([]), "[]")
        self.assertEqual(format_list(["alice", "bob"]), "['alice','bob']")
        self.assertEqual(format_list(["o'neill", "a\\b"]), r"['o\'neill','a\\b']")

    def test_liberal_reading(self) -> None:
        """Double quotes and a space after a comma are understood."""
        self.assertEqual(parse_list("""['a', "it's",'']"""), ["a", "it's", ""])

    def test_refusals(self) -> None:
        """What is not a list of quoted items is refused; nothing is evaluated."""
        for text in (
            "",
            "[",
            "]",
            "'a'",
            "[a]",
            "[1]",
            "['a',]",
            "['a', ]",
            "[,'a']",
            "['a''b']",
            "['a' 'b']",
            "['a',,'b']",
            "['a'",
            "['a]",
            "['a\\']",
            "['a\\n']",
            "[['a']]",
            "['a']x",
            "['a', \"b']",
            "[__import__('os')]",
        ):
            error = self.assertRaises(RemoteError, parse_list, text)
            self.assertEqual((text, code_of(error)), (text, "bad-field"))

    @given(st.lists(texts))
    def test_round_trip(self, items: list[str]) -> None:
        """What is written reads as what it was."""
        self.assertEqual(parse_list(format_list(items)), items)

    @given(st.lists(st.text("ab'\"\\, [].")))
    def test_python_agrees(self, items: list[str]) -> None:
        """Python reads our lists, and we read Python's."""
        self.assertEqual(ast.literal_eval(format_list(items)), items)
        self.assertEqual(parse_list(repr(items)), items)

    @given(st.text("ab'\"\\, []"))
    def test_any_text(self, text: str) -> None:
        """Any text is a list or is refused."""
        try:
            items = parse_list(text)
        except RemoteError:
            return
        self.assertEqual(parse_list(format_list(items)), items)


class CheckTextTests(SynchronousTestCase):
    """What may be said."""

    def refused(self, text: str) -> str | None:
        """Return the code of the refusal, or None."""
        try:
            check_text(text)
        except RemoteError as error:
            return code_of(error)
        return None

    def test_allowed(self) -> None:
        """Whatever people write is said as it is."""
        for text in (
            "hi",
            " ",
            "<b>\\</b>",
            "two\nlines\r\n\tand a tab",
            "\N{FAMILY}\N{ZERO WIDTH JOINER}\N{GRINNING FACE}",
            "\N{HEBREW LETTER ALEF}\N{RIGHT-TO-LEFT MARK}",
            "\u202eoverride",
            "é" * 2048,
        ):
            self.assertEqual((text, self.refused(text)), (text, None))

    def test_empty(self) -> None:
        """Nothing is not a message."""
        self.assertEqual(self.refused(""), "text-empty")

    def test_length(self) -> None:
        """The bound counts bytes."""
        self.assertEqual(self.refused("a" * MAX_TEXT_BYTES), None)
        self.assertEqual(self.refused("a" * (MAX_TEXT_BYTES + 1)), "text-too-long")
        self.assertEqual(self.refused("é" * (MAX_TEXT_BYTES // 2)), None)
        self.assertEqual(self.refused("é" * (MAX_TEXT_BYTES // 2) + "a"), "text-too-long")

    def test_controls(self) -> None:
        """Control characters are refused but for tab, newline and carriage return."""
        controls = {chr(n) for n in (*range(0x20), *range(0x7F, 0xA0))}
        refused = {c for c in controls if self.refused(f"a{c}b") == "control-character"}
        self.assertEqual(controls - refused, {"\t", "\n", "\r"})


class CodeTests(SynchronousTestCase):
    """The table of codes."""

    def test_words(self) -> None:
        """Codes are short words with hyphens; each has its own."""
        words = [code.value for code in Code]
        self.assertEqual(len(set(words)), len(Code))
        for word in words:
            self.assertRegex(word, r"\A[a-z0-9]+(-[a-z0-9]+)*\Z")
        self.assertEqual(f"{Code.BAD_LINE} {Code.BAD_LINE!s}", "bad-line bad-line")

    def test_sentences(self) -> None:
        """Sentences are for people, one for each code."""
        sentences = [sentence(code) for code in Code]
        self.assertEqual(len(set(sentences)), len(Code))
        for text in sentences:
            self.assertRegex(text, r"\A[A-Z].*\.\Z")

    def test_shelf(self) -> None:
        """What the shelf and the transfers refuse with is in the table too."""
        said = re.findall(r'RemoteError\(\s*"([a-z-]+)"', Path(shelf.__file__).read_text())
        self.assertGreaterEqual(set(said), {"no-such-file", "bad-file-name", "file-unreadable"})
        self.assertGreaterEqual(set(Code), {*said, "too-many-downloads", "unavailable"})

    def test_strangers(self) -> None:
        """A code that we do not know is named."""
        self.assertIn("out-of-tea", sentence("out-of-tea"))
