"""The console on a terminal: a line being typed at the bottom, and what is said above it.

Every module here but `tty` is free of I/O: bytes of the keyboard in, bytes for the screen out. They
are put together in `view`; `chatbox.client.console.live` brings them to a real terminal.

`keys` reads what the keyboard sends, `editor` (with `history` and `complete`) makes a line of it,
`screen` knows what stands where and writes what has changed, `style` knows colours, as
`chatbox.client.width` knows columns, `lines` says how an event or a download looks, and `tty` is
the terminal's own settings.

Why all of this is ours. It was tried against what there is, and each way has a price that a chat
client need not pay:

- `twisted.conch.recvline` edits bytes, not text: a letter of two bytes is two keys, and a wide or
  combined character shifts everything behind it. It repaints the whole screen for a resize, knows
  no history search, no paste and no suspending, and wants the extra ``conch`` with its bcrypt and
  35 ms of imports.
- ``prompt_toolkit`` is good, and takes 75 ms to import before it has an event loop, which is
  asyncio's. Under Twisted that means Twisted's asyncio reactor for everybody, or two loops.
- GNU readline wants to read the terminal itself, and blocks.
- A full-screen window (the terminal's other screen, as editors use) would need scrolling, searching
  and copying of our own. As it is, what was said is ordinary output: the terminal scrolls, searches
  and copies it, and it stays there when the client is gone.

Columns are the part that one must not write oneself: `wcwidth` has the tables for that.
"""
