"""Tests of chatbox.text and chatbox.errors."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.width import fitted
from chatbox.errors import ChatboxError, LocalError, RemoteError
from chatbox.text import REPLACEMENT, is_printable, printable

EVERYTHING = st.text(st.characters(), max_size=50)  # lone surrogates and all


class PrintableTests(SynchronousTestCase):
    """What a terminal might obey is replaced; everything else stays."""

    def test_control_characters_are_replaced(self) -> None:
        """C0, DEL and C1 controls do not reach the terminal, one mark for each."""
        controls = [chr(n) for n in (*range(0x20), *range(0x7F, 0xA0))]
        self.assertEqual(printable("".join(controls)), REPLACEMENT * len(controls))

    def test_separators_and_bidi_controls_are_replaced(self) -> None:
        """Line separators, embeddings, overrides, isolates and lone surrogates do not either."""
        unsafe = "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ud800\udfff"
        self.assertEqual(printable(unsafe), REPLACEMENT * len(unsafe))

    def test_writing_stays(self) -> None:
        """Letters of any script, emoji with joiners, and right-to-left marks are text."""
        for text in ("grüße", "日本語", "שלום\u200f!", "👩\u200d🚀", "\u0301e", "a b", ""):
            self.assertEqual(printable(text), text)
            self.assertTrue(is_printable(text))

    def test_newlines_stay_only_if_asked(self) -> None:
        """A newline is a control character unless the text may span lines."""
        self.assertEqual(printable("a\nb\rc"), f"a{REPLACEMENT}b{REPLACEMENT}c")
        self.assertEqual(printable("a\nb\rc", keep_newlines=True), f"a\nb{REPLACEMENT}c")
        self.assertEqual(printable("a\n\tb\tc", keep_newlines=True), "a\n b c")
        self.assertEqual(printable("a\tb"), f"a{REPLACEMENT}b")

    @given(EVERYTHING)
    def test_result_is_printable(self, text: str) -> None:
        """Whatever comes in, what comes out has no controls, its length, and a form in UTF-8."""
        shown = printable(text)
        self.assertEqual(len(shown), len(text))
        self.assertTrue(is_printable(shown))
        self.assertNotIn("Cc", {unicodedata.category(character) for character in shown})
        shown.encode("utf-8")
        self.assertEqual(shown == text, is_printable(text))


class FittedTests(SynchronousTestCase):
    """Lines for a terminal."""

    def test_breaks_between_words(self) -> None:
        """Where a line goes on it hangs; what is one word, or begins with a blank, stays whole."""
        block, long = "    aaaa bbbb cccc dddd eeee ffff", "x" * 30
        text = f"the first line has many words\n{block}\n{long} end"
        broken = f"the first line has\n  many words\n{block}\n{long}\n  end"
        self.assertEqual(fitted(text, 20, 2), broken)
        self.assertEqual(fitted(text, 80, 2), text)

    def test_counts_columns(self) -> None:
        """What is wide takes two of them, and marks on a letter none."""
        for word in ("\u5927\u5bb6", "e\u0301" * 4):  # four columns each
            text = " ".join(["abcd", *[word] * 5])
            self.assertEqual(fitted(text, 20), f"abcd {word} {word} {word}\n{word} {word}")


class ErrorTests(SynchronousTestCase):
    """The two errors of our own tell who is to blame."""

    def test_remote_error_has_a_code_and_a_sentence(self) -> None:
        """Programs read the code, people the detail, logs both."""
        error = RemoteError("no-such-file", "There is no file of that name.")
        self.assertEqual(error.code, "no-such-file")
        self.assertEqual(error.detail, "There is no file of that name.")
        self.assertEqual(str(error), "no-such-file: There is no file of that name.")
        self.assertEqual(str(RemoteError("bad-ticket")), "bad-ticket")

    def test_blame_is_in_the_type(self) -> None:
        """Neither error is the other, and the weather is neither."""
        self.assertFalse(issubclass(LocalError, RemoteError))
        self.assertFalse(issubclass(RemoteError, LocalError))
        self.assertTrue(issubclass(LocalError, ChatboxError))
        self.assertTrue(issubclass(RemoteError, ChatboxError))
        self.assertFalse(issubclass(ChatboxError, OSError))
