"""What the streams of a Redis log hold, as ours."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chatbox.log import Kind
from chatbox.log.streams import id_of, page_of, place_of


class PageTests(SynchronousTestCase):
    """What was found in the streams of a Redis."""

    def test_never_fewer(self) -> None:
        """Of as many rows as were asked for none goes without a trace, or nobody asks for more."""
        said = [b"d", b'["ann","all","hi",[],""]']
        rows = [
            [b"5-%d" % number, fields]
            for number, fields in enumerate((said, [b"d", b"odd"], [b"g", b""], [b"g", b""], said))
        ]
        kinds = [Kind.MESSAGE, *[Kind.GAP] * 3, Kind.MESSAGE]
        ends, newest = [0, [None, None]], place_of(b"9-0")
        for after in (None, place_of(b"2-0")):
            page = page_of([rows, None, *ends, None], after, 5, newest)
            self.assertEqual([one.kind for one in page], kinds)
            self.assertEqual([id_of(one.id) for one in page], [f"5-{n}" for n in range(5)])
        replies = [rows[1:], None, 0, [None, b"3-0"], b"4-0"]
        page = page_of(replies, place_of(b"2-0"), 5, newest)
        self.assertEqual([one.kind for one in page], kinds[1:], "of marks beside it one is enough")

    def test_no_mark_beyond_what_was_heard(self) -> None:
        """Who asks is told of a loss up to what they have heard, and hears the rest as it comes."""
        for gone in ([None, b"8-0"], [None, None]):
            replies = [None, None, 0, gone, b"8-1"]
            for newest, marks in ((b"9-0", ["8-0"]), (b"5-0", ["5-0"]), (b"2-0", [])):
                page = page_of(replies, place_of(b"2-0"), 5, place_of(newest))
                self.assertEqual(
                    [(id_of(r.id), r.kind) for r in page], [(m, Kind.GAP) for m in marks]
                )

    def test_numbers(self) -> None:
        """A stream's id is one number that grows as it does."""
        ids = [
            b"0-1",
            b"5-0",
            b"5-1",
            b"1700000000000-0",
            b"1700000000000-1048575",
            b"1700000000001-0",
        ]
        places = [place_of(id) for id in ids]
        self.assertEqual(places, sorted(set(places)))
        self.assertLess(places[-1], 1 << 63)
