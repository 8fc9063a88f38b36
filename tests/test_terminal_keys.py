"""What a keyboard sends, in pieces of any size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatbox.client.terminal.editor import MAX_TYPED
from chatbox.client.terminal.keys import (
    MAX_PASTE,
    MAX_SEQUENCE,
    Key,
    KeyDecoder,
    Keystroke,
    Pasted,
    Typed,
)

SEQUENCES = {
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"\x1b[B": "down",
    b"\x1b[C": "right",
    b"\x1b[D": "left",
    b"\x1b[H": "home",
    b"\x1bOF": "end",
    b"\x1b[1~": "home",
    b"\x1b[3~": "delete",
    b"\x1b[4~": "end",
    b"\x1b[1;5C": "ctrl-right",
    b"\x1b[1;3D": "alt-left",
    b"\x1b[1;2A": "up",
    b"\x1b[3;5~": "ctrl-delete",
    b"\x1b[Z": "shift-tab",
    b"\x1bb": "alt-b",
    b"\x1bF": "alt-f",
    b"\x1b\x7f": "alt-backspace",
    b"\x1b\r": "alt-enter",
    b"\r": "enter",
    b"\n": "enter",
    b"\t": "tab",
    b"\x7f": "backspace",
    b"\x08": "backspace",
    b"\x01": "ctrl-a",
    b"\x1a": "ctrl-z",
}


def decoded(*pieces: bytes) -> list[Keystroke]:
    """What these pieces are, typed text joined."""
    decoder = KeyDecoder()
    keys: list[Keystroke] = []
    for piece in pieces:
        for key in decoder.feed(piece):
            match keys, key:
                case [*_, Typed(text=before)], Typed(text=after):
                    keys[-1] = Typed(before + after)
                case _:
                    keys.append(key)
    return keys


class KeyTests(SynchronousTestCase):
    """From bytes to keys."""

    def test_keys(self) -> None:
        """Every key that is bound somewhere, as xterm, VTE, tmux and the Linux console send it."""
        for data, name in SEQUENCES.items():
            self.assertEqual(decoded(data), [Key(name)], data)

    def test_text(self) -> None:
        """Text is text, of whatever script, and keys stand between."""
        self.assertEqual(
            decoded("grüße 日本\r👩\u200d🚀".encode()),
            [Typed("grüße 日本"), Key("enter"), Typed("👩\u200d🚀")],
        )

    def test_not_utf8(self) -> None:
        """Bytes that are no text are replaced; 8-bit control characters come from no keyboard."""
        self.assertEqual(decoded(b"a\xffb"), [Typed("a\N{REPLACEMENT CHARACTER}b")])
        self.assertEqual(decoded("a\x9bb".encode()), [Typed("ab")])

    def test_unknown_sequences(self) -> None:
        """A key that means nothing is dropped whole, and what follows it is read."""
        for data in (b"\x1b[15~", b"\x1b[<0;1;1M", b"\x1b[?1;2c", b"\x1b[99;5X", b"\x1bOP"):
            self.assertEqual(decoded(data + b"x"), [Typed("x")], data)

    def test_escape_before_a_sequence(self) -> None:
        """ESC ESC [ A, as some terminals send Alt with an arrow, is the arrow."""
        self.assertEqual(decoded(b"\x1b\x1b[A"), [Key("up")])

    def test_sequence_without_end(self) -> None:
        """Parameters that do not end are given up after a bound, and typing goes on."""
        decoder = KeyDecoder()
        decoder.feed(b"\x1b[" + b"1" * MAX_SEQUENCE)
        self.assertIn(Key("enter"), decoder.feed(b"\r"))

    def test_paste(self) -> None:
        """Pasted text is not keys: its line ends and tabs stay in it."""
        self.assertEqual(
            decoded(b"a\x1b[200~b\r\nc\td\re\x1b[201~f"),
            [Typed("a"), Pasted("b\nc\td\ne"), Typed("f")],
        )

    def test_paste_without_end(self) -> None:
        """It does not grow for ever, and nothing of it is taken for keys: it comes once, as more
        than any line takes, and what follows of it is dropped.
        """
        decoder = KeyDecoder()
        text = "x\r" * MAX_PASTE
        keys = decoder.feed(b"\x1b[200~")
        for start in range(0, len(text), 1000):
            keys += decoder.feed(text[start : start + 1000].encode())
            self.assertLess(len(decoder._paste or ""), 2 * MAX_PASTE)
        for piece in (b"\x1b[20", b"1~", b"a\x1b[200~b\x1b[201~"):
            keys += decoder.feed(piece)
        pasted, *others = keys
        assert isinstance(pasted, Pasted)
        self.assertGreater(len(pasted.text), MAX_TYPED)
        self.assertTrue(text.replace("\r", "\n").startswith(pasted.text))
        self.assertEqual(others, [Typed("a"), Pasted("b")])

    @given(
        st.lists(
            st.one_of(
                st.sampled_from([*SEQUENCES, b"\x1b[200~", b"\x1b[201~", b"\x1b"]),
                st.text(max_size=5).map(str.encode),
                st.binary(max_size=5),
            )
        ),
        st.lists(st.integers(1, 9), min_size=1),
    )
    def test_pieces(self, parts: list[bytes], sizes: list[int]) -> None:
        """It makes no difference where the reads have cut what came."""
        data = b"".join(parts)
        pieces: list[bytes] = []
        rest = data
        while rest:
            size = sizes[len(pieces) % len(sizes)]
            pieces.append(rest[:size])
            rest = rest[size:]
        self.assertEqual(decoded(*pieces), decoded(data))
